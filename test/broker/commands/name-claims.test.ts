/** The leader's memory of the user names that provisioned people have been given. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NameClaims } from "../../../src/broker/commands/provisioned/name-claims.ts";
import { nameStreamOf } from "../../../src/broker/commands/provisioned/write-provisioned-user.ts";
import { type Position, provisionedProfile, provisionedUserId, type UserId } from "../../../src/events/index.ts";
import { asked } from "../support.ts";

const position = (n: number): Position => n as Position;
const profileOf = (userName: string | null) => {
  const resource = userName === null ? null : { userName, active: true };
  const times = { createdAt: "2026-01-01T00:00:00.000Z", changedAt: "2026-01-01T00:00:00.000Z" };
  return provisionedProfile(
    "okta",
    { version: 1, id: "r", ...times, resource, movedTo: null },
    { email: "", name: "" },
  );
};
const write = (userName: string | null, userId: UserId) =>
  asked({
    type: "writeProvisionedUser",
    userId,
    client: "okta",
    expected: 0,
    profile: profileOf(userName),
    people: [],
    aliases: [],
    movedFrom: null,
  });
const [one, two] = [provisionedUserId("okta", "1"), provisionedUserId("okta", "2")];
const streamOf = (name: string): string => nameStreamOf("okta", profileOf(name)) ?? assert.fail();

test("a name is claimed for those who looked before it was given to another person", () => {
  const claims = new NameClaims(position(5));
  claims.record(write("alice", one), position(9));
  assert.equal(claims.isClaimed(streamOf("Alice"), { userId: two, basis: position(8) }), true);
  assert.equal(claims.isClaimed(streamOf("alice"), { userId: two, basis: position(9) }), false);
  assert.equal(claims.isClaimed(streamOf("alice"), { userId: one, basis: position(8) }), false);
  assert.equal(claims.isClaimed(streamOf("bob"), { userId: two, basis: position(8) }), false);
  assert.equal(claims.isClaimed(streamOf("bob"), { userId: two, basis: position(4) }), true, "before the epoch");
  claims.record(write(null, one), position(10));
});

test("a full memory forgets the oldest claim, and then refuses what was decided before it", () => {
  const claims = new NameClaims(position(0), 2);
  for (const [n, name] of ["a", "b", "c"].entries()) claims.record(write(name, one), position(n + 1));
  assert.equal(claims.isClaimed(streamOf("z"), { userId: two, basis: position(0) }), true);
  assert.equal(claims.isClaimed(streamOf("z"), { userId: two, basis: position(1) }), false);
  assert.equal(claims.isClaimed(streamOf("b"), { userId: two, basis: position(1) }), true);
});
