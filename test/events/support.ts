/** Builders of recorded events at consecutive positions, as a writer makes them. */
import {
  type CardeaEvent,
  decodeEvent,
  type Effect,
  type Epoch,
  type EventId,
  encode,
  encodeEvent,
  genesis,
  type Link,
  linkOf,
  type Position,
  type Recorded,
  type SessionId,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../src/events/index.ts";

export const sessionId = (n: number): SessionId => `session-${n}` as SessionId;
export const userId = (n: number): UserId => `user-${n}` as UserId;

export function created(session: number, user: number, expiresAt = 1_000_000): CardeaEvent {
  return {
    type: "SessionCreated",
    sessionId: sessionId(session),
    userId: userId(user),
    idpId: "idp",
    issuedAt: 0 as UnixMs,
    expiresAt: expiresAt as UnixMs,
    profile: new Uint8Array([session, user]),
  };
}

export function revoked(session: number, user: number): CardeaEvent {
  return { type: "SessionRevoked", sessionId: sessionId(session), userId: userId(user), reason: "operator" };
}

/** Encodes, chains and decodes events after a link. */
export function record(events: readonly CardeaEvent[], after: Link = genesis): Recorded[] {
  const recorded: Recorded[] = [];
  const versions = new Map<Stream, number>();
  let at = after;
  for (const event of events) {
    const stream = streamOf(event);
    const version = (versions.get(stream) ?? 0) + 1;
    versions.set(stream, version);
    const bytes = encodeEvent({
      epoch: 1 as Epoch,
      position: (at.position + 1) as Position,
      eventId: eventId(at.position + 1),
      stream,
      version,
      recordedAt: 1 as UnixMs,
      actor: "system",
      cause: null,
      event,
    });
    const one = decodeEvent(bytes, at);
    recorded.push(one);
    at = linkOf(one);
  }
  return recorded;
}

/** An event of a type this build does not know. */
export function foreign(options: { stream: Stream; effect: Effect; after: Link }): Recorded {
  const bytes = encode([
    1,
    options.after.position + 1,
    eventId(options.after.position + 1),
    options.stream,
    1,
    "FromTheFuture",
    1,
    options.effect,
    1,
    "system",
    null,
    { anything: true },
  ]);
  return decodeEvent(bytes, options.after);
}

export function eventId(n: number): EventId {
  return `00000000-0000-4000-8000-${String(n).padStart(12, "0")}` as EventId;
}
