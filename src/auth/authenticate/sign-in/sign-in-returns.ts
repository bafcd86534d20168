/**
 * Sign-in returns: ends a redirect loop in which the session of a finished sign-in never counts on the route's host.
 *
 * - The callback counts each return in a cookie of the route's host. The next sign-in that begins within
 *   `returnsMaxAgeS` carries the count in its signed URL and in the sealed state, and its callback adds one. The server
 *   keeps nothing.
 * - The count measures the time from a return to the next request, so a slow second factor does not reset it.
 * - A browser that stores no cookie at all never gets this far: the callback misses the nonce cookie and answers with a
 *   page.
 * - A request whose session was revoked starts the count again: its cookie works.
 * - Tabs that sign in at the same time do not add up, because each one counts from its own URL.
 *
 * Pure.
 */
import type { UnixMs } from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import type { SignInLoopPage } from "../../reply/page.ts";
import type { AuthSettings } from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { type CookieOptions, cookieValue, setCookie } from "../credentials/credentials.ts";
import type { HandleCodec } from "../credentials/handle.ts";
import { parameter } from "./signed-url.ts";

/** So many returns in a row without a session end in a page instead of another redirect. */
export const returnsMax = 3;
/** Seconds between a return and the next request of the same browser, at most; later, the count starts again. */
const returnsMaxAgeS = 30;

type CookieSettings = Pick<AuthSettings["cookie"], "name" | "domain" | "expireMs">;

/** A count from outside: one digit; 0 for anything else. */
export function parseReturns(text: string | null | undefined): number {
  return typeof text === "string" && /^[1-9]$/.test(text) ? Math.min(Number(text), returnsMax) : 0;
}

function returnsName(cookie: CookieSettings, origin: URL): string {
  return ownCookie(cookie.name, "returns", origin);
}

/** The `Set-Cookie` value that a callback sends. @param returns those before this one */
export function returnsCookie(cookie: CookieSettings, origin: URL, returns: number): string {
  // A session that lasts only seconds ends in time, not in a loop.
  const maxAgeS = Math.min(returnsMaxAgeS, Math.floor(cookie.expireMs / 2_000));
  const value = String(Math.min(returns + 1, returnsMax));
  return setCookie(returnsName(cookie, origin), value, optionsOf(maxAgeS));
}

/** The `Set-Cookie` value after which the count starts again. */
export function clearReturns(cookie: CookieSettings, origin: URL): string {
  return setCookie(returnsName(cookie, origin), "", optionsOf(0));
}

function optionsOf(maxAgeS: number): CookieOptions {
  return { domain: null, path: "/", httpOnly: true, sameSite: "lax", maxAgeS };
}

export type SignInLoop = Readonly<{
  /** What the last request carried. */
  sessionCookie: "missing" | "refused";
  /** The configured `cookie_domain` if browsers refuse it on this host; null: it is not the cause. */
  uncoveredBy: string | null;
  /** Lets the reader try again. */
  setCookie: string;
}>;

/** @param url what to return to; null: it could not be read */
export function signInLoopPageOf(
  { sessionCookie, uncoveredBy }: SignInLoop,
  request: Readonly<{ host: string; url: URL | null; requestId: string; at: UnixMs }>,
): SignInLoopPage {
  const { host, url, requestId, at } = request;
  const target = url === null ? "" : `?${parameter.redirectUri}=${encodeURIComponent(url.href)}`;
  return {
    type: "sign-in-loop",
    status: 401,
    title: "Sign-in keeps starting over",
    ...{ host, sessionCookie, uncoveredBy, requestId, at },
    retryUrl: `/.pomerium/sign_in${target}`,
  };
}

type LoopDeps = Readonly<{
  settings: Readonly<{ cookie: CookieSettings }>;
  handles: Pick<HandleCodec, "verify">;
  replica: Pick<Replica, "projection">;
}>;

/** How many sign-ins in a row came back without a session that counts, as the next sign-in has to carry on. */
export function returnsBefore(deps: LoopDeps, cookieHeader: string | undefined, origin: URL): number {
  const { cookie } = deps.settings;
  return wasRevoked(deps, cookieHeader) ? 0 : parseReturns(cookieValue(cookieHeader, returnsName(cookie, origin)));
}

/** Undefined: another redirect to sign-in may still help. */
export function signInLoopOf(deps: LoopDeps, cookieHeader: string | undefined, origin: URL): SignInLoop | undefined {
  if (returnsBefore(deps, cookieHeader, origin) < returnsMax) return undefined;
  const { cookie } = deps.settings;
  const domain = cookie.domain?.replace(/^\./, "").toLowerCase() ?? null;
  const covered = domain === null || origin.hostname === domain || origin.hostname.endsWith(`.${domain}`);
  return {
    sessionCookie: cookieValue(cookieHeader, cookie.name) === undefined ? "missing" : "refused",
    uncoveredBy: covered ? null : domain,
    setCookie: clearReturns(cookie, origin),
  };
}

/**
 * The cookie works: an operator or a rule ended its session. A token that was not verified before counts as not
 * revoked.
 */
function wasRevoked({ settings, handles, replica }: LoopDeps, cookieHeader: string | undefined): boolean {
  const token = cookieValue(cookieHeader, settings.cookie.name);
  const handle = token === undefined ? "invalid" : handles.verify(token);
  if (handle === "invalid" || handle instanceof Promise) return false;
  return replica.projection.sessionStatus(handle.sessionId).status === "revoked";
}
