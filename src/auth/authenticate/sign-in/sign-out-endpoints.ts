/**
 * Sign-out: ends the session in the log, then at the identity provider (docs/pomerium-behaviour.md §1.4; RP-Initiated
 * Logout 1.0).
 *
 * - Only a signed URL that names the session ends it at once. A route's host creates one for the visitor's own session,
 *   and the confirmation page creates one for the session of this browser.
 * - Every other request gets a page that asks for confirmation: anyone can obtain a signed URL without a session, and a
 *   link on another site must not sign anyone out.
 * - The session ends before the browser is redirected, without waiting for a projection.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type ProviderTokens, parseSessionId, type SessionId } from "../../../events/index.ts";
import type { SignedOutPage, SignOutConfirmPage } from "../../reply/page.ts";
import { endSessions } from "../account/end-sessions.ts";
import { readEnded, rememberEnded } from "../account/ended-sessions.ts";
import {
  type AuthDeps,
  addCookie,
  currentKey,
  externalUrl,
  headersOf,
  newCommandId,
  nowS,
  ownCookieOptions,
  type PageCall,
  parseHttpUrl,
  type RequestContexts,
  type ReservedContext,
  sendPage,
  sendProblem,
} from "../context.ts";
import type { SessionHandle } from "../credentials/handle.ts";
import type { ProviderClient } from "../provider/provider-client.ts";
import { isFromElsewhere } from "../same-origin.ts";
import { readOnly } from "./common-endpoints.ts";
import { createFrontchannelLogout, frontchannelIn } from "./frontchannel-logout.ts";
import { authenticateCookie, readHeldSession, readOwnHandle } from "./signed-in.ts";
import { checkSignedUrl, parameter, signUrl } from "./signed-url.ts";

/** The longest wait for the provider. */
const providerMsMax = 3_000;

export function registerSignOut(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const receiveFrontchannel = createFrontchannelLogout(deps);
  app.get("/.pomerium/sign_out", (request, reply) => {
    const context = contexts.of(request);
    const fromProvider = frontchannelIn(externalUrl(request, context));
    if (fromProvider !== undefined) return receiveFrontchannel(fromProvider, { request, reply });
    return signOut(deps, request, reply, context);
  });
  app.post("/.pomerium/sign_out", (request, reply) => {
    const context = contexts.of(request);
    if (!isFromElsewhere(headersOf(request), context.origin)) return signOut(deps, request, reply, context);
    return sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "sign-out-elsewhere",
      title: "Sign-out not valid",
      description: "The request did not come from a page of this installation.",
      retryUrl: "/.pomerium/sign_out",
    });
  });
  readOnly(app, "/.pomerium/signed_out", async (request, reply) => {
    const ended = await readEnded(deps, request, reply, null);
    return sendPage({ deps, request, reply, context: contexts.of(request) }, 200, { ...signedOutPage(deps), ended });
  });
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
  const sessionId = signed ? sessionToEnd(url) : undefined;
  const ownHandle = await readOwnHandle(deps, request);

  if (sessionId !== undefined) {
    const tokens = await deps.databroker.tokens(sessionId).catch(() => undefined);
    const session = deps.replica.projection.session(sessionId);
    const idpId = session?.status === "active" ? session.idpId : (deps.settings.defaultIdpIds[0] ?? "");
    const userId = session?.userId ?? null;
    const commandId = newCommandId(deps);
    const result = await endSessions(deps, {
      commandId,
      actor: userId === null ? "service:authenticate" : `user:${userId}`,
      command: { type: "revokeSession", sessionId, reason: "sign-out" },
    });
    if (result.type === "unavailable") {
      return sendProblem(deps, request, reply, context, {
        status: 503,
        condition: "still-signed-in",
        title: "You are still signed in",
        description: "Your sign-out could not be saved. Please try again in a moment.",
        retryUrl: request.raw.url ?? null,
      });
    }
    if (result.type === "done") reply.header("cardea-position", String(result.link.position));
    deps.log.info({ sessionId: sessionId }, "signed out");
    if (ownHandle !== undefined && ownHandle.sessionId !== sessionId)
      return confirmSignOut({ deps, request, reply, context }, { ownHandle, returnTo });
    if (result.type === "done" || result.type === "region") {
      const link = result.type === "done" ? result.link : null;
      await rememberEnded(deps, reply, { what: "this", count: 1, userId, commandId, link });
    }
    return leaveAfterSignOut(deps, reply, { idpId, tokens, returnTo });
  }
  if (ownHandle !== undefined) return confirmSignOut({ deps, request, reply, context }, { ownHandle, returnTo });
  return reply.redirect(returnTo?.href ?? "/.pomerium/signed_out", 302);
}

