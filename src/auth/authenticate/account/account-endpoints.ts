/**
 * Account endpoints of the authenticate host: a person's own sessions, and the forms that end them.
 *
 * - Only here. A page on a route's host shares its origin with an application, which could read the list of sessions
 *   and send its forms: docs/adr/0071-sessions-are-ended-on-the-authenticate-host.md.
 * - A form is a signed URL, made for the session of the browser that shows it. It counts for five minutes, from a page
 *   of this host, and only while that session lasts. So a forged, copied or repeated one ends nothing.
 * - It ends sessions of the person who is signed in and of no other. The answer about another person's session is that
 *   about one which does not exist.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  type CommandId,
  type Fact,
  isTokenSession,
  neededLink,
  parseSessionId,
  type SessionId,
  sessionStream,
  type UserId,
} from "../../../events/index.ts";
import type { Principal } from "../../authorize/decision.ts";
import type { AccountSession, EndedSessions, UserInfoPage } from "../../reply/page.ts";
import {
  type AuthDeps,
  currentKey,
  externalUrl,
  headersOf,
  newCommandId,
  nowS,
  type PageCall,
  type RequestContexts,
  sendBehind,
  sendPage,
  sendProblem,
} from "../context.ts";
import type { SessionHandle } from "../credentials/handle.ts";
import { isFromElsewhere } from "../same-origin.ts";
import { readOnly } from "../sign-in/common-endpoints.ts";
import { leaveAfterSignOut } from "../sign-in/sign-out-endpoints.ts";
import { readSignInStatus, type SignInStatus, userInfo } from "../sign-in/signed-in.ts";
import { checkSignedUrl, parameter, signUrl } from "../sign-in/signed-url.ts";
import { type EndResult, endSessions } from "./end-sessions.ts";
import { readEnded, rememberEnded } from "./ended-sessions.ts";

const accountPath = "/.pomerium/";
const signOutPath = "/.pomerium/account/sign-out";
/** Sessions on the page; the newest. Those beyond can still be ended together. */
const shownMax = 100;
/** Sessions in one command, and commands for one click. */
const endedMax = 1_000;
const roundsMax = 5;

type SignedIn = Extract<SignInStatus, { type: "signed-in" }>;
type Call = PageCall & Readonly<{ deps: AuthDeps }>;

/** What a form ends. */
type Choice = Fact<"one", { sessionId: SessionId }> | Fact<"others", unknown> | Fact<"all", unknown>;

export function registerAccount(app: FastifyInstance, deps: AuthDeps, contexts: RequestContexts): void {
  readOnly(app, accountPath, (request, reply) =>
    userInfo(deps, contexts, request, reply, (signedIn) => sessionsPart(deps, request, reply, signedIn)),
  );
  readOnly(app, signOutPath, (request, reply) => confirm({ deps, request, reply, context: contexts.of(request) }));
  app.post(signOutPath, (request, reply) => signOut({ deps, request, reply, context: contexts.of(request) }));
}

/** The part of the account page about sessions. */
async function sessionsPart(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  { principal, handle }: SignedIn,
): Promise<Pick<UserInfoPage, "sessions" | "ended">> {
  const ended = await readEnded(deps, request, reply, principal.userId);
  const all = sessionsOf(deps, principal);
  const others = all.filter(({ isCurrent }) => !isCurrent);
  const formOf = (choice: Choice): string => formUrl(deps, handle, choice);
  return {
    ended,
    sessions: {
      list: all.slice(0, shownMax).map(({ sessionId, ...session }) => ({
        ...session,
        signOutUrl: session.isCurrent ? null : formOf({ type: "one", sessionId }),
      })),
      count: all.length,
      othersUrl: others.length > 0 ? formOf({ type: "others" }) : null,
      everywhereUrl: signOutPath,
    },
  };
}

type OwnSession = Omit<AccountSession, "signOutUrl"> & Readonly<{ sessionId: SessionId }>;

