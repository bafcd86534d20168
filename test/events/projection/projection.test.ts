/** The projection: sessions, users and groups folded from events. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CardeaEvent,
  type GroupId,
  genesis,
  groupStream,
  type Hash,
  linkOf,
  OutOfOrderError,
  type Position,
  Projection,
  sessionStream,
  type UnixMs,
  userStream,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { created, foreign, record, revoked, sessionId, userId } from "../support.ts";

function fold(events: readonly CardeaEvent[]): Projection {
  const projection = new Projection();
  for (const one of record(events)) projection.apply(one);
  return projection;
}

const group = "eng" as GroupId;

test("a session is active once created, and its revocation is final", () => {
  assert.equal(fold([created(1, 1)]).sessionStatus(sessionId(1)).status, "active");
  assert.equal(fold([created(1, 1), revoked(1, 1)]).sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(fold([]).sessionStatus(sessionId(1)).status, "unknown");
});

test("a revocation that arrives before its session still revokes it", () => {
  assert.equal(fold([revoked(1, 1), created(1, 1)]).sessionStatus(sessionId(1)).status, "revoked");
});

test("a cut of all sessions ends those created before it and not those created after", () => {
  const projection = fold([
    created(1, 1),
    { type: "UserSessionsRevoked", userId: userId(1), upTo: null, reason: "operator" },
    created(2, 1),
    created(3, 2),
  ]);
  assert.equal(projection.sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(projection.sessionStatus(sessionId(2)).status, "active");
  assert.equal(projection.sessionStatus(sessionId(3)).status, "active");
});

test("a cut up to a position keeps a session created at the next one", () => {
  const cut = (upTo: number): CardeaEvent => ({
    type: "UserSessionsRevoked",
    userId: userId(1),
    upTo: upTo as Position,
    reason: "reasserted",
  });
  assert.equal(fold([created(1, 1), created(2, 1), cut(1)]).sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(fold([created(1, 1), created(2, 1), cut(1)]).sessionStatus(sessionId(2)).status, "active");
});

test("a restored user is admitted again, only with new sessions", () => {
  const projection = fold([
    created(1, 1),
    { type: "UserSuspended", userId: userId(1), reason: "left" },
    { type: "UserRestored", userId: userId(1) },
    created(2, 1),
  ]);
  assert.equal(projection.sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(projection.sessionStatus(sessionId(2)).status, "active");
});

test("a user keeps the bytes of the profile and not those of the page that it was read from", () => {
  const projection = fold([{ type: "UserUpserted", userId: userId(1), profile: new Uint8Array(300).fill(7) }]);
  const { profile } = projection.user(userId(1)) ?? assert.fail();
  assert.deepEqual(profile, new Uint8Array(300).fill(7));
  assert.equal(profile?.buffer.byteLength, 300);
});

test("an erased user never returns, and no profile data stays", () => {
  const projection = fold([
    { type: "UserUpserted", userId: userId(1), profile: new Uint8Array([1]) },
    created(1, 1),
    { type: "UserErased", userId: userId(1) },
    { type: "UserRestored", userId: userId(1) },
    { type: "UserUpserted", userId: userId(1), profile: new Uint8Array([2]) },
  ]);
  assert.equal(projection.user(userId(1))?.status, "erased");
  assert.equal(projection.user(userId(1))?.profile, null);
  assert.equal(projection.sessionStatus(sessionId(1)).status, "revoked");
});

test("an operator's removal overrides the identity provider's claims until an operator adds the user again", () => {
  const idp = (groupIds: readonly GroupId[]): CardeaEvent => ({
    type: "UserGroupsReplaced",
    userId: userId(1),
    source: "idp",
    groupIds,
  });
  const operator = (change: "added" | "removed"): CardeaEvent => ({
    type: "GroupMembersChanged",
    groupId: group,
    source: "operator",
    added: change === "added" ? [userId(1)] : [],
    removed: change === "removed" ? [userId(1)] : [],
  });
  assert.equal(
    fold([idp([group])])
      .groupsOf(userId(1), 0 as UnixMs)
      .has(group),
    true,
  );
  assert.equal(
    fold([idp([group]), idp([])])
      .groupsOf(userId(1), 0 as UnixMs)
      .has(group),
    false,
  );
  assert.equal(
    fold([idp([group]), operator("removed")])
      .groupsOf(userId(1), 0 as UnixMs)
      .has(group),
    false,
  );
  assert.equal(
    fold([idp([group]), operator("removed"), idp([]), idp([group])])
      .groupsOf(userId(1), 0 as UnixMs)
      .has(group),
    false,
  );
  assert.equal(
    fold([idp([group]), operator("removed"), operator("added")])
      .groupsOf(userId(1), 0 as UnixMs)
      .has(group),
    true,
  );
});

test("removing a group removes every member and touches each of them", () => {
  const events = record([
    { type: "GroupMembersChanged", groupId: group, source: "directory", added: [userId(1), userId(2)], removed: [] },
    { type: "GroupRemoved", groupId: group },
  ]);
  const projection = new Projection();
  const touched = events.map((one) => projection.apply(one));
  assert.equal(projection.groupsOf(userId(1), 0 as UnixMs).size, 0);
  assert.ok(touched[1]?.includes(userStream(userId(1))));
  assert.ok(touched[1]?.includes(userStream(userId(2))));
});

test("each change of a session, of a person or of members touches every stream that a decision may have read", () => {
  const [session, user, other] = [sessionStream(sessionId(1)), userStream(userId(1)), userStream(userId(2))];
  const profile = new Uint8Array([2]);
  const expected: readonly (readonly [CardeaEvent, readonly string[]])[] = [
    [created(1, 1), [session]],
    [
      { type: "SessionRefreshed", sessionId: sessionId(1), userId: userId(1), profile, refreshedAt: 5 as UnixMs },
      [session],
    ],
    [revoked(1, 1), [session]],
    [{ type: "UserGroupsReplaced", userId: userId(1), source: "idp", groupIds: [group] }, [user]],
    [
      { type: "GroupMembersChanged", groupId: group, source: "operator", added: [userId(2)], removed: [userId(1)] },
      [groupStream(group), other, user],
    ],
    [{ type: "UserSuspended", userId: userId(2), reason: "leaver" }, [other]],
    [{ type: "SessionsExpired", sessionIds: [sessionId(1)] }, [session]],
  ];
  const projection = new Projection();
  const touched = record(expected.map(([event]) => event)).map((one) => projection.apply(one));
  assert.deepEqual(
    touched,
    expected.map(([, streams]) => streams),
  );
});

test("an expired session stays in the projection until a sweep event", () => {
  const projection = fold([created(1, 1, 10)]);
  assert.equal(projection.sessionStatus(sessionId(1)).status, "active");
  assert.deepEqual(projection.expired(11 as UnixMs, 10), [sessionId(1)]);
  const swept = fold([created(1, 1, 10), { type: "SessionsExpired", sessionIds: [sessionId(1)] }]);
  assert.equal(swept.sessionStatus(sessionId(1)).status, "unknown");
  assert.deepEqual(swept.sessionsOf(userId(1)), []);
});

const finalized: CardeaEvent = { type: "UpgradeFinalized", level: 2 };
const reasserted = (session: number): CardeaEvent => ({
  ...{ type: "TighteningReasserted", subject: sessionStream(sessionId(session)) },
  ...{ of: "SessionQuarantined", lost: "b".repeat(64) as Hash },
});
/** A day more than the longest session. */
const year = (366 * 24 * 3_600_000) as UnixMs;

