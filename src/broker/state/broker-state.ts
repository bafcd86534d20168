/**
 * Broker state: a broker's own folded copy of the log. Commands are performed against it, and a standby keeps it warm.
 * No I/O.
 *
 * It has the projection with the history of its chain, the newest events as bytes for readers, and what commands need
 * beside the projection: stream versions, and the configuration of each node. All of it is at or below the durable
 * horizon: a leader folds only clean commits, and the log shows a standby nothing else.
 */
import {
  type ConfigHash,
  decodeEvents,
  type Epoch,
  eventPages,
  type Incarnation,
  type Link,
  type LostTightening,
  type NeededLink,
  type NodeId,
  type Position,
  Projection,
  parseSessionId,
  parseStream,
  previousPosition,
  type Recorded,
  readsLevel,
  type StoredConfiguration,
  type Stream,
  type UserId,
} from "../../events/index.ts";
import {
  type ChainHistory,
  type EpochMark,
  emptyHistory,
  extendHistory,
  incarnationOf,
  type LinkLocation,
  locateLink,
  mayHold,
  sharesLink,
} from "../../replication/lease/index.ts";
import type { LogEntry, LogPage } from "../../replication/log/index.ts";
import { type LoadedSnapshot, type Savepoint, Tightenings } from "../../replication/node/index.ts";
import { createGrowingCache } from "./growing-cache.ts";

const versionsMax = 200_000;
const configsMax = 10_000;
const bodiesMax = 1_000;
const restoredMax = 100_000;
const digestsMax = 1_024;
const recentMax = 4_096;
const recentBytesMax = 4_000_000;
const pageBytesMax = 1_000_000;

export class BrokerState {
  #projection = new Projection();
  #history: ChainHistory = emptyHistory;
  readonly #versions = createGrowingCache<Stream, number>(versionsMax);
  readonly #configs = createGrowingCache<NodeId, ConfigHash>(configsMax);
  /** Nodes that activated a configuration, in lost histories too. */
  readonly #knownNodes = createGrowingCache<NodeId, true>(configsMax);
  readonly #bodies = createGrowingCache<ConfigHash, true>(bodiesMax);
  /** The epoch in which a person was last restored. */
  readonly #restored = createGrowingCache<UserId, Epoch>(restoredMax);
  /** The projection's digest at the ends of batches and pages. */
  readonly #digests = createGrowingCache<Position, string>(digestsMax);
  #recent: Readonly<{ link: Link; bytes: Uint8Array }>[] = [];
  #recentBytes = 0;
  #restarts = 0;
  readonly #tightenings = new Tightenings();
  /** The state of an abandoned history, until the new one is read to its head. */
  #abandoned: Readonly<{ projection: Projection; epochs: readonly EpochMark[] }> | null = null;
  readonly #reads: number;
  readonly #recentMax: number;

  /**
   * @param bounds `reads`: the level up to which this build can read; `recentEventsMax`: events kept as bytes for
   * readers
   */
  constructor(bounds: Readonly<{ reads?: number; recentEventsMax?: number }> = {}) {
    this.#reads = bounds.reads ?? readsLevel;
    this.#recentMax = bounds.recentEventsMax ?? recentMax;
  }

