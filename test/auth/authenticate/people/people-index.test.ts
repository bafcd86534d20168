/** The index over people that SCIM, directories and signals share, and the reading of changed people in steps. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChangedPeople } from "../../../../src/auth/authenticate/people/changed-people.ts";
import { PeopleIndex } from "../../../../src/auth/authenticate/people/people-index.ts";
import type { Sealed, UserId } from "../../../../src/events/index.ts";

const user = (name: string): UserId => name as UserId;
const sealed = (byte: number): Sealed => Uint8Array.of(byte) as Sealed;

test("a profile counts as read until another takes its place; equal bytes in another object are another", () => {
  const people = new PeopleIndex();
  const profile = sealed(1);
  assert.equal(people.hasRead(user("a"), profile), false);
  people.recordRead(user("a"), profile);
  assert.equal(people.hasRead(user("a"), profile), true);
  assert.equal(people.hasRead(user("a"), sealed(1)), false);
  assert.equal(people.hasRead(user("a"), null), false, "no profile is never known");
  people.forgetReads();
  assert.equal(people.hasRead(user("a"), profile), false);
});

test("what a profile names is found in both directions, replaced, and told apart from not being known", () => {
  const people = new PeopleIndex();
  people.setNamed(user("ann"), [user("r1"), user("r2")]);
  people.setNamed(user("bob"), [user("r2")]);
  assert.deepEqual([...people.peopleNaming(user("r2"))], ["ann", "bob"]);
  people.setNamed(user("ann"), []);
  assert.deepEqual(people.peopleOf(user("r1")), []);
  assert.deepEqual(people.peopleOf(user("r2")), ["bob"]);
  assert.deepEqual([people.namedBy(user("ann")), people.namedBy(user("eve"))], [[], undefined]);
  people.removeNamed(user("bob"));
  assert.deepEqual([[...people.peopleNaming(user("r2"))], [...people.knownPeople()]], [[], ["ann"]]);
});

test("people who name an earlier user of a record are found through any number of moves, also in a circle", () => {
  const people = new PeopleIndex();
  people.setNamed(user("ann"), [user("r1")]);
  people.addAlias(user("r2"), user("r1"));
  people.addAlias(user("r3"), user("r2"));
  assert.deepEqual(people.aliasesOf(user("r3")), ["r2", "r1"]);
  assert.deepEqual(people.peopleOf(user("r3")), ["ann"]);
  people.addAlias(user("r1"), user("r3"));
  assert.deepEqual(people.aliasesOf(user("r1")), ["r3", "r2"]);
  people.removeAlias(user("r3"), user("r2"));
  assert.deepEqual(people.peopleOf(user("r3")), []);
});

test("changed people are read in steps; one who cannot be read does not keep the others from being read", async () => {
  const read: UserId[] = [];
  const failed: UserId[] = [];
  let pauses = 0;
  const changed = new ChangedPeople({
    read(userId) {
      if (userId === "u7") throw new Error("no key");
      read.push(userId);
      if (userId === "u3") changed.mark(user("late"));
    },
    pause: async () => {
      pauses += 1;
    },
    onError: (userId) => failed.push(userId),
  });
  await changed.settled();
  for (let n = 0; n < 450; n++) changed.mark(user(`u${n}`));
  changed.mark(user("u1"));
  await Promise.all([changed.settled(), changed.settled()]);
  assert.deepEqual([read.length, new Set(read).size, failed], [450, 450, ["u7"]]);
  assert.ok(read.includes(user("late")) && changed.isEmpty);
  assert.equal(pauses, 2);
});
