/**
 * Log sync: carries deliveries, pages, snapshots and the heads of grants to the follower, and turns what it asks for into
 * effects at the right time.
 *
 * Deliveries are stepped and applied as they come: there is no queue. Reads from a broker fill gaps; they wait at the head
 * only while the fan-out is not there or has been found wanting, so that without NATS everything still arrives within a
 * second. A snapshot is loaded before the first read, before a rebuild, and when the log begins behind us; meanwhile the old
 * projection stays. Pure: no timers, no promises; it is told the time and says when it is next due.
 */
import { type Link, type LostTightening, sameLink, type WrappedKey } from "../../events/index.ts";
import { type ChainHistory, historyFrom, locateLink, sharesLink } from "../lease/chain-history.ts";
import type { Grant } from "../wire/messages.ts";
import { type Effect, type Follower, type Input, newFollower, step } from "./follower.ts";
import { type Folded, LocalProjection } from "./local-projection.ts";
import type { Delivered, FanoutState, LoadedSnapshot, NodeEffect, ReadAnswer } from "./messages.ts";
import type { PersonKeys } from "./person-keys.ts";
import { type ReadReason, ReadSchedule } from "./read-schedule.ts";

/** The visible projection has changed. */
export type Moved = Folded & Readonly<{ rebuilt: boolean }>;

export type LogLoopOptions = Readonly<{
  keys: PersonKeys;
  random: (size: number) => Uint8Array;
  pollMs: number;
  pageLimit: number;
  /** With the log out of reach, take what the fan-out's replay buffer remembers. For brokers, not for a thousand nodes. */
  replays: boolean;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  onMoved: (moved: Moved, now: number) => void;
  /** What this copy holds is not in the log, or is wrong: nothing may be permitted from it until `onRebuilt`. */
  onRebuilding: (lost: Link) => void;
  onRebuilt: () => void;
  /** Final denials that the log does not hold. */
  onLost: (events: readonly LostTightening[], now: number) => void;
  onEpoch: () => void;
  /** Something that cannot happen has happened; the loop takes nothing more. */
  onBroken: (error: unknown) => void;
}>;

export type LogCounts = Readonly<Record<"deliveries" | "rebuilds" | "reads" | "readFailures" | "snapshots", number>>;

type Asked = Readonly<{ id: number; at: number; waitMs: number; until: number }>;
type Loading = Readonly<{ id: number; why: "begin" | "rebuild" | "truncated"; until: number }>;

/** Beyond the time it may wait at the head, a read has this long. */
const readGraceMs = 10_000;
const loadMsMax = 120_000;
const fanoutSpreadMs = { down: 400, up: 500 };
/** A fan-out that did not bring what a read then brought is not relied upon alone for so long. */
const doubtMs = 10_000;
const never = Number.POSITIVE_INFINITY;
const replayMs = { every: 5_000, since: 60_000 };

export class LogSync {
  readonly copy: LocalProjection;
  readonly #options: LogLoopOptions;
  readonly #pace: ReadSchedule;
  readonly #inputs: Input[] = [];
  #follower: Follower = newFollower;
  #visible: ChainHistory = newFollower.trail;
  #running = false;
  #now = 0;
  #fanout: FanoutState = "none";
  #doubtUntil = Number.NEGATIVE_INFINITY;
  #asked: Asked | null = null;
  #tookMs = 0;
  #reason: ReadReason = "asked";
  #loading: Loading | null = null;
  #arrived: Readonly<{ snapshot: LoadedSnapshot; sound: boolean }> | null = null;
  /** The rebuild that is going on has begun from a snapshot. */
  #based = false;
  #begun = false;
  #replayedAt = Number.NEGATIVE_INFINITY;
  #caughtUp = false;
  #knownHead = 0;
  #grantedHead: Link | null = null;
  readonly #counts = { deliveries: 0, rebuilds: 0, reads: 0, readFailures: 0, snapshots: 0 };

  constructor(options: LogLoopOptions) {
    this.#options = options;
    this.copy = new LocalProjection(options.keys);
    this.#pace = new ReadSchedule(options.random);
  }

