/**
 * Unavailable body: the fields of a broker's 503 that say whether a retry may soon succeed. Pure.
 *
 * - `code` is absent where a retry may succeed. An older broker sends none, and an older client reads none.
 * - An unknown code is read as absent, so that a newer broker may add codes.
 */
import { type CommandOutcome, decode, type UnavailableCode } from "../../events/index.ts";
import type { BrokerUnavailableError } from "./broker-unavailable-error.ts";

export type UnavailableBody = Readonly<{ code?: UnavailableCode; outcome?: CommandOutcome }>;

/** The wait (ms) in the answer to a caller of a region that is cut off. */
export const homeRetryAfterMs = 5_000;

export function formatUnavailable({ reason, outcome }: BrokerUnavailableError): UnavailableBody {
  return reason === "home-unreachable" ? { code: reason, outcome } : {};
}

/** The fields of a broker that refuses a call for the home region, because it serves another one. */
export const notHomeBody = { code: "not-home" } as const;

/** Whether a broker has refused a call because it does not serve the home region. */
export function isNotHome(body: Uint8Array): boolean {
  const fields = fieldsOf(body);
  return typeof fields === "object" && fields !== null && "code" in fields && fields.code === notHomeBody.code;
}

/** @param body a command's answer (MessagePack), or an error (JSON) */
export function parseUnavailable(body: Uint8Array): UnavailableBody {
  const fields = fieldsOf(body);
  if (typeof fields !== "object" || fields === null || !("code" in fields)) return {};
  if (fields.code !== "home-unreachable") return {};
  return { code: fields.code, outcome: "outcome" in fields && fields.outcome === "none" ? "none" : "unknown" };
}

function fieldsOf(body: Uint8Array): unknown {
  try {
    return body[0] === jsonStart ? JSON.parse(Buffer.from(body).toString("utf8")) : decode(body);
  } catch {
    return undefined; // no broker of this product wrote it
  }
}

/** `{`. MessagePack begins a map with another byte. */
const jsonStart = 0x7b;
