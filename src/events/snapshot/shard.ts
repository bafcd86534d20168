/**
 * Snapshot shard: the people whose ids hash to one of 256 shards, with their state, memberships, sessions, devices and
 * service accounts. Pure.
 *
 * - Rows are gathered in any order and written in a canonical one: people by id, a person's sessions by creation.
 * - Personal data stays sealed as in the events. A profile that several rows share is written once.
 */

import type { GroupId, SessionId, UserId } from "../ids.ts";
import { encode } from "../messagepack.ts";
import { bitsOfMembership } from "../projection/memberships.ts";
import type { Device, Membership, ServiceAccount, Session, User } from "../projection/state.ts";
import type { SessionUse } from "../session-index/seen-times.ts";
import { columnFlags } from "../session-index/session-index.ts";
import { bytesOf, compareText, IdColumn, NumberColumn } from "./columns.ts";

export const shardCount = 256;
export const userStates = ["active", "suspended", "erased"] as const;

/** The shard of a person, by a hash of the id (FNV-1a with a final mix). Part of the format. */
export function shardOf(id: string): number {
  let hash = 0x811c_9dc5;
  for (let at = 0; at < id.length; at++) hash = Math.imul(hash ^ id.charCodeAt(at), 0x0100_0193);
  return ((hash ^ (hash >>> 15)) >>> 0) & (shardCount - 1);
}

