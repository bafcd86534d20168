/** Snapshot source: the interface through which a node loads snapshots and keeps its denials. Only types. */
import type { Stream } from "../../events/index.ts";
import type { DenialsOnDisk, PersistedDenial } from "./denials/persisted-denials.ts";
import type { LoadedSnapshot } from "./messages.ts";

export type DenialsToPersist = Readonly<{
  /** The facts that only this node denies. */
  retained: ReadonlySet<Stream>;
  /** Grows with every final denial; an equal value means no new denial. */
  tightened: number;
  newest: () => readonly PersistedDenial[];
}>;

/** A source of snapshots for a node. The implementation verifies their digest, link and signature. */
export type SnapshotSource = Readonly<{
  /** The snapshot on this node's own disk; null: none that is valid. */
  local(signal: AbortSignal): Promise<LoadedSnapshot | null>;
  /**
   * Loads a snapshot from a broker for a log that begins at `first` (null: any snapshot).
   * @returns null: the brokers have none
   * @throws when no broker answered, or the snapshot is invalid
   */
  load(options: Readonly<{ first: number | null; signal: AbortSignal }>): Promise<LoadedSnapshot | null>;
  /** The denials on this node's own disk. Never throws. */
  persistedDenials(): Promise<DenialsOnDisk>;
  /** Called after every change with the node's denials, so that they survive a restart. Never throws. */
  persistDenials(denials: DenialsToPersist): void;
  /** Settles when the disk has every denial passed so far. Never throws. */
  denialsPersisted(): Promise<void>;
}>;
