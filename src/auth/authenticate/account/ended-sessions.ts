/**
 * Ended sessions: what a browser has just ended, and how far that is enforced, for the next page that it opens.
 *
 * - A sealed cookie of the authenticate host carries it for five minutes: the link, a count, and never a session's id.
 * - The page says "on every server" only when a complete receipt of the leader has said so.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import {
  type CommandId,
  formatLink,
  type Link,
  parseCommandId,
  parseLink,
  parseUnixMs,
  type UnixMs,
  type UserId,
} from "../../../events/index.ts";
import type { Receipt } from "../../../replication/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import type { EndedSessions } from "../../reply/page.ts";
import { type AuthDeps, addCookie, headersOf, ownCookieOptions } from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { cookieValue } from "../credentials/credentials.ts";

/** `count` 0: it had ended before. `link` null: only this region has it. `at` null: no receipt was complete yet. */
type Ended = Readonly<{
  what: EndedSessions["what"];
  count: number;
  userId: UserId | null;
  commandId: CommandId;
  link: Link | null;
  at: UnixMs | null;
}>;

const purpose = "ended-sessions";
const maxAgeS = 300;
/** A page waits for this long until every server has confirmed. */
const receiptMsMax = 1_500;

/** Remembers what this browser has ended. */
export async function rememberEnded(deps: AuthDeps, reply: FastifyReply, ended: Omit<Ended, "at">): Promise<void> {
  await setCookie(deps, reply, { ...ended, at: null });
}

/**
 * What this browser has ended before; null: nothing, or it was another person.
 * @param userId the person who is signed in now; null: no one is
 */
export async function readEnded(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  userId: UserId | null,
): Promise<EndedSessions | null> {
  const text = cookieValue(headersOf(request)["cookie"], cookieName(deps));
  if (text === undefined || text === "") return null;
  const ended = parseEnded(await deps.stateCipher.open(purpose, text, maxAgeS));
  if (ended === null || (userId !== null && ended.userId !== userId)) {
    addCookie(reply, cookieName(deps), "", ownCookieOptions(0));
    return null;
  }
  const { what, count } = ended;
  if (count === 0) {
    addCookie(reply, cookieName(deps), "", ownCookieOptions(0));
    return { what, count, reach: { type: "already" } };
  }
  if (ended.at !== null) {
    addCookie(reply, cookieName(deps), "", ownCookieOptions(0));
    return { what, count, reach: { type: "everywhere", at: ended.at } };
  }
  const reach = await reachOf(deps, ended);
  // So that the next page names the same time. Its receipt would be of a later one.
  if (reach.type === "everywhere") await setCookie(deps, reply, { ...ended, at: reach.at });
  return { what, count, reach };
}

async function reachOf({ databroker, clock }: AuthDeps, { link, commandId }: Ended): Promise<EndedSessions["reach"]> {
  try {
    if (link === null) {
      const local = await databroker.localReceipt?.(commandId, { timeoutMs: receiptMsMax });
      if (local?.type === "receipt") return { type: "region", complete: local.receipt.complete };
      if (local?.type !== "merged") return { type: "unknown" };
      return reachIn(await databroker.receipt({ type: "link", link: local.link }, receiptOptions), clock.wall());
    }
    return reachIn(await databroker.receipt({ type: "link", link }, receiptOptions), clock.wall());
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return { type: "unknown" };
    throw error;
  }
}

const receiptOptions = { wait: "all", timeoutMs: receiptMsMax } as const;

function reachIn({ status, nodes, completeInMs, at }: Receipt, now: UnixMs): EndedSessions["reach"] {
  if (status === "lost") return { type: "unknown" };
  if (status === "complete") return { type: "everywhere", at: at ?? now };
  const confirmed = nodes.filter((node) => node.status !== "unconfirmed").length;
  return { type: "spreading", confirmed, servers: nodes.length, withinMs: completeInMs };
}

function cookieName({ settings }: AuthDeps): string {
  return ownCookie(settings.cookie.name, "ended", settings.authenticateUrl);
}

async function setCookie(deps: AuthDeps, reply: FastifyReply, { link, ...ended }: Ended): Promise<void> {
  const value = { ...ended, link: link === null ? null : formatLink(link) };
  addCookie(reply, cookieName(deps), await deps.stateCipher.seal(purpose, value), ownCookieOptions(maxAgeS));
}

const kinds: readonly EndedSessions["what"][] = ["this", "one", "others", "all"];

/** Null: another version has sealed it. */
function parseEnded(value: unknown): Ended | null {
  if (typeof value !== "object" || value === null) return null;
  const { what, count, userId, commandId, link, at } = value as Readonly<Record<string, unknown>>;
  const kind = kinds.find((known) => known === what);
  if (kind === undefined || typeof count !== "number" || (userId !== null && typeof userId !== "string")) return null;
  try {
    return {
      what: kind,
      count,
      userId: userId as UserId | null,
      commandId: parseCommandId(commandId),
      link: link === null ? null : parseLink(link),
      at: at === null ? null : parseUnixMs(at),
    };
  } catch {
    return null; // sealed by a version that names links or times differently
  }
}
