/**
 * Snapshot columns: the numbers, ids and byte strings of many rows, column by column, as in a shard of a snapshot.
 * Pure.
 *
 * Rows are gathered in growing arrays and written in a canonical order, so that equal rows give equal bytes, whatever
 * the order in which they were gathered. Numbers are little-endian.
 */

import { copyString } from "../codec/copy-string.ts";
import { MalformedSnapshotError } from "../session-index/malformed-snapshot.ts";
import { type IdForm, packedBytes, packId, unpackId } from "../session-index/packed-id.ts";
import type { ByteStrings, IdRows } from "../session-index/session-index.ts";

type NumberArray = Uint8Array | Uint32Array | Float64Array;
type NumberArrayOf<Kind extends NumberKind> = Kind extends "u8"
  ? Uint8Array
  : Kind extends "u32"
    ? Uint32Array
    : Float64Array;
export type NumberKind = "u8" | "u32" | "f64";
const makers = { u8: Uint8Array, u32: Uint32Array, f64: Float64Array } as const;

export class NumberColumn {
  readonly #kind: NumberKind;
  #values: NumberArray;
  #length = 0;

  constructor(kind: NumberKind) {
    this.#kind = kind;
    this.#values = new makers[kind](16);
  }

  get length(): number {
    return this.#length;
  }
  get(row: number): number {
    return this.#values[row] ?? 0;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const longer = new makers[this.#kind](this.#values.length + (this.#values.length >> 1));
      longer.set(this.#values);
      this.#values = longer;
    }
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  /** The values of the given rows, in the given order. */
  inOrder(rows: Uint32Array): Uint8Array {
    const values = new makers[this.#kind](rows.length);
    for (let at = 0; at < rows.length; at++) values[at] = this.#values[rows[at] ?? 0] ?? 0;
    return bytesOf(values);
  }
}

/** Ids: 16 bytes if they can be packed, otherwise the text. */
export class IdColumn {
  readonly #forms = new NumberColumn("u8");
  #packed = Buffer.alloc(16 * packedBytes);
  readonly #texts = new Map<number, string>();

  get length(): number {
    return this.#forms.length;
  }

  push(id: string): void {
    const row = this.#forms.length;
    if ((row + 1) * packedBytes > this.#packed.length)
      this.#packed = Buffer.concat([this.#packed], this.#packed.length + (this.#packed.length >> 1));
    const form = packId(id, this.#packed, row * packedBytes);
    this.#forms.push(form ?? 0);
    if (form === undefined) this.#texts.set(row, id);
  }

  get(row: number): string {
    const form = this.#forms.get(row);
    return form === 0 ? (this.#texts.get(row) ?? "") : unpackId(form as IdForm, this.#packed, row * packedBytes);
  }

  /** Orders text ids before packed ones, then by text or by packed bytes. */
  compare(a: number, b: number): number {
    const [formA, formB] = [this.#forms.get(a), this.#forms.get(b)];
    if (formA !== formB) return formA - formB;
    if (formA === 0) return compareText(this.#texts.get(a) ?? "", this.#texts.get(b) ?? "");
    const [atA, atB] = [a * packedBytes, b * packedBytes];
    return this.#packed.compare(this.#packed, atB, atB + packedBytes, atA, atA + packedBytes);
  }

  inOrder(rows: Uint32Array): WrittenIds {
    const texts: string[] = [];
    const packed = Buffer.alloc(rows.length * packedBytes);
    let used = 0;
    for (const row of rows) {
      if (this.#forms.get(row) === 0) texts.push(this.#texts.get(row) ?? "");
      else {
        this.#packed.copy(packed, used, row * packedBytes, (row + 1) * packedBytes);
        used += packedBytes;
      }
    }
    return [this.#forms.inOrder(rows), packed.subarray(0, used), texts];
  }
}

export type WrittenIds = readonly [forms: Uint8Array, packed: Uint8Array, texts: readonly string[]];

/** @throws MalformedSnapshotError */
export function readIds(value: unknown, count: number): IdRows {
  const [forms, packed, texts] = arrayOf(value, 3);
  const ids = {
    forms: numbersOf(forms, "u8", count),
    packed: bufferOf(packed),
    texts: textsOf(texts),
  };
  let packedCount = 0;
  for (const form of ids.forms) {
    if (form > 2) throw new MalformedSnapshotError("an id has an unknown form");
    if (form !== 0) packedCount += 1;
  }
  if (ids.packed.length !== packedCount * packedBytes || ids.texts.length !== count - packedCount)
    throw new MalformedSnapshotError("the number of ids does not match their forms");
  return ids;
}

/** All ids as separate strings. */
export function allIds({ forms, packed, texts }: IdRows): string[] {
  const ids: string[] = [];
  let text = 0;
  let at = 0;
  for (const form of forms) {
    if (form === 0) {
      ids.push(copyString(texts[text] ?? ""));
      text += 1;
    } else {
      ids.push(unpackId(form as IdForm, packed, at));
      at += packedBytes;
    }
  }
  return ids;
}

/** Byte strings, of which `get` returns views. @throws MalformedSnapshotError */
export function readBytes(value: unknown): ByteStrings {
  const [lengths, whole] = arrayOf(value, 2);
  const bytes = bufferOf(whole);
  const length = numbersOf(lengths, "u32");
  const ends = new Uint32Array(length.length);
  let end = 0;
  for (let at = 0; at < length.length; at++) {
    end += length[at] ?? 0;
    ends[at] = end;
  }
  if (end !== bytes.length) throw new MalformedSnapshotError("the sealed data does not have the stated length");
  return { count: length.length, get: (at) => bytes.subarray(ends[at - 1] ?? 0, ends[at]) };
}

/** @throws MalformedSnapshotError unless the value is `count` numbers */
export function numbersOf<Kind extends NumberKind>(value: unknown, kind: Kind, count?: number): NumberArrayOf<Kind> {
  const bytes = bufferOf(value);
  const size = makers[kind].BYTES_PER_ELEMENT;
  if (bytes.length % size !== 0 || (count !== undefined && bytes.length !== count * size))
    throw new MalformedSnapshotError("the length of a column does not match its rows");
  // A copy, because the value may be at any alignment in a larger buffer.
  const own = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer;
  return new makers[kind](own) as NumberArrayOf<Kind>;
}

export function bufferOf(value: unknown): Buffer<ArrayBuffer> {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength);
  throw new MalformedSnapshotError("expected bytes");
}

export function arrayOf(value: unknown, count?: number): readonly unknown[] {
  if (Array.isArray(value) && (count === undefined || value.length === count)) return value;
  throw new MalformedSnapshotError(count === undefined ? "expected a list" : `expected a list of ${count}`);
}

export function textsOf(value: unknown): readonly string[] {
  const texts = arrayOf(value);
  if (texts.every((text) => typeof text === "string")) return texts;
  throw new MalformedSnapshotError("expected strings");
}

export function bytesOf(values: NumberArray): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
