/**
 * Snapshot messages: the inputs and effects of a snapshot run (snapshot-run.ts). Only types, only plain data.
 *
 * An effect that requests something is answered by the input named beside it, or by `failed`.
 */
import type { CommandResult, Fact, Hash, Link, Position, ProjectionCapture, UnixMs } from "../../events/index.ts";
import type { EpochMark } from "../../replication/lease/index.ts";
import type { RetainOutcome } from "../../replication/log/index.ts";
import type { ChunkRef, SignedManifest, SnapshotManifest } from "../../replication/snapshot/index.ts";

export type SnapshotRules = Readonly<{
  /** The number of events between two snapshots. */
  everyEvents: number;
  /** Younger events are never dropped. */
  retentionMs: number;
  /** `everything`: nothing is dropped, whatever its age. */
  hold: "everything" | "nothing";
}>;

export type StoredSnapshot = Pick<SignedManifest, "id" | "manifest">;

/** What one run remembers for the next. */
export type SnapshotMemory = Readonly<{
  /** Snapshots that were read back from the disk whole. */
  verified: readonly Hash[];
  /** The log is known to begin after this position. */
  droppedUpTo: number;
}>;

/** The start of a builder: read together, in one moment. */
export type SnapshotStart = Readonly<{ capture: ProjectionCapture; epochs: readonly EpochMark[]; level: number }>;

/** `at`: when, by the leader's clock. Whatever the snapshot holds was recorded by then. */
export type CapturedStart = SnapshotStart & Readonly<{ at: UnixMs }>;

export type SnapshotInput =
  | Fact<"begin", unknown>
  /** The epoch of the run has ended. */
  | Fact<"cancelled", unknown>
  /**
   * → listSnapshots. Newest first, of this log's history. `guessed`: the projection has events that it could not read.
   */
  | Fact<
      "snapshotsListed",
      {
        snapshots: readonly StoredSnapshot[];
        applied: Position;
        guessed: boolean;
        /** A snapshot at this position or later is requested; 0: none. */
        wanted: number;
        /** A lease holder may still read the events after it. */
        neededAfter: Position;
        /** The events up to here are archived; null: they need not be. */
        archivedUpTo: Position | null;
      }
    >
  /** → readChunk */
  | Fact<"chunkRead", unknown>
  | Fact<"chunkBad", { cause: unknown }>
  /** → capture */
  | Fact<"captured", CapturedStart>
  /** → build */
  | Fact<"turn", unknown>
  /** → store */
  | Fact<"stored", { index: number; ref: ChunkRef }>
  | Fact<"notStored", { cause: unknown }>
  /** → save: signed, and on the disk. */
  | Fact<"saved", { id: Hash }>
  /** → tidy */
  | Fact<"tidied", unknown>
  /** → recordSnapshot */
  | Fact<"snapshotRecorded", { result: CommandResult }>
  /** → readBase: the log begins after it. */
  | Fact<"base", { base: Link }>
  /** → readAge: when the event was recorded; undefined: it is not in the log. */
  | Fact<"age", { recordedAt: UnixMs | undefined }>
  /** → retain, once more urgent work has had its turn. */
  | Fact<"retained", { outcome: RetainOutcome }>
  /** → listSnapshots, capture, save, tidy, recordSnapshot, readBase, readAge, retain */
  | Fact<"failed", { cause: unknown }>;

export type SnapshotEffect =
  | Fact<"listSnapshots", unknown>
  | Fact<"readChunk", { ref: ChunkRef }>
  /** The run has the disk alone from here until `tidy` is done. */
  | Fact<"capture", unknown>
  /** Call the builder again once more urgent work has had its turn. */
  | Fact<"build", unknown>
  | Fact<"store", { index: number; bytes: Uint8Array }>
  | Fact<"save", { manifest: SnapshotManifest }>
  /** Delete snapshots that need not be kept (archive-plan.ts), of another history, or half made. */
  | Fact<"tidy", unknown>
  | Fact<"recordSnapshot", { position: Position; manifestHash: Hash }>
  | Fact<"readBase", unknown>
  | Fact<"readAge", { position: Position }>
  | Fact<"retain", { first: Position; holding: Link }>
  | Fact<"logger", { level: "info" | "warn" | "error"; message: string; fields: object }>
  /** The last effect. `failure`: null after a complete run. */
  | Fact<"over", { failure: Readonly<{ cause: unknown }> | null }>;
