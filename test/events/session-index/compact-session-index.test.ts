/** The compact session index: equal to a plain map, with packed ids, columns and a byte arena. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import {
  encode,
  type Position,
  type Session,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { ByteArena } from "../../../src/events/session-index/byte-arena.ts";
import { CompactSessionIndex } from "../../../src/events/session-index/compact-session-index.ts";
import { packedBytes, packId, unpackId } from "../../../src/events/session-index/packed-id.ts";
import type { SessionColumns } from "../../../src/events/session-index/session-index.ts";
import { fc } from "../../support/property.ts";
import { MapSessionIndex } from "./map-session-index.ts";

const bytesOf = (text: string): Buffer => createHash("sha256").update(text).digest();
const uuidOf = (n: number): string => {
  const hex = bytesOf(`uuid ${n}`).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
};
const ids: readonly SessionId[] = [
  ...Array.from({ length: 40 }, (_, n) => uuidOf(n)),
  ...Array.from({ length: 40 }, (_, n) => bytesOf(`base64 ${n}`).subarray(0, 16).toString("base64url")),
  ...Array.from({ length: 10 }, (_, n) => `session-${n}`),
  uuidOf(1).toUpperCase(),
  `${bytesOf("base64 1").subarray(0, 16).toString("base64url").slice(0, 21)}B`,
  // the same sixteen bytes in another encoding: a different id
  Buffer.from(uuidOf(2).replaceAll("-", ""), "hex").toString("base64url"),
] as SessionId[];
const people = Array.from({ length: 6 }, (_, n) => `person-${n}` as UserId);
const providerSessions = Array.from({ length: 5 }, (_, n) => uuidOf(1_000 + n) as SessionId);
const profiles: readonly Uint8Array[] = Array.from({ length: 8 }, (_, n) => Buffer.alloc(20 + n * 37, n));

const active = {
  status: fc.constant("active" as const),
  sessionId: fc.constantFrom(...ids),
  userId: fc.constantFrom(...people),
  idpId: fc.constantFrom("a", "b"),
  issuedAt: fc.nat().map((n) => n as UnixMs),
  expiresAt: fc.nat(1_000).map((n) => n as UnixMs),
  refreshedAt: fc.nat().map((n) => (n * 1_000) as UnixMs),
  profile: fc.constantFrom(...profiles),
  createdAt: fc.nat().map((n) => n as Position),
};
const session = fc.oneof(
  fc.record(active, { noNullPrototype: true }),
  fc.record({ ...active, providerSession: fc.constantFrom(...providerSessions) }, { noNullPrototype: true }),
  fc.record(
    {
      status: fc.constant("revoked" as const),
      sessionId: fc.constantFrom(...ids),
      userId: fc.option(fc.constantFrom(...people)),
      reason: fc.constantFrom("operator" as const, "sign-out" as const),
      expiresAt: fc.option(fc.nat(1_000).map((n) => n as UnixMs)),
      revokedAt: fc.nat().map((n) => n as Position),
    },
    { noNullPrototype: true },
  ),
) satisfies fc.Arbitrary<Session>;
const change = fc.oneof(
  { weight: 3, arbitrary: session.map((one) => ({ put: one })) },
  { weight: 1, arbitrary: fc.constantFrom(...ids).map((id) => ({ delete: id })) },
);

test("the compact index equals a plain map, by id, by person and by expiry", () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 300, size: "max" }), (changes) => {
      const [compact, map] = [new CompactSessionIndex(), new MapSessionIndex()];
      for (const one of changes) {
        compact.cachedSession("put" in one ? one.put.sessionId : one.delete); // caches an entry for the index to drop
        if ("put" in one) {
          compact.set(one.put);
          map.set(one.put);
        } else {
          compact.delete(one.delete);
          map.delete(one.delete);
        }
      }
      assert.equal(compact.size, map.size);
      for (const id of ids) {
        assert.deepEqual(encode(compact.cachedSession(id) ?? null), encode(map.cachedSession(id) ?? null));
        assert.equal(compact.cachedSession(id), compact.cachedSession(id), "the same object until it changes");
        // as bytes, because digests cover the order of fields
        assert.deepEqual(encode(compact.get(id) ?? null), encode(map.get(id) ?? null));
      }
      for (const userId of people) assert.deepEqual([...compact.ofUser(userId)].sort(), [...map.ofUser(userId)].sort());
      assertSameProviders(compact, map);
      const sorted = (all: Iterable<Session>): Session[] =>
        [...all].sort((a, b) => (a.sessionId < b.sessionId ? -1 : a.sessionId > b.sessionId ? 1 : 0));
      assert.deepEqual(sorted(compact.values()), sorted(map.values()));
      assert.deepEqual(compact.expired(500 as UnixMs, 1_000).sort(), map.expired(500 as UnixMs, 1_000).sort());
      assert.ok(compact.expired(500 as UnixMs, 2).length <= 2);
    }),
    { numRuns: 200, seed: 7 },
  );
});

test("a person's sessions keep their order of arrival, and the tables grow and shrink as a whole", () => {
  const index = new CompactSessionIndex();
  const userId = people[0] as UserId;
  const id = (n: number): SessionId => bytesOf(`many ${n}`).subarray(0, 16).toString("base64url") as SessionId;
  const many = 40_000;
  for (let n = 0; n < many; n++) {
    const at = n as UnixMs;
    const owner = n % 1_000 === 0 ? userId : (`person-${n % 5_000}-else` as UserId);
    index.set({
      ...{ status: "active", sessionId: id(n), userId: owner, idpId: "a", profile: profiles[n % 8] as Uint8Array },
      ...{ issuedAt: at, expiresAt: at, refreshedAt: at, createdAt: (n + 1) as Position },
    });
  }
  assert.equal(index.size, many);
  assert.deepEqual(
    index.ofUser(userId),
    Array.from({ length: many / 1_000 }, (_, n) => id(n * 1_000)),
  );
  for (let n = 0; n < many; n += 2) index.delete(id(n));
  assert.equal(index.size, many / 2);
  for (let n = 0; n < many; n++) assert.equal(index.get(id(n))?.sessionId, n % 2 === 0 ? undefined : id(n));
  assert.equal([...index.values()].length, many / 2);
});

/** In the order of a snapshot: grouped by person. */
function columnsOf(sessions: readonly Session[]): SessionColumns {
  const ordered = [...people, null].flatMap((userId) => sessions.filter((one) => one.userId === userId));
  const packed = ordered.map(({ sessionId }) => {
    const bytes = Buffer.alloc(packedBytes);
    return { form: packId(sessionId, bytes, 0) ?? 0, bytes };
  });
  const linked = ordered.flatMap((one, at) =>
    one.status === "active" && one.providerSession !== undefined ? [{ at, id: one.providerSession }] : [],
  );
  const words = ["a", "b", "operator", "sign-out"];
  const isActive = (one: Session) => one.status === "active";
  return {
    count: ordered.length,
    ids: {
      forms: Uint8Array.from(packed, ({ form }) => form),
      packed: Buffer.concat(packed.filter(({ form }) => form !== 0).map(({ bytes }) => bytes)),
      texts: ordered.map(({ sessionId }) => sessionId).filter((_, at) => packed[at]?.form === 0),
    },
    person: Uint32Array.from(ordered, ({ userId }) => (userId === null ? 0 : people.indexOf(userId) + 1)),
    people,
    flags: Uint8Array.from(ordered, (one) => (isActive(one) ? 0 : 1) | (one.expiresAt === null ? 2 : 0)),
    word: Uint32Array.from(ordered, (one) => words.indexOf(one.status === "active" ? one.idpId : one.reason)),
    words,
    issuedAt: Float64Array.from(ordered, (one) => (one.status === "active" ? one.issuedAt : 0)),
    expiresAt: Float64Array.from(ordered, (one) => one.expiresAt ?? 0),
    refreshedAt: Float64Array.from(ordered, (one) => (one.status === "active" ? one.refreshedAt : 0)),
    position: Float64Array.from(ordered, (one) => (one.status === "active" ? one.createdAt : one.revokedAt)),
    profile: Uint32Array.from(ordered, (one) => (one.status === "active" ? profiles.indexOf(one.profile) + 1 : 0)),
    profiles: { count: profiles.length, get: (at) => profiles[at] as Uint8Array },
    providerSessions: {
      rows: Uint32Array.from(linked, ({ at }) => at),
      ids: {
        forms: Uint8Array.from(linked, () => 1),
        packed: Buffer.concat(linked.map(({ id }) => Buffer.from(id.replaceAll("-", ""), "hex"))),
        texts: [],
      },
    },
    seen: { rows: new Uint32Array(), seenAt: new Float64Array(), pauseMs: new Float64Array() },
  };
}

