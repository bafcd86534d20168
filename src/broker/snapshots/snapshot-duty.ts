/**
 * Snapshot duty: what the leader does so that the log need not be read from its beginning: it takes a snapshot after so many events,
 * says so in the log, and lets go of events that nobody needs any more.
 *
 * An event is dropped only when all of this is true: it stands in the two newest snapshots, and the older of them has been read back
 * from the disk, and is of the very log that lets go; every node that holds a lease has told of a later place; it is older than `retention`; there is no legal hold.
 * Snapshots are made in turns of about a millisecond, between whatever is more urgent. The disk and the turns are given.
 */
import { type CommandId, decodeEvents, type Link, type Position, type UnixMs } from "../../events/index.ts";
import {
  type BuilderEffect,
  type BuilderInput,
  type EventLog,
  type Logger,
  newBuilder,
  projectorVersion,
  type SignedManifest,
  SnapshotCancelledError,
  type SnapshotFolder,
  stepBuilder,
} from "../../replication/index.ts";
import type { Duty, DutyContext } from "../leader/duties.ts";
import { type SnapshotShelf, snapshotsKept } from "./snapshot-shelf.ts";

export type SnapshotDutyOptions = Readonly<{
  cluster: string;
  folder: Pick<SnapshotFolder, "alone" | "putChunk" | "putManifest" | "keep" | "chunk">;
  shelf: Pick<SnapshotShelf, "inLog">;
  log: Pick<EventLog, "base" | "retain" | "linkAt" | "read">;
  /** A snapshot after so many events. */
  everyEvents: number;
  /** Events younger than this stay. */
  retentionMs: number;
  /** `everything`: nothing is dropped, whatever its age. */
  hold: "everything" | "nothing";
  /** How often it is looked whether there is something to do. */
  lookMs: number;
  commandId: () => CommandId;
  /** Settles when whoever is more urgent has had their turn. */
  turn: () => Promise<void>;
  logger: Logger;
}>;

export type SnapshotDuty = Duty & Readonly<{ want: (position: Position) => void }>;

export function snapshotDuty(options: SnapshotDutyOptions): SnapshotDuty {
  const { folder, shelf, log, logger } = options;
  /** Read back from the disk, whole. */
  const verified = new Set<string>();
  let cutAt = 0;
  /** Somebody wants one of this place or beyond. */
  let wanted = 0;

  async function run(context: DutyContext): Promise<void> {
    let snapshots = await shelf.inLog();
    const newest = snapshots[0]?.manifest.link.position ?? 0;
    const { applied, guessed } = context.ledger;
    const broken = snapshots[0] !== undefined && !(await isWhole(snapshots[0]));
    const asked = newest < Math.min(wanted, applied.position);
    const due = asked || broken || applied.position - newest >= options.everyEvents;
    if (guessed === undefined && due) {
      await take(context);
      snapshots = await shelf.inLog();
    }
    if (options.hold === "nothing" && !context.signal.aborted) await letGo(context, snapshots);
  }

  async function take(context: DutyContext): Promise<void> {
    const { built, signed } = await folder.alone(async () => {
      try {
        const built = await buildSnapshot(context, options);
        const signed = context.sealManifest({ ...built, cluster: options.cluster, takenAt: context.now });
        await folder.putManifest(signed);
        return { built, signed };
      } finally {
        // Also where it failed: what is half made takes room that the next one needs.
        await folder.keep((await shelf.inLog()).slice(0, snapshotsKept));
      }
    });
    const { position } = signed.manifest.link;
    const command = { type: "recordSnapshot", position, manifestHash: signed.id } as const;
    const result = await context.submit({ commandId: options.commandId(), actor: "system", command });
    const fields = { position, sessions: built.counts.sessions, chunks: built.chunks.length };
    if (result.type === "done") logger.info(fields, "a snapshot was taken");
    else logger.warn({ ...fields, result: result.type }, "a snapshot was taken, and the log does not say so");
  }

  async function letGo(context: DutyContext, snapshots: readonly SignedManifest[]): Promise<void> {
    const [, second] = snapshots;
    if (second === undefined) return;
    const upTo = Math.min(second.manifest.link.position, context.neededAfter());
    if (upTo <= cutAt) return;
    const base = await log.base();
    cutAt = Math.max(cutAt, base.position);
    if (upTo <= base.position) return;
    const old = await lastOlderThan(log, {
      base,
      upTo: upTo as Position,
      before: (context.now - options.retentionMs) as UnixMs,
    });
    if (old <= base.position || !(await isWhole(second))) return;
    // That took its time: a snapshot of a history that is lost meanwhile holds nothing, and only the log itself can tell.
    const { link: holding } = second.manifest;
    const first = (old + 1) as Position;
    for (let more = true; more && !context.signal.aborted; ) {
      const outcome = await log.retain({ ...context.leadership, first, holding });
      if (outcome.type !== "retained") {
        logger.warn({ outcome: outcome.type }, "events that nobody needs could not be dropped yet");
        return;
      }
      if (outcome.base.position > cutAt) logger.info({ begins: outcome.base.position + 1 }, "the log begins later now");
      cutAt = Math.max(cutAt, outcome.base.position);
      more = outcome.more;
      await options.turn();
    }
  }

  async function isWhole(signed: SignedManifest): Promise<boolean> {
    if (verified.has(signed.id)) return true;
    for (const ref of signed.manifest.chunks) {
      try {
        await folder.chunk(ref);
      } catch (error) {
        logger.error({ err: error, position: signed.manifest.link.position }, "a snapshot on this disk is not whole");
        return false;
      }
      await options.turn();
    }
    for (const id of [...verified].slice(0, -snapshotsKept)) verified.delete(id);
    verified.add(signed.id);
    return true;
  }

  return {
    name: "snapshots",
    everyMs: options.lookMs,
    run,
    want(position) {
      wanted = Math.max(wanted, position);
    },
  };
}