/** The person's sessions that this node knows as active: this browser's first, then the newest. */
function sessionsOf({ replica, settings, idle, clock }: AuthDeps, { userId, session }: Principal): OwnSession[] {
  const now = clock.wall();
  const found = replica.projection.sessionsOf(userId).flatMap((sessionId): OwnSession[] => {
    const at = replica.projection.sessionStatus(sessionId);
    if (at.status !== "active" || at.session.status !== "active" || at.session.expiresAt <= now) return [];
    if (replica.isDeniedLocally(sessionStream(sessionId))) return [];
    const { seenAt, idleAt } = idle.describe(at.session, now);
    if (idleAt !== null && idleAt <= now) return [];
    return [
      {
        sessionId,
        isCurrent: sessionId === session.sessionId,
        isToken: isTokenSession(sessionId),
        provider: settings.providerNames.get(at.session.idpId)?.title ?? at.session.idpId,
        issuedAt: at.session.issuedAt,
        seenAt,
        expiresAt: at.session.expiresAt,
      },
    ];
  });
  return found.sort((a, b) => Number(b.isCurrent) - Number(a.isCurrent) || b.issuedAt - a.issuedAt);
}

function formUrl(deps: AuthDeps, { sessionId: own }: SessionHandle, choice: Choice): string {
  const url = new URL(signOutPath, deps.settings.authenticateUrl);
  url.searchParams.set(parameter.scope, choice.type);
  url.searchParams.set(parameter.ownSession, own);
  if (choice.type === "one") url.searchParams.set(parameter.endSession, choice.sessionId);
  return signUrl(url, currentKey(deps), nowS(deps)).href;
}

/** Undefined: not a form for this session, or too old. */
function choiceIn(deps: AuthDeps, url: URL, { sessionId: own }: SessionHandle): Choice | undefined {
  if (checkSignedUrl(url, deps.settings.urlKeys, nowS(deps)) !== "valid") return undefined;
  const { searchParams } = url;
  if (searchParams.get(parameter.ownSession) !== own) return undefined;
  switch (searchParams.get(parameter.scope)) {
    case "one":
      try {
        return { type: "one", sessionId: parseSessionId(searchParams.get(parameter.endSession)) };
      } catch {
        return undefined; // it names no session
      }
    case "others":
      return { type: "others" };
    case "all":
      return { type: "all" };
    default:
      return undefined;
  }
}

/** Asks before every session ends. */
async function confirm(call: Call): Promise<FastifyReply> {
  const { deps, request, reply, context } = call;
  const status = await readSignInStatus(deps, request);
  if (status.type === "behind") return sendBehind(deps, request, reply, context);
  if (status.type === "anonymous") return reply.redirect(accountPath, 302);
  const { principal, handle } = status;
  const { profile } = principal;
  return sendPage(call, 200, {
    type: "sign-out-confirm",
    action: formUrl(deps, handle, { type: "all" }),
    user: profile === undefined ? null : { name: profile.name, email: profile.email },
    cancelUrl: accountPath,
    sessions: sessionsOf(deps, principal).length,
  });
}

async function signOut(call: Call): Promise<FastifyReply> {
  const { deps, request, reply, context } = call;
  reply.header("cache-control", "no-store");
  if (isFromElsewhere(headersOf(request), context.origin)) return refuseForm(call);
  const status = await readSignInStatus(deps, request);
  if (status.type === "behind") return sendBehind(deps, request, reply, context);
  if (status.type === "anonymous") return reply.redirect(accountPath, 303);
  const choice = choiceIn(deps, externalUrl(request, context), status.handle);
  if (choice === undefined) return refuseForm(call);
  switch (choice.type) {
    case "one":
      return endOne(call, status, choice.sessionId);
    case "others":
      return endOthers(call, status);
    default:
      return endAll(call, status);
  }
}

function refuseForm({ deps, request, reply, context }: Call): FastifyReply {
  return sendProblem(deps, request, reply, context, {
    status: 400,
    condition: "account-form",
    title: "Page out of date",
    description: "The form is older than five minutes, or was not made for this session. Nothing was changed.",
    retryUrl: accountPath,
  });
}

