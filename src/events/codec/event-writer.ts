/**
 * Event writer: writes an event and gives the decoded form of what it wrote, without decoding it. Pure.
 *
 * - It writes the bytes of the codec (codec.ts), and the decoded form equals what the codec decodes from them. That
 *   form shares no object with the event that was passed in.
 * - Anything but ASCII text, non-negative integers, booleans, null, byte strings, arrays and plain objects is left to
 *   the codec, and so are old formats and large events. What the two would read differently never gets here.
 * - An entry remembers the hash that it was chained to, so that nothing has to compute its hash again
 *   (docs/adr/0075-the-leader-folds-what-it-wrote.md).
 */
import { hash as digestOf } from "node:crypto";
import { type CardeaEvent, effectOf, type Recorded } from "../catalog.ts";
import { newestVersionAt } from "../formats.ts";
import { type Hash, nextPosition } from "../ids.ts";
import type { Link } from "../link.ts";
import { decodeEvent, type EventToEncode, encodeEvent } from "./codec.ts";
import { eventPages } from "./event-pages.ts";
import { ScratchBuffer } from "./scratch-buffer.ts";
import { uuidLength, uuidLetters, uuidPattern } from "./session-event-codec.ts";

/** An event and its bytes, whose hash was computed from them as they were written. */
export class WrittenEvent {
  readonly bytes: Uint8Array;
  readonly recorded: Recorded;
  readonly #previous: Hash;

  private constructor(bytes: Uint8Array, recorded: Recorded, previous: Hash) {
    this.bytes = bytes;
    this.recorded = recorded;
    this.#previous = previous;
  }

  /**
   * Writes an event right after a link.
   * @param level the cluster's level
   * @throws LevelTooLowError
   */
  static write(event: Omit<EventToEncode, "position">, level: number, previous: Link): WrittenEvent {
    const written = writer.write(event, level, previous);
    if (written !== undefined) return new WrittenEvent(written.bytes, written.recorded, previous.hash);
    const bytes = encodeEvent({ ...event, position: nextPosition(previous.position) }, level);
    return new WrittenEvent(bytes, decodeEvent(bytes, previous), previous.hash);
  }

  /** True for an entry that was written here, right after this hash. False for any other object, copies included. */
  static isWrittenAfter(entry: object, previous: Hash): boolean {
    return #previous in entry && entry.#previous === previous;
  }
}

const hashBytes = 32;
const scratchBytes = 16_384;
/** The most items of a map, and the most bytes of a text with a header of one byte. */
const mapItemsMax = 0x0f;
const shortTextMax = 0x1f;
/** Bodies nest two deep. */
const nestingMax = 8;

type Fields = Record<string | number, unknown>;
/** A byte string in the scratch buffer; a view of the event's own bytes becomes a field of the decoded form. */
type BytesField = Readonly<{ holder: Fields; key: string | number; from: number; end: number }>;

