/**
 * Snapshot run: one run of the leader's snapshot duty. It takes a snapshot after so many events, records it in the log,
 * and drops events that no reader needs any more. Then no reader needs the log from its beginning.
 *
 * An event is dropped only if all of this is true: it is in the two newest snapshots; the older of them has been read
 * back from the disk and is of the very log that drops it; every node with a lease has reported a later position; the
 * event is older than `retentionMs`; it is in the archive, if there is one; there is no legal hold.
 *
 *   listing --one is due--> building --> saving --> tidying --> recording --> listing again
 *   listing --none is due--> reading the log's base --> finding old events --> reading the older snapshot --> dropping
 * --> over
 *
 * Pure: an effect that requests something is answered by the input named beside it, or by `failed`. More urgent work
 * runs between the builder's turns. Nothing half made stays: a run that has started tidies, whatever its outcome.
 */
import {
  type CommandResult,
  type Fact,
  type Link,
  nextPosition,
  type Position,
  parsePosition,
  type UnixMs,
  unreachable,
} from "../../events/index.ts";
import type { RetainOutcome } from "../../replication/log/index.ts";
import {
  type Builder,
  type BuilderInput,
  type ChunkRef,
  newBuilder,
  projectorVersion,
  type SnapshotManifest,
  stepBuilder,
} from "../../replication/snapshot/index.ts";
import type {
  CapturedStart,
  SnapshotEffect,
  SnapshotInput,
  SnapshotMemory,
  SnapshotRules,
  SnapshotStart,
  StoredSnapshot,
} from "./snapshot-messages.ts";

/** The two that retention needs, and one that a node may still be fetching. */
export const snapshotsKept = 3;

type Failure = Readonly<{ cause: unknown }>;
type ListedSnapshots = Extract<SnapshotInput, { type: "snapshotsListed" }>;
type RetentionPlan = Readonly<{ second: StoredSnapshot; upTo: number }>;

type Phase =
  | Fact<"new", unknown>
  | Fact<"over", unknown>
  | Fact<"looking", { again: boolean }>
  | Fact<"readingNewest", { listed: ListedSnapshots; newest: StoredSnapshot; read: number }>
  | Fact<"capturing", unknown>
  | Fact<"building", { builder: Builder; start: CapturedStart }>
  | Fact<"saving", { manifest: SnapshotManifest }>
  | Fact<"tidying", { made: StoredSnapshot | Failure }>
  | Fact<"announcing", { made: StoredSnapshot }>
  | Fact<"askingBase", RetentionPlan>
  /** The last position that is known to be old, and the first that is known to be young. */
  | Fact<"aging", RetentionPlan & { base: Link; old: number; young: number; probed: Position }>
  | Fact<"readingOlder", RetentionPlan & { old: number; read: number }>
  | Fact<"dropping", { first: Position; holding: Link }>;

/** One run. Owns its capture: after a step the run from before it must not be used again. */
export type SnapshotRun = Readonly<{
  cluster: string;
  /** When the run began. */
  now: UnixMs;
  rules: SnapshotRules;
  /** Entities per turn of the builder. Absent: its default. */
  entitiesATurn?: number;
  memory: SnapshotMemory;
  cancelled: boolean;
  phase: Phase;
}>;

type Stepped = readonly [SnapshotRun, readonly SnapshotEffect[]];

export const nothingRemembered: SnapshotMemory = { verified: [], droppedUpTo: 0 };

export function newSnapshotRun(of: Omit<SnapshotRun, "cancelled" | "phase">): SnapshotRun {
  return { ...of, cancelled: false, phase: { type: "new" } };
}

