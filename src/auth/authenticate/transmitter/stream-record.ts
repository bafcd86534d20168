/**
 * Stream record: what is kept for one receiver of our signals, and its form as text. Pure.
 *
 * - A receiver has at most one stream. The salt outlives it, so that the receiver sees the same opaque ids again.
 * - Every list in it is bounded. It holds no personal data but what the receiver itself wrote: its description, its
 *   credential for push, and the state of a verification. Subjects are hashes under the salt.
 * - `cursor` and `done` say what has been delivered. They only move forward, so two writers can be joined.
 */
import { createHash } from "node:crypto";
import { formatLink, type Link, parseLink, type UnixMs } from "../../../events/index.ts";
import { type StreamDelivery, type StreamState, streamStatuses } from "../../shared-signals/index.ts";

/** Everything at or below the link is done, and of the next event the signals below the index. */
export type Cursor = Readonly<{ after: Link; index: number }>;

/** An event about the stream itself, which waits for its delivery. */
export type ControlEvent = Readonly<{
  /** 1, 2, 3 … within the stream. */
  seq: number;
  at: UnixMs;
  name: "verification" | "stream-updated";
  payload: Readonly<{ state?: string; status?: StreamState; reason?: string }>;
}>;

/** A token that the receiver has refused, and that is not sent again. */
export type DeadLetter = Readonly<{ jti: string; position: number; at: UnixMs; err: string; description: string }>;

/** Why the last delivery failed; the text is ours, never that of a receiver. */
export type DeliveryFailure = Readonly<{ at: UnixMs; reason: string }>;

export type SignalStream = Readonly<{
  streamId: string;
  createdAt: UnixMs;
  delivery: StreamDelivery;
  /** URIs of events, as the receiver wrote them; null: all that the receiver may have. */
  requested: readonly string[] | null;
  description: string | null;
  status: StreamState;
  reason: string | null;
  /** Who set the status. What an operator has set, a receiver does not enable. */
  statusBy: "receiver" | "transmitter" | "operator";
  /** When the status last changed. */
  statusAt: UnixMs;
  cursor: Cursor;
  /** Tokens beyond the cursor that are done. */
  done: readonly string[];
  /** Hashes of subjects: those that are left out, or, for a receiver with `subjects: none`, those that are included. */
  subjects: readonly string[];
  controls: readonly ControlEvent[];
  controlSeq: number;
  /** The last request for a verification; 0: none. */
  verifiedAt: UnixMs;
  /** The last activity of the receiver, exact to a twentieth of the inactivity timeout. */
  activeAt: UnixMs;
  delivered: number;
  refused: number;
  /** How often retention dropped events before they were delivered. */
  gaps: number;
  /** The last of them; 0: none. */
  gapAt: UnixMs;
  deliveredAt: UnixMs;
  /** Null: the last delivery succeeded, or there was none. */
  failure: DeliveryFailure | null;
  /** The newest, oldest first. */
  deadLetters: readonly DeadLetter[];
}>;

export type StreamRecord = Readonly<{ salt: string; stream: SignalStream | null }>;

export const controlsMax = 16;
export const deadLettersMax = 50;
export const subjectsMax = 2_000;
/** Tokens that are given out beyond the cursor, and so the bound of `done`. */
export const windowMax = 1_000;

export function newStream(
  of: Pick<SignalStream, "streamId" | "createdAt" | "delivery" | "requested" | "description"> & Readonly<{ at: Link }>,
): SignalStream {
  const { at, ...given } = of;
  return {
    ...given,
    status: "enabled",
    reason: null,
    statusBy: "receiver",
    statusAt: of.createdAt,
    cursor: { after: at, index: 0 },
    done: [],
    subjects: [],
    controls: [],
    controlSeq: 0,
    verifiedAt: 0 as UnixMs,
    activeAt: of.createdAt,
    delivered: 0,
    refused: 0,
    gaps: 0,
    gapAt: 0 as UnixMs,
    deliveredAt: 0 as UnixMs,
    failure: null,
    deadLetters: [],
  };
}

