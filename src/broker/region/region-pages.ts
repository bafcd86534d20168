/**
 * Region pages: how a regional broker follows the log, and what its copy keeps of it. Pure.
 *
 * - The broker's own projection reads through it: from the disk first, then from the home region. The copy keeps the
 *   events.
 * - The copy keeps a delivery only when the own projection has applied it.
 * - The copy never skips events: those that only the projection has are read again from the home region.
 * - A full disk leaves the copy unchanged. The projection, and every lease that depends on it, continues.
 */
import { type Link, MalformedEventError } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import type { Batch } from "../../replication/wire/index.ts";
import { CopyNotWrittenError, type RegionCopy } from "./region-copy.ts";
import type { HomeAnswer, RegionFact } from "./region-messages.ts";
import type { RegionReaders } from "./region-readers.ts";
import type { RegionStepContext } from "./region-step-context.ts";

const fillEvents = 2_000;
/** After this time (ms) the own projection has applied a replayed batch, or never will. */
const replaySettleMs = 50;
const replayedBatchesMax = 20_000;

type OwnRead = Readonly<{ id: number; after: Link; askedAt: number }>;

export class RegionPages {
  readonly #context: RegionStepContext;
  readonly #copy: RegionCopy;
  readonly #readers: RegionReaders;
  readonly #ownReads = new Map<number, OwnRead>();
  readonly #counts = { copyGaps: 0, copyNotKept: 0 };
  /** The head of the copy at the start, up to which the broker reads from the disk. Null: done. */
  #bootHead: Link | null;
  /** The question that fills the copy; null: no event is known to be missing. */
  #filling: number | null = null;
  #replayed: Readonly<{ batches: readonly Batch[]; dueAt: number }>[] = [];
  #diskRefuses = false;
  #closed = false;

  constructor(context: RegionStepContext, parts: Readonly<{ copy: RegionCopy; readers: RegionReaders }>) {
    this.#context = context;
    this.#copy = parts.copy;
    this.#readers = parts.readers;
    const { head, base } = parts.copy;
    this.#bootHead = head.position > base.position ? head : null;
  }

