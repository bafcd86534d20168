/**
 * Log sync: passes deliveries, pages, snapshots and the heads of grants to the follower, and carries out the follower's
 * effects at the right time.
 *
 * - Deliveries are applied as they arrive, without a queue here. The node process passes heavy ones in slices
 *   (event-slices.ts).
 * - Reads from a broker fill gaps. They wait at the head only while the fan-out is down or has missed events, so that
 *   without NATS every event still arrives within a second.
 * - A snapshot is loaded before the first read, before a rebuild, and when the log begins after our position. Meanwhile
 *   the old projection stays visible.
 * - Pure: no timers, no promises. The caller passes the time and asks when the next call is due.
 */
import {
  type Fact,
  type Link,
  type LostTightening,
  type Recorded,
  sameLink,
  unreachable,
  type WrappedKey,
} from "../../events/index.ts";
import { type ChainHistory, historyFrom, locateLink, sharesLink } from "../lease/chain-history.ts";
import type { Grant } from "../wire/messages.ts";
import { type Effect, type Follower, type Input, newFollower, step } from "./follower.ts";
import { KnownHeads } from "./known-heads.ts";
import { type FoldResult, LocalProjection } from "./local-projection.ts";
import type { Delivered, FanoutState, LoadedSnapshot, NodeEffect, ReadAnswer } from "./messages.ts";
import type { PersonKeys } from "./person-keys.ts";
import { type ReadReason, ReadSchedule } from "./read-schedule.ts";

/** The visible projection has changed. */
export type ProjectionMove = FoldResult & Readonly<{ rebuilt: boolean }>;

export type LogSyncOptions = Readonly<{
  keys: PersonKeys;
  random: (size: number) => Uint8Array;
  pollMs: number;
  pageLimit: number;
  /**
   * Whether to use the fan-out's replay buffer while the log is unreachable. For brokers, not for a thousand nodes.
   */
  replays: boolean;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  onMoved: (moved: ProjectionMove, now: number) => void;
  /** The copy is not in the log, or is wrong: the node must permit nothing from it until `onRebuilt`. */
  onRebuilding: (lost: Link) => void;
  onRebuilt: () => void;
  /** Final denials that the log does not contain. */
  onLost: (events: readonly LostTightening[], now: number) => void;
  /** The visible projection has folded in an event. */
  onApplied: (recorded: Recorded) => void;
  onEpoch: () => void;
  /** An invariant was violated; the loop accepts no more input. */
  onBroken: (error: unknown) => void;
}>;

export type LogCounts = Readonly<Record<"deliveries" | "rebuilds" | "reads" | "readFailures" | "snapshots", number>>;

/**
 * What the sync does now; at most one request is in flight. Whether the projection is rebuilt meanwhile is the
 * projection's own state (`LocalProjection.rebuildBase`), because a rebuild lasts through several modes.
 */
type Mode =
  /**
   * Entered: at construction, by `stop`, and when an effect throws. Handles no input and sends nothing.
   * Left: by `start`.
   */
  | Fact<"stopped", unknown>
  /**
   * Entered: when no broker could answer whether it has a first snapshot. Applies what links to the empty copy, but
   * sends no read, since a snapshot would make it unnecessary.
   * Left: for `loadingSnapshot` at the next poll.
   */
  | Fact<"starting", unknown>
  /**
   * Entered: at a start without a snapshot on this disk (`start`), when a rebuild begins (`rebuild`), and when a read
   * found that the log begins after our position (`truncated`). Deliveries are applied, but no read is sent.
   * Left: for `following` with the snapshot, or without one if the log can be read instead; for `starting` when a
   * first snapshot fails to load; for another `loadingSnapshot` when a rebuild begins.
   * `until`: when to give up, ms.
   */
  | Fact<"loadingSnapshot", { id: number; why: SnapshotReason; until: number }>
  /**
   * Entered: when a scheduled read is due. Deliveries are applied meanwhile.
   * Left: for `following` when the read is answered, fails, or passes `until`, and when a rebuild makes its answer
   * useless.
   * `at`: when it was sent, ms. `waitMs`: how long the broker may hold it open at the head.
   */
  | Fact<"reading", { id: number; at: number; waitMs: number; until: number }>
  /**
   * Entered: at a start from a snapshot on this disk, and after each request. Applies deliveries; nothing is in
   * flight, but a read or a poll may be scheduled.
   * Left: for `reading` when that is due, and for `loadingSnapshot` on a rebuild or a truncated log.
   */
  | Fact<"following", unknown>;
