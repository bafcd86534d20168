/**
 * Batch: turns candidate commands into one batch. Pure.
 *
 * All commands are performed against one head. A command that touches a stream of another one in the batch is deferred
 * to the next batch, and so is everything after it on its streams. Keys and stream versions that must be loaded first
 * are named in `missing`: nothing is guessed.
 */
import {
  type CardeaEvent,
  type CommandId,
  type Epoch,
  type Incarnation,
  type Link,
  levelNeededBy,
  linkOf,
  nextPosition,
  type PersonKey,
  type Projection,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
  uuidFromBytes,
  WrittenEvent,
} from "../../events/index.ts";
import type { AppendBatch, LogEntry } from "../../replication/log/index.ts";
import { type Access, AccessSet } from "../commands/access.ts";
import { accessOf, performCommand, personOf } from "../commands/catalog.ts";
import { type Changes, type Performed, refuseCommand, type Tools } from "../commands/performed.ts";
import type { QueuedCommand } from "../core/internal-messages.ts";

/** The bounds of a batch; a single command may exceed them. */
export const batchEventsMax = 512;
export const batchBytesMax = 256 * 1024;

export type BatchBuilder = Readonly<{
  projection: Projection;
  epoch: Epoch;
  incarnation: Incarnation;
  tools: Omit<Tools, "now" | "personKeyOf" | "versionOf">;
  /** Null: the person has none. Undefined: not loaded. */
  keyOf: (userId: UserId) => PersonKey | null | undefined;
  /** Undefined: not loaded. */
  versionOf: (stream: Stream) => number | undefined;
}>;

export type AcceptedCommand = Readonly<{
  queued: QueuedCommand;
  last: Link;
  newKeys: readonly PersonKey[];
  /** Its events only hold the change: the caller gets a refusal. */
  held: CommandId | null;
}>;
export type ConcludedCommand = Readonly<{ queued: QueuedCommand; performed: Exclude<Performed, { type: "changes" }> }>;

export type BuiltBatch = Readonly<{
  /** Null: nothing to write. */
  batch: AppendBatch | null;
  accepted: readonly AcceptedCommand[];
  /** The streams that its commands read and write. */
  used: AccessSet;
  /** Refused, or nothing to do, at the head. */
  concluded: readonly ConcludedCommand[];
  deferred: readonly QueuedCommand[];
  missing: Readonly<{ streams: readonly Stream[]; people: readonly UserId[] }>;
}>;

/** The link before a draft: the head, or the end of a batch in flight, with the streams that batch uses. */
export type DraftBase = Readonly<{ link: Link; used: AccessSet | null }>;

/**
 * The next batch as it grows. Behind a batch in flight, it is performed against the same head: the two are one batch,
 * written in two parts. Commands that touch a stream of the first part are deferred to the batch after this one
 * (docs/adr/0027).
 */
export class BatchDraft {
  readonly #builder: BatchBuilder;
  readonly #base: DraftBase;
  readonly #written: DraftEntries;
  readonly #used = new AccessSet();
  readonly #deferredAccess = new AccessSet();
  readonly #concluded: ConcludedCommand[] = [];
  readonly #deferred: QueuedCommand[] = [];
  readonly #missing = { streams: new Set<Stream>(), people: new Set<UserId>() };
  /** The same for the command being performed. */
  readonly #missingHere = { streams: new Set<Stream>(), people: new Set<UserId>() };

  constructor(builder: BatchBuilder, base: DraftBase) {
    this.#builder = builder;
    this.#base = base;
    this.#written = new DraftEntries(builder, base.link);
  }

