/**
 * Local projection: the projection that this process decides from, and the denials kept beside it.
 *
 * - During a rebuild the old projection stays visible and continues to deny. The new one replaces it only at the head
 *   of the log.
 * - Denials of a lost suffix stay in force beside it, outside the digest, until the surviving log contains the same
 *   fact.
 * - Pure: it does no I/O and changes only through method calls.
 */
import {
  FactPositions,
  linkOf,
  type NeededLink,
  neededLink,
  noPosition,
  Projection,
  parseStream,
  type Recorded,
  type Stream,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import { type ChainHistory, type EpochMark, sharesLink, withEpoch } from "../lease/chain-history.ts";
import { type DenialsOnDisk, type PersistedDenial, PersistedDenials } from "./denials/persisted-denials.ts";
import { ReassertionAnswers } from "./denials/reassertion-answers.ts";
import { isDenied, isDeniedAsLong, type LostDenials, sessionsEndedBy, Tightenings } from "./denials/tightenings.ts";
import type { LoadedSnapshot } from "./messages.ts";
import type { PersonKeys } from "./person-keys.ts";

/** The result of a fold. `decisive`: it may change a decision. */
export type FoldResult = Readonly<{
  touched: readonly (readonly Stream[])[];
  decisive: boolean;
  /** When the oldest of the events was recorded. Null: no events. */
  committedAt: UnixMs | null;
}>;

/** The projection that a rebuild makes. `base`: what its events are folded on. */
type NextProjection = Readonly<{ projection: Projection; positions: FactPositions; base: "genesis" | "snapshot" }>;

export class LocalProjection {
  readonly #keys: PersonKeys;
  readonly #onApplied: (recorded: Recorded) => void;
  readonly #tightenings = new Tightenings();
  readonly #retained = new Set<Stream>();
  readonly #persisted = new PersistedDenials();
  /** Answers of brokers to denials that were handed back. */
  readonly answers = new ReassertionAnswers();
  /** The epochs of the history that events are folded from, up to the newest event. */
  #epochs: readonly EpochMark[] = [];
  #visibleEpochs: readonly EpochMark[] = [];
  #visible = new Projection();
  #visiblePositions = new FactPositions(noPosition);
  #next: NextProjection | null = null;

  /** @param onApplied called with each event that the visible projection has folded in */
  constructor(keys: PersonKeys, onApplied: (recorded: Recorded) => void = () => {}) {
    this.#keys = keys;
    this.#onApplied = onApplied;
  }

  get projection(): Projection {
    return this.#visible;
  }
  /** The log positions of the facts in `projection`. */
  get places(): FactPositions {
    return this.#visiblePositions;
  }
  /** What the visible projection has applied, also during a rebuild. */
  get appliedLink(): NeededLink {
    const link = this.#visible.applied;
    const mark = this.#visibleEpochs.findLast(({ epoch }) => epoch === link.epoch);
    return neededLink({ link, incarnation: mark?.incarnation ?? undefined });
  }
  get rebuilding(): boolean {
    return this.#next !== null;
  }
  /** What the current rebuild builds on; null: no rebuild. */
  get rebuildBase(): NextProjection["base"] | null {
    return this.#next?.base ?? null;
  }
  get retained(): ReadonlySet<Stream> {
    return this.#retained;
  }
  isDeniedLocally(stream: Stream): boolean {
    return this.#retained.has(stream) || (this.#persisted.hasOpen && this.#persistedDenies(stream));
  }

  #persistedDenies(stream: Stream): boolean {
    const visible = { applied: this.#visible.applied, epochs: this.#visibleEpochs };
    if (this.#persisted.denies(stream, visible)) return true;
    const { kind, id } = parseStream(stream);
    const session = kind === "session" ? this.#visible.session(id) : undefined;
    return session?.status === "active" && this.#persisted.mayDenySession(session, visible);
  }
  /** Grows with every final denial that is applied and with every denial that is settled. */
  get tightened(): number {
    return this.#persisted.count;
  }

  /** The final denials to keep on disk, oldest first. */
  denialsToPersist(): readonly PersistedDenial[] {
    return this.#persisted.newest();
  }

  /** Puts the denials from this node's own disk in force before the log is read. */
  restoreDenials({ retained, denials }: DenialsOnDisk): void {
    // Whether a denied person is still denied follows from the denial: the log may have settled it meanwhile.
    const people = new Set(denials.filter(({ type }) => type !== "UserSessionsRevoked").map(({ stream }) => stream));
    for (const stream of retained)
      if (parseStream(stream).kind !== "user" || !people.has(stream)) this.#retained.add(stream);
    this.#persisted.restore(denials);
  }

  /** Whether `settlePersisted` has anything to settle. */
  get hasUnsettled(): boolean {
    return this.#persisted.hasOpen && this.#next === null;
  }

  /** The projection has reached the head of a grant: denials from the disk that the log does not contain are lost. */
  settlePersisted(history: ChainHistory): LostDenials | null {
    if (!this.hasUnsettled) return null;
    const lost = this.#persisted.settle(history, this.#visible);
    for (const stream of lost.denied) this.#retained.add(stream);
    this.#releaseDenied(this.#visible);
    return lost;
  }

  /**
   * Ends the extra denials that the surviving log has settled at a position that is applied here.
   */
  settleAnswered(visible: ChainHistory): void {
    for (const [hash, at] of this.answers.takeReached(visible)) {
      const person = this.#persisted.recordSettlement(hash, at);
      if (person !== null) this.#retained.delete(person);
    }
  }

  /** Whether the projection contains the person's erasure; their key must not be kept from then on. */
  isErased(userId: UserId): boolean {
    return (this.#next?.projection ?? this.#visible).user(userId)?.status === "erased";
  }

  /** Folds events in order. During a rebuild the result stays invisible. */
  fold(events: readonly Recorded[]): FoldResult {
    const projection = this.#next?.projection ?? this.#visible;
    const places = this.#next?.positions ?? this.#visiblePositions;
    const touched: (readonly Stream[])[] = [];
    let decisive = false;
    for (const recorded of events) {
      this.#epochs = withEpoch(this.#epochs, recorded);
      const standing = sessionsEndedBy(recorded, projection);
      touched.push(projection.apply(recorded));
      places.record(recorded);
      if (this.#next === null) this.#onApplied(recorded);
      this.#tightenings.remember(recorded);
      this.#persisted.remember(
        recorded,
        standing.filter((id) => isDenied(projection, sessionStream(id))),
        this.#epochs,
      );
      decisive ||= recorded.effect !== "neutral";
      if (recorded.event.type === "UserErased") this.#keys.drop(recorded.event.userId);
      if (recorded.event.type === "UserRestored") this.#tightenings.recordUserRestored(recorded.event.userId, recorded);
      // Events read again from before a denial was persisted do not lift that later denial.
      if (
        recorded.event.type === "UserRestored" &&
        this.#persisted.recordUserRestored(recorded.event.userId, recorded.epoch)
      )
        this.#retained.delete(userStream(recorded.event.userId));
      const isApart = this.#retained.size > 0 || this.#persisted.isAwaiting;
      if (isApart && this.#next === null && !this.#persisted.hasOpen) this.#release(recorded);
    }
    if (this.#next === null) this.#visibleEpochs = this.#epochs;
    return { touched, decisive, committedAt: events[0]?.recordedAt ?? null };
  }

  /** Starts from the snapshot on this node's own disk. */
  startFrom(snapshot: LoadedSnapshot): void {
    this.#visible = snapshot.projection;
    this.#epochs = snapshot.epochs;
    this.#visibleEpochs = snapshot.epochs;
    this.#visiblePositions = new FactPositions(snapshot.link.position);
    for (const stream of snapshot.retained) this.#retained.add(stream);
    this.#tightenings.forgetUpTo(snapshot.link.position);
  }

  beginRebuild(): void {
    this.#tightenings.leaveHistory(this.#next?.projection ?? null);
    this.#epochs = [];
    this.#next = { projection: new Projection(), positions: new FactPositions(noPosition), base: "genesis" };
  }

  /**
   * Uses a snapshot as the base of the projection being built.
   * @param theirs the epochs of the chain that the node leaves
   */
  rebuildFrom(snapshot: LoadedSnapshot, theirs: readonly EpochMark[]): void {
    const { link, epochs } = snapshot;
    this.#tightenings.keepSurvivors(
      (suspect) => suspect.position <= link.position && sharesLink(epochs, suspect, theirs),
    );
    this.#tightenings.forgetUpTo(link.position);
    for (const stream of snapshot.retained) this.#retained.add(stream);
    this.#epochs = epochs;
    this.#next = { projection: snapshot.projection, positions: new FactPositions(link.position), base: "snapshot" };
  }

  /**
   * The new projection replaces the old one.
   * @param nothingLost whether the new history contains the link of the old projection
   */
  finishRebuild(nothingLost: "nothing lost" | "lost"): LostDenials {
    const next = this.#next?.projection ?? this.#visible;
    const lost = this.#tightenings.finishRebuild(this.#visible, next, nothingLost);
    for (const stream of lost.denied) this.#retained.add(stream);
    this.#releaseDenied(next);
    this.#persisted.awaitSettlement(lost.events);
    if (this.#next !== null) this.#visiblePositions = this.#next.positions;
    this.#visible = next;
    this.#visibleEpochs = this.#epochs;
    this.#next = null;
    return lost;
  }

  #releaseDenied(by: Projection): void {
    for (const stream of this.#retained) if (isDeniedAsLong(by, stream, undefined)) this.#retained.delete(stream);
  }

  /** Drops an extra denial when the surviving log contains the same fact or an operator has lifted it later. */
  #release(recorded: Recorded): void {
    const { effect, event, stream: own } = recorded;
    const stream = event.type === "TighteningReasserted" ? event.subject : own;
    if (effect === "tightens") {
      const { kind, id } = parseStream(stream);
      const since = this.#epochs.at(-1);
      // A suspension that ends by itself settles none: the lost one may have no end. The answer to its report does.
      const isSettled = isDeniedAsLong(this.#visible, stream, undefined);
      if (since !== undefined && isSettled)
        this.#persisted.recordLaterDenial(stream, { link: linkOf(recorded), since });
      if (isSettled) this.#retained.delete(stream);
      if (kind !== "user") return;
      for (const session of this.#visible.sessionsOf(id).map(sessionStream)) {
        if (this.#retained.has(session) && isDenied(this.#visible, session)) this.#retained.delete(session);
      }
    } else if (event.type === "UserRestored") {
      this.#retained.delete(userStream(event.userId)); // the person, not their old sessions
    } else if (event.type === "SessionsExpired") {
      for (const id of event.sessionIds) this.#retained.delete(sessionStream(id));
    }
  }
}
