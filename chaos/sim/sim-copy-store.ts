/**
 * Simulated copy store: the rows of a region's copy of the log (src/broker/region/region-copy.ts), in memory, with a
 * disk that may be full.
 */
import { CopyNotWrittenError, type CopyStore } from "../../src/broker/region/region-copy.ts";
import type { Link, Position, UserId, WrappedKey } from "../../src/events/index.ts";

type Row = Readonly<{ link: Link; bytes: Uint8Array }>;

export class SimCopyStore implements CopyStore {
  isFull = false;
  #base: Link | undefined;
  /** Contiguous events, oldest first. */
  #rows: Row[] = [];
  readonly #keys = new Map<UserId, WrappedKey>();

  /** Drops the newest events: SQLite had not forced them to the disk when the machine lost power. */
  loseNewest(count: number): void {
    this.#rows = this.#rows.slice(0, Math.max(0, this.#rows.length - count));
  }

  empty(): void {
    this.#base = undefined;
    this.#rows = [];
    this.#keys.clear();
  }

  base(): Link | undefined {
    return this.#base;
  }
  last(): Link | undefined {
    return this.#rows.at(-1)?.link;
  }
  linkAt(position: Position): Link | undefined {
    return this.#rows[position - this.#first]?.link;
  }
  eventsAfter(position: Position, limit: number): readonly Row[] {
    const from = Math.max(0, position - this.#first + 1);
    return this.#rows.slice(from, from + limit);
  }
  keyOf(user: UserId): WrappedKey | undefined {
    return this.#keys.get(user);
  }
  keysAfter(user: UserId | null, limit: number): readonly WrappedKey[] {
    const users = [...this.#keys.keys()].toSorted().filter((each) => user === null || each > user);
    return users.slice(0, limit).flatMap((each) => this.#keys.get(each) ?? []);
  }
  insert(link: Link, bytes: Uint8Array): void {
    if (this.#rows.length > 0 && link.position !== this.#first + this.#rows.length)
      throw new Error(`event ${link.position} leaves a gap in a region's copy`);
    this.#rows.push({ link, bytes });
  }
  dropFrom(position: Position): void {
    this.#rows = this.#rows.filter(({ link }) => link.position < position);
  }
  dropUpTo(position: Position): void {
    this.#rows = this.#rows.filter(({ link }) => link.position > position);
  }
  dropAll(): void {
    this.#rows = [];
  }
  keepBase(link: Link): void {
    this.#base = link;
  }
  keepKey(key: WrappedKey): void {
    this.#keys.set(key.userId, key);
  }
  dropKey(user: UserId): void {
    this.#keys.delete(user);
  }
  atOnce(change: () => void): void {
    if (this.isFull) throw new CopyNotWrittenError("database or disk is full");
    change();
  }
  close(): void {}

  /** The position of the oldest row. */
  get #first(): number {
    return this.#rows[0]?.link.position ?? 1;
  }
}
