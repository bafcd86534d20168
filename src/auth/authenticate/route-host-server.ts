/**
 * Reserved paths on every route's host (docs/pomerium-behaviour.md §2.2, §2.3): the proxy itself answers them, before
 * any route.
 *
 * - The sign-in redirect starts here and the callback returns here (callback-endpoint.ts).
 * - Sign-in starts only on hosts of a route. On any other host these paths only identify the program.
 */
import formbody from "@fastify/formbody";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import { identityTooLarge } from "../assertion.ts";
import { acceptsRedirect, isBrowser } from "../reply/accept-header.ts";
import { signInChallenge } from "../reply/sign-in-hint.ts";
import { registerAccessRequestPage } from "./access/access-request-endpoints.ts";
import {
  type AuthDeps,
  addCookie,
  createRequestContexts,
  currentKey,
  externalUrl,
  headersOf,
  nowS,
  parseHttpUrl,
  type RequestContexts,
  type ReservedContext,
  type ReservedPathHandler,
  sendBehind,
  sendPage,
  sendProblem,
  sessionCookieOptions,
} from "./context.ts";
import { cookieValue } from "./credentials/credentials.ts";
import { handleFits } from "./credentials/handle.ts";
import { traceOf } from "./provider/trace-text.ts";
import { isFromElsewhere } from "./same-origin.ts";
import { beginSignIn, type SignInOptions } from "./sign-in/begin-sign-in.ts";
import { registerCallback } from "./sign-in/callback-endpoint.ts";
import { readOnly, registerCommon, sendUnauthorized } from "./sign-in/common-endpoints.ts";
import { frontchannelIn } from "./sign-in/frontchannel-logout.ts";
import { fallbackPathOf, keepAddressScript, returnPath, scriptPath } from "./sign-in/kept-address.ts";
import { registerLogin, registerUser } from "./sign-in/programmatic-endpoints.ts";
import { portalPath, registerRouteList } from "./sign-in/route-list-endpoint.ts";
import { additionalHostsOf } from "./sign-in/sign-in-request.ts";
import { clearReturns, signInLoopOf, signInLoopPageOf } from "./sign-in/sign-in-returns.ts";
import { existingSignInPath, sendSignInUnavailable } from "./sign-in/sign-in-unavailable.ts";
import { signedOutPage } from "./sign-in/sign-out-endpoints.ts";
import { readRouteSignInStatus, userInfoPageOf, withFreshLease } from "./sign-in/signed-in.ts";
import { checkSignedUrl, parameter, signUrl } from "./sign-in/signed-url.ts";

export async function createRouteHost(
  deps: AuthDeps,
  plugins: readonly ((app: FastifyInstance) => void)[] = [],
): Promise<Readonly<{ handle: ReservedPathHandler; close(): Promise<void> }>> {
  const app = Fastify({
    logger: false,
    schemaController: withoutJsonSchemas,
    bodyLimit: 64 * 1_024,
    trustProxy: false,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
  });
  const contexts = createRequestContexts();
  await app.register(formbody);
  registerCommon(app, deps, contexts);
  registerDashboard(app, deps, contexts);
  registerUser(app, deps, { contexts, sendUnauthenticated });
  registerRouteList(app, deps, { contexts, sendUnauthenticated });
  registerAccessRequestPage(app, deps, { contexts, sendUnauthenticated });
  registerSignIn(app, deps, contexts);
  registerLogin(app, deps, contexts);
  registerCallback(app, deps, contexts);
  registerSignOut(app, deps, contexts);
  for (const plugin of plugins) plugin(app);
  await app.ready();
  return {
    handle(req, res, context) {
      contexts.set(req, context);
      if (deps.withCaller === undefined) app.routing(req, res);
      else deps.withCaller(context.ip, () => app.routing(req, res));
    },
    close: () => app.close(),
  };
}