export class ShardRows {
  readonly #people: UserId[] = [];
  readonly #personOf = new Map<UserId, number>();
  readonly #users = new Map<number, User>();
  readonly #memberships = new Map<number, ReadonlyMap<GroupId, Membership>>();
  readonly #devices = new Map<string, Device>();
  readonly #accounts = new Map<string, ServiceAccount>();
  readonly #words = new Words();
  readonly #blobs = new Blobs();
  #sessionsWritten = 0;
  readonly #session = {
    id: new IdColumn(),
    /** Person + 1; 0: no user is known. */
    person: new NumberColumn("u32"),
    flags: new NumberColumn("u8"),
    word: new NumberColumn("u32"),
    issuedAt: new NumberColumn("f64"),
    expiresAt: new NumberColumn("f64"),
    refreshedAt: new NumberColumn("f64"),
    place: new NumberColumn("f64"),
    /** Blob + 1; 0: none. */
    profile: new NumberColumn("u32"),
    /** By row; the others have none. */
    providerSession: new Map<number, SessionId>(),
    /** By row; nothing is known of the others. */
    use: new Map<number, SessionUse>(),
  };

  /** Number of sessions in the last `write`, duplicates removed. */
  get written(): number {
    return this.#sessionsWritten;
  }

  addUser(user: User): void {
    this.#users.set(this.#person(user.userId), user);
  }
  addMemberships(userId: UserId, memberships: ReadonlyMap<GroupId, Membership>): void {
    this.#memberships.set(this.#person(userId), memberships);
  }
  addDevice(device: Device): void {
    this.#devices.set(device.deviceId, device);
  }
  addServiceAccount(account: ServiceAccount): void {
    this.#accounts.set(account.serviceAccountId, account);
  }

  addSession(session: Session, use: SessionUse | undefined): void {
    const row = this.#session;
    if (use !== undefined) row.use.set(row.id.length, use);
    if (session.status === "active" && session.providerSession !== undefined)
      row.providerSession.set(row.id.length, session.providerSession);
    row.id.push(session.sessionId satisfies SessionId);
    row.person.push(session.userId === null ? 0 : this.#person(session.userId) + 1);
    const active = session.status === "active";
    row.flags.push(
      (active ? 0 : columnFlags.revoked) | (!active && session.expiresAt === null ? columnFlags.endless : 0),
    );
    row.word.push(this.#words.numberOf(active ? session.idpId : session.reason));
    row.issuedAt.push(active ? session.issuedAt : 0);
    row.expiresAt.push(session.expiresAt ?? 0);
    row.refreshedAt.push(active ? session.refreshedAt : 0);
    row.place.push(active ? session.createdAt : session.revokedAt);
    row.profile.push(active ? this.#blobs.numberOf(session.profile) + 1 : 0);
  }

  /** The shard's bytes. @param groupNumbers the index of each group in the snapshot */
  write(shard: number, groupNumbers: ReadonlyMap<GroupId, number>): Uint8Array {
    const people = [...this.#people.keys()].sort((a, b) => compareText(this.#idOf(a), this.#idOf(b)));
    const rankOf = new Uint32Array(people.length);
    for (const [rank, person] of people.entries()) rankOf[person] = rank;
    const ids = new IdColumn();
    for (const person of people) ids.push(this.#idOf(person));
    const blobs = new Renumbered();
    const words = new Renumbered();
    const users = this.#writeUsers(people, blobs, words);
    const memberships = this.#writeMemberships(people, groupNumbers);
    const sessions = this.#writeSessions(rankOf, blobs, words);
    return encode([
      shard,
      [people.length, ids.inOrder(everyRow(people.length))],
      users,
      memberships,
      sessions,
      words.inOrder((number) => this.#words.textOf(number)),
      this.#blobs.write(blobs.inOrder((number) => number)),
      [...this.#devices.values()].sort((a, b) => compareText(a.deviceId, b.deviceId)).map(writeDevice),
      [...this.#accounts.values()]
        .sort((a, b) => compareText(a.serviceAccountId, b.serviceAccountId))
        .map(writeServiceAccount),
    ]);
  }

  /** Builds below level 5 read four columns, and a cluster below it has no suspension that ends. */
  #writeUsers(people: readonly number[], blobs: Renumbered, words: Renumbered): readonly unknown[] {
    const status = new Uint8Array(people.length);
    const profile = new Uint32Array(people.length);
    const below = new Float64Array(people.length);
    const reason = new Uint32Array(people.length);
    const suspensions: (readonly unknown[])[] = [];
    for (const [rank, person] of people.entries()) {
      const user = this.#users.get(person);
      if (user === undefined) continue;
      status[rank] = userStates.indexOf(user.status) + 1;
      if (user.profile !== null) profile[rank] = blobs.numberOf(this.#blobs.numberOf(user.profile)) + 1;
      below[rank] = user.sessionsRevokedBelow;
      if (user.sessionsRevokedFor !== null)
        reason[rank] = words.numberOf(this.#words.numberOf(user.sessionsRevokedFor)) + 1;
      if (user.suspension !== undefined) suspensions.push([rank, user.suspension.until, user.suspension.reason]);
    }
    const columns = [status, profile, below, reason].map(bytesOf);
    return suspensions.length === 0 ? columns : [...columns, suspensions];
  }

  /** Builds below level 5 read three columns, and a cluster below it has no membership that ends. */
  #writeMemberships(people: readonly number[], groupNumbers: ReadonlyMap<GroupId, number>): readonly unknown[] {
    const counts = new Uint32Array(people.length);
    const groups = new NumberColumn("u32");
    const bits = new NumberColumn("u8");
    const grants: (readonly unknown[])[] = [];
    const requested: (readonly unknown[])[] = [];
    for (const [rank, person] of people.entries()) {
      const all = [...(this.#memberships.get(person) ?? [])].map(
        ([groupId, membership]) => [groupNumbers.get(groupId) ?? 0, membership] as const,
      );
      counts[rank] = all.length;
      for (const [group, membership] of all.sort(([a], [b]) => a - b)) {
        groups.push(group);
        bits.push(bitsOfMembership(membership));
        const { grant, requested: access } = membership;
        if (grant !== undefined) grants.push([rank, group, grant.until, grant.reason]);
        if (access !== undefined) requested.push([rank, group, access.until, access.requestId]);
      }
    }
    const rows = everyRow(groups.length);
    const columns = [bytesOf(counts), groups.inOrder(rows), bits.inOrder(rows)];
    // Builds below level 7 read up to four columns, and a cluster below it has no requested access.
    if (requested.length > 0) return [...columns, grants, requested];
    return grants.length === 0 ? columns : [...columns, grants];
  }

  #writeSessions(rankOf: Uint32Array, blobs: Renumbered, words: Renumbered): readonly unknown[] {
    const row = this.#session;
    const rows = this.#sessionOrder(rankOf);
    this.#sessionsWritten = rows.length;
    const person = new Uint32Array(rows.length);
    const word = new Uint32Array(rows.length);
    const profile = new Uint32Array(rows.length);
    for (let at = 0; at < rows.length; at++) {
      const from = rows[at] ?? 0;
      const own = row.person.get(from);
      person[at] = own === 0 ? 0 : (rankOf[own - 1] ?? 0) + 1;
      word[at] = words.numberOf(row.word.get(from));
      const blob = row.profile.get(from);
      profile[at] = blob === 0 ? 0 : blobs.numberOf(blob - 1) + 1;
    }
    return [
      rows.length,
      row.id.inOrder(rows),
      bytesOf(person),
      row.flags.inOrder(rows),
      bytesOf(word),
      row.issuedAt.inOrder(rows),
      row.expiresAt.inOrder(rows),
      row.refreshedAt.inOrder(rows),
      row.place.inOrder(rows),
      bytesOf(profile),
      ...this.#writeLaterColumns(rows),
    ];
  }

  /** Builds below level 5 read ten columns, and a cluster below it has no session with more. */
  #writeLaterColumns(rows: Uint32Array): readonly unknown[] {
    const { providerSession, use } = this.#session;
    if (use.size > 0) return [this.#writeProviderSessions(rows), this.#writeUses(rows)];
    return providerSession.size > 0 ? [this.#writeProviderSessions(rows)] : [];
  }

  #writeUses(rows: Uint32Array): readonly unknown[] {
    const having = new NumberColumn("u32");
    const seenAt = new NumberColumn("f64");
    const pauseMs = new NumberColumn("f64");
    for (let at = 0; at < rows.length; at++) {
      const use = this.#session.use.get(rows[at] ?? 0);
      if (use === undefined) continue;
      having.push(at);
      seenAt.push(use.seenAt);
      pauseMs.push(use.pauseMs);
    }
    const all = everyRow(having.length);
    return [having, seenAt, pauseMs].map((column) => column.inOrder(all));
  }

  #writeProviderSessions(rows: Uint32Array): readonly unknown[] {
    const { providerSession } = this.#session;
    const having = new NumberColumn("u32");
    const ids = new IdColumn();
    for (let at = 0; at < rows.length; at++) {
      const id = providerSession.get(rows[at] ?? 0);
      if (id === undefined) continue;
      having.push(at);
      ids.push(id);
    }
    const all = everyRow(having.length);
    return [having.inOrder(all), ids.inOrder(all)];
  }

  /** Rows by person, then by position in the log, then by id, without duplicates. */
  #sessionOrder(rankOf: Uint32Array): Uint32Array {
    const { id, person, place } = this.#session;
    const ofPerson: number[][] = Array.from({ length: rankOf.length + 1 }, () => []);
    for (let at = 0; at < id.length; at++) {
      const own = person.get(at);
      ofPerson[own === 0 ? 0 : (rankOf[own - 1] ?? 0) + 1]?.push(at);
    }
    const order: number[] = [];
    for (const rows of ofPerson) {
      if (rows.length > 1) rows.sort((a, b) => place.get(a) - place.get(b) || id.compare(a, b));
      for (const at of rows) {
        const before = order.at(-1);
        if (before === undefined || id.compare(before, at) !== 0) order.push(at);
      }
    }
    return Uint32Array.from(order);
  }

  #person(userId: UserId): number {
    const known = this.#personOf.get(userId);
    if (known !== undefined) return known;
    this.#people.push(userId);
    this.#personOf.set(userId, this.#people.length - 1);
    return this.#people.length - 1;
  }
  #idOf(person: number): UserId {
    return this.#people[person] as UserId;
  }
}

function everyRow(count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, at) => at);
}

function writeDevice(d: Device): readonly unknown[] {
  return [d.deviceId, d.userId, d.typeId, d.enrolledAt, d.approvedBy, d.removed];
}

function writeServiceAccount(a: ServiceAccount): readonly unknown[] {
  return [a.serviceAccountId, a.userId, a.expiresAt, a.description, a.revoked];
}

/** Assigns new numbers in the order of the first request. */
class Renumbered {
  readonly #new = new Map<number, number>();

  numberOf(old: number): number {
    const known = this.#new.get(old);
    if (known !== undefined) return known;
    const number = this.#new.size;
    this.#new.set(old, number);
    return number;
  }

  inOrder<T>(of: (old: number) => T): T[] {
    return [...this.#new.keys()].map(of);
  }
}

class Words {
  readonly #numbers = new Map<string, number>();
  readonly #texts: string[] = [];

  numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    this.#texts.push(text);
    this.#numbers.set(text, this.#texts.length - 1);
    return this.#texts.length - 1;
  }
  textOf(number: number): string {
    return this.#texts[number] ?? "";
  }
}

/** Distinct byte strings. The last bytes are the lookup key: in sealed data they differ if anything does. */
class Blobs {
  readonly #byEnd = new Map<string, number[]>();
  readonly #values: Uint8Array[] = [];

  numberOf(value: Uint8Array): number {
    const buffer = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    const end = buffer.toString("latin1", Math.max(0, value.length - 16));
    const alike = this.#byEnd.get(end);
    const known = alike?.find((number) => Buffer.compare(this.#values[number] ?? buffer, buffer) === 0);
    if (known !== undefined) return known;
    const number = this.#values.push(value) - 1;
    if (alike === undefined) this.#byEnd.set(end, [number]);
    else alike.push(number);
    return number;
  }

  write(numbers: readonly number[]): readonly [lengths: Uint8Array, bytes: Uint8Array] {
    const values = numbers.map((number) => this.#values[number] ?? new Uint8Array());
    return [bytesOf(Uint32Array.from(values, (value) => value.length)), Buffer.concat(values)];
  }
}