test("a revoked unknown session is dropped once every session of its time must have ended, and not before", () => {
  const projection = fold([created(1, 1), finalized, revoked(1, 1), revoked(2, 1), reasserted(3)]);
  const unknownEvent = foreign({ stream: sessionStream(sessionId(4)), effect: "tightens", after: projection.applied });
  projection.apply(unknownEvent);
  const unknown = [2, 3, 4].map(sessionId);
  for (const id of unknown) assert.equal(projection.sessionStatus(id).status, "revoked");
  assert.deepEqual(projection.expired(year, 10), [sessionId(1)], "a known session keeps its own expiry");
  assert.deepEqual(projection.expired((year + 1) as UnixMs, 10), [sessionId(1), ...unknown]);
  assert.equal(projection.digest(), projection.recomputedDigest());
});

test("at level 1 such a session stays, as in older builds; at level 2 it gets an expiry", () => {
  const before = [revoked(2, 1), reasserted(3)];
  const projection = fold(before);
  assert.deepEqual(projection.expired(Number.MAX_SAFE_INTEGER as UnixMs, 10), []);
  const session = projection.session(sessionId(2));
  assert.ok(session?.status === "revoked" && session.expiresAt === null);
  for (const one of record([finalized], projection.applied)) projection.apply(one);
  assert.deepEqual(projection.expired(year, 10), []);
  assert.deepEqual(projection.expired((year + 1) as UnixMs, 10), [sessionId(2), sessionId(3)]);
  assert.equal(projection.digest(), projection.recomputedDigest());
  const swept: CardeaEvent = { type: "SessionsExpired", sessionIds: [sessionId(2), sessionId(3)] };
  for (const one of record([swept], projection.applied)) projection.apply(one);
  assert.equal(projection.counts.sessions, 0);
  assert.equal(projection.digest(), fold([finalized]).digest(), "no trace of the sessions is left");
});