function registerDashboard(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const urlsFor = ({ origin }: ReservedContext) => ({
    signInUrl: "/.pomerium/sign_in",
    signOutUrl: "/.pomerium/sign_out",
    appsUrl: deps.routes !== null && deps.settings.isRouteOrigin(origin) ? portalPath : null,
    accountUrl: new URL("/.pomerium/", deps.settings.authenticateUrl).href,
  });
  readOnly(app, "/.pomerium", (_request, reply) => reply.redirect("/.pomerium/", 301));

  readOnly(app, "/.pomerium/", async (request, reply) => {
    const context = contexts.of(request);
    const asking = await readRouteSignInStatus(deps, request, context);
    if (asking.type === "behind") return sendBehind(deps, request, reply, context);
    const principal = asking.type === "signed-in" ? asking.principal : null;
    return sendPage({ deps, request, reply, context }, 200, userInfoPageOf(deps, principal, urlsFor(context)));
  });

  const { assertionFor } = deps;
  if (assertionFor === null) return;
  readOnly(app, "/.pomerium/jwt", async (request, reply) => {
    const context = contexts.of(request);
    // Upstreams accept the assertion for minutes, so it must not state facts that may have ended.
    const asking = await withFreshLease(deps, () => readRouteSignInStatus(deps, request, context));
    if (asking.type === "behind") return sendBehind(deps, request, reply, context);
    if (asking.type === "anonymous") return sendUnauthenticated(deps, request, reply, context);
    const assertion = await assertionFor(asking.principal, context.hostname);
    if (assertion === null)
      return sendProblem(deps, request, reply, context, {
        status: 403,
        condition: "too-many-groups",
        title: identityTooLarge.title,
        description: identityTooLarge.description,
      });
    return reply.header("cache-control", "no-store").type("application/jwt").send(assertion);
  });
}

/**
 * True if a caller without a session is a person who can be redirected to sign in (docs/pomerium-behaviour.md §6.6).
 *
 * Scripts (`Sec-Fetch-Mode` other than `navigate`), programs other than browsers, gRPC calls, and callers that sent a
 * credential in a header or the query are never redirected.
 */
export function isRedirectable(
  request: Readonly<{ method: string; headers: Readonly<Record<string, string | undefined>>; query: string }>,
): boolean {
  const { headers } = request;
  if (request.method !== "GET" && request.method !== "HEAD") return false;
  const mode = headers["sec-fetch-mode"];
  if (mode !== undefined && mode !== "navigate") return false;
  if (/^application\/grpc(?:$|[-+; ])/i.test(headers["content-type"] ?? "")) return false;
  if (headers["x-pomerium-authorization"] !== undefined) return false;
  if (/^(?:pomerium\s|bearer\s+pomerium-)/i.test(headers["authorization"] ?? "")) return false;
  if (/(?:^|&)pomerium_session=/.test(request.query)) return false;
  if (mode === undefined && !isBrowser({ accept: headers["accept"], userAgent: headers["user-agent"] })) return false;
  return acceptsRedirect(headers["accept"]);
}

function sendUnauthenticated(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
): FastifyReply {
  const url = externalUrl(request, context);
  const query = url.search.slice(1);
  const headers = headersOf(request);
  if (deps.settings.isRouteOrigin(context.origin) && isRedirectable({ method: request.method, headers, query })) {
    return redirectToSignIn(deps, request, reply, { context, to: url, trace: context.trace ?? null });
  }
  return sendUnauthorized(request, reply, context);
}

type SignInStart = SignInOptions & Readonly<{ context: ReservedContext; to: URL }>;

/** Redirects to sign-in, or sends the page that refuses one, or that ends a redirect loop. */
function redirectToSignIn(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  { context, to, ...options }: SignInStart,
): FastifyReply {
  const cookieHeader = headersOf(request)["cookie"];
  // On the way through several hosts the person has signed in already.
  if (options.through === undefined && options.account !== "existing" && !deps.signIns.isOpen()) {
    const existing = options.account === "another" ? null : existingSignInPath(to.href);
    return sendSignInUnavailable(deps, request, reply, { context, retryUrl: to.href, existing });
  }
  if (options.account !== "another" && options.through === undefined) {
    const loop = signInLoopOf(deps, cookieHeader, new URL(context.origin));
    if (loop !== undefined) {
      const { hostname: host, requestId } = context;
      const page = signInLoopPageOf(loop, { host, url: to, requestId, at: deps.clock.wall() });
      reply.header("set-cookie", loop.setCookie).header("www-authenticate", signInChallenge);
      return sendPage({ deps, request, reply, context }, page.status, page);
    }
  }
  const keepsAddress = request.method === "GET" && headersOf(request)["sec-fetch-mode"] === "navigate";
  const redirect = beginSignIn(deps, to, cookieHeader, { ...options, keepsAddress });
  reply.header("set-cookie", [...redirect.setCookies]);
  if (redirect.page !== null) {
    reply.header("www-authenticate", signInChallenge);
    return sendPage({ deps, request, reply, context }, 401, redirect.page);
  }
  return reply.header("cache-control", "no-store").redirect(redirect.location, 302);
}

