/**
 * HPACK encoder (RFC 7541): writes the header blocks of one connection, in order, as latin1 text. Pure.
 *
 * - Fields that repeat are added to the dynamic table and then take one or two bytes. Strings are not Huffman-coded.
 * - A block changes the table, so each encoded block must be sent.
 */

import type { ResponseName } from "./response-names.ts";
import { entryOverheadBytes, staticEntries, tableBytesMax } from "./tables.ts";
import { formatInteger, formatString } from "./text.ts";

/** The fields of a block, in order: each name with the value at the same index. */
export type FieldList = { readonly names: ResponseName[]; readonly values: string[] };

type Entry = Readonly<{ name: string; value: string; number: number }>;

/** Larger fields would push out most of a table. */
const entryBytesMax = 1_024;
/** Values of one name that a table holds at once. */
const valuesMax = 8;

const references = Array.from({ length: 256 }, (_, index) => formatInteger(index, 7, 0x80));
const statusTexts: ReadonlyMap<number, string> = new Map(
  staticEntries.flatMap(({ name, value }, n) => (name === ":status" ? [[Number(value), references[n + 1] ?? ""]] : [])),
);
const statusIndex = 8;

export class HpackEncoder {
  /** Oldest first, from `#first` on. */
  #entries: Entry[] = [];
  #first = 0;
  readonly #byName = new Map<string, Entry[]>();
  #added = 0;
  #bytes = 0;
  #bytesMax = tableBytesMax;
  /** The smallest size since the last block; undefined: the size did not change. */
  #smallest: number | undefined;

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. The next block states the size that is used. */
  resize(bytes: number): void {
    const bytesMax = Math.min(bytes, tableBytesMax);
    if (bytesMax === this.#bytesMax) return;
    this.#bytesMax = bytesMax;
    this.#smallest = Math.min(this.#smallest ?? bytesMax, bytesMax);
    while (this.#bytes > bytesMax) this.#evict();
  }

  /** @param status null: trailers */
  encode(status: number | null, { names, values }: FieldList): string {
    let block = this.#formatResize();
    if (status !== null)
      block += statusTexts.get(status) ?? formatInteger(statusIndex, 4, 0x00) + formatString(String(status));
    for (let i = 0; i < names.length; i++) {
      const name = names[i];
      if (name !== undefined) block += this.#encodeField(name, values[i] ?? "");
    }
    return block;
  }

  #formatResize(): string {
    const smallest = this.#smallest;
    if (smallest === undefined) return "";
    this.#smallest = undefined;
    const last = formatInteger(this.#bytesMax, 5, 0x20);
    return smallest < this.#bytesMax ? formatInteger(smallest, 5, 0x20) + last : last;
  }

  #encodeField(name: ResponseName, value: string): string {
    if (!name.mayBeIndexed) return name.plain + formatString(value);
    const known = this.#byName.get(name.lower);
    if (known !== undefined)
      for (const entry of known)
        if (entry.value === value) {
          name.onFound();
          return references[staticEntries.length + 1 + this.#added - entry.number] ?? "";
        }
    const bytes = name.lower.length + value.length + entryOverheadBytes;
    const isAdded = bytes <= entryBytesMax && bytes <= this.#bytesMax && name.onMissed();
    if (!isAdded) return name.plain + formatString(value);
    this.#add(name.lower, value, bytes);
    return name.indexing + formatString(value);
  }

  #add(name: string, value: string, bytes: number): void {
    while (this.#bytes + bytes > this.#bytesMax) this.#evict();
    const entry: Entry = { name, value, number: ++this.#added };
    this.#entries.push(entry);
    this.#bytes += bytes;
    const known = this.#byName.get(name);
    if (known === undefined) this.#byName.set(name, [entry]);
    else if (known.unshift(entry) > valuesMax) known.pop(); // it stays in the table, unused
  }

  #evict(): void {
    const oldest = this.#entries[this.#first++];
    if (oldest === undefined) return;
    this.#bytes -= oldest.name.length + oldest.value.length + entryOverheadBytes;
    const known = this.#byName.get(oldest.name) ?? [];
    const at = known.indexOf(oldest);
    if (at >= 0) known.splice(at, 1);
    if (known.length === 0) this.#byName.delete(oldest.name);
    if (this.#first < 64) return;
    this.#entries = this.#entries.slice(this.#first);
    this.#first = 0;
  }
}
