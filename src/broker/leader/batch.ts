/**
 * Batch: candidates to one batch.
 *
 * Pure. Every command is carried out against the ledger at exactly the head; a command that touches a stream which another
 * one of the batch touches is held for the next, and so is everything behind it on its own streams. What has to be loaded
 * first (a key, a stream's version) is named in `missing`: nothing is guessed.
 */
import {
  type CardeaEvent,
  decodeEvent,
  type Epoch,
  type EventId,
  encodeEvent,
  type Incarnation,
  type Link,
  levelNeededBy,
  linkOf,
  type PersonKey,
  type Position,
  type Projection,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
  uuidFromBytes,
} from "../../events/index.ts";
import type { AppendBatch, LogEntry } from "../../replication/index.ts";
import { AccessSet, accessOf } from "../commands/access.ts";
import { perform } from "../commands/perform.ts";
import { type Changes, type Performed, refused, type Tools } from "../commands/performed.ts";
import type { Queued } from "./command-queue.ts";

/** A batch is at most this big, or one command. */
export const batchEventsMax = 512;
export const batchBytesMax = 256 * 1024;

export type Desk = Readonly<{
  ledger: Projection;
  epoch: Epoch;
  incarnation: Incarnation;
  tools: Omit<Tools, "personKeyOf" | "versionOf">;
  /** Null: surely none. Undefined: not loaded. */
  keyOf: (userId: UserId) => PersonKey | null | undefined;
  /** Undefined: not loaded. */
  versionOf: (stream: Stream) => number | undefined;
}>;

export type Accepted = Readonly<{ queued: Queued; last: Link; newKeys: readonly PersonKey[] }>;
export type Settled = Readonly<{ queued: Queued; performed: Exclude<Performed, { type: "changes" }> }>;

export type Built = Readonly<{
  /** Null: nothing to write. */
  batch: AppendBatch | null;
  accepted: readonly Accepted[];
  /** Refused, or nothing to do, as of the head. */
  settled: readonly Settled[];
  held: readonly Queued[];
  missing: Readonly<{ streams: readonly Stream[]; people: readonly UserId[] }>;
}>;

export function buildBatch(candidates: readonly Queued[], desk: Desk): Built {
  const draft = new Draft(desk);
  const used = new AccessSet();
  const heldUp = new AccessSet();
  const settled: Settled[] = [];
  const held: Queued[] = [];
  const streams = new Set<Stream>();
  const people = new Set<UserId>();
  for (const queued of candidates) {
    const access = accessOf(queued.request.command, desk.ledger);
    const hold = (): void => {
      held.push(queued);
      heldUp.add(access);
    };
    if (used.conflicts(access) || heldUp.conflicts(access)) {
      hold();
      continue;
    }
    const seen = { streams: new Set<Stream>(), people: new Set<UserId>() };
    const performed = writable(perform(desk.ledger, queued.request, toolsOf(desk, seen)), desk.ledger.level);
    if (performed.type === "changes")
      for (const event of performed.changes.events) draft.noteVersion(event, seen.streams);
    if (seen.streams.size + seen.people.size > 0) {
      for (const stream of seen.streams) streams.add(stream);
      for (const userId of seen.people) people.add(userId);
      hold();
      continue;
    }
    if (performed.type !== "changes") {
      settled.push({ queued, performed });
      continue;
    }
    const own = { reads: access.reads, writes: [...access.writes, ...performed.changes.events.map(streamOf)] };
    if (used.conflicts(own) || heldUp.conflicts(own) || !draft.add(queued, performed.changes)) {
      held.push(queued);
      heldUp.add(own);
      continue;
    }
    used.add(own);
  }
  return { ...draft.finish(), settled, held, missing: { streams: [...streams], people: [...people] } };
}

/** What can only be written at a later level is refused: a reader that is here could not read it. */
function writable(performed: Performed, level: number): Performed {
  if (performed.type !== "changes") return performed;
  const needed = Math.max(...performed.changes.events.map((event) => levelNeededBy(event, level) ?? 0));
  if (needed <= level) return performed;
  const remedy = "bring every broker and node to the new version, then run `cardea cluster finalize`";
  return refused("conflict", `the cluster is at level ${level}, and this needs level ${needed}: ${remedy}`);
}