/** A late answer changes nothing. */
export function stepSnapshotRun(run: SnapshotRun, input: SnapshotInput): Stepped {
  const { phase } = run;
  if (phase.type === "over") return [run, []];
  if (input.type === "cancelled") {
    const cancelled = { ...run, cancelled: true };
    return phase.type === "building" ? feedBuilder(cancelled, phase, { type: "cancelled" }) : [cancelled, []];
  }
  switch (phase.type) {
    case "new":
      return input.type === "begin" ? listSnapshots(run, false) : [run, []];
    case "looking":
      if (input.type === "snapshotsListed") return phase.again ? planRetention(run, input) : listed(run, input);
      return input.type === "failed" ? end(run, input) : [run, []];
    case "readingNewest":
      if (input.type === "chunkRead") return readNewest(run, { ...phase, read: phase.read + 1 });
      return input.type === "chunkBad"
        ? decide(...reportDamaged(run, phase.newest, input), phase.listed, true)
        : [run, []];
    case "capturing":
      if (input.type === "captured") return build(run, input);
      return input.type === "failed" ? end(run, input) : [run, []];
    case "building":
      return built(run, phase, input);
    case "saving":
      if (input.type === "saved") return tidy(run, { id: input.id, manifest: phase.manifest });
      return input.type === "failed" ? tidy(run, input) : [run, []];
    case "tidying":
      if (input.type === "failed") return end(run, input);
      if (input.type !== "tidied") return [run, []];
      return "cause" in phase.made ? end(run, phase.made) : announce(run, phase.made);
    case "announcing":
      if (input.type === "snapshotRecorded") return announced(run, phase.made, input.result);
      return input.type === "failed" ? end(run, input) : [run, []];
    case "askingBase":
      if (input.type === "base") return findOld(run, phase, input.base);
      return input.type === "failed" ? end(run, input) : [run, []];
    case "aging":
      if (input.type === "age") return aged(run, phase, input.recordedAt);
      return input.type === "failed" ? end(run, input) : [run, []];
    case "readingOlder":
      if (input.type === "chunkRead") return readOlder(run, { ...phase, read: phase.read + 1 });
      return input.type === "chunkBad" ? withEffects(reportDamaged(run, phase.second, input), end) : [run, []];
    case "dropping":
      if (input.type === "retained") return retained(run, phase, input.outcome);
      return input.type === "failed" ? end(run, input) : [run, []];
    default:
      return unreachable(phase);
  }
}

function listSnapshots(run: SnapshotRun, again: boolean): Stepped {
  return [{ ...run, phase: { type: "looking", again } }, [{ type: "listSnapshots" }]];
}

function end(run: SnapshotRun, failure: Failure | null = null): Stepped {
  const reported = failure === null ? null : { cause: failure.cause };
  return [{ ...run, phase: { type: "over" } }, [{ type: "over", failure: reported }]];
}

function withEffects([run, effects]: Stepped, then: (run: SnapshotRun) => Stepped): Stepped {
  const [next, more] = then(run);
  return [next, [...effects, ...more]];
}

// --- is a snapshot due

function listed(run: SnapshotRun, input: ListedSnapshots): Stepped {
  const [newest] = input.snapshots;
  if (newest === undefined) return decide(run, [], input, false);
  return readNewest(run, { type: "readingNewest", listed: input, newest, read: 0 });
}

function readNewest(run: SnapshotRun, phase: Extract<Phase, { type: "readingNewest" }>): Stepped {
  const ref = nextToRead(run, phase.newest, phase.read);
  if (ref !== undefined) return [{ ...run, phase }, [{ type: "readChunk", ref }]];
  return decide(isWhole(run, phase.newest), [], phase.listed, false);
}

function decide(run: SnapshotRun, before: readonly SnapshotEffect[], input: ListedSnapshots, broken: boolean): Stepped {
  const { snapshots, applied, guessed, wanted } = input;
  const newest = snapshots[0]?.manifest.link.position ?? 0;
  const isWanted = newest < Math.min(wanted, applied);
  const due = isWanted || broken || applied - newest >= run.rules.everyEvents;
  if (guessed || !due) return withEffects([run, before], (next) => planRetention(next, input));
  return [{ ...run, phase: { type: "capturing" } }, [...before, { type: "capture" }]];
}

