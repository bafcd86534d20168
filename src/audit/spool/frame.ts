/**
 * Frame: the unit that the spool writes, reads and checks. Pure.
 *
 *   magic 4 | kind 1 | flags 1 | format 2 | payload length 4 | first 6 | last 6 | reserved 6 | at 6 | zero 8 |
 *   check 4 | payload
 *
 * - The check is a CRC-32 over the identity of the segment, the header and the payload. A frame that strayed from
 *   another segment, or an older frame in a reused block, does not pass.
 * - Every frame repeats the newest reserved number, so the newest readable frame of a boot bounds what may be lost.
 */
import { crc32 } from "node:zlib";

/**
 * `header`: begins a segment; its payload describes the segment. `records`: lines of JSON with dense numbers. `gap`:
 * one line, a gap record. `reserve`: raises the reservation only. `end`: the last frame of a segment.
 */
export type FrameKind = "header" | "records" | "gap" | "reserve" | "end";

export type FrameHead = Readonly<{
  kind: FrameKind;
  /** Numbers of the payload. In a `header` and `reserve`: `last` is the newest number so far, `first` is `last + 1`. */
  first: number;
  last: number;
  /** No number above this one is used before a later frame is durable. */
  reserved: number;
  /** Milliseconds since 1970. */
  atMs: number;
  /** Retention must not drop the payload before every sink has it. In an `end`: some frame of the segment is strict. */
  strict: boolean;
  /** In an `end`: the boot shut down cleanly, so no number above `last` was used. */
  final: boolean;
}>;

export type SpoolFrame = FrameHead & Readonly<{ payload: Buffer /** Length with its header. */; bytes: number }>;

export const frameHeadBytes = 48;
/** Longest payload; a longer record is dropped and declared. */
export const framePayloadMax = 512 * 1_024;
export const spoolFormat = 1;

const magic = Buffer.from("CSPL", "latin1");
const kinds: readonly FrameKind[] = ["header", "records", "gap", "reserve", "end"];
const strictFlag = 1;
const finalFlag = 2;
const checkedBytes = frameHeadBytes - 4;

/** @returns the seed of the checks of a segment's frames */
export function frameSeed(segmentName: string): number {
  return crc32(Buffer.from(segmentName));
}

/** @returns the header of a frame, to be written before its payload */
export function frameHeadOf(head: FrameHead, payload: Uint8Array, seed: number): Buffer {
  const bytes = Buffer.alloc(frameHeadBytes);
  magic.copy(bytes);
  bytes[4] = kinds.indexOf(head.kind);
  bytes[5] = (head.strict ? strictFlag : 0) | (head.final ? finalFlag : 0);
  bytes.writeUInt16LE(spoolFormat, 6);
  bytes.writeUInt32LE(payload.length, 8);
  bytes.writeUIntLE(head.first, 12, 6);
  bytes.writeUIntLE(head.last, 18, 6);
  bytes.writeUIntLE(head.reserved, 24, 6);
  bytes.writeUIntLE(Math.max(0, Math.trunc(head.atMs)), 30, 6);
  bytes.writeUInt32LE(crc32(payload, crc32(bytes.subarray(0, checkedBytes), seed)), checkedBytes);
  return bytes;
}

/** @returns the length that the frame at this offset claims, if its header may be one; undefined: it is none */
export function claimedFrameBytes(bytes: Buffer, at: number): number | undefined {
  if (bytes.length - at < frameHeadBytes || bytes.compare(magic, 0, 4, at, at + 4) !== 0) return undefined;
  const length = bytes.readUInt32LE(at + 8);
  return length > framePayloadMax ? undefined : frameHeadBytes + length;
}

/** @returns the frame at this offset; undefined: the bytes are not a whole, undamaged frame */
export function frameAt(bytes: Buffer, at: number, seed: number): SpoolFrame | undefined {
  const length = claimedFrameBytes(bytes, at);
  if (length === undefined || bytes.length - at < length) return undefined;
  const payload = bytes.subarray(at + frameHeadBytes, at + length);
  const check = crc32(payload, crc32(bytes.subarray(at, at + checkedBytes), seed));
  if (check !== bytes.readUInt32LE(at + checkedBytes)) return undefined;
  const kind = kinds[bytes[at + 4] ?? 255];
  if (kind === undefined || bytes.readUInt16LE(at + 6) !== spoolFormat) return undefined;
  const flags = bytes[at + 5] ?? 0;
  return {
    kind,
    first: bytes.readUIntLE(at + 12, 6),
    last: bytes.readUIntLE(at + 18, 6),
    reserved: bytes.readUIntLE(at + 24, 6),
    atMs: bytes.readUIntLE(at + 30, 6),
    strict: (flags & strictFlag) !== 0,
    final: (flags & finalFlag) !== 0,
    payload,
    bytes: length,
  };
}

/** @returns the format of the frame that these bytes begin with, readable or not; undefined: they begin with none */
export function formatOfFrame(bytes: Buffer): number | undefined {
  return bytes.compare(magic, 0, 4, 0, 4) === 0 ? bytes.readUInt16LE(6) : undefined;
}

/** @returns the next offset, from `at` on, at which a frame may begin; undefined: none in these bytes */
export function nextFrameOffset(bytes: Buffer, at: number): number | undefined {
  const found = bytes.indexOf(magic, at);
  return found < 0 ? undefined : found;
}
