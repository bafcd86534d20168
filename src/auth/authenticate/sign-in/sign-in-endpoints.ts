/**
 * Sign-in: to the identity provider and back (docs/pomerium-behaviour.md §1.2).
 *
 *   sign_in, signed by a proxy -- already signed in here --> redirect with a handle to the route's host
 *        └── not signed in --> identity provider --> /oauth2/callback -- the broker records the session --> redirect
 *
 * While no leader can record a session, no one is sent to the identity provider (sign-in-gate.ts).
 *
 * A callback is accepted only from the browser that started the sign-in (sign-in-state.ts), and each code is exchanged
 * once (code-exchanges.ts). If this node lags, the answer is 503; it never starts another sign-in.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type ActiveSession, type CommandResult, neededLink, type UnixMs } from "../../../events/index.ts";
import { callerNetwork } from "../../authorize/source-ip.ts";
import {
  type AuthDeps,
  addCookie,
  currentKey,
  externalUrl,
  headersOf,
  nowS,
  ownCookieOptions,
  type PageProblem,
  type RequestContexts,
  type ReservedContext,
  sendBehind,
  sendProblem,
} from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { cookieValue } from "../credentials/credentials.ts";
import { NetworkBudget } from "../credentials/network-budget.ts";
import { callbackPathOf, isProviderCallback } from "../provider/provider-callback.ts";
import type { ProviderClient } from "../provider/provider-client.ts";
import { ProviderError } from "../provider/provider-error.ts";
import { splitState, stateWithTrace } from "../provider/trace-text.ts";
import { createSessionCommand, redirectWithHandle, setSessionCookie, submitWithRetry } from "./begin-session.ts";
import { browserToken } from "./begin-sign-in.ts";
import { allowedIdpIds, chosenIdpIdOf, restartOfOldChoice, sendProviderChoice } from "./choose-provider.ts";
import {
  type CodeExchange,
  type CodeExchangeRefusal,
  type CodeExchanges,
  createCodeExchanges,
} from "./code-exchanges.ts";
import { givenNameOf, queryOfForm } from "./form-post.ts";
import { parseSignInUrl, type SignInRequest, signInUrl } from "./sign-in-request.ts";
import { beginningAt, openState, type SignInState, sealState } from "./sign-in-state.ts";
import { sendSignInUnavailable, signInUnavailable } from "./sign-in-unavailable.ts";
import { readSignInStatus } from "./signed-in.ts";
import { checkSignedUrl } from "./signed-url.ts";

/** Long, because tabs that start a sign-in without the cookie replace the cookies of each other. */
const browserMaxAgeS = 30 * 24 * 3_600;
/**
 * A session that is about to expire is not reused: by the clock of the proxy it may already have expired, and the two
 * hosts would redirect the browser back and forth.
 */
const remainingMsMin = 30_000;

type EndpointCall = Readonly<{
  deps: AuthDeps;
  request: FastifyRequest;
  reply: FastifyReply;
  context: ReservedContext;
}>;

export function registerSignIn(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const codeExchanges = createCodeExchanges({
    monotonic: deps.clock.monotonic,
    ...(deps.onCodeExchange === undefined ? {} : { onExchange: deps.onCodeExchange }),
  });

  const pushes = new NetworkBudget(deps.clock.monotonic);

  app.get("/.pomerium/sign_in", (request, reply) =>
    signIn({ deps, request, reply, context: contexts.of(request) }, pushes),
  );

  for (const path of ["/oauth2/callback", "/oauth2/callback/:provider"]) {
    app.get(path, (request, reply) => callback({ deps, request, reply, context: contexts.of(request) }, codeExchanges));
    app.post(path, async (request, reply) => {
      const { pathname } = externalUrl(request, contexts.of(request));
      if (!isProviderCallback(pathname)) return reply.callNotFound();
      reply.header("cache-control", "no-store").header("referrer-policy", "no-referrer");
      return reply.redirect(`${pathname}?${await queryOfForm(deps.stateCipher, request.body)}`, 303);
    });
  }
}

/** The proxy has checked this, too. If the signing key leaks, people must still not be sent to a foreign host. */
function leadsToKnownHost({ settings }: AuthDeps, asked: SignInRequest): boolean {
  const { origin } = asked.callbackUri ?? asked.redirectUri;
  return origin === settings.authenticateUrl.origin || settings.isRouteOrigin(origin);
}