function assertSameProviders(compact: CompactSessionIndex, map: MapSessionIndex): void {
  assert.equal(compact.withoutUser, map.withoutUser);
  for (const id of providerSessions)
    assert.deepEqual([...compact.ofProviderSession(id)].sort(), [...map.ofProviderSession(id)].sort());
}

test("loaded columns give the same sessions as single inserts, and change like them afterwards", () => {
  const onceEach = fc.uniqueArray(session, { selector: ({ sessionId }) => sessionId, maxLength: 80, size: "max" });
  fc.assert(
    fc.property(onceEach, fc.array(change, { maxLength: 60, size: "max" }), (loaded, changes) => {
      const [compact, map] = [new CompactSessionIndex(), new MapSessionIndex()];
      compact.expect(loaded.length);
      compact.load(columnsOf(loaded.slice(0, 30)));
      compact.load(columnsOf(loaded.slice(30)));
      for (const one of loaded) map.set(one);
      for (const one of changes) {
        if ("put" in one) for (const index of [compact, map]) index.set(one.put);
        else for (const index of [compact, map]) index.delete(one.delete);
      }
      assert.equal(compact.size, map.size);
      assertSameProviders(compact, map);
      for (const id of ids) assert.deepEqual(encode(compact.get(id) ?? null), encode(map.get(id) ?? null));
      for (const userId of people) assert.deepEqual([...compact.ofUser(userId)].sort(), [...map.ofUser(userId)].sort());
      assert.deepEqual(compact.expired(500 as UnixMs, 1_000).sort(), map.expired(500 as UnixMs, 1_000).sort());
    }),
    { numRuns: 100, seed: 7 },
  );
});

