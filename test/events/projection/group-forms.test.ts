/**
 * Groups and memberships by the thousand: their encoded forms equal the codec's, and positions stay right while they
 * are indexed.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  encode,
  type GroupId,
  type MembershipSource,
  Projection,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { GroupForms } from "../../../src/events/projection/group-forms.ts";
import { Memberships } from "../../../src/events/projection/memberships.ts";
import type { Membership } from "../../../src/events/projection/state.ts";
import { History } from "../../replication/support.ts";
import { fc } from "../../support/property.ts";

const text = fc.oneof(
  fc.uuid(),
  fc.string({ maxLength: 300, unit: "grapheme" }),
  fc.stringMatching(/^[A-Za-z0-9._~@/+=:-]{0,300}$/),
);
const membership: fc.Arbitrary<Membership> = fc.record({
  sources: fc.subarray<MembershipSource>(["directory", "idp", "operator", "scim"]),
  excluded: fc.boolean(),
});

test("the encoded forms of groups and memberships equal the codec's byte for byte, or are absent", () => {
  const forms = new GroupForms();
  let plain = 0;
  fc.assert(
    fc.property(text, text, membership, (one, two, held) => {
      const [userId, groupId] = [one as UserId, two as GroupId];
      const ofMembership = forms.ofMembership(userId, groupId, held);
      if (ofMembership !== undefined) {
        plain += 1;
        assert.deepEqual(Buffer.from(ofMembership), Buffer.from(encode(["membership", { userId, groupId, ...held }])));
      }
      const group = { groupId, name: one };
      const ofGroup = forms.ofGroup(group);
      if (ofGroup !== undefined) assert.deepEqual(Buffer.from(ofGroup), Buffer.from(encode(["group", group])));
    }),
    { seed: 3, numRuns: 1_000 },
  );
  assert.ok(plain > 300, `only ${plain} of 1,000`);
});

test("a person's groups stay right while one event changes hundreds of them, and another person's in between", () => {
  const form: Membership = { sources: ["idp"], excluded: false };
  const change = fc.record({
    person: fc.constantFrom("alice", "bob"),
    from: fc.nat(300),
    count: fc.integer({ min: 1, max: 200 }),
    put: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
      const memberships = new Memberships();
      const model = new Map([
        ["alice", new Set<string>()],
        ["bob", new Set<string>()],
      ]);
      for (const { person, from, count, put } of changes) {
        for (let n = from; n < from + count; n++) {
          memberships.put(person as UserId, `g${n}` as GroupId, put ? form : undefined);
          if (put) model.get(person)?.add(`g${n}`);
          else model.get(person)?.delete(`g${n}`);
        }
        for (const [name, groups] of model) {
          assert.deepEqual([...memberships.of(name as UserId).keys()].sort(), [...groups].sort());
          for (let n = from; n < from + count; n += 7)
            assert.equal(memberships.get(name as UserId, `g${n}` as GroupId) !== undefined, groups.has(`g${n}`));
        }
      }
      const both = [...(model.get("alice") ?? [])].filter((group) => model.get("bob")?.has(group) === true);
      for (const group of both) assert.equal(memberships.peopleIn(group as GroupId).size, 2);
    }),
    { seed: 5, numRuns: 60 },
  );
});

test("a sign-in that replaces thousands of groups gives the same digest as single changes", () => {
  const idsOf = (first: number): GroupId[] => Array.from({ length: 2_000 }, (_, n) => `group ${first + n}` as GroupId);
  const userId = "someone" as UserId;
  const atOnce = new History().open(1);
  for (const first of [0, 1_000, 3_000])
    atOnce.add({ type: "UserGroupsReplaced", userId, source: "idp", groupIds: idsOf(first) });
  const oneByOne = new History().open(1);
  for (const groupId of [...idsOf(0), ...idsOf(1_000), ...idsOf(3_000)])
    oneByOne.add({ type: "GroupMembersChanged", groupId, source: "idp", added: [userId], removed: [] });
  for (const groupId of idsOf(0).concat(idsOf(2_000).slice(0, 1_000)))
    oneByOne.add({ type: "GroupMembersChanged", groupId, source: "idp", added: [], removed: [userId] });
  const digestOf = (log: History): string => {
    const projection = new Projection();
    for (const { recorded } of log.entries) projection.apply(recorded);
    assert.equal(projection.groupsOf(userId, 0 as UnixMs).size, 2_000);
    return projection.digest();
  };
  assert.equal(digestOf(atOnce), digestOf(oneByOne));
});
