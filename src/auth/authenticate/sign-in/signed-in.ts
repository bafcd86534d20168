/**
 * Sign-in status: the person that the session handle of a request identifies, on the authenticate host or a route's host.
 *
 * The session that a handle names must be in the projection. A projection that lags behind the handle is reported as
 * `behind`, never as a missing session. Pure, except for its dependencies.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import { type Fact, sessionStream, userStream } from "../../../events/index.ts";
import { momentOf } from "../../../replication/runtime/index.ts";
import type { Principal } from "../../authorize/decision.ts";
import type { SignInLoopPage, UserInfoPage } from "../../reply/page.ts";
import {
  type AuthDeps,
  currentKey,
  externalUrl,
  headersOf,
  nowS,
  type RequestContexts,
  type ReservedContext,
  sendBehind,
  sendPage,
  sendProblem,
} from "../context.ts";
import { ownCookie } from "../credentials/cookie-names.ts";
import { type CredentialSource, cookieValue, readCredential } from "../credentials/credentials.ts";
import { handleFits, type SessionHandle } from "../credentials/handle.ts";
import { type SignInRequest, signInUrl } from "./sign-in-request.ts";
import { returnsBefore, type SignInLoop, signInLoopOf, signInLoopPageOf } from "./sign-in-returns.ts";
import { checkSignedUrl, parameter } from "./signed-url.ts";

export const authenticateCookie = ({ settings }: AuthDeps): string =>
  ownCookie(settings.cookie.name, "authenticate", settings.authenticateUrl);

export type SignInStatus =
  | Fact<"anonymous", unknown>
  | Fact<"behind", unknown>
  | Fact<"signed-in", { principal: Principal; handle: SessionHandle }>;

/** The verified handle in the authenticate host's own cookie. Its session may have ended. */
export async function readOwnHandle(deps: AuthDeps, request: FastifyRequest): Promise<SessionHandle | undefined> {
  const token = cookieValue(headersOf(request)["cookie"], authenticateCookie(deps));
  const handle = token === undefined ? "invalid" : await deps.handles.verify(token);
  return handle !== "invalid" && handle.audience.includes(deps.settings.authenticateUrl.hostname) ? handle : undefined;
}

/** The sign-in status on the authenticate host, where sessions of every configured provider client are valid. */
export async function readSignInStatus(deps: AuthDeps, request: FastifyRequest): Promise<SignInStatus> {
  const handle = await readOwnHandle(deps, request);
  return handle === undefined
    ? { type: "anonymous" }
    : statusOfHandle(deps, handle, { source: "cookie", idpIds: deps.settings.idpIds, idleMsMax: 0 });
}

/** As `readSignInStatus`, also while the session is idle: it can still be signed out. */
export function readHeldSession(deps: AuthDeps, handle: SessionHandle): Promise<SignInStatus> {
  return statusOfHandle(deps, handle, { source: "cookie", idpIds: deps.settings.idpIds, idleMsMax: null });
}

/** The sign-in status on a route's host. */
export async function readRouteSignInStatus(
  deps: AuthDeps,
  request: FastifyRequest,
  { hostname, origin }: Pick<ReservedContext, "hostname" | "origin">,
): Promise<SignInStatus> {
  const { idpIds, idleMsMax = 0 } = deps.settings.signInFor(new URL(origin));
  const query = (request.raw.url ?? "").split("?", 2)[1] ?? "";
  const credential = readCredential(headersOf(request), query, deps.settings.cookie.name);
  const handle = credential === undefined ? "invalid" : await deps.handles.verify(credential.token);
  if (credential === undefined || handle === "invalid") return { type: "anonymous" };
  return handleFits(handle, hostname, deps.settings.cookie.domain)
    ? statusOfHandle(deps, handle, { source: credential.source, idpIds: new Set(idpIds), idleMsMax })
    : { type: "anonymous" };
}

/**
 * Returns the sign-in status only while the lease is fresh, for uses to which no route's grace applies.
 */
export async function withFreshLease(deps: AuthDeps, readStatus: () => Promise<SignInStatus>): Promise<SignInStatus> {
  const overdueMs = deps.replica.overdueMs(deps.clock.monotonic());
  return overdueMs > 0 ? { type: "behind" } : readStatus();
}

/** The sign-in status on the authenticate host, for sessions of the first default provider alone. */
export async function readLeasedSignInStatus(deps: AuthDeps, request: FastifyRequest): Promise<SignInStatus> {
  const signedIn = await withFreshLease(deps, () => readSignInStatus(deps, request));
  const counts = signedIn.type !== "signed-in" || signedIn.principal.session.idpId === deps.settings.defaultIdpIds[0];
  return counts ? signedIn : { type: "anonymous" };
}

async function statusOfHandle(
  deps: AuthDeps,
  handle: SessionHandle,
  {
    source,
    idpIds,
    idleMsMax,
  }: Readonly<{
    source: CredentialSource;
    idpIds: ReadonlySet<string>;
    /** The idle lifetime of the route; 0: it has none. Null: an idle session counts, and this is no use of it. */
    idleMsMax: number | null;
  }>,
): Promise<SignInStatus> {
  if (handle.needs !== null) {
    const reached = await deps.catchUp(handle.needs);
    if (reached === "behind") return { type: "behind" };
    if (reached === "lost") return { type: "anonymous" };
  }
  // Receipts may count this node as fenced: revocations no longer reach it, so it must identify no one.
  if (deps.replica.overdueMs(deps.clock.monotonic()) === Number.POSITIVE_INFINITY) return { type: "behind" };
  const caller = deps.resolveCaller(handle, {
    idpIds,
    credentialInHeader: source !== "cookie",
    now: deps.clock.wall(),
  });
  if (caller.type === "behind") return { type: "behind" };
  if (caller.type === "anonymous") return { type: "anonymous" };
  const { principal } = caller;
  if (principal.session.expiresAt <= deps.clock.wall()) return { type: "anonymous" };
  const denied =
    deps.replica.isDeniedLocally(sessionStream(principal.session.sessionId)) ||
    deps.replica.isDeniedLocally(userStream(principal.userId));
  if (denied) return { type: "anonymous" };
  if (idleMsMax === null) return { type: "signed-in", principal, handle };
  const at = momentOf(deps.clock);
  const idleAt = deps.idle.onRoute({ sessionIdleLifetimeMs: idleMsMax }, principal.session, at.wall);
  if (idleAt !== null && idleAt <= at.wall) return { type: "anonymous" };
  deps.idle.note(principal.session, at);
  return { type: "signed-in", principal, handle };
}