test("columns load across blocks, and are refused if a session repeats or a row has a dangling reference", () => {
  const many = Array.from({ length: 40_000 }, (_, n): Session => {
    const at = n as UnixMs;
    const sessionId = (
      n % 3 === 0 ? uuidOf(n) : n % 997 === 1 ? `text-${n}` : bytesOf(`b ${n}`).subarray(0, 16).toString("base64url")
    ) as SessionId;
    return {
      ...{ status: "active", sessionId, userId: people[n % 6] as UserId, idpId: "a" },
      ...{ issuedAt: at, expiresAt: at, refreshedAt: at, profile: profiles[n % 8] as Uint8Array },
      createdAt: (n + 1) as Position,
    };
  });
  const [index, map] = [new CompactSessionIndex(), new MapSessionIndex()];
  index.load(columnsOf(many.slice(0, 10_000)));
  index.load(columnsOf(many.slice(10_000)));
  for (const one of many) map.set(one);
  assert.equal(index.size, many.length);
  for (const { sessionId } of many) assert.deepEqual(encode(index.get(sessionId)), encode(map.get(sessionId)));
  for (const userId of people) assert.deepEqual(index.ofUser(userId), map.ofUser(userId), "in the order of arrival");

  const malformed = { code: "ERR_EVENTS_MALFORMED_SNAPSHOT" };
  const text = many.slice(1, 2);
  for (const twice of [many.slice(0, 1), text])
    assert.throws(() => index.load(columnsOf(twice)), malformed, "a session that is already in the index");
  const one = columnsOf(many.slice(0, 1));
  for (const wrong of [
    { person: Uint32Array.of(7) },
    { person: Uint32Array.of(0) },
    { word: Uint32Array.of(4) },
    { profile: Uint32Array.of(0) },
    { profile: Uint32Array.of(9) },
  ])
    assert.throws(() => new CompactSessionIndex().load({ ...one, ...wrong }), malformed, JSON.stringify(wrong));
});

