/**
 * Compact session index: sessions as fixed-width records in large typed arrays, about 80 bytes each plus the profile,
 * which a person's sessions share while it is byte for byte the same.
 *
 * - The garbage collector sees a few hundred arrays. Nothing is ever copied as a whole: records are in blocks, and the
 *   hash tables are many small ones.
 * - `get` builds a new session object on each call. `cachedSession` returns the same object until the session changes,
 *   so that values derived from a session can be cached by it.
 *
 * A `Map` of ten million objects would cost gigabytes, and pauses of seconds that use up the lease (docs/adr/0017).
 */

import type { Position, SessionId, UnixMs, UserId } from "../ids.ts";
import type { Session } from "../projection/state.ts";
import type { RevocationReason } from "../session-events.ts";
import { ByteArena } from "./byte-arena.ts";
import { GenerationalCache } from "./generational-cache.ts";
import { type IdKey, IdTables } from "./id-tables.ts";
import { MalformedSnapshotError } from "./malformed-snapshot.ts";
import { type IdForm, packedBytes, packId, unpackId } from "./packed-id.ts";
import { ProviderSessions } from "./provider-sessions.ts";
import { none } from "./record-table.ts";
import { SeenTimes, type SessionUse } from "./seen-times.ts";
import {
  blockRecords,
  endless,
  formMask,
  maybeCached,
  newBlock,
  packedWords,
  revoked,
  type SessionBlock,
  used,
} from "./session-block.ts";
import { type ByteStrings, columnFlags, type LoadableSessionIndex, type SessionColumns } from "./session-index.ts";
import { StringTable, UserLists } from "./user-lists.ts";

/** Cached session objects: those of the requests of a few minutes. */
const cachedMax = 20_000;

export class CompactSessionIndex implements LoadableSessionIndex {
  readonly #blocks: SessionBlock[] = [];
  readonly #ids = new IdTables(this.#blocks);
  readonly #arena = new ByteArena();
  readonly #words = new StringTable();
  readonly #users = new UserLists();
  readonly #providerSessions = new ProviderSessions();
  readonly #seen = new SeenTimes();
  /** Sessions whose ids cannot be packed. */
  readonly #textIds = new Map<SessionId, number>();
  readonly #textOf = new Map<number, SessionId>();
  readonly #key = new Uint8Array(packedBytes);
  readonly #searchKey: IdKey = { words: new Uint32Array(this.#key.buffer), from: 0 };
  /** The id searched last, its form and its record: folding an event searches twice. Its bytes are in `#key`. */
  #lastId: SessionId | undefined;
  #lastForm: IdForm | undefined;
  #lastRecord = none;
  readonly #cached = new GenerationalCache<SessionId, Session>(cachedMax);
  #records = 0;
  #free = none;
  #size = 0;
  #withoutUser = 0;

  get size(): number {
    return this.#size;
  }

  get withoutUser(): number {
    return this.#withoutUser;
  }

  expect(sessions: number): void {
    this.#ids.expect(sessions);
  }

  get(id: SessionId): Session | undefined {
    const record = this.#find(id);
    return record === none ? undefined : this.#read(record, id);
  }

  cachedSession(id: SessionId): Session | undefined {
    const known = this.#cached.get(id);
    if (known !== undefined) return known;
    const read = this.get(id);
    if (read === undefined) return undefined;
    // A copy of the profile: a view would keep a whole page of the arena in memory.
    const session = read.status === "active" ? { ...read, profile: Uint8Array.from(read.profile) } : read;
    this.#cached.set(id, session);
    const { block, at } = this.#at(this.#find(id));
    block.flags[at] = (block.flags[at] ?? 0) | maybeCached;
    return session;
  }

  forgetCached(id: SessionId): void {
    this.#cached.delete(id);
  }

