/**
 * Push client: sends one token to a receiver (RFC 8935 §2), and says what the answer means.
 *
 * - Only to an `https` address below one that the operator has listed. A redirect is not followed.
 * - Time and bytes of an answer are bounded. The texts of a failure are ours: an answer is not repeated in them.
 */

import { setMediaType } from "../../shared-signals/index.ts";
import type { LocalFetch } from "../provider/local-fetch.ts";
import type { PushAnswer } from "./push-delivery.ts";
import { isAllowedEndpoint } from "./stream-requests.ts";

export type PushTarget = Readonly<{ url: string; authorization: string | null; allowed: readonly string[] }>;
export type PushClient = (target: PushTarget, token: string) => Promise<PushAnswer>;

const timeoutMs = 10_000;
const answerBytesMax = 8 * 1_024;
/** Codes of RFC 8935 §2.4 that are about the stream, and not about one token. */
const aboutStream: ReadonlySet<string> = new Set([
  "invalid_key",
  "invalid_issuer",
  "invalid_audience",
  "authentication_failed",
  "access_denied",
]);

export function createPushClient({ fetch }: Pick<LocalFetch, "fetch">): PushClient {
  return async ({ url, authorization, allowed }, token) => {
    if (!isAllowedEndpoint(url, allowed)) return failed("endpoint_url is not below an address in push_urls");
    const headers = {
      "content-type": setMediaType,
      accept: "application/json",
      ...(authorization === null ? {} : { authorization }),
    };
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const response = await fetch(url, { method: "POST", headers, body: token, redirect: "manual", signal });
      const { status } = response;
      const body = await readBounded(response.body);
      return answerOf(status, body, response.headers.get("retry-after"));
    } catch (error) {
      return failed(problemOf(error));
    }
  };
}

function answerOf(status: number, body: string, retryAfter: string | null): PushAnswer {
  if (status >= 200 && status < 300) return { type: "accepted" };
  if (status === 400) {
    const { err, description } = errorIn(body);
    return { type: "refused", err, description, isAboutStream: aboutStream.has(err) };
  }
  if (status >= 300 && status < 400) return failed(`the receiver redirects (${status}), which is not followed`);
  if (status === 401 || status === 403) return failed(`the receiver refuses our credential (${status})`);
  return failed(`the receiver answered ${status}`, retryAfterMsOf(retryAfter));
}

function failed(reason: string, retryAfterMs: number | null = null): PushAnswer {
  return { type: "failed", reason, retryAfterMs };
}

/** The code and the text of RFC 8935 §2.3, in a form that a log and a terminal can show. */
function errorIn(body: string): Readonly<{ err: string; description: string }> {
  const unstated = { err: "invalid_request", description: "the receiver gave no reason" };
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null) return unstated;
    const { err, description } = value as Readonly<{ err?: unknown; description?: unknown }>;
    return {
      err: typeof err === "string" && /^[A-Za-z0-9_.:/-]{1,64}$/.test(err) ? err : unstated.err,
      description: typeof description === "string" ? printable(description) : unstated.description,
    };
  } catch {
    return unstated; // not JSON
  }
}

const printable = (text: string): string => text.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");

function retryAfterMsOf(header: string | null): number | null {
  return header !== null && /^\d{1,5}$/.test(header) ? Number(header) * 1_000 : null;
}

async function readBounded(body: AsyncIterable<Uint8Array> | null): Promise<string> {
  if (body === null) return "";
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body) {
    bytes += part.length;
    if (bytes > answerBytesMax) break; // leaving the loop cancels the rest
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function problemOf(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") return `no answer within ${timeoutMs / 1_000} s`;
  const cause = error instanceof Error ? error.cause : undefined;
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
  return /^[A-Z0-9_]{1,60}$/.test(code) ? `the receiver cannot be reached (${code})` : "the receiver cannot be reached";
}
