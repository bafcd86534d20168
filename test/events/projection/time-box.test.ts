/** Memberships and suspensions that end by themselves: what the projection says of them at each time. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type CardeaEvent,
  type GroupId,
  type MembershipSource,
  Projection,
  type UnixMs,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { created, record, userId } from "../support.ts";

const eng = "eng" as GroupId;
const at = (ms: number): UnixMs => ms as UnixMs;

function fold(...events: readonly CardeaEvent[]): Projection {
  const projection = new Projection();
  for (const one of record(events)) projection.apply(one);
  assert.equal(projection.digest(), projection.recomputedDigest());
  return projection;
}

function added(source: MembershipSource, until?: number): CardeaEvent {
  const box = until === undefined ? {} : { until: at(until), reason: "on call" };
  return { type: "GroupMembersChanged", groupId: eng, source, added: [userId(1)], removed: [], ...box };
}
function removed(source: MembershipSource): CardeaEvent {
  return { type: "GroupMembersChanged", groupId: eng, source, added: [], removed: [userId(1)] };
}
const swept = (ms: number): CardeaEvent => ({
  type: "MembershipsExpired",
  groupId: eng,
  userIds: [userId(1)],
  at: at(ms),
});
const isIn = (projection: Projection, ms: number): boolean => projection.groupsOf(userId(1), at(ms)).has(eng);

describe("a time-boxed membership", () => {
  test("counts before its end and not at it, whatever the order of the questions", () => {
    const projection = fold(added("operator", 100));
    for (const ms of [99, 100, 0, 101, 99, 100]) assert.equal(isIn(projection, ms), ms < 100, `at ${ms}`);
    assert.equal(projection.nextEndOf(userId(1), at(99)), 100);
    assert.equal(projection.nextEndOf(userId(1), at(100)), null);
  });

  test("stays in the projection until the sweep, and the sweep removes it", () => {
    const projection = fold(added("operator", 100));
    assert.equal(projection.expiredMemberships(at(99), 10), null);
    assert.deepEqual(projection.expiredMemberships(at(100), 10), { groupId: eng, userIds: [userId(1)] });
    assert.equal(projection.timeBoxes, 1);
    const after = fold(added("operator", 100), swept(100));
    assert.equal(after.membership(userId(1), eng), undefined);
    assert.equal(after.timeBoxes, 0);
    assert.equal(after.expiredMemberships(at(1_000), 10), null);
  });

  test("is renewed by a later end and shortened by an earlier one, and an old sweep ends neither", () => {
    assert.equal(isIn(fold(added("operator", 100), added("operator", 200)), 150), true);
    assert.equal(isIn(fold(added("operator", 200), added("operator", 100)), 150), false);
    assert.equal(isIn(fold(added("operator", 100), added("operator", 200), swept(100)), 150), true);
    assert.equal(isIn(fold(added("operator", 100), added("operator"), swept(100)), 9_999), true);
    assert.equal(isIn(fold(added("operator"), added("operator", 100)), 100), false);
  });

  test("beside a permanent one of another source ends alone", () => {
    for (const events of [
      [added("idp"), added("operator", 100)],
      [added("operator", 100), added("idp")],
    ]) {
      assert.equal(isIn(fold(...events), 100), true);
      assert.deepEqual(fold(...events, swept(100)).membership(userId(1), eng), { sources: ["idp"], excluded: false });
    }
    const withdrawn = fold(added("idp"), added("operator", 100), removed("idp"));
    assert.deepEqual([isIn(withdrawn, 99), isIn(withdrawn, 100)], [true, false]);
  });

  test("overrides an exclusion until its end only; a permanent addition lifts it", () => {
    const events = [added("idp"), removed("operator"), added("operator", 100)];
    assert.deepEqual([isIn(fold(...events), 99), isIn(fold(...events), 100)], [true, false]);
    assert.equal(isIn(fold(...events, swept(100)), 200), false, "the exclusion is in force again");
    assert.equal(isIn(fold(...events, added("operator")), 200), true);
    assert.equal(isIn(fold(...events, removed("operator")), 50), false);
  });

  test("costs memory only while it exists", () => {
    const projection = fold(added("operator", 100), removed("operator"), added("idp"), added("operator", 300));
    assert.equal(projection.timeBoxes, 1);
    const gone = fold(added("operator", 100), { type: "GroupRemoved", groupId: eng });
    assert.equal(gone.timeBoxes, 0);
    assert.equal(gone.expiredMemberships(at(1_000), 10), null);
  });
});

test("with any history and any order of questions, groups at a time are those of a fresh projection", () => {
  const event = fc.tuple(fc.nat(2), fc.nat(2), fc.nat(9), fc.nat(4)).map(([person, group, end, what]): CardeaEvent => {
    const groupId = `g${group}` as GroupId;
    const people = [userId(person)];
    if (what === 0) return { type: "MembershipsExpired", groupId, userIds: people, at: at(end) };
    if (what === 1) return { type: "GroupMembersChanged", groupId, source: "operator", added: [], removed: people };
    if (what === 2) return { type: "GroupMembersChanged", groupId, source: "idp", added: people, removed: [] };
    const box = { until: at(end), reason: "why" };
    return { type: "GroupMembersChanged", groupId, source: "operator", added: people, removed: [], ...box };
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), fc.array(fc.nat(10), { maxLength: 5 }), (events, times) => {
      const live = new Projection();
      for (const [index, one] of record(events).entries()) {
        live.apply(one);
        for (const ms of times)
          for (const person of [0, 1, 2]) {
            const fresh = fold(...events.slice(0, index + 1));
            assert.deepEqual(
              [...live.groupsOf(userId(person), at(ms))].sort(),
              [...fresh.groupsOf(userId(person), at(ms))].sort(),
            );
            const next = live.nextEndOf(userId(person), at(ms));
            assert.ok(next === null || next > ms);
          }
      }
    }),
    { numRuns: 60 },
  );
});

describe("a time-boxed suspension", () => {
  const suspended = (until?: number): CardeaEvent => ({
    type: "UserSuspended",
    userId: userId(1),
    reason: "lost laptop",
    ...(until === undefined ? {} : { until: at(until) }),
  });
  const expired = (ms: number): CardeaEvent => ({ type: "SuspensionExpired", userId: userId(1), at: at(ms) });
  const statusOf = (...events: readonly CardeaEvent[]): string | undefined => fold(...events).user(userId(1))?.status;

  test("is lifted by its event alone, and not by an event before its end", () => {
    assert.equal(statusOf(suspended(100)), "suspended");
    assert.equal(statusOf(suspended(100), expired(99)), "suspended");
    assert.equal(statusOf(suspended(100), expired(100)), "active");
    assert.deepEqual(fold(suspended(100)).expiredSuspensions(at(99), 10), []);
    assert.deepEqual(fold(suspended(100)).expiredSuspensions(at(100), 10), [userId(1)]);
    assert.deepEqual(fold(suspended(100), expired(100)).expiredSuspensions(at(1_000), 10), []);
  });

  test("restores the person but not the old sessions", () => {
    const projection = fold(created(1, 1), suspended(100), expired(100), created(2, 1));
    assert.equal(projection.sessionStatus("session-1" as never).status, "revoked");
    assert.equal(projection.sessionStatus("session-2" as never).status, "active");
  });

  test("never shortens another one: the later end counts, and none is the latest", () => {
    assert.equal(statusOf(suspended(), suspended(100), expired(100)), "suspended");
    assert.equal(statusOf(suspended(100), suspended(), expired(100)), "suspended");
    assert.equal(statusOf(suspended(200), suspended(100), expired(100)), "suspended");
    assert.equal(statusOf(suspended(100), suspended(200), expired(150)), "suspended");
    assert.equal(statusOf(suspended(100), suspended(200), expired(200)), "active");
  });

  test("leaves no end behind after a restore or an erasure", () => {
    for (const type of ["UserRestored", "UserErased"] as const) {
      const projection = fold(suspended(100), { type, userId: userId(1) });
      assert.equal(projection.user(userId(1))?.suspension, undefined);
      assert.deepEqual(projection.expiredSuspensions(at(1_000), 10), []);
    }
    assert.equal(statusOf(suspended(100), { type: "UserErased", userId: userId(1) }, expired(100)), "erased");
  });
});
