/**
 * Datagram capsules: datagrams in a byte stream, as CONNECT-UDP carries them (RFC 9297 §3.2, RFC 9298 §5).
 *
 * Pure. A datagram is a capsule of type 0 that holds a context id and, for id 0, the payload of one UDP packet. As the
 * RFCs require, capsules of other types are skipped and datagrams of other contexts dropped. A length over the limit or
 * a datagram without a context id ends the stream. At most one datagram is buffered.
 */
import type { Fact } from "../../events/index.ts";

/** At least the payload of any IPv4 or IPv6 packet. */
export const datagramBytesMax = 65_527;
/** The longest capsule of another type that is skipped. */
const skippedBytesMax = 1_048_576;
/** A context id has at most 8 bytes. */
const capsuleBytesMax = datagramBytesMax + 8;

export type BrokenCapsules = "datagram-too-long" | "capsule-too-long" | "no-context-id";
export type CapsulesRead = Fact<"read", { foreign: number }> | Fact<"broken", { reason: BrokenCapsules }>;

export class CapsuleReader {
  readonly #onDatagram: (payload: Buffer) => void;
  readonly #varint = new VarintReader();
  #type: number | undefined;
  /** Bytes left of the current value; undefined: the type or length is being read. */
  #left: number | undefined;
  #value: Buffer | undefined;
  #broken: BrokenCapsules | undefined;

  /** @param onDatagram called with the payload of each datagram, in order; it may keep it */
  constructor(onDatagram: (payload: Buffer) => void) {
    this.#onDatagram = onDatagram;
  }

  /** @returns the number of datagrams of unknown contexts, or why the stream is unreadable */
  take(bytes: Buffer): CapsulesRead {
    let foreign = 0;
    let at = 0;
    while (at < bytes.length && this.#broken === undefined) {
      if (this.#left === undefined) {
        const read = this.#varint.take(bytes[at++] ?? 0);
        if (read !== undefined) this.#onVarint(read);
      } else {
        const step = Math.min(this.#left, bytes.length - at);
        if (this.#value !== undefined) bytes.copy(this.#value, this.#value.length - this.#left, at, at + step);
        this.#left -= step;
        at += step;
      }
      if (this.#left === 0) foreign += this.#complete();
    }
    return this.#broken === undefined ? { type: "read", foreign } : { type: "broken", reason: this.#broken };
  }

  #onVarint(read: number): void {
    if (this.#type === undefined) {
      this.#type = read;
      return;
    }
    if (this.#type !== 0) {
      if (read > skippedBytesMax) this.#broken = "capsule-too-long";
    } else if (read > capsuleBytesMax) this.#broken = "datagram-too-long";
    else this.#value = Buffer.allocUnsafe(read);
    this.#left = read;
  }

  /** @returns 1 for a datagram of an unknown context */
  #complete(): 0 | 1 {
    const value = this.#value;
    this.#type = undefined;
    this.#left = undefined;
    this.#value = undefined;
    if (value === undefined || this.#broken !== undefined) return 0;
    const varint = new VarintReader();
    for (let at = 0; at < value.length; at++) {
      const context = varint.take(value[at] ?? 0);
      if (context === undefined) continue;
      if (context !== 0) return 1;
      this.#onDatagram(value.subarray(at + 1));
      return 0;
    }
    this.#broken = "no-context-id";
    return 0;
  }
}

/** One datagram of context 0 as a capsule. */
export function datagramCapsule(payload: Uint8Array): Buffer {
  const length = payload.length + 1;
  const prefix = length < 64 ? 1 : length < 16_384 ? 2 : 4;
  const capsule = Buffer.allocUnsafe(1 + prefix + length);
  capsule[0] = 0;
  if (prefix === 1) capsule[1] = length;
  else if (prefix === 2) capsule.writeUInt16BE(0x4000 | length, 1);
  else capsule.writeUInt32BE(0x80000000 + length, 1);
  capsule[1 + prefix] = 0;
  capsule.set(payload, 2 + prefix);
  return capsule;
}

/** QUIC variable-length integers (RFC 9000 §16), byte by byte. Values over 2^53 are inexact, but over every limit. */
class VarintReader {
  #left = 0;
  #value = 0;

  /** @returns the number once its last byte has arrived */
  take(byte: number): number | undefined {
    if (this.#left === 0) {
      this.#left = (1 << (byte >> 6)) - 1;
      this.#value = byte & 0x3f;
    } else {
      this.#left--;
      this.#value = this.#value * 256 + byte;
    }
    return this.#left === 0 ? this.#value : undefined;
  }
}