/** The signed URL of a sign-in that returns to a path of the authenticate host itself. */
function ownSignInUrl(
  deps: AuthDeps,
  path: string,
  options: Pick<SignInRequest, "idpIds" | "account" | "trace"> & Partial<Pick<SignInRequest, "returns">>,
): URL {
  const { authenticateUrl } = deps.settings;
  const request: SignInRequest = {
    redirectUri: new URL(path, authenticateUrl),
    callbackUri: null,
    additionalHosts: [],
    programmatic: "browser",
    nonceHash: "",
    returns: 0,
    chosenIdpId: null,
    seen: null,
    ...options,
  };
  return signInUrl(authenticateUrl, request, currentKey(deps), nowS(deps));
}

/**
 * Where a browser signs in for a page of the authenticate host for operators: with the provider client whose sessions
 * count there. A page in place of the URL says why the sign-ins before it led nowhere.
 * @param path with its query
 */
export function operatorSignIn(
  deps: AuthDeps,
  path: string,
  { cookie, account }: Readonly<{ cookie: string | undefined; account: "current" | "another" }>,
): Readonly<{ url: URL }> | Readonly<{ loop: SignInLoop; page: SignInLoopPage }> {
  const { authenticateUrl, defaultIdpIds } = deps.settings;
  const loop = account === "another" ? undefined : signInLoopOf(deps, cookie, authenticateUrl);
  if (loop !== undefined) {
    const reader = { host: authenticateUrl.host, url: new URL(path, authenticateUrl) };
    const page = signInLoopPageOf(loop, { ...reader, requestId: deps.random.uuid(), at: deps.clock.wall() });
    return { loop, page: { ...page, retryUrl: path } };
  }
  const returns = account === "another" ? 0 : returnsBefore(deps, cookie, authenticateUrl);
  return { url: ownSignInUrl(deps, path, { idpIds: defaultIdpIds.slice(0, 1), account, trace: null, returns }) };
}

/** Serves `/.pomerium/` on the authenticate host. */
export async function userInfo(
  deps: AuthDeps,
  contexts: RequestContexts,
  request: FastifyRequest,
  reply: FastifyReply,
  sessionsPart: (
    signedIn: Extract<SignInStatus, { type: "signed-in" }>,
  ) => Promise<Pick<UserInfoPage, "sessions" | "ended">>,
): Promise<FastifyReply> {
  const context = contexts.of(request);
  const url = externalUrl(request, context);
  if (url.searchParams.has(parameter.redirectUri) || url.searchParams.has(parameter.signature)) {
    if (checkSignedUrl(url, deps.settings.urlKeys, nowS(deps)) === "valid") return reply.redirect("/.pomerium/", 302);
    return sendProblem(deps, request, reply, context, {
      status: 400,
      condition: "sign-in-link",
      title: "Link not valid",
      description: "This link was not created by this installation, or has expired.",
      retryUrl: "/.pomerium/",
    });
  }
  const signedIn = await readSignInStatus(deps, request);
  if (signedIn.type === "behind") return sendBehind(deps, request, reply, context);
  const principal = signedIn.type === "signed-in" ? signedIn.principal : null;
  const signIn = ownSignInUrl(deps, "/.pomerium/", {
    idpIds: [...new Set([...(principal === null ? [] : [principal.session.idpId]), ...deps.settings.defaultIdpIds])],
    account: principal === null ? "current" : "another",
    trace: context.trace ?? null,
  });
  const urls = { signInUrl: signIn.href, signOutUrl: "/.pomerium/sign_out" };
  const sessions = signedIn.type === "signed-in" ? await sessionsPart(signedIn) : {};
  return sendPage({ deps, request, reply, context }, 200, { ...userInfoPageOf(deps, principal, urls), ...sessions });
}

export function userInfoPageOf(
  deps: AuthDeps,
  principal: Principal | null,
  urls: Pick<UserInfoPage, "signInUrl" | "signOutUrl" | "appsUrl" | "accountUrl">,
): UserInfoPage {
  const at = deps.clock.wall();
  if (principal === null)
    return { type: "user-info", at, user: null, session: null, claims: null, groups: [], ...urls };
  const { session, profile } = principal;
  return {
    type: "user-info",
    at,
    user: {
      userId: principal.userId,
      subject: profile?.subject ?? "",
      name: profile?.name ?? "",
      email: profile?.email ?? "",
      emailVerified: profile?.emailVerified ?? false,
    },
    session: {
      sessionId: session.sessionId,
      idpId: deps.settings.providerNames.get(session.idpId)?.title ?? session.idpId,
      issuedAt: session.issuedAt,
      expiresAt: session.expiresAt,
      refreshedAt: session.refreshedAt,
    },
    claims: principal.claims,
    groups: [...principal.groups].sort().map((id) => ({ id, name: deps.replica.projection.group(id)?.name ?? id })),
    ...urls,
  };
}
