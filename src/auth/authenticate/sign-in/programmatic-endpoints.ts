/**
 * Programmatic endpoints: sign-in and credential check for command lines (docs/pomerium-behaviour.md §4.1). Every route
 * host and the authenticate host serve them.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  type AuthDeps,
  type AuthSettings,
  currentKey,
  externalUrl,
  isProgrammaticRedirect,
  nowS,
  parseHttpUrl,
  type RequestContexts,
  type ReservedContext,
  sendBehind,
  sendProblem,
} from "../context.ts";
import { readOnly } from "./common-endpoints.ts";
import { signInUrl } from "./sign-in-request.ts";
import { sendSignInUnavailable } from "./sign-in-unavailable.ts";
import { readRouteSignInStatus } from "./signed-in.ts";
import { parameter } from "./signed-url.ts";

/** Whether a command line may sign in at an origin: a route's, or the authenticate host's. */
export function isLoginOrigin(settings: AuthSettings, origin: string): boolean {
  return origin === settings.authenticateUrl.origin || settings.isRouteOrigin(origin);
}

export function registerLogin(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const { settings } = deps;
  app.get("/.pomerium/api/v1/login", (request, reply) => {
    const context = contexts.of(request);
    const text = externalUrl(request, context).searchParams.get(parameter.redirectUri);
    if (text === null || !isLoginOrigin(settings, context.origin)) return reply.callNotFound();
    const redirectUri = parseHttpUrl(text);
    if (redirectUri === undefined || !isProgrammaticRedirect(redirectUri, settings.programmaticRedirectHosts)) {
      return sendProblem(deps, request, reply, context, {
        status: 400,
        condition: "redirect-refused",
        title: "Redirect not allowed",
        description:
          "pomerium_redirect_uri must be an https URL (http for this machine itself) whose host is listed in programmatic_redirect_domain_whitelist.",
      });
    }
    if (!deps.signIns.isOpen())
      return sendSignInUnavailable(deps, request, reply, { context, retryUrl: null, existing: null });
    const { idpIds, sessionMsMax = 0, idleMsMax = 0 } = settings.signInFor(new URL(context.origin));
    const url = signInUrl(
      settings.authenticateUrl,
      {
        redirectUri,
        callbackUri: new URL("/.pomerium/callback/", context.origin),
        chosenIdpId: null,
        idpIds,
        ...(sessionMsMax === 0 ? {} : { sessionMsMax }),
        ...(idleMsMax === 0 ? {} : { idleMsMax }),
        additionalHosts: [],
        trace: context.trace ?? null,
        programmatic: "programmatic",
        nonceHash: "",
        returns: 0,
        account: "current",
        seen: null,
      },
      currentKey(deps),
      nowS(deps),
    );
    return reply.header("cache-control", "no-store").type("text/plain; charset=utf-8").send(url.href);
  });
}

export function registerUser(
  app: FastifyInstance,
  deps: AuthDeps,
  parts: Readonly<{
    contexts: RequestContexts;
    sendUnauthenticated: (
      deps: AuthDeps,
      request: FastifyRequest,
      reply: FastifyReply,
      context: ReservedContext,
    ) => FastifyReply;
  }>,
): void {
  readOnly(app, "/.pomerium/user", async (request, reply) => {
    const context = parts.contexts.of(request);
    const asking = await readRouteSignInStatus(deps, request, context);
    if (asking.type === "behind") return sendBehind(deps, request, reply, context);
    if (asking.type === "anonymous") return parts.sendUnauthenticated(deps, request, reply, context);
    const claims = { ...deps.identityClaims(asking.principal, context.hostname) };
    for (const name of ["iss", "aud", "exp", "iat", "jti"]) delete claims[name];
    if (typeof claims["sub"] !== "string" || claims["sub"] === "") return reply.callNotFound();
    return reply.header("cache-control", "no-store").send(claims);
  });
}
