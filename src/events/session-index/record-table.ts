/**
 * Record table: a hash table of record numbers, with open addressing and linear probing. Pure.
 *
 * It adds, deletes and moves records. The caller searches the slots itself, because only it can compare records.
 */

/** No record. */
export const none = 0xffff_ffff;

export class RecordTable {
  #slots: Uint32Array<ArrayBuffer> = new Uint32Array(16).fill(none);
  #count = 0;

  /** For the caller's search. */
  get slots(): Uint32Array {
    return this.#slots;
  }

  /** Sizes an empty table for this many records and some more. */
  expect(records: number): void {
    if (this.#count > 0) return;
    let size = this.#slots.length;
    while (records * 11 > size * 6) size *= 2;
    this.#slots = new Uint32Array(size).fill(none);
  }

  add(hash: number, record: number, hashOf: (record: number) => number): void {
    this.makeRoom(hashOf);
    this.#insert(hash, record);
    this.#count += 1;
  }

  /** Makes room for one more record. Invalidates slots that were found before. */
  makeRoom(hashOf: (record: number) => number): void {
    if ((this.#count + 1) * 10 <= this.#slots.length * 6) return;
    const before = this.#slots;
    this.#slots = new Uint32Array(before.length * 2).fill(none);
    for (const each of before) if (each !== none) this.#insert(hashOf(each), each);
  }

  /** @param slot free, where a search for the record's hash has ended */
  fill(slot: number, record: number): void {
    this.#slots[slot] = record;
    this.#count += 1;
  }

  delete(hash: number, record: number, hashOf: (record: number) => number): void {
    const mask = this.#slots.length - 1;
    let slot = (hash >>> 8) & mask;
    while (this.#slots[slot] !== record) {
      if (this.#slots[slot] === none) return;
      slot = (slot + 1) & mask;
    }
    // Moves later records of the probe sequence up, so that no search ends early.
    for (let next = (slot + 1) & mask; ; next = (next + 1) & mask) {
      const other = this.#slots[next] ?? none;
      if (other === none) break;
      const home = (hashOf(other) >>> 8) & mask;
      if (((next - home) & mask) >= ((next - slot) & mask)) {
        this.#slots[slot] = other;
        slot = next;
      }
    }
    this.#slots[slot] = none;
    this.#count -= 1;
  }

  #insert(hash: number, record: number): void {
    const mask = this.#slots.length - 1;
    let slot = (hash >>> 8) & mask;
    while (this.#slots[slot] !== none) slot = (slot + 1) & mask;
    this.#slots[slot] = record;
  }
}