  /** The number of its events. */
  get size(): number {
    return this.#written.size;
  }
  get full(): boolean {
    return this.#written.full;
  }
  /** It has nothing to write, and has deferred commands. */
  get onlyDefers(): boolean {
    return this.size === 0 && this.#deferred.length > 0;
  }
  /** What must be loaded before all its candidates can be performed. */
  get missing(): BuiltBatch["missing"] {
    return { streams: [...this.#missing.streams], people: [...this.#missing.people] };
  }

  get hasMissing(): boolean {
    return this.#missing.streams.size + this.#missing.people.size > 0;
  }

  /**
   * Notes what candidates surely miss, without performing them: their person's key, and the versions of their streams.
   * Seals are most of the cost of a sign-in, and would be made in vain.
   */
  noteMissing(candidates: readonly QueuedCommand[]): void {
    const { keyOf, versionOf, projection } = this.#builder;
    for (const { request } of candidates) {
      const person = personOf(request.command, projection);
      if (person === undefined || keyOf(person) !== undefined) continue;
      const access = accessOf(request, projection);
      if (this.#conflicts(access)) continue; // deferred, whatever it misses
      this.#missing.people.add(person);
      for (const stream of access.writes) if (versionOf(stream) === undefined) this.#missing.streams.add(stream);
    }
  }

  add(candidates: readonly QueuedCommand[], now: UnixMs): void {
    const tools = this.#toolsAt(now);
    for (const queued of candidates) this.#add(queued, tools);
  }

  #add(queued: QueuedCommand, tools: Tools): void {
    const builder = this.#builder;
    const access = accessOf(queued.request, builder.projection);
    if (this.#conflicts(access)) {
      this.#defer(queued, access);
      return;
    }
    const performed = refuseAboveLevel(
      performCommand(builder.projection, queued.request, tools),
      builder.projection.level,
    );
    const written =
      performed.type === "changes" ? performed.changes.events.map((event) => knownName(event, access)) : [];
    for (const stream of written) if (builder.versionOf(stream) === undefined) this.#missingHere.streams.add(stream);
    if (this.#missingHere.streams.size + this.#missingHere.people.size > 0) {
      for (const stream of this.#missingHere.streams) this.#missing.streams.add(stream);
      for (const userId of this.#missingHere.people) this.#missing.people.add(userId);
      this.#missingHere.streams.clear();
      this.#missingHere.people.clear();
      this.#defer(queued, access);
      return;
    }
    if (performed.type !== "changes") {
      this.#concluded.push({ queued, performed });
      return;
    }
    const own = withWrites(access, written);
    if (
      (own !== access && this.#conflicts(own)) ||
      !this.#written.add(queued, performed.changes, { streams: written, now: tools.now })
    )
      this.#defer(queued, own);
    else this.#used.add(own);
  }

  #toolsAt(now: UnixMs): Tools {
    const builder = this.#builder;
    const { streams, people } = this.#missingHere;
    return {
      ...builder.tools,
      now,
      personKeyOf(userId) {
        const key = builder.keyOf(userId);
        if (key === undefined) people.add(userId);
        return key ?? undefined;
      },
      versionOf(stream) {
        const version = builder.versionOf(stream);
        if (version === undefined) streams.add(stream);
        return version ?? 0;
      },
    };
  }

  #conflicts(access: Access): boolean {
    const inFlight = this.#base.used;
    return (
      this.#used.conflicts(access) || this.#deferredAccess.conflicts(access) || inFlight?.conflicts(access) === true
    );
  }

  #defer(queued: QueuedCommand, access: Access): void {
    this.#deferred.push(queued);
    this.#deferredAccess.add(access);
  }

  finish(): BuiltBatch {
    const { missing } = this;
    return {
      ...this.#written.finish(),
      used: this.#used,
      concluded: this.#concluded,
      deferred: this.#deferred,
      missing,
    };
  }
}

/** An access that also names these streams. Nearly always it does. */
function withWrites(access: Access, written: readonly Stream[]): Access {
  if (written.every((stream) => access.writes.includes(stream))) return access;
  const more = written.filter((stream) => !access.writes.includes(stream));
  return { reads: access.reads, writes: [...access.writes, ...more] };
}

/** The stream of an event: if its access names it, the same string, which has been hashed already. */
function knownName(event: CardeaEvent, { writes }: Access): Stream {
  const stream = streamOf(event);
  for (const known of writes) if (known === stream) return known;
  return stream;
}

/** Refuses events of a later level: present readers could not read them. */
function refuseAboveLevel(performed: Performed, level: number): Performed {
  if (performed.type !== "changes") return performed;
  let needed = level;
  for (const event of performed.changes.events) needed = Math.max(needed, levelNeededBy(event, level) ?? 0);
  if (needed <= level) return performed;
  const remedy = "upgrade every broker and node, then run `cardea cluster finalize`";
  return refuseCommand("conflict", `the cluster is at level ${level}, and this needs level ${needed}: ${remedy}`);
}

const noKeys: readonly PersonKey[] = [];

/** The entries of a batch as it grows. */
class DraftEntries {
  readonly #builder: BatchBuilder;
  readonly #entries: LogEntry[] = [];
  readonly #accepted: AcceptedCommand[] = [];
  readonly #commands: AppendBatch["commands"][number][] = [];
  readonly #streams: { readonly stream: Stream; readonly expected: number; next: number }[] = [];
  readonly #changes: Omit<Changes, "events">[] = [];
  readonly #previous: Link;
  #tail: Link;
  #bytes = 0;

  constructor(builder: BatchBuilder, previous: Link) {
    this.#builder = builder;
    this.#previous = previous;
    this.#tail = previous;
  }

  get size(): number {
    return this.#entries.length;
  }
  get full(): boolean {
    return this.#entries.length >= batchEventsMax || this.#bytes >= batchBytesMax;
  }

  /** @returns false if it does not fit; then nothing was added */
  add(queued: QueuedCommand, changes: Changes, of: Readonly<{ streams: readonly Stream[]; now: UnixMs }>): boolean {
    const entriesBefore = this.#entries.length;
    const streamsBefore = this.#streams.length;
    let tail: Link = this.#tail;
    let bytes = 0;
    for (const { body } of changes.configurations) bytes += body.length;
    let n = 0;
    for (const event of changes.events) {
      const stream = of.streams[n] ?? streamOf(event); // no other command of the batch writes it
      n += 1;
      const version = this.#nextVersion(stream, streamsBefore);
      const entry = this.#entry(event, tail, { queued, stream, version, now: of.now });
      this.#entries.push(entry);
      bytes += entry.bytes.length;
      tail = entry.recorded; // it has the fields of its own link
    }
    const full = this.#entries.length > batchEventsMax || this.#bytes + bytes > batchBytesMax;
    if (full && entriesBefore > 0) {
      this.#entries.length = entriesBefore;
      this.#streams.length = streamsBefore;
      return false;
    }
    const first = nextPosition(this.#tail.position);
    this.#commands.push({ commandId: queued.request.commandId, first, count: n });
    const newKeys = changes.newKeys.length === 0 ? noKeys : changes.newKeys.map(({ person }) => person);
    this.#accepted.push({ queued, last: linkOf(tail), newKeys, held: changes.held ?? null });
    this.#changes.push(changes);
    this.#tail = tail;
    this.#bytes += bytes;
    return true;
  }

  /** Counts one more event of a stream. @param from where the streams of its command begin */
  #nextVersion(stream: Stream, from: number): number {
    for (let n = from; n < this.#streams.length; n += 1) {
      const known = this.#streams[n];
      if (known?.stream !== stream) continue;
      known.next += 1;
      return known.next;
    }
    const expected = this.#builder.versionOf(stream) ?? 0;
    this.#streams.push({ stream, expected, next: expected + 1 });
    return expected + 1;
  }

  finish(): Pick<BuiltBatch, "batch" | "accepted"> {
    if (this.#entries.length === 0) return { batch: null, accepted: [] };
    const { epoch, incarnation } = this.#builder;
    return {
      accepted: this.#accepted,
      batch: {
        epoch,
        incarnation,
        previous: this.#previous,
        entries: this.#entries,
        last: linkOf(this.#tail),
        commands: this.#commands,
        streams: this.#streams,
        newKeys: this.#changes.flatMap((part) => part.newKeys).map(({ wrapped }) => wrapped),
        erasedKeys: this.#changes.flatMap((part) => part.erasedKeys),
        vault: this.#changes.flatMap((part) => part.vault),
        vaultRemoved: this.#changes.flatMap((part) => part.vaultRemoved),
        configurations: this.#changes.flatMap((part) => part.configurations),
        retired: this.#changes.flatMap((part) => part.retired),
      },
    };
  }

  #entry(
    event: CardeaEvent,
    previous: Link,
    of: Readonly<{ queued: QueuedCommand; stream: Stream; version: number; now: UnixMs }>,
  ): LogEntry {
    const { request } = of.queued;
    const { tools } = this.#builder;
    const entry = {
      epoch: this.#builder.epoch,
      eventId: uuidFromBytes(tools.random(16)),
      stream: of.stream,
      version: of.version,
      recordedAt: of.now,
      actor: request.actor,
      cause: request.commandId,
      event,
    };
    return WrittenEvent.write(entry, this.#builder.projection.level, previous);
  }
}
