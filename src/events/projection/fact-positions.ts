/**
 * Fact positions: the log position that last set each fact that decisions depend on. Pure.
 *
 * - Only explanations read it. It is part of no decision, digest or snapshot.
 * - It holds the newest few hundred thousand facts. An older one, or one from a snapshot, was set at or below a known
 *   position (`exact: false`); the log has the event (docs/adr/0025-where-a-fact-was-set.md).
 * - Two generations of hash tables: a full young table becomes the old one. An entry takes 16 bytes, in tables that are
 *   at most half full. A session that was only created takes no entry, because its state holds the position.
 */

import type { Recorded } from "../catalog.ts";
import type { GroupId, Position, SessionId, UserId } from "../ids.ts";
import { type Stream, sessionStream } from "../streams.ts";
import type { Session } from "./state.ts";

/** `exact`: this event set the fact (position 0: none did). Otherwise this event or an earlier one did. */
export type FactPosition = Readonly<{ position: Position; exact: boolean }>;

const rememberedMax = 1 << 17;
const tableStart = 1 << 10;

export class FactPositions {
  readonly #max: number;
  #young = new PositionTable();
  #old: PositionTable | undefined;
  /** Facts set at or below this position are not remembered. */
  #floor: Position;
  /** The next `#floor`, when the old generation is dropped. */
  #oldUpTo: Position;
  #newest: Position;

  /** @param from events up to this position came in a snapshot; 0: every event was seen */
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
      case "SessionCreated": // the session's state holds the position
      case "SessionsExpired":
      case "SessionsSeen":
      case "UserRefreshRequested":
      case "MassChangeHeld":
      case "HeldChangeNarrowed":
      case "HeldChangeEnded":
      case "MassChangesAllowed":
      case "AccessRequested":
      case "AccessRequestDecided":
      case "AccessRequestEnded":
      case "DirectorySyncStarted":
      case "DirectorySyncCompleted":
      case "NodesRetired":
      case "SignalReceived":
      case "SignalStreamChanged":
      case "SnapshotTaken":
      case "AuditSegmentSealed":
      case "EpochOpened":
      case "UpgradeFinalized":
        return;
      case "GroupMembersChanged":
        for (const userId of event.added) this.#set(memberKey(userId, event.groupId), position);
        for (const userId of event.removed) this.#set(memberKey(userId, event.groupId), position);
        return;
      case "MembershipsExpired":
        for (const userId of event.userIds) this.#set(memberKey(userId, event.groupId), position);
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

  /** The position of a user, device, service account, or configuration of a node. */
  ofStream(stream: Stream): FactPosition {
    return this.#positionAt(this.#find(stream));
  }

  /** The position of a session that was swept. If it is no longer remembered, any event may have set it. */
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

  /** The position of a user's being in a group, or not being in it. */
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

/** No id contains a line feed, so these keys are unique. */
const memberKey = (userId: UserId, groupId: GroupId): string => `${userId}\n${groupId}`;
const groupsKey = (userId: UserId): string => `${userId}\n`;
const removedKey = (groupId: GroupId): string => `\n${groupId}`;

/** Keys are compared by 64 bits of their hash. Among 250,000 keys two collide in one of 10⁸ tables. */
class PositionTable {
  #positions = new Float64Array(tableStart);
  #hashes = new Uint32Array(2 * tableStart);
  #size = 0;
  #low = 0;
  #high = 0;

  get size(): number {
    return this.#size;
  }

  /** 0: the key is absent. */
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

  /** The slot of a key, or the free slot for it. */
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

  /** Two multiplicative hashes with different primes and a final mix. */
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
