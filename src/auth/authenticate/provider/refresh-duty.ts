/**
 * Refresh duty: a duty of the leader that fetches new claims of each live session from the identity provider, so that
 * policy decides by the person's current claims (above all groups).
 *
 * - A refresh token is presented at most once: the intent is in the log before the request (refresh-rules.ts).
 * - A refused refresh ends the session. A provider that does not answer changes nothing.
 * - Claims are replaced whole, never merged.
 * - New tokens are kept until they are written, whatever else fails. A leader that was deposed meanwhile submits them
 *   to the next leader.
 */
import type {
  ActiveSession,
  CommandId,
  CommandRequest,
  CommandResult,
  Epoch,
  Projection,
  ProviderTokens,
  Session,
  SessionId,
  UnixMs,
  VaultedTokens,
} from "../../../events/index.ts";
import { isOfTokenIssuer } from "../credentials/issuers.ts";
import type { ProvisionedFor } from "../scim/correlation.ts";
import type { SignalRecordsFor } from "../signals/signal-plan.ts";
import { claimedGroups } from "./claimed-groups.ts";
import type { ProviderClient, RefreshOutcome } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";
import {
  AgeSum,
  countRefresh,
  newRefreshMemory,
  openBreaker,
  type RefreshMemory,
  type UnwrittenTokens,
} from "./refresh-memory.ts";
import {
  firstStep,
  isUnsent,
  presentationMsMax,
  startMsMax,
  stepAfterAnswer,
  stepAfterRecord,
  workersAfter,
  workersMin,
} from "./refresh-rules.ts";

export type RefreshDeps = Readonly<{
  /** The provider's client that made a session; undefined: unknown to this process. */
  providerOf: (idpId: string) => ProviderClient | undefined;
  groupsFromClaim: string | null;
  /** As in `AuthDeps`. */
  provisionedFor?: ProvisionedFor;
  signalRecordsFor?: SignalRecordsFor;
  uuid: () => string;
  /** Lets the event loop do its other work. */
  pause: () => Promise<void>;
  /** Longest time between two refreshes of a session (ms). */
  everyMs: number;
  /**
   * How long (ms) a session continues after a presentation with an unknown outcome; at least until its access token
   * expires.
   */
  graceMs: number;
  /** Shared by the duties of a process, before and after a reload. Absent: a new one. */
  memory?: RefreshMemory;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export type RefreshContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  /** Submits to the current leader after the epoch of the run has ended. */
  submitToLeader: (request: CommandRequest) => Promise<CommandResult>;
  /** Whether this process leads, to its current knowledge. */
  leads: () => boolean;
  leadership: Readonly<{ epoch: Epoch }>;
  projection: Projection;
  now: UnixMs;
  clock: Readonly<{ monotonic: () => number; wall: () => UnixMs }>;
  tokens: (sessionId: SessionId) => Promise<VaultedTokens | undefined>;
  signal: AbortSignal;
}>;

/** A minute before the access token expires, as in Pomerium. */
const beforeExpiryMs = 60_000;
/** Shortest time between two refreshes of a session. */
const coolOffMs = 10_000;
const refreshesMax = 1_000;
/** Vault entries read per run, for sessions with an unknown due time. */
const vaultReadsMax = 10_000;
/** Sessions visited per run, because the leader has other work. The next run continues from there. */
const sessionsMax = 20_000;
/** Sessions visited in one turn of the event loop by all workers together: less than a millisecond, if none is due. */
const sessionsPerTurn = 250;
const pruneAbove = 10_000;
const unknownMax = 100;
/** Consecutive silent responses after which a provider counts as down; other sessions wait for the next run. */
const silencesMax = 3;
const leaderSubmitsMax = 3;
/** Pause (ms) after claims could not be fetched with an access token. */
const retryDescribeMs = 60_000;

/** New tokens, and the previous ID token of the session: a provider need not send a new one. */
type FreshTokens = Readonly<{
  tokens: ProviderTokens;
  tokenVersion: number;
  idTokenBefore: string | null;
  /** The session ends if the provider has withdrawn the token. Absent: it continues. */
  endsIfRefused?: boolean;
}>;
type DueSession = Readonly<{ session: ActiveSession; entry: VaultedTokens; oidc: ProviderClient }>;

/**
 * Makes the function of one run, which refreshes the due sessions. It caches when each is due next; a lost entry costs
 * one read of the vault.
 */
