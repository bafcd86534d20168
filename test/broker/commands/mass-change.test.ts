/** Mass changes: what is held, what never is, and what becomes of a held change. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Performed } from "../../../src/broker/commands/performed.ts";
import {
  type Command,
  heldBySourceMax,
  heldBySourcesMax,
  heldMax,
  heldPeopleBySourceMax,
  heldPeopleBySourcesMax,
  heldPeopleMax,
  type Sealed,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { aCommandId } from "../support.ts";
import { group, MassChangeWorld, okta, oktaSource, operator, people } from "./mass-change-world.ts";

describe("what is held", () => {
  test("a change that takes a group from more people than the limit has no effect and is shown; one below it passes", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    assert.equal(at.submit(at.change("eng", { removed: people(11) })), "held");
    assert.equal(at.members("eng").length, 30);
    const { source, subject, people: count, counted, limit, actor, removed } = at.onlyHeld();
    assert.deepEqual([source, actor, subject, count, counted, limit], [oktaSource, okta, "group:eng", 11, 11, 10]);
    assert.deepEqual(removed, people(11));
    assert.equal(at.submit(at.change("eng", { removed: people(10, 20) })), "done");
    assert.equal(at.members("eng").length, 20);
  });

  test("below level 5 nothing is counted or held", () => {
    const at = new MassChangeWorld({}, 4);
    at.provision("eng", people(30));
    assert.equal(at.submit(at.change("eng", { removed: people(30) })), "done");
    assert.deepEqual(at.members("eng"), []);
  });

  test("the changes of one source count together within the window, under whichever token, and no longer after it", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    for (const userId of people(10)) assert.equal(at.submit(at.change("eng", { removed: [userId] })), "done");
    assert.equal(at.submit(at.change("eng", { removed: people(1, 10) }), "service:scim/okta#another"), "held");
    at.now += at.limits.windowMs;
    assert.equal(at.submit(at.change("eng", { removed: people(1, 12) })), "done");
  });

  test("a person who leaves several groups counts once", () => {
    const at = new MassChangeWorld();
    for (const name of ["a", "b", "c"]) at.provision(name, people(30));
    for (const name of ["a", "b", "c"]) assert.equal(at.submit(at.change(name, { removed: people(10) })), "done");
    assert.equal(at.submit(at.change("a", { removed: people(1, 10) })), "held");
  });

  test("a share of the people in groups is the limit where it is lower, but never below the minimum", () => {
    const at = new MassChangeWorld({ shareMax: 0.2, peopleMin: 3 });
    at.provision("eng", people(20));
    assert.equal(at.submit(at.change("eng", { removed: people(5) })), "held", "20 % of 20 people are 4");
    const small = new MassChangeWorld({ shareMax: 0.2, peopleMin: 3 });
    small.provision("eng", people(5));
    assert.equal(small.submit(small.change("eng", { removed: people(3) })), "done");
  });

  test("each change of an operator is judged alone: removals of one person are never held, a whole group is", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    for (const userId of people(15)) assert.equal(at.submit(at.removal("eng", [userId]), operator), "done");
    assert.equal(at.submit(at.removal("eng", people(11, 15)), operator), "held");
    assert.equal(at.submit({ type: "removeGroup", groupId: group("eng") }, operator), "held");
    assert.equal(at.members("eng").length, 15);
  });

  test("the deletion of a group by its client is held, and so is a new name for it", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    assert.equal(at.submit(at.change("eng", { scim: null })), "held");
    const renamed = { ...at.change("eng", {}), groupId: group("staff"), renamedFrom: group("eng") };
    assert.equal(at.submit(renamed), "held");
    assert.equal(at.members("eng").length, 30);
    assert.deepEqual(
      at
        .held()
        .map(({ subject }) => subject)
        .sort(),
      ["delete group:eng", 'rename ["eng","staff"]'],
    );
  });

  test("people who are members through another source, or who are none, lose nothing", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    const added = people(30);
    at.fold([{ type: "GroupMembersChanged", groupId: group("eng"), source: "directory", added, removed: [] }]);
    assert.equal(at.submit(at.change("eng", { removed: people(30) })), "done");
    assert.equal(at.members("eng").length, 30);
  });

  test("suspension, the end of a person's provisioning and revocations are never held, however many", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    for (const userId of people(30))
      assert.equal(at.submit({ type: "suspendUser", userId, reason: "left" }, "service:ssf/idp"), "done");
    assert.deepEqual(at.held(), []);
  });
});

describe("a repetition", () => {
  test("the same change again gets the same refusal and records nothing", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11) }));
    const before = at.projection.applied;
    assert.equal(at.submit(at.change("eng", { removed: people(11) })), "held");
    assert.equal(at.submit(at.change("eng", { removed: people(11).slice(2) })), "held");
    assert.deepEqual(at.projection.applied, before);
  });

  test("more removals of the same source from the same group join, under the same id and another version", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    for (const userId of people(10)) at.submit(at.change("eng", { removed: [userId] }));
    at.submit(at.change("eng", { removed: people(1, 10) }));
    const first = at.onlyHeld();
    at.submit(at.change("eng", { removed: people(3, 11) }));
    const second = at.onlyHeld();
    assert.deepEqual([second.heldId, second.version], [first.heldId, first.version + 1]);
    assert.deepEqual(second.removed, people(4, 10));
    assert.equal(second.people, 4);
    assert.equal(at.release(first), "conflict", "an operator releases what they have seen");
    assert.equal(at.release(second), "done");
    assert.equal(at.members("eng").length, 16);
  });

  test("a statement of all members replaces what is held", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(20), isWhole: true }));
    at.submit(at.change("eng", { removed: people(12, 5), isWhole: true }));
    assert.deepEqual(at.onlyHeld().removed, people(12, 5));
    at.submit(at.change("eng", { removed: people(2), isWhole: true }));
    assert.deepEqual(at.held(), []);
    assert.equal(at.members("eng").length, 28);
  });

  test("a person that the source names as a member again is no longer removed by a release", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(12) }));
    assert.equal(at.submit(at.change("eng", { added: people(2) })), "done");
    assert.deepEqual(at.onlyHeld().removed, people(10, 2));
    at.release(at.onlyHeld());
    assert.deepEqual(
      at.members("eng").slice(0, 2),
      ["p0", "p1"].map((name) => people(30).find((id) => id.endsWith(name))).sort(),
    );
    assert.equal(at.members("eng").length, 20);
  });

  test("a client that uses a group again no longer deletes it", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { scim: null }));
    assert.equal(at.submit(at.change("eng", { added: people(1, 30) })), "not-found");
    at.provision("other", people(1, 30));
    assert.equal(at.submit(at.change("eng", { added: people(1, 30) })), "done");
    assert.deepEqual(at.held(), []);
  });
});

test("a group whose name looks like another change is another subject", () => {
  const at = new MassChangeWorld();
  for (const name of ["eng", "eng delete"]) at.provision(name, people(30));
  assert.equal(at.submit(at.change("eng delete", { removed: people(11) })), "held");
  assert.equal(at.submit(at.change("eng", { scim: null })), "held");
  assert.equal(at.held().length, 2);
});

describe("release, drop and expiry", () => {
  test("a release makes the change once; a second one is refused", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11) }));
    const held = at.onlyHeld();
    assert.equal(at.release(held), "done");
    assert.equal(at.members("eng").length, 19);
    assert.equal(at.release(held), "not-found");
    assert.equal(at.projection.group(group("eng"))?.scim?.version, 2, "the client sees another version");
    assert.equal(
      at.submit(at.change("eng", { removed: people(11) })),
      "done",
      "the client's repetition has its effect",
    );
  });

  test("a release does only what is still true at the head", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11), added: [] }));
    const held = at.onlyHeld();
    at.fold([
      { type: "UserErased", userId: people(1)[0] as UserId },
      { type: "GroupMembersChanged", groupId: group("eng"), source: "directory", added: people(2, 1), removed: [] },
    ]);
    assert.equal(at.release(held), "done");
    assert.equal(at.members("eng").length, 21, "two are members through a directory now");
  });

  test("after a release the count of its source starts again, and further changes can be allowed for a while", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(60));
    at.submit(at.change("eng", { removed: people(11) }));
    assert.equal(at.release(at.onlyHeld(), { allowUntil: (at.now + 60_000) as UnixMs }), "done");
    assert.equal(at.submit(at.change("eng", { removed: people(20, 11) })), "done");
    at.now += 60_000;
    assert.equal(at.submit(at.change("eng", { removed: people(11, 31) })), "held");
    assert.equal(at.release(at.onlyHeld(), { allowUntil: (at.now + 90_000_000) as UnixMs }), "invalid");
  });

  test("a dropped change is refused when its source repeats it, in parts too, and another one is held", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11) }));
    assert.equal(at.drop(at.onlyHeld()), "done");
    assert.equal(at.submit(at.change("eng", { removed: people(11) })), "dropped");
    assert.equal(at.submit(at.change("eng", { removed: people(1) })), "dropped");
    assert.equal(at.members("eng").length, 30);
    assert.equal(at.submit(at.change("eng", { removed: people(12) })), "held");
    assert.equal(at.onlyHeld().status, "held");
    const dropped = at.onlyHeld();
    at.drop(dropped);
    assert.equal(at.release(at.onlyHeld()), "done", "an operator may change their mind");
  });

  test("the release of an operator's change takes what the operator gave", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    const members = (change: Readonly<{ added: readonly UserId[]; removed: readonly UserId[] }>) =>
      ({ type: "changeGroupMembers", groupId: group("ops"), source: "operator", ...change }) as const;
    at.submit(members({ added: people(30), removed: [] }), "operator:eve");
    assert.equal(at.submit(members({ added: [], removed: people(11) }), "operator:eve"), "held");
    assert.equal(at.release(at.onlyHeld()), "done");
    assert.equal(at.members("ops").length, 19);
    assert.deepEqual(at.projection.membership(people(1)[0] as UserId, group("ops"))?.sources, []);
  });

  test("an operator who has not seen the drop of a change does not release it", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11) }));
    const seen = at.onlyHeld();
    assert.equal(at.drop(seen), "done");
    assert.equal(at.release(seen), "conflict");
    assert.equal(at.members("eng").length, 30);
  });

  test("a held change expires, and is then neither released nor in the way", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(30));
    at.submit(at.change("eng", { removed: people(11) }));
    const held = at.onlyHeld();
    assert.equal(at.submit({ type: "expireHeldChanges", heldIds: [held.heldId] }, "system"), "done");
    assert.equal(at.held().length, 1, "it has not expired");
    at.now += at.limits.heldMs;
    assert.equal(at.release(held), "not-found");
    assert.equal(at.submit(at.change("eng", { removed: people(11) })), "held");
    assert.notEqual(at.onlyHeld().heldId, held.heldId);
    at.now += at.limits.heldMs;
    assert.equal(at.submit({ type: "expireHeldChanges", heldIds: [at.onlyHeld().heldId] }, "system"), "done");
    assert.deepEqual(at.held(), []);
  });

  const sourceOf = (n: number): string => `service:scim/client-${n}`;
  const refusalOf = (performed: Performed): string =>
    performed.type === "refused" ? performed.message : performed.type;
  /** A source's deletions of groups, until one is not held. */
  const fill = (at: MassChangeWorld, source: string, count: number): void => {
    for (let n = 0; n < count; n++) {
      const name = `${source} ${n}`;
      at.provision(name, people(2));
      assert.equal(at.submit(at.change(name, { scim: null }), source), "held");
    }
  };

  test("one source fills its part alone: the refusal says so, and another source and an operator still have room", () => {
    const at = new MassChangeWorld({ peopleMax: 1 });
    fill(at, sourceOf(0), heldBySourceMax);
    at.provision("last", people(2));
    const deletion = at.change("last", { scim: null });
    assert.match(
      refusalOf(at.perform(deletion, sourceOf(0))),
      /no more changes of service:scim\/client-0 can be held \(64,/,
    );
    assert.equal(at.submit(deletion, sourceOf(0)), "held");
    assert.equal(at.held().length, heldBySourceMax);
    assert.equal(at.members("last").length, 2, "it has no effect");
    assert.equal(at.submit(deletion, sourceOf(1)), "held");
    assert.equal(at.held().length, heldBySourceMax + 1);
    const [first] = at.held();
    assert.ok(first !== undefined);
    assert.equal(at.release(first), "done");
    assert.equal(at.submit(at.change("last", { scim: null }), sourceOf(0)), "held");
    assert.equal(at.held().length, heldBySourceMax + 1, "a release has made room");
  });

  test("all sources together leave room for the changes of operators, and a full list holds no more", () => {
    const at = new MassChangeWorld({ peopleMax: 1 });
    for (let n = 0; n < heldBySourcesMax / heldBySourceMax; n++) fill(at, sourceOf(n), heldBySourceMax);
    at.provision("last", people(2));
    const deletion = at.change("last", { scim: null });
    assert.match(
      refusalOf(at.perform(deletion, sourceOf(9))),
      /no more changes of SCIM clients and directories can be held/,
    );
    for (let n = heldBySourcesMax; n < heldMax; n++) {
      at.provision(`own ${n}`, people(2));
      assert.equal(at.submit({ type: "removeGroup", groupId: group(`own ${n}`) }, operator), "held");
    }
    assert.equal(at.held().length, heldMax);
    assert.match(
      refusalOf(at.perform({ type: "removeGroup", groupId: group("last") }, operator)),
      /no more changes can be/,
    );
    assert.equal(at.held().length, heldMax);
    assert.equal(at.members("last").length, 2);
  });

  test("the ids of held changes have a bound, of one source, of all sources, and of the cluster", () => {
    const at = new MassChangeWorld();
    const many = people(20_000);
    at.provision("eng", many);
    const heldBy = (source: string): number => {
      for (let n = 0; ; n++) {
        const name = `${source} ${n}`;
        at.provision(name, many.slice(0, 11));
        const performed = at.perform(at.change(name, { removed: many }), source);
        if (performed.type !== "changes") return n * many.length;
        at.fold(performed.changes.events, source);
      }
    };
    assert.equal(heldBy(sourceOf(0)), heldPeopleBySourceMax);
    assert.equal(heldBy(sourceOf(1)), Math.floor((heldPeopleBySourcesMax - heldPeopleBySourceMax) / 20_000) * 20_000);
    assert.equal(heldBy(sourceOf(2)), 0);
    const before = at.projection.massChanges.heldPeople;
    assert.equal(heldBy(operator), heldPeopleMax - before);
  });

  test("a change that joins a held one of a full source is still held", () => {
    const at = new MassChangeWorld({ peopleMax: 1 });
    fill(at, sourceOf(0), heldBySourceMax - 1);
    at.provision("eng", people(20));
    assert.equal(at.submit(at.change("eng", { removed: people(5) }), sourceOf(0)), "held");
    assert.equal(at.submit(at.change("eng", { removed: people(5, 5) }), sourceOf(0)), "held");
    assert.equal(at.held().length, heldBySourceMax);
    assert.equal(at.held().at(-1)?.removed.length, 10);
  });

  test("operators allow a source's mass changes for a while, and withdraw that", () => {
    const at = new MassChangeWorld();
    at.provision("eng", people(60));
    const allow = (untilMs: number) =>
      at.submit({ type: "allowMassChanges", source: oktaSource, until: untilMs as UnixMs, reason: "merger" }, operator);
    assert.equal(allow(at.now + 3_600_000), "done");
    assert.equal(at.submit(at.change("eng", { removed: people(20) })), "done");
    assert.equal(allow(at.now), "done");
    assert.equal(at.submit(at.change("eng", { removed: people(20, 20) })), "held");
    assert.equal(allow(at.now + 90_000_000), "invalid");
  });
});