type SnapshotReason = "start" | "rebuild" | "truncated";

/** The timeout of a read, in addition to its wait at the head. */
const readGraceMs = 10_000;
const loadMsMax = 120_000;
const fanoutSpreadMs = { down: 400, up: 500 };
/** For this long the node also polls, after a read brought events that the fan-out had missed. */
const doubtMs = 10_000;
const never = Number.POSITIVE_INFINITY;
const replayMs = { every: 5_000, since: 60_000 };

export class LogSync {
  readonly copy: LocalProjection;
  readonly #options: LogSyncOptions;
  readonly #schedule: ReadSchedule;
  readonly #inputs: Input[] = [];
  #follower: Follower = newFollower;
  #visible: ChainHistory = newFollower.history;
  #mode: Mode = { type: "stopped" };
  #now = 0;
  #fanout: FanoutState = "none";
  #doubtUntil = Number.NEGATIVE_INFINITY;
  #lastReadMs = 0;
  #reason: ReadReason = "asked";
  /** The snapshot that the follower is about to adopt. `sound`: its history contains our applied link. */
  #arrived: Readonly<{ snapshot: LoadedSnapshot; sound: boolean }> | null = null;
  #replayedAt = Number.NEGATIVE_INFINITY;
  #caughtUp = false;
  readonly #heads = new KnownHeads();
  #grantedHead: Link | null = null;
  readonly #counts = { deliveries: 0, rebuilds: 0, reads: 0, readFailures: 0, snapshots: 0 };

  constructor(options: LogSyncOptions) {
    this.#options = options;
    this.copy = new LocalProjection(options.keys, options.onApplied);
    this.#schedule = new ReadSchedule(options.random);
  }

