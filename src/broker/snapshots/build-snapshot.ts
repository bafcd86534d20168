/**
 * Build a snapshot: drives the snapshot builder from its first turn to its end, for those who want nothing else. The disk and the
 * turns are given.
 */
import {
  type BuilderEffect,
  type BuilderInput,
  newBuilder,
  SnapshotCancelledError,
  type SnapshotFolder,
  stepBuilder,
} from "../../replication/index.ts";
import type { DutyContext } from "../core/duty.ts";
import { contentOf } from "./snapshot-run.ts";

/** All that a manifest says, but for whom and when. @throws SnapshotCancelledError; what storing a chunk throws */
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
        return void turn().then(() => feed({ type: signal.aborted ? "cancelled" : "turn" }));
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
  if (signal.aborted) throw new SnapshotCancelledError();
  return contentOf(start, { chunks, counts });
}