test("an unknown tightening event is obeyed, a neutral one skipped, and any other ends freshness", () => {
  const base = record([created(1, 1)]);
  const [only] = base;
  const at = only === undefined ? genesis : linkOf(only);
  const after = (effect: "tightens" | "neutral" | "either", stream = sessionStream(sessionId(1))): Projection => {
    const projection = new Projection();
    for (const one of base) projection.apply(one);
    projection.apply(foreign({ stream, effect, after: at }));
    return projection;
  };
  assert.equal(after("tightens").sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(after("tightens", userStream(userId(1))).sessionStatus(sessionId(1)).status, "revoked");
  assert.equal(after("tightens").degraded, undefined);
  assert.equal(after("neutral").sessionStatus(sessionId(1)).status, "active");
  assert.equal(after("neutral").degraded, undefined);
  assert.equal(after("either").degraded, "FromTheFuture");
  assert.notEqual(after("tightens", "spaceship:7" as ReturnType<typeof userStream>).degraded, undefined);
});

test("an event out of order is a broken invariant", () => {
  const [first, second] = record([created(1, 1), created(2, 1)]);
  const projection = new Projection();
  assert.ok(first && second);
  assert.throws(() => projection.apply(second), OutOfOrderError);
  projection.apply(first);
  assert.throws(() => projection.apply(first), OutOfOrderError);
});

const anyEvent: fc.Arbitrary<CardeaEvent> = fc
  .record({ session: fc.nat(5), user: fc.nat(3), kind: fc.nat(9), group: fc.constantFrom("a", "b") })
  .map(({ session, user, kind, group: name }): CardeaEvent => {
    const groupId = name as GroupId;
    const events: readonly CardeaEvent[] = [
      created(session, user),
      revoked(session, user),
      {
        type: "SessionRefreshed",
        sessionId: sessionId(session),
        userId: userId(user),
        profile: new Uint8Array([9]),
        refreshedAt: 5 as UnixMs,
      },
      { type: "UserSessionsRevoked", userId: userId(user), upTo: null, reason: "operator" },
      { type: "UserSuspended", userId: userId(user), reason: "r" },
      { type: "UserRestored", userId: userId(user) },
      { type: "GroupMembersChanged", groupId, source: "operator", added: [userId(user)], removed: [] },
      { type: "GroupMembersChanged", groupId, source: "directory", added: [], removed: [userId(user)] },
      { type: "UserGroupsReplaced", userId: userId(user), source: "idp", groupIds: [groupId] },
      { type: "SessionsExpired", sessionIds: [sessionId(session)] },
    ];
    return events[kind] ?? created(session, user);
  });

test("equal events give equal digests, and other states give others", () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
      assert.equal(fold(events).digest(), fold(events).digest());
    }),
    { seed: 20_261_125, numRuns: 200 },
  );
  assert.notEqual(fold([created(1, 1)]).digest(), fold([created(2, 1)]).digest());
  assert.notEqual(fold([created(1, 1)]).digest(), fold([created(1, 1), revoked(1, 1)]).digest());
});

test("the digest returns to its start when everything is swept away", () => {
  const projection = fold([
    created(1, 1, 1),
    created(2, 2, 1),
    { type: "SessionsExpired", sessionIds: [sessionId(1), sessionId(2)] },
  ]);
  assert.equal(projection.digest(), new Projection().digest());
});

test("no later event readmits a denied session, but the sweep drops it", () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 80 }), (events) => {
      const projection = new Projection();
      const denied = new Set<string>();
      for (const one of record(events)) {
        projection.apply(one);
        if (one.event.type === "SessionsExpired") for (const id of one.event.sessionIds) denied.delete(id);
        for (const session of projection.sessions()) {
          const { status } = projection.sessionStatus(session.sessionId);
          if (denied.has(session.sessionId)) assert.equal(status, "revoked");
          if (status === "revoked") denied.add(session.sessionId);
        }
      }
    }),
    { seed: 20_261_125, numRuns: 300 },
  );
});
