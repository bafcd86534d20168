/**
 * Snapshot chunks: the bytes of a projection at one link, in chunks of about half a megabyte. Pure.
 *
 * - The first chunk holds the groups. The next ones hold one or more of the 256 shards each, in order. The last ones
 *   hold what is known of mass changes, of seals of audit records and of access requests, if anything is.
 * - Equal states give equal bytes on every broker, whatever their history, so brokers can compare snapshots by hash.
 * - The caller advances it in small steps, so that it never blocks for longer than one shard takes.
 */

import type { ScimGroup } from "../entities/group-events.ts";
import type { GroupId, UserId } from "../ids.ts";
import { encode } from "../messagepack.ts";
import type { CapturedEntity, ProjectionCapture } from "../projection/capture.ts";
import type { MassChangeRow } from "../projection/mass-changes.ts";
import type { Group } from "../projection/state.ts";
import { compareText } from "./columns.ts";
import { ShardRows, shardCount, shardOf } from "./shard.ts";

/** The version of the format of chunks and their content. Any other is refused. */
export const chunkFormat = 1;
/** Shards are collected into one chunk until they reach this size. */
const chunkBytesMin = 256 * 1024;
const idBytes = 38;
const rowBytes = 80;
/** In one chunk; a row has about 200 bytes. */
const auditSealRowsMax = 1_500;
/** In one chunk; a row has at most 3,000 bytes, and usually 500. */
const accessRequestRowsMax = 250;

export type SnapshotCountsSoFar = { sessions: number; users: number; groups: number };

export class SnapshotChunks {
  readonly #capture: ProjectionCapture;
  readonly #groups = new Map<GroupId, Group>();
  #groupNumbers: ReadonlyMap<GroupId, number> | undefined;
  readonly #shards: (ShardRows | undefined)[] = new Array(shardCount).fill(undefined);
  readonly #seenUsers = new Set<UserId>();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #shard = 0;
  #sessions = 0;
  #massChangeRows = 0;
  #auditSealRows = 0;
  #accessRequestRows = 0;

  constructor(capture: ProjectionCapture) {
    this.#capture = capture;
  }

  /** Complete only after the last step. */
  get counts(): Readonly<SnapshotCountsSoFar> {
    return { sessions: this.#sessions, users: this.#seenUsers.size, groups: this.#groups.size };
  }

  /**
   * Gathers some entities or writes a shard.
   * @param entities how many to gather at most
   * @returns a finished chunk; `more` if none is finished yet; `done` after the last one
   */
  step(entities: number): Uint8Array | "more" | "done" {
    if (!this.#capture.over) {
      for (const captured of this.#capture.next(entities)) this.#gather(captured);
      return "more";
    }
    if (this.#groupNumbers === undefined) return this.#writeGroups();
    if (this.#shard < shardCount) {
      const rows = this.#shards[this.#shard];
      if (rows !== undefined) {
        const bytes = rows.write(this.#shard, this.#groupNumbers);
        this.#sessions += rows.written;
        this.#waiting.push(bytes);
        this.#waitingBytes += bytes.length;
        this.#shards[this.#shard] = undefined;
      }
      this.#shard += 1;
      const full = this.#waitingBytes >= chunkBytesMin || (this.#shard === shardCount && this.#waiting.length > 0);
      return full ? this.#flush() : "more";
    }
    return this.#writeMassChanges();
  }

  /** Builds below level 5 know no such chunk, and a cluster below it has no rows. */
  #writeMassChanges(): Uint8Array | "done" {
    const { massChanges } = this.#capture;
    const rows: MassChangeRow[] = [];
    for (let bytes = 0; bytes < chunkBytesMin && this.#massChangeRows < massChanges.length; this.#massChangeRows++) {
      const row = massChanges[this.#massChangeRows];
      if (row === undefined) break;
      rows.push(row);
      bytes += row[0] === "held" ? idBytes * (row[1].added.length + row[1].removed.length) : rowBytes;
    }
    return rows.length === 0 ? this.#writeAuditSeals() : encode([chunkFormat, "mass-changes", rows]);
  }

  /** Builds below level 6 know no such chunk, and a cluster below it has no rows. */
  #writeAuditSeals(): Uint8Array | "done" {
    const rows = this.#capture.auditSeals.slice(this.#auditSealRows, this.#auditSealRows + auditSealRowsMax);
    this.#auditSealRows += rows.length;
    return rows.length === 0 ? this.#writeAccessRequests() : encode([chunkFormat, "audit-seals", rows]);
  }

  /** Builds below level 7 know no such chunk, and a cluster below it has no rows. */
  #writeAccessRequests(): Uint8Array | "done" {
    const from = this.#accessRequestRows;
    const rows = this.#capture.accessRequests.slice(from, from + accessRequestRowsMax);
    this.#accessRequestRows += rows.length;
    return rows.length === 0 ? "done" : encode([chunkFormat, "access-requests", rows]);
  }

  #flush(): Uint8Array {
    const chunk = encode([chunkFormat, "shards", this.#waiting]);
    this.#waiting = [];
    this.#waitingBytes = 0;
    return chunk;
  }

  #writeGroups(): Uint8Array {
    const ids = [...this.#groups.keys()].sort(compareText);
    this.#groupNumbers = new Map(ids.map((id, at) => [id, at]));
    const names = ids.map((id) => this.#groups.get(id)?.name ?? id);
    const owned = ids.map((id) => this.#groups.get(id)?.scim).map((scim) => (scim === undefined ? null : rowOf(scim)));
    // Builds below level 4 read two columns, and a cluster below it has no group of a SCIM client.
    return encode([chunkFormat, "groups", owned.every((row) => row === null) ? [ids, names] : [ids, names, owned]]);
  }

  #gather(captured: CapturedEntity): void {
    switch (captured.kind) {
      case "group":
        this.#groups.set(captured.entity.groupId, captured.entity);
        return;
      case "user":
        this.#seenUsers.add(captured.entity.userId);
        this.#rows(captured.entity.userId).addUser(captured.entity);
        return;
      case "memberships":
        this.#rows(captured.userId).addMemberships(captured.userId, captured.entity);
        return;
      case "session":
        this.#rows(captured.entity.userId ?? captured.entity.sessionId).addSession(captured.entity, captured.use);
        return;
      case "device":
        this.#rows(captured.entity.userId).addDevice(captured.entity);
        return;
      case "service-account":
        this.#rows(captured.entity.userId).addServiceAccount(captured.entity);
    }
  }

  #rows(id: string): ShardRows {
    const shard = shardOf(id);
    const rows = this.#shards[shard] ?? new ShardRows();
    this.#shards[shard] = rows;
    return rows;
  }
}

function rowOf({ client, id, externalId, version, createdAt, changedAt }: ScimGroup): readonly unknown[] {
  return [client, id, externalId, version, createdAt, changedAt];
}