  set(session: Session): void {
    const found = this.#find(session.sessionId);
    const record = found === none ? this.#add(session.sessionId) : found;
    const { block, at } = this.#at(record);
    if (((block.flags[at] ?? 0) & maybeCached) !== 0) this.#cached.delete(session.sessionId);
    const before = block.profile[at] ?? none;
    const user = this.#userOf(session, found === none ? none : (block.user[at] ?? none));
    if (found !== none && block.user[at] === none) this.#withoutUser -= 1;
    if (user === none) this.#withoutUser += 1;
    if (found !== none && block.user[at] !== user) this.#unlink(record);
    const isNew = found === none || block.user[at] !== user;
    block.user[at] = user;
    block.profile[at] = session.status === "active" ? this.#putProfile(session.profile, user) : none;
    if (isNew && user !== none) this.#link(record, user);
    if (before !== none) this.#arena.release(before);
    const form = (block.flags[at] ?? 0) & formMask;
    this.#providerSessions.set(record, session.status === "active" ? session.providerSession : undefined);
    if (session.status === "active") {
      block.flags[at] = form | used;
      block.word[at] = this.#words.numberOf(session.idpId);
      block.issuedAt[at] = session.issuedAt;
      block.expiresAt[at] = session.expiresAt;
      block.refreshedAt[at] = session.refreshedAt;
      block.position[at] = session.createdAt;
    } else {
      this.#seen.set(record, undefined);
      block.flags[at] = form | used | revoked | (session.expiresAt === null ? endless : 0);
      block.word[at] = this.#words.numberOf(session.reason);
      block.expiresAt[at] = session.expiresAt ?? 0;
      block.position[at] = session.revokedAt;
    }
  }

  load(rows: SessionColumns): void {
    const first = this.#records;
    this.#append(rows);
    const words = rows.words.map((word) => this.#words.numberOf(word));
    const users = new Uint32Array(rows.people.length).fill(none);
    const entries = new Uint32Array(rows.profiles.count).fill(none);
    for (let row = 0; row < rows.count; row++) {
      const record = first + row;
      const { block, at } = this.#at(record);
      const flags = rows.flags[row] ?? 0;
      const active = (flags & columnFlags.revoked) === 0;
      block.flags[at] =
        (rows.ids.forms[row] ?? 0) | used | (active ? 0 : revoked) | (flags & columnFlags.endless ? endless : 0);
      block.word[at] = words[rows.word[row] ?? 0] ?? missing();
      block.profile[at] = active ? this.#entryOf(rows.profiles, entries, (rows.profile[row] ?? 0) - 1) : none;
      const user = this.#userOfRow(rows, users, row);
      block.user[at] = user === none && active ? missing() : user;
      if (user !== none) this.#link(record, user);
      else this.#withoutUser += 1;
    }
    this.#providerSessions.load(rows.providerSessions, first);
    const { seen } = rows;
    for (let each = 0; each < seen.rows.length; each++) {
      const use = { seenAt: (seen.seenAt[each] ?? 0) as UnixMs, pauseMs: seen.pauseMs[each] ?? 0 };
      this.#seen.set(first + (seen.rows[each] ?? 0), use);
    }
    this.#indexIds(rows, first);
  }

  /** Adds records and fills in their packed ids and the columns that a snapshot has in the same form. */
  #append({ count, ids, issuedAt, expiresAt, refreshedAt, position: place }: SessionColumns): void {
    let packed = 0;
    for (let row = 0; row < count; ) {
      if (this.#records === this.#blocks.length * blockRecords) this.#blocks.push(newBlock());
      const { block, at } = this.#at(this.#records);
      const to = Math.min(count, row + blockRecords - at);
      block.issuedAt.set(issuedAt.subarray(row, to), at);
      block.expiresAt.set(expiresAt.subarray(row, to), at);
      block.refreshedAt.set(refreshedAt.subarray(row, to), at);
      block.position.set(place.subarray(row, to), at);
      this.#records += to - row;
      for (let run = row; run < to; ) {
        let end = run;
        while (end < to && ids.forms[end] !== 0) end += 1;
        const bytes = (end - run) * packedBytes;
        block.ids.set(ids.packed.subarray(packed, packed + bytes), (at + run - row) * packedBytes);
        packed += bytes;
        while (end < to && ids.forms[end] === 0) end += 1;
        run = end;
      }
      row = to;
    }
    this.#size += count;
    this.#lastId = undefined;
  }

  /** Makes the new records searchable by id. @throws MalformedSnapshotError if an id occurs twice */
  #indexIds({ count, ids }: SessionColumns, first: number): void {
    let text = 0;
    for (let row = 0; row < count; row++) {
      const record = first + row;
      const form = ids.forms[row] ?? 0;
      if (form === 0) {
        const id = ids.texts[text++] as SessionId;
        if (this.#textIds.has(id)) throw new MalformedSnapshotError("a session appears twice");
        this.#textIds.set(id, record);
        this.#textOf.set(record, id);
        continue;
      }
      this.#ids.addChecked(record, form);
    }
  }

  #userOfRow({ people, person }: SessionColumns, users: Uint32Array, row: number): number {
    const at = (person[row] ?? 0) - 1;
    if (at < 0) return none;
    const known = users[at] ?? missing();
    if (known !== none) return known;
    const user = this.#users.numberOfOwn(people[at] ?? missing());
    users[at] = user;
    return user;
  }

