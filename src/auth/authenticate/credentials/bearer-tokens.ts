/**
 * Bearer tokens as credentials (docs/pomerium-behaviour.md §3.4): access and identity tokens of the identity provider,
 * and tokens of other issuers.
 *
 * - A verified token becomes a session: an event in the log, with an id derived from the token. From then on every node
 *   knows it from its projection, and it can be listed and revoked.
 * - The store and the provider are called only for a new token.
 * - A session id is used once, so a token whose session was revoked opens no session again.
 * - Tokens in verification are bounded, in total and per caller. So are the remembered refusals.
 * - The session ends with the token, or after `cookie_expire`, and is never refreshed.
 * - A token changes a person's groups only if it states them and nothing newer is known.
 */

import { createHmac } from "node:crypto";
import { LRUCache } from "lru-cache";
import {
  type CommandRequest,
  type Fact,
  type NeededLink,
  neededLink,
  type Projection,
  parseSessionId,
  type SessionId,
  type UnixMs,
  type UserId,
  unreachable,
  userIdOf,
} from "../../../events/index.ts";
import { callerNetwork } from "../../authorize/source-ip.ts";
import { claimedGroups } from "../provider/claimed-groups.ts";
import type { ProviderClient } from "../provider/provider-client.ts";
import { ProviderError } from "../provider/provider-error.ts";
import type { ProvisionedFor } from "../scim/correlation.ts";
import { originOf, type SubmitDeps, submitWithRetry } from "../sign-in/begin-session.ts";
import type { SignalRecordsFor } from "../signals/signal-plan.ts";
import { FairLimiter } from "./fair-limiter.ts";
import type { SessionHandle } from "./handle.ts";
import { isOfTokenIssuer, type TokenIssuers, tokenIssuerId, type VerifiedToken } from "./issuers.ts";
import { hasAudience, tokenText, unverifiedClaims } from "./token-text.ts";

/** Tokens that a route accepts. */
export type BearerRules = Readonly<
  | { format: "idp_access_token"; audiences: readonly string[] | null }
  | { format: "idp_identity_token" }
  | { format: "jwt"; issuers: readonly string[] }
>;

export type BearerResult =
  | Fact<"holder", { handle: SessionHandle }>
  /** The token does not verify, has expired or was revoked. */
  | Fact<"refused", unknown>
  /** Not verified: the provider or the brokers do not answer, or too many verifications are running. */
  | Fact<"unavailable", unknown>;

export type BearerTokens = Readonly<{
  /**
   * Synchronous for every token with a known session.
   * @param idpId the identity provider's client of the route
   * @param from the address of the caller
   */
  identify(
    token: string,
    rules: BearerRules,
    of: Readonly<{ idpId: string; from: string }>,
  ): BearerResult | Promise<BearerResult>;
  /** Whether these rules accept the claims of a token that was verified under earlier rules of its format. */
  accepts(token: string, rules: BearerRules): boolean;
}>;

export type BearerDeps = SubmitDeps &
  Readonly<{
    replica: Readonly<{ projection: Pick<Projection, "sessionStatus" | "session" | "sessionsOf"> }>;
    catchUp: (link: NeededLink) => Promise<"reached" | "behind" | "lost">;
    providerOf: (idpId: string) => ProviderClient | undefined;
    issuers: TokenIssuers;
    /**
     * Key that derives session ids from tokens, the same on every node. It prevents testing guessed tokens against a
     * log.
     */
    idKey: Uint8Array;
    sessionMsMax: number;
    groupsFromClaim: string | null;
    /** As in `AuthDeps`. */
    provisionedFor?: ProvisionedFor;
    signalRecordsFor?: SignalRecordsFor;
    maxSessionsPerUser: number;
    uuid: () => string;
    log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
    /** Runs what a caller causes, so that the records of its commands have the caller's address. */
    withCaller?: <Result>(ip: string, run: () => Result) => Result;
    concurrentMax?: number;
    /** Called with the result for each new token. */
    onVerified?: (result: "accepted" | "refused" | "unavailable") => void;
  }>;

const tokenCharsMax = 16_384;
const concurrentDefault = 64;
const refusedMax = 10_000;
/** Lifetime of a remembered refusal (ms), so that one token does not cause repeated requests to the provider. */
const refusedForMs = 30_000;

/** Provider errors that are temporary and say nothing about the token. */
const transientErrors: ReadonlySet<string> = new Set(["server_error", "temporarily_unavailable", "slow_down"]);

