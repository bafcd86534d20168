/**
 * Copy rows: audit records as rows of the table, in the binary form of COPY. Pure.
 *
 * - `line` holds the exact bytes of the record. The other columns are copies of its parts for indexes, cut to a length
 *   that an index takes.
 * - A line that is not UTF-8, or has a zero byte, can be in no text column of Postgres: the batch is refused.
 */
import { isUtf8 } from "node:buffer";
import { type AuditRecord, parseLine } from "../audit-record.ts";
import { type AuditBatch, sizeOfGap } from "../spool/index.ts";

/** In the order in which a row is encoded. */
export const columns: readonly string[] = (
  "day at from_at node boot seq kind occasion region request_id route_id user_id session_id result " +
  "status reasons missing_least missing_most line"
).split(" ");

/** Longest text of an indexed column, UTF-16 units: an index entry has 2,704 bytes at most. */
const keyCharsMax = 256;
const reasonsCharsMax = 1_024;
const dayMs = 86_400_000;
/** 2000-01-01, from which Postgres counts, in milliseconds since 1970. */
const postgresEpochMs = 946_684_800_000;
const copyHead = Buffer.concat([Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), Buffer.alloc(8)]);
/** Times that both JavaScript and Postgres can express. */
const atMsMax = 8.64e15;
const atMsMin = -62_135_596_800_000; // the year 1

/** One line of a batch, and the parts of it that have columns. */
export type Row = Readonly<{
  /** Milliseconds since 1970; null: the line has none. */
  atMs: number | null;
  fromMs: number | null;
  node: string;
  seq: number;
  record: AuditRecord | undefined;
  line: Buffer;
}>;

/** @returns null if Postgres cannot store the batch */
export function rowsOf(batch: AuditBatch): readonly Row[] | null {
  const { bytes, first } = batch;
  if (bytes.includes(0) || !isUtf8(bytes)) return null;
  const rows: Row[] = [];
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(0x0a, from);
    const to = end < 0 ? bytes.length : end;
    if (to > from) rows.push(rowOf(bytes.subarray(from, to), first + rows.length));
    from = to + 1;
  }
  return rows;
}

function rowOf(line: Buffer, position: number): Row {
  const record = parseLine(line.toString("utf8"));
  if (record === undefined) return { atMs: null, fromMs: null, node: "", seq: position, record, line };
  const fromMs = record.kind === "gap" ? timeIn(record.fromMs ?? record.at) : null;
  return { atMs: timeIn(record.at), fromMs, node: textIn(record.node) ?? "", seq: record.seq, record, line };
}

/** The day of a time in UTC, as days since 1970. */
export function dayOf(atMs: number): number {
  return Math.floor(atMs / dayMs);
}

export function dateOf(day: number): string {
  return new Date(day * dayMs).toISOString().slice(0, 10);
}

/** @param storedDay the partition of a row, as days since 1970; 0: `records_other` */
export function encodeRows(
  rows: readonly Row[],
  { boot, storedDay }: Readonly<{ boot: string; storedDay: (row: Row) => number }>,
): Buffer {
  const out = new ByteWriter(rows.reduce((sum, { line }) => sum + line.length + 512, 64));
  out.bytes(copyHead);
  for (const row of rows) {
    out.int16(columns.length);
    encodeRow(out, row, { boot, day: storedDay(row) });
  }
  out.int16(-1);
  return out.result();
}

function encodeRow(out: ByteWriter, row: Row, { boot, day }: Readonly<{ boot: string; day: number }>): void {
  const { record, atMs, fromMs } = row;
  const decision = record?.kind === "decision" ? record : undefined;
  const act = record?.kind === "operator" || record?.kind === "authentication" ? record : undefined;
  const gap = record?.kind === "gap" ? record : undefined;
  out.int32Field(day - dayOf(postgresEpochMs));
  out.timeField(atMs);
  out.timeField(fromMs);
  out.textField(row.node);
  out.textField(boot);
  out.int64Field(row.seq);
  out.textField(record === undefined ? "unreadable" : record.kind);
  out.textField(textIn(decision?.occasion));
  out.textField(textIn(decision?.region ?? act?.region));
  out.textField(textIn(decision?.requestId));
  out.textField(textIn(decision?.routeId));
  out.textField(textIn(decision?.userId));
  out.textField(textIn(decision?.sessionId));
  out.textField(textIn(decision?.result ?? act?.outcome));
  const status = decision?.status;
  out.int32Field(Number.isInteger(status) && Math.abs(status as number) < 2 ** 31 ? (status as number) : null);
  out.textField(Array.isArray(decision?.reasons) ? textIn(decision.reasons.join(" "), reasonsCharsMax) : null);
  out.int64Field(gap === undefined ? null : countIn(sizeOfGap(gap)));
  out.int64Field(gap === undefined ? null : countIn(gap.last - gap.first + 1));
  out.bytesField(row.line);
}

/** A text for a column: cut, and without zero bytes. Records of other versions may have any type there. */
export function textIn(value: unknown, charsMax = keyCharsMax): string | null {
  if (typeof value !== "string") return null;
  const text = value.length > charsMax ? value.slice(0, charsMax) : value;
  return text.includes("\0") ? text.replaceAll("\0", "\u{fffd}") : text;
}

function timeIn(value: unknown): number | null {
  return typeof value === "number" && value >= atMsMin && value <= atMsMax ? Math.trunc(value) : null;
}

function countIn(value: number): number | null {
  return Number.isSafeInteger(value) ? value : null;
}

/** A buffer that grows: fields of a binary COPY, each behind its length. */
class ByteWriter {
  #bytes: Buffer;
  #at = 0;

  constructor(bytes: number) {
    this.#bytes = Buffer.allocUnsafe(bytes);
  }

  result(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  int16(value: number): void {
    this.#reserve(2);
    this.#at = this.#bytes.writeInt16BE(value, this.#at);
  }

  int32Field(value: number | null): void {
    if (this.#length(value, 4)) this.#at = this.#bytes.writeInt32BE(value as number, this.#at);
  }

  int64Field(value: number | null): void {
    if (!this.#length(value, 8)) return;
    const high = Math.floor((value as number) / 2 ** 32);
    this.#at = this.#bytes.writeInt32BE(high, this.#at);
    this.#at = this.#bytes.writeUInt32BE((value as number) - high * 2 ** 32, this.#at);
  }

  timeField(atMs: number | null): void {
    if (!this.#length(atMs, 8)) return;
    this.#at = this.#bytes.writeBigInt64BE(BigInt((atMs as number) - postgresEpochMs) * 1_000n, this.#at);
  }

  textField(text: string | null): void {
    if (text === null) {
      this.#length(null, 0);
      return;
    }
    this.#reserve(4 + text.length * 3);
    const length = this.#bytes.write(text, this.#at + 4, "utf8");
    this.#bytes.writeInt32BE(length, this.#at);
    this.#at += 4 + length;
  }

  bytesField(bytes: Buffer): void {
    this.#length(bytes, bytes.length);
    this.bytes(bytes);
  }

  /** @returns false if the field is null, and needs no content */
  #length(value: unknown, bytes: number): boolean {
    this.#reserve(4 + bytes);
    this.#at = this.#bytes.writeInt32BE(value === null ? -1 : bytes, this.#at);
    return value !== null;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + bytes));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}
