/**
 * Capsules: datagrams in a stream of bytes, as CONNECT-UDP carries them (RFC 9297 §3.2, RFC 9298 §5).
 *
 * Pure. A datagram is a capsule of type 0 that holds a context id and, with id 0, the payload of one UDP packet. Capsules of other
 * types are passed over, and datagrams of other contexts dropped, as the RFCs ask for. What no honest peer sends ends the
 * stream: a length beyond every bound, a datagram without a context id. Nothing is kept beyond one datagram.
 */
import type { Fact } from "../../events/index.ts";

/** More than an IPv4 or IPv6 packet can hold beside its UDP header. */
export const datagramBytesMax = 65_527;
/** A capsule of a type that is not ours may be this long; nobody has a use for more. */
const skippedBytesMax = 1_048_576;
/** A context id is 8 bytes at most. */
const capsuleBytesMax = datagramBytesMax + 8;

export type BrokenCapsules = "datagram-too-long" | "capsule-too-long" | "no-context-id";
export type CapsulesRead = Fact<"read", { foreign: number }> | Fact<"broken", { reason: BrokenCapsules }>;

export class CapsuleReader {
  readonly #onDatagram: (payload: Buffer) => void;
  readonly #varint = new VarintReader();
  #type: number | undefined;
  /** Of the capsule whose value is being read; undefined: its type or length is. */
  #left: number | undefined;
  #value: Buffer | undefined;
  #broken: BrokenCapsules | undefined;

  /** @param onDatagram called with the payload of each datagram, in order; it may keep it */
  constructor(onDatagram: (payload: Buffer) => void) {
    this.#onDatagram = onDatagram;
  }

  /** @returns how many datagrams were of contexts unknown here; or why the stream cannot be read any more */
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

  /** @returns 1 for a datagram of a context that is not ours */
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

/** Variable-length integers of QUIC (RFC 9000 §16), a byte at a time. Those beyond 2^53 come out inexact, and are too large all the same. */
class VarintReader {
  #left = 0;
  #value = 0;

  /** @returns the number, with its last byte */
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
