/**
 * Id tables: records by their packed ids. Many small hash tables that grow each on their own, so that none is ever copied as a whole for
 * long. The ids themselves stand in the records' blocks. Pure.
 */
import { MalformedSnapshotError } from "../malformed-snapshot.ts";
import { none, RecordTable } from "./record-table.ts";
import { blockRecords, formMask, type IdBlock, packedWords } from "./session-block.ts";

/** Where the four words of an id stand. */
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

  /** So many records are about to come. */
  expect(records: number): void {
    for (const table of this.#tables) table.expect(Math.ceil(records / this.#tables.length));
  }

  /** @returns the record; `none` when there is none of this id in this form */
  find(form: number, key: IdKey): number {
    const hash = hashOf(key);
    const table = this.#table(hash);
    return table.slots[this.#slotOf(table, hash, form, key)] ?? none;
  }

  /** The record's id is in its block, and nobody else's. */
  add(record: number): void {
    const hash = this.#hashOf(record);
    this.#table(hash).add(hash, record, this.#hashOf);
  }

  /** As `add`, when it is not certain that the id is nobody else's. @throws MalformedSnapshotError */
  addChecked(record: number, form: number): void {
    const key = this.#keyOf(record);
    const hash = hashOf(key);
    const table = this.#table(hash);
    table.makeRoom(this.#hashOf);
    const slot = this.#slotOf(table, hash, form, key);
    if (table.slots[slot] !== none) throw new MalformedSnapshotError("a session is there twice");
    table.fill(slot, record);
  }

  delete(record: number): void {
    const hash = this.#hashOf(record);
    this.#table(hash).delete(hash, record, this.#hashOf);
  }

  /** The slot of a packed id; one that is free when it is not there. */
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

/** The ids are random: their own bytes are hash enough, stirred once for those that are not. */
function hashOf({ words, from }: IdKey): number {
  const mixed = Math.imul((words[from] ?? 0) ^ Math.imul(words[from + 3] ?? 0, 0x9e37_79b1), 0x85eb_ca6b);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
