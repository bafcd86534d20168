/**
 * Batch: candidates to one batch.
 *
 * Pure. Every command is carried out against the ledger at one and the same head; a command that touches a stream which another
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
import { type Access, AccessSet, accessOf } from "../commands/access.ts";
import { perform } from "../commands/perform.ts";
import { type Changes, type Performed, refused, type Tools } from "../commands/performed.ts";
import type { Queued } from "./command-queue.ts";

/** A batch is at most this big, or one command. */
export const batchEventsMax = 512;
export const batchBytesMax = 256 * 1024;

export type BatchBuilder = Readonly<{
  ledger: Projection;
  epoch: Epoch;
  incarnation: Incarnation;
  tools: Omit<Tools, "now" | "personKeyOf" | "versionOf">;
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
  /** What its commands read and write. */
  used: AccessSet;
  /** Refused, or nothing to do, as of the head. */
  settled: readonly Settled[];
  held: readonly Queued[];
  missing: Readonly<{ streams: readonly Stream[]; people: readonly UserId[] }>;
}>;

/** What a draft is to stand behind: the head, or a batch that is on its way there, with all that one reads and writes. */
export type Behind = Readonly<{ link: Link; used: AccessSet | null }>;

/**
 * The batch that comes next, as it grows. Behind a batch in flight it is carried out against the same head as that one: the two are
 * one batch, written in two parts, and whatever touches a stream of the first is held for the batch after this one (docs/adr/0027).
 */
export class BatchDraft {
  readonly #desk: BatchBuilder;
  readonly #behind: Behind;
  readonly #written: Draft;
  readonly #used = new AccessSet();
  readonly #heldUp = new AccessSet();
  readonly #settled: Settled[] = [];
  readonly #held: Queued[] = [];
  readonly #missing = { streams: new Set<Stream>(), people: new Set<UserId>() };
  /** The same of the command that is being carried out. */
  readonly #sought = { streams: new Set<Stream>(), people: new Set<UserId>() };

  constructor(desk: BatchBuilder, behind: Behind) {
    this.#desk = desk;
    this.#behind = behind;
    this.#written = new Draft(desk, behind.link);
  }