  /** Of the visible projection. */
  get trail(): ChainHistory {
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
    return this.#knownHead;
  }
  get counts(): LogCounts {
    return this.#counts;
  }
  get due(): number {
    if (this.#asked !== null || this.#loading !== null)
      return Math.min(this.#asked?.until ?? never, this.#loading?.until ?? never);
    const sends = this.#begun && this.#follower.reading !== null;
    return sends ? Math.min(this.#pace.sendAt, this.#pace.pollAt) : this.#pace.pollAt;
  }

  /** True when a link is applied already, in the history that is being followed: it need not be decoded again. */
  hasApplied(link: Link): boolean {
    return link.position <= this.#follower.trail.applied.position;
  }

  start(options: Readonly<{ snapshot: LoadedSnapshot | null; fanout: FanoutState }>, now: number): void {
    this.#running = true;
    this.#now = now;
    this.#fanout = options.fanout;
    if (options.snapshot === null) {
      this.#load("begin");
      return;
    }
    this.#begun = true;
    this.#keep(options.snapshot.keys);
    this.copy.begin(options.snapshot);
    this.#arrived = { snapshot: options.snapshot, sound: true };
    this.#feed({ type: "jumped", trail: historyFrom(options.snapshot.link, options.snapshot.epochs) });
    this.#pump();
  }

  stop(): void {
    this.#running = false;
    if (this.#asked !== null) this.#options.emit({ type: "cancel", id: this.#asked.id });
    if (this.#loading !== null) this.#options.emit({ type: "cancel", id: this.#loading.id });
    this.#asked = null;
    this.#loading = null;
  }

  delivered(batch: Delivered, now: number): void {
    this.#now = now;
    this.#counts.deliveries += 1;
    if (batch.events.length > 0) this.#keep(batch.keys);
    this.#know(batch.last);
    this.#reason = "gap";
    const before = this.#follower.trail.applied.position;
    this.#feed({ type: "delivery", batch });
    const { applied } = this.#follower.trail;
    if (batch.last.position >= applied.position) this.#doubtUntil = Number.NEGATIVE_INFINITY;
    // It linked to what we had: nothing was missed before it.
    if (applied.position > before && this.#caughtUp && !this.#mustPoll() && !this.#behind()) this.#pace.stopPolling();
    this.#pump();
  }

  /** An authenticated grant for this boot. */
  granted({ epoch, incarnation, start, head }: Grant, now: number): void {
    this.#now = now;
    if (epoch >= this.#follower.epoch) this.#know(head);
    this.#pace.regained(now);
    this.#reason = "granted";
    this.#grantedHead = head;
    this.copy.answers.granted(head);
    this.#feed({ type: "granted", epoch, incarnation, start, head });
    this.#settleKept();
    this.#pump();
  }

  /** Somebody waits for more. */
  nudge(now: number): void {
    this.#now = now;
    this.#reason = "asked";
    this.#feed({ type: "nudge" });
    this.#pace.hurry(now);
    this.#pump();
  }

  /** The leader has found our projection to be another than its own at the same link. */
  distrust(now: number): void {
    this.#now = now;
    this.#feed({ type: "distrusted" });
    this.#pump();
  }

  fanoutChanged(fanout: FanoutState, now: number): void {
    this.#now = now;
    this.#fanout = fanout;
    // Deliveries may have been missed until now; and until the first delivery links, we do not know.
    if (this.#begun && fanout !== "none") this.#pace.pollWithin(fanoutSpreadMs[fanout], now);
  }

  woke(now: number): void {
    this.#now = now;
    if (this.#asked !== null && now >= this.#asked.until)
      this.#giveUp(this.#asked.id, `no answer within ${Math.round(now - this.#asked.at)} ms`);
    if (this.#loading !== null && now >= this.#loading.until) {
      this.#options.emit({ type: "cancel", id: this.#loading.id });
      this.snapshotFailed({ id: this.#loading.id, reason: "unavailable" }, now);
    }
    this.#pump();
  }

  /** Looks whether the fan-out still delivers; called a few times a second. */
  tick(now: number): void {
    this.#now = now;
    const idle = this.#begun && this.#follower.reading === null && this.#pace.pollAt === never;
    if (idle && this.#mustPoll() && this.#pace.failures === 0) this.#pace.pollWithin(0, now);
    this.#pump();
  }

  readAnswered({ id, answer }: Readonly<{ id: number; answer: ReadAnswer }>, now: number): void {
    if (this.#asked?.id !== id) return;
    this.#now = now;
    const { waitMs, at } = this.#asked;
    this.#asked = null;
    this.#tookMs = now - at;
    const before = this.#follower.trail.applied.position;
    if (answer.type === "page") {
      this.#pace.answered();
      this.#keep(answer.keys);
      this.#know(answer.head);
    } else {
      this.#fail(answer);
    }
    this.#reason = "more";
    this.#feed(answer.type === "failed" ? { type: "readFailed" } : answer);
    if (answer.type === "page") {
      const brought = this.#follower.trail.applied.position > before;
      if (brought && this.#fanout === "up") this.#doubtUntil = now + doubtMs;
      if (!this.copy.rebuilding) this.#caughtUp ||= this.copy.projection.applied.position >= answer.head.position;
      const heldOpen = this.#tookMs >= waitMs / 2;
      if (this.#follower.reading === null && this.#mustPoll())
        this.#pace.pollAtHead(now, { tookMs: this.#tookMs, brought, heldOpen });
    } else if (this.#follower.reading === null) this.#lookAgainLater();
    if (this.truncated && this.#loading === null) this.#load("truncated");
    this.#pump();
  }

  snapshotLoaded({ id, snapshot }: Readonly<{ id: number; snapshot: LoadedSnapshot }>, now: number): void {
    if (this.#loading?.id !== id) return;
    const { why } = this.#loading;
    const { link, projection, epochs } = snapshot;
    const { trail } = this.#follower;
    const consistent = sameLink(projection.applied, link) && epochs.at(-1)?.epoch === link.epoch;
    if (!consistent || (why === "truncated" && link.position <= trail.applied.position)) {
      this.snapshotFailed({ id, reason: "unavailable" }, now);
      return;
    }
    this.#now = now;
    this.#loading = null;
    this.#begun = true;
    this.#counts.snapshots += 1;
    this.#pace.answered();
    this.#keep(snapshot.keys);
    const sound = sharesLink(epochs, trail.applied, trail.epochs);
    if (this.copy.rebuilding) this.#based = true;
    this.#arrived = { snapshot, sound };
    this.#feed({ type: "jumped", trail: historyFrom(link, epochs) });
    this.#abandonRead();
    this.#pump();
  }

  snapshotFailed({ id, reason }: Readonly<{ id: number; reason: "none" | "unavailable" }>, now: number): void {
    if (this.#loading?.id !== id) return;
    this.#now = now;
    const { why } = this.#loading;
    this.#loading = null;
    if (why === "truncated" || (why === "begin" && reason === "unavailable")) {
      // A broker that had none, or had only an old one, may have one when the log has been read in vain again.
      if (why === "begin") this.#pace.failed(now);
      this.#lookAgainLater();
    } else {
      this.#begun = true;
      this.#feed({ type: "nudge" });
    }
    this.#pump();
  }

  /** One input at a time: what is caused while one is taken has its turn right after it. */
  #feed(input: Input): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    for (let next = this.#inputs[0]; next !== undefined; next = this.#inputs[0]) {
      if (this.#running) this.#take(next);
      this.#inputs.shift();
    }
  }

  #take(input: Input): void {
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
        this.#pace.want(this.#reason, this.#now, this.#tookMs);
        return;
      case "apply": {
        const folded = this.copy.fold(effect.events);
        if (!this.copy.rebuilding) this.#show({ ...folded, rebuilt: false });
        return;
      }
      case "rebuild":
        this.#rebuild(effect.lost);
        return;
      case "adopt":
        this.#adopt();
        return;
      case "rebuilt":
        this.#finish(effect.lost);
    }
  }

  #rebuild(lost: Link): void {
    // A rebuild within a rebuild that began from a snapshot: that snapshot is of a lost history too.
    const another = this.copy.rebuilding && this.#based;
    this.#counts.rebuilds += 1;
    this.#knownHead = 0;
    this.#based = false;
    this.#options.onRebuilding(lost);
    this.copy.beginRebuild();
    this.#abandonRead();
    if (!another && this.#begun) this.#load("rebuild");
  }

  #adopt(): void {
    const arrived = this.#arrived;
    if (arrived === null) return;
    this.#arrived = null;
    const { snapshot, sound } = arrived;
    if (this.copy.rebuilding) return void this.copy.base(snapshot, this.#visible.epochs);
    if (snapshot.projection !== this.copy.projection) {
      // Behind retention, or nothing was here before. It is further on than we are: nobody sees anything go back.
      if (!sound) this.#options.onRebuilding(this.#visible.applied);
      this.copy.beginRebuild();
      this.copy.base(snapshot, this.#visible.epochs);
      const { events } = this.copy.finishRebuild(sound ? "nothing lost" : "lost");
      this.#options.onLost(events, this.#now);
    }
    this.#show({ touched: [], decisive: true, rebuilt: true, committedAt: null });
    if (!sound) this.#options.onRebuilt();
  }

  #finish(lost: Link): void {
    const { trail } = this.#follower;
    const place = locateLink(trail, lost);
    const nothingLost =
      place === "held" || (place === "forgotten" && sharesLink(trail.epochs, lost, this.#visible.epochs));
    const { events, denied } = this.copy.finishRebuild(nothingLost ? "nothing lost" : "lost");
    this.#show({ touched: [], decisive: true, rebuilt: true, committedAt: null });
    this.#options.onRebuilt();
    this.#options.onLost(events, this.#now);
    this.#log("error", "rebuilt; lost denials stay in force here", {
      from: lost,
      to: trail.applied,
      denied: denied.size,
    });
  }

  #show(moved: Moved): void {
    this.#visible = this.#follower.trail;
    this.#settleKept();
    this.#options.onMoved(moved, this.#now);
  }

  /** With the head of a grant reached, it is known what the log holds. */
  #settleKept(): void {
    this.copy.settleAnswered(this.#visible);
    if (this.#grantedHead === null || locateLink(this.#visible, this.#grantedHead) !== "held") return;
    const lost = this.copy.settleKept(this.#visible);
    if (lost === null || lost.events.length === 0) return;
    this.#options.onLost(lost.events, this.#now);
    const problem = "the log has lost denials that this disk remembers; they stay in force here";
    this.#log("error", problem, { denied: lost.denied.size });
  }

  /** The answer to what was asked before would mean nothing. */
  #abandonRead(): void {
    if (this.#asked !== null) this.#options.emit({ type: "cancel", id: this.#asked.id });
    this.#asked = null;
    if (this.#follower.reading?.stale !== true) return;
    this.#pace.forget();
    this.#feed({ type: "readFailed" });
  }

  #giveUp(id: number, why: string): void {
    this.#options.emit({ type: "cancel", id });
    this.readAnswered({ id, answer: { type: "failed", error: new Error(why) } }, this.#now);
  }

  #fail(answer: Exclude<ReadAnswer, { type: "page" }>): void {
    this.#pace.failed(this.#now);
    const inARow = this.#pace.failures;
    if (answer.type === "failed") {
      this.#counts.readFailures += 1;
      const level = Number.isInteger(Math.log2(inARow)) ? "warn" : "debug";
      this.#log(level, "a read from the brokers failed", { err: answer.error, inARow });
    } else if (answer.type === "truncated" && !this.truncated) {
      this.#log("error", "the log begins behind this copy", { first: answer.first });
    }
    this.#replay();
  }

  #lookAgainLater(): void {
    if (this.#mustPoll() || this.#behind() || !this.#caughtUp || this.copy.rebuilding || this.truncated)
      this.#pace.pollAfterFailure();
  }

  /** Sends what is wanted, when it may be. */
  #pump(): void {
    if (!this.#running || this.#loading !== null) return; // a snapshot may make reading needless
    // What a delivery made us want is not read before we have begun: we must not wait for it.
    if (!this.#begun && this.#pace.pollAt === never) this.#pace.pollAfterFailure();
    if (this.#asked === null && this.#pace.takePoll(this.#now)) {
      this.#reason = "asked";
      if (this.#begun) this.#feed({ type: "nudge" });
      else this.#load("begin");
    }
    const sends = this.#begun && this.#asked === null && this.#loading === null && this.#follower.reading !== null;
    if (!sends || !this.#pace.take(this.#now)) return;
    const waitMs = this.#mustPoll() || this.#behind() ? this.#options.pollMs : 0;
    const id = this.#options.nextId();
    this.#counts.reads += 1;
    this.#asked = { id, at: this.#now, waitMs, until: this.#now + waitMs + readGraceMs };
    const after = this.#follower.trail.applied;
    this.#options.emit({ type: "read", id, after, limit: this.#options.pageLimit, waitMs });
  }

  #load(why: Loading["why"]): void {
    if (this.#loading !== null) this.#options.emit({ type: "cancel", id: this.#loading.id });
    const id = this.#options.nextId();
    this.#loading = { id, why, until: this.#now + loadMsMax };
    this.#options.emit({ type: "loadSnapshot", id, first: this.#follower.truncated?.first ?? null });
  }

  #keep(arrived: readonly WrappedKey[]): void {
    if (arrived.length > 0) this.#options.keys.add(arrived.filter((key) => !this.copy.erased(key.userId)));
  }

  #know(link: Link): void {
    this.#knownHead = Math.max(this.#knownHead, link.position);
  }

  #behind(): boolean {
    return this.#knownHead > this.#follower.trail.applied.position;
  }

  /** The fan-out brings nothing, or not all, so we ask. */
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
