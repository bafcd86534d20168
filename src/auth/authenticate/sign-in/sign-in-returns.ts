/**
 * Sign-in returns: ends a redirect loop in which finished sign-ins never yield a valid session on the route's host.
 *
 * - The callback counts each return in a cookie of the route's host. The next sign-in that starts within
 *   `returnsMaxAgeS` carries the count in its signed URL and in the sealed state, and its callback adds one. The server
 *   stores nothing.
 * - The count measures the time from a return to the next request, so a slow second factor does not reset it.
 * - A browser that stores no cookies never gets this far: the callback misses the nonce cookie and sends a page.
 * - A request with a revoked session resets the count: its cookie works.
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

/** Consecutive returns without a session after which a page replaces the redirect. */
export const returnsMax = 3;
/** Longest time (seconds) from a return to the next request of the browser; after it, the count restarts. */
const returnsMaxAgeS = 30;

type CookieSettings = Pick<AuthSettings["cookie"], "name" | "domain" | "expireMs">;

/** A count from outside: one digit; 0 for anything else. */
export function parseReturns(text: string | null | undefined): number {
  return typeof text === "string" && /^[1-9]$/.test(text) ? Math.min(Number(text), returnsMax) : 0;
}

function returnsName(cookie: CookieSettings, origin: URL): string {
  return ownCookie(cookie.name, "returns", origin);
}

/** The `Set-Cookie` value of a callback. @param returns the count before this return */
export function returnsCookie(cookie: CookieSettings, origin: URL, returns: number): string {
  // A session of a few seconds may expire before the next request; that is no loop.
  const maxAgeS = Math.min(returnsMaxAgeS, Math.floor(cookie.expireMs / 2_000));
  const value = String(Math.min(returns + 1, returnsMax));
  return setCookie(returnsName(cookie, origin), value, optionsOf(maxAgeS));
}

/** The `Set-Cookie` value that resets the count. */
export function clearReturns(cookie: CookieSettings, origin: URL): string {
  return setCookie(returnsName(cookie, origin), "", optionsOf(0));
}

function optionsOf(maxAgeS: number): CookieOptions {
  return { domain: null, path: "/", httpOnly: true, sameSite: "lax", maxAgeS };
}

export type SignInLoop = Readonly<{
  /** Session cookie of the last request. */
  sessionCookie: "missing" | "refused";
  /** The configured `cookie_domain` if browsers refuse it on this host; null: it is not the cause. */
  uncoveredBy: string | null;
  /** Lets the reader try again. */
  setCookie: string;
}>;

/** @param url target of the sign-in; null: malformed */
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
    host,
    sessionCookie,
    uncoveredBy,
    requestId,
    at,
    retryUrl: `/.pomerium/sign_in${target}`,
  };
}

type LoopDeps = Readonly<{
  settings: Readonly<{ cookie: CookieSettings }>;
  handles: Pick<HandleCodec, "verify">;
  replica: Pick<Replica, "projection">;
}>;

/** Number of consecutive sign-ins that returned without a valid session; the next sign-in carries it. */
export function returnsBefore(deps: LoopDeps, cookieHeader: string | undefined, origin: URL): number {
  const { cookie } = deps.settings;
  return wasRevoked(deps, cookieHeader) ? 0 : parseReturns(cookieValue(cookieHeader, returnsName(cookie, origin)));
}

/** Undefined: no loop; redirect to sign-in. */
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
 * Whether the cookie names a session that was ended, so the cookie itself works. A token that was not verified before
 * counts as not revoked.
 */
function wasRevoked({ settings, handles, replica }: LoopDeps, cookieHeader: string | undefined): boolean {
  const token = cookieValue(cookieHeader, settings.cookie.name);
  const handle = token === undefined ? "invalid" : handles.verify(token);
  if (handle === "invalid" || handle instanceof Promise) return false;
  return replica.projection.sessionStatus(handle.sessionId).status === "revoked";
}
