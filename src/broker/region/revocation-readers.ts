/**
 * Revocation readers: nodes that wait for the revocations which a regional broker retains. Pure.
 *
 * A page has what the disk has, in the order of the store. A read at the end waits, so that a node learns of a
 * revocation as soon as it is stored.
 */
import type { DenialsPage } from "./local-messages.ts";
import type { RegionFact } from "./region-messages.ts";
import type { RegionStepContext } from "./region-step-context.ts";
import type { RevocationStore } from "./revocation-store.ts";

type Reader = Readonly<{ id: number; after: number; until: number }>;

/** As many as a region has nodes. */
const readersMax = 20_000;
const pageBytesMax = 1024 * 1024;
const waitMsMax = 30_000;

export class RevocationReaders {
  readonly #context: RegionStepContext;
  readonly #store: RevocationStore;
  #readers: Reader[] = [];

  constructor(context: RegionStepContext, store: RevocationStore) {
    this.#context = context;
    this.#store = store;
  }

  ask({ id, store, after, waitMs }: Extract<RegionFact, { type: "denialsAsked" }>): void {
    if (this.#readers.length >= readersMax) {
      this.#context.emit({ type: "answerDenials", id, answer: { failed: "too many nodes wait for revocations" } });
      return;
    }
    // A position in another store, such as that of a lost disk, means nothing here.
    const known = store === this.#store.id ? after : -1;
    const until = this.#context.now + Math.min(waitMs, waitMsMax);
    this.#readers.push({ id, after: known, until });
    this.serve();
  }

  /** The node has gone, so that its place is free for others. */
  giveUp(id: number): void {
    const waiting = this.#readers.length;
    this.#readers = this.#readers.filter((reader) => reader.id !== id);
    if (this.#readers.length < waiting)
      this.#context.emit({ type: "answerDenials", id, answer: { failed: "no longer has a reader" } });
  }

  serve(): void {
    const { now } = this.#context;
    const upTo = this.#store.keptHead;
    this.#readers = this.#readers.filter((reader) => {
      if (upTo <= reader.after && now < reader.until) {
        this.#context.wakeBy(reader.until);
        return true;
      }
      this.#context.emit({ type: "answerDenials", id: reader.id, answer: { page: this.#pageAfter(reader.after) } });
      return false;
    });
  }

  wake(): void {
    this.serve();
  }

  close(): void {
    for (const { id } of this.#readers.splice(0))
      this.#context.emit({ type: "answerDenials", id, answer: { failed: "this broker is stopping" } });
  }

  #pageAfter(after: number): DenialsPage {
    const upTo = this.#store.keptHead;
    const entries: { seq: number; sealed: DenialsPage["entries"][number]["sealed"] }[] = [];
    let bytes = 0;
    for (const { seq, kept, sealed } of this.#store.entries) {
      if (seq <= after || !kept || seq > upTo) continue;
      bytes += sealed.envelope.length;
      if (entries.length > 0 && bytes > pageBytesMax)
        return { store: this.#store.id, upTo: entries.at(-1)?.seq ?? after, entries, more: true };
      entries.push({ seq, sealed });
    }
    return { store: this.#store.id, upTo, entries, more: false };
  }
}
