/**
 * Session creation: records a new session, and redirects a signed-in person back to a route's host.
 *
 * A session begins only when the broker has written it. While the brokers elect a leader the command is retried with
 * the same command id, so it creates one session or none.
 */
import type { FastifyReply } from "fastify";
import { isLoopback } from "../../../config/index.ts";
import type { CommandRequest, CommandResult, NeededLink, Profile, SessionId, UserId } from "../../../events/index.ts";
import { providerSessionId, userIdOf } from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import {
  type AuthDeps,
  addCookie,
  addMs,
  currentKey,
  newCommandId,
  newSessionId,
  nowS,
  ownCookieOptions,
  secondsOf,
} from "../context.ts";
import { tunnelAudience } from "../credentials/handle.ts";
import { claimedGroups } from "../provider/claimed-groups.ts";
import type { ProviderClient, ProviderIdentity } from "../provider/provider-client.ts";
import { handlePurpose } from "./callback-endpoint.ts";
import { callbackUrl, type SignInRequest } from "./sign-in-request.ts";
import type { SignInBeginning } from "./sign-in-state.ts";
import { authenticateCookie } from "./signed-in.ts";

/** A new leader is elected within three seconds, and a person is waiting. */
const submitMsMax = 5_000;
const pauseMsMax = 500;

export type NewSession = Extract<CommandRequest["command"], { type: "createSession" }>;

export function createSessionCommand(
  deps: AuthDeps,
  { profile, tokens }: ProviderIdentity,
  {
    idpId,
    beginning: { begunAt, begunLink },
    oidc,
  }: Readonly<{
    idpId: string;
    beginning: SignInBeginning;
    oidc: Pick<ProviderClient, "namesOnce">;
  }>,
): CommandRequest {
  const { settings } = deps;
  const now = deps.clock.wall();
  const command: NewSession = {
    type: "createSession",
    sessionId: newSessionId(deps),
    userId: userIdOf(profile.issuer, profile.subject),
    idpId,
    issuedAt: now,
    expiresAt: addMs(now, Math.min(settings.cookie.expireMs, settings.sessionMsOf(idpId) ?? Infinity)),
    profile,
    tokens,
    groupIds: claimedGroups({ profile, claim: settings.groupsFromClaim, age: "new" }),
    maxSessionsPerUser: settings.maxSessionsPerUser,
    ...(oidc.namesOnce === true ? { keepsName: true } : {}),
    ...(deps.provisionedFor === undefined ? {} : { provisioned: deps.provisionedFor(profile) }),
    ...originOf(profile),
    ...(begunAt === undefined ? {} : { begunAt }),
    ...(begunLink === undefined ? {} : { begunLink }),
    ...(deps.signalRecordsFor === undefined ? {} : { signalRecords: deps.signalRecordsFor(profile) }),
  };
  return { commandId: newCommandId(deps), actor: "service:authenticate", command };
}

const sidCharsMax = 1_000;

/** The provider's own session, which the ID token names in `sid`. */
export function originOf({ issuer, claims }: Profile): Pick<NewSession, "providerSession"> {
  const [sid] = claims["sid"] ?? [];
  const isNamed = typeof sid === "string" && sid !== "" && sid.length <= sidCharsMax;
  return isNamed ? { providerSession: providerSessionId(issuer, sid) } : {};
}

export type SubmitDeps = Pick<AuthDeps, "databroker" | "clock" | "sleep">;

/**
 * Submits the command, and retries with the same id while the outcome is unknown and a retry may succeed. In a region
 * that is cut off it returns at once.
 */
export async function submitWithRetry(deps: SubmitDeps, request: CommandRequest): Promise<CommandResult> {
  const giveUpAt = deps.clock.monotonic() + submitMsMax;
  for (;;) {
    const result = await submitOnce(deps, request);
    if (result.type !== "unavailable" || result.code !== undefined) return result;
    const pauseMs = Math.min(pauseMsMax, Math.max(50, result.retryAfterMs));
    if (deps.clock.monotonic() + pauseMs >= giveUpAt) return result;
    await deps.sleep(pauseMs);
  }
}

async function submitOnce(deps: SubmitDeps, request: CommandRequest): Promise<CommandResult> {
  try {
    return await deps.databroker.submit(request);
  } catch (error) {
    if (!(error instanceof BrokerUnavailableError)) throw error;
    return { type: "unavailable", commandId: request.commandId, message: error.message, retryAfterMs: 1_000 };
  }
}

export type SignedInSession = Readonly<{
  sessionId: SessionId;
  userId: UserId;
  idpId: string;
  needs: NeededLink | null;
}>;

/** Signs this browser in on the authenticate host. */
export async function setSessionCookie(deps: AuthDeps, reply: FastifyReply, session: SignedInSession): Promise<void> {
  const { settings } = deps;
  const handle = { ...session, audience: [settings.authenticateUrl.hostname] };
  const options = ownCookieOptions(secondsOf(settings.cookie.expireMs));
  addCookie(reply, authenticateCookie(deps), await deps.handles.issue(handle), options);
}

/**
 * Redirects a signed-in person back to the host that they came from, with a handle for that host alone. The handle of a
 * command line on the person's own machine is also valid on every TCP and UDP route.
 */
export async function redirectWithHandle(
  deps: AuthDeps,
  reply: FastifyReply,
  signIn: SignInRequest,
  session: SignedInSession,
): Promise<FastifyReply> {
  const { settings } = deps;
  reply.header("cache-control", "no-store").header("referrer-policy", "no-referrer");
  if (signIn.redirectUri.origin === settings.authenticateUrl.origin && signIn.callbackUri === null)
    return reply.redirect(signIn.redirectUri.href, 302);
  const audience = [(signIn.callbackUri ?? signIn.redirectUri).hostname];
  if (signIn.programmatic === "programmatic" && isLoopback(signIn.redirectUri.hostname)) audience.push(tunnelAudience);
  const token = await deps.handles.issue({ ...session, audience });
  const sealed = await deps.handleCipher.seal(handlePurpose, token);
  return reply.redirect(callbackUrl(signIn, sealed, currentKey(deps), nowS(deps)).href, 302);
}