function registerSignIn(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const { settings } = deps;
  /** An explicit sign-in: a person who is already signed in wants another account. */
  app.get("/.pomerium/sign_in", async (request, reply) => {
    const context = contexts.of(request);
    if (!settings.isRouteOrigin(context.origin)) return reply.callNotFound();
    const url = externalUrl(request, context);
    const redirectUrl = parseHttpUrl(url.searchParams.get(parameter.redirectUri));
    const trace = context.trace ?? null;
    // With additional hosts, another route host redirected the person here; without, the person asked for it.
    if (redirectUrl !== undefined && url.searchParams.has(parameter.additionalHosts)) {
      if (checkSignedUrl(url, settings.urlKeys, nowS(deps)) !== "valid" || !settings.isRouteOrigin(redirectUrl.origin))
        return sendProblem(deps, request, reply, context, {
          status: 400,
          condition: "sign-in-link",
          title: "Sign-in link not valid",
          description:
            "This link was not created by this installation, or has expired. Go back to the page you wanted.",
        });
      const through = { origin: context.origin, rest: additionalHostsOf(url) };
      return redirectToSignIn(deps, request, reply, {
        context,
        to: redirectUrl,
        through,
        trace: trace ?? traceOf(url),
      });
    }
    const to =
      redirectUrl !== undefined && redirectUrl.origin === context.origin
        ? redirectUrl
        : new URL("/.pomerium/", context.origin);
    const asking = await readRouteSignInStatus(deps, request, context);
    const wanted = url.searchParams.get(parameter.account);
    // No signature is needed for either: both lead to a page that the person has to answer, or to their own session.
    const account =
      asking.type === "signed-in" || wanted === "another" ? "another" : wanted === "existing" ? "existing" : "current";
    return redirectToSignIn(deps, request, reply, { context, to, account, trace });
  });

  readOnly(app, returnPath, (request, reply) => {
    const context = contexts.of(request);
    if (!settings.isRouteOrigin(context.origin)) return reply.callNotFound();
    const fallbackUrl = fallbackPathOf(externalUrl(request, context));
    return sendPage({ deps, request, reply, context }, 200, { type: "return", fallbackUrl, continues: "script" });
  });
  readOnly(app, scriptPath, (_request, reply) =>
    reply
      .header("cache-control", "no-cache")
      .header("x-content-type-options", "nosniff")
      .type("text/javascript; charset=utf-8")
      .send(keepAddressScript),
  );
}

function registerSignOut(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  const { settings } = deps;
  /**
   * The requested target of a sign-out, if it is an address of a route. Any other target would be an open redirect.
   */
  const namedEnd = (request: FastifyRequest, context: ReservedContext): URL | undefined => {
    if (!settings.signOutToRoutes) return undefined;
    const named = parseHttpUrl(externalUrl(request, context).searchParams.get(parameter.redirectUri));
    return named !== undefined && settings.isRouteOrigin(named.origin) ? named : undefined;
  };
  /**
   * The signed URL names the session to end, so it can end no other; without one, the authenticate host asks for
   * confirmation. A page of another site can send a visitor here, but cannot make the URL name their session.
   */
  const signOut = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const context = contexts.of(request);
    const headers = headersOf(request);
    const url = new URL("/.pomerium/sign_out", settings.authenticateUrl);
    const fromProvider = frontchannelIn(externalUrl(request, context));
    if (fromProvider !== undefined) {
      url.search = new URLSearchParams({ iss: fromProvider.issuer, sid: fromProvider.sid }).toString();
      return reply.header("cache-control", "no-store").redirect(url.href, 302);
    }
    const returnTo = namedEnd(request, context) ?? settings.signoutRedirectUrl;
    if (returnTo !== null) url.searchParams.set(parameter.redirectUri, returnTo.href);
    if (!isFromElsewhere(headers, context.origin)) {
      const token = cookieValue(headers["cookie"], settings.cookie.name);
      const handle = token === undefined ? "invalid" : await deps.handles.verify(token);
      if (handle !== "invalid" && handleFits(handle, context.hostname, settings.cookie.domain))
        url.searchParams.set(parameter.endSession, handle.sessionId);
      addCookie(reply, settings.cookie.name, "", sessionCookieOptions(settings, 0, "domain"));
      reply.header("set-cookie", clearReturns(settings.cookie, new URL(context.origin)));
    }
    return reply.header("cache-control", "no-store").redirect(signUrl(url, currentKey(deps), nowS(deps)).href, 302);
  };
  app.get("/.pomerium/sign_out", signOut);
  app.post("/.pomerium/sign_out", signOut);
  readOnly(app, "/.pomerium/signed_out", (request, reply) =>
    sendPage({ deps, request, reply, context: contexts.of(request) }, 200, signedOutPage(deps)),
  );
}