test("an id is packed only if it unpacks to the same text", () => {
  const target = Buffer.alloc(packedBytes);
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uuid(),
        fc.base64String({ minLength: 24, maxLength: 24 }).map((text) => text.slice(2)),
        fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
        fc.string(),
      ),
      (id) => {
        const form = packId(id, target, 0);
        if (form !== undefined) assert.equal(unpackId(form, target, 0), id);
      },
    ),
    { numRuns: 2_000, seed: 7 },
  );
  assert.equal(packId(uuidOf(1), target, 0), 1);
  assert.equal(packId(bytesOf("x").subarray(0, 16).toString("base64url"), target, 0), 2);
  assert.equal(packId(uuidOf(1).toUpperCase(), target, 0), undefined);
});

test("an arena keeps live values, shares none by accident, and does not grow by released ones", () => {
  const arena = new ByteArena();
  const liveEntries = new Map<number, Buffer>();
  const start = arena.capacity;
  for (let n = 0; n < 60_000; n++) {
    const value = Buffer.alloc(1 + (n % 400), n);
    const entry = arena.put(value);
    if (n % 50 === 0) liveEntries.set(entry, value);
    else arena.release(entry);
  }
  for (const [entry, value] of liveEntries) assert.deepEqual(Buffer.from(arena.get(entry)), value);
  const liveBytes = [...liveEntries.values()].reduce((sum, { length }) => sum + length + 8, 0);
  assert.ok(arena.capacity <= start + 4 * liveBytes + 2 * 1024 * 1024, `${arena.capacity} bytes for ${liveBytes}`);
  const big = Buffer.alloc(3 * 1024 * 1024, 9);
  const entry = arena.retain(arena.put(big));
  arena.release(entry);
  assert.ok(arena.equals(entry, big));
  arena.release(entry);
});

test("sessions of one provider session are found across blocks, also after many of them have ended", () => {
  const index = new CompactSessionIndex();
  const shared = providerSessions[0] as SessionId;
  const put = (n: number, change: object = {}): void =>
    index.set({
      ...{ status: "active", sessionId: uuidOf(n) as SessionId, userId: people[n % 6] as UserId, idpId: "a" },
      ...{ issuedAt: 1 as UnixMs, expiresAt: 2 as UnixMs, refreshedAt: 1 as UnixMs, createdAt: (n + 1) as Position },
      ...{
        profile: profiles[0] as Uint8Array,
        providerSession: n % 100 === 0 ? shared : (uuidOf(n + 50_000) as SessionId),
      },
      ...change,
    });
  const many = 20_000;
  for (let n = 0; n < many; n++) put(n);
  assert.equal(index.ofProviderSession(shared).length, many / 100);
  for (let n = 0; n < many; n += 200) put(n, { providerSession: providerSessions[1] });
  for (let n = 100; n < many; n += 400) index.delete(uuidOf(n) as SessionId);
  assert.equal(index.ofProviderSession(shared).length, many / 400);
  assert.equal(index.ofProviderSession(providerSessions[1] as SessionId).length, many / 200);
  for (let n = 1; n < many; n += 997)
    assert.deepEqual(index.ofProviderSession(uuidOf(n + 50_000) as SessionId), n % 100 === 0 ? [] : [uuidOf(n)]);
  assert.deepEqual(index.ofProviderSession("not-a-uuid" as SessionId), []);
});
