/** Snapshots of the projection: equal to the projection at one position, and loaded only if whole. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import {
  type CardeaEvent,
  type CommandId,
  encode,
  type GroupId,
  type Link,
  loadProjection,
  MalformedSnapshotError,
  type MembershipSource,
  Projection,
  type Recorded,
  type SessionId,
  SnapshotChunks,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { record } from "../support.ts";

const seed = Number(process.env["SEED"] ?? 7);

const ids = Array.from({ length: 24 }, (_, n) => (n % 3 === 0 ? `s-${n}` : randomUUID()) as SessionId);
const people = Array.from({ length: 9 }, (_, n) => (n % 2 === 0 ? `user-${n}` : randomUUID()) as UserId);
const providerSessions = Array.from({ length: 4 }, () => randomUUID() as string as SessionId);
const groups = ["eng", "sales", "ä€😀", "a:b"] as GroupId[];
const sources: MembershipSource[] = ["directory", "scim", "operator", "idp"];
const profiles = people.map((_, n) => new Uint8Array([n, ...randomBytes(40)]));

const pick = <T>(list: readonly T[]) => fc.constantFrom(...list);
const anEvent: fc.Arbitrary<CardeaEvent> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(pick(ids), fc.nat(8), fc.nat(9)).map(([sessionId, n, m]) => session(sessionId, n, m)),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(pick(ids), fc.nat(8), fc.nat(99)).map(
      ([sessionId, n, at]): CardeaEvent => ({
        type: "SessionRefreshed",
        sessionId,
        userId: people[n] as UserId,
        profile: profiles[n] as Uint8Array,
        refreshedAt: (1_000 + at) as UnixMs,
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(pick(ids), pick(people))
      .map(([sessionId, userId]): CardeaEvent => ({ type: "SessionRevoked", sessionId, userId, reason: "operator" })),
  },
  {
    weight: 1,
    arbitrary: pick([...ids, ...providerSessions]).map(
      (logoutId): CardeaEvent => ({ type: "LogoutRecorded", logoutId, until: 1_700_000_500_000 as UnixMs }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .array(pick(ids), { maxLength: 4 })
      .map((sessionIds): CardeaEvent => ({ type: "SessionsExpired", sessionIds: [...new Set(sessionIds)] })),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.subarray(ids), fc.nat(9), fc.nat(9)).map(
      ([sessionIds, at, pause]): CardeaEvent => ({
        type: "SessionsSeen",
        sessionIds,
        seenAt: sessionIds.map((_, n) => (1_700_000_000_000 + n * at) as UnixMs),
        pauseMs: sessionIds.map((_, n) => n * pause),
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(pick(people), fc.nat(4)).map(([userId, n]): CardeaEvent => {
      if (n === 0) return { type: "UserSessionsRevoked", userId, upTo: null, reason: "identity-provider" };
      if (n === 1) return { type: "UserSuspended", userId, reason: "left" };
      if (n === 2) return { type: "UserRestored", userId };
      if (n === 3) return { type: "UserErased", userId };
      return { type: "UserUpserted", userId, profile: profiles[1] as Uint8Array };
    }),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 3 }).map((level): CardeaEvent => ({ type: "UpgradeFinalized", level })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(pick(groups), pick(sources), fc.subarray(people), fc.subarray(people)).map(
      ([groupId, source, added, removed]): CardeaEvent => ({
        type: "GroupMembersChanged",
        ...{ groupId, source, added, removed: removed.filter((id) => !added.includes(id)) },
      }),
    ),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(pick(groups), fc.subarray(people), fc.nat(9), fc.nat(3))
      .map(([groupId, some, end, what]): CardeaEvent => {
        if (what === 0) return { type: "MembershipsExpired", groupId, userIds: some, at: end as UnixMs };
        const box = { until: end as UnixMs, reason: `ä ${end}` };
        return { type: "GroupMembersChanged", groupId, source: "operator", added: some, removed: [], ...box };
      }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(pick(people), fc.nat(9), fc.boolean()).map(([userId, end, suspends]): CardeaEvent => {
      if (!suspends) return { type: "SuspensionExpired", userId, at: end as UnixMs };
      return { type: "UserSuspended", userId, reason: "lost laptop", until: end as UnixMs };
    }),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(pick(groups), pick(people), fc.nat(5), fc.nat(9), fc.nat(4))
      .map(([groupId, userId, n, end, what]): CardeaEvent => {
        const requestId = `00000000-0000-4000-8000-00000000000${n}` as CommandId;
        const [until, words] = [end as UnixMs, end < 5 ? null : Uint8Array.of(n, end)];
        if (what < 2)
          return {
            ...{ type: "AccessRequested", requestId, userId, groupId, routeId: `route-${n}`, durationMs: 60_000 },
            ...{ reason: words, refusal: end < 3 ? null : "refusal", expiresAt: until },
          };
        if (what === 2)
          return { type: "AccessRequestDecided", requestId, userId, decision: "approved", until, note: words };
        if (what === 3) return { type: "AccessRequestEnded", requestId, userId, outcome: "ended" };
        const access = { added: [userId], removed: [], until, requestId };
        return { type: "GroupMembersChanged", groupId, source: "request", ...access };
      }),
  },
  {
    weight: 1,
    arbitrary: pick(groups).map((groupId): CardeaEvent => ({ type: "GroupUpserted", groupId, name: `${groupId}!` })),
  },
  { weight: 1, arbitrary: pick(groups).map((groupId): CardeaEvent => ({ type: "GroupRemoved", groupId })) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(5), pick(people), fc.nat(2)).map(([n, userId, what]): CardeaEvent => {
      const deviceId = `device-${n}` as never;
      if (what === 0) return { type: "DeviceEnrolled", deviceId, userId, typeId: "key", enrolledAt: 5 as UnixMs };
      if (what === 1) return { type: "DeviceApproved", deviceId, userId, approvedBy: people[0] as UserId };
      return { type: "DeviceRemoved", deviceId, userId };
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.nat(5), pick(people), fc.boolean()).map(([n, userId, create]): CardeaEvent => {
      const serviceAccountId = `account-${n}` as never;
      return create
        ? { type: "ServiceAccountCreated", serviceAccountId, userId, expiresAt: null, description: "ä" }
        : { type: "ServiceAccountRevoked", serviceAccountId, userId, reason: "operator" };
    }),
  },
);

function session(sessionId: SessionId, person: number, expires: number): CardeaEvent {
  return {
    type: "SessionCreated",
    sessionId,
    userId: people[person] as UserId,
    idpId: expires % 2 === 0 ? "one" : "two",
    issuedAt: (1_700_000_000_000 + person) as UnixMs,
    expiresAt: (1_700_000_100_000 + expires) as UnixMs,
    profile: profiles[person] as Uint8Array,
    ...(expires % 3 === 0 ? { providerSession: providerSessions[person % 4] as SessionId } : {}),
  };
}

type Snapshot = Readonly<{
  link: Link;
  digest: string;
  level: number;
  counts: SnapshotChunks["counts"];
  chunks: Uint8Array[];
}>;

/** @param between changes the projection between two steps */
function take(projection: Projection, between: () => void = () => {}, entities = 3): Snapshot {
  const capture = projection.capture();
  const { link, digest } = capture;
  const { level } = projection;
  const building = new SnapshotChunks(capture);
  const chunks: Uint8Array[] = [];
  for (;;) {
    const step = building.step(entities);
    if (step === "done") return { link, digest, level, counts: building.counts, chunks };
    if (step !== "more") chunks.push(new Uint8Array(step));
    between();
  }
}

