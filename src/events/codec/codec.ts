/**
 * Codec: converts events to bytes and back, and computes the hash chain over the bytes.
 *
 * - The bytes of an event are one MessagePack array in a fixed order, with everything the log records about it.
 * - The writer encodes an event once. The bytes are stored, sent and hashed verbatim and never encoded again, so a
 *   change of encoder cannot break the chain.
 * - `hash = SHA-256(previous hash ‖ bytes)`. Old shapes are lifted (formats.ts) after the bytes were hashed.
 */

import { hash as digestOf } from "node:crypto";
import {
  type CardeaEvent,
  type Effect,
  type EventType,
  effectOf,
  type Recorded,
  type UnknownEvent,
} from "../catalog.ts";
import { CodedError } from "../coded-error.ts";
import type { EventBody } from "../event-format.ts";
import { isReadable, lift, lower, newestVersionAt, readsLevel } from "../formats.ts";
import {
  type CommandId,
  type Hash,
  InvalidIdError,
  parseEpoch,
  parseEventId,
  parsePosition,
  parseUnixMs,
} from "../ids.ts";
import type { Link } from "../link.ts";
import { MalformedEventError } from "../malformed-event.ts";
import { decode, encode } from "../messagepack.ts";
import type { Stream } from "../streams.ts";
import { eventPages } from "./event-pages.ts";
import { ScratchBuffer } from "./scratch-buffer.ts";
import { SessionEventReader } from "./session-event-codec.ts";

export type EventToEncode = Omit<Recorded, "hash" | "event" | "type" | "schemaVersion" | "effect"> &
  Readonly<{ event: CardeaEvent }>;

/** Only a later level can express the event. Writers check with `levelNeededBy` first. */
export class LevelTooLowError extends CodedError<"ERR_EVENTS_LEVEL_TOO_LOW"> {
  override readonly code = "ERR_EVENTS_LEVEL_TOO_LOW";
  constructor(type: string, needed: number) {
    super(`${type} cannot be written below level ${needed}`);
  }
}

/** The level that an event needs; undefined: it can be written at this level. */
export function levelNeededBy(event: CardeaEvent, level: number): number | undefined {
  if (newestVersionAt(event.type, level) !== undefined) return undefined; // almost always
  const { type, ...body } = event;
  const written = lower(type, body, level);
  return "needsLevel" in written ? written.needsLevel : undefined;
}

/**
 * Encodes an event at its position. The writer calls this once per event.
 * @param level the cluster's level
 * @throws LevelTooLowError
 */
export function encodeEvent(entry: EventToEncode, level: number = readsLevel): Uint8Array {
  const { type, ...event } = entry.event;
  const written = lower(type, event, level);
  if ("needsLevel" in written) throw new LevelTooLowError(type, written.needsLevel);
  const bytes = encode([
    entry.epoch,
    entry.position,
    entry.eventId,
    entry.stream,
    entry.version,
    type,
    written.version,
    effectOf(type),
    entry.recordedAt,
    entry.actor,
    entry.cause,
    written.body,
  ]);
  return eventPages.copy(bytes); // the encoder's buffers also hold other messages
}

const hashBytes = 32;
/** Holds the bytes to be hashed. Overwritten by each call. */
const scratch = new ScratchBuffer(16_384);
const sessionEvents = new SessionEventReader(scratch.bytes);

/** The next hash of the chain. */
export function chainHash(previous: Hash, bytes: Uint8Array): Hash {
  const both = scratch.first(hashBytes + bytes.length);
  both.write(previous, "hex");
  both.set(bytes, hashBytes);
  return digestOf("sha256", both, "hex") as Hash;
}

/**
 * Decodes one event and links it to the one before.
 * @throws MalformedEventError if it is not an event or does not directly follow `previous`
 */
export function decodeEvent(bytes: Uint8Array, previous: Link): Recorded {
  const hash = chainHash(previous.hash, bytes); // also copies the event to `scratch`
  const plain = scratch.fits(hashBytes + bytes.length) ? sessionEvents.read(hashBytes, bytes, hash) : undefined;
  const recorded = plain ?? decodeAny(bytes, hash);
  if (recorded.position !== previous.position + 1) {
    throw new MalformedEventError(`position ${recorded.position} does not follow ${previous.position}`);
  }
  if (recorded.epoch < previous.epoch) throw new MalformedEventError("the epoch is lower than the previous one");
  return recorded;
}

function decodeAny(bytes: Uint8Array, hash: Hash): Recorded {
  const fields = decode(bytes);
  if (!Array.isArray(fields) || fields.length !== 12) throw new MalformedEventError("not an array of 12 fields");
  const [epoch, position, eventId, stream, version, type, schema, effect, recordedAt, actor, cause, body] = fields;
  return {
    epoch: parseField(parseEpoch, epoch),
    position: parseField(parsePosition, position),
    hash,
    eventId: parseField(parseEventId, eventId),
    stream: parseString(stream, "stream") as Stream,
    version: parseInteger(version, "stream version"),
    type: parseString(type, "type"),
    schemaVersion: parseInteger(schema, "schema version"),
    effect: parseEffect(effect),
    recordedAt: parseField(parseUnixMs, recordedAt),
    actor: parseString(actor, "actor"),
    cause: cause === null ? null : (parseString(cause, "cause") as CommandId),
    event: parseBody(parseString(type, "type"), parseInteger(schema, "schema version"), body),
  };
}

/** The link at an event, without its other fields. */
export function linkOf({ epoch, position, hash }: Link): Link {
  return { epoch, position, hash };
}

/** Decodes consecutive events; see `decodeEvent`. */
export function decodeEvents(all: readonly Uint8Array[], previous: Link): Recorded[] {
  const recorded: Recorded[] = [];
  let at = previous;
  for (const bytes of all) {
    const one = decodeEvent(bytes, at);
    recorded.push(one);
    at = one; // a recorded event has the fields of its own link
  }
  return recorded;
}

function parseBody(type: string, schema: number, body: unknown): CardeaEvent | UnknownEvent {
  if (!isReadable(type, schema)) return { type: "Unknown", name: type };
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new MalformedEventError("the body is not a map");
  // A writer of this cluster made the body, and the chain and a broker's signature cover it: its fields are trusted.
  return { type: type as EventType, ...lift(type, schema, body as EventBody) } as CardeaEvent;
}

function parseEffect(value: unknown): Effect {
  if (value === "tightens" || value === "neutral" || value === "either") return value;
  throw new MalformedEventError("unknown effect");
}

/** An id that is not valid makes its event malformed. */
function parseField<Value>(parse: (value: unknown) => Value, value: unknown): Value {
  try {
    return parse(value);
  } catch (cause) {
    if (cause instanceof InvalidIdError) throw new MalformedEventError(cause.message, { cause });
    throw cause;
  }
}

function parseString(value: unknown, field: string): string {
  if (typeof value === "string") return value;
  throw new MalformedEventError(`${field} is not a string`);
}

function parseInteger(value: unknown, field: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new MalformedEventError(`${field} is not a non-negative integer`);
}
