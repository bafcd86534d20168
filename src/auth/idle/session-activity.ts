/**
 * Session activity: when sessions were last used on this node, which of that the leader has to be told, and when a
 * session becomes idle. A pure core (docs/adr/0015).
 *
 * - Bounded: it remembers the sessions used most recently. One that it forgets counts by the log alone, so it is idle
 *   earlier, never later.
 * - Only a node with a fresh lease remembers a request, so a node that is cut off keeps no session alive.
 * - A session that was once unused for an idle lifetime stays idle where that lifetime applies: its longest pause is
 *   remembered with its last use. Otherwise a request on another route would revive it.
 * - A report is lost, repeated or late without harm: the log keeps the larger of each two numbers.
 *
 * Why so: docs/adr/0053-idle-is-judged-by-reports.md.
 */
import { reportedEvery } from "../../config/index.ts";
import {
  type ActiveSession,
  GenerationalCache,
  isTokenSession,
  type MonotonicMs,
  type SeenSession,
  type SessionId,
  type SessionUse,
  seenAtOnceMax,
  type UnixMs,
} from "../../events/index.ts";

export type UsedSession = Pick<ActiveSession, "sessionId" | "idpId" | "issuedAt">;
type Moment = Readonly<{ monotonic: MonotonicMs; wall: UnixMs }>;

type Use = {
  seenAt: UnixMs;
  pauseMs: number;
  /** The newest time that the leader knows of, or will know by a report that is under way. */
  reportedAt: UnixMs;
};

export type SessionActivityOptions = Readonly<{
  /** What the log knows. */
  useOf: (sessionId: SessionId) => SessionUse | undefined;
  /** Whether this node holds a fresh lease. */
  isFresh: (at: Moment) => boolean;
  sessionsMax?: number;
  dueMax?: number;
}>;

/** About 20 MB of sessions in use. */
const sessionsMaxDefault = 100_000;
const dueMaxDefault = 20_000;
/** A request within this time of the last one is not noted. */
const notedEveryMs = 1_000;
/** Reports wait for this part of an idle lifetime for others, within bounds (ms). */
const waitedPart = 32;
const waitMs = { min: 1_000, max: 10_000 };
const retryMs = { min: 1_000, max: 30_000 };
/** After the leader has refused a report (ms). */
const refusedMs = 60_000;

export type ReportResult = "done" | "refused" | "unavailable";

export class SessionActivity {
  readonly #options: SessionActivityOptions;
  readonly #dueMax: number;
  readonly #uses: GenerationalCache<SessionId, Use>;
  /** The session found last: a permit is noted right after it was decided. */
  #found: Readonly<{ sessionId: SessionId; use: Use }> | undefined;
  /** Uses to report, in the order in which they became due. */
  readonly #due = new Map<SessionId, Use>();
  #waitMs: number = waitMs.max;
  #dueSince: number | null = null;
  #sending: ReadonlyMap<SessionId, Use> | null = null;
  #failures = 0;
  #notBefore = 0;
  /** Uses that were not reported because too many were due. */
  dropped = 0;

  constructor(options: SessionActivityOptions) {
    this.#options = options;
    this.#dueMax = options.dueMax ?? dueMaxDefault;
    this.#uses = new GenerationalCache(options.sessionsMax ?? sessionsMaxDefault);
  }

  get due(): number {
    return this.#due.size;
  }

  /** When the session was last used here; undefined: not remembered. */
  useHere(sessionId: SessionId): SessionUse | undefined {
    return this.#uses.get(sessionId);
  }

  /** When the session was last used, as the log knows; undefined: it does not. */
  useInLog(sessionId: SessionId): SessionUse | undefined {
    return this.#options.useOf(sessionId);
  }

  /** When the session becomes idle, as this node knows; 0: it was idle before. */
  idleAt(session: UsedSession, idleMs: number, now: UnixMs): UnixMs {
    const here = this.#find(session.sessionId);
    if (here !== undefined && here.pauseMs < idleMs && here.seenAt + idleMs > now)
      return (here.seenAt + idleMs) as UnixMs;
    const logged = this.#options.useOf(session.sessionId);
    if (Math.max(here?.pauseMs ?? 0, logged?.pauseMs ?? 0) >= idleMs) return 0 as UnixMs;
    return (lastUse(session, logged, here) + idleMs) as UnixMs;
  }

  /** As `idleAt`, by the log alone: every node that has applied the same log knows at least this. */
  idleAtByLog(session: UsedSession, idleMs: number): UnixMs {
    const logged = this.#options.useOf(session.sessionId);
    return ((logged?.pauseMs ?? 0) >= idleMs ? 0 : lastUse(session, logged) + idleMs) as UnixMs;
  }