  get counts(): Readonly<Record<string, number>> {
    const { head, base } = this.#copy;
    return { ...this.#counts, copyHead: head.position, copyBase: base.position };
  }

  /** Handles a read of the own projection. */
  readForOwn({ id, after, limit, waitMs }: Extract<RegionFact, { type: "ownReadAsked" }>): void {
    const kept = this.#fromDisk(after, limit);
    if (kept !== undefined) {
      this.#context.emit({ type: "answerOwnRead", id, answer: kept });
      return;
    }
    // A delivery that the projection buffered was not kept, and no other path requests the events before it.
    const { head } = this.#copy;
    if (head.position > 0 && head.position < after.position) this.#fill();
    const question = this.#context.askHome({ op: "read", after, limit, waitMs, reader: id });
    this.#ownReads.set(question, { id, after, askedAt: this.#context.now });
  }

  /** @returns whether the question was one of these */
  homeAnswered(question: number, answer: HomeAnswer): boolean {
    const read = this.#ownReads.get(question);
    if (read !== undefined) {
      this.#ownReads.delete(question);
      this.#ownReadAnswered(read, answer);
      return true;
    }
    if (question !== this.#filling) return false;
    this.#filled(answer);
    return true;
  }

  /** Keeps a batch that a leader published, if the own projection has applied it. */
  keep(batch: Batch): void {
    if (this.#closed || batch.last.position <= this.#copy.head.position) return;
    if (batch.last.position > this.#context.own.applied.position) return;
    const kept = this.#change(() => this.#copy.follow(batch));
    if (kept === true) this.#readers.serveAll();
    else if (kept === false) this.#fill();
  }

  /** Keeps batches of the replay buffer once the own projection has had time to apply them. */
  keepSoon(batches: readonly Batch[]): void {
    const waiting = this.#replayed.reduce((sum, each) => sum + each.batches.length, 0);
    if (batches.length === 0 || waiting + batches.length > replayedBatchesMax) return; // the next read fills the copy
    const dueAt = this.#context.now + replaySettleMs;
    this.#replayed.push({ batches, dueAt });
    this.#context.wakeBy(dueAt);
  }

  woke(): void {
    const due = this.#replayed.filter(({ dueAt }) => dueAt <= this.#context.now);
    this.#replayed = this.#replayed.filter(({ dueAt }) => dueAt > this.#context.now);
    for (const { batches } of due) for (const batch of batches) this.keep(batch);
    for (const { dueAt } of this.#replayed) this.#context.wakeBy(dueAt);
  }

  close(): void {
    this.#closed = true;
  }

  #fromDisk(after: Link, limit: number): PageOutcome | undefined {
    if (this.#bootHead === null || after.position >= this.#bootHead.position) {
      this.#bootHead = null;
      return undefined;
    }
    const outcome = this.#copy.read(after, limit);
    return outcome.type === "page" && outcome.page.entries.length > 0 ? outcome : undefined;
  }

  #ownReadAnswered({ id, askedAt }: OwnRead, answer: HomeAnswer): void {
    switch (answer.type) {
      case "page":
      case "forked":
      case "truncated":
        if (answer.type === "forked") this.#change(() => this.#clear());
        if (answer.type === "page") {
          const kept = this.#change(() => this.#copy.take(answer.page));
          if (kept === false) this.#fill();
          if (typeof kept === "object") {
            this.#context.emit({ type: "answerOwnRead", id, answer: { type: "failed", error: kept.malformed } });
            return;
          }
        }
        this.#readers.homeAnswered(askedAt);
        this.#readers.serveAll();
        this.#context.emit({ type: "answerOwnRead", id, answer });
        return;
      default: {
        const error = "error" in answer ? answer.error : new Error(`a read was answered with ${answer.type}`);
        this.#context.emit({ type: "answerOwnRead", id, answer: { type: "failed", error } });
      }
    }
  }

  /** Reads the events that the own projection has and the copy lacks. */
  #fill(): void {
    if (this.#filling !== null || this.#closed) return;
    this.#counts.copyGaps += 1;
    this.#fillOn();
  }

  #fillOn(): void {
    this.#filling = null;
    const { head } = this.#copy;
    if (this.#closed || head.position >= this.#context.own.applied.position) return;
    const read = { after: head, limit: fillEvents, waitMs: 0, reader: null };
    this.#filling = this.#context.askHome({ op: "read", ...read });
  }

  #filled(answer: HomeAnswer): void {
    this.#filling = null;
    const hasMore = this.#takeFilling(answer);
    this.#readers.serveAll();
    if (hasMore) this.#fillOn();
  }

  /** @returns whether there may be more to fill the copy with */
  #takeFilling(answer: HomeAnswer): boolean {
    switch (answer.type) {
      case "page":
        return answer.page.entries.length > 0 && this.#change(() => this.#copy.take(answer.page)) === true;
      case "forked":
        return this.#change(() => this.#clear()) === true;
      case "truncated":
        // No broker has the missing events any more: a node that needs them loads a snapshot, as this broker did.
        return this.#change(() => this.#beginAt(this.#context.own.applied)) === true;
      default:
        this.#context.emit({
          type: "log",
          level: "debug",
          message: "the region's copy could not be filled yet",
          fields: { err: "error" in answer ? answer.error : answer.type },
        });
        return false;
    }
  }

  #clear(): boolean {
    this.#copy.clear();
    return true;
  }

  #beginAt(link: Link): boolean {
    this.#copy.beginAt(link);
    return true;
  }

  /** @returns what the change returned, or why the copy is unchanged; "refused": the disk is full */
  #change(change: () => boolean): boolean | "refused" | Readonly<{ malformed: MalformedEventError }> {
    try {
      const done = change();
      if (done) this.#diskRefuses = false;
      return done;
    } catch (error) {
      if (error instanceof MalformedEventError) return { malformed: error };
      if (!(error instanceof CopyNotWrittenError)) throw error;
      this.#counts.copyNotKept += 1;
      if (!this.#diskRefuses)
        this.#context.emit({
          type: "log",
          level: "error",
          message:
            "could not write the region's copy of the log; free some space in the data folder. Its events are kept, and it catches up once writes succeed",
          fields: { err: error },
        });
      this.#diskRefuses = true;
      return "refused";
    }
  }
}