async function endOne(call: Call, { principal }: SignedIn, sessionId: SessionId): Promise<FastifyReply> {
  const { deps } = call;
  const { userId } = principal;
  const at = deps.replica.projection.sessionStatus(sessionId);
  const isOwn = at.status === "active" && at.session.userId === userId && sessionId !== principal.session.sessionId;
  const commandId = newCommandId(deps);
  const result: EndResult = isOwn
    ? await endSessions(deps, {
        commandId,
        actor: `user:${userId}`,
        command: { type: "revokeSession", sessionId, reason: "sign-out" },
      })
    : { type: "gone" };
  return answer(call, { userId, commandId, what: "one", count: 1 }, result);
}

/**
 * Ends the other sessions. What began on another server just before is known here when the first command has been
 * applied, and ends with the next.
 */
async function endOthers(call: Call, { principal }: SignedIn): Promise<FastifyReply> {
  const { deps } = call;
  const { userId } = principal;
  let ended = { userId, commandId: newCommandId(deps), what: "others" as const, count: 0 };
  let result: EndResult = { type: "gone" };
  for (let round = 0; round < roundsMax; round++) {
    const sessionIds = sessionsOf(deps, principal)
      .flatMap(({ sessionId, isCurrent }) => (isCurrent ? [] : [sessionId]))
      .slice(0, endedMax);
    if (sessionIds.length === 0) break;
    const commandId = newCommandId(deps);
    const next = await endSessions(deps, {
      commandId,
      actor: `user:${userId}`,
      command: { type: "revokeSessions", sessionIds, reason: "sign-out" },
    });
    if (next.type === "unavailable" && result.type === "done") return sendUnsaved(call);
    result = next;
    ended = { ...ended, commandId, count: ended.count + sessionIds.length };
    if (result.type !== "done" || (await deps.catchUp(neededLink(result))) !== "reached") break;
  }
  return answer(call, ended, result);
}

async function endAll(call: Call, { principal, handle }: SignedIn): Promise<FastifyReply> {
  const { deps, reply } = call;
  const { userId, session } = principal;
  const tokens = await deps.databroker.tokens(handle.sessionId).catch(() => undefined);
  const commandId = newCommandId(deps);
  const count = sessionsOf(deps, principal).length;
  const result = await endSessions(deps, {
    commandId,
    actor: `user:${userId}`,
    command: { type: "revokeUserSessions", userId, reason: "sign-out" },
  });
  if (result.type === "unavailable") return sendUnsaved(call);
  const link = result.type === "done" ? result.link : null;
  if (result.type !== "gone") await rememberEnded(deps, reply, { userId, commandId, what: "all", count, link });
  deps.log.info({ userId, sessions: count }, "signed out everywhere");
  return leaveAfterSignOut(deps, reply, { idpId: session.idpId, tokens, returnTo: deps.settings.signoutRedirectUrl });
}

type Answered = Readonly<{ userId: UserId; commandId: CommandId; what: EndedSessions["what"]; count: number }>;

/** Sends the browser back to its account, which then says how far the change is enforced. */
async function answer(call: Call, ended: Answered, result: EndResult): Promise<FastifyReply> {
  const { deps, reply } = call;
  if (result.type === "unavailable") return sendUnsaved(call);
  if (result.type === "done") {
    reply.header("cardea-position", String(result.link.position));
    await deps.catchUp(neededLink(result));
  }
  const count = result.type === "gone" ? 0 : ended.count;
  await rememberEnded(deps, reply, { ...ended, count, link: result.type === "done" ? result.link : null });
  deps.log.info({ userId: ended.userId, sessions: count }, "signed out of other sessions");
  return reply.redirect(accountPath, 303);
}

function sendUnsaved({ deps, request, reply, context }: Call): FastifyReply {
  return sendProblem(deps, request, reply, context, {
    status: 503,
    condition: "still-signed-in",
    title: "You are still signed in",
    description: "Your sign-out could not be saved. Please try again in a moment.",
    retryUrl: accountPath,
  });
}