/** @returns the next chunk to read back; undefined: all have been read */
function nextToRead({ memory }: SnapshotRun, { id, manifest }: StoredSnapshot, read: number): ChunkRef | undefined {
  return memory.verified.includes(id) ? undefined : manifest.chunks[read];
}

function isWhole(run: SnapshotRun, { id }: StoredSnapshot): SnapshotRun {
  const { verified } = run.memory;
  if (verified.includes(id)) return run;
  return { ...run, memory: { ...run.memory, verified: [...verified.slice(-snapshotsKept), id] } };
}

function reportDamaged(run: SnapshotRun, { manifest }: StoredSnapshot, { cause }: Failure): Stepped {
  const fields = { err: cause, position: manifest.link.position };
  return [
    run,
    [{ type: "logger", level: "error", fields, message: "a snapshot on this disk is damaged; taking another" }],
  ];
}

// --- taking a snapshot

function build(run: SnapshotRun, start: CapturedStart): Stepped {
  const builder = newBuilder(start.capture, run.entitiesATurn);
  return feedBuilder(run, { type: "building", builder, start }, { type: run.cancelled ? "cancelled" : "turn" });
}

function built(run: SnapshotRun, phase: Extract<Phase, { type: "building" }>, input: SnapshotInput): Stepped {
  switch (input.type) {
    case "turn":
      return feedBuilder(run, phase, { type: "turn" });
    case "stored":
      return feedBuilder(run, phase, { type: "stored", index: input.index, ...input.ref });
    case "notStored":
      return feedBuilder(run, phase, { type: "failed", cause: input.cause });
    default:
      return [run, []];
  }
}

function feedBuilder(run: SnapshotRun, phase: Extract<Phase, { type: "building" }>, input: BuilderInput): Stepped {
  const [builder, effects] = stepBuilder(phase.builder, input);
  const out: SnapshotEffect[] = [];
  for (const effect of effects) {
    switch (effect.type) {
      case "again":
        out.push({ type: "build" });
        break;
      case "store":
        out.push(effect);
        break;
      case "built": {
        const { chunks, counts } = effect;
        const content = contentOf(phase.start, { chunks, counts });
        const manifest = { ...content, cluster: run.cluster, takenAt: laterOf(run.now, phase.start.at) };
        return [{ ...run, phase: { type: "saving", manifest } }, [...out, { type: "save", manifest }]];
      }
      case "gaveUp":
        return withEffects([run, out], (next) => tidy(next, effect));
      default:
        unreachable(effect);
    }
  }
  return [{ ...run, phase: { ...phase, builder } }, out];
}

function laterOf(a: UnixMs, b: UnixMs): UnixMs {
  return a > b ? a : b;
}

/** A manifest without cluster and time. */
export function contentOf(
  { capture, epochs, level }: SnapshotStart,
  made: Pick<SnapshotManifest, "chunks" | "counts">,
): Omit<SnapshotManifest, "cluster" | "takenAt"> {
  const { link, digest } = capture;
  const until = epochs.filter(({ start }) => start <= link.position);
  return { link, digest, ...made, epochs: until, level, projectorVersion };
}

function tidy(run: SnapshotRun, made: StoredSnapshot | Failure): Stepped {
  return [{ ...run, phase: { type: "tidying", made } }, [{ type: "tidy" }]];
}

/** Records the snapshot in the epoch of the run: the log refuses it once that has ended. */
function announce(run: SnapshotRun, made: StoredSnapshot): Stepped {
  const { id, manifest } = made;
  const reported: SnapshotEffect = { type: "recordSnapshot", position: manifest.link.position, manifestHash: id };
  return [{ ...run, phase: { type: "announcing", made } }, [reported]];
}

