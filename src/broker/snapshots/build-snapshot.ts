/**
 * Build snapshot: runs the snapshot builder from start to end, for callers that need nothing else. Disk and turns are
 * arguments.
 */
import {
  type BuilderEffect,
  type BuilderInput,
  newBuilder,
  SnapshotCancelledError,
  type SnapshotFolder,
  stepBuilder,
} from "../../replication/snapshot/index.ts";
import type { DutyContext } from "../core/duty.ts";
import { contentOf } from "./snapshot-run.ts";

/**
 * @returns a manifest without cluster and time @throws SnapshotCancelledError; the error of a chunk that could not be
 * stored
 */
export async function buildSnapshot(
  context: Pick<DutyContext, "projection" | "signal" | "epochs">,
  { folder, turn }: Readonly<{ folder: Pick<SnapshotFolder, "putChunk">; turn: () => Promise<void> }>,
) {
  const { projection, signal } = context;
  const start = { capture: projection.capture(), epochs: context.epochs(), level: projection.level };
  const done = Promise.withResolvers<Extract<BuilderEffect, { type: "built" }>>();
  let builder = newBuilder(start.capture);

  function feed(input: BuilderInput): void {
    const [next, effects] = stepBuilder(builder, input);
    builder = next;
    for (const effect of effects) perform(effect);
  }
  function perform(effect: BuilderEffect): void {
    switch (effect.type) {
      case "again":
        void turn().then(() => feed({ type: signal.aborted ? "cancelled" : "turn" }));
        return;
      case "store":
        void folder.putChunk(effect.bytes).then(
          (ref) => feed({ type: "stored", index: effect.index, ...ref }),
          (cause: unknown) => feed({ type: "failed", cause }),
        );
        return;
      case "built":
        done.resolve(effect);
        return;
      case "gaveUp":
        done.reject(effect.cause);
    }
  }

  feed({ type: "turn" });
  const { chunks, counts } = await done.promise;
  if (signal.aborted) throw new SnapshotCancelledError();
  return contentOf(start, { chunks, counts });
}