function foldEvents(events: readonly Recorded[]): Projection {
  const projection = new Projection();
  for (const event of events) projection.apply(event);
  return projection;
}

function everything(projection: Projection): unknown {
  const byJson = (a: unknown, b: unknown) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
  const users = [...projection.users()].map((user) => ({
    ...user,
    profile: user.profile && Buffer.from(user.profile),
  }));
  return {
    applied: projection.applied,
    digest: projection.digest(),
    level: projection.level,
    counts: projection.counts,
    sessions: [...projection.sessions()]
      .map((s) => (s.status === "active" ? { ...s, profile: Buffer.from(s.profile) } : s))
      .sort(byJson),
    statuses: ids.map((id) => projection.sessionStatus(id).status),
    uses: ids.map((id) => projection.uses.of(id)),
    unused: projection.uses.unused((idp) => (idp === "one" ? 1_700_000_000_004 : 0), 100).sort(),
    users: users.sort(byJson),
    ofUsers: people.map((id) => [
      id,
      [...projection.sessionsOf(id)].sort(),
      [...projection.memberships(id)].sort(byJson),
      [0, 3, 7, 20].map((now) => [...projection.groupsOf(id, now as UnixMs)].sort()),
      projection.nextEndOf(id, 4 as UnixMs),
      projection
        .devicesOf(id)
        .map((d) => d.deviceId)
        .sort(),
    ]),
    groups: [...projection.groups()].sort(byJson),
    timeBoxes: projection.timeBoxes,
    requests: [...projection.accessRequests.rows()].map((one) => ({
      ...one,
      words: [one.reason, one.note].map((sealed) => sealed && Buffer.from(sealed).toString("hex")),
      ...{ reason: null, note: null },
    })),
    requestsOf: people.map((id) => [...projection.accessRequests.of(id)].map((one) => one.requestId).sort()),
    lapsed: [...projection.accessRequests.expired(5 as UnixMs, 100)].sort(),
    suspensions: [...projection.expiredSuspensions(6 as UnixMs, 100)].sort(),
    members: groups.map((id) => [...projection.membersOf(id)].sort()),
    devices: [...projection.devices()].sort(byJson),
    accounts: [...projection.serviceAccounts()].sort(byJson),
  };
}

