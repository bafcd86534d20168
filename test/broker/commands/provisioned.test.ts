/** Commands of SCIM clients: what the leader records, and what it refuses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MalformedCommandError, parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import {
  type Command,
  type CommandResult,
  type Epoch,
  type GroupId,
  type Hash,
  type NeededLink,
  type Position,
  type Profile,
  type Projection,
  type ProvisionedRecord,
  provisionedProfile,
  provisionedUserId,
  type ScimGroup,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { asked, createSession, session, user } from "../support.ts";
import { provisionedWorld } from "./provisioned-world.ts";

const record = (version: number, parts: Partial<ProvisionedRecord> = {}): ProvisionedRecord => ({
  version,
  id: "r-1",
  createdAt: "2026-01-01T00:00:00.000Z",
  changedAt: "2026-01-01T00:00:00.000Z",
  resource: { userName: "alice", externalId: "alice", active: true },
  movedTo: null,
  ...parts,
});
const profileOf = (of: ProvisionedRecord): Profile => provisionedProfile("okta", of, { email: "a@x", name: "A" });
const alice = provisionedUserId("okta", "alice");

type Write = Extract<Command, { type: "writeProvisionedUser" }>;
const write = (
  version: number,
  parts: Partial<Omit<Write, "type">> = {},
  of: Partial<ProvisionedRecord> = {},
): Write => ({
  type: "writeProvisionedUser",
  userId: alice,
  client: "okta",
  expected: version - 1,
  profile: profileOf(record(version, of)),
  people: [],
  aliases: [],
  movedFrom: null,
  ...parts,
});
const end = (
  version: number,
  parts: Partial<Omit<Write, "type">> = {},
  of: Partial<ProvisionedRecord> = {},
): Command => ({
  ...write(version, parts, of),
  type: "endProvisionedUser",
});
const signIn = (id: string, provisioned: readonly UserId[] = [alice]): Command =>
  createSession(id, "s-alice", { provisioned });
const scimOf = (version: number): ScimGroup => ({
  client: "okta",
  id: "g-1",
  externalId: null,
  version,
  createdAt: 1 as UnixMs,
  changedAt: version as UnixMs,
});
type GroupWrite = Extract<Command, { type: "writeProvisionedGroup" }>;
const groupWrite = (version: number, parts: Partial<Omit<GroupWrite, "type">> = {}): Command => ({
  type: "writeProvisionedGroup",
  groupId: "eng" as GroupId,
  scim: scimOf(version),
  client: "okta",
  expected: version - 1,
  added: [],
  removed: [],
  renamedFrom: null,
  ...parts,
});
const codeOf = (result: CommandResult): string => (result.type === "refused" ? result.code : result.type);
const groupsOf = (projection: Projection, userId: UserId): readonly string[] =>
  [...projection.groupsOf(userId, 0 as UnixMs)].sort();
const person = user("s-alice");

test("a person who was deactivated before the first sign-in cannot sign in until the client says otherwise", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(end(1));
  assert.equal(codeOf(await at.submit(signIn("s1"))), "suspended");
  await at.done(write(2));
  await at.done(signIn("s2"));
});

test("the end of a person ends the sessions of the people who correlate, and leaves their own status alone", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(signIn("s1"));
  await at.done(asked({ type: "suspendUser", userId: person, reason: "lost laptop" }).command, "operator");
  await at.done(asked({ type: "restoreUser", userId: person }).command, "operator");
  await at.done(signIn("s2"));
  await at.done(end(2, { people: [person] }));
  const projection = await at.projection();
  assert.equal(projection.sessionStatus(session("s2")).status, "revoked");
  assert.equal(projection.user(person)?.status, "active");
  await at.done(asked({ type: "suspendUser", userId: person, reason: "again" }).command, "operator");
  await at.done(write(3));
  assert.equal((await at.projection()).user(person)?.status, "suspended", "an operator's suspension stays");
  assert.equal(codeOf(await at.submit(signIn("s3"))), "suspended");
});

test("a change of another version, and of a record of another client, is refused", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  assert.equal(codeOf(await at.submit(write(1))), "conflict");
  assert.equal(codeOf(await at.submit(write(3))), "conflict");
  const hr = provisionedProfile("hr", record(2), { email: "", name: "" });
  assert.equal(codeOf(await at.submit(write(2, { client: "hr", profile: hr }))), "conflict");
  await at.done(write(2));
});

test("a person who signs in gets the groups of all clients, also through a record that has moved", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(groupWrite(1, { added: [alice] }));
  await at.done(signIn("s1"));
  assert.deepEqual(groupsOf(await at.projection(), person), ["eng"]);
  const moved = provisionedUserId("okta", "alice-2");
  const movedFrom = { userId: alice, expected: 1, profile: profileOf(record(2, { resource: null, movedTo: moved })) };
  await at.done(write(2, { userId: moved, expected: 0, movedFrom }));
  const projection = await at.projection();
  assert.deepEqual(groupsOf(projection, moved), ["eng"]);
  assert.deepEqual(groupsOf(projection, alice), []);
  await at.done(signIn("s2"));
  assert.deepEqual(groupsOf(await at.projection(), person), ["eng"], "the old key leads to the new record");
  await at.done(end(3, { userId: moved, expected: 2, aliases: [alice] }));
  assert.equal(codeOf(await at.submit(signIn("s3"))), "suspended", "the old key is denied too");
});

test("a sign-in that no longer correlates loses the groups, and one without SCIM keeps what it has", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(groupWrite(1, { added: [alice] }));
  await at.done(signIn("s1"));
  const { provisioned: _, ...without } = createSession("s2", "s-alice", { provisioned: [] });
  await at.done(without);
  assert.deepEqual(groupsOf(await at.projection(), person), ["eng"]);
  await at.done(signIn("s3", []));
  assert.deepEqual(groupsOf(await at.projection(), person), []);
});

test("correlating gives a person who signed in before the client knew them what the client says", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(signIn("s1"));
  await at.done(write(1));
  await at.done(groupWrite(1, { added: [alice] }));
  assert.deepEqual(groupsOf(await at.projection(), person), []);
  await at.done({ type: "correlateUser", userId: person, provisioned: [alice] });
  assert.deepEqual(groupsOf(await at.projection(), person), ["eng"]);
  await at.done(end(2));
  await at.done({ type: "correlateUser", userId: person, provisioned: [alice] });
  assert.equal((await at.projection()).sessionStatus(session("s1")).status, "revoked");
  const again = await at.submit({ type: "correlateUser", userId: person, provisioned: [alice] });
  assert.ok(again.type === "done" && !again.changed, "nothing is recorded twice");
});

test("a group belongs to one client, is renamed with its members, and leaves members of other sources", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(signIn("s1"));
  await at.done(groupWrite(1, { added: [alice] }));
  await at.done(
    { type: "changeGroupMembers", groupId: "eng" as GroupId, source: "operator", added: [person], removed: [] },
    "operator",
  );
  const hr = { ...scimOf(1), client: "hr", id: "g-2" };
  assert.equal(codeOf(await at.submit(groupWrite(1, { scim: hr, client: "hr" }))), "conflict");
  assert.equal(codeOf(await at.submit(groupWrite(2, { scim: null, client: "hr" }))), "conflict");
  await at.done(groupWrite(2, { groupId: "builders" as GroupId, renamedFrom: "eng" as GroupId, added: [] }));
  const projection = await at.projection();
  assert.deepEqual(groupsOf(projection, alice), ["builders"]);
  assert.deepEqual(groupsOf(projection, person), ["eng"], "the operator's membership stays");
  assert.equal(projection.group("eng" as GroupId)?.scim, undefined);
  await at.done(groupWrite(3, { groupId: "builders" as GroupId, scim: null }));
  assert.equal((await at.projection()).group("builders" as GroupId), undefined);
});

test("a large group is written and deleted in events of at most 250 members, which a node folds in moments", async (t) => {
  const { done, events, projection } = await provisionedWorld(t);
  const people = Array.from({ length: 600 }, (_, n) => provisionedUserId("okta", `person ${n}`));
  await Promise.all(
    people.map((userId, n) =>
      done(write(1, { userId }, { id: `r-${n}`, resource: { userName: `n${n}`, externalId: `x${n}`, active: true } })),
    ),
  );
  const sizesAfter = async (command: Command): Promise<readonly (number | string)[]> => {
    const before = (await events()).length;
    await done(command);
    return (await events())
      .slice(before)
      .map(({ event }) =>
        event.type === "GroupMembersChanged" ? event.added.length + event.removed.length : event.type,
      );
  };
  assert.deepEqual(await sizesAfter(groupWrite(1, { added: people })), ["GroupUpserted", 250, 250, 100]);
  assert.equal((await projection()).membersOf("eng" as GroupId).size, 600);
  assert.deepEqual(await sizesAfter(groupWrite(2, { scim: null })), [250, 250, 100, "GroupRemoved"]);
  const after = await projection();
  assert.deepEqual([after.membersOf("eng" as GroupId).size, after.group("eng" as GroupId)], [0, undefined]);
  assert.equal(after.digest(), after.recomputedDigest());
});

test("an operator's exclusion counts whatever the client says", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(groupWrite(1, { added: [alice] }));
  await at.done(signIn("s1"));
  const exclude = {
    type: "changeGroupMembers",
    groupId: "eng" as GroupId,
    source: "operator",
    added: [],
    removed: [person],
  } as const;
  await at.done(exclude, "operator");
  await at.done(groupWrite(2, { added: [person] }));
  await at.done(signIn("s2"));
  assert.deepEqual(groupsOf(await at.projection(), person), []);
});

test("a deletion withdraws the groups, and a person who is created again gets none of them", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done(groupWrite(1, { added: [alice] }));
  await at.done(signIn("s1"));
  await at.done(end(2, { people: [person] }, { resource: null }));
  const projection = await at.projection();
  assert.deepEqual([groupsOf(projection, alice), groupsOf(projection, person)], [[], []]);
  assert.equal(codeOf(await at.submit(signIn("s2"))), "suspended");
  await at.done(write(3, {}, { id: "r-2" }));
  await at.done(signIn("s3"));
  assert.deepEqual(groupsOf(await at.projection(), person), []);
});

test("an erased person cannot be provisioned again, and denies the sign-in", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  await at.done({ type: "eraseUser", userId: alice }, "operator");
  assert.equal(codeOf(await at.submit(write(2))), "erased");
  assert.equal(codeOf(await at.submit(signIn("s1"))), "erased");
});

test("below level 4 nothing is provisioned", async (t) => {
  const at = await provisionedWorld(t, { level: 3 });
  for (const command of [write(1), end(1), groupWrite(1)])
    assert.match(JSON.stringify(await at.submit(command)), /needs level 4/);
});

test("a token's id is new, and a replaced token is revoked with the creation", async (t) => {
  const at = await provisionedWorld(t);
  const create = (tokenId: string, replaces: string | null): Command => ({
    type: "createScimToken",
    client: "okta",
    tokenId,
    secretHash: "a".repeat(64) as never,
    scopes: ["users:read"],
    expiresAt: null,
    replaces,
  });
  await at.done(create("aaaaaaaa", null), "operator");
  assert.equal(codeOf(await at.submit(create("aaaaaaaa", null), "operator")), "conflict");
  assert.equal(codeOf(await at.submit(create("bbbbbbbb", "cccccccc"), "operator")), "not-found");
  await at.done(create("bbbbbbbb", "aaaaaaaa"), "operator");
  const revoked = [...(await at.projection()).serviceAccounts()].map((account) => account.revoked);
  assert.deepEqual(revoked.sort(), [false, true]);
  await at.done({ type: "revokeScimToken", tokenId: "bbbbbbbb" }, "operator");
  assert.equal(codeOf(await at.submit({ type: "revokeScimToken", tokenId: "dddddddd" }, "operator")), "not-found");
});

test("of two people who are given one user name at the same time by two nodes, the leader accepts one", async (t) => {
  const at = await provisionedWorld(t);
  const basis = (await at.projection()).applied.position;
  const named = (key: string, parts: Partial<Write> = {}): Write => ({
    ...write(1, { userId: provisionedUserId("okta", key), basis, ...parts }, { id: key }),
  });
  const codes = (await Promise.all([at.submit(named("one")), at.submit(named("two"))])).map(codeOf);
  assert.deepEqual(codes.sort(), ["conflict", "done"]);
  assert.equal(codeOf(await at.submit(named("three"))), "conflict", "nor a third, that looked before the first");
  const other = { userName: "ALICE", externalId: "x", active: true };
  const loud = write(1, { userId: provisionedUserId("okta", "four"), basis }, { id: "four", resource: other });
  assert.equal(codeOf(await at.submit(loud)), "conflict", "names ignore case");
  const later = (await at.projection()).applied.position;
  await at.done(named("five", { basis: later }));
  const free = { userName: "bob", externalId: "bob", active: true };
  await at.done(write(1, { userId: provisionedUserId("okta", "bob"), basis: later }, { id: "bob", resource: free }));
  const stale = write(1, { userId: provisionedUserId("okta", "carl"), basis: 0 as typeof basis }, { id: "carl" });
  assert.equal(
    codeOf(await at.submit(stale)),
    "conflict",
    "what was decided before this leader's epoch is decided again",
  );
});

test("what a node has decided by a lost history is decided again, whatever the position", async (t) => {
  const at = await provisionedWorld(t);
  await at.done(write(1));
  const { applied } = await at.projection();
  const decided = (make: typeof write | typeof end, basisLink: NeededLink): Command =>
    make(2, { basis: basisLink.position, basisLink });
  const lost: readonly NeededLink[] = [
    { ...applied, epoch: (applied.epoch - 1) as Epoch },
    { ...applied, hash: "f".repeat(64) as Hash },
    { ...applied, position: (applied.position + 1_000) as Position },
  ];
  for (const basisLink of lost)
    for (const make of [write, end])
      assert.equal(codeOf(await at.submit(decided(make, basisLink))), "conflict", JSON.stringify(basisLink));
  await at.done(decided(end, applied));
  const group = (basisLink: NeededLink): Command => ({
    type: "writeProvisionedGroup",
    ...{ groupId: "staff" as GroupId, scim: scimOf(1), client: "okta", expected: 0 },
    ...{ added: [], removed: [], renamedFrom: null, basisLink },
  });
  for (const basisLink of lost) assert.equal(codeOf(await at.submit(group(basisLink))), "conflict");
  await at.done(group(applied));
  const bare = { ...write(3), basisLink: applied };
  assert.throws(() => parseCommandRequest(asked(bare)), MalformedCommandError, "a link without its position");
});
