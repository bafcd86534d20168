/**
 * Batch: the unit that a leader publishes after a clean commit. The sender splits it and receivers open it.
 *
 * A receiver accepts a batch only if the leader of its epoch and incarnation signed it and its events chain from
 * `previous` to `last`. The follower decides whether the batch continues what it has. Pure.
 */
import {
  decodeEvent,
  decodeEvents,
  type Link,
  linkOf,
  type Recorded,
  sameLink,
  type WrappedKey,
} from "../../events/index.ts";
import { type EnvelopeOpener, isLeaderOf, type RefusedEnvelope } from "../wire/broker-opener.ts";
import type { Certificate } from "../wire/envelope.ts";
import { type Batch, parseBatch } from "../wire/messages.ts";

/** Upper bound of a batch. With its envelope it stays well below the 1 MB that a NATS server accepts by default. */
export const batchBytesMax = 256 * 1024;

export type OpenedBatch = Readonly<{
  batch: Batch;
  /** Decoded and chained; empty when the receiver reported that it already has them. */
  events: readonly Recorded[];
  from: Certificate;
}>;

/**
 * Opens a batch.
 * @param has true when everything up to a link is applied already: then the batch is authenticated but not decoded
 */
export function openBatch(
  envelope: Uint8Array,
  open: EnvelopeOpener,
  has: (last: Link) => boolean = () => false,
): OpenedBatch | RefusedEnvelope {
  const opened = open(envelope);
  if ("refused" in opened) return { refused: "not-authentic", detail: opened.refused };
  if (opened.kind !== "batch") return { refused: "wrong-kind", detail: `a ${opened.kind} is not a batch` };
  try {
    return believeBatch(opened.from, parseBatch(opened.payload), has);
  } catch (error) {
    return { refused: "malformed", detail: error instanceof Error ? error.message : "not a batch" };
  }
}

/** Checks the content of an authentic batch: see `openBatch`. */
export function believeBatch(
  from: Certificate,
  batch: Batch,
  has: (last: Link) => boolean = () => false,
): OpenedBatch | RefusedEnvelope {
  const { epoch, previous, last, entries } = batch;
  if (!isLeaderOf(from, batch)) return { refused: "wrong-sender", detail: "the sender does not lead that epoch" };
  if (entries.length === 0 || last.position !== previous.position + entries.length || last.epoch !== epoch) {
    return { refused: "does-not-chain", detail: "its links do not fit its events" };
  }
  if (has(last)) return { batch, events: [], from };
  try {
    const events = decodeEvents(entries, previous);
    const end = events.at(-1);
    if (end === undefined || !sameLink(linkOf(end), last) || events.some((event) => event.epoch !== epoch)) {
      return { refused: "does-not-chain", detail: "its events do not lead to its last link" };
    }
    return { batch, events, from };
  } catch (error) {
    return { refused: "malformed", detail: error instanceof Error ? error.message : "not events" };
  }
}

/**
 * Splits a batch at event boundaries. Each part has the links that make it a batch of its own. A key goes with the
 * first part that mentions its person. A single event above the limit forms a part alone.
 */
export function splitBatch(batch: Batch, bytesMax: number = batchBytesMax): readonly Batch[] {
  const total = sum(batch.entries, (bytes) => bytes.length) + sum(batch.keys, sizeOfKey);
  if (total <= bytesMax || batch.entries.length <= 1) return [batch];
  const keys = new Map<string, WrappedKey>(batch.keys.map((key) => [key.userId, key]));
  const parts: Batch[] = [];
  let previous = batch.previous;
  let at = previous;
  let part: { entries: Uint8Array[]; keys: WrappedKey[]; size: number } = { entries: [], keys: [], size: 0 };
  const close = (): void => {
    if (part.entries.length === 0) return;
    parts.push({ ...batch, previous, entries: part.entries, last: at, keys: part.keys });
    previous = at;
    part = { entries: [], keys: [], size: 0 };
  };
  for (const bytes of batch.entries) {
    const recorded = decodeEvent(bytes, at);
    const own = peopleIn(recorded).flatMap((id) => keys.get(id) ?? []);
    const size = bytes.length + sum(own, sizeOfKey);
    if (part.size + size > bytesMax) close();
    for (const key of own) keys.delete(key.userId);
    part.entries.push(bytes);
    part.keys.push(...own);
    part.size += size;
    at = linkOf(recorded);
  }
  close();
  const [first, ...rest] = parts;
  return first === undefined ? [batch] : [{ ...first, keys: [...first.keys, ...keys.values()] }, ...rest];
}

function peopleIn({ event }: Recorded): readonly string[] {
  return "userId" in event ? [event.userId] : [];
}

/** The MessagePack size of a user id, a key id and a wrapped key, with their field names. */
function sizeOfKey(key: WrappedKey): number {
  return key.userId.length + key.keyId.length + key.wrapped.length + 40;
}

function sum<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}
