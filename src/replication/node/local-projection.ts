/**
 * Local projection: the projection that this process decides from, and what is kept beside it.
 *
 * While it is rebuilt, the old projection stays visible and goes on denying; the new one takes its place only at the
 * head of the log. Denials of a lost suffix stay in force beside it, outside the digest, until the surviving log holds
 * the same fact. Pure: no I/O; changes only when told.
 */
import {
  FactPositions,
  linkOf,
  type Position,
  Projection,
  parseStream,
  type Recorded,
  type SessionId,
  type Stream,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import { type ChainHistory, type EpochMark, sharesLink, withEpoch } from "../lease/chain-history.ts";
import { type DenialsOnDisk, type PersistedDenial, PersistedDenials } from "./denials/persisted-denials.ts";
import { ReassertionAnswers } from "./denials/reassertion-answers.ts";
import { isDenied, type LostDenials, sessionsEndedBy, Tightenings } from "./denials/tightenings.ts";
import type { LoadedSnapshot } from "./messages.ts";
import type { PersonKeys } from "./person-keys.ts";

/** What a fold has changed. `decisive`: a decision may fall differently. */
export type FoldResult = Readonly<{
  touched: readonly (readonly Stream[])[];
  decisive: boolean;
  /** When the oldest of the events was recorded. Null: there were none. */
  committedAt: UnixMs | null;
}>;

export class LocalProjection {
  readonly #keys: PersonKeys;
  readonly #tightenings = new Tightenings();
  readonly #retained = new Set<Stream>();
  readonly #persisted = new PersistedDenials();
  /** Of brokers, to denials that were handed back. */
  readonly answers = new ReassertionAnswers();
  /** The epochs of the history that events are folded from, up to the newest event. */
  #epochs: readonly EpochMark[] = [];
  #visibleEpochs: readonly EpochMark[] = [];
  #visible = new Projection();
  #next: Projection | null = null;
  #visiblePositions = new FactPositions(0 as Position);
  #nextPositions = new FactPositions(0 as Position);

  constructor(keys: PersonKeys) {
    this.#keys = keys;
  }

  get projection(): Projection {
    return this.#visible;
  }
  /** Where the log said what `projection` holds. */
  get places(): FactPositions {
    return this.#visiblePositions;
  }
  get rebuilding(): boolean {
    return this.#next !== null;
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
    const session = kind === "session" ? this.#visible.session(id as SessionId) : undefined;
    return session?.status === "active" && this.#persisted.mayDenySession(session, visible);
  }
  /** Grows with every final denial that is folded in, and with every one that is settled. */
  get tightened(): number {
    return this.#persisted.count;
  }

  /** What a disk should remember of final denials, oldest first. */
  denialsToPersist(): readonly PersistedDenial[] {
    return this.#persisted.newest();
  }

  /** What this node's own disk remembers of denials is in force before anything is read. */
  restoreDenials({ retained, denials }: DenialsOnDisk): void {
    // Whether a denied person is still denied follows from the denial: the log may have settled it meanwhile.
    const people = new Set(denials.filter(({ type }) => type !== "UserSessionsRevoked").map(({ stream }) => stream));
    for (const stream of retained)
      if (parseStream(stream).kind !== "user" || !people.has(stream)) this.#retained.add(stream);
    this.#persisted.restore(denials);
  }

  /** The head of a grant has been reached: what the log does not hold of what the disk remembers is lost. */
  settlePersisted(history: ChainHistory): LostDenials | null {
    if (!this.#persisted.hasOpen || this.#next !== null) return null;
    const lost = this.#persisted.settle(history, this.#visible);
    for (const stream of lost.denied) this.#retained.add(stream);
    this.#releaseDenied(this.#visible);
    return lost;
  }

  /**
   * What the surviving log has the last word on, from a place on that is applied here, is not denied beside it any
   * more.
   */
  settleAnswered(visible: ChainHistory): void {
    for (const [hash, at] of this.answers.takeReached(visible)) {
      const person = this.#persisted.recordSettlement(hash, at);
      if (person !== null) this.#retained.delete(person);
    }
  }

  /** Whether a person's key may still be kept: never again once the projection holds their erasure. */
  isErased(userId: UserId): boolean {
    return (this.#next ?? this.#visible).user(userId)?.status === "erased";
  }

  /** Folds events in, in order. Nothing is visible of it while the copy is being rebuilt. */
  fold(events: readonly Recorded[]): FoldResult {
    const projection = this.#next ?? this.#visible;
    const places = this.#next === null ? this.#visiblePositions : this.#nextPositions;
    const touched: (readonly Stream[])[] = [];
    let decisive = false;
    for (const recorded of events) {
      this.#epochs = withEpoch(this.#epochs, recorded);
      const standing = sessionsEndedBy(recorded, projection);
      touched.push(projection.apply(recorded));
      places.record(recorded);
      this.#tightenings.remember(recorded);
      this.#persisted.remember(
        recorded,
        standing.filter((id) => isDenied(projection, sessionStream(id))),
        this.#epochs,
      );
      decisive ||= recorded.effect !== "neutral";
      if (recorded.event.type === "UserErased") this.#keys.drop(recorded.event.userId);
      if (recorded.event.type === "UserRestored") this.#tightenings.recordUserRestored(recorded.event.userId, recorded);
      // What is read again from before they were written down lifts nothing that was denied later.
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

  /** What this node's own disk holds is where it begins. */
  startFrom(snapshot: LoadedSnapshot): void {
    this.#visible = snapshot.projection;
    this.#epochs = snapshot.epochs;
    this.#visibleEpochs = snapshot.epochs;
    this.#visiblePositions = new FactPositions(snapshot.link.position);
    for (const stream of snapshot.retained) this.#retained.add(stream);
    this.#tightenings.forgetUpTo(snapshot.link.position);
  }

  beginRebuild(): void {
    this.#tightenings.leaveHistory(this.#next);
    this.#next = new Projection();
    this.#epochs = [];
    this.#nextPositions = new FactPositions(0 as Position);
  }

  /**
   * A snapshot is the base of the projection that is being built.
   * @param theirs the epochs of the chain that is being left
   */
  rebuildFrom(snapshot: LoadedSnapshot, theirs: readonly EpochMark[]): void {
    const { link, epochs } = snapshot;
    this.#tightenings.keepSurvivors(
      (suspect) => suspect.position <= link.position && sharesLink(epochs, suspect, theirs),
    );
    this.#tightenings.forgetUpTo(link.position);
    for (const stream of snapshot.retained) this.#retained.add(stream);
    this.#next = snapshot.projection;
    this.#epochs = epochs;
    this.#nextPositions = new FactPositions(link.position);
  }

  /**
   * The new projection takes the old one's place.
   * @param nothingLost its history goes through the place where the old one stands
   */
  finishRebuild(nothingLost: "nothing lost" | "lost"): LostDenials {
    const next = this.#next ?? this.#visible;
    const lost = this.#tightenings.finishRebuild(this.#visible, next, nothingLost);
    for (const stream of lost.denied) this.#retained.add(stream);
    this.#releaseDenied(next);
    this.#persisted.awaitSettlement(lost.events);
    if (this.#next !== null) this.#visiblePositions = this.#nextPositions;
    this.#visible = next;
    this.#visibleEpochs = this.#epochs;
    this.#next = null;
    return lost;
  }

  #releaseDenied(by: Projection): void {
    for (const stream of this.#retained) if (isDenied(by, stream)) this.#retained.delete(stream);
  }

  /** The surviving log says the same, or an operator's later word lifts it: then it need not be kept apart. */
  #release(recorded: Recorded): void {
    const { effect, event, stream: own } = recorded;
    const stream = event.type === "TighteningReasserted" ? event.subject : own;
    if (effect === "tightens") {
      const { kind, id } = parseStream(stream);
      const since = this.#epochs.at(-1);
      if (since !== undefined && isDenied(this.#visible, stream))
        this.#persisted.recordLaterDenial(stream, { link: linkOf(recorded), since });
      if (isDenied(this.#visible, stream)) this.#retained.delete(stream);
      if (kind !== "user") return;
      for (const session of this.#visible.sessionsOf(id as UserId).map(sessionStream)) {
        if (this.#retained.has(session) && isDenied(this.#visible, session)) this.#retained.delete(session);
      }
    } else if (event.type === "UserRestored") {
      this.#retained.delete(userStream(event.userId)); // the person, not their old sessions
    } else if (event.type === "SessionsExpired") {
      for (const id of event.sessionIds) this.#retained.delete(sessionStream(id));
    }
  }
}