  #entryOf(profiles: ByteStrings, entries: Uint32Array, at: number): number {
    const known = entries[at] ?? missing();
    if (known !== none) return this.#arena.retain(known);
    const entry = this.#arena.put(profiles.get(at));
    entries[at] = entry;
    return entry;
  }

  delete(id: SessionId): void {
    const record = this.#find(id);
    if (record === none) return;
    this.#lastId = undefined;
    const { block, at } = this.#at(record);
    if (((block.flags[at] ?? 0) & maybeCached) !== 0) this.#cached.delete(id);
    if (block.user[at] === none) this.#withoutUser -= 1;
    this.#providerSessions.set(record, undefined);
    this.#seen.set(record, undefined);
    this.#unlink(record);
    if (block.profile[at] !== none) this.#arena.release(block.profile[at] ?? none);
    if (((block.flags[at] ?? 0) & formMask) === 0) {
      this.#textIds.delete(id);
      this.#textOf.delete(record);
    } else {
      this.#ids.delete(record);
    }
    block.flags[at] = 0;
    block.profile[at] = none;
    block.next[at] = this.#free;
    this.#free = record;
    this.#size -= 1;
  }

  useOf(id: SessionId): SessionUse | undefined {
    const record = this.#find(id);
    return record === none ? undefined : this.#seen.get(record);
  }

  setUse(id: SessionId, use: SessionUse): void {
    const record = this.#find(id);
    if (record !== none && this.#isActive(record)) this.#seen.set(record, use);
  }

  unused(since: (idpId: string) => number, limit: number, counts: (session: Session) => boolean): SessionId[] {
    const ids: SessionId[] = [];
    /** By the number of the provider's word. */
    const sinces: number[] = [];
    for (let record = 0; record < this.#records && ids.length < limit; record++) {
      if (!this.#isActive(record)) continue;
      const { block, at } = this.#at(record);
      const word = block.word[at] ?? 0;
      sinces[word] ??= since(this.#words.textOf(word));
      const usedAt = Math.max(block.issuedAt[at] ?? 0, this.#seen.seenAt(record));
      if (usedAt > (sinces[word] ?? 0)) continue;
      const id = this.#idOf(record);
      if (counts(this.#read(record, id))) ids.push(id);
    }
    return ids;
  }

  #isActive(record: number): boolean {
    const { block, at } = this.#at(record);
    return ((block.flags[at] ?? 0) & (used | revoked)) === used;
  }

  ofUser(userId: UserId): readonly SessionId[] {
    const user = this.#users.find(userId);
    const ids: SessionId[] = [];
    for (let record = user === none ? none : this.#users.first(user); record !== none; record = this.#next(record))
      ids.push(this.#idOf(record));
    return ids;
  }

  ofProviderSession(id: SessionId): readonly SessionId[] {
    return this.#providerSessions.recordsOf(id).map((record) => this.#idOf(record));
  }

  *values(): IterableIterator<Session> {
    for (let record = 0; record < this.#records; record++) {
      const { block, at } = this.#at(record);
      if (((block.flags[at] ?? 0) & used) !== 0) yield this.#read(record, this.#idOf(record));
    }
  }

  expired(now: UnixMs, limit: number): SessionId[] {
    const ids: SessionId[] = [];
    for (let record = 0; record < this.#records && ids.length < limit; record++) {
      const { block, at } = this.#at(record);
      const flags = block.flags[at] ?? 0;
      if ((flags & (used | endless)) === used && (block.expiresAt[at] ?? 0) <= now) ids.push(this.#idOf(record));
    }
    return ids;
  }

  endless(): SessionId[] {
    const ids: SessionId[] = [];
    for (let record = 0; record < this.#records; record++) {
      const { block, at } = this.#at(record);
      if (((block.flags[at] ?? 0) & (used | endless)) === (used | endless)) ids.push(this.#idOf(record));
    }
    return ids;
  }

  #read(record: number, sessionId: SessionId): Session {
    const { block, at } = this.#at(record);
    const flags = block.flags[at] ?? 0;
    const user = block.user[at] ?? none;
    const word = this.#words.textOf(block.word[at] ?? 0);
    // The fields are in the order in which events fold them: the digest depends on it.
    if ((flags & revoked) !== 0) {
      return {
        status: "revoked",
        sessionId,
        userId: user === none ? null : this.#users.idOf(user),
        reason: word as RevocationReason,
        expiresAt: (flags & endless) !== 0 ? null : (block.expiresAt[at] as UnixMs),
        revokedAt: block.position[at] as Position,
      };
    }
    const providerSession = this.#providerSessions.get(record);
    return {
      status: "active",
      sessionId,
      userId: this.#users.idOf(user),
      idpId: word,
      issuedAt: block.issuedAt[at] as UnixMs,
      expiresAt: block.expiresAt[at] as UnixMs,
      refreshedAt: block.refreshedAt[at] as UnixMs,
      profile: this.#arena.get(block.profile[at] ?? none),
      createdAt: block.position[at] as Position,
      ...(providerSession === undefined ? {} : { providerSession }),
    };
  }

  /** @param known the user of the existing record, most often the same */
  #userOf({ userId }: Session, known: number): number {
    if (userId === null) return none;
    return known !== none && this.#users.idOf(known) === userId ? known : this.#users.numberOf(userId);
  }

  /** The arena entry of a profile: shared with the person's first or last session if the bytes are equal. */
  #putProfile(profile: Uint8Array, user: number): number {
    for (const record of [this.#users.first(user), this.#users.last(user)]) {
      if (record === none) continue;
      const { block, at } = this.#at(record);
      const entry = block.profile[at] ?? none;
      if (entry !== none && this.#arena.equals(entry, profile)) return this.#arena.retain(entry);
    }
    return this.#arena.put(profile);
  }

  #find(id: SessionId): number {
    if (id !== this.#lastId) {
      this.#lastRecord = this.#search(id);
      this.#lastId = id;
    }
    return this.#lastRecord;
  }

  #search(id: SessionId): number {
    const form = packId(id, this.#key, 0);
    this.#lastForm = form;
    if (form === undefined) return this.#textIds.get(id) ?? none;
    return this.#ids.find(form, this.#searchKey);
  }

  /** Adds a record for the id searched last, which was not found. */
  #add(id: SessionId): number {
    const record = this.#newRecord();
    const { block, at } = this.#at(record);
    const form = this.#lastForm;
    block.flags[at] = used | (form ?? 0);
    block.profile[at] = none;
    block.user[at] = none;
    if (form === undefined) {
      this.#textIds.set(id, record);
      this.#textOf.set(record, id);
    } else {
      const { words } = this.#searchKey;
      for (let word = 0; word < packedWords; word++) block.words[at * packedWords + word] = words[word] ?? 0;
      this.#ids.add(record);
    }
    this.#lastRecord = record;
    this.#size += 1;
    return record;
  }

  #newRecord(): number {
    if (this.#free !== none) {
      const record = this.#free;
      this.#free = this.#next(record);
      return record;
    }
    if (this.#records === this.#blocks.length * blockRecords) this.#blocks.push(newBlock());
    this.#records += 1;
    return this.#records - 1;
  }

  /** At the end of the person's list. */
  #link(record: number, user: number): void {
    const last = this.#users.last(user);
    const { block, at } = this.#at(record);
    block.previous[at] = last;
    block.next[at] = none;
    if (last !== none) {
      const before = this.#at(last);
      before.block.next[before.at] = record;
    }
    this.#users.linkRecord(user, record);
  }

  #unlink(record: number): void {
    const { block, at } = this.#at(record);
    const user = block.user[at] ?? none;
    if (user === none) return;
    const [previous, next] = [block.previous[at] ?? none, block.next[at] ?? none];
    if (previous !== none) {
      const before = this.#at(previous);
      before.block.next[before.at] = next;
    }
    if (next !== none) {
      const after = this.#at(next);
      after.block.previous[after.at] = previous;
    }
    this.#users.unlinkRecord(user, { record, previous, next });
  }

  #idOf(record: number): SessionId {
    const { block, at } = this.#at(record);
    const form = (block.flags[at] ?? 0) & formMask;
    if (form === 0) return this.#textOf.get(record) ?? ("" as SessionId);
    return unpackId(form as IdForm, block.ids, at * packedBytes) as SessionId;
  }

  #next(record: number): number {
    const { block, at } = this.#at(record);
    return block.next[at] ?? none;
  }

  #at(record: number): Readonly<{ block: SessionBlock; at: number }> {
    return { block: this.#blocks[record >>> 14] as SessionBlock, at: record & (blockRecords - 1) };
  }
}

function missing(): never {
  throw new MalformedSnapshotError("a row refers to a missing entry");
}
