/**
 * HPACK decoder (RFC 7541): reads the header blocks of one connection, in order. Pure.
 *
 * - Every block is read to its end, because the dynamic table depends on it. What is not needed is only counted.
 * - An invalid block leaves the table in an unknown state, so the connection ends (RFC 9113 §4.3).
 * - Strings are copied from the block once. A field of a table is passed on without a copy.
 */
import { type FieldSink, isFieldValue } from "./header-fields.ts";
import { decodedBytesMax, decodeHuffman } from "./huffman.ts";
import { DecoderTable, newTableEntry } from "./tables.ts";

/** Shared: its content lasts no longer than the decoding of one string. */
let scratch = Buffer.allocUnsafeSlow(8_192);

export class HpackDecoder {
  readonly #table = new DecoderTable();
  #bytes: Buffer = scratch;
  #at = 0;
  #end = 0;
  #hasFailed = false;
  /** The last field is not complete. */
  #isCut = false;
  /** No field of the block was read: the table's size may change. */
  #mayResize = true;

  /** Called before the first part of a block. */
  beginBlock(): void {
    this.#mayResize = true;
  }

  /**
   * Reads the complete fields of a part of a block.
   * @returns the end of the last complete field; -1: the block is invalid
   */
  decode(bytes: Buffer, from: number, to: number, sink: FieldSink): number {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = to;
    this.#hasFailed = false;
    this.#isCut = false;
    let fieldAt = from;
    while (fieldAt < to) {
      const first = bytes[fieldAt] ?? 0;
      if (first >= 0x80) this.#readIndexed(sink);
      else if (first >= 0x40) this.#readLiteral(6, sink, true);
      else if (first >= 0x20) this.#resize();
      else this.#readLiteral(4, sink, false);
      if (this.#hasFailed || this.#isCut) break;
      if (first < 0x20 || first >= 0x40) this.#mayResize = false;
      fieldAt = this.#at;
    }
    this.#bytes = scratch; // the block is not kept
    return this.#hasFailed ? -1 : fieldAt;
  }

  #readIndexed(sink: FieldSink): void {
    const index = this.#readInteger(7);
    if (this.#isCut) return;
    const entry = this.#table.find(index);
    if (entry === undefined) this.#hasFailed = true;
    else sink.onField(entry.name, entry.value, entry.kind, entry.isValueValid);
  }

  #readLiteral(prefixBits: 4 | 6, sink: FieldSink, isIndexed: boolean): void {
    const index = this.#readInteger(prefixBits);
    const named = index > 0 ? this.#table.find(index) : newTableEntry(this.#readString(), "");
    const value = this.#readString();
    if (this.#hasFailed || this.#isCut) return;
    if (named === undefined) {
      this.#hasFailed = true;
      return;
    }
    const isValueValid = isFieldValue(value);
    if (isIndexed) this.#table.add({ name: named.name, value, kind: named.kind, isValueValid });
    sink.onField(named.name, value, named.kind, isValueValid);
  }

  #resize(): void {
    const bytesMax = this.#readInteger(5);
    if (this.#isCut) return;
    if (!this.#mayResize || !this.#table.resize(bytesMax)) this.#hasFailed = true;
  }

  /** RFC 7541 §5.1. @param prefixBits bits of the first byte that belong to it */
  #readInteger(prefixBits: number): number {
    const prefixMax = (1 << prefixBits) - 1;
    let value = (this.#bytes[this.#at++] ?? 0) & prefixMax;
    if (value < prefixMax) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= this.#end) {
        this.#isCut = true;
        return 0;
      }
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    this.#hasFailed = true;
    return 0;
  }

  /** RFC 7541 §5.2. @returns latin1 */
  #readString(): string {
    if (this.#at >= this.#end) this.#isCut = true;
    if (this.#hasFailed || this.#isCut) return "";
    const isHuffman = (this.#bytes[this.#at] ?? 0) >= 0x80;
    const length = this.#readInteger(7);
    const from = this.#at;
    const to = from + length;
    if (to > this.#end) this.#isCut = true;
    if (this.#hasFailed || this.#isCut) return "";
    this.#at = to;
    if (!isHuffman) return this.#bytes.toString("latin1", from, to);
    if (decodedBytesMax(length) > scratch.length) scratch = Buffer.allocUnsafeSlow(decodedBytesMax(length));
    const written = decodeHuffman(this.#bytes, from, to, scratch);
    if (written < 0) {
      this.#hasFailed = true;
      return "";
    }
    return scratch.toString("latin1", 0, written);
  }
}
