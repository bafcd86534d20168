/**
 * Fact positions: at which position of the log a fact that decisions rest on was last said, for the newest few hundred thousand of them.
 *
 * For explanations alone: no decision reads it, no digest or snapshot holds it. What is not remembered any more, or came with a snapshot,
 * was said at or below a known position (`exact: false`), and the log itself knows where (docs/adr/0025-where-a-fact-was-set.md). Two
 * generations of hash tables: when the young one is full it becomes the old one. 16 bytes an entry at most twice over, whatever the number of
 * sessions; nothing for a session that only began, whose place its state holds. Pure.
 */

import { type Recorded, type Stream, sessionStream } from "../catalog.ts";
import type { GroupId, Position, SessionId, UserId } from "../ids.ts";
import type { Session } from "./state.ts";

/** `exact`: that very event; position 0: none ever did. Else it was that one or an earlier one. */
export type FactPosition = Readonly<{ position: Position; exact: boolean }>;

const rememberedMax = 1 << 17;
const tableStart = 1 << 10;

export class FactPositions {
  readonly #max: number;
  #young = new PositionTable();
  #old: PositionTable | undefined;
  /** At or below it, nothing is remembered. */
  #floor: Position;
  /** What `floor` becomes when the old generation goes. */
  #oldUpTo: Position;
  #newest: Position;

  /** @param from what is at or below this position came by a snapshot; 0: everything was seen */
  constructor(from: Position, max = rememberedMax) {
    this.#floor = from;
    this.#oldUpTo = from;
    this.#newest = from;
    this.#max = max;
  }

  record(recorded: Recorded): void {
    const { event, position, stream } = recorded;
    this.#newest = position;
    switch (event.type) {
      case "SessionCreated": // its state says it
      case "SessionsExpired":
      case "DirectorySyncStarted":
      case "DirectorySyncCompleted":
      case "SnapshotTaken":
      case "AuditSegmentSealed":
      case "EpochOpened":
      case "UpgradeFinalized":
        return;
      case "GroupMembersChanged":
        for (const userId of event.added) this.#set(memberKey(userId, event.groupId), position);
        for (const userId of event.removed) this.#set(memberKey(userId, event.groupId), position);
        return;
      case "UserGroupsReplaced":
        this.#set(groupsKey(event.userId), position);
        return;
      case "GroupRemoved":
        this.#set(removedKey(event.groupId), position);
        return;
      default:
        this.#set(stream, position);
    }
  }

  /** Of a user, device, service account, or the configuration of a node. */
  ofStream(stream: Stream): FactPosition {
    return this.#positionAt(this.#find(stream));
  }

  /** Of a session that is not held any more: its tombstone was swept, and what is not remembered of it may be anywhere. */
  ofSweptSession(sessionId: SessionId): FactPosition {
    const noted = this.#find(sessionStream(sessionId));
    return noted > this.#floor ? this.#positionAt(noted) : { position: this.#newest, exact: false };
  }

  ofSession(session: Session): FactPosition {
    if (session.status === "revoked") return { position: session.revokedAt, exact: true };
    const noted = this.#find(sessionStream(session.sessionId));
    const began = session.createdAt;
    return noted > 0 || session.refreshedAt !== session.issuedAt
      ? this.#positionAt(noted)
      : { position: began, exact: true };
  }

  /** That somebody is in a group, and as much that they are not. */
  ofMembership(userId: UserId, groupId: GroupId): FactPosition {
    const keys = [memberKey(userId, groupId), groupsKey(userId), removedKey(groupId)];
    return this.#positionAt(Math.max(...keys.map((key) => this.#find(key))));
  }

  #positionAt(noted: number): FactPosition {
    if (noted > this.#floor) return { position: noted as Position, exact: true };
    return { position: this.#floor, exact: this.#floor === 0 };
  }

  #find(key: string): number {
    return this.#young.get(key) || (this.#old?.get(key) ?? 0);
  }

  #set(key: string, position: Position): void {
    if (this.#young.size >= this.#max) {
      this.#floor = this.#oldUpTo;
      this.#oldUpTo = this.#newest;
      this.#old = this.#young;
      this.#young = new PositionTable();
    }
    this.#young.set(key, position);
  }
}

/** No id holds a line feed. */
const memberKey = (userId: UserId, groupId: GroupId): string => `${userId}\n${groupId}`;
const groupsKey = (userId: UserId): string => `${userId}\n`;
const removedKey = (groupId: GroupId): string => `\n${groupId}`;

/** Keys by 64 bits of their hash: two of a quarter of a million are taken for one another once in 10⁸ tables. */
class PositionTable {
  #positions = new Float64Array(tableStart);
  #hashes = new Uint32Array(2 * tableStart);
  #size = 0;
  #low = 0;
  #high = 0;

  get size(): number {
    return this.#size;
  }

  /** 0: it is not there. */
  get(key: string): number {
    this.#hash(key);
    return this.#positions[this.#slot(this.#low, this.#high)] ?? 0;
  }

  set(key: string, place: number): void {
    if (this.#size * 2 >= this.#positions.length) this.#grow();
    this.#hash(key);
    const slot = this.#slot(this.#low, this.#high);
    if (this.#positions[slot] === 0) this.#size += 1;
    this.#hashes[2 * slot] = this.#low;
    this.#hashes[2 * slot + 1] = this.#high;
    this.#positions[slot] = place;
  }

  /** Where it stands, or would. */
  #slot(low: number, high: number): number {
    const mask = this.#positions.length - 1;
    let slot = (low ^ (high >>> 7)) & mask;
    while (this.#positions[slot] !== 0 && (this.#hashes[2 * slot] !== low || this.#hashes[2 * slot + 1] !== high))
      slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [places, hashes] = [this.#positions, this.#hashes];
    this.#positions = new Float64Array(places.length * 2);
    this.#hashes = new Uint32Array(places.length * 4);
    for (let from = 0; from < places.length; from++) {
      const place = places[from] ?? 0;
      if (place === 0) continue;
      const [low, high] = [hashes[2 * from] ?? 0, hashes[2 * from + 1] ?? 0];
      const slot = this.#slot(low, high);
      this.#hashes[2 * slot] = low;
      this.#hashes[2 * slot + 1] = high;
      this.#positions[slot] = place;
    }
  }

  /** Two multiplicative hashes of different primes, each stirred at the end. */
  #hash(key: string): void {
    let low = 0x811c_9dc5;
    let high = 0x9e37_79b1;
    for (let at = 0; at < key.length; at++) {
      const code = key.charCodeAt(at);
      low = Math.imul(low ^ code, 0x0100_0193);
      high = Math.imul((high ^ code) + (high >>> 15), 0x85eb_ca6b);
    }
    this.#low = Math.imul(low ^ (low >>> 15), 0xc2b2_ae35) >>> 0;
    this.#high = Math.imul(high ^ (high >>> 13), 0x27d4_eb2f) >>> 0;
  }
}