const refused: BearerResult = { type: "refused" };
const unavailable: BearerResult = { type: "unavailable" };

/**
 * The token of an `Authorization: Bearer` header; undefined: none. A session handle is not a bearer token.
 */
export function bearerToken(authorization: string | undefined): string | undefined {
  const token = authorization === undefined ? undefined : /^bearer +(.*)$/i.exec(authorization)?.[1]?.trim();
  return token === undefined || /^pomerium-/i.test(token) ? undefined : token;
}

/**
 * The provider or issuer of a bearer's session, if the route's current configuration accepts its tokens; undefined: it
 * does not.
 * @param idpId the identity provider's client of the route
 */
export function bearerIdp(
  rules: BearerRules | null,
  handle: Pick<SessionHandle, "idpId">,
  idpId: string,
): string | undefined {
  if (rules === null) return undefined;
  const isAccepted =
    rules.format === "jwt"
      ? rules.issuers.some((name) => tokenIssuerId(name) === handle.idpId)
      : !isOfTokenIssuer(handle.idpId) && handle.idpId === idpId;
  return isAccepted ? handle.idpId : undefined;
}

export function createBearerTokens(deps: BearerDeps): BearerTokens {
  const refusals = new LRUCache<SessionId, true>({
    maxSize: refusedMax, // with `max`, the whole table would be allocated now
    sizeCalculation: () => 1,
    ttl: refusedForMs,
  });
  const underway = new Map<SessionId, Promise<BearerResult>>();
  const limiter = new FairLimiter(deps.concurrentMax ?? concurrentDefault);

  /** Deterministic: every node derives the same id from the same token and rules. */
  function sessionIdOf(parts: readonly unknown[]): SessionId {
    const digest = createHmac("sha256", deps.idKey).update(JSON.stringify(parts)).digest().subarray(0, 16);
    digest.writeUInt8((digest.readUInt8(6) & 0x0f) | 0x80, 6); // RFC 9562 §5.8
    digest.writeUInt8((digest.readUInt8(8) & 0x3f) | 0x80, 8);
    const hex = digest.toString("hex");
    return parseSessionId(hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"));
  }

  /** Undefined: not in the projection. */
  function resultOfSession(sessionId: SessionId, needs: NeededLink | null = null): BearerResult | undefined {
    const found = deps.replica.projection.sessionStatus(sessionId);
    if (found.status === "unknown") return undefined;
    if (found.status !== "active" || found.session.expiresAt <= deps.clock.wall()) return refused;
    const { userId, idpId } = found.session;
    return { type: "holder", handle: { sessionId, userId, idpId, needs, audience: [] } };
  }

  function identify(
    token: string,
    rules: BearerRules,
    { idpId: routeIdpId, from }: Readonly<{ idpId: string; from: string }>,
  ): BearerResult | Promise<BearerResult> {
    const text = token.length > tokenCharsMax ? undefined : tokenText(token);
    if (text === undefined) return refused;
    // Checked each time: the accepted issuers and audiences may have changed since the token was verified.
    if (!accepts(token, rules)) return refused;
    const issuer = rules.format === "jwt" ? deps.issuers.nameOf(token) : undefined;
    const idpId = issuer === undefined ? routeIdpId : tokenIssuerId(issuer);
    const hasAudience = rules.format === "idp_access_token" && rules.audiences !== null;
    const sessionId = sessionIdOf([rules.format, idpId, hasAudience, text]);
    const answer = resultOfSession(sessionId) ?? (refusals.has(sessionId) ? refused : underway.get(sessionId));
    if (answer !== undefined) return answer;
    const leave = limiter.acquire(callerNetwork(from));
    if (leave === undefined) return reportResult(unavailable);
    const begin = (): Promise<BearerResult> =>
      verifyAndRecord(sessionId, idpId, () => verify(token, rules, { idpId, issuer }));
    const verifying = (from === "" || deps.withCaller === undefined ? begin() : deps.withCaller(from, begin))
      .then(reportResult)
      .finally(() => {
        underway.delete(sessionId);
        leave();
      });
    underway.set(sessionId, verifying);
    return verifying;
  }

  function accepts(token: string, rules: BearerRules): boolean {
    switch (rules.format) {
      case "jwt": {
        const issuer = deps.issuers.nameOf(token);
        return issuer !== undefined && rules.issuers.includes(issuer);
      }
      case "idp_access_token":
        return rules.audiences === null || hasAudience(unverifiedClaims(token) ?? {}, rules.audiences);
      case "idp_identity_token":
        return true; // its audience is the client, which a session names
      default:
        return unreachable(rules);
    }
  }

  function reportResult(answer: BearerResult): BearerResult {
    deps.onVerified?.(answer.type === "holder" ? "accepted" : answer.type);
    return answer;
  }

  function verify(
    token: string,
    rules: BearerRules,
    { idpId, issuer }: Readonly<{ idpId: string; issuer: string | undefined }>,
  ): Promise<VerifiedToken> {
    if (rules.format === "jwt") return deps.issuers.verify(token, issuer ?? "");
    const provider = deps.providerOf(idpId);
    if (provider === undefined) throw new ProviderError("no such identity provider is configured", { kind: "silent" });
    return rules.format === "idp_identity_token"
      ? provider.verifyIdentityToken(token)
      : provider.verifyAccessToken(token, rules.audiences);
  }

  async function verifyAndRecord(
    sessionId: SessionId,
    idpId: string,
    verified: () => Promise<VerifiedToken>,
  ): Promise<BearerResult> {
    let found: VerifiedToken;
    try {
      found = await verified();
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      if (error.kind === "silent" || transientErrors.has(error.error)) {
        deps.log.warn({ idpId }, `a bearer token could not be verified: ${error.message}`);
        return unavailable;
      }
      refusals.set(sessionId, true);
      return refused;
    }
    return record(sessionId, idpId, found);
  }

  async function record(sessionId: SessionId, idpId: string, found: VerifiedToken): Promise<BearerResult> {
    const { profile, tokens, saidAt } = found;
    const now = deps.clock.wall();
    const issuedAt = Math.max(0, Math.min(saidAt ?? now, now)) as UnixMs;
    const expiresAt = Math.min(found.expiresAt ?? Number.POSITIVE_INFINITY, now + deps.sessionMsMax) as UnixMs;
    const userId = userIdOf(profile.issuer, profile.subject);
    const age = (saidAt ?? 0) >= newestClaimsAt(userId) ? "new" : "older than what is known";
    const request: CommandRequest = {
      commandId: deps.uuid() as CommandRequest["commandId"],
      actor: "service:authenticate",
      command: {
        type: "createSession",
        sessionId,
        userId,
        idpId,
        issuedAt,
        expiresAt,
        profile,
        tokens,
        groupIds: claimedGroups({ profile, claim: deps.groupsFromClaim, age }),
        maxSessionsPerUser: deps.maxSessionsPerUser,
        ...(deps.provisionedFor === undefined ? {} : { provisioned: deps.provisionedFor(profile) }),
        ...originOf(profile),
        ...(deps.signalRecordsFor === undefined ? {} : { signalRecords: deps.signalRecordsFor(profile) }),
      },
    };
    const result = await submitWithRetry(deps, request);
    if (result.type === "done") {
      // So that the next request finds the session; this request names the link that it needs.
      const needs = neededLink(result);
      await deps.catchUp(needs);
      deps.log.info({ sessionId, userId, position: result.link.position }, "session created from a bearer token");
      return { type: "holder", handle: { sessionId, userId, idpId, needs, audience: [] } };
    }
    if (result.type === "unavailable") return unavailable;
    if (result.code === "conflict") return afterConflict(sessionId);
    refusals.set(sessionId, true);
    return refused;
  }

  /**
   * Time of the newest known claims about a person. An older token must not restore groups that the person has left.
   */
  function newestClaimsAt(userId: UserId): number {
    const { projection } = deps.replica;
    return projection.sessionsOf(userId).reduce((newest, sessionId) => {
      const session = projection.session(sessionId);
      return session?.status === "active" ? Math.max(newest, session.refreshedAt) : newest;
    }, 0);
  }

  /**
   * Another node created the session first, or it existed and has ended. The projection at the leader's link decides.
   */
  async function afterConflict(sessionId: SessionId): Promise<BearerResult> {
    try {
      const { leader, broker } = await deps.databroker.status();
      if ((await deps.catchUp(leader?.head ?? broker.applied)) !== "reached") return unavailable;
    } catch {
      return unavailable;
    }
    const answer = resultOfSession(sessionId);
    if (answer !== undefined) return answer;
    refusals.set(sessionId, true);
    return refused;
  }

  return { identify, accepts };
}
