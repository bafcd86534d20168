/** User lists: users by number, each with the first and last record of a linked list; and strings by number. Pure. */

import { copyString } from "../codec/copy-string.ts";
import type { UserId } from "../ids.ts";
import { growArray } from "./byte-arena.ts";
import { type IdKey, IdTables } from "./id-tables.ts";
import { type IdForm, packedBytes, packId } from "./packed-id.ts";
import { none } from "./record-table.ts";
import { blockRecords, type IdBlock, packedWords } from "./session-block.ts";

/** With a million people, each hash table has about 16,000. */
const tableCount = 64;
const idsOfBlock = (): IdBlock => ({
  words: new Uint32Array(blockRecords * packedWords),
  flags: new Uint8Array(blockRecords),
});

/** Users by number, each with a list of records. A user without a record is removed. */
export class UserLists {
  readonly #blocks: IdBlock[] = [];
  readonly #numbers = new IdTables(this.#blocks, tableCount);
  /** Users whose ids cannot be packed. */
  readonly #textNumbers = new Map<UserId, number>();
  readonly #ids: (UserId | undefined)[] = [];
  readonly #free: number[] = [];
  #first = new Uint32Array(1024);
  #last = new Uint32Array(1024);
  /** The packed id searched last; `#form`: undefined if it could not be packed. */
  readonly #key = new Uint8Array(packedBytes);
  readonly #searchKey: IdKey = { words: new Uint32Array(this.#key.buffer), from: 0 };
  #form: IdForm | undefined;

  find(userId: UserId): number {
    this.#form = packId(userId, this.#key, 0);
    if (this.#form === undefined) return this.#textNumbers.get(userId) ?? none;
    return this.#numbers.find(this.#form, this.#searchKey);
  }

  numberOf(userId: UserId): number {
    const known = this.find(userId);
    return known === none ? this.#add(copyString(userId)) : known;
  }

  /** @param userId not a slice of a longer string, which would stay in memory */
  numberOfOwn(userId: UserId): number {
    const known = this.find(userId);
    return known === none ? this.#add(userId) : known;
  }

  /** Adds the user searched last, who was not found. */
  #add(own: UserId): number {
    const user = this.#free.pop() ?? this.#ids.length;
    if (user === this.#first.length) {
      this.#first = growArray(this.#first);
      this.#last = growArray(this.#last);
    }
    this.#ids[user] = own;
    this.#first[user] = none;
    this.#last[user] = none;
    if (user === this.#blocks.length * blockRecords) this.#blocks.push(idsOfBlock());
    const { words, flags } = this.#blocks[user >>> 14] as IdBlock;
    const at = user & (blockRecords - 1);
    flags[at] = this.#form ?? 0;
    if (this.#form === undefined) {
      this.#textNumbers.set(own, user);
      return user;
    }
    for (let word = 0; word < packedWords; word++) words[at * packedWords + word] = this.#searchKey.words[word] ?? 0;
    this.#numbers.add(user);
    return user;
  }

  idOf(user: number): UserId {
    return this.#ids[user] ?? ("" as UserId);
  }
  first(user: number): number {
    return this.#first[user] ?? none;
  }
  last(user: number): number {
    return this.#last[user] ?? none;
  }

  linkRecord(user: number, record: number): void {
    if (this.#first[user] === none) this.#first[user] = record;
    this.#last[user] = record;
  }

  unlinkRecord(
    user: number,
    { record, previous, next }: Readonly<{ record: number; previous: number; next: number }>,
  ): void {
    if (this.#first[user] === record) this.#first[user] = next;
    if (this.#last[user] === record) this.#last[user] = previous;
    if (this.#first[user] !== none) return;
    const form = this.#blocks[user >>> 14]?.flags[user & (blockRecords - 1)];
    if (form === 0) this.#textNumbers.delete(this.idOf(user));
    else this.#numbers.delete(user);
    this.#ids[user] = undefined;
    this.#free.push(user);
  }
}

/** Numbers for a few strings that recur. */
export class StringTable {
  readonly #numbers = new Map<string, number>();
  readonly #texts: string[] = [];

  numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    const own = copyString(text);
    this.#texts.push(own);
    this.#numbers.set(own, this.#texts.length - 1);
    return this.#texts.length - 1;
  }

  textOf(number: number): string {
    return this.#texts[number] ?? "";
  }
}
