/**
 * Region copy: a region's own copy of the log, behind a base, with the wrapped keys of the people in its events.
 *
 * - Pure. It decides which events to keep and serve. A store keeps the rows (region-copy-file.ts, or the simulator's).
 * - It keeps the bytes of events as received, so readers can verify its pages like any other page.
 * - It is never authoritative: a page of the home region that contradicts it wins, and the copy drops the events that
 *   differ.
 * - It holds one unbroken chain from its base to its head, never a part of one history and a part of another.
 */
import {
  decodeEvents,
  genesis,
  type Link,
  linkOf,
  type Position,
  parsePosition,
  type Recorded,
  sameLink,
  type UserId,
  type WrappedKey,
} from "../../events/index.ts";
import type { KeyedPage } from "../../replication/index.ts";
import { peopleIn } from "../state/people-in-events.ts";

/** The rows of a copy. Only `atOnce` may throw because the disk is full. */
export type CopyStore = Readonly<{
  /** The link before the first event; undefined when the store is new. */
  base(): Link | undefined;
  /** The link of the newest event. */
  last(): Link | undefined;
  linkAt(position: Position): Link | undefined;
  /** Events after a position, in order. */
  eventsAfter(position: Position, limit: number): Iterable<Readonly<{ link: Link; bytes: Uint8Array }>>;
  keyOf(user: UserId): WrappedKey | undefined;
  /** In the order of their user ids. */
  keysAfter(user: UserId | null, limit: number): readonly WrappedKey[];
  insert(link: Link, bytes: Uint8Array): void;
  dropFrom(position: Position): void;
  dropUpTo(position: Position): void;
  dropAll(): void;
  keepBase(link: Link): void;
  keepKey(key: WrappedKey): void;
  dropKey(user: UserId): void;
  /** Performs all of a change or nothing. @throws CopyNotWrittenError when the disk is full */
  atOnce(change: () => void): void;
  close(): void;
}>;

/** The disk rejected a change; the copy is unchanged. */
export class CopyNotWrittenError extends Error {}

/** The events after a link: a page (empty at the head), or why there is none. */
export type CopyOutcome =
  | Readonly<{ type: "page"; page: KeyedPage }>
  /** The link is beyond this copy. */
  | Readonly<{ type: "ahead" }>
  /** This copy holds another event at the link's position. */
  | Readonly<{ type: "otherChain"; link: Link }>
  | Readonly<{ type: "truncated"; first: Position }>;

export type EncodedRange = Readonly<Pick<KeyedPage, "previous" | "entries" | "last" | "keys">>;

const pageBytesMax = 1_000_000;

export class RegionCopy {
  readonly #store: CopyStore;
  #base: Link;
  #head: Link;

  constructor(store: CopyStore) {
    this.#store = store;
    this.#base = store.base() ?? genesis;
    this.#head = store.last() ?? this.#base;
  }

  /** The link before the first event. */
  get base(): Link {
    return this.#base;
  }
  get head(): Link {
    return this.#head;
  }

