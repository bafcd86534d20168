/**
 * Revocation store: the local revocations that one regional broker retains, in the order in which it stored them. Pure.
 *
 * - The head only grows. No number is used twice within a boot, and a later boot uses none that the disk has.
 * - A node is given only numbers that the disk has. Any other could name another revocation after a crash.
 * - Nothing is evicted: `hasRoomFor` answers before anything is added.
 * - An entry counts as kept once the disk has it. Nodes and other brokers are given kept entries alone.
 */
import type { CommandId, Link } from "../../events/index.ts";
import { mergeIdsOf, revocationKey, type SealedRevocation, type StorePosition } from "../../replication/wire/index.ts";

/** What the disk of a regional broker has. */
export type StoredRevocations = Readonly<{
  /** Random, drawn at each start, so that no confirmation for an earlier boot or an older state of the disk counts. */
  store: string;
  head: number;
  entries: readonly Readonly<{ seq: number; sealed: SealedRevocation }>[];
  /** The longest window (ms) and clock drift of a lease that this broker has passed on. */
  windowMs: number;
  drift: number;
}>;

export type StoredEntry = {
  readonly key: string;
  readonly seq: number;
  readonly sealed: SealedRevocation;
  kept: boolean;
  /** The link at or past which the log denies what it denies. Null: not known to be merged. */
  merged: Link | null;
  /** The id under which it is submitted next. */
  mergeId: CommandId;
  /** Not before this time (ms). */
  mergeAt: number;
  mergeFailures: number;
};

export const revocationsMax = 1_024;
/** Of the envelopes of a store. */
export const revocationBytesMax = 4 * 1024 * 1024;

export class RevocationStore {
  readonly id: string;
  #head: number;
  /** The newest number that the disk surely has. */
  #diskHead: number;
  #bytes = 0;
  readonly #entries = new Map<string, StoredEntry>();

  constructor({ store, head, entries }: StoredRevocations) {
    this.id = store;
    this.#head = head;
    this.#diskHead = head;
    for (const { seq, sealed } of entries) this.recordKept(this.#insert(sealed, seq).key);
  }

  get head(): number {
    return this.#head;
  }
  get size(): number {
    return this.#entries.size;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get entries(): Iterable<StoredEntry> {
    return this.#entries.values();
  }
  /** Everything up to here that is retained is on the disk. */
  get keptHead(): number {
    for (const entry of this.#entries.values()) if (!entry.kept) return Math.min(entry.seq - 1, this.#diskHead);
    return this.#diskHead;
  }
  /** Where a node must be before a lease by age counts. Null: the log has all of them. */
  get tightenedTo(): StorePosition | null {
    let last = 0;
    for (const { seq } of this.#entries.values()) last = Math.max(last, seq);
    return last === 0 ? null : { store: this.id, seq: last };
  }
  /** Whether the disk has everything that is retained. */
  get isKept(): boolean {
    for (const { kept } of this.#entries.values()) if (!kept) return false;
    return true;
  }

  get(key: string): StoredEntry | undefined {
    return this.#entries.get(key);
  }
  /** The entries of a command, which two brokers may have accepted. */
  ofCommand(commandId: CommandId): readonly StoredEntry[] {
    return [...this.#entries.values()].filter(({ sealed }) => sealed.revocation.commandId === commandId);
  }

  /**
   * Whether a node that has confirmed this much lacks one. One that the leader calls merged still counts: only once it
   * leaves the store has the log surely denied all that it denies.
   */
  retainsAfter(confirmed: number): boolean {
    for (const { seq } of this.#entries.values()) if (seq > confirmed) return true;
    return false;
  }

  hasRoomFor(bytes: number): boolean {
    return this.#entries.size < revocationsMax && this.#bytes + bytes <= revocationBytesMax;
  }

  /** Takes the next number. */
  takeSeq(): number {
    this.#head += 1;
    return this.#head;
  }

  /** Adds an entry that is not on the disk yet. */
  add(sealed: SealedRevocation, seq: number): StoredEntry {
    return this.#insert(sealed, seq);
  }

  /** The disk has the entry. */
  recordKept(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.kept = true;
    this.#diskHead = Math.max(this.#diskHead, entry.seq);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.sealed.envelope.length;
  }

  #insert(sealed: SealedRevocation, seq: number): StoredEntry {
    const key = revocationKey(sealed.revocation);
    const [mergeId] = mergeIdsOf(sealed);
    const entry = { key, seq, sealed, kept: false, merged: null, mergeId, mergeAt: 0, mergeFailures: 0 };
    this.#entries.set(key, entry);
    this.#bytes += sealed.envelope.length;
    this.#head = Math.max(this.#head, seq);
    return entry;
  }
}
