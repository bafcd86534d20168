/**
 * Sign-in again: sends an operator to the identity provider and back to a page of the authenticate host. It
 * requests that the person authenticates anew, and the time of that (`prompt=login`, `max_age`; OpenID Connect Core
 * §3.1.2.1). The session that begins then has that time; the operator API checks it.
 */
import type { FastifyInstance } from "fastify";
import { type AuthDeps, currentKey, headersOf, nowS, type RequestContexts } from "../context.ts";
import { isFromElsewhere } from "../same-origin.ts";
import { signInUrl } from "./sign-in-request.ts";

export const signInAgainPath = "/.pomerium/sign_in_again";
const fallbackPath = "/.pomerium/admin/";
const pathCharsMax = 1_000;

/** The address that leads to the provider and back to a page. */
export const signInAgainUrl = (to: string = fallbackPath): string => `${signInAgainPath}?to=${encodeURIComponent(to)}`;

export function registerSignInAgain(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  app.get(signInAgainPath, (request, reply) => {
    const { settings } = deps;
    const { origin, trace } = contexts.of(request);
    const page = pageOf((request.query as Readonly<{ to?: unknown }>).to, settings.authenticateUrl);
    reply.header("cache-control", "no-store").header("referrer-policy", "no-referrer");
    // Another site may not make a person authenticate for what it is about to try.
    if (isFromElsewhere(headersOf(request), origin)) return reply.redirect(page.href, 302);
    const [idpId] = settings.defaultIdpIds;
    const url = signInUrl(
      settings.authenticateUrl,
      {
        redirectUri: page,
        callbackUri: null,
        idpIds: idpId === undefined ? [] : [idpId],
        chosenIdpId: null,
        additionalHosts: [],
        trace: trace ?? null,
        programmatic: "browser",
        nonceHash: "",
        returns: 0,
        account: "again",
        seen: null,
      },
      currentKey(deps),
      nowS(deps),
    );
    return reply.redirect(url.href, 302);
  });
}

/** A page under `/.pomerium/` of this host; anything else leads to the console. */
function pageOf(to: unknown, authenticateUrl: URL): URL {
  const home = new URL(fallbackPath, authenticateUrl);
  if (typeof to !== "string" || to.length > pathCharsMax || !URL.canParse(to, authenticateUrl)) return home;
  const page = new URL(to, authenticateUrl);
  const isOurs = page.origin === authenticateUrl.origin && page.pathname.startsWith("/.pomerium/");
  const isLoop = page.pathname === signInAgainPath || page.pathname === "/.pomerium/sign_in";
  return isOurs && !isLoop && page.username === "" && page.password === "" ? page : home;
}