/** Makes the rest of the sign-in part of this request's span, if it has one. */
function traced({ context }: EndpointCall, asked: SignInRequest): SignInRequest {
  return { ...asked, trace: context.trace ?? asked.trace };
}

function browserCookie({ settings }: AuthDeps): string {
  return ownCookie(settings.cookie.name, "csrf", settings.authenticateUrl);
}

async function signIn(exchange: EndpointCall, pushes: NetworkBudget): Promise<FastifyReply> {
  const { deps, request, reply, context } = exchange;
  const refuse = (description: string): FastifyReply =>
    sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "sign-in-link",
      title: "Sign-in link not valid",
      description,
    });
  const url = externalUrl(request, context);
  const checked = checkSignedUrl(url, deps.settings.urlKeys, nowS(deps));
  if (checked === "expired") {
    const restart = restartOfOldChoice(deps, url);
    if (restart !== undefined) return reply.header("referrer-policy", "no-referrer").redirect(restart.href, 302);
  }
  if (checked === "expired")
    return refuse("This sign-in link has expired. Go back to the page you wanted and try again.");
  if (checked !== "valid")
    return refuse(
      "This sign-in link was not created by this installation. Go back to the page you wanted and try again.",
    );
  const signIn = parseSignInUrl(url);
  if (signIn === undefined) return refuse("The link does not say where to go after signing in.");
  if (!leadsToKnownHost(deps, signIn)) return refuse("The link leads to a host that this installation does not serve.");

  if (signIn.seen !== null && (await deps.catchUp(signIn.seen)) === "behind")
    return sendBehind(deps, request, reply, context);
  const signedIn = await readSignInStatus(deps, request);
  if (signedIn.type === "behind") return sendBehind(deps, request, reply, context);
  if (signedIn.type === "signed-in" && signIn.account !== "another" && signIn.account !== "again") {
    const { session, userId } = signedIn.principal;
    // By the log alone: the proxy has it too, so it does not find the session idle that it gets back.
    const idleAt = deps.idle.byLog(signIn.idleMsMax ?? 0, session);
    if (lastsLongEnough(deps, session, signIn, idleAt) && allowedIdpIds(deps, signIn).includes(session.idpId)) {
      const { sessionId, idpId } = session;
      return redirectWithHandle(deps, reply, traced(exchange, signIn), {
        sessionId,
        userId,
        idpId,
        needs: idleAt === null ? signedIn.handle.needs : deps.replica.applied,
      });
    }
  }
  if (request.headers["x-requested-with"]?.toString().toLowerCase() === "xmlhttprequest") {
    return sendProblem(deps, request, reply, context, {
      status: 401,
      condition: "needs-window",
      title: "Sign-in required",
      description: "Open the page in a browser window to sign in.",
    });
  }
  const { account } = signIn;
  if (account === "existing" || !deps.signIns.isOpen()) {
    const retryUrl = signIn.programmatic === "programmatic" ? null : signIn.redirectUri.href;
    return sendSignInUnavailable(deps, request, reply, { context, retryUrl, existing: null });
  }
  const idpId = chosenIdpIdOf(deps, signIn);
  if (idpId === undefined) return sendProviderChoice(exchange, traced(exchange, signIn));
  return withProvider(exchange, { request: signIn, idpId }, async (oidc) => {
    const name = browserCookie(deps);
    const browser = browserToken(deps, headersOf(request)["cookie"], name);
    const beginning = beginningAt(deps.replica.appliedLink);
    const stateOf = async (secrets: Pick<SignInState, "nonce" | "verifier">): Promise<string> =>
      stateWithTrace(
        await sealState(deps.stateCipher, { ...secrets, ...beginning, idpId, request: signIn }, browser),
        traced(exchange, signIn).trace,
      );
    const mayPush = (): boolean => pushes.spend(callerNetwork(context.ip));
    const there = await oidc.begin(stateOf, { account, mayPush });
    addCookie(reply, name, browser, ownCookieOptions(browserMaxAgeS));
    reply.header("cache-control", "no-store").header("referrer-policy", "no-referrer");
    return reply.redirect(there.href, 302);
  });
}

