/**
 * Byte arena: many small immutable byte strings in a few large buffers, so that a million of them cost the garbage
 * collector nothing.
 *
 * - Entries are reference counted: each `put` and `retain` needs one `release`.
 * - The bytes of an entry never change, and a view stays valid after its entry is released: pages are append-only, and
 *   a page is dropped as a whole.
 * - A page with few live entries is emptied at once, at a cost bounded by the page size.
 */

const pageBytes = 1024 * 1024;
/** The first page is small, so that an arena with a few values is. */
const firstPageBytes = 16 * 1024;
/** Entry number and length, before each value. */
const headerBytes = 8;
/** A page whose live share falls below this is emptied. */
const aliveShareMin = 1 / 4;

type Page = { readonly bytes: Buffer; used: number; alive: number };

export class ByteArena {
  readonly #pages = new Map<number, Page>();
  #pageNumber = 0;
  #current: Page;
  /** Location by entry. A free entry has `#refs` 0, and its `#offset` is the next free entry plus one. */
  #page = new Uint32Array(1024);
  #offset = new Uint32Array(1024);
  #length = new Uint32Array(1024);
  #refs = new Uint32Array(1024);
  #entries = 0;
  #free = 0;

  constructor() {
    this.#current = this.#newPage(firstPageBytes);
  }

  /** Allocated bytes, including headers and dead values. */
  get capacity(): number {
    let bytes = 0;
    for (const page of this.#pages.values()) bytes += page.bytes.length;
    return bytes;
  }

  /** @returns the number of a new entry with one reference */
  put(value: Uint8Array): number {
    const entry = this.#newEntry();
    this.#refs[entry] = 1;
    this.#length[entry] = value.length;
    this.#write(entry, value);
    return entry;
  }

  retain(entry: number): number {
    this.#refs[entry] = (this.#refs[entry] ?? 0) + 1;
    return entry;
  }

  release(entry: number): void {
    const refs = (this.#refs[entry] ?? 0) - 1;
    this.#refs[entry] = refs;
    if (refs > 0) return;
    const number = this.#page[entry] ?? 0;
    const page = this.#pages.get(number);
    if (page !== undefined) page.alive -= headerBytes + (this.#length[entry] ?? 0);
    this.#offset[entry] = this.#free;
    this.#free = entry + 1;
    this.#emptyWhenSparse(number);
  }

  /** A view, not a copy. */
  get(entry: number): Uint8Array {
    const offset = this.#offset[entry] ?? 0;
    const page = this.#pages.get(this.#page[entry] ?? 0);
    return page?.bytes.subarray(offset, offset + (this.#length[entry] ?? 0)) ?? new Uint8Array();
  }

  equals(entry: number, value: Uint8Array): boolean {
    const { length } = value;
    if (this.#length[entry] !== length) return false;
    const bytes = this.#pages.get(this.#page[entry] ?? 0)?.bytes;
    const offset = this.#offset[entry] ?? 0;
    // Two sealings of one text differ in their tag, so the last byte nearly always decides before the full comparison.
    if (bytes === undefined || (length > 0 && bytes[offset + length - 1] !== value[length - 1])) return false;
    return bytes.compare(value, 0, length, offset, offset + length) === 0;
  }

  #write(entry: number, value: Uint8Array): void {
    const size = headerBytes + value.length;
    const [full, number] = [this.#current, this.#pageNumber];
    if (full.used + size > full.bytes.length) this.#current = this.#newPage(Math.max(pageBytes, size));
    const page = this.#current;
    page.bytes.writeUInt32LE(entry, page.used);
    page.bytes.writeUInt32LE(value.length, page.used + 4);
    page.bytes.set(value, page.used + headerBytes);
    this.#page[entry] = this.#pageNumber;
    this.#offset[entry] = page.used + headerBytes;
    page.used += size;
    page.alive += size;
    if (page !== full) this.#emptyWhenSparse(number);
  }

  #emptyWhenSparse(number: number): void {
    const page = this.#pages.get(number);
    if (page !== undefined && page !== this.#current && page.alive < page.used * aliveShareMin)
      this.#empty(number, page);
  }

  /** Moves the live entries to the current page and drops this one. */
  #empty(number: number, page: Page): void {
    this.#pages.delete(number);
    if (page.alive === 0) return;
    for (let at = 0; at < page.used; ) {
      const entry = page.bytes.readUInt32LE(at);
      const length = page.bytes.readUInt32LE(at + 4);
      const offset = at + headerBytes;
      if (this.#refs[entry] !== 0 && this.#page[entry] === number && this.#offset[entry] === offset)
        this.#write(entry, page.bytes.subarray(offset, offset + length));
      at = offset + length;
    }
  }

  #newPage(size: number): Page {
    this.#pageNumber += 1;
    const page: Page = { bytes: Buffer.allocUnsafeSlow(size), used: 0, alive: 0 };
    this.#pages.set(this.#pageNumber, page);
    return page;
  }

  #newEntry(): number {
    if (this.#free > 0) {
      const entry = this.#free - 1;
      this.#free = this.#offset[entry] ?? 0;
      return entry;
    }
    const entry = this.#entries;
    this.#entries += 1;
    if (this.#entries > this.#refs.length) {
      this.#page = growArray(this.#page);
      this.#offset = growArray(this.#offset);
      this.#length = growArray(this.#length);
      this.#refs = growArray(this.#refs);
    }
    return entry;
  }
}

/** Doubles the length; from 2^20 on, grows it by half. */
export function growArray(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const longer = new Uint32Array(array.length < 1 << 20 ? array.length * 2 : array.length + (array.length >>> 1));
  longer.set(array);
  return longer;
}
