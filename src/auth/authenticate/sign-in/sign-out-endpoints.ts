/**
 * Sign-out: ends the session in the log, then at the identity provider (docs/pomerium-behaviour.md §1.4; RP-Initiated
 * Logout 1.0).
 *
 * Only a signed URL that names the session ends it at once: a route's host makes one for the visitor's own session, the
 * question below another for the session that this browser holds. Signed URLs without a name can be had by anybody, and a
 * link on somebody else's page must not sign anybody out, so everything else asks first. The session ends before the browser
 * leaves, and ending it waits for no projection.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type CommandResult, type ProviderTokens, parseSessionId, type SessionId } from "../../../events/index.ts";
import {
  type AuthDeps,
  addCookie,
  type ContextKeeper,
  commandId,
  currentKey,
  externalUrl,
  headersOf,
  nowS,
  ownCookieOptions,
  parseHttpUrl,
  type ReservedContext,
  sendPage,
  sendProblem,
} from "../context.ts";
import type { Handle } from "../credentials/handle.ts";
import type { OidcClient } from "../provider/oidc-client.ts";
import { isFromElsewhere } from "../same-origin.ts";
import { submitPatiently } from "./begin-session.ts";
import { readOnly } from "./common-endpoints.ts";
import { authenticateCookie, heldHandle, whoIsSignedIn } from "./signed-in.ts";
import { checkSignedUrl, parameter, signUrl } from "./signed-url.ts";

/** The provider is told, and waited for no longer than this. */
const providerMsMax = 3_000;

export function registerSignOut(app: FastifyInstance, deps: AuthDeps, contexts: ContextKeeper): void {
  const { settings } = deps;
  app.get("/.pomerium/sign_out", (request, reply) => signOut(deps, request, reply, contexts.of(request)));
  app.post("/.pomerium/sign_out", (request, reply) => {
    const context = contexts.of(request);
    if (!isFromElsewhere(headersOf(request), context.origin)) return signOut(deps, request, reply, context);
    return sendProblem(deps, request, reply, context, {
      status: 400,
      title: "Sign-out not valid",
      description: "This did not come from a page of this installation.",
      retryUrl: "/.pomerium/sign_out",
    });
  });
  readOnly(app, "/.pomerium/signed_out", (_request, reply) =>
    sendPage(reply, 200, deps.render({ type: "signed-out", continueUrl: settings.signoutRedirectUrl?.href ?? null })),
  );
}

async function signOut(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
): Promise<FastifyReply> {
  reply.header("cache-control", "no-store");
  const url = externalUrl(request, context);
  const signed = checkSignedUrl(url, deps.settings.urlKeys, nowS(deps)) === "valid";
  const returnTo = signed
    ? (parseHttpUrl(url.searchParams.get(parameter.redirectUri)) ?? deps.settings.signoutRedirectUrl)
    : deps.settings.signoutRedirectUrl;
  const ending = signed ? sessionNamed(url) : undefined;
  const held = await heldHandle(deps, request);

  if (ending !== undefined) {
    const tokens = await deps.databroker.tokens(ending).catch(() => undefined);
    const session = deps.replica.projection.session(ending);
    const idpId = session?.status === "active" ? session.idpId : deps.settings.idpId;
    const result = await end(deps, ending);
    if (result.type === "unavailable" || (result.type === "refused" && result.code !== "not-found")) {
      return sendProblem(deps, request, reply, context, {
        status: 503,
        title: "You are still signed in",
        description: "The sign-out could not be written to the log. Try again in a moment.",
        retryUrl: request.raw.url ?? null,
      });
    }
    deps.log.info({ sessionId: ending }, "signed out");
    if (held !== undefined && held.sessionId !== ending) return ask(deps, request, reply, { held, returnTo });
    forgetHere(deps, reply);
    const next = tokens === undefined ? null : await leaveProvider(deps, deps.providerOf(idpId), { tokens, returnTo });
    return reply.redirect((next ?? returnTo)?.href ?? "/.pomerium/signed_out", 302);
  }
  if (held !== undefined) return ask(deps, request, reply, { held, returnTo });
  return reply.redirect(returnTo?.href ?? "/.pomerium/signed_out", 302);
}

function sessionNamed(url: URL): SessionId | undefined {
  try {
    return parseSessionId(url.searchParams.get(parameter.endSession));
  } catch {
    return undefined;
  }
}

function end(deps: AuthDeps, sessionId: SessionId): Promise<CommandResult> {
  const userId = deps.replica.projection.session(sessionId)?.userId;
  return submitPatiently(deps, {
    commandId: commandId(deps),
    actor: userId === undefined || userId === null ? "service:authenticate" : `user:${userId}`,
    command: { type: "revokeSession", sessionId, reason: "sign-out" },
  });
}

/** Asks whoever is signed in here; the answer is signed for their session alone. */
async function ask(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  { held, returnTo }: Readonly<{ held: Handle; returnTo: URL | null }>,
): Promise<FastifyReply> {
  const signedIn = await whoIsSignedIn(deps, request);
  if (signedIn.type === "nobody") {
    forgetHere(deps, reply);
    return reply.redirect(returnTo?.href ?? "/.pomerium/signed_out", 302);
  }
  const action = new URL("/.pomerium/sign_out", deps.settings.authenticateUrl);
  action.searchParams.set(parameter.endSession, held.sessionId);
  if (returnTo !== null) action.searchParams.set(parameter.redirectUri, returnTo.href);
  const profile = signedIn.type === "somebody" ? signedIn.principal.profile : undefined;
  const page = deps.render({
    type: "sign-out-confirm",
    action: signUrl(action, currentKey(deps), nowS(deps)).href,
    user: profile === undefined ? null : { name: profile.name, email: profile.email },
    cancelUrl: "/.pomerium/",
  });
  return sendPage(reply, 200, page);
}

/** Revokes the tokens there. @returns where the browser ends its session at the provider; null: nowhere, or no answer */
async function leaveProvider(
  deps: AuthDeps,
  oidc: OidcClient | undefined,
  { tokens, returnTo }: Readonly<{ tokens: ProviderTokens; returnTo: URL | null }>,
): Promise<URL | null> {
  if (oidc === undefined) return null;
  const warn = (error: unknown): null => {
    deps.log.warn({ error: error instanceof Error ? error.message : "" }, "the provider did not end its session");
    return null;
  };
  const signedOut = new URL("/.pomerium/signed_out", deps.settings.authenticateUrl);
  const done = Promise.all([
    oidc.logoutUrl({ idToken: tokens.idToken, returnTo: returnTo ?? signedOut }).catch(warn),
    oidc.revoke(tokens).catch(warn),
  ]).then(([logoutUrl]) => logoutUrl);
  return Promise.race([done, deps.sleep(providerMsMax).then(() => null)]);
}

function forgetHere(deps: AuthDeps, reply: FastifyReply): void {
  addCookie(reply, authenticateCookie(deps), "", ownCookieOptions(0));
}