/** Whether a session that the browser has counts for a sign-in, and does for a while. @param idleAt null: never idle */
function lastsLongEnough(
  { clock, settings }: AuthDeps,
  session: Pick<ActiveSession, "issuedAt" | "expiresAt">,
  { sessionMsMax = Number.POSITIVE_INFINITY, idleMsMax = Number.POSITIVE_INFINITY }: SignInRequest,
  idleAt: UnixMs | null,
): boolean {
  const endsAt = Math.min(session.expiresAt, session.issuedAt + sessionMsMax, idleAt ?? Number.POSITIVE_INFINITY);
  const { expireMs } = settings.cookie;
  return endsAt - clock.wall() > Math.min(remainingMsMin, expireMs / 20, sessionMsMax / 20, idleMsMax / 20);
}

async function callback(exchange: EndpointCall, codeExchanges: CodeExchanges): Promise<FastifyReply> {
  const { deps, request, reply, context } = exchange;
  const url = externalUrl(request, context);
  const state = url.searchParams.get("state") ?? "";
  const browser = cookieValue(headersOf(request)["cookie"], browserCookie(deps));
  const { sealed, trace } = splitState(state);
  const opened = await openState(deps.stateCipher, sealed, browser);
  if (opened.type !== "ours") {
    // Another browser started it, or another tab has replaced the cookie. Restart with the cookie of this browser.
    const known = opened.type === "of-another-browser" && opened.request.programmatic === "browser";
    if (known && browser !== undefined)
      return reply.header("referrer-policy", "no-referrer").redirect(opened.request.redirectUri.href, 302);
    return sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "other-browser",
      title: "Sign-in did not complete",
      description:
        "This sign-in was not started in this browser, the browser does not store cookies, or it took longer than 30 minutes. Go back to the page you wanted and try again.",
      retryUrl: known ? opened.request.redirectUri.href : "/.pomerium/",
    });
  }
  const { nonce, verifier, idpId: answering } = opened.state;
  const signIn = traced(exchange, { ...opened.state.request, trace });
  if (!isCallbackOf(deps, answering, url.pathname)) {
    deps.log.warn({ idpId: answering }, "an identity provider's answer came to the callback of another; refused");
    return sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "wrong-provider",
      title: "Sign-in did not complete",
      description: "The answer came from another identity provider than the one where you signed in.",
      retryUrl: restartUrl(deps, signIn),
    });
  }
  return withProvider(exchange, { request: signIn, idpId: answering }, async (oidc) => {
    const givenName = oidc.namesOnce === true ? await givenNameOf(deps.stateCipher, url.searchParams) : "";
    const exchangeCode = () => oidc.finish(url.search, { state, nonce, verifier, givenName });
    const code = url.searchParams.get("code");
    const codeExchange: CodeExchange | CodeExchangeRefusal =
      code === null
        ? { identity: exchangeCode(), command: undefined } // an error response: its parameters name the error
        : codeExchanges.begin({ state, code, from: context.ip }, exchangeCode);
    if (codeExchange === "busy") {
      reply.header("retry-after", "2");
      return sendProblem(deps, request, reply, context, {
        status: 429,
        condition: "too-many-sign-ins",
        title: "Too many sign-ins at once",
        description: "Too many people are signing in from your network right now. Please try again in a moment.",
        retryUrl: request.raw.url ?? null,
      });
    }
    if (codeExchange === "used") {
      return sendProblem(deps, request, reply, context, {
        status: 400,
        condition: "used-sign-in",
        title: "This sign-in has already been used",
        description: "It has already completed or failed. Sign in again to open the page you wanted.",
        retryUrl: restartUrl(deps, signIn),
      });
    }
    const identity = await codeExchange.identity;
    codeExchange.command ??= createSessionCommand(deps, identity, { idpId: answering, beginning: opened.state, oidc });
    const { command } = codeExchange;
    const result = await submitWithRetry(deps, command);
    if (result.type !== "done" || command.command.type !== "createSession")
      return sendNotCreated(exchange, signIn, result);
    const { sessionId, userId, idpId } = command.command;
    if (result.changed) deps.log.info({ sessionId, userId, position: result.link.position }, "session created");
    const session = { sessionId, userId, idpId, needs: neededLink(result) };
    await setSessionCookie(deps, reply, session);
    return redirectWithHandle(deps, reply, signIn, session);
  });
}

