/**
 * Sign-in callback on a route's host, and for command lines also on the authenticate host: receives the session handle
 * from the authenticate service (docs/pomerium-behaviour.md §1.2, step 6).
 *
 * - It accepts a signed URL for this host that returns to this origin, from the browser whose nonce cookie was set when
 *   the sign-in started. A callback that another browser started signs no one in; it restarts the sign-in.
 * - A programmatic sign-in has no browser to bind to: its handle goes to a listed redirect, never into a cookie.
 */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { PageCondition } from "../../reply/page-condition.ts";
import {
  type AuthDeps,
  addCookie,
  currentKey,
  externalUrl,
  headersOf,
  isProgrammaticRedirect,
  nowS,
  parseHttpUrl,
  type RequestContexts,
  secondsOf,
  sendPage,
  sendProblem,
  sessionCookieOptions,
} from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { cookieValue } from "../credentials/credentials.ts";
import { traceOf } from "../provider/trace-text.ts";
import { isLoginOrigin } from "./programmatic-endpoints.ts";
import { additionalHostsOf, nextHostUrl, nonceHashOf } from "./sign-in-request.ts";
import { parseReturns, returnsCookie } from "./sign-in-returns.ts";
import { checkSignedUrl, parameter, signedForS } from "./signed-url.ts";

export const handlePurpose = "session handle";
/** The signed URL that carries it expires sooner. The extra minute allows for clocks that differ. */
const handleMaxAgeS = signedForS + 60;

export function registerCallback(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const { settings } = deps;
  app.get("/.pomerium/callback/", async (request, reply) => {
    const context = contexts.of(request);
    const url = externalUrl(request, context);
    const refuse = (
      description: string,
      retryUrl: string | null,
      condition: PageCondition = "callback",
    ): FastifyReply =>
      sendProblem(deps, request, reply, context, {
        status: 400,
        condition,
        title: "Sign-in did not complete",
        description,
        retryUrl,
      });
    const checked = checkSignedUrl(url, settings.urlKeys, nowS(deps));
    const programmatic = url.searchParams.get(parameter.programmatic) === "true";
    const isOurs = programmatic ? isLoginOrigin(settings, context.origin) : settings.isRouteOrigin(context.origin);
    if (checked !== "valid" || !isOurs)
      return refuse(`This callback is not valid (${checked}). Go back to the page you wanted and try again.`, "/");
    const redirectUri = parseHttpUrl(url.searchParams.get(parameter.redirectUri));
    if (redirectUri === undefined) return refuse("This link does not say which page to open.", "/");
    if (programmatic) {
      if (!isProgrammaticRedirect(redirectUri, settings.programmaticRedirectHosts))
        return refuse("The host of the redirect URL is not allowed.", null);
    } else {
      const isFurtherHost =
        url.searchParams.has(parameter.additionalHosts) && settings.isRouteOrigin(redirectUri.origin);
      if (redirectUri.origin !== context.origin && !isFurtherHost)
        return refuse("The redirect URL belongs to another site.", "/");
      const nonce = cookieValue(headersOf(request)["cookie"], ownCookie(settings.cookie.name, "nonce", url));
      if (nonce === undefined) {
        return refuse(
          "This sign-in was not started in this browser, or the browser does not store cookies. Go back to the page you wanted and try again.",
          redirectUri.href,
          "other-browser",
        );
      }
      // Another browser started it, or another tab has replaced the cookie. Restart with the cookie of this browser.
      if (nonceHashOf(nonce) !== url.searchParams.get(parameter.nonce)) {
        return reply.header("referrer-policy", "no-referrer").redirect(redirectUri.href, 302);
      }
    }
    const sealed = url.searchParams.get(parameter.sessionEncrypted) ?? "";
    const token = await deps.handleCipher.open(handlePurpose, sealed, handleMaxAgeS);
    if (typeof token !== "string") return refuse("The session in the callback could not be read.", "/");
    const handle = await deps.handles.verify(token);
    if (handle === "invalid" || !handle.audience.includes(context.hostname))
      return refuse("The session in the callback is not for this host.", "/");
    reply.header("cache-control", "no-store").header("referrer-policy", "no-referrer");
    if (programmatic) {
      redirectUri.searchParams.set(parameter.jwt, token);
      return reply.redirect(redirectUri.href, 302);
    }
    const maxAgeS = secondsOf(settings.cookie.expireMs);
    addCookie(reply, settings.cookie.name, token, sessionCookieOptions(settings, maxAgeS, "domain"));
    if (redirectUri.origin === context.origin) {
      const returns = parseReturns(url.searchParams.get(parameter.returns));
      // Fastify appends it to the cookie above.
      reply.header("set-cookie", returnsCookie(settings.cookie, url, returns));
    }
    const [next, ...rest] = additionalHostsOf(url);
    const origin = next === undefined ? undefined : routeOriginOf(deps, next);
    if (origin !== undefined) {
      const onwards = { to: redirectUri, rest, trace: context.trace ?? traceOf(url) };
      return reply.redirect(nextHostUrl(origin, onwards, currentKey(deps), nowS(deps)).href, 302);
    }
    if (settings.cookie.sameSite !== "strict") return reply.redirect(redirectUri.href, 302);
    // The chain of redirects began at the identity provider's site, so a browser would withhold a strict cookie from the
    // next request too, and the sign-in would restart. A page of this host that refreshes itself ends the chain.
    return sendPage(
      { deps, request, reply, context },
      200,
      { type: "return", fallbackUrl: redirectUri.href, continues: "header" },
      { refresh: `0;url=${redirectUri.href}`, "referrer-policy": "no-referrer" },
    );
  });
}

/** The external origin of a route's host; undefined: no route has it, so the browser is not sent there. */
function routeOriginOf({ settings }: AuthDeps, host: string): string | undefined {
  return ["https", "http"].map((scheme) => `${scheme}://${host}`).find((origin) => settings.isRouteOrigin(origin));
}
