/**
 * Id tables: record numbers by packed id. Pure.
 *
 * Many small hash tables grow independently, so that no rehash takes long. The ids themselves are in the records'
 * blocks.
 */
import { MalformedSnapshotError } from "./malformed-snapshot.ts";
import { none, RecordTable } from "./record-table.ts";
import { blockRecords, formMask, type IdBlock, packedWords } from "./session-block.ts";

/** The four words of an id, at an offset. */
export type IdKey = Readonly<{ words: Uint32Array; from: number }>;

export class IdTables {
  readonly #blocks: readonly IdBlock[];
  readonly #tables: readonly RecordTable[];
  readonly #hashOf = (record: number): number => hashOf(this.#keyOf(record));

  /** @param tableCount a power of two */
  constructor(blocks: readonly IdBlock[], tableCount = 256) {
    this.#blocks = blocks;
    this.#tables = Array.from({ length: tableCount }, () => new RecordTable());
  }

  /** Reserves room for this many records. */
  expect(records: number): void {
    for (const table of this.#tables) table.expect(Math.ceil(records / this.#tables.length));
  }

  /** @returns the record with this id in this form, or `none` */
  find(form: number, key: IdKey): number {
    const hash = hashOf(key);
    const table = this.#table(hash);
    return table.slots[this.#slotOf(table, hash, form, key)] ?? none;
  }

  /** The record's id is in its block, and no other record has it. */
  add(record: number): void {
    const hash = this.#hashOf(record);
    this.#table(hash).add(hash, record, this.#hashOf);
  }

  /** As `add`. @throws MalformedSnapshotError if another record has the id */
  addChecked(record: number, form: number): void {
    const key = this.#keyOf(record);
    const hash = hashOf(key);
    const table = this.#table(hash);
    table.makeRoom(this.#hashOf);
    const slot = this.#slotOf(table, hash, form, key);
    if (table.slots[slot] !== none) throw new MalformedSnapshotError("a session appears twice");
    table.fill(slot, record);
  }

  delete(record: number): void {
    const hash = this.#hashOf(record);
    this.#table(hash).delete(hash, record, this.#hashOf);
  }

  /** The slot of a packed id, or the free slot for it. */
  #slotOf({ slots }: RecordTable, hash: number, form: number, { words: wanted, from: at }: IdKey): number {
    const mask = slots.length - 1;
    for (let slot = (hash >>> 8) & mask; ; slot = (slot + 1) & mask) {
      const record = slots[slot] ?? none;
      if (record === none) return slot;
      const { words, flags } = this.#blocks[record >>> 14] as IdBlock;
      const own = record & (blockRecords - 1);
      const from = own * packedWords;
      const same =
        words[from] === wanted[at] &&
        words[from + 1] === wanted[at + 1] &&
        words[from + 2] === wanted[at + 2] &&
        words[from + 3] === wanted[at + 3];
      if (same && ((flags[own] ?? 0) & formMask) === form) return slot;
    }
  }

  #keyOf(record: number): IdKey {
    const { words } = this.#blocks[record >>> 14] as IdBlock;
    return { words, from: (record & (blockRecords - 1)) * packedWords };
  }

  #table(hash: number): RecordTable {
    return this.#tables[hash & (this.#tables.length - 1)] as RecordTable;
  }
}

/** Most ids are random, so their own bytes serve as the hash; one mix covers the others. */
function hashOf({ words, from }: IdKey): number {
  const mixed = Math.imul((words[from] ?? 0) ^ Math.imul(words[from + 3] ?? 0, 0x9e37_79b1), 0x85eb_ca6b);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
