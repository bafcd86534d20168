/**
 * Denial sync: how a node learns of the revocations that its region accepted by itself, confirms them, and brings those
 * on its disk back to the log (docs/protocol.md §6.4).
 *
 * - One read of the broker's store waits there, so a revocation arrives at once.
 * - A read that does not bring what a lease waits for is repeated, at the broker that answers by then: a broker that is
 *   cut off may leave the first read open.
 * - What arrives is in force in the same step. It is confirmed when the cuts are done and the disk has it.
 * - A page with an entry that is not authentic, or that does not fit, is not taken: this node is then not at it, and no
 *   lease by age that names it counts.
 * - If the log does not show the merge for a while, the node submits the revocation itself, under its command id.
 *
 * Pure.
 */
import type { CommandId, Projection, Stream } from "../../../events/index.ts";
import type { ChainHistory } from "../../lease/chain-history.ts";
import { type Backoff, backoffMs, upTo } from "../../runtime/jitter.ts";
import type { SealedRevocation } from "../../wire/local-revocation.ts";
import { type StorePosition, storesMax } from "../../wire/messages.ts";
import type { DenialsAnswer, MergeAnswer, NodeEffect } from "../messages.ts";
import { LocalDenials } from "./local-denials.ts";

export type DenialSyncOptions = Readonly<{
  random: (size: number) => Uint8Array;
  nextId: () => number;
  emit: (effect: NodeEffect) => void;
  log: (level: "info" | "warn" | "error", message: string, fields: object) => void;
  /** More is in force here: open exchanges must be decided again. @returns the number of that change */
  onDenied: (streams: readonly Stream[]) => number;
  /** Leases that wait for these positions may count. */
  onTightened: (tightened: readonly StorePosition[]) => void;
  /** There is more to confirm. */
  onConfirmed: () => void;
}>;

/** A position that is confirmed once its change is enforced and the disk has it. */
type Pending = { readonly position: StorePosition; enforcing: number | null; keeping: number | null };

const readWaitMs = 20_000;
const readGraceMs = 5_000;
/** The longest time (ms) of a read while a lease waits for its result. */
const awaitedMs = 1_000;
/** How long a broker that has no store is left alone. */
const noStoreMs = 30_000;
const readBackoff: Backoff = { first: 500, max: 10_000 };
const submitAfterMs = 30_000;
const submitSpreadMs = 30_000;
const submitAnswerMs = 15_000;
const submitBackoff: Backoff = { first: 30_000, max: 600_000 };
const pendingMax = 1_024;
const never = Number.POSITIVE_INFINITY;

export class DenialSync {
  readonly denials = new LocalDenials();
  readonly #options: DenialSyncOptions;
  /** `awaited`: a lease waits for it. */
  #read: Readonly<{ id: number; sentAt: number; until: number; awaited: boolean }> | null = null;
  #readAt = never;
  #readFailures = 0;
  /** The store that the broker last answered with. */
  #store: string | null = null;
  #inForce: readonly StorePosition[] = [];
  #confirmed: readonly StorePosition[] = [];
  readonly #pending: Pending[] = [];
  #keptVersion = 0;
  #keeping: Readonly<{ id: number; version: number }> | null = null;
  #submitting: Readonly<{ id: number; key: string; until: number }> | null = null;
  #submitAt = never;
  #submitFailures = 0;
  #stopped = false;
  /** What was submitted last. One that the leader refuses must not hold up the others. */
  #submitted: string | null = null;

  constructor(options: DenialSyncOptions) {
    this.#options = options;
  }