export function formatRecord({ salt, stream }: StreamRecord): string {
  if (stream === null) return JSON.stringify({ salt, stream });
  const { after, index } = stream.cursor;
  return JSON.stringify({ salt, stream: { ...stream, cursor: { after: formatLink(after), index } } });
}

/** @throws if this build did not write it: nothing is delivered rather than from a wrong position */
export function parseRecord(text: string): StreamRecord {
  const value = JSON.parse(text) as StreamRecord;
  const { salt, stream } = value;
  if (typeof salt !== "string" || salt.length < 32 || stream === undefined) throw new TypeError("not a stream record");
  if (stream === null) return { salt, stream };
  if (!streamStatuses.includes(stream.status)) throw new TypeError("a stream record with an unknown status");
  const { index } = stream.cursor;
  if (!Number.isSafeInteger(index) || index < 0) throw new TypeError("a stream record with a malformed cursor");
  return { salt, stream: { ...stream, cursor: { after: parseLink(stream.cursor.after), index } } };
}

export function isBefore(a: Cursor, b: Cursor): boolean {
  const distance = a.after.position - b.after.position;
  return distance < 0 || (distance === 0 && a.index < b.index);
}

/** Adds an event about the stream. When the list is full, the oldest verification gives way. */
export function addControl(stream: SignalStream, event: Omit<ControlEvent, "seq">): SignalStream {
  const controlSeq = stream.controlSeq + 1;
  const controls = [...stream.controls, { ...event, seq: controlSeq }];
  if (controls.length > controlsMax) {
    const oldest = controls.findIndex(({ name }) => name === "verification");
    controls.splice(Math.max(0, oldest), 1);
  }
  return { ...stream, controls, controlSeq };
}

/** Changes the status. The receiver is notified of what it did not request itself. */
export function withStatus(
  stream: SignalStream,
  of: Readonly<{ status: StreamState; reason: string | null; at: UnixMs; by: SignalStream["statusBy"] }>,
): SignalStream {
  const { status, reason, at, by } = of;
  const changed = { ...stream, status, reason, statusAt: at, statusBy: by };
  if (by === "receiver") return changed;
  const payload = { status, ...(reason === null ? {} : { reason }) };
  return addControl(changed, { at, name: "stream-updated", payload });
}

/**
 * The identity of a token: it follows from the stream and what the token reports. So it is the same on every
 * repetition, after a change of leader and from every process, and two receivers cannot compare theirs.
 */
export function jtiOf(streamId: string, ...of: readonly (string | number)[]): string {
  return createHash("sha256")
    .update(JSON.stringify(["cardea set", streamId, ...of]))
    .digest("base64url")
    .slice(0, 27);
}

export const controlJti = (streamId: string, seq: number): string => jtiOf(streamId, "control", seq);

/** Joins a newer version of the record with the progress of this process. */
export function withProgress(newer: SignalStream, own: SignalStream): SignalStream {
  if (newer.streamId !== own.streamId) return newer;
  const isAhead = isBefore(newer.cursor, own.cursor);
  const isSame = !isAhead && !isBefore(own.cursor, newer.cursor);
  const done = isSame
    ? [...new Set([...newer.done, ...own.done])].slice(0, windowMax)
    : isAhead
      ? own.done
      : newer.done;
  const sent = new Set(own.controls.map(({ seq }) => seq));
  return {
    ...newer,
    cursor: isAhead ? own.cursor : newer.cursor,
    done,
    // A control event that this process knew and no longer has was delivered.
    controls: newer.controls.filter(({ seq }) => seq > own.controlSeq || sent.has(seq)),
    delivered: Math.max(newer.delivered, own.delivered),
    refused: Math.max(newer.refused, own.refused),
    deliveredAt: Math.max(newer.deliveredAt, own.deliveredAt) as UnixMs,
    failure: own.failure,
    deadLetters: own.deadLetters.length >= newer.deadLetters.length ? own.deadLetters : newer.deadLetters,
  };
}