describe("ends that a batch announces", () => {
  const announcement = (users: readonly UserId[], parts: Partial<Extract<Command, { type: "announceEnds" }>> = {}) =>
    ({ type: "announceEnds", client: "okta", users, people: [], losing: users.length, ...parts }) as const;
  const known = (at: MassChangeWorld, count: number): void =>
    at.fold(people(count).map((userId) => ({ type: "UserUpserted", userId, profile: new Uint8Array(8) as Sealed })));
  const active = (at: MassChangeWorld): number =>
    people(30).filter((userId) => at.projection.user(userId)?.status === "active").length;

  test("are judged whole: above the limit they are held, below it nothing is recorded", () => {
    const at = new MassChangeWorld();
    known(at, 30);
    assert.equal(at.perform(announcement(people(10))).type, "nothing");
    assert.equal(at.submit(announcement(people(11))), "held");
    assert.equal(at.submit(announcement(people(2, 20), { losing: 11 })), "held", "the rest of the batch counts");
    const { subject, removed, people: count } = at.onlyHeld();
    assert.deepEqual([subject, removed.length, count], ["people", 13, 13]);
    assert.equal(active(at), 30);
  });

  test("name only people who have access: those whose access has ended count no more", () => {
    const at = new MassChangeWorld();
    known(at, 30);
    at.fold(people(25).map((userId) => ({ type: "UserSuspended", userId, reason: "left" })));
    assert.equal(at.submit(announcement(people(30), { losing: 5 })), "done");
  });

  test("are ended in one batch by a release, and cannot be ended by a command that says it is released", () => {
    const at = new MassChangeWorld();
    known(at, 30);
    const forged = parseCommandRequest({
      ...{ commandId: aCommandId(), actor: okta },
      command: { ...announcement(people(5)), isReleased: true },
    });
    assert.equal(at.submit(forged.command), "done");
    assert.equal(active(at), 30);
    at.submit(announcement(people(15)));
    assert.equal(at.release(at.onlyHeld()), "done");
    assert.equal(active(at), 15);
    assert.deepEqual(at.held(), []);
    assert.equal(at.submit(announcement(people(15))), "done", "the repetition finds them ended");
  });

  test("that are restated without some people no longer hold those; without all of them nothing is held", () => {
    const at = new MassChangeWorld();
    known(at, 30);
    at.submit(announcement(people(20)));
    assert.equal(at.submit(announcement(people(15), { isWhole: true })), "held");
    assert.equal(at.onlyHeld().removed.length, 15);
    assert.equal(at.submit(announcement([], { isWhole: true })), "done");
    assert.deepEqual(at.held(), []);
  });

  test("that were dropped are refused again, and others of the same source are not", () => {
    const at = new MassChangeWorld();
    known(at, 30);
    at.submit(announcement(people(15)));
    assert.equal(at.drop(at.onlyHeld()), "done");
    assert.equal(at.submit(announcement(people(15), { isWhole: true })), "dropped");
    assert.equal(at.submit(announcement(people(4, 20))), "done");
  });
});

