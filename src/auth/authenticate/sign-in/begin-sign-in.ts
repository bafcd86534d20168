/**
 * Start of a sign-in on a route's host: a signed URL of the authenticate host, and the cookie that the callback checks.
 *
 * It requires the origin of a configured route: a caller may send any Host header, and a signed URL for a foreign host
 * would send visitors' session handles there. Pure, except for its dependencies.
 */
import { CodedError } from "../../../events/index.ts";
import type { KeepAddressPage } from "../../reply/page.ts";
import { type AuthDeps, currentKey, nowS, ownCookieOptions, type SignInFor } from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { cookieValue, setCookie } from "../credentials/credentials.ts";
import type { TraceText } from "../provider/trace-text.ts";
import { isTooLongForRedirect, returnUrlOf } from "./kept-address.ts";
import { nonceHashOf, type SignInRequest, signInUrl } from "./sign-in-request.ts";
import { returnsBefore } from "./sign-in-returns.ts";

/** A sign-in redirect: its location, and the cookie that the callback requires. */
export type SignInRedirect = Readonly<{
  location: string;
  setCookies: readonly string[];
  /** Sent in place of the redirect if the requested address is too long for one. Null: redirect. */
  page: KeepAddressPage | null;
}>;

const nonceMaxAgeS = 30 * 24 * 3_600;
const tokenPattern = /^[A-Za-z0-9_-]{22,64}$/;

export class NoRouteError extends CodedError<"ERR_AUTH_NO_ROUTE"> {
  override readonly code = "ERR_AUTH_NO_ROUTE";
  constructor() {
    super("no route serves the host that the sign-in should return to");
  }
}

/** The random token in a cookie of this browser, or a new one. All tabs share it. */
export function browserToken(deps: AuthDeps, cookieHeader: string | undefined, name: string): string {
  const held = cookieValue(cookieHeader, name);
  return held !== undefined && tokenPattern.test(held) ? held : deps.random.token();
}

export type SignInOptions = Readonly<{
  account?: SignInRequest["account"];
  /** The provider clients and further hosts of this sign-in; absent: those of the target's route. */
  how?: SignInFor;
  trace?: TraceText | null;
  /** The caller is a browser that runs scripts, so it can keep a long address. Otherwise the query is lost. */
  keepsAddress?: boolean;
  /** The further host at which the person is signed in before returning to the target, and the hosts after it. */
  through?: Readonly<{ origin: string; rest: readonly string[] }>;
}>;

/**
 * @param target the URL to return to
 * @throws NoRouteError unless it has the origin of a configured route
 */
export function beginSignIn(
  deps: AuthDeps,
  target: URL,
  cookieHeader: string | undefined,
  { account = "current", how, trace = null, through, keepsAddress = false }: SignInOptions = {},
): SignInRedirect {
  const { settings } = deps;
  const callback = through === undefined ? target : new URL("/.pomerium/callback/", through.origin);
  if (!settings.isRouteOrigin(target.origin) || !settings.isRouteOrigin(callback.origin)) throw new NoRouteError();
  const { idpIds, dependsOn, sessionMsMax = 0, idleMsMax = 0 } = how ?? settings.signInFor(callback);
  const name = ownCookie(settings.cookie.name, "nonce", callback);
  const nonce = browserToken(deps, cookieHeader, name);
  const refused = cookieValue(cookieHeader, settings.cookie.name) !== undefined;
  const id = keepsAddress && through === undefined && isTooLongForRedirect(target) ? deps.random.token() : null;
  const url = signInUrl(
    settings.authenticateUrl,
    {
      redirectUri: id === null ? target : returnUrlOf(target, id),
      callbackUri: through === undefined ? null : callback,
      idpIds,
      chosenIdpId: null,
      additionalHosts: through?.rest ?? dependsOn.map((origin) => new URL(origin).host),
      trace,
      programmatic: "browser",
      nonceHash: nonceHashOf(nonce),
      // Only a sign-in because of a missing session counts as a return.
      returns: account === "another" || through !== undefined ? 0 : returnsBefore(deps, cookieHeader, callback),
      account,
      seen: refused ? deps.replica.applied : null,
      ...(sessionMsMax === 0 ? {} : { sessionMsMax }),
      ...(idleMsMax === 0 ? {} : { idleMsMax }),
    },
    currentKey(deps),
    nowS(deps),
  );
  return {
    location: url.href,
    setCookies: [setCookie(name, nonce, ownCookieOptions(nonceMaxAgeS))],
    page: id === null ? null : { type: "keep-address", id, address: target.href, signInUrl: url.href },
  };
}