  /** Events in it. */
  get size(): number {
    return this.#written.size;
  }
  get full(): boolean {
    return this.#written.full;
  }
  /** Nothing of it can be written, and something is held. */
  get onlyHolds(): boolean {
    return this.size === 0 && this.#held.length > 0;
  }
  /** What has to be loaded before it can hold everything that it was given. */
  get missing(): Built["missing"] {
    return { streams: [...this.#missing.streams], people: [...this.#missing.people] };
  }

  add(candidates: readonly Queued[], now: UnixMs): void {
    const tools = this.#toolsAt(now);
    for (const queued of candidates) this.#add(queued, tools);
  }

  #add(queued: Queued, tools: Tools): void {
    const desk = this.#desk;
    const access = accessOf(queued.request.command, desk.ledger);
    if (this.#conflicts(access)) return this.#hold(queued, access);
    const performed = writable(perform(desk.ledger, queued.request, tools), desk.ledger.level);
    const written = performed.type === "changes" ? performed.changes.events.map(streamOf) : [];
    for (const stream of written) if (desk.versionOf(stream) === undefined) this.#sought.streams.add(stream);
    if (this.#sought.streams.size + this.#sought.people.size > 0) {
      for (const stream of this.#sought.streams) this.#missing.streams.add(stream);
      for (const userId of this.#sought.people) this.#missing.people.add(userId);
      this.#sought.streams.clear();
      this.#sought.people.clear();
      return this.#hold(queued, access);
    }
    if (performed.type !== "changes") {
      this.#settled.push({ queued, performed });
      return;
    }
    const own = { reads: access.reads, writes: [...access.writes, ...written] };
    if (this.#conflicts(own) || !this.#written.add(queued, performed.changes, { streams: written, now: tools.now }))
      return this.#hold(queued, own);
    this.#used.add(own);
  }

  #toolsAt(now: UnixMs): Tools {
    const desk = this.#desk;
    const { streams, people } = this.#sought;
    return {
      ...desk.tools,
      now,
      personKeyOf(userId) {
        const key = desk.keyOf(userId);
        if (key === undefined) people.add(userId);
        return key ?? undefined;
      },
      versionOf(stream) {
        const version = desk.versionOf(stream);
        if (version === undefined) streams.add(stream);
        return version ?? 0;
      },
    };
  }

  #conflicts(access: Access): boolean {
    const inFlight = this.#behind.used;
    return this.#used.conflicts(access) || this.#heldUp.conflicts(access) || inFlight?.conflicts(access) === true;
  }

  #hold(queued: Queued, access: Access): void {
    this.#held.push(queued);
    this.#heldUp.add(access);
  }

  finish(): Built {
    const { missing } = this;
    return { ...this.#written.finish(), used: this.#used, settled: this.#settled, held: this.#held, missing };
  }
}

/** What can only be written at a later level is refused: a reader that is here could not read it. */
function writable(performed: Performed, level: number): Performed {
  if (performed.type !== "changes") return performed;
  let needed = level;
  for (const event of performed.changes.events) needed = Math.max(needed, levelNeededBy(event, level) ?? 0);
  if (needed <= level) return performed;
  const remedy = "bring every broker and node to the new version, then run `cardea cluster finalize`";
  return refused("conflict", `the cluster is at level ${level}, and this needs level ${needed}: ${remedy}`);
}

/** The batch as it grows. */
class Draft {
  readonly #desk: BatchBuilder;
  readonly #entries: LogEntry[] = [];
  readonly #accepted: Accepted[] = [];
  readonly #commands: AppendBatch["commands"][number][] = [];
  readonly #streams: AppendBatch["streams"][number][] = [];
  readonly #parts: Omit<Changes, "events">[] = [];
  readonly #previous: Link;
  #at: Link;
  #bytes = 0;

  constructor(desk: BatchBuilder, previous: Link) {
    this.#desk = desk;
    this.#previous = previous;
    this.#at = previous;
  }

  get size(): number {
    return this.#entries.length;
  }
  get full(): boolean {
    return this.#entries.length >= batchEventsMax || this.#bytes >= batchBytesMax;
  }

  /** @returns false when it does not fit any more; then nothing was added */
  add(queued: Queued, changes: Changes, of: Readonly<{ streams: readonly Stream[]; now: UnixMs }>): boolean {
    const entries: LogEntry[] = [];
    const streams = new Map<Stream, AppendBatch["streams"][number]>();
    let at = this.#at;
    for (const [n, event] of changes.events.entries()) {
      const stream = of.streams[n] ?? streamOf(event); // no other command of the batch writes it
      const known = this.#desk.versionOf(stream) ?? 0;
      const { expected, next } = streams.get(stream) ?? { expected: known, next: known };
      const entry = this.#entry(event, at, { queued, version: next + 1, now: of.now });
      streams.set(stream, { stream, expected, next: next + 1 });
      entries.push(entry);
      at = linkOf(entry.recorded);
    }
    const beside = changes.configurations.reduce((sum, { body }) => sum + body.length, 0);
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes.length, beside);
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
    const { epoch, incarnation } = this.#desk;
    return {
      accepted: this.#accepted,
      batch: {
        epoch,
        incarnation,
        previous: this.#previous,
        entries: this.#entries,
        last: this.#at,
        commands: this.#commands,
        streams: this.#streams,
        newKeys: this.#parts.flatMap((part) => part.newKeys.map(({ wrapped }) => wrapped)),
        erasedKeys: this.#parts.flatMap((part) => part.erasedKeys),
        vault: this.#parts.flatMap((part) => part.vault),
        vaultRemoved: this.#parts.flatMap((part) => part.vaultRemoved),
        configurations: this.#parts.flatMap((part) => part.configurations),
      },
    };
  }

  #entry(event: CardeaEvent, previous: Link, of: Readonly<{ queued: Queued; version: number; now: UnixMs }>): LogEntry {
    const { request } = of.queued;
    const { tools } = this.#desk;
    return entryAt(previous, {
      epoch: this.#desk.epoch,
      event,
      version: of.version,
      now: of.now,
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
