/**
 * Front-channel logout: a page of the identity provider loads our sign-out address in a frame, with `iss` and `sid`
 * (OpenID Connect Front-Channel Logout 1.0).
 *
 * - Any page can make the request, and browsers withhold our cookies in a frame of another site. So what counts is the
 *   `sid`, which only the provider and its clients know. A short one may be guessed: it counts only together with the
 *   cookie of its session.
 * - The leader decides: a node that has not applied the sign-in yet knows less than it. The sessions that have the
 *   `sid` end. Nothing is recorded of one that no session has, so a stranger adds nothing to the log. How many requests
 *   with an unknown `sid` ask the leader at once is bounded.
 *
 * Why so: docs/adr/0045-a-logout-is-remembered.md.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import { type CommandResult, providerSessionId, type SessionId } from "../../../events/index.ts";
import { type AuthDeps, addCookie, newCommandId, ownCookieOptions } from "../context.ts";
import { logoutsOfIssuer } from "./backchannel-logout.ts";
import { submitWithRetry } from "./begin-session.ts";
import { authenticateCookie, readOwnHandle } from "./signed-in.ts";

/** 96 bits in base64url, 64 in hexadecimal. */
const sidCharsMin = 16;
const charsMax = 1_000;
/** Requests with a `sid` that this node does not know, and that wait for the leader. Any page can make them. */
const unknownMax = 32;

export type FrontchannelRequest = Readonly<{ issuer: string; sid: string }>;

/** Undefined: not a front-channel logout. */
export function frontchannelIn({ searchParams }: URL): FrontchannelRequest | undefined {
  const [issuers, sids] = [searchParams.getAll("iss"), searchParams.getAll("sid")];
  const [issuer = "", sid = ""] = [issuers[0], sids[0]];
  if (issuers.length !== 1 || sids.length !== 1 || issuer === "" || sid === "") return undefined;
  return issuer.length <= charsMax && sid.length <= charsMax ? { issuer, sid } : undefined;
}

type HttpExchange = Readonly<{ request: FastifyRequest; reply: FastifyReply }>;

export function createFrontchannelLogout(
  deps: AuthDeps,
): (logout: FrontchannelRequest, exchange: HttpExchange) => Promise<FastifyReply> {
  let unknown = 0;
  return (logout, exchange) =>
    receive(deps, logout, exchange, async (providerSession) => {
      if (deps.replica.projection.sessionsOfProvider(providerSession).length > 0) return end(deps, providerSession);
      if (unknown >= unknownMax) return undefined;
      unknown += 1;
      try {
        return await end(deps, providerSession);
      } finally {
        unknown -= 1;
      }
    });
}

/** @param endSession undefined: too many requests are in progress */
async function receive(
  deps: AuthDeps,
  { issuer, sid }: FrontchannelRequest,
  { request, reply }: HttpExchange,
  endSession: (providerSession: SessionId) => Promise<CommandResult | undefined>,
): Promise<FastifyReply> {
  if (logoutsOfIssuer(deps, issuer).length === 0) return sendNote(deps, reply, { status: 400, result: "refused" });
  const providerSession = providerSessionId(issuer, sid);
  const handle = await readOwnHandle(deps, request);
  if (handle !== undefined && handle.needs !== null) await deps.catchUp(handle.needs);
  const own = handle !== undefined && isOf(deps, handle.sessionId, providerSession);
  if (sid.length < sidCharsMin && !own) return sendNote(deps, reply, { status: 200, result: "unknown" });
  const result = await endSession(providerSession);
  if (result?.type === "done" && !result.changed) return sendNote(deps, reply, { status: 200, result: "unknown" });
  if (result?.type !== "done") {
    reply.header("retry-after", "1");
    return sendNote(deps, reply, { status: 503, result: "unavailable" });
  }
  if (own) addCookie(reply, authenticateCookie(deps), "", ownCookieOptions(0));
  reply.header("cardea-position", String(result.link.position));
  return sendNote(deps, reply, { status: 200, result: "recorded" });
}

function isOf({ replica }: AuthDeps, sessionId: SessionId, providerSession: SessionId): boolean {
  const session = replica.projection.session(sessionId);
  return session?.status === "active" && session.providerSession === providerSession;
}

function end(deps: AuthDeps, providerSession: SessionId): Promise<CommandResult> {
  return submitWithRetry(deps, {
    commandId: newCommandId(deps),
    actor: "service:authenticate",
    command: { type: "recordLogout", providerSession, userId: null, remembered: false },
  });
}

const notes = {
  recorded: "You are signed out.",
  unknown: "There is no session to end.",
  refused: "The provider is not configured here.",
  unavailable: "Your sign-out could not be saved. Please try again in a moment.",
} as const;

/** A page for a frame of any site: it holds nothing, and no style or script. */
function sendNote(
  deps: AuthDeps,
  reply: FastifyReply,
  { status, result }: Readonly<{ status: number; result: keyof typeof notes }>,
): FastifyReply {
  deps.onLogout?.("front", result);
  if (result === "recorded") deps.log.info({}, "the identity provider's page reported a logout");
  return reply
    .code(status)
    .header("cache-control", "no-cache, no-store")
    .header("pragma", "no-cache")
    .header("content-security-policy", "default-src 'none'")
    .header("x-content-type-options", "nosniff")
    .header("referrer-policy", "no-referrer")
    .type("text/plain; charset=utf-8")
    .send(`${notes[result]}\n`);
}