/** All that a manifest says, but for whom and when. @throws SnapshotCancelledError; what storing a chunk throws */
export async function buildSnapshot(
  context: Pick<DutyContext, "ledger" | "signal" | "epochs">,
  { folder, turn }: Readonly<{ folder: Pick<SnapshotFolder, "putChunk">; turn: () => Promise<void> }>,
) {
  const capture = context.ledger.capture();
  const epochs = context.epochs().filter(({ start }) => start <= capture.link.position);
  const { link, digest } = capture;
  const { level } = context.ledger;
  const done = Promise.withResolvers<Extract<BuilderEffect, { type: "built" }>>();
  let builder = newBuilder(capture);

  function feed(input: BuilderInput): void {
    const [next, effects] = stepBuilder(builder, input);
    builder = next;
    for (const effect of effects) perform(effect);
  }
  function perform(effect: BuilderEffect): void {
    switch (effect.type) {
      case "again":
        return void turn().then(() => feed({ type: context.signal.aborted ? "cancelled" : "turn" }));
      case "store":
        return void folder.putChunk(effect.bytes).then(
          (ref) => feed({ type: "stored", index: effect.index, ...ref }),
          (cause: unknown) => feed({ type: "failed", cause }),
        );
      case "built":
        return done.resolve(effect);
      case "gaveUp":
        return done.reject(effect.cause);
    }
  }

  feed({ type: "turn" });
  const { chunks, counts } = await done.promise;
  if (context.signal.aborted) throw new SnapshotCancelledError();
  return { link, digest, counts, chunks, epochs, level, projectorVersion };
}

/** The last position whose event was recorded before a time; that of the base when there is none. */
export async function lastOlderThan(
  log: Pick<EventLog, "linkAt" | "read">,
  { base, upTo, before }: Readonly<{ base: Link; upTo: Position; before: UnixMs }>,
): Promise<Position> {
  let [old, young] = [base.position, (upTo + 1) as Position];
  while (young - old > 1) {
    const middle = Math.floor((old + young) / 2) as Position;
    const at = await recordedAt(log, middle);
    if (at !== undefined && at < before) old = middle;
    else young = middle;
  }
  return old;
}

async function recordedAt(log: Pick<EventLog, "linkAt" | "read">, position: Position): Promise<UnixMs | undefined> {
  const previous = await log.linkAt((position - 1) as Position);
  if (previous === undefined) return undefined;
  const outcome = await log.read(previous, 1);
  if (outcome.type !== "page") return undefined;
  return decodeEvents(outcome.page.entries.slice(0, 1), previous)[0]?.recordedAt;
}
