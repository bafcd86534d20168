/**
 * Snapshot messages: what goes into a snapshot run (snapshot-run.ts) and what comes out of it. Only types, only plain data.
 *
 * An effect that asks for something is answered by the input named beside it, or by `failed`.
 */
import type { CommandResult, Fact, Hash, Link, Position, ProjectionCapture, UnixMs } from "../../events/index.ts";
import type { ChunkRef, EpochMark, RetainOutcome, SignedManifest, SnapshotManifest } from "../../replication/index.ts";

export type SnapshotRules = Readonly<{
  /** A snapshot after so many events. */
  everyEvents: number;
  /** Events younger than this stay. */
  retentionMs: number;
  /** `everything`: nothing is dropped, whatever its age. */
  hold: "everything" | "nothing";
}>;

export type StoredSnapshot = Pick<SignedManifest, "id" | "manifest">;

/** What one run hands to the next. */
export type SnapshotMemory = Readonly<{
  /** Read back from the disk, whole. */
  verified: readonly Hash[];
  /** The log is known to begin behind this place. */
  droppedUpTo: number;
}>;

/** What a builder begins from: read in one moment, together. */
export type SnapshotStart = Readonly<{ capture: ProjectionCapture; epochs: readonly EpochMark[]; level: number }>;

export type SnapshotInput =
  | Fact<"begin", unknown>
  /** The epoch that the run is in is over. */
  | Fact<"cancelled", unknown>
  /** → look. Newest first, of this log's history. `guessed`: the projection holds what it could not read. */
  | Fact<
      "snapshotsListed",
      {
        snapshots: readonly StoredSnapshot[];
        applied: Position;
        guessed: boolean;
        /** Somebody wants one of this place or beyond. */
        wanted: number;
        /** What comes after it somebody with a lease may still read. */
        neededAfter: Position;
      }
    >
  /** → readChunk */
  | Fact<"chunkRead", unknown>
  | Fact<"chunkBad", { cause: unknown }>
  /** → capture */
  | Fact<"captured", SnapshotStart>
  /** → build */
  | Fact<"turn", unknown>
  /** → store */
  | Fact<"stored", { index: number; ref: ChunkRef }>
  | Fact<"notStored", { cause: unknown }>
  /** → save: sealed, and on the disk. */
  | Fact<"saved", { id: Hash }>
  /** → tidy */
  | Fact<"tidied", unknown>
  /** → announce */
  | Fact<"snapshotRecorded", { result: CommandResult }>
  /** → askBase: the log begins behind it. */
  | Fact<"base", { base: Link }>
  /** → askAge: when it was written; undefined: it is not there. */
  | Fact<"age", { recordedAt: UnixMs | undefined }>
  /** → retain, once whoever is more urgent has had their turn. */
  | Fact<"retained", { outcome: RetainOutcome }>
  /** → look, capture, save, tidy, announce, askBase, askAge, retain */
  | Fact<"failed", { cause: unknown }>;

export type SnapshotEffect =
  | Fact<"listSnapshots", unknown>
  | Fact<"readChunk", { ref: ChunkRef }>
  /** The disk is ours alone from then on, until `tidy` is done. */
  | Fact<"capture", unknown>
  /** Give it a turn as soon as whoever is more urgent has had theirs. */
  | Fact<"build", unknown>
  | Fact<"store", { index: number; bytes: Uint8Array }>
  | Fact<"save", { manifest: SnapshotManifest }>
  /** What is more than `snapshotsKept`, of another history, or half made goes. */
  | Fact<"tidy", unknown>
  | Fact<"recordSnapshot", { position: Position; manifestHash: Hash }>
  | Fact<"readBase", unknown>
  | Fact<"readAge", { position: Position }>
  | Fact<"retain", { first: Position; holding: Link }>
  | Fact<"logger", { level: "info" | "warn" | "error"; message: string; fields: object }>
  /** The last. `failure`: null when all was done that there was to do. */
  | Fact<"over", { failure: Readonly<{ cause: unknown }> | null }>;