export function createRefresh(deps: RefreshDeps): (context: RefreshContext) => Promise<void> {
  const memory = deps.memory ?? newRefreshMemory();
  const dueAt = new Map<SessionId, number>();
  /** Sessions that an operator wants to be refreshed now, and since when. */
  const wanted = new Map<SessionId, UnixMs>();
  let requestsSeen = 0;
  let forgetAt = pruneAbove;
  const pauseMs = Math.min(coolOffMs, deps.everyMs);
  let workers = workersMin;

  function nextDue(session: ActiveSession, tokens: ProviderTokens | undefined, oidc: ProviderClient): number {
    if (tokens === undefined) return Number.POSITIVE_INFINITY;
    const isRefreshed = tokens.refreshToken !== null;
    if (!isRefreshed && !describesAgain(oidc, tokens, 0)) return Number.POSITIVE_INFINITY;
    if ((wanted.get(session.sessionId) ?? 0) > session.refreshedAt) return session.refreshedAt + pauseMs;
    wanted.delete(session.sessionId);
    if (!isRefreshed) return session.refreshedAt + deps.everyMs;
    const byToken = (tokens.accessTokenExpiresAt ?? Number.POSITIVE_INFINITY) - beforeExpiryMs;
    const earliest = session.refreshedAt + Math.max(pauseMs, oidc.refreshMsMin ?? 0);
    return Math.max(earliest, Math.min(byToken, session.refreshedAt + deps.everyMs));
  }

  /** Makes sessions due at once: those of the people of an operator's requests since the last run. */
  function noteRequests(projection: Projection): Session[] {
    const due: Session[] = [];
    for (const { userId, requestedAt, position } of projection.refreshRequests.after(requestsSeen)) {
      requestsSeen = Math.max(requestsSeen, position);
      for (const sessionId of projection.sessionsOf(userId)) {
        const session = projection.session(sessionId);
        if (session?.status !== "active" || session.refreshedAt >= requestedAt) continue;
        wanted.set(sessionId, requestedAt);
        dueAt.delete(sessionId);
        due.push(session);
      }
    }
    return due;
  }

  /** Clients missing from this process's configuration; each is logged once. */
  const unknown = new Set<string>();
  function logUnknown(idpId: string): void {
    if (unknown.has(idpId) || unknown.size >= unknownMax) return;
    unknown.add(idpId);
    deps.log.warn({ idpId }, "unknown client of an identity provider; its sessions are not refreshed");
  }

  /** Drops entries of ended sessions, so that live sessions bound the memory. */
  function pruneEnded(projection: Projection): void {
    for (const sessionId of wanted.keys())
      if (projection.sessionStatus(sessionId).status !== "active") wanted.delete(sessionId);
    for (const sessionId of memory.inGrace.keys())
      if (projection.sessionStatus(sessionId).status !== "active") memory.inGrace.delete(sessionId);
    if (dueAt.size <= forgetAt) return;
    for (const sessionId of dueAt.keys()) if (projection.session(sessionId) === undefined) dueAt.delete(sessionId);
    forgetAt = Math.max(pruneAbove, dueAt.size * 2);
  }

  let projectionSeen: Projection | undefined;
  let pass: Readonly<{ projection: Projection; sessions: Iterator<Session>; ages: AgeSum }> | undefined;

  return async (context) => {
    const { projection, now, signal, clock } = context;
    const { epoch } = context.leadership;
    pruneEnded(projection);
    if (pass?.projection !== projection) pass = { projection, sessions: projection.sessions(), ages: new AgeSum() };
    const { sessions, ages } = pass;
    if (projectionSeen !== projection) requestsSeen = 0; // another history
    projectionSeen = projection;
    const requested = noteRequests(projection);
    let steps = 0;
    let vaultReads = 0;
    let refreshes = 0;
    let silences = 0;
    let wasHeldBack = false;

    let visited = 0;
    let nextTurn: Promise<void> | undefined;
    /** All workers wait for the same turn. */
    async function pause(): Promise<void> {
      await deps.pause();
      visited = 0;
      nextTurn = undefined;
    }

    async function worker(): Promise<void> {
      while (!signal.aborted && vaultReads < vaultReadsMax && refreshes < refreshesMax && silences < silencesMax) {
        const first = requested.shift();
        if (first !== undefined) {
          await checkSession(first);
          continue;
        }
        const next = steps++ < sessionsMax ? sessions.next() : undefined;
        if (next === undefined) return;
        if (next.done === true) {
          if (pass?.sessions === sessions) {
            pass = undefined; // the next run starts from the beginning
            Object.assign(memory.ages, ages.result());
          }
          return;
        }
        countAge(next.value);
        await checkSession(next.value);
        if (++visited < sessionsPerTurn) continue;
        nextTurn ??= pause();
        await nextTurn;
      }
    }

    function countAge(session: Session): void {
      if (session.status !== "active" || session.expiresAt <= now) return;
      if (deps.providerOf(session.idpId) !== undefined) ages.add(now - session.refreshedAt);
    }

    async function checkSession(session: Session): Promise<void> {
      if (session.status !== "active" || session.expiresAt <= now) return;
      const { sessionId } = session;
      const oidc = deps.providerOf(session.idpId);
      if (oidc === undefined) {
        if (!isOfTokenIssuer(session.idpId)) logUnknown(session.idpId);
        return;
      }
      if ((dueAt.get(sessionId) ?? 0) > now || projection.sessionStatus(sessionId).status !== "active") return;
      const unwritten = memory.unwritten.get(sessionId);
      if (unwritten !== undefined && !(await write(unwritten))) {
        dueAt.set(sessionId, now + pauseMs);
        return;
      }
      vaultReads++;
      const entry = await context.tokens(sessionId);
      if (entry !== undefined && (await describeKept({ session, entry, oidc }))) return;
      const due = entry?.presentation == null ? nextDue(session, entry?.tokens, oidc) : 0;
      dueAt.set(sessionId, due);
      if (due > now || entry === undefined) return;
      if (describesAgain(oidc, entry.tokens, now)) await describeAgain({ session, entry, oidc });
      else await refresh({ session, entry, oidc });
    }

    async function refresh(at: DueSession): Promise<void> {
      const { session, entry, oidc } = at;
      const { sessionId } = session;
      const unsent = memory.unsent.get(sessionId);
      if (unsent !== undefined) {
        memory.unsent.delete(sessionId);
        if (isUnsent(entry, unsent)) return release(session, { entry, tokenVersion: entry.version });
      }
      const step = firstStep(entry, { now, graceMs: deps.graceMs });
      if (step.type === "end") return end(session, step.why);
      if (step.type === "rest") {
        memory.inGrace.set(sessionId, step.until);
        // Until its deadline the leader that recorded the intent may still write the answer.
        const deadline = entry.presentation?.deadline ?? 0;
        dueAt.set(sessionId, deadline > now ? Math.min(deadline, now + pauseMs) : step.until);
        return;
      }
      memory.inGrace.delete(sessionId);
      refreshes++;
      dueAt.set(sessionId, now + pauseMs);
      if (!(await isReachable(session.idpId, oidc))) return;
      const submittedAt = clock.monotonic();
      const deadline = (clock.wall() + startMsMax + presentationMsMax) as UnixMs;
      const recorded = await record(sessionId, { entry, deadline });
      const waitedMs = clock.monotonic() - submittedAt;
      const after = stepAfterRecord(recorded, { leads: context.leads(), waitedMs });
      if (after === "stop") return;
      if (after === "release") return release(session, { entry, tokenVersion: entry.version + 1 });
      if (after === "remember") {
        memory.unsent.set(sessionId, { epoch, deadline });
        return;
      }
      await conclude(at, await oidc.refresh(entry.tokens));
    }

    /** Writes the intent. The same command is submitted again while its outcome is unknown. */
    async function record(
      sessionId: SessionId,
      { entry, deadline }: Readonly<{ entry: VaultedTokens; deadline: UnixMs }>,
    ): Promise<"done" | "refused" | "unavailable"> {
      const { tokens, version: tokenVersion, obtainedIn } = entry;
      const intent = request({ type: "startRefresh", sessionId, tokens, tokenVersion, obtainedIn, deadline });
      const first = await context.submit(intent);
      const result = first.type === "unavailable" && context.leads() ? await context.submit(intent) : first;
      if (result.type === "refused")
        deps.log.warn(
          { sessionId, message: result.message },
          "could not record the refresh; nothing was sent to the identity provider",
        );
      return result.type;
    }

    async function conclude(at: DueSession, outcome: RefreshOutcome): Promise<void> {
      const { session, entry } = at;
      const { sessionId, idpId } = session;
      const presented = outcome.type === "refused" ? { ...outcome, error: outcome.error.error } : outcome;
      if (outcome.type === "unknown" || outcome.type === "not-used") wasHeldBack = true;
      if (outcome.type === "unknown") {
        silences++;
        openBreaker(memory, idpId, clock.monotonic());
      } else {
        silences = 0;
        memory.breakers.delete(idpId);
      }
      const step = stepAfterAnswer(presented as Parameters<typeof stepAfterAnswer>[0], entry, epoch);
      if (outcome.type === "tokens") return keep(at, outcome.tokens, outcome.problem);
      const { error } = outcome;
      if (step === "end") {
        countRefresh(memory, idpId, "refused");
        return end(session, error.error);
      }
      if (outcome.type === "not-used" && error.kind === "silent") openBreaker(memory, idpId, clock.monotonic());
      const explained = outcome.type === "refused" && error.error === "invalid_grant";
      const result = explained ? "explained" : outcome.type === "not-used" ? "not-used" : "unknown";
      countRefresh(memory, idpId, result);
      logFailure(session, error, result);
      if (step === "release") return release(session, { entry, tokenVersion: entry.version + 1 });
      dueAt.delete(sessionId); // the next run reads the intent and lets the grace begin
    }

    /** Writes new tokens with their claims, or without if no claims are available. */
    async function keep(at: DueSession, tokens: ProviderTokens, problem: ProviderError | null): Promise<void> {
      const { session, entry } = at;
      const { sessionId, idpId } = session;
      const tokenVersion = entry.version + 1;
      const idTokenBefore = entry.tokens.idToken;
      const command = { type: "keepTokens", sessionId, tokens, tokenVersion, obtainedIn: epoch } as const;
      const undescribed = problem === null ? { idTokenBefore } : null;
      memory.unwritten.set(sessionId, { command, undescribed });
      if (problem === null && context.leads() && (await describe(at, { tokens, tokenVersion, idTokenBefore }))) {
        memory.unwritten.delete(sessionId);
        memory.inGrace.delete(sessionId);
        return;
      }
      if (problem !== null) logFailure(session, problem, "kept");
      countRefresh(memory, idpId, "kept");
      await write({ command, undescribed });
    }

    /** @returns whether it is done: the log has the claims, or the session has ended */
    async function describe(at: DueSession, fresh: FreshTokens): Promise<boolean> {
      const { tokens, tokenVersion, idTokenBefore } = fresh;
      const { session, oidc } = at;
      const { sessionId, idpId } = session;
      try {
        const { profile, isFromUserinfo } = await oidc.describe(tokens);
        const claim = deps.groupsFromClaim;
        const isNew = tokens.idToken !== idTokenBefore || (claim !== null && isFromUserinfo(claim));
        const groupIds = claimedGroups({ profile, claim, age: isNew ? "new" : "older than what is known" });
        const refreshedAt = clock.wall();
        const provisioned = deps.provisionedFor === undefined ? {} : { provisioned: deps.provisionedFor(profile) };
        const signals = deps.signalRecordsFor === undefined ? {} : { signalRecords: deps.signalRecordsFor(profile) };
        const result = await context.submit(
          request({
            type: "refreshSession",
            sessionId,
            profile,
            tokens,
            groupIds,
            refreshedAt,
            tokenVersion,
            ...provisioned,
            ...signals,
            ...(oidc.namesOnce === true ? { keepsName: true } : {}),
          }),
        );
        if (result.type === "done") countRefresh(memory, idpId, "refreshed");
        if (result.type === "refused" && result.code === "forbidden") await end(session, "names another person");
        return result.type !== "unavailable";
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error;
        if (fresh.endsIfRefused === true && error.error === "invalid_grant") {
          countRefresh(memory, idpId, "refused");
          await end(session, error.error);
          return true;
        }
        if (error.kind === "silent") {
          silences++;
          if (fresh.endsIfRefused === true) openBreaker(memory, idpId, clock.monotonic());
        }
        logFailure(session, error, "kept");
        return false;
      }
    }

    /**
     * Fetches the claims for tokens that are already in the vault. @returns whether the session needs nothing more now
     */
    async function describeKept(at: DueSession): Promise<boolean> {
      const { session, entry } = at;
      const { sessionId } = session;
      const undescribed = memory.undescribed.get(sessionId);
      if (undescribed === undefined) return false;
      const tooOld = (undescribed.tokens.accessTokenExpiresAt ?? Number.POSITIVE_INFINITY) <= now;
      if (undescribed.version !== entry.version || tooOld) {
        memory.undescribed.delete(sessionId);
        return false;
      }
      dueAt.set(sessionId, now + pauseMs);
      if (await describe(at, { ...undescribed, tokenVersion: entry.version })) memory.undescribed.delete(sessionId);
      return true;
    }

    /** Fetches new claims with an access token that needs no refresh. Nothing is presented, so there is no intent. */
    async function describeAgain(at: DueSession): Promise<void> {
      const { session, entry, oidc } = at;
      dueAt.set(session.sessionId, now + Math.max(pauseMs, Math.min(deps.everyMs, retryDescribeMs)));
      refreshes++;
      if (!(await isReachable(session.idpId, oidc))) return;
      const { tokens, version: tokenVersion } = entry;
      const done = await describe(at, { tokens, tokenVersion, idTokenBefore: tokens.idToken, endsIfRefused: true });
      if (done) dueAt.delete(session.sessionId); // the next run reads the vault and the time of the refresh
    }

    /** @param of.tokenVersion the version that the intent wrote */
    async function release(
      { sessionId }: Pick<ActiveSession, "sessionId">,
      { entry, tokenVersion }: Readonly<{ entry: VaultedTokens; tokenVersion: number }>,
    ): Promise<void> {
      const { tokens, obtainedIn } = entry;
      const command = { type: "keepTokens", sessionId, tokens, tokenVersion, obtainedIn } as const;
      memory.unwritten.set(sessionId, { command, undescribed: null });
      await write({ command, undescribed: null });
    }

    /** Writes in this epoch or through the current leader. @returns whether the log has it, or never will */
    async function write({ command, undescribed }: UnwrittenTokens): Promise<boolean> {
      const { sessionId, tokens, tokenVersion } = command;
      let result = await context.submit(request(command));
      for (let tries = 0; result.type === "unavailable" && !context.leads() && tries < leaderSubmitsMax; tries++)
        result = await context.submitToLeader(request(command));
      if (result.type === "unavailable") return false;
      memory.unwritten.delete(sessionId);
      if (result.type === "done" && undescribed !== null)
        memory.undescribed.set(sessionId, { version: tokenVersion + 1, tokens, ...undescribed });
      if (result.type === "done") memory.inGrace.delete(sessionId);
      return true;
    }

    /** @returns false: the provider is down, and no probe has succeeded yet */
    async function isReachable(idpId: string, oidc: ProviderClient): Promise<boolean> {
      const breaker = memory.breakers.get(idpId);
      if (breaker === undefined) return true;
      if (breaker.probeAt > clock.monotonic()) return false;
      breaker.probeAt = clock.monotonic() + breaker.pauseMs; // one probe at a time
      try {
        await oidc.probe();
        memory.breakers.delete(idpId);
        return true;
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error;
        countRefresh(memory, idpId, "provider-down");
        breaker.probeAt = 0;
        openBreaker(memory, idpId, clock.monotonic());
        return false;
      }
    }

    function logFailure({ sessionId }: ActiveSession, error: ProviderError, result: string): void {
      const cause = error.cause instanceof Error ? error.cause.message : "";
      const facts = { sessionId, result, kind: error.kind, error: error.error, cause };
      deps.log.warn(facts, "session not refreshed; it stays valid");
    }

    async function end({ sessionId }: Pick<ActiveSession, "sessionId">, why: string): Promise<void> {
      deps.log.info({ sessionId, why }, "the identity provider refused to refresh the session; session revoked");
      memory.unwritten.delete(sessionId);
      await context.submit(request({ type: "revokeSession", sessionId, reason: "refresh-refused" }));
    }

    function request(command: CommandRequest["command"]): CommandRequest {
      return { commandId: deps.uuid() as CommandId, actor: "service:refresh", command };
    }

    const ends = await Promise.allSettled(Array.from({ length: workers }, () => worker()));
    workers = workersAfter({ workers, refreshes, wasHeldBack });
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  };
}

/** Whether claims are fetched with the session's access token, because it needs no refresh. */
function describesAgain({ describesAgain: isAble }: ProviderClient, tokens: ProviderTokens, now: number): boolean {
  const lasts = tokens.accessTokenExpiresAt === null || tokens.accessTokenExpiresAt > now;
  return isAble === true && tokens.refreshToken === null && tokens.accessToken !== null && lasts;
}