function announced(run: SnapshotRun, { manifest }: StoredSnapshot, result: CommandResult): Stepped {
  const { link, counts, chunks } = manifest;
  const fields = { position: link.position, sessions: counts.sessions, chunks: chunks.length };
  const reported: SnapshotEffect =
    result.type === "done"
      ? { type: "logger", level: "info", fields, message: "took a snapshot" }
      : {
          type: "logger",
          level: "warn",
          fields: { ...fields, result: result.type },
          message: "took a snapshot, but could not record it in the log",
        };
  return withEffects([run, [reported]], (next) => listSnapshots(next, true));
}

// --- dropping old events

function planRetention(run: SnapshotRun, { snapshots, neededAfter, archivedUpTo }: ListedSnapshots): Stepped {
  const [, second] = snapshots;
  if (run.rules.hold === "everything" || run.cancelled || second === undefined) return end(run);
  const upTo = Math.min(second.manifest.link.position, neededAfter, archivedUpTo ?? Number.POSITIVE_INFINITY);
  if (upTo <= run.memory.droppedUpTo) return end(run);
  return [{ ...run, phase: { type: "askingBase", second, upTo } }, [{ type: "readBase" }]];
}

/** The last position whose event is old enough, by halves. */
function findOld(run: SnapshotRun, { second, upTo }: RetentionPlan, base: Link): Stepped {
  const known = droppedUpTo(run, base);
  if (upTo <= base.position) return end(known);
  return findOlder(known, { second, upTo, base, old: base.position, young: upTo + 1 });
}

function findOlder(
  run: SnapshotRun,
  found: RetentionPlan & Readonly<{ base: Link; old: number; young: number }>,
): Stepped {
  const { second, upTo, base, old, young } = found;
  if (young - old > 1) {
    const probed = parsePosition(Math.floor((old + young) / 2));
    return [{ ...run, phase: { type: "aging", ...found, probed } }, [{ type: "readAge", position: probed }]];
  }
  return old <= base.position ? end(run) : readOlder(run, { type: "readingOlder", second, upTo, old, read: 0 });
}

function aged(run: SnapshotRun, phase: Extract<Phase, { type: "aging" }>, recordedAt: UnixMs | undefined): Stepped {
  const isOld = recordedAt !== undefined && recordedAt < run.now - run.rules.retentionMs;
  return findOlder(run, isOld ? { ...phase, old: phase.probed } : { ...phase, young: phase.probed });
}

function readOlder(run: SnapshotRun, phase: Extract<Phase, { type: "readingOlder" }>): Stepped {
  const { second, old, read } = phase;
  const ref = nextToRead(run, second, read);
  if (ref !== undefined) return [{ ...run, phase }, [{ type: "readChunk", ref }]];
  // That took time: the snapshot's history may be lost by now, and only the log itself knows.
  return dropEvents(isWhole(run, second), { first: nextPosition(old), holding: second.manifest.link });
}

function dropEvents(run: SnapshotRun, what: Readonly<{ first: Position; holding: Link }>): Stepped {
  if (run.cancelled) return end(run);
  return [{ ...run, phase: { type: "dropping", ...what } }, [{ type: "retain", ...what }]];
}

function retained(
  run: SnapshotRun,
  { first, holding }: Extract<Phase, { type: "dropping" }>,
  outcome: RetainOutcome,
): Stepped {
  if (outcome.type !== "retained") {
    const message = "could not drop old events yet";
    return withEffects([run, [{ type: "logger", level: "warn", fields: { outcome: outcome.type }, message }]], end);
  }
  const { base, more } = outcome;
  const begins = { begins: base.position + 1 };
  const reported: readonly SnapshotEffect[] =
    base.position > run.memory.droppedUpTo
      ? [{ type: "logger", level: "info", fields: begins, message: "dropped old events from the log" }]
      : [];
  return withEffects([droppedUpTo(run, base), reported], (next) =>
    more ? dropEvents(next, { first, holding }) : end(next),
  );
}

function droppedUpTo(run: SnapshotRun, { position }: Link): SnapshotRun {
  return { ...run, memory: { ...run.memory, droppedUpTo: Math.max(run.memory.droppedUpTo, position) } };
}
