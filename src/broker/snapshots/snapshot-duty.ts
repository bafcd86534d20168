/**
 * Snapshot duty: the shell of a snapshot run (snapshot-run.ts). It performs the run's effects with the disk, the log
 * and the turns of its options, and feeds every result back. It decides nothing.
 */
import {
  type CommandId,
  decodeEvents,
  noPosition,
  type Position,
  previousPosition,
  type UnixMs,
} from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import type { SignedManifest, SnapshotFolder } from "../../replication/snapshot/index.ts";
import type { Duty, DutyContext } from "../core/duty.ts";
import type { SnapshotEffect, SnapshotInput, SnapshotRules } from "./snapshot-messages.ts";
import { newSnapshotRun, nothingRemembered, stepSnapshotRun } from "./snapshot-run.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

export type SnapshotDutyOptions = SnapshotRules &
  Readonly<{
    cluster: string;
    folder: Pick<SnapshotFolder, "alone" | "putChunk" | "putManifest" | "chunk">;
    store: Pick<SnapshotStore, "inLog" | "archive" | "tidy">;
    log: Pick<EventLog, "base" | "retain" | "linkAt" | "read">;
    /**
     * Whether a snapshot needs the previous secret: no broker will accept it once that secret is removed. A new one is
     * taken then, however young it is, because a broker whose log begins after it could not start. Null: no secret is
     * being replaced.
     */
    needsPreviousSecret: ((snapshot: SignedManifest) => boolean) | null;
    /** How often the duty runs. */
    lookMs: number;
    commandId: () => CommandId;
    /** Settles once more urgent work has had its turn. */
    turn: () => Promise<void>;
    logger: Logger;
  }>;

export type SnapshotDuty = Duty & Readonly<{ requestSnapshot: (position: Position) => void }>;

export function snapshotDuty(options: SnapshotDutyOptions): SnapshotDuty {
  const { folder, store, log, logger, turn, cluster } = options;
  const rules: SnapshotRules = options;
  let memory = nothingRemembered;
  /** A snapshot at this position or later is requested. */
  let wanted = 0;
  let reported = false;
  let archiveFails = false;

  function run(context: DutyContext): Promise<void> {
    const { projection, signal } = context;
    const ended = Promise.withResolvers<void>();
    /** This run has the disk until then. */
    const tidied = Promise.withResolvers<void>();
    let state = newSnapshotRun({ cluster, rules, memory, now: context.now });

    function feed(input: SnapshotInput): void {
      try {
        const [next, effects] = stepSnapshotRun(state, input);
        state = next;
        for (const effect of effects) perform(effect);
      } catch (error) {
        tidied.resolve();
        ended.reject(error);
      }
    }

    function answer(pending: Promise<SnapshotInput>): void {
      void pending.then(feed, (cause: unknown) => feed({ type: "failed", cause }));
    }

    function perform(effect: SnapshotEffect): void {
      switch (effect.type) {
        case "listSnapshots":
          answer(listed());
          return;
        case "readChunk":
          void folder
            .chunk(effect.ref)
            .then(turn)
            .then(
              () => feed({ type: "chunkRead" }),
              (cause: unknown) => feed({ type: "chunkBad", cause }),
            );
          return;
        case "capture":
          void folder.alone(() => {
            feed({
              type: "captured",
              capture: projection.capture(),
              epochs: context.epochs(),
              level: projection.level,
              at: context.clock.wall(),
            });
            return tidied.promise;
          });
          return;
        case "build":
          void turn().then(() => feed({ type: "turn" }));
          return;
        case "store":
          void folder.putChunk(effect.bytes).then(
            (ref) => feed({ type: "stored", index: effect.index, ref }),
            (cause: unknown) => feed({ type: "notStored", cause }),
          );
          return;
        case "save": {
          const signed = context.sealManifest(effect.manifest);
          answer(folder.putManifest(signed).then(() => ({ type: "saved", id: signed.id })));
          return;
        }
        case "tidy":
          answer(tidy().finally(tidied.resolve));
          return;
        case "recordSnapshot": {
          const { position, manifestHash } = effect;
          const command = { type: "recordSnapshot", position, manifestHash } as const;
          const request = { commandId: options.commandId(), actor: "system", command } as const;
          answer(context.submit(request).then((result) => ({ type: "snapshotRecorded", result })));
          return;
        }
        case "readBase":
          answer(log.base().then((base) => ({ type: "base", base })));
          return;
        case "readAge":
          answer(recordedAt(log, effect.position).then((at) => ({ type: "age", recordedAt: at })));
          return;
        case "retain": {
          const { first, holding } = effect;
          answer(retained({ ...context.leadership, first, holding }));
          return;
        }
        case "logger":
          logger[effect.level](effect.fields, effect.message);
          return;
        case "over":
          memory = state.memory;
          if (effect.failure === null) ended.resolve();
          else ended.reject(effect.failure.cause);
      }
    }

    async function listed(): Promise<SnapshotInput> {
      const archivedUpTo = await archived();
      const snapshots = await store.inLog();
      const { applied, guessed } = projection;
      const needed = { neededAfter: context.neededAfter(), archivedUpTo };
      const now = { applied: applied.position, guessed: guessed !== undefined, ...needed };
      return {
        type: "snapshotsListed",
        snapshots,
        wanted: Math.max(wanted, neededAfterRotation(snapshots[0])),
        ...now,
      };
    }

    const onAbort = (): void => feed({ type: "cancelled" });
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    feed({ type: "begin" });
    return ended.promise;
  }

  /**
   * @returns the position that the next snapshot must reach, so that one survives the end of the secret's replacement;
   * 0: any
   */
  function neededAfterRotation(newest: SignedManifest | undefined): number {
    if (newest === undefined || options.needsPreviousSecret === null) return 0;
    const { position } = newest.manifest.link;
    if (options.needsPreviousSecret(newest)) return position + 1;
    if (!reported) logger.info({ position }, "the newest snapshot does not need shared_secret_previous");
    reported = true;
    return 0;
  }

  async function tidy(): Promise<SnapshotInput> {
    await store.tidy();
    return { type: "tidied" };
  }

  /** @returns how far; null: nothing is archived. After a failure no event is dropped. */
  async function archived(): Promise<Position | null> {
    try {
      const upTo = await store.archive();
      archiveFails = false;
      return upTo;
    } catch (error) {
      if (!archiveFails)
        logger.error({ err: error }, "could not archive old events; none is dropped until that succeeds");
      archiveFails = true;
      return noPosition;
    }
  }

  async function retained(request: Parameters<EventLog["retain"]>[0]): Promise<SnapshotInput> {
    const outcome = await log.retain(request);
    await turn();
    return { type: "retained", outcome };
  }

  return {
    name: "snapshots",
    everyMs: options.lookMs,
    run,
    requestSnapshot(position) {
      wanted = Math.max(wanted, position);
    },
  };
}

async function recordedAt(log: Pick<EventLog, "linkAt" | "read">, position: Position): Promise<UnixMs | undefined> {
  const previous = await log.linkAt(previousPosition(position));
  if (previous === undefined) return undefined;
  const outcome = await log.read(previous, 1);
  if (outcome.type !== "page") return undefined;
  return decodeEvents(outcome.page.entries.slice(0, 1), previous)[0]?.recordedAt;
}