function sendNotCreated(
  { deps, request, reply, context }: EndpointCall,
  asked: SignInRequest,
  result: CommandResult,
): FastifyReply {
  const message = result.type === "done" ? "" : result.message;
  deps.log.warn({ result: result.type, message }, "session not created");
  if (result.type === "refused" && (result.code === "suspended" || result.code === "erased")) {
    return sendProblem(deps, request, reply, context, {
      status: 403,
      condition: "suspended",
      title: "Account suspended",
      description:
        "The identity provider knows you, but your access to this installation has been suspended. Ask an administrator.",
      retryUrl: restartUrl(deps, { ...asked, account: "another" }),
    });
  }
  if (result.type === "refused" && result.code === "logged-out") {
    return sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "signed-out-meanwhile",
      title: "You were signed out",
      description: "Your sessions were ended while you signed in. Sign in again.",
      retryUrl: restartUrl(deps, asked),
    });
  }
  // A retry of this callback submits the same command again, so the person need not sign in a second time.
  const unavailable = result.type === "unavailable";
  return sendProblem(deps, request, reply, context, {
    status: unavailable ? 503 : 500,
    condition: "not-recorded",
    ...(unavailable && result.code !== undefined ? { retryAfterS: signInUnavailable.retryAfterS } : {}),
    title: "Sign-in could not be recorded",
    description: "Your session could not be saved, so you are not signed in. Please try again in a moment.",
    retryUrl: unavailable ? (request.raw.url ?? null) : restartUrl(deps, asked),
  });
}

/** The URL that restarts this sign-in, and lets the person choose again. */
function restartUrl(deps: AuthDeps, asked: SignInRequest): string {
  const request = { ...asked, chosenIdpId: null };
  return signInUrl(deps.settings.authenticateUrl, request, currentKey(deps), nowS(deps)).href;
}

/** Each provider has its own callback, so one provider's answer is never sent to another (RFC 9700 §4.4.2). */
function isCallbackOf({ settings }: AuthDeps, idpId: string, path: string): boolean {
  const name = settings.providerNames.get(idpId)?.name;
  return name !== undefined && callbackPathOf(name) === path;
}

async function withProvider(
  { deps, request, reply, context }: EndpointCall,
  { request: asked, idpId }: Readonly<{ request: SignInRequest; idpId: string }>,
  job: (oidc: ProviderClient) => Promise<FastifyReply>,
): Promise<FastifyReply> {
  const oidc = deps.providerOf(idpId);
  if (oidc === undefined) {
    // Another client would not help: its sessions are not valid on the route that the person came from.
    const description =
      deps.settings.idpIds.has(idpId) || deps.settings.idpIds.size === 0
        ? "This installation has no identity provider configured (idp_provider_url), so no one can sign in."
        : "The route has its own client at the identity provider (idp_client_id) or its own provider (sign_in_providers), and the authenticate service does not know it. Its configuration file needs the same providers and routes.";
    return sendProblem(deps, request, reply, context, {
      status: 500,
      condition: "no-provider",
      title: "No identity provider",
      description,
      retryUrl: restartUrl(deps, asked),
    });
  }
  try {
    return await job(oidc);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    const cause = error.cause instanceof Error ? error.cause.message : "";
    deps.log.warn({ kind: error.kind, error: error.error, cause }, error.message);
    return sendProblem(deps, request, reply, context, {
      ...problemOf(error),
      provider: deps.settings.providerNames.get(idpId)?.title ?? null,
      providerSays: [error.error, error.errorDescription].filter((words) => words !== "").join(": ") || null,
      retryUrl: restartUrl(deps, asked),
    });
  }
}

function problemOf(error: ProviderError): Pick<PageProblem, "status" | "condition" | "title" | "description"> {
  const what = `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}`;
  switch (error.kind) {
    case "silent":
      return {
        status: 502,
        condition: "provider-silent",
        title: "The identity provider is not responding",
        description: `${what}. Nothing was changed; you can try again.`,
      };
    case "untrue":
      return {
        status: 502,
        condition: "provider-untrue",
        title: "The identity provider's response could not be verified",
        description: `${what}: its response could not be verified, so you are not signed in.`,
      };
    case "refused": {
      if (error.error === "slow_down")
        return {
          status: 429,
          condition: "too-many-sign-ins",
          title: "Too many sign-ins at once",
          description: "Too many people are signing in from your network right now. Please try again in a moment.",
        };
      const denied = error.error === "access_denied" || error.error === "unauthorized_client";
      return {
        status: denied ? 401 : 400,
        condition: error.error === "access_denied" ? "provider-cancelled" : "provider-refused",
        title: "Sign-in did not complete",
        description: `${what}. Nothing was changed; you can try again.`,
      };
    }
  }
}
