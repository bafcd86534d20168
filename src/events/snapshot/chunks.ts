/**
 * Snapshot chunks: the bytes of a projection as it stood at one link, in pieces of about half a megabyte.
 *
 * The first piece holds the groups; each other one holds one or more of the 256 shards, in order. The same state gives the same
 * bytes on every broker, whatever it lived through before, so two brokers can compare what they built by its hashes. It is fed
 * piece by piece by whoever has the time, and never holds up anybody for longer than one piece. Pure.
 */

import { encode } from "../codec/codec.ts";
import type { GroupId, UserId } from "../ids.ts";
import type { CapturedEntity, ProjectionCapture } from "../projection/capture.ts";
import { compareText } from "./columns.ts";
import { ShardRows, shardCount, shardOf } from "./shard.ts";

/** Of chunks and of what is in them. Another build's is refused, never guessed at. */
export const chunkFormat = 1;
/** Shards are put together until they are this large. */
const chunkBytesMin = 256 * 1024;

export type SnapshotCountsSoFar = { sessions: number; users: number; groups: number };

export class SnapshotChunks {
  readonly #capture: ProjectionCapture;
  readonly #groups = new Map<GroupId, string>();
  #groupNumbers: ReadonlyMap<GroupId, number> | undefined;
  readonly #shards: (ShardRows | undefined)[] = new Array(shardCount).fill(undefined);
  readonly #seenUsers = new Set<UserId>();
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #shard = 0;
  #sessions = 0;

  constructor(capture: ProjectionCapture) {
    this.#capture = capture;
  }

  /** Complete only when everything is written. */
  get counts(): Readonly<SnapshotCountsSoFar> {
    return { sessions: this.#sessions, users: this.#seenUsers.size, groups: this.#groups.size };
  }

  /**
   * Takes the next step: gathers some entities, or writes a shard.
   * @param entities how many may be gathered
   * @returns a finished chunk, `more` when there was none to give yet, `done` after the last
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
    return "done";
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
    return encode([chunkFormat, "groups", [ids, ids.map((id) => this.#groups.get(id) ?? id)]]);
  }

  #gather(captured: CapturedEntity): void {
    switch (captured.kind) {
      case "group":
        this.#groups.set(captured.entity.groupId, captured.entity.name);
        return;
      case "user":
        this.#seenUsers.add(captured.entity.userId);
        this.#rows(captured.entity.userId).addUser(captured.entity);
        return;
      case "memberships":
        this.#rows(captured.userId).addMemberships(captured.userId, captured.entity);
        return;
      case "session":
        this.#rows(captured.entity.userId ?? captured.entity.sessionId).addSession(captured.entity);
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
