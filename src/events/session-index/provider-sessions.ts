/**
 * Provider sessions: the identity provider's own session behind each session, and the sessions behind each of those.
 * Pure.
 *
 * - An id takes 16 bytes in a block, plus a slot of a hash table. A block without any such session has no memory here.
 * - Several sessions may have one provider's session: each of them is a record in the same table.
 */
import type { SessionId } from "../ids.ts";
import { MalformedSnapshotError } from "./malformed-snapshot.ts";
import { packedBytes, packId, unpackId } from "./packed-id.ts";
import { none, RecordTable } from "./record-table.ts";
import { blockRecords, packedWords } from "./session-block.ts";
import type { IdRows } from "./session-index.ts";

const tableCount = 256;
const uuidForm = 1;

type Block = Readonly<{ words: Uint32Array; bytes: Buffer }>;

export class ProviderSessions {
  /** All words of an id are 0: the record has none. No UUID is that. */
  readonly #blocks: (Block | undefined)[] = [];
  readonly #tables = Array.from({ length: tableCount }, () => new RecordTable());
  readonly #key = Buffer.from(new ArrayBuffer(packedBytes));
  readonly #keyWords = new Uint32Array(this.#key.buffer);
  readonly #hashOf = (record: number): number => this.#blocks[record >>> 14]?.words[wordOf(record)] ?? 0;

  get(record: number): SessionId | undefined {
    const block = this.#blocks[record >>> 14];
    if (block === undefined || isEmpty(block.words, wordOf(record))) return undefined;
    return unpackId(uuidForm, block.bytes, wordOf(record) * 4) as SessionId;
  }

  /** @throws TypeError unless the id is a UUID or undefined: commands accept no other */
  set(record: number, id: SessionId | undefined): void {
    const block = this.#blocks[record >>> 14];
    const at = wordOf(record);
    if (id === undefined) {
      if (block === undefined || isEmpty(block.words, at)) return;
      this.#table(block.words[at] ?? 0).delete(block.words[at] ?? 0, record, this.#hashOf);
      block.words.fill(0, at, at + packedWords);
      return;
    }
    this.#pack(id);
    if (block !== undefined) {
      if (areEqual(block.words, at, this.#keyWords)) return;
      this.set(record, undefined);
    }
    this.#add(record);
  }

  /** The records with this id. */
  recordsOf(id: SessionId): readonly number[] {
    if (packId(id, this.#key, 0) !== uuidForm) return [];
    const hash = this.#keyWords[0] ?? 0;
    const { slots } = this.#table(hash);
    const mask = slots.length - 1;
    const records: number[] = [];
    for (let slot = (hash >>> 8) & mask; slots[slot] !== none; slot = (slot + 1) & mask) {
      const record = slots[slot] ?? none;
      const words = this.#blocks[record >>> 14]?.words;
      if (words !== undefined && areEqual(words, wordOf(record), this.#keyWords)) records.push(record);
    }
    return records;
  }

  /** @param first the record of row 0 @throws MalformedSnapshotError */
  load({ rows, ids }: Readonly<{ rows: Uint32Array; ids: IdRows }>, first: number): void {
    for (let each = 0; each < rows.length; each++) {
      if (ids.forms[each] !== uuidForm) throw new MalformedSnapshotError("a provider's session is not a UUID");
      ids.packed.copy(this.#key, 0, each * packedBytes, (each + 1) * packedBytes);
      this.#add(first + (rows[each] ?? 0));
    }
  }

  #pack(id: SessionId): void {
    if (packId(id, this.#key, 0) !== uuidForm) throw new TypeError("the id of a provider's session is not a UUID");
  }

  /** Adds the id in `#key` to a record that has none. */
  #add(record: number): void {
    const number = record >>> 14;
    while (this.#blocks.length <= number) this.#blocks.push(undefined);
    const block = this.#blocks[number] ?? newBlock();
    this.#blocks[number] = block;
    block.words.set(this.#keyWords, wordOf(record));
    const hash = this.#hashOf(record);
    this.#table(hash).add(hash, record, this.#hashOf);
  }

  #table(hash: number): RecordTable {
    return this.#tables[hash & (tableCount - 1)] as RecordTable;
  }
}

function newBlock(): Block {
  const bytes = Buffer.from(new ArrayBuffer(blockRecords * packedBytes));
  return { bytes, words: new Uint32Array(bytes.buffer) };
}

const wordOf = (record: number): number => (record & (blockRecords - 1)) * packedWords;

function isEmpty(words: Uint32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === 0 && words[at + 3] === 0;
}

function areEqual(words: Uint32Array, at: number, key: Uint32Array): boolean {
  return words[at] === key[0] && words[at + 1] === key[1] && words[at + 2] === key[2] && words[at + 3] === key[3];
}
