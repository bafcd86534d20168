/**
 * SQLite rows: the conversion between the calls of the file log and its tables, and the arguments of those calls. Pure.
 */
import {
  type ConfigBody,
  type ConfigHash,
  type ConfigurationEntry,
  decodeEvent,
  type Epoch,
  type Hash,
  type Link,
  linkOf,
  type Position,
  type StoredConfiguration,
  type UnixMs,
  type UserId,
  type WrappedKey,
} from "../../../events/index.ts";
import type { ByteList } from "../byte-list.ts";
import type {
  AdmittedNode,
  AppendBatch,
  Lessee,
  LogEntry,
  OpenEpochRequest,
  ReadOutcome,
  RestoreStep,
} from "../log.ts";
import { MalformedBatchError } from "../log-rules.ts";

export type SqliteRow = Readonly<Record<string, unknown>>;
/** A batch whose entries are sent as bytes alone; the receiver decodes the bytes again. */
export type PackedBatch = Omit<AppendBatch, "entries"> & Readonly<{ entries: ByteList }>;
export type PackedRead =
  | Exclude<ReadOutcome, { type: "page" }>
  | Readonly<{ type: "page"; previous: Link; entries: ByteList; last: Link; head: Link }>;
export type PackedRestore = Exclude<RestoreStep, { type: "events" }> | Readonly<{ type: "events"; entries: ByteList }>;
export type OpenEpochStep =
  | Readonly<{ type: "place"; epoch: Epoch; previous: Link; streamVersion: number }>
  | Readonly<{ type: "overtaken"; epoch: Epoch }>;
export type OpenEpochCommit = Omit<OpenEpochRequest, "firstEvent"> & Readonly<{ previous: Link; bytes: Uint8Array }>;
export type OpenEpochCommitted =
  | Readonly<{
      type: "opened";
      epoch: Epoch;
      head: Link;
      lessees: readonly Lessee[];
      admitted: readonly AdmittedNode[];
      beatsLost: string | null;
    }>
  /** The head has moved since the first event was created. */
  | Readonly<{ type: "moved" }>
  | Readonly<{ type: "indeterminate" | "unavailable"; cause: unknown }>;

/** @throws MalformedBatchError */
export function decodeBatch(all: readonly Uint8Array[], previous: Link): readonly LogEntry[] {
  let at = previous;
  return all.map((bytes) => {
    try {
      const recorded = decodeEvent(bytes, at);
      at = linkOf(recorded);
      return { recorded, bytes };
    } catch (error) {
      throw new MalformedBatchError(error instanceof Error ? error.message : "not an event", { cause: error });
    }
  });
}

export function linkFromRow(row: SqliteRow): Link {
  return {
    epoch: row["epoch"] as Epoch,
    position: row["pos"] as Position,
    hash: Buffer.from(row["hash"] as Uint8Array).toString("hex") as Hash,
  };
}

export function keyFromRow(row: SqliteRow): WrappedKey {
  return {
    userId: row["user_id"] as UserId,
    keyId: row["key_id"] as Uint8Array,
    wrapped: row["wrapped"] as Uint8Array,
  };
}

export function configurationFromRow(row: SqliteRow): StoredConfiguration {
  return {
    configHash: row["hash"] as ConfigHash,
    recordedAt: row["recorded_at"] as UnixMs,
    body: row["body"] as ConfigBody,
  };
}

export function configurationPlaceFromRow(row: SqliteRow): ConfigurationEntry {
  return {
    configHash: row["hash"] as ConfigHash,
    recordedAt: row["recorded_at"] as UnixMs,
    bytes: row["bytes"] as number,
  };
}

export function admittedNodeFromRow(row: SqliteRow): AdmittedNode {
  return {
    node: row["node"] as AdmittedNode["node"],
    role: row["role"] as AdmittedNode["role"],
    region: row["region"] as string,
    boot: row["boot"] as AdmittedNode["boot"],
    heardAt: row["heard_at"] as AdmittedNode["heardAt"],
    applied: row["applied_pos"] as AdmittedNode["applied"],
  };
}

export function hashBytes(hash: Hash): Uint8Array {
  return Buffer.from(hash, "hex");
}
