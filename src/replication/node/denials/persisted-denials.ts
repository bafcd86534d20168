/**
 * Persisted denials: the newest final denials that this node has applied, kept on its disk across a restart.
 *
 * - A log that was restored from a backup, or failed over while the node was down, may lack them. They stay in force
 *   here until the node knows whether the log holds them, even if the projection comes from a snapshot.
 * - The node knows it once the projection reaches the head named by a grant: a leader's clean commit proves the log.
 * - A denial that the log does not hold is lost: it stays in force here and is handed back to the brokers.
 * - A denial is exact: it names sessions that existed in its own history. It never covers a session that the surviving
 *   log created after the two histories parted.
 * - A denial ends when the surviving log has settled it. Only the loss of that position brings it back.
 *
 * Pure.
 */
import {
  type ActiveSession,
  type Epoch,
  type Hash,
  type Link,
  type LostTightening,
  noEpoch,
  noPosition,
  type Position,
  type Projection,
  parseStream,
  type Recorded,
  type SessionId,
  type Stream,
  sessionStream,
  toLostSession,
  toLostTightening,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import { type ChainHistory, type EpochMark, sharesLink } from "../../lease/chain-history.ts";
import { isDeniedAsLong, type LostDenials } from "./tightenings.ts";

export type PersistedDenial = LostTightening &
  Readonly<{
    /** The epoch in which its history wrote it; null: unknown. */
    since: EpochMark | null;
    /**
     * The sessions ended by this denial of their person. A log that has lost them too must not accept them again.
     */
    sessions?: readonly SessionId[];
    /** The epochs of the history it was written in, up to its own. Absent: an older build wrote it. */
    chain?: readonly EpochMark[];
    /** A cut that named a position ended only sessions created up to there. Absent: up to its own position. */
    upTo?: Position;
    /**
     * The position at which a surviving log settled it: the denial is not lost while the log contains that position.
     */
    settledAt?: SettledAt;
  }>;

export type SettledAt = Readonly<{ link: Link; since: EpochMark }>;

/** The denials on a node's own disk. */
export type DenialsOnDisk = Readonly<{
  /** Facts that only this node denies: they come from a lost suffix and were not in the log again when written. */
  retained: readonly Stream[];
  /** Oldest first. */
  denials: readonly PersistedDenial[];
}>;

/** The newest link of the visible projection and the epochs of its history. */
export type VisibleHistory = Pick<ChainHistory, "applied" | "epochs">;

/** The disk keeps at most this many of the newest denials. */
export const persistedDenialsMax = 4_096;
/** The disk keeps at most this many of their sessions, those of the newest denials first. */
export const persistedSessionsMax = 16_384;

/** A denial about one session is of no use after this long: no session lives longer. */
const sessionDenialMsMax = 366 * 24 * 60 * 60 * 1_000;

/** `lifted`: an operator has since lifted this suspension, so only the end of its sessions remains. */
type AppliedDenial = {
  readonly recorded: Recorded;
  readonly sessions: readonly SessionId[];
  readonly chain: readonly EpochMark[];
  lifted: boolean;
};

export class PersistedDenials {
  /** All denials read from the disk. */
  #carried: readonly PersistedDenial[] = [];
  #newest: AppliedDenial[] = [];
  #count = 0;
  /** The number of sessions in `#newest`. */
  #sessions = 0;
  readonly #open = new Map<Hash, PersistedDenial>();
  readonly #denied = new Map<Stream, Set<PersistedDenial>>();
  /** Lost denials of people that were handed back and that the surviving log has not settled yet. */
  readonly #awaited = new Map<Hash, Stream>();
  readonly #settledAt = new Map<Hash, SettledAt>();
  /** When the newest event was recorded. */
  #latest = 0;

  /** Whether the node does not know yet if the log holds all of them. */
  get hasOpen(): boolean {
    return this.#open.size > 0;
  }
  /** Whether a lost denial of a person waits for the surviving log to settle it. */
  get isAwaiting(): boolean {
    return this.#awaited.size > 0;
  }
  /** Grows with every final denial that is applied and with every denial that is settled. */
  get count(): number {
    return this.#count;
  }

  /** The denials to keep on disk, oldest first. */
  newest(): readonly PersistedDenial[] {
    const all = new Map(this.#carried.map((denial) => [denial.link.hash, denial]));
    for (const { recorded, sessions, chain, lifted } of this.#newest.slice(-persistedDenialsMax)) {
      const since = chain.findLast(({ epoch }) => epoch === recorded.epoch) ?? null;
      const denial = { ...toLostTightening(recorded), since, chain, ...cutUpTo(recorded), ...sessionsField(sessions) };
      for (const each of lifted ? sessionDenials(denial) : [denial]) all.set(each.link.hash, each);
    }
    const kept = [...all.values()].filter((denial) => !this.#hasExpired(denial)).slice(-persistedDenialsMax);
    this.#forgetSettled(kept);
    return withinSessionsMax(kept, (denial, sessions) => ({
      ...withoutSessions(denial),
      ...sessionsField(sessions),
    })).map((denial) => ({ ...denial, ...settledOf(this.#settledAt.get(denial.link.hash)) }));
  }

  /** Records an applied event. @param sessions the sessions it ended @param chain the epochs of its history so far */
  remember(recorded: Recorded, sessions: readonly SessionId[], chain: readonly EpochMark[]): void {
    this.#latest = Math.max(this.#latest, recorded.recordedAt);
    if (recorded.effect !== "tightens") return;
    this.#count += 1;
    this.#sessions += sessions.length;
    const count = this.#newest.push({ recorded, sessions, chain, lifted: false });
    if (count < 2 * persistedDenialsMax && this.#sessions < 2 * persistedSessionsMax) return;
    this.#newest = withinSessionsMax(this.#newest.slice(-persistedDenialsMax), (each, some) => ({
      ...each,
      sessions: some,
    }));
    this.#sessions = this.#newest.reduce((sum, each) => sum + each.sessions.length, 0);
  }

  restore(denials: readonly PersistedDenial[]): void {
    this.#carried = denials.map(({ settledAt: _, ...denial }) => denial);
    for (const denial of denials) {
      if (denial.settledAt !== undefined) this.#settledAt.set(denial.link.hash, denial.settledAt);
      this.#restoreOne(withoutSessions(denial));
      for (const each of sessionDenials(denial)) this.#restoreOne(each);
    }
  }

  #restoreOne(denial: PersistedDenial): void {
    if (this.#open.has(denial.link.hash)) return;
    this.#open.set(denial.link.hash, denial);
    const others = this.#denied.get(denial.stream) ?? new Set();
    this.#denied.set(denial.stream, others.add(denial));
  }

  /** Whether an open denial covers the fact. Once a denial's position is applied here, the projection enforces it. */
  denies(stream: Stream, visible: VisibleHistory): boolean {
    const denials = this.#denied.get(stream);
    if (denials === undefined) return false;
    return [...denials].some((denial) => denial.type !== "UserSessionsRevoked" && !this.#isApplied(denial, visible));
  }

  /** As `denies`, for a session that a cut of its person may have ended. */
  mayDenySession({ userId, createdAt }: Pick<ActiveSession, "userId" | "createdAt">, visible: VisibleHistory): boolean {
    const denials = this.#denied.get(userStream(userId));
    if (denials === undefined) return false;
    return [...denials].some(
      (denial) => existedBefore(denial, createdAt, visible.epochs) && !this.#isApplied(denial, visible),
    );
  }

  #isApplied(denial: PersistedDenial, visible: VisibleHistory): boolean {
    const place = this.#positionIn(visible, denial);
    return place !== null && place.position <= visible.applied.position;
  }

  /** An operator restored a person later, which overrides these suspensions. @returns whether it lifts one of them */
  recordUserRestored(userId: UserId, epoch: Epoch): boolean {
    const isLifted = ({ type, link, stream }: PersistedDenial): boolean =>
      type === "UserSuspended" && link.epoch < epoch && parseStream(stream).id === userId;
    let lifted = false;
    for (const denial of [...this.#open.values()]) {
      if (!isLifted(denial)) continue;
      this.#close(denial);
      lifted = true;
    }
    // The next boot must not deny the person again either.
    if (this.#carried.some(isLifted))
      this.#carried = this.#carried.flatMap((denial) => (isLifted(denial) ? sessionDenials(denial) : [denial]));
    for (const each of this.#newest) {
      const { event, epoch: before } = each.recorded;
      if (event.type === "UserSuspended" && event.userId === userId && before < epoch) each.lifted = true;
    }
    return lifted;
  }

  /** The projection has reached the head of a grant. Denials ahead of it in that grant's epoch stay open. */
  settle(history: ChainHistory, projection: Projection): LostDenials {
    const events = new Map<Hash, LostTightening>();
    const denied = new Set<Stream>();
    for (const denial of [...this.#open.values()]) {
      const place = this.#positionIn(history, denial);
      if (place !== null && place.position > history.applied.position) continue;
      this.#close(denial);
      if (place !== null) continue;
      const facts = deniedFacts(denial, { projection, history }).filter(
        (fact) => !isDeniedAsLong(projection, fact, denial.until),
      );
      if (facts.length === 0) this.recordSettlement(denial.link.hash, settledAtHead(history));
      for (const fact of facts) denied.add(fact);
      for (const event of facts.map((fact) => lostOf(denial, fact))) events.set(event.link.hash, event);
    }
    this.awaitSettlement([...events.values()]);
    return { events: [...events.values()], denied };
  }

  /** Lost denials are handed back. Only denials of people await settlement: any other denial is final in every log. */
  awaitSettlement(events: readonly LostTightening[]): void {
    for (const { link, stream } of events)
      if (parseStream(stream).kind === "user") this.#awaited.set(link.hash, stream);
  }

  /**
   * The surviving log denies a person at a position after their denials were handed back.
   * @returns whether that settles a denial
   */
  recordLaterDenial(stream: Stream, at: SettledAt): boolean {
    const settles = [...this.#awaited].filter(([, awaited]) => awaited === stream);
    for (const [hash] of settles) this.recordSettlement(hash, at);
    return settles.length > 0;
  }

  /**
   * The surviving log settles a lost denial from this position on.
   * @returns the stream of its person if no other awaited denial names it, else null
   */
  recordSettlement(hash: Hash, at: SettledAt): Stream | null {
    const stream = this.#awaited.get(hash);
    this.#awaited.delete(hash);
    this.#settledAt.set(hash, at);
    this.#count += 1;
    return stream === undefined || [...this.#awaited.values()].includes(stream) ? null : stream;
  }

  /**
   * The link that shows the denial is not lost: its own, or the one that settled it; null: the log contains neither.
   */
  #positionIn({ epochs }: VisibleHistory, { link, since }: PersistedDenial): Link | null {
    if (sharesLink(epochs, link, since === null ? [] : [since])) return link;
    const at = this.#settledAt.get(link.hash);
    return at !== undefined && sharesLink(epochs, at.link, [at.since]) ? at.link : null;
  }

  #hasExpired({ stream, type, recordedAt }: PersistedDenial): boolean {
    const aboutSessions = type === "UserSessionsRevoked" || parseStream(stream).kind === "session";
    return aboutSessions && recordedAt + sessionDenialMsMax < this.#latest;
  }

  #forgetSettled(kept: readonly PersistedDenial[]): void {
    if (this.#settledAt.size <= 2 * persistedDenialsMax) return;
    const hashes = new Set(kept.map(({ link }) => link.hash));
    for (const hash of this.#settledAt.keys()) if (!hashes.has(hash)) this.#settledAt.delete(hash);
  }

  #close(denial: PersistedDenial): void {
    this.#open.delete(denial.link.hash);
    const others = this.#denied.get(denial.stream);
    others?.delete(denial);
    if (others?.size === 0) this.#denied.delete(denial.stream);
  }
}

/** One denial for each session: lifting a suspension does not restore its sessions. */
function sessionDenials(denial: PersistedDenial): PersistedDenial[] {
  const { kind, id: userId } = parseStream(denial.stream);
  if (kind !== "user") return [];
  return (denial.sessions ?? []).map((sessionId) => ({
    ...toLostSession(denial, { sessionId, userId }),
    since: denial.since,
    ...(denial.chain === undefined ? {} : { chain: denial.chain }),
  }));
}

function cutUpTo({ event }: Recorded): Pick<PersistedDenial, "upTo"> {
  return event.type === "UserSessionsRevoked" && event.upTo !== null ? { upTo: event.upTo } : {};
}

function settledOf(settledAt: SettledAt | undefined): Pick<PersistedDenial, "settledAt"> {
  return settledAt === undefined ? {} : { settledAt };
}

function sessionsField(sessions: readonly SessionId[]): Pick<PersistedDenial, "sessions"> {
  return sessions.length === 0 ? {} : { sessions };
}

function withoutSessions({ sessions: _, ...denial }: PersistedDenial): PersistedDenial {
  return denial;
}

/** Keeps the sessions of the newest items, at most `persistedSessionsMax` in all. @param list oldest first */
function withinSessionsMax<Item extends Readonly<{ sessions?: readonly SessionId[] }>>(
  list: readonly Item[],
  keep: (item: Item, sessions: readonly SessionId[]) => Item,
): Item[] {
  let room = persistedSessionsMax;
  return list
    .toReversed()
    .map((item) => {
      const sessions = item.sessions ?? [];
      const kept = sessions.slice(Math.max(0, sessions.length - room));
      room -= kept.length;
      return kept.length === sessions.length ? item : keep(item, kept);
    })
    .toReversed();
}

/** The facts that a denial of a lost history denies in the surviving one. */
function deniedFacts(
  denial: PersistedDenial,
  { projection, history }: Readonly<{ projection: Projection; history: ChainHistory }>,
): Stream[] {
  const { stream, type } = denial;
  const { kind, id } = parseStream(stream);
  if (kind !== "user") return [stream];
  const sessions = projection.sessionsOf(id).filter((sessionId) => {
    const session = projection.session(sessionId);
    return session?.status === "active" && existedBefore(denial, session.createdAt, history.epochs);
  });
  return [...(type === "UserSessionsRevoked" ? [] : [stream]), ...sessions.map(sessionStream)];
}

/**
 * Whether an item that the surviving log created at a position existed before the denial in the denial's history. An
 * item older than the remembered epochs of either history counts as shared: old sessions stay denied, and a new one is
 * in a newer epoch.
 */
function existedBefore(denial: PersistedDenial, createdAt: Position, epochs: readonly EpochMark[]): boolean {
  const { link, since, chain = since === null ? [] : [since], upTo = link.position - 1 } = denial;
  if (createdAt > upTo) return false;
  const isStart = ({ start }: EpochMark): boolean => start <= createdAt;
  const mark = epochs.findLast(isStart);
  if (mark === undefined) return true;
  const their = chain.findLast(isStart);
  // Epochs only grow along one history, so a later epoch before the denial belongs to another history.
  if (their === undefined) return mark.epoch < (chain[0]?.epoch ?? link.epoch + 1);
  return mark.epoch === their.epoch && mark.start === their.start && mark.incarnation === their.incarnation;
}

/** The event that hands back the denial of one fact. Sessions of a cut or of a person are handed back one by one. */
function lostOf(denial: PersistedDenial, fact: Stream): LostTightening {
  const { link, stream, type, userId, recordedAt } = denial;
  const lost: LostTightening = { link, stream, type, userId, recordedAt };
  const [session, person] = [parseStream(fact), parseStream(stream)];
  if (session.kind !== "session" || person.kind !== "user") return lost; // the fact is the denied one itself
  return toLostSession(lost, { sessionId: session.id, userId: person.id });
}

function settledAtHead({ applied, epochs }: ChainHistory): SettledAt {
  return { link: applied, since: epochs.at(-1) ?? unknownEpoch };
}

const unknownEpoch: EpochMark = { epoch: noEpoch, start: noPosition, incarnation: null };