test(`a snapshot taken while events continue equals the projection at its start, byte for byte (seed ${seed})`, () => {
  fc.assert(
    fc.property(fc.array(anEvent, { maxLength: 60 }), fc.array(anEvent, { maxLength: 60 }), (before, after) => {
      const first = record(before);
      const all = [...first, ...record(after, first.at(-1) && { ...(first.at(-1) as Recorded) })];
      const live = foldEvents(first);
      const waiting = all.slice(first.length);
      const snapshot = take(live, () => {
        for (const event of waiting.splice(0, 2)) live.apply(event);
      });
      for (const event of waiting) live.apply(event);

      const still = foldEvents(first);
      assert.deepEqual(take(still, undefined, 1_000), snapshot, "equal to a snapshot without concurrent events");
      const loaded = loadProjection(
        snapshot,
        snapshot.chunks.map((chunk) => chunk.slice()),
      );
      assert.deepEqual(everything(loaded), everything(still));
      assert.equal(loaded.recomputedDigest(), loaded.digest());
      assert.deepEqual(take(loaded), snapshot, "equal to a snapshot of the loaded projection");
      for (const event of all.slice(first.length)) loaded.apply(event);
      assert.deepEqual(everything(loaded), everything(live), "later events lead to the same state");
    }),
    { seed, numRuns: 150 },
  );
});

test("starting another snapshot cancels the running one, and events continue unaffected", () => {
  const events = record(Array.from({ length: 40 }, (_, n) => session(randomUUID() as SessionId, n % 9, n)));
  const projection = foldEvents(events.slice(0, 20));
  const first = projection.capture();
  first.next(5);
  const second = projection.capture();
  assert.equal(first.over, true);
  for (const event of events.slice(20)) projection.apply(event);
  second.end();
  assert.deepEqual(everything(projection), everything(foldEvents(events)));
});

test("a snapshot of another format, or an incomplete one, is refused with a reason", () => {
  const events = record(Array.from({ length: 40 }, (_, n) => session(randomUUID() as SessionId, n % 9, n)));
  const snapshot = take(foldEvents(events));
  const [groupsChunk, ...shards] = snapshot.chunks as [Uint8Array, ...Uint8Array[]];
  const refused = (chunks: readonly Uint8Array[], why: RegExp, counts = snapshot.counts): void =>
    assert.throws(
      () => loadProjection({ ...snapshot, counts }, chunks),
      (error) => error instanceof MalformedSnapshotError && why.test(error.message),
    );
  refused([encode([2, "groups", [[], []]])], /format 2/);
  refused(shards, /order/);
  refused([groupsChunk], /numbers/);
  refused([groupsChunk, ...shards, ...shards].slice(0, 1), /numbers/);
  refused([groupsChunk, ...shards.map((chunk) => chunk.subarray(0, chunk.length - 3))], /cannot be read/);
  refused([groupsChunk, encode([1, "shards", [encode(["nonsense"])]])], /list of 9/);
  refused(snapshot.chunks, /numbers/, { ...snapshot.counts, sessions: 41 });
});

test("a snapshot contains no sealed data in clear, and writes a shared profile once", () => {
  const profile = randomBytes(400);
  const many = Array.from({ length: 50 }, (_, n): CardeaEvent => {
    const event = session(randomUUID() as SessionId, 3, n);
    return event.type === "SessionCreated" ? { ...event, profile } : event;
  });
  const { chunks } = take(foldEvents(record(many)));
  const all = Buffer.concat(chunks);
  assert.ok(all.indexOf(profile) >= 0);
  assert.equal(all.indexOf(profile, all.indexOf(profile) + 1), -1);
});
