/** The positions at which facts were set: exact for recent ones; a bound that is never too low for the others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CardeaEvent,
  FactPositions,
  type GroupId,
  type Position,
  Projection,
  userStream,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { created, record, revoked, sessionId, userId } from "../support.ts";

const eng = "eng" as GroupId;
const from = (n: number) => n as Position;

function foldEvents(events: readonly CardeaEvent[], positions = new FactPositions(from(0))) {
  const projection = new Projection();
  for (const one of record(events)) {
    projection.apply(one);
    positions.record(one);
  }
  return {
    positions,
    sessionPosition: (n: number) => positions.ofSession(projection.session(sessionId(n)) ?? assert.fail()),
  };
}

test("a session's position is that of its creation, its refresh or its revocation", () => {
  const refreshed: CardeaEvent = {
    ...{ type: "SessionRefreshed", sessionId: sessionId(2), userId: userId(1) },
    ...{ profile: new Uint8Array([9]), refreshedAt: 5 as never },
  };
  const { sessionPosition } = foldEvents([created(1, 1), created(2, 1), created(3, 1), refreshed, revoked(3, 1)]);
  assert.deepEqual(
    [1, 2, 3].map(sessionPosition),
    [1, 4, 5].map((position) => ({ position, exact: true })),
  );
});

test("a swept session has only a remembered position, if any", () => {
  const swept: CardeaEvent = { type: "SessionsExpired", sessionIds: [sessionId(1), sessionId(2)] };
  const { positions } = foldEvents([created(1, 1), created(2, 1), revoked(2, 1), swept]);
  assert.deepEqual(positions.ofSweptSession(sessionId(1)), { position: 4, exact: false });
  assert.deepEqual(positions.ofSweptSession(sessionId(2)), { position: 3, exact: true });
});

test("a membership's position is that of its last event, also for a person outside the group", () => {
  const one = (change: "added" | "removed"): CardeaEvent => {
    const [added, removed] = change === "added" ? [[userId(1)], []] : [[], [userId(1)]];
    return { type: "GroupMembersChanged", groupId: eng, source: "operator", added, removed };
  };
  const whole: CardeaEvent = { type: "UserGroupsReplaced", userId: userId(1), source: "idp", groupIds: [] };
  const gone: CardeaEvent = { type: "GroupRemoved", groupId: eng };
  const renamed: CardeaEvent = { type: "GroupUpserted", groupId: eng, name: "Engineers" };
  const histories: [CardeaEvent[], number][] = [
    [[created(1, 1)], 0],
    [[one("added"), created(1, 1)], 1],
    [[one("added"), one("removed")], 2],
    [[one("added"), whole, created(1, 1)], 2],
    [[one("added"), gone, created(1, 1)], 2],
    [[one("added"), renamed], 1],
  ];
  for (const [events, position] of histories)
    assert.deepEqual(foldEvents(events).positions.ofMembership(userId(1), eng), { position, exact: true });
});

test("a fact from a snapshot has the snapshot's position as its bound", () => {
  const positions = new FactPositions(from(1_000));
  assert.deepEqual(positions.ofStream(userStream(userId(1))), { position: 1_000, exact: false });
  assert.deepEqual(positions.ofMembership(userId(1), eng), { position: 1_000, exact: false });
});

test("with any memory size, exact positions are exact, and a forgotten one is never too low", () => {
  const suspended = fc.nat(40).map((n): CardeaEvent => ({ type: "UserSuspended", userId: userId(n), reason: "" }));
  fc.assert(
    fc.property(fc.array(suspended, { maxLength: 200 }), fc.integer({ min: 1, max: 30 }), (events, max) => {
      const { positions } = foldEvents(events, new FactPositions(from(0), max));
      for (let n = 0; n <= 40; n++) {
        const last = events.findLastIndex((event) => event.type === "UserSuspended" && event.userId === userId(n)) + 1;
        const { position, exact } = positions.ofStream(userStream(userId(n)));
        assert.ok(exact ? position === last : position >= last, `${position} for ${last}`);
      }
    }),
  );
});