  /**
   * A request or bytes of the session were permitted.
   * @param shortestMs the shortest idle lifetime that the session meets anywhere
   */
  note(session: UsedSession, shortestMs: number, at: Moment): void {
    const { sessionId } = session;
    const now = at.wall;
    const known = this.#find(sessionId);
    if (known !== undefined && now - known.seenAt < notedEveryMs) return;
    if (!this.#options.isFresh(at)) return;
    const quarterMs = shortestMs / reportedEvery;
    const use = known !== undefined && now - known.seenAt < quarterMs ? known : this.#resume(session, known, now);
    use.seenAt = now;
    if (now - use.reportedAt >= quarterMs) this.#report(sessionId, use, shortestMs);
  }

  #find(sessionId: SessionId): Use | undefined {
    if (this.#found?.sessionId === sessionId) return this.#found.use;
    const use = this.#uses.get(sessionId);
    if (use !== undefined) this.#found = { sessionId, use };
    return use;
  }

  /** The first use on this node, or the first after a while: another node may have seen the session meanwhile. */
  #resume(session: UsedSession, known: Use | undefined, now: UnixMs): Use {
    const logged = this.#options.useOf(session.sessionId);
    const pauseMs = Math.max(known?.pauseMs ?? 0, logged?.pauseMs ?? 0, now - lastUse(session, logged, known));
    const reportedAt = Math.max(session.issuedAt, logged?.seenAt ?? 0, known?.reportedAt ?? 0) as UnixMs;
    if (known !== undefined) {
      known.pauseMs = pauseMs;
      known.reportedAt = reportedAt;
      return known;
    }
    const use = { seenAt: now, pauseMs, reportedAt };
    this.#uses.set(session.sessionId, use);
    return use;
  }

  #report(sessionId: SessionId, use: Use, shortestMs: number): void {
    if (this.#due.has(sessionId)) return;
    const logged = this.#options.useOf(sessionId);
    if (logged !== undefined && logged.pauseMs >= use.pauseMs && logged.seenAt > use.reportedAt) {
      use.reportedAt = logged.seenAt; // another node has reported it
      if (use.seenAt - use.reportedAt < shortestMs / reportedEvery) return;
    }
    if (this.#due.size >= this.#dueMax) {
      this.dropped += 1;
      return;
    }
    this.#due.set(sessionId, use);
    this.#waitMs = Math.min(this.#waitMs, Math.max(waitMs.min, shortestMs / waitedPart));
  }

  /**
   * The next report to send; null: nothing is to be sent now. Call it about once a second: that bounds the reports of a
   * node. At most one report is under way.
   */
  next(now: MonotonicMs): readonly SeenSession[] | null {
    if (this.#sending !== null || this.#due.size === 0) return null;
    this.#dueSince ??= now;
    if (now < this.#notBefore) return null;
    if (this.#due.size < seenAtOnceMax && now - this.#dueSince < this.#waitMs) return null;
    const sending = new Map<SessionId, Use>();
    for (const [sessionId, use] of this.#due) {
      if (sending.size >= seenAtOnceMax) break;
      sending.set(sessionId, { ...use });
    }
    this.#sending = sending;
    return [...sending].map(([sessionId, { seenAt, pauseMs }]) => ({ sessionId, seenAt, pauseMs }));
  }

  /** What became of the last report. Without an answer it is sent again: the log has it once all the same. */
  answered(result: ReportResult, now: MonotonicMs): void {
    const sent = this.#sending;
    this.#sending = null;
    if (sent === null) return;
    if (result === "unavailable") {
      this.#notBefore = now + Math.min(retryMs.max, retryMs.min * 2 ** this.#failures);
      this.#failures = Math.min(this.#failures + 1, 10);
      return;
    }
    this.#failures = 0;
    this.#notBefore = result === "refused" ? now + refusedMs : now;
    for (const [sessionId, { seenAt }] of sent) {
      const use = this.#due.get(sessionId);
      this.#due.delete(sessionId);
      if (use !== undefined && result === "done") use.reportedAt = seenAt;
    }
    this.#dueSince = this.#due.size === 0 ? null : now - this.#waitMs;
    if (this.#due.size === 0) this.#waitMs = waitMs.max;
  }
}

/** Whether idle lifetimes concern a session. A bearer token is presented, and judged, with each request. */
export function mayBeIdle({ sessionId }: Pick<UsedSession, "sessionId">): boolean {
  return !isTokenSession(sessionId);
}

/** The last known use of a session. Its sign-in is one. */
export function lastUse({ issuedAt }: UsedSession, ...uses: readonly (SessionUse | undefined)[]): UnixMs {
  return Math.max(issuedAt, ...uses.map((use) => use?.seenAt ?? 0)) as UnixMs;
}
