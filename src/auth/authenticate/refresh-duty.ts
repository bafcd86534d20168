/**
 * Refresh: a duty of the leader. Asks the identity provider for fresh claims of each live session, so that what it says
 * of a person (groups above all) is what policy decides by.
 *
 * A refused refresh ends the session; a provider that does not answer changes nothing and is asked again later. Claims are
 * replaced whole, never merged: a group that the provider no longer names is gone. A refresh token may be good for one use,
 * so new tokens are kept until they are written, whatever else fails.
 */
import { LRUCache } from "lru-cache";
import type {
  ActiveSession,
  CommandId,
  CommandRequest,
  CommandResult,
  Projection,
  ProviderTokens,
  Session,
  SessionId,
  UnixMs,
} from "../../events/index.ts";
import { groupsOf } from "./context.ts";
import type { OidcClient } from "./oidc-client.ts";
import { ProviderError } from "./provider-error.ts";
import { isOfTokenIssuer } from "./token-issuers.ts";

export type RefreshDeps = Readonly<{
  /** The provider's client that a session was made with; undefined: none of those that are known here. */
  providerOf: (idpId: string) => OidcClient | undefined;
  groupsFromClaim: string | null;
  uuid: () => string;
  /** The longest time between two refreshes of a session. */
  everyMs: number;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export type RefreshContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  ledger: Projection;
  now: UnixMs;
  tokens: (sessionId: SessionId) => Promise<ProviderTokens | undefined>;
  signal: AbortSignal;
}>;

/** A minute before the access token ends, as Pomerium does. */
const beforeExpiryMs = 60_000;
/** Never sooner than this after the last one. */
const coolOffMs = 10_000;
const refreshesMax = 1_000;
/** Looks into the vault in one run: sessions whose due time is not known yet. */
const looksMax = 10_000;
/** Sessions that one run goes through: the leader has other things to do. The next run goes on from there. */
const stepsMax = 20_000;
const forgetAbove = 10_000;
const unknownMax = 100;
const atOnce = 8;
/** A provider that stayed silent this often in a row is down: the rest waits for the next run. */
const silencesMax = 3;

/** Error words by which a provider says that it no longer vouches for the person. Others are about this client, or pass. */
const final: ReadonlySet<string> = new Set([
  "invalid_grant",
  "access_denied",
  "interaction_required",
  "login_required",
  "consent_required",
  "account_selection_required",
  "subject_changed",
]);