  get projection(): Projection {
    return this.#projection;
  }
  get applied(): Link {
    return this.#history.applied;
  }
  /** Why nothing may be concluded from this state: this build cannot read all of it. Null: it can. */
  get unreadable(): string | null {
    const { degraded, level } = this.#projection;
    if (level > this.#reads)
      return `the cluster has finalized level ${level}, and this build reads level ${this.#reads}`;
    return degraded === undefined ? null : `this build does not know the event ${degraded}`;
  }

  get knownNodes(): Iterable<NodeId> {
    return this.#knownNodes.keys();
  }

  /** Folds the events right after `applied`. @throws OutOfOrderError, MalformedEventError otherwise */
  fold(entries: readonly LogEntry[]): readonly Recorded[] {
    const events = entries.map(({ recorded }) => recorded);
    for (const { recorded, bytes } of entries) {
      this.#projection.apply(recorded);
      this.#tightenings.remember(recorded);
      if (recorded.event.type === "UserRestored") this.#tightenings.recordUserRestored(recorded.event.userId, recorded);
      this.#versions.set(recorded.stream, recorded.version);
      if (recorded.event.type === "ConfigurationActivated") {
        this.#configs.set(recorded.event.nodeId, recorded.event.configHash);
        this.#knownNodes.set(recorded.event.nodeId, true);
      }
      if (recorded.event.type === "UserRestored") this.#restored.set(recorded.event.userId, recorded.epoch);
      const { epoch, position, hash } = recorded;
      this.#recent.push({ link: { epoch, position, hash }, bytes });
      this.#recentBytes += bytes.length;
    }
    this.#history = extendHistory(this.#history, events);
    this.#digests.set(this.applied.position, this.#projection.digest());
    this.#trimRecent();
    return events;
  }

  /** Folds a page that was read after `applied`. */
  foldPage(page: LogPage): readonly Recorded[] {
    const events = decodeEvents(page.entries, this.applied);
    // A driver may return an event in a buffer that holds more than events, all of which would be kept.
    const copies = page.entries.map((bytes) => eventPages.copy(bytes));
    return this.fold(events.flatMap((recorded, at) => ({ recorded, bytes: copies[at] ?? new Uint8Array() })));
  }

  /** How often the state was reset. */
  get restarts(): number {
    return this.#restarts;
  }
  /** The content of a snapshot. The projection stays the state's own: read it before the next fold. */
  savepoint(): Savepoint {
    return { projection: this.#projection, link: this.applied, epochs: this.#history.epochs, retained: new Set() };
  }

  /** Continues from a verified snapshot: the log begins after our position. */
  load({ projection, link, epochs }: Pick<LoadedSnapshot, "projection" | "link" | "epochs">): void {
    this.reset();
    const abandonedEpochs = this.#abandoned?.epochs ?? [];
    this.#tightenings.keepSurvivors(
      (suspect) => suspect.position <= link.position && sharesLink(epochs, suspect, abandonedEpochs),
    );
    this.#tightenings.forgetUpTo(link.position);
    this.#projection = projection;
    this.#history = { ...emptyHistory, applied: link, epochs };
  }

  /** Restarts from nothing: the folded events are not in the log. */
  reset(): void {
    this.#restarts += 1;
    this.#tightenings.leaveHistory(this.#abandoned === null ? null : this.#projection);
    this.#abandoned ??= { projection: this.#projection, epochs: this.#history.epochs };
    this.#projection = new Projection();
    this.#history = emptyHistory;
    this.#versions.clear();
    this.#configs.clear();
    this.#bodies.clear();
    this.#restored.clear();
    this.#digests.clear();
    this.#recent = [];
    this.#recentBytes = 0;
  }

  /**
   * Call it when the log is read to its head: then it is known what an abandoned history has lost.
   * @returns the final denials that were folded here and that the log has lost
   */
  takeLost(): readonly LostTightening[] {
    const abandoned = this.#abandoned;
    if (abandoned === null) return [];
    this.#abandoned = null;
    return this.#tightenings.finishRebuild(abandoned.projection, this.#projection, "lost").events;
  }

  /** The epochs of its chain, oldest first. */
  get epochs(): readonly EpochMark[] {
    return this.#history.epochs;
  }

  /** Undefined: not known, or the link is on another chain. */
  incarnationOf(link: Link): Incarnation | undefined {
    return incarnationOf(this.#history, link);
  }

  locate(link: Link): LinkLocation {
    return locateLink(this.#history, link);
  }
  mayHold(link: NeededLink): boolean {
    return mayHold(this.#history, link);
  }
  /** The last position that was written in this epoch or before it. */
  endOfEpoch(epoch: Epoch): Position {
    const next = this.#history.epochs.find((mark) => mark.epoch > epoch);
    return next === undefined ? this.applied.position : previousPosition(next.start);
  }
  /** True if the person was restored in a later epoch than this one. */
  restoredAfter(userId: UserId, epoch: Epoch): boolean {
    return (this.#restored.get(userId) ?? 0) > epoch;
  }
  /** Undefined: no digest is remembered for this position. */
  digestAt(position: Position): string | undefined {
    return this.#digests.get(position);
  }
  configOf(nodeId: NodeId): ConfigHash | undefined {
    return this.#configs.get(nodeId);
  }

  /** True if this process knows that the store has the body of a configuration. */
  hasBody(configHash: ConfigHash): boolean {
    return this.#bodies.get(configHash) === true;
  }
  learnBodies(stored: readonly StoredConfiguration[]): void {
    for (const { configHash } of stored) this.#bodies.set(configHash, true);
  }

  /** Undefined: ask the log. The stream of an unknown session counts as new; the log checks. */
  versionOf(stream: Stream): number | undefined {
    return this.#versions.get(stream) ?? (this.#isUnknownSession(stream) ? 0 : undefined);
  }
  learnVersion(stream: Stream, version: number): void {
    this.#versions.set(stream, version);
  }

  /** The page after a link, if memory has all of it; undefined: read the log. */
  recent(after: Link, limit: number): LogPage | undefined {
    const applied = this.applied;
    if (this.locate(after) !== "onChain") return undefined;
    if (after.position === applied.position) return { previous: after, entries: [], last: after, head: applied };
    const first = this.#recent[0];
    if (first === undefined || first.link.position > after.position + 1) return undefined;
    const entries: Uint8Array[] = [];
    let bytes = 0;
    let last = after;
    const start = after.position + 1 - first.link.position;
    for (const event of this.#recent.slice(start, start + Math.max(1, limit))) {
      bytes += event.bytes.length;
      if (bytes > pageBytesMax && entries.length > 0) break;
      entries.push(event.bytes);
      last = event.link;
    }
    return { previous: after, entries, last, head: applied };
  }

  #isUnknownSession(stream: Stream): boolean {
    const { kind, id } = parseStream(stream);
    return kind === "session" && this.#projection.session(parseSessionId(id)) === undefined;
  }

  #trimRecent(): void {
    let drop = Math.max(0, this.#recent.length - this.#recentMax);
    let bytes = this.#recentBytes;
    for (const event of this.#recent.slice(0, drop)) bytes -= event.bytes.length;
    while (bytes > recentBytesMax && drop < this.#recent.length - 1) {
      bytes -= this.#recent[drop]?.bytes.length ?? 0;
      drop += 1;
    }
    if (drop < this.#recentMax / 16 && bytes <= 2 * recentBytesMax) return; // not worth a copy yet
    this.#recent = this.#recent.slice(drop);
    this.#recentBytes = bytes;
  }
}