function toolsOf(desk: Desk, seen: Readonly<{ streams: Set<Stream>; people: Set<UserId> }>): Tools {
  return {
    ...desk.tools,
    personKeyOf: (userId) => {
      const key = desk.keyOf(userId);
      if (key === undefined) seen.people.add(userId);
      return key ?? undefined;
    },
    versionOf: (stream) => {
      const version = desk.versionOf(stream);
      if (version === undefined) seen.streams.add(stream);
      return version ?? 0;
    },
  };
}

/** The batch as it grows. */
class Draft {
  readonly #desk: Desk;
  readonly #entries: LogEntry[] = [];
  readonly #accepted: Accepted[] = [];
  readonly #commands: AppendBatch["commands"][number][] = [];
  readonly #streams: AppendBatch["streams"][number][] = [];
  readonly #parts: Omit<Changes, "events">[] = [];
  #at: Link;
  #bytes = 0;

  constructor(desk: Desk) {
    this.#desk = desk;
    this.#at = desk.ledger.applied;
  }

  noteVersion(event: CardeaEvent, missing: Set<Stream>): void {
    const stream = streamOf(event);
    if (this.#desk.versionOf(stream) === undefined) missing.add(stream);
  }

  /** @returns false when it does not fit any more; then nothing was added */
  add(queued: Queued, changes: Changes): boolean {
    const entries: LogEntry[] = [];
    const streams = new Map<Stream, AppendBatch["streams"][number]>();
    let at = this.#at;
    for (const event of changes.events) {
      const stream = streamOf(event); // no other command of the batch writes it
      const known = this.#desk.versionOf(stream) ?? 0;
      const { expected, next } = streams.get(stream) ?? { expected: known, next: known };
      const entry = this.#entry(event, at, { queued, version: next + 1 });
      streams.set(stream, { stream, expected, next: next + 1 });
      entries.push(entry);
      at = linkOf(entry.recorded);
    }
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes.length, 0);
    const full = this.#entries.length + entries.length > batchEventsMax || this.#bytes + bytes > batchBytesMax;
    if (full && this.#entries.length > 0) return false;
    const first = (this.#at.position + 1) as Position;
    this.#commands.push({ commandId: queued.request.commandId, first, count: entries.length });
    this.#accepted.push({ queued, last: at, newKeys: changes.newKeys.map(({ person }) => person) });
    this.#entries.push(...entries);
    this.#streams.push(...streams.values());
    this.#parts.push(changes);
    this.#at = at;
    this.#bytes += bytes;
    return true;
  }

  finish(): Pick<Built, "batch" | "accepted"> {
    if (this.#entries.length === 0) return { batch: null, accepted: [] };
    const { epoch, incarnation, ledger } = this.#desk;
    return {
      accepted: this.#accepted,
      batch: {
        epoch,
        incarnation,
        previous: ledger.applied,
        entries: this.#entries,
        last: this.#at,
        commands: this.#commands,
        streams: this.#streams,
        newKeys: this.#parts.flatMap((part) => part.newKeys.map(({ wrapped }) => wrapped)),
        erasedKeys: this.#parts.flatMap((part) => part.erasedKeys),
        vault: this.#parts.flatMap((part) => part.vault),
        vaultRemoved: this.#parts.flatMap((part) => part.vaultRemoved),
      },
    };
  }

  #entry(event: CardeaEvent, previous: Link, of: Readonly<{ queued: Queued; version: number }>): LogEntry {
    const { request } = of.queued;
    const { tools } = this.#desk;
    return entryAt(previous, {
      epoch: this.#desk.epoch,
      event,
      version: of.version,
      now: tools.now,
      level: this.#desk.ledger.level,
      eventId: uuidFromBytes(tools.random(16)),
      actor: request.actor,
      cause: request.commandId,
    });
  }
}

/** Encodes an event right behind a link; what is folded here is what everybody else will decode. */
export function entryAt(
  previous: Link,
  of: Readonly<{
    epoch: Epoch;
    event: CardeaEvent;
    version: number;
    now: UnixMs;
    /** The cluster's. */
    level: number;
    eventId: EventId;
    actor: string;
    cause: Queued["request"]["commandId"] | null;
  }>,
): LogEntry {
  const entry = {
    epoch: of.epoch,
    position: (previous.position + 1) as Position,
    eventId: of.eventId,
    stream: streamOf(of.event),
    version: of.version,
    recordedAt: of.now,
    actor: of.actor,
    cause: of.cause,
    event: of.event,
  };
  const bytes = encodeEvent(entry, of.level);
  return { bytes, recorded: decodeEvent(bytes, previous) };
}
