/**
 * Kept index: a list of the projection in order, made at the first request, and dropped without requests.
 *
 * - A change of the log only marks ids. They are read again before the next page, in pieces, so that a change costs the
 *   enforcement of this node nothing.
 * - After a rebuild of the projection, and when too much has changed at once, the index is made anew.
 */
import type { UnixMs } from "../../../events/index.ts";
import type { Change, Replica } from "../../../replication/index.ts";
import { startTurns, type WorkTurns } from "./turns.ts";

export type IndexParts = Readonly<{
  replica: Replica;
  now: () => UnixMs;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}>;
/** What an index is of. */
export type IndexSource<Id extends string> = Readonly<{
  /** The ids of the projection. */
  all: () => Iterable<Id>;
  /** The ids that a change concerns. */
  touchedBy: (change: Change) => Iterable<Id>;
  /** Brings the entry of an id up to date. */
  read: (id: Id) => void;
  clear: () => void;
}>;

/** An index without requests leaves the memory. */
const keptMs = 10 * 60_000;
const markedMax = 50_000;

export class KeptIndex<Id extends string> {
  readonly #parts: IndexParts;
  readonly #source: IndexSource<Id>;
  readonly #marked = new Set<Id>();
  #stop: (() => void) | undefined;
  #isWhole = false;
  #askedAt = 0;
  #running: Promise<void> | undefined;

  constructor(parts: IndexParts, source: IndexSource<Id>) {
    this.#parts = parts;
    this.#source = source;
  }

  /** The index has every change that the projection has. */
  async settled(): Promise<void> {
    this.#askedAt = this.#parts.now();
    this.#stop ??= this.#parts.replica.onChange((change) => this.#note(change));
    while (!this.#isWhole || this.#marked.size > 0) {
      this.#running ??= this.#work().finally(() => {
        this.#running = undefined;
      });
      await this.#running;
    }
  }

  /** Makes the index anew at the next request. */
  drop(): void {
    this.#isWhole = false;
    this.#marked.clear();
    this.#source.clear();
  }

  #note(change: Change): void {
    if (this.#parts.now() - this.#askedAt > keptMs) {
      this.#stop?.();
      this.#stop = undefined;
      this.drop();
      return;
    }
    if (!change.rebuilt) for (const id of this.#source.touchedBy(change)) this.#marked.add(id);
    if (change.rebuilt || this.#marked.size > markedMax) this.drop();
  }

  async #work(): Promise<void> {
    const turns = startTurns(this.#parts);
    while (!this.#isWhole) {
      const { projection } = this.#parts.replica;
      this.#source.clear();
      this.#isWhole = true;
      if (!(await this.#readAll(turns)) || projection !== this.#parts.replica.projection) this.drop();
    }
    for (const id of this.#marked) {
      this.#marked.delete(id);
      this.#source.read(id);
      await turns.step();
    }
  }

  /** False: the index was dropped meanwhile. */
  async #readAll(turns: WorkTurns): Promise<boolean> {
    let count = 0;
    for (const id of this.#source.all()) {
      this.#source.read(id);
      count += 1;
      if (count % 4 === 0) await turns.step();
      if (!this.#isWhole) return false;
    }
    return true;
  }
}