test("however a source splits its changes, over tokens and groups, it never takes groups from more people than the limit", () => {
  const step = fc.record({
    group: fc.integer({ min: 0, max: 3 }),
    from: fc.integer({ min: 0, max: 39 }),
    count: fc.integer({ min: 1, max: 14 }),
    verb: fc.constantFrom("remove", "remove", "remove", "whole", "delete", "add"),
    token: fc.constantFrom("a", "b"),
    pauseMs: fc.constantFrom(0, 1_000, 600_000),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
      const at = new MassChangeWorld();
      const all = people(40);
      for (let n = 0; n < 4; n++) at.provision(`g${n}`, all);
      const lost: { userId: UserId; at: number }[] = [];
      for (const { group: n, from, count, verb, token, pauseMs } of steps) {
        at.now += pauseMs;
        const name = `g${n}`;
        const some = all.slice(from, from + count);
        const before = new Set(at.members(name));
        if (at.projection.group(group(name))?.scim === undefined) continue;
        const change =
          verb === "delete"
            ? { scim: null }
            : verb === "add"
              ? { added: some }
              : { removed: some, isWhole: verb === "whole" };
        at.submit(at.change(name, change), `service:scim/okta#${token}`);
        const after = new Set(at.members(name));
        for (const userId of before) if (!after.has(userId)) lost.push({ userId, at: at.now });
        const recent = new Set(
          lost.filter((each) => each.at > at.now - at.limits.windowMs).map(({ userId }) => userId),
        );
        assert.ok(recent.size <= at.limits.peopleMax, `${recent.size} people lost a group without an operator`);
      }
    }),
    { numRuns: 60 },
  );
});