function sessionToEnd(url: URL): SessionId | undefined {
  try {
    return parseSessionId(url.searchParams.get(parameter.endSession));
  } catch {
    return undefined;
  }
}

/** Forgets the session of this browser, and sends it on: to the identity provider, so that its session ends too. */
export async function leaveAfterSignOut(
  deps: AuthDeps,
  reply: FastifyReply,
  { idpId, tokens, returnTo }: Readonly<{ idpId: string; tokens: ProviderTokens | undefined; returnTo: URL | null }>,
): Promise<FastifyReply> {
  clearAuthenticateCookie(deps, reply);
  const next =
    tokens === undefined ? null : await endProviderSession(deps, deps.providerOf(idpId), { tokens, returnTo });
  return reply.redirect((next ?? returnTo)?.href ?? "/.pomerium/signed_out", 302);
}

/** Names no time: anyone can open the page, and then nothing ended. */
export function signedOutPage({ settings }: Pick<AuthDeps, "settings">): SignedOutPage {
  return { type: "signed-out", continueUrl: settings.signoutRedirectUrl?.href ?? null };
}

/** Asks the person signed in here to confirm. The form of the page is signed for their session alone. */
async function confirmSignOut(
  { deps, request, reply, context }: PageCall & Readonly<{ deps: AuthDeps }>,
  { ownHandle, returnTo }: Readonly<{ ownHandle: SessionHandle; returnTo: URL | null }>,
): Promise<FastifyReply> {
  const signedIn = await readHeldSession(deps, ownHandle);
  if (signedIn.type === "anonymous") {
    clearAuthenticateCookie(deps, reply);
    return reply.redirect(returnTo?.href ?? "/.pomerium/signed_out", 302);
  }
  const action = new URL("/.pomerium/sign_out", deps.settings.authenticateUrl);
  action.searchParams.set(parameter.endSession, ownHandle.sessionId);
  if (returnTo !== null) action.searchParams.set(parameter.redirectUri, returnTo.href);
  const profile = signedIn.type === "signed-in" ? signedIn.principal.profile : undefined;
  const page: SignOutConfirmPage = {
    type: "sign-out-confirm",
    action: signUrl(action, currentKey(deps), nowS(deps)).href,
    user: profile === undefined ? null : { name: profile.name, email: profile.email },
    cancelUrl: "/.pomerium/",
  };
  return sendPage({ deps, request, reply, context }, 200, page);
}

/**
 * Revokes the tokens at the provider.
 * @returns where the browser ends its session at the provider; null: nowhere, or the provider did not respond
 */
async function endProviderSession(
  deps: AuthDeps,
  oidc: ProviderClient | undefined,
  { tokens, returnTo }: Readonly<{ tokens: ProviderTokens; returnTo: URL | null }>,
): Promise<URL | null> {
  if (oidc === undefined) return null;
  const warn = (error: unknown): null => {
    deps.log.warn(
      { error: error instanceof Error ? error.message : "" },
      "the identity provider did not end its own session",
    );
    return null;
  };
  const signedOut = new URL("/.pomerium/signed_out", deps.settings.authenticateUrl);
  const done = Promise.all([
    oidc.logoutUrl({ idToken: tokens.idToken, returnTo: returnTo ?? signedOut }).catch(warn),
    oidc.revoke(tokens).catch(warn),
  ]).then(([logoutUrl]) => logoutUrl);
  return Promise.race([done, deps.sleep(providerMsMax).then(() => null)]);
}

function clearAuthenticateCookie(deps: AuthDeps, reply: FastifyReply): void {
  addCookie(reply, authenticateCookie(deps), "", ownCookieOptions(0));
}