  get due(): number {
    const reading = this.#read === null ? this.#readAt : this.#read.until;
    return Math.min(reading, this.#submitting === null ? this.#submitAt : this.#submitting.until);
  }
  /** What this boot has confirmed, for its next renewals. */
  get confirmed(): readonly StorePosition[] {
    return this.#confirmed;
  }

  /** @param kept the revocations on this node's own disk */
  start(kept: readonly SealedRevocation[], now: number): void {
    this.denials.restore(kept);
    this.#keptVersion = this.denials.version;
    this.#readAt = now;
    this.#scheduleSubmit(now);
  }

  wake(now: number): void {
    if (this.#read !== null && now >= this.#read.until) {
      this.#options.emit({ type: "cancel", id: this.#read.id });
      if (this.#read.awaited) this.#readNext(now);
      else this.#readFailed(now);
    }
    if (this.#read === null && now >= this.#readAt) this.#readNext(now);
    if (this.#submitting !== null && now >= this.#submitting.until) {
      this.#options.emit({ type: "cancel", id: this.#submitting.id });
      this.#submitFailed(now);
    }
    if (this.#submitting === null && now >= this.#submitAt) this.#submit(now);
  }

  /** A lease by age waits until this node is at this position. */
  onAwaited({ store, seq }: StorePosition, now: number): void {
    if (this.#inForce.some((at) => at.store === store && at.seq >= seq)) return;
    if (this.#read === null) {
      this.#readAt = Math.min(this.#readAt, now + awaitedMs);
      return;
    }
    // The broker of this store answers as soon as its disk has the revocation. No other broker gives a position in it.
    const { sentAt, until } = this.#read;
    const answerBy = (this.#store === store ? now : sentAt) + awaitedMs;
    this.#read = { ...this.#read, until: Math.min(until, answerBy), awaited: true };
  }

  onRead(id: number, answer: DenialsAnswer, now: number): void {
    if (this.#read?.id !== id) return;
    this.#read = null;
    switch (answer.type) {
      case "page":
        this.#take(answer, now);
        return;
      case "none":
        this.#readFailures = 0;
        this.#readAt = now + noStoreMs;
        return;
      case "refused":
        this.#options.log("error", "a local revocation is not authentic; not taking it", { reason: answer.reason });
        this.#readFailed(now);
        return;
      case "failed":
        this.#readFailed(now);
    }
  }

  /** Everything that a change denies has been destroyed. */
  onEnforced(change: number): void {
    for (const each of this.#pending) if (each.enforcing === change) each.enforcing = null;
    this.#confirmReady();
  }

  onKept(id: number, outcome: "kept" | "failed"): void {
    if (this.#keeping?.id !== id) return;
    const { version } = this.#keeping;
    this.#keeping = null;
    if (outcome === "failed") return; // written again with the next change or read; not confirmed until then
    this.#keptVersion = version;
    for (const each of this.#pending) if (each.keeping !== null && each.keeping <= version) each.keeping = null;
    this.#confirmReady();
    this.keep();
  }

  /** Has the disk written if it lacks something. One write at a time: the newest state follows. */
  keep(): void {
    if (this.#keeping !== null || this.denials.version === this.#keptVersion) return;
    this.#keeping = { id: this.#options.nextId(), version: this.denials.version };
    this.#options.emit({ type: "keepLocalDenials", id: this.#keeping.id, sealed: this.denials.all });
  }

  /** Ends what the visible projection denies past its merge. What was not merged after all is submitted again. */
  settle(history: ChainHistory, projection: Projection, now: number): void {
    if (this.denials.size === 0) return;
    this.denials.settle(history, projection);
    if (this.#submitting === null && this.#submitAt === never && !this.#stopped) this.#scheduleSubmit(now);
    this.keep();
  }

  onSubmitted(id: number, answer: MergeAnswer, now: number): void {
    if (this.#submitting?.id !== id) return;
    const { key } = this.#submitting;
    this.#submitting = null;
    switch (answer.type) {
      case "merged":
        this.#submitFailures = 0;
        this.denials.recordMerged(key, answer.link);
        this.#submitAt = this.denials.unmerged.length > 0 ? now : never;
        return;
      case "other-change":
        this.denials.recordOtherChange(key);
        this.#submitFailed(now);
        return;
      case "refused": {
        const message =
          "the leader does not record a local revocation; it stays in force here: an operator must decide";
        this.#options.log("error", message, { revocation: key, reason: answer.reason });
        this.#submitFailed(now);
        return;
      }
      case "failed":
        this.#submitFailed(now);
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#readAt = never;
    this.#submitAt = never;
    for (const each of [this.#read, this.#submitting])
      if (each !== null) this.#options.emit({ type: "cancel", id: each.id });
    this.#read = null;
    this.#submitting = null;
  }

  #readNext(now: number): void {
    const id = this.#options.nextId();
    const at = this.#inForce.find(({ store }) => store === this.#store) ?? null;
    this.#read = { id, sentAt: now, until: now + readWaitMs + readGraceMs, awaited: false };
    this.#readAt = never;
    this.#options.emit({ type: "readDenials", id, after: at, waitMs: readWaitMs });
    this.keep(); // a write that failed is tried again
  }

  #take({ store, upTo: seq, sealed, more }: Extract<DenialsAnswer, { type: "page" }>, now: number): void {
    if (this.#pending.length >= pendingMax) {
      this.#readFailed(now); // cuts are slow: nothing more is taken before the first of them are done
      return;
    }
    const before = this.denials.version;
    const streams = this.denials.add(sealed);
    if (streams === null) {
      this.#options.log("error", "this node has no room for more local revocations; no lease by age counts", {});
      this.#readFailed(now);
      return;
    }
    this.#readFailures = 0;
    this.#readAt = now;
    this.#store = store;
    const position = { store, seq };
    if (this.#inForce.some((at) => at.store === store && at.seq >= seq) && !more) return;
    const enforcing = streams.length === 0 ? null : this.#options.onDenied(streams);
    const lacking = this.denials.version > this.#keptVersion ? this.denials.version : null;
    // New ones must not postpone those that wait already.
    if (this.denials.version > before && this.#submitting === null && this.#submitAt === never)
      this.#scheduleSubmit(now);
    this.#inForce = withPosition(this.#inForce, position);
    this.#pending.push({ position, enforcing, keeping: lacking });
    this.#options.onTightened(this.#inForce);
    this.keep();
    this.#confirmReady();
  }

  /** In order: a later position includes the earlier ones. */
  #confirmReady(): void {
    let confirmed = false;
    for (let first = this.#pending[0]; first !== undefined; first = this.#pending[0]) {
      if (first.enforcing !== null || first.keeping !== null) break;
      this.#pending.shift();
      this.#confirmed = withPosition(this.#confirmed, first.position);
      confirmed = true;
    }
    if (confirmed) this.#options.onConfirmed();
  }

  #readFailed(now: number): void {
    this.#read = null;
    this.#readFailures += 1;
    this.#readAt = now + backoffMs(readBackoff, this.#readFailures, this.#options.random);
  }

  #scheduleSubmit(now: number): void {
    const isDue = this.denials.unmerged.length > 0;
    this.#submitAt = isDue ? now + submitAfterMs + upTo(submitSpreadMs, this.#options.random) : never;
  }

  #submit(now: number): void {
    const { unmerged } = this.denials;
    const next = unmerged[unmerged.findIndex(({ key }) => key === this.#submitted) + 1] ?? unmerged[0];
    this.#submitAt = never;
    if (next === undefined) return;
    const id = this.#options.nextId();
    this.#submitting = { id, key: next.key, until: now + submitAnswerMs };
    this.#submitted = next.key;
    const commandId: CommandId = next.mergeId;
    this.#options.emit({ type: "submitRevocation", id, commandId, sealed: next.sealed });
  }

  #submitFailed(now: number): void {
    this.#submitting = null;
    this.#submitFailures += 1;
    this.#submitAt = now + backoffMs(submitBackoff, this.#submitFailures, this.#options.random);
  }
}

/** Keeps the newest stores: those of brokers whose disks were lost are of no use. */
function withPosition(positions: readonly StorePosition[], next: StorePosition): readonly StorePosition[] {
  const [before] = positions.filter(({ store }) => store === next.store);
  const seq = Math.max(before?.seq ?? 0, next.seq);
  return [...positions.filter(({ store }) => store !== next.store), { store: next.store, seq }].slice(-storesMax);
}
