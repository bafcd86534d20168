/**
 * Snapshot builder: builds a snapshot of a projection piece by piece, while events are still being folded into it.
 *
 * Pure. It takes one short step per turn and then requests the next turn. The caller stores finished chunks, a few at a
 * time, and returns their hashes. It never waits and never reads a clock.
 *
 *   gathering --every entity read--> writing --every shard written, every chunk stored--> done
 *   any       --a chunk could not be stored, or the build was cancelled--> failed
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

/** A chunk, named by the hash of its unpacked bytes, so that the name does not depend on the packer. */
export type ChunkRef = Readonly<{ hash: Hash; bytes: number }>;

export type BuilderInput =
  /** Runs one step of the builder. */
  | Fact<"turn", unknown>
  | Fact<"stored", { index: number; hash: Hash; bytes: number }>
  | Fact<"failed", { cause: unknown }>
  | Fact<"cancelled", unknown>;

export type BuilderEffect =
  /** Requests another turn after more urgent work. */
  | Fact<"again", unknown>
  /** @see stored, failed */
  | Fact<"store", { index: number; bytes: Uint8Array }>
  | Fact<"built", { chunks: readonly ChunkRef[]; counts: SnapshotCounts }>
  | Fact<"gaveUp", { cause: unknown }>;

/** Version of the folding rules. A snapshot made by other rules is a different state. */
export const projectorVersion = 1;

/** Entities read in one turn: about a millisecond of work. */
const manyEntities = 1_000;
/** Maximum number of chunks being stored at once. */
const storingMax = 4;

/** Owns its capture. After a step the previous builder must not be used again. */
export type Builder = Readonly<{
  phase: "building" | "storing" | "over";
  content: SnapshotChunks;
  /** Number of entities read in one turn. */
  entitiesATurn: number;
  capture: ProjectionCapture;
  /** Number of chunks so far. */
  count: number;
  refs: readonly (ChunkRef | undefined)[];
  /** Number of chunks being stored. */
  storing: number;
  /** True when it requested no turn because too many chunks are being stored. */
  resting: boolean;
}>;

export class SnapshotCancelledError extends CodedError<"ERR_REPLICATION_SNAPSHOT_CANCELLED"> {
  override readonly code = "ERR_REPLICATION_SNAPSHOT_CANCELLED";
  constructor() {
    super("the snapshot was cancelled");
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