  /** The history of the visible projection. */
  get history(): ChainHistory {
    return this.#visible;
  }
  get epoch(): Follower["epoch"] {
    return this.#follower.epoch;
  }
  get caughtUp(): boolean {
    return this.#caughtUp;
  }
  get truncated(): boolean {
    return this.#follower.truncated !== null;
  }
  get knownHead(): number {
    return this.#heads.head;
  }
  /** Since when (ms) the log is known to have what the visible projection lacks; null: it is not known to. */
  get behindSince(): number | null {
    return this.#heads.since(this.copy.projection.applied.position);
  }
  get counts(): LogCounts {
    return this.#counts;
  }
  get due(): number {
    switch (this.#mode.type) {
      case "stopped":
        return never;
      case "starting":
        return this.#schedule.pollAt;
      case "loadingSnapshot":
      case "reading":
        return this.#mode.until;
      case "following": {
        const { sendAt, pollAt } = this.#schedule;
        return this.#follower.reading === null ? pollAt : Math.min(sendAt, pollAt);
      }
      default:
        return unreachable(this.#mode);
    }
  }

  /** Whether a link is already applied in the followed history, so that its delivery need not be decoded. */
  hasApplied(link: Link): boolean {
    return link.position <= this.#follower.history.applied.position;
  }

  start(options: Readonly<{ snapshot: LoadedSnapshot | null; fanout: FanoutState }>, now: number): void {
    this.#now = now;
    this.#fanout = options.fanout;
    if (options.snapshot === null) {
      this.#loadSnapshot("start");
      return;
    }
    this.#mode = { type: "following" };
    this.#addKeys(options.snapshot.keys);
    this.copy.startFrom(options.snapshot);
    this.#arrived = { snapshot: options.snapshot, sound: true };
    this.#enqueue({ type: "snapshotLoaded", history: historyFrom(options.snapshot.link, options.snapshot.epochs) });
    this.#sendDue();
  }

  stop(): void {
    const mode = this.#mode;
    this.#mode = { type: "stopped" };
    if (mode.type === "reading" || mode.type === "loadingSnapshot") this.#options.emit({ type: "cancel", id: mode.id });
  }

  onDelivery(batch: Delivered, now: number): void {
    this.#now = now;
    this.#counts.deliveries += 1;
    if (batch.events.length > 0) this.#addKeys(batch.keys);
    this.#noteHead(batch.last);
    this.#reason = "gap";
    const before = this.#follower.history.applied.position;
    this.#enqueue({ type: "delivery", batch });
    const { applied } = this.#follower.history;
    if (batch.last.position >= applied.position) this.#doubtUntil = Number.NEGATIVE_INFINITY;
    // It linked to `applied`, so no event before it was missed.
    if (applied.position > before && this.#caughtUp && !this.#mustPoll() && !this.#isBehind())
      this.#schedule.stopPolling();
    this.#sendDue();
  }

  /** An authenticated grant for this boot. */
  onGrant({ epoch, incarnation, start, head }: Grant, now: number): void {
    this.#now = now;
    if (epoch >= this.#follower.epoch) this.#noteHead(head);
    this.#schedule.brokersAnswer(now);
    this.#reason = "granted";
    this.#grantedHead = head;
    this.copy.answers.granted(head);
    this.#enqueue({ type: "granted", epoch, incarnation, start, head });
    this.#settlePersistedDenials();
    this.#sendDue();
  }

  /** A caller waits for more events. */
  requestRead(now: number): void {
    this.#now = now;
    this.#reason = "asked";
    this.#enqueue({ type: "readRequested" });
    this.#schedule.expedite(now);
    this.#sendDue();
  }

  /** The leader found that our projection differs from its own at the same link. */
  rebuildProjection(now: number): void {
    this.#now = now;
    this.#enqueue({ type: "projectionWrong" });
    this.#sendDue();
  }

  onFanoutChanged(fanout: FanoutState, now: number): void {
    this.#now = now;
    this.#fanout = fanout;
    // Deliveries may have been missed until now, which stays unknown until the first delivery links.
    if (this.#mayRead() && fanout !== "none") this.#schedule.pollWithin(fanoutSpreadMs[fanout], now);
  }

  wake(now: number): void {
    this.#now = now;
    const mode = this.#mode;
    if (mode.type === "reading" && now >= mode.until)
      this.#giveUpRead(mode.id, `no answer within ${Math.round(now - mode.at)} ms`);
    if (mode.type === "loadingSnapshot" && now >= mode.until) {
      this.#options.emit({ type: "cancel", id: mode.id });
      this.onSnapshotFailed({ id: mode.id, reason: "unavailable" }, now);
    }
    this.#sendDue();
  }

  /** Checks whether the fan-out still delivers; called a few times a second. */
  tick(now: number): void {
    this.#now = now;
    const idle = this.#mayRead() && this.#follower.reading === null && this.#schedule.pollAt === never;
    if (idle && this.#mustPoll() && this.#schedule.failures === 0) this.#schedule.pollWithin(0, now);
    this.#sendDue();
  }

  onReadAnswer({ id, answer }: Readonly<{ id: number; answer: ReadAnswer }>, now: number): void {
    if (this.#mode.type !== "reading" || this.#mode.id !== id) return;
    this.#now = now;
    const { waitMs, at } = this.#mode;
    this.#mode = { type: "following" };
    this.#lastReadMs = now - at;
    const before = this.#follower.history.applied.position;
    if (answer.type === "page") {
      this.#schedule.recordAnswer();
      this.#addKeys(answer.keys);
      this.#noteHead(answer.head);
    } else {
      this.#readFailed(answer);
    }
    this.#reason = "more";
    this.#enqueue(answer.type === "failed" ? { type: "readFailed" } : answer);
    if (answer.type === "page") {
      const brought = this.#follower.history.applied.position > before;
      if (brought && this.#fanout === "up") this.#doubtUntil = now + doubtMs;
      if (!this.copy.rebuilding) this.#caughtUp ||= this.copy.projection.applied.position >= answer.head.position;
      const heldOpen = this.#lastReadMs >= waitMs / 2;
      if (this.#follower.reading === null && this.#mustPoll())
        this.#schedule.pollAtHead(now, { tookMs: this.#lastReadMs, brought, heldOpen });
    } else if (this.#follower.reading === null) this.#pollLater();
    if (this.truncated && this.#isIn("following")) this.#loadSnapshot("truncated");
    this.#sendDue();
  }

  onSnapshotLoaded({ id, snapshot }: Readonly<{ id: number; snapshot: LoadedSnapshot }>, now: number): void {
    if (this.#mode.type !== "loadingSnapshot" || this.#mode.id !== id) return;
    const { why } = this.#mode;
    const { link, projection, epochs } = snapshot;
    const { history } = this.#follower;
    const consistent = sameLink(projection.applied, link) && epochs.at(-1)?.epoch === link.epoch;
    if (!consistent || (why === "truncated" && link.position <= history.applied.position)) {
      this.onSnapshotFailed({ id, reason: "unavailable" }, now);
      return;
    }
    this.#now = now;
    this.#mode = { type: "following" };
    this.#counts.snapshots += 1;
    this.#schedule.recordAnswer();
    this.#addKeys(snapshot.keys);
    const sound = sharesLink(epochs, history.applied, history.epochs);
    this.#arrived = { snapshot, sound };
    this.#enqueue({ type: "snapshotLoaded", history: historyFrom(link, epochs) });
    this.#abandonRead();
    this.#sendDue();
  }

  onSnapshotFailed({ id, reason }: Readonly<{ id: number; reason: "none" | "unavailable" }>, now: number): void {
    if (this.#mode.type !== "loadingSnapshot" || this.#mode.id !== id) return;
    this.#now = now;
    const { why } = this.#mode;
    if (why === "start" && reason === "unavailable") {
      this.#mode = { type: "starting" };
      this.#schedule.recordFailure(now);
      this.#pollLater();
    } else if (why === "truncated") {
      // A broker without a recent snapshot may have one by the next read that finds the log truncated.
      this.#mode = { type: "following" };
      this.#pollLater();
    } else {
      this.#mode = { type: "following" };
      this.#enqueue({ type: "readRequested" });
    }
    this.#sendDue();
  }

  /** Handles one input at a time; inputs caused meanwhile follow right after it. */
  #enqueue(input: Input): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    for (let next = this.#inputs[0]; next !== undefined; next = this.#inputs[0]) {
      if (!this.#isIn("stopped")) this.#handle(next);
      this.#inputs.shift();
    }
  }

  #handle(input: Input): void {
    const before = this.#follower.epoch;
    const [next, effects] = step(this.#follower, input);
    this.#follower = next;
    if (next.epoch !== before) this.#options.onEpoch();
    try {
      for (const effect of effects) this.#perform(effect);
    } catch (error) {
      this.stop();
      this.#options.onBroken(error);
    }
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "read":
        this.#schedule.scheduleRead(this.#reason, this.#now, this.#lastReadMs);
        return;
      case "apply": {
        const folded = this.copy.fold(effect.events);
        if (!this.copy.rebuilding) this.#publish({ ...folded, rebuilt: false });
        return;
      }
      case "rebuild":
        this.#rebuild(effect.lost);
        return;
      case "adopt":
        this.#adoptSnapshot();
        return;
      case "rebuilt":
        this.#finishRebuild(effect.lost);
    }
  }

  #rebuild(lost: Link): void {
    // A second rebuild during one that began from a snapshot: that snapshot is of a lost history too.
    const another = this.copy.rebuildBase === "snapshot";
    this.#counts.rebuilds += 1;
    this.#heads.reset();
    this.#options.onRebuilding(lost);
    this.copy.beginRebuild();
    this.#abandonRead();
    if (!another && this.#mayRead()) this.#loadSnapshot("rebuild");
  }

  #adoptSnapshot(): void {
    const arrived = this.#arrived;
    if (arrived === null) return;
    this.#arrived = null;
    const { snapshot, sound } = arrived;
    if (this.copy.rebuilding) {
      this.copy.rebuildFrom(snapshot, this.#visible.epochs);
      return;
    }
    if (snapshot.projection !== this.copy.projection) {
      // The copy is behind retention or empty. The snapshot is ahead of it, so the visible projection never moves back.
      if (!sound) this.#options.onRebuilding(this.#visible.applied);
      this.copy.beginRebuild();
      this.copy.rebuildFrom(snapshot, this.#visible.epochs);
      const { events } = this.copy.finishRebuild(sound ? "nothing lost" : "lost");
      this.#options.onLost(events, this.#now);
    }
    this.#publish({ touched: [], decisive: true, rebuilt: true, committedAt: null });
    if (!sound) this.#options.onRebuilt();
  }

  #finishRebuild(lost: Link): void {
    const { history } = this.#follower;
    const place = locateLink(history, lost);
    const nothingLost =
      place === "onChain" || (place === "unknown" && sharesLink(history.epochs, lost, this.#visible.epochs));
    const { events, denied } = this.copy.finishRebuild(nothingLost ? "nothing lost" : "lost");
    this.#publish({ touched: [], decisive: true, rebuilt: true, committedAt: null });
    this.#options.onRebuilt();
    this.#options.onLost(events, this.#now);
    this.#log("error", "rebuilt the projection; denials that the log has lost stay in force here", {
      from: lost,
      to: history.applied,
      denied: denied.size,
    });
  }

  #publish(moved: ProjectionMove): void {
    this.#visible = this.#follower.history;
    this.#settlePersistedDenials();
    this.#options.onMoved(moved, this.#now);
  }

  /** Settles persisted denials: at the head of a grant the node knows what the log contains. */
  #settlePersistedDenials(): void {
    this.copy.settleAnswered(this.#visible);
    if (this.#grantedHead === null || !this.copy.hasUnsettled) return;
    if (locateLink(this.#visible, this.#grantedHead) !== "onChain") return;
    const lost = this.copy.settlePersisted(this.#visible);
    if (lost === null || lost.events.length === 0) return;
    this.#options.onLost(lost.events, this.#now);
    const problem = "the log has lost denials that this node has on disk; they stay in force here";
    this.#log("error", problem, { denied: lost.denied.size });
  }

  /** Cancels the pending read, because its answer no longer matters. */
  #abandonRead(): void {
    if (this.#mode.type === "reading") {
      this.#options.emit({ type: "cancel", id: this.#mode.id });
      this.#mode = { type: "following" };
    }
    if (this.#follower.reading?.stale !== true) return;
    this.#schedule.cancelRead();
    this.#enqueue({ type: "readFailed" });
  }

  #giveUpRead(id: number, why: string): void {
    this.#options.emit({ type: "cancel", id });
    this.onReadAnswer({ id, answer: { type: "failed", error: new Error(why) } }, this.#now);
  }

  #readFailed(answer: Exclude<ReadAnswer, { type: "page" }>): void {
    this.#schedule.recordFailure(this.#now);
    const inARow = this.#schedule.failures;
    if (answer.type === "failed") {
      this.#counts.readFailures += 1;
      const level = Number.isInteger(Math.log2(inARow)) ? "warn" : "debug";
      this.#log(level, "a read from the brokers failed", { err: answer.error, inARow });
    } else if (answer.type === "truncated" && !this.truncated) {
      this.#log("error", "the log begins after this node's position", { first: answer.first });
    }
    this.#replay();
  }

  #pollLater(): void {
    if (this.#mustPoll() || this.#isBehind() || !this.#caughtUp || this.copy.rebuilding || this.truncated)
      this.#schedule.pollAfterFailure();
  }

  /** Sends the request that is due, unless one is in flight: its answer may make the next one unnecessary. */
  #sendDue(): void {
    if (this.#isIn("starting")) this.#retryStart();
    if (!this.#isIn("following")) return;
    if (this.#schedule.takePoll(this.#now)) {
      this.#reason = "asked";
      this.#enqueue({ type: "readRequested" });
    }
    if (this.#isIn("following") && this.#follower.reading !== null && this.#schedule.takeRead(this.#now))
      this.#sendRead();
  }

  /** No read is sent in this mode, not even one that a delivery requested, so a poll must be scheduled. */
  #retryStart(): void {
    if (this.#schedule.pollAt === never) this.#schedule.pollAfterFailure();
    if (!this.#schedule.takePoll(this.#now)) return;
    this.#reason = "asked";
    this.#loadSnapshot("start");
  }

  #sendRead(): void {
    const waitMs = this.#mustPoll() || this.#isBehind() ? this.#options.pollMs : 0;
    const id = this.#options.nextId();
    this.#counts.reads += 1;
    this.#mode = { type: "reading", id, at: this.#now, waitMs, until: this.#now + waitMs + readGraceMs };
    const after = this.#follower.history.applied;
    this.#options.emit({ type: "read", id, after, limit: this.#options.pageLimit, waitMs });
  }

  #loadSnapshot(why: SnapshotReason): void {
    if (this.#mode.type === "loadingSnapshot") this.#options.emit({ type: "cancel", id: this.#mode.id });
    const id = this.#options.nextId();
    this.#mode = { type: "loadingSnapshot", id, why, until: this.#now + loadMsMax };
    this.#options.emit({ type: "loadSnapshot", id, first: this.#follower.truncated?.first ?? null });
  }

  #isIn(mode: Mode["type"]): boolean {
    return this.#mode.type === mode;
  }

  /** Whether the copy may be read forward: the question for a first snapshot has been answered. */
  #mayRead(): boolean {
    const mode = this.#mode;
    return (
      mode.type === "following" || mode.type === "reading" || (mode.type === "loadingSnapshot" && mode.why !== "start")
    );
  }

  #addKeys(arrived: readonly WrappedKey[]): void {
    if (arrived.length > 0) this.#options.keys.add(arrived.filter((key) => !this.copy.isErased(key.userId)));
  }

  #noteHead(link: Link): void {
    this.#heads.note(link.position, { applied: this.copy.projection.applied.position, now: this.#now });
  }

  #isBehind(): boolean {
    return this.#heads.head > this.#follower.history.applied.position;
  }

  /** Whether to poll, because the fan-out is not up or has missed events. */
  #mustPoll(): boolean {
    return this.#fanout !== "up" || this.#now < this.#doubtUntil;
  }

  #replay(): void {
    if (!this.#options.replays || this.#fanout !== "up" || this.#now - this.#replayedAt < replayMs.every) return;
    this.#replayedAt = this.#now;
    this.#options.emit({ type: "replay", sinceMs: replayMs.since, timeoutMs: replayMs.every });
  }

  #log(level: "debug" | "info" | "warn" | "error", message: string, fields: object): void {
    this.#options.emit({ type: "log", level, message, fields });
  }
}