  /** Undefined when this copy holds no event at the position. */
  linkAt(position: Position): Link | undefined {
    if (position === this.#base.position) return this.#base;
    return position > this.#base.position ? this.#store.linkAt(position) : undefined;
  }

  /**
   * Whether the broker needs a snapshot to read from the log's oldest event.
   * @param first the log's oldest position; null when the broker starts without a position in the log
   */
  needsSnapshot(first: number | null): boolean {
    const holdsWholeLog = this.#base.position === 0 && this.#head.position > 0;
    return first !== null || !holdsWholeLog;
  }

  /** True when this copy holds exactly this event. */
  holds(link: Link): boolean {
    const here = this.linkAt(link.position);
    return here !== undefined && sameLink(here, link);
  }

  /**
   * Adds a page of the home region, which is authoritative: where the page contradicts the copy, the copy restarts.
   * @returns false for a page that begins beyond the head: readers still need the events between, which must come first
   * @throws MalformedEventError when the page does not chain; CopyNotWrittenError; the copy is then unchanged
   */
  take(page: EncodedRange): boolean {
    const { previous } = page;
    if (!this.holds(previous)) {
      if (this.#head.position > 0 && previous.position > this.#head.position) return false;
      this.beginAt(previous);
    }
    this.#append(page);
    return true;
  }

  /** Adds events that continue the head. @returns whether they do @throws MalformedEventError, CopyNotWrittenError */
  follow(stretch: EncodedRange): boolean {
    if (stretch.last.position <= this.#head.position) return true;
    if (!this.holds(stretch.previous)) return false;
    this.#append(stretch);
    return true;
  }

  read(after: Link, limit: number): CopyOutcome {
    if (after.position > this.#head.position) {
      // Beyond the copy, but its epoch had ended before: a newer epoch wrote this position.
      return after.epoch < this.#head.epoch ? { type: "otherChain", link: this.#head } : { type: "ahead" };
    }
    if (after.position < this.#base.position)
      return { type: "truncated", first: parsePosition(this.#base.position + 1) };
    if (!this.holds(after)) return { type: "otherChain", link: this.linkAt(after.position) ?? this.#head };
    const entries: Uint8Array[] = [];
    let bytes = 0;
    let last = after;
    for (const event of this.#store.eventsAfter(after.position, Math.max(1, limit))) {
      bytes += event.bytes.length;
      if (bytes > pageBytesMax && entries.length > 0) break;
      entries.push(event.bytes);
      last = event.link;
    }
    const keys = peopleIn(entries).flatMap((user) => this.#store.keyOf(user) ?? []);
    return { type: "page", page: { previous: after, entries, last, head: this.#head, keys } };
  }

  /** In the order of their user ids. */
  keysAfter(user: UserId | null, limit: number): readonly WrappedKey[] {
    return this.#store.keysAfter(user, limit);
  }

  /** Keeps the keys of people in a snapshot whose events are not in this copy. */
  keepKeys(keys: readonly WrappedKey[]): void {
    for (const key of keys) this.#store.keepKey(key);
  }

  /** Drops events that a snapshot holds and that no node here will read. */
  forgetUpTo(link: Link): void {
    if (link.position <= this.#base.position || link.position > this.#head.position || !this.holds(link)) return;
    this.#atOnce(() => {
      this.#store.dropUpTo(link.position);
      this.#keepBase(link);
    });
  }

  /** Drops everything: the log does not hold these events. */
  clear(): void {
    this.beginAt(genesis);
  }

  /** Drops everything; the next event continues this link. */
  beginAt(link: Link): void {
    this.#atOnce(() => {
      this.#store.dropAll();
      this.#keepBase(link);
      this.#head = link;
    });
  }

  close(): void {
    this.#store.close();
  }

  #append({ previous, entries, keys }: EncodedRange): void {
    const events = decodeEvents(entries, previous);
    this.#atOnce(() => {
      for (const [index, recorded] of events.entries()) this.#put(recorded, entries[index] ?? new Uint8Array());
      this.keepKeys(keys);
      for (const { event } of events) if (event.type === "UserErased") this.#store.dropKey(event.userId);
    });
  }

  #put(recorded: Recorded, bytes: Uint8Array): void {
    const link = linkOf(recorded);
    const here = link.position <= this.#head.position ? this.linkAt(link.position) : undefined;
    if (here !== undefined && sameLink(here, link)) return;
    if (here !== undefined) this.#store.dropFrom(link.position);
    this.#store.insert(link, bytes);
    this.#head = link;
  }

  #keepBase(link: Link): void {
    this.#store.keepBase(link);
    this.#base = link;
  }

  #atOnce(change: () => void): void {
    const [base, head] = [this.#base, this.#head];
    try {
      this.#store.atOnce(change);
    } catch (error) {
      [this.#base, this.#head] = [base, head];
      throw error;
    }
  }
}
