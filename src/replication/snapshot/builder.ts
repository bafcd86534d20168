/**
 * Snapshot builder: makes a snapshot of a projection piece by piece, while events go on being folded into it.
 *
 * Pure. It takes one short step each time it is given a turn and asks for the next; finished chunks go out to be
 * stored, a few at a time, and come back with their hashes. It never waits and never reads a clock.
 *
 *   gathering --every entity read--> writing --every shard written, every chunk stored--> done
 *   any       --a chunk could not be stored, or it was called off--> failed
 */
import {
  CodedError,
  type Fact,
  type Hash,
  type ProjectionCapture,
  SnapshotChunks,
  type SnapshotCounts,
  unreachable,
} from "../../events/index.ts";
import type { ChunkRef } from "./manifest.ts";

export type BuilderInput =
  /** It is its turn. */
  | Fact<"turn", unknown>
  | Fact<"stored", { index: number; hash: Hash; bytes: number }>
  | Fact<"failed", { cause: unknown }>
  | Fact<"cancelled", unknown>;

export type BuilderEffect =
  /** Give it another turn, as soon as whoever is more urgent has had theirs. */
  | Fact<"again", unknown>
  /** @see stored, failed */
  | Fact<"store", { index: number; bytes: Uint8Array }>
  | Fact<"built", { chunks: readonly ChunkRef[]; counts: SnapshotCounts }>
  | Fact<"gaveUp", { cause: unknown }>;

/** Of the rules by which events are folded: a snapshot of other rules is another state. */
export const projectorVersion = 1;

/** What one turn reads: about a millisecond's worth. */
const manyEntities = 1_000;
/** Chunks that may be on their way to the disk. */
const storingMax = 4;

/** Owns its capture: after a step the builder from before it must not be used again. */
export type Builder = Readonly<{
  phase: "building" | "storing" | "over";
  content: SnapshotChunks;
  /** How many are read in one turn. */
  entitiesATurn: number;
  capture: ProjectionCapture;
  /** How many chunks there are so far. */
  count: number;
  refs: readonly (ChunkRef | undefined)[];
  /** On their way. */
  storing: number;
  /** It asked for no turn, because too many chunks are on their way. */
  resting: boolean;
}>;

export class SnapshotCancelledError extends CodedError<"ERR_REPLICATION_SNAPSHOT_CANCELLED"> {
  override readonly code = "ERR_REPLICATION_SNAPSHOT_CANCELLED";
  constructor() {
    super("the snapshot was called off");
  }
}

export function newBuilder(capture: ProjectionCapture, entitiesATurn = manyEntities): Builder {
  return {
    phase: "building",
    entitiesATurn,
    content: new SnapshotChunks(capture),
    capture,
    count: 0,
    refs: [],
    storing: 0,
    resting: false,
  };
}

export function stepBuilder(state: Builder, input: BuilderInput): readonly [Builder, readonly BuilderEffect[]] {
  if (state.phase === "over") return [state, []];
  switch (input.type) {
    case "turn":
      if (state.phase !== "building" || state.storing >= storingMax) return [state, []];
      return turn(state);
    case "stored": {
      const refs = [...state.refs];
      refs[input.index] = { hash: input.hash, bytes: input.bytes };
      const stored = { ...state, refs, storing: state.storing - 1 };
      if (stored.phase === "storing") return finish(stored);
      return stored.resting ? [{ ...stored, resting: false }, [{ type: "again" }]] : [stored, []];
    }
    case "failed":
      return giveUp(state, input.cause);
    case "cancelled":
      return giveUp(state, new SnapshotCancelledError());
    default:
      return unreachable(input);
  }
}

function turn(state: Builder): readonly [Builder, readonly BuilderEffect[]] {
  const made = state.content.step(state.entitiesATurn);
  if (made === "more") return [state, [{ type: "again" }]];
  if (made === "done") return finish({ ...state, phase: "storing" });
  const storing = state.storing + 1;
  const store: BuilderEffect = { type: "store", index: state.count, bytes: made };
  const resting = storing >= storingMax;
  const next = { ...state, count: state.count + 1, storing, resting };
  return [next, resting ? [store] : [store, { type: "again" }]];
}

function finish(state: Builder): readonly [Builder, readonly BuilderEffect[]] {
  if (state.storing > 0) return [state, []];
  const chunks = state.refs.filter((ref) => ref !== undefined);
  return [{ ...state, phase: "over" }, [{ type: "built", chunks, counts: state.content.counts }]];
}

function giveUp(state: Builder, cause: unknown): readonly [Builder, readonly BuilderEffect[]] {
  state.capture.end();
  return [{ ...state, phase: "over" }, [{ type: "gaveUp", cause }]];
}