/** One run: refreshes the sessions that are due. Remembers when each is due next; forgetting costs one look at the vault. */
export function createRefresh(deps: RefreshDeps): (context: RefreshContext) => Promise<void> {
  const dueAt = new Map<SessionId, number>();
  let forgetAt = forgetAbove;
  /** Tokens that the provider has given and the log has not taken yet. */
  const unwritten = new LRUCache<SessionId, ProviderTokens>({ max: 10_000 });
  const pauseMs = Math.min(coolOffMs, deps.everyMs);

  function nextDue(session: ActiveSession, tokens: ProviderTokens | undefined): number {
    if (tokens === undefined || tokens.refreshToken === null) return Number.POSITIVE_INFINITY;
    const byToken = (tokens.accessTokenExpiresAt ?? Number.POSITIVE_INFINITY) - beforeExpiryMs;
    const earliest = session.refreshedAt + pauseMs;
    return Math.max(earliest, Math.min(byToken, session.refreshedAt + deps.everyMs));
  }

  /** Said once of each: their sessions are nobody's here, or a route's client is missing from this process's file. */
  const unknown = new Set<string>();
  function tellUnknown(idpId: string): void {
    if (unknown.has(idpId) || unknown.size >= unknownMax) return;
    unknown.add(idpId);
    deps.log.warn(
      { idpId },
      "sessions of an identity provider's client that this process does not know are not refreshed",
    );
  }

  /** Bounded by the sessions that there are. */
  function forgetGone(ledger: Projection): void {
    if (dueAt.size <= forgetAt) return;
    for (const sessionId of dueAt.keys()) if (ledger.session(sessionId) === undefined) dueAt.delete(sessionId);
    forgetAt = Math.max(forgetAbove, dueAt.size * 2);
  }

  let place: Readonly<{ ledger: Projection; sessions: Iterator<Session> }> | undefined;

  return async (context) => {
    const { ledger, now, signal } = context;
    forgetGone(ledger);
    if (place?.ledger !== ledger) place = { ledger, sessions: ledger.sessions() };
    const { sessions } = place;
    let steps = 0;
    let looks = 0;
    let refreshes = 0;
    let silences = 0;

    async function worker(): Promise<void> {
      while (!signal.aborted && looks < looksMax && refreshes < refreshesMax && silences < silencesMax) {
        const next = steps++ < stepsMax ? sessions.next() : undefined;
        if (next === undefined) return;
        if (next.done === true) {
          place = undefined; // the next run begins anew
          return;
        }
        const session = next.value;
        if (session.status !== "active" || session.expiresAt <= now) continue;
        const { sessionId } = session;
        const oidc = deps.providerOf(session.idpId);
        if (oidc === undefined) {
          if (!isOfTokenIssuer(session.idpId)) tellUnknown(session.idpId);
          continue;
        }
        if ((dueAt.get(sessionId) ?? 0) > now || ledger.standing(sessionId).standing !== "active") continue;
        let held = unwritten.get(sessionId);
        if (held !== undefined && (held.accessTokenExpiresAt ?? Number.POSITIVE_INFINITY) <= now) {
          held = await renewed(session, held, oidc); // too old by now to ask with
        } else if (held === undefined) {
          looks++;
          const tokens = await context.tokens(sessionId);
          const due = nextDue(session, tokens);
          dueAt.set(sessionId, due);
          if (due > now || tokens === undefined) continue;
          refreshes++;
          dueAt.set(sessionId, now + pauseMs);
          held = await renewed(session, tokens, oidc);
        }
        if (held !== undefined) await write(session, held, oidc);
      }
    }

    /** @returns undefined when the session got no new tokens */
    async function renewed(
      session: ActiveSession,
      tokens: ProviderTokens,
      oidc: OidcClient,
    ): Promise<ProviderTokens | undefined> {
      const { sessionId } = session;
      try {
        const fresh = await oidc.refresh(tokens);
        unwritten.set(sessionId, fresh);
        silences = 0;
        return fresh;
      } catch (error) {
        await failed(session, error);
        return undefined;
      }
    }

    async function write(session: ActiveSession, tokens: ProviderTokens, oidc: OidcClient): Promise<void> {
      const { sessionId } = session;
      dueAt.set(sessionId, now + pauseMs);
      try {
        const profile = await oidc.describe(tokens);
        silences = 0;
        const groupIds = groupsOf(profile, deps.groupsFromClaim);
        const result = await context.submit(
          request({ type: "refreshSession", sessionId, profile, tokens, groupIds, refreshedAt: now }),
        );
        if (result.type !== "unavailable") unwritten.delete(sessionId);
        if (result.type === "refused" && result.code === "forbidden") await revoke(session, "names somebody else");
      } catch (error) {
        await failed(session, error);
      }
    }

    async function failed({ sessionId }: ActiveSession, error: unknown): Promise<void> {
      if (!(error instanceof ProviderError)) throw error;
      if (error.kind === "silent") silences++;
      if (error.kind === "refused" && final.has(error.error)) {
        unwritten.delete(sessionId);
        await revoke({ sessionId }, error.error);
        return;
      }
      // our own fault or a passing one: nobody is signed out for it
      const cause = error.cause instanceof Error ? error.cause.message : "";
      deps.log.warn(
        { sessionId, kind: error.kind, error: error.error, cause },
        "session not refreshed; tried again later",
      );
    }

    async function revoke({ sessionId }: Pick<ActiveSession, "sessionId">, why: string): Promise<void> {
      deps.log.info({ sessionId, why }, "the identity provider refused the refresh: session revoked");
      await context.submit(request({ type: "revokeSession", sessionId, reason: "refresh-refused" }));
    }

    function request(command: CommandRequest["command"]): CommandRequest {
      return { commandId: deps.uuid() as CommandId, actor: "service:refresh", command };
    }

    const ends = await Promise.allSettled(Array.from({ length: atOnce }, () => worker()));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  };
}