class EventWriter {
  readonly #scratch = new ScratchBuffer(scratchBytes);
  readonly #bytes = this.#scratch.bytes;
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, scratchBytes);
  #byteFields: BytesField[] = [];
  #at = 0;
  /** False once something has to be left to the codec. */
  #fits = true;

  /** @returns undefined if the codec has to write it */
  write(
    entry: Omit<EventToEncode, "position">,
    level: number,
    previous: Link,
  ): Readonly<{ bytes: Uint8Array; recorded: Recorded }> | undefined {
    const { epoch, eventId, stream, version, recordedAt, actor, cause } = entry;
    const position = nextPosition(previous.position);
    const { type } = entry.event;
    const schemaVersion = newestVersionAt(type, level);
    if (schemaVersion === undefined || epoch < previous.epoch || !isPlainObject(entry.event)) return undefined;
    const effect = effectOf(type);
    this.#at = hashBytes;
    this.#fits = true;
    if (this.#byteFields.length > 0) this.#byteFields = []; // after an error
    this.#byte(0x9c); // an array of twelve
    this.#integer(epoch);
    this.#integer(position);
    this.#uuid(eventId);
    this.#text(stream);
    this.#integer(version);
    this.#text(type);
    this.#integer(schemaVersion);
    this.#text(effect);
    this.#integer(recordedAt);
    this.#text(actor);
    if (cause === null) this.#byte(0xc0);
    else this.#text(cause);
    const event = this.#body(entry.event) as CardeaEvent;
    const byteFields = this.#byteFields;
    if (byteFields.length > 0) this.#byteFields = [];
    if (!this.#fits || this.#at > scratchBytes) return undefined;
    this.#bytes.write(previous.hash, "hex");
    const hash = digestOf("sha256", this.#scratch.first(this.#at), "hex") as Hash;
    const bytes = eventPages.take(this.#at - hashBytes);
    this.#bytes.copy(bytes, 0, hashBytes, this.#at);
    for (const { holder, key, from, end } of byteFields)
      holder[key] = bytes.subarray(from - hashBytes, end - hashBytes);
    const recorded: Recorded = {
      epoch,
      position,
      hash,
      eventId,
      stream,
      version,
      type,
      schemaVersion,
      effect,
      recordedAt,
      actor,
      cause,
      event,
    };
    return { bytes, recorded };
  }

  /** The fields of an event besides its type, which the codec writes before them. */
  #body(event: CardeaEvent): Fields {
    const copy: Fields = { type: event.type };
    const countAt = this.#at++;
    let count = 0;
    for (const key in event) {
      if (key === "type") continue;
      if (key === "__proto__") this.#fits = false;
      count += 1;
      this.#text(key);
      this.#field(copy, key, (event as unknown as Fields)[key], nestingMax);
    }
    if (count > mapItemsMax) this.#fits = false;
    this.#bytes[countAt] = 0x80 | count;
    return copy;
  }

  /** Writes a value, and sets the field of its holder to what the codec would decode. */
  #field(holder: Fields, key: string | number, value: unknown, depthLeft: number): void {
    if (typeof value === "string") {
      this.#text(value);
      holder[key] = value;
    } else if (typeof value === "number") {
      this.#integer(value);
      holder[key] = value;
    } else if (value === null || typeof value === "boolean") {
      this.#byte(value === null ? 0xc0 : value ? 0xc3 : 0xc2);
      holder[key] = value;
    } else if (value instanceof Uint8Array) {
      holder[key] = undefined; // keeps the order of the fields
      const from = this.#byteString(value);
      this.#byteFields.push({ holder, key, from, end: this.#at });
    } else if (depthLeft > 0 && Array.isArray(value)) {
      holder[key] = this.#array(value, depthLeft - 1);
    } else if (depthLeft > 0 && isPlainObject(value)) {
      holder[key] = this.#object(value, depthLeft - 1);
    } else this.#fits = false;
  }

  #object(value: Fields, depthLeft: number): Fields {
    const copy: Fields = {};
    const countAt = this.#at++;
    let count = 0;
    for (const key in value) {
      if (key === "__proto__") this.#fits = false; // it would set the prototype
      count += 1;
      this.#text(key);
      this.#field(copy, key, value[key], depthLeft);
    }
    if (count > mapItemsMax) this.#fits = false;
    this.#bytes[countAt] = 0x80 | count;
    return copy;
  }

  #array(value: readonly unknown[], depthLeft: number): unknown[] {
    const { length } = value;
    if (length < 0x10) this.#byte(0x90 | length);
    else if (length < 0x1_0000) this.#sized(0xdc, length);
    else this.#fits = false;
    const copy: unknown[] = [];
    for (let n = 0; n < length && this.#fits; n += 1) {
      copy.push(undefined);
      this.#field(copy as unknown as Fields, n, value[n], depthLeft);
    }
    return copy;
  }

  #byte(value: number): void {
    this.#bytes[this.#at++] = value; // a write after the end has no effect; `write` checks the length
  }

  #sized(token: number, length: number): void {
    this.#byte(token);
    this.#byte(length >>> 8);
    this.#byte(length & 0xff);
  }

  #text(text: string): void {
    const { length } = text;
    if (length <= shortTextMax) this.#byte(0xa0 | length);
    else if (length < 0x100) {
      this.#byte(0xd9);
      this.#byte(length);
    } else this.#sized(0xda, length);
    const start = this.#at;
    this.#at = start + length;
    if (this.#at > scratchBytes) {
      this.#fits = false;
      return;
    }
    const bytes = this.#bytes;
    let seen = 0;
    for (let n = 0; n < length; n += 1) {
      const letter = text.charCodeAt(n);
      bytes[start + n] = letter;
      seen |= letter;
    }
    if (seen >= 0x80) this.#fits = false;
  }

  /** Writes a UUID. Any other text is left to the codec, which refuses it as the id of an event. */
  #uuid(text: string): void {
    if (text.length !== uuidLength) {
      this.#fits = false;
      return;
    }
    this.#byte(0xd9);
    this.#byte(uuidLength);
    const start = this.#at;
    this.#at = start + uuidLength;
    const bytes = this.#bytes;
    let others = 0;
    for (let n = 0; n < uuidLength; n += 1) {
      const letter = text.charCodeAt(n);
      bytes[start + n] = letter;
      others |= letter >>> 8;
      others |= (uuidLetters[letter & 0xff] ?? 0) ^ (uuidPattern[n] ?? 0);
    }
    if (others !== 0) this.#fits = false;
  }

  /** @returns where its content begins */
  #byteString(value: Uint8Array): number {
    const { length } = value;
    if (length < 0x100) {
      this.#byte(0xc4);
      this.#byte(length);
    } else this.#sized(0xc5, length);
    const start = this.#at;
    this.#at = start + length;
    if (this.#at > scratchBytes) this.#fits = false;
    else this.#bytes.set(value, start);
    return start;
  }

  /** Writes a non-negative integer. */
  #integer(value: number): void {
    if (Object.is(value, -0)) this.#fits = false; // it is written as zero
    if (value >>> 0 === value) {
      if (value < 0x80) this.#byte(value);
      else if (value < 0x100) {
        this.#byte(0xcc);
        this.#byte(value);
      } else if (value < 0x1_0000) this.#sized(0xcd, value);
      else {
        this.#sized(0xce, value >>> 16);
        this.#byte((value >>> 8) & 0xff);
        this.#byte(value & 0xff);
      }
      return;
    }
    if (!Number.isSafeInteger(value) || value < 0 || this.#at + 9 > scratchBytes) {
      this.#fits = false;
      return;
    }
    this.#byte(0xcb);
    this.#view.setFloat64(this.#at, value);
    this.#at += 8;
  }
}

/** The codec gives other objects forms of their own. */
function isPlainObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

const writer = new EventWriter();
