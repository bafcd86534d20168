/** The index of provisioned people: what it finds, and when it asks for a correction. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ScimDirectory } from "../../../../src/auth/authenticate/scim/scim-directory.ts";
import {
  type CardeaEvent,
  encode,
  type GroupId,
  type Profile,
  Projection,
  type ProvisionedRecord,
  provisionedProfile,
  provisionedUserId,
  type Recorded,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../../../src/events/index.ts";
import type { ChangeListener, Replica } from "../../../../src/replication/index.ts";

const personOf = (name: string): UserId => `person-${name}` as UserId;
const profileOf = (subject: string): Profile => ({
  issuer: "https://idp.test",
  subject,
  email: `${subject}@x`,
  emailVerified: true,
  name: subject,
  claims: {},
});
const recordOf = (name: string, parts: Partial<ProvisionedRecord> = {}): ProvisionedRecord => ({
  version: 1,
  id: `id-${name}`,
  createdAt: "2026-01-01T00:00:00.000Z",
  changedAt: "2026-01-01T00:00:00.000Z",
  resource: { userName: name, externalId: name, active: true, emails: [{ value: `${name}@x` }] },
  movedTo: null,
  ...parts,
});

/** A projection that events are applied to, with profiles in clear unless their key is gone. */
function world() {
  const projection = new Projection();
  const profiles = new Map<string, Profile>();
  const lost = new Set<UserId>();
  const listeners = new Set<ChangeListener>();
  const mismatches: UserId[] = [];
  let [sealings, opened] = [0, 0];
  const replica = {
    projection,
    get appliedLink() {
      return projection.applied;
    },
    open(sealed: Uint8Array, userId: UserId) {
      opened += 1;
      return lost.has(userId) ? undefined : profiles.get(Buffer.from(sealed).toString("hex"));
    },
    onChange(listener: ChangeListener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  } as unknown as Replica;
  const directory = new ScimDirectory({
    replica,
    provisionedFor: ({ subject, issuer }) =>
      issuer === "https://idp.test" ? [provisionedUserId("okta", subject)] : [],
    pause: async () => {},
    onMismatch: (userId) => mismatches.push(userId),
    onError: (_userId, error) => assert.fail(error as Error),
  });
  directory.start();
  const apply = async (event: CardeaEvent): Promise<void> => {
    const position = projection.applied.position + 1;
    const touched = projection.apply({
      epoch: 1,
      position,
      hash: position.toString(16).padStart(64, "0"),
      stream: streamOf(event as never),
      type: event.type,
      recordedAt: position,
      event,
    } as unknown as Recorded);
    for (const listener of listeners)
      void listener({ link: projection.applied, touched: new Set(touched), rebuilt: false });
    await directory.settled();
  };
  const upsert = (userId: UserId, profile: Profile): Promise<void> => {
    const sealed = encode(++sealings);
    profiles.set(Buffer.from(sealed).toString("hex"), profile);
    return apply({ type: "UserUpserted", userId, profile: sealed });
  };
  const provision = (name: string, parts: Partial<ProvisionedRecord> = {}): Promise<void> =>
    upsert(provisionedUserId("okta", name), provisionedProfile("okta", recordOf(name, parts), { email: "", name: "" }));
  return { directory, mismatches, lost, opened: () => opened, apply, upsert, provision };
}

test("people are found in both directions, also through records that have moved", async () => {
  const { directory, upsert, provision } = world();
  await upsert(personOf("a"), profileOf("a"));
  await provision("a");
  const [old, now] = [provisionedUserId("okta", "a"), provisionedUserId("okta", "b")];
  assert.deepEqual(directory.peopleOf(old), [personOf("a")]);
  assert.equal(directory.find("okta", "userName", "A")?.id, "id-a");
  assert.deepEqual(directory.withEmail("okta", "A@X"), [old]);
  await provision("b", { id: "id-a", version: 2 });
  await provision("a", { version: 2, resource: null, movedTo: now });
  assert.deepEqual(directory.peopleOf(now), [personOf("a")]);
  assert.deepEqual(directory.aliasesOf(now), [old]);
  assert.equal(directory.find("okta", "id", "id-a")?.userId, now);
  await provision("a", { version: 3, id: "id-c" });
  assert.deepEqual(directory.peopleOf(now), [], "the old key has a record of its own again");
  assert.deepEqual(directory.peopleOf(old), [personOf("a")]);
});

test("the basis is the link of what is in the index, not of what waits to be read", async () => {
  const { directory, apply, upsert } = world();
  const added = Array.from({ length: 201 }, (_, n) => personOf(`p${n}`)); // more than are read in one step
  for (const userId of added) await upsert(userId, profileOf("a"));
  const before = directory.basis;
  assert.equal(before.position, 201);
  const read = apply({ type: "GroupMembersChanged", groupId: "eng" as GroupId, source: "scim", added, removed: [] });
  assert.deepEqual(directory.basis, before);
  await read;
  assert.equal(directory.basis.position, 202);
  assert.notEqual(directory.basis.hash, before.hash);
});

test("a person who lacks a group, or has a session that is denied, is reported; one who has all is not", async () => {
  const { directory, mismatches, apply, upsert, provision } = world();
  const a = provisionedUserId("okta", "a");
  await upsert(personOf("a"), profileOf("a"));
  await provision("a");
  assert.deepEqual(mismatches, []);
  const groupId = "eng" as GroupId;
  await apply({ type: "GroupMembersChanged", groupId, source: "scim", added: [a], removed: [] });
  assert.deepEqual([...new Set(mismatches)], [personOf("a")]);
  await apply({ type: "UserGroupsReplaced", userId: personOf("a"), source: "scim", groupIds: [groupId] });
  assert.equal(directory.isMismatch(personOf("a")), false);
});

test("a person whose key this node lacks, or who is erased, is left alone", async () => {
  const { directory, mismatches, lost, apply, upsert } = world();
  const groupIds = ["eng" as GroupId];
  for (const name of ["no-key", "erased"]) lost.add(personOf(name));
  for (const name of ["no-key", "erased"]) {
    await upsert(personOf(name), profileOf(name));
    await apply({ type: "UserGroupsReplaced", userId: personOf(name), source: "scim", groupIds });
  }
  await apply({ type: "UserErased", userId: personOf("erased") });
  assert.deepEqual(mismatches, []);
  assert.equal(directory.isMismatch(personOf("no-key")), false);
});

test("a change of memberships does not read the profiles again, and a key that arrives later is used", async () => {
  const { directory, lost, opened, apply, upsert, provision } = world();
  await upsert(personOf("a"), profileOf("a"));
  await provision("a");
  const a = provisionedUserId("okta", "a");
  const before = opened();
  const groupId = "eng" as GroupId;
  await apply({ type: "GroupMembersChanged", groupId, source: "scim", added: [a, personOf("a")], removed: [] });
  assert.equal(opened(), before);
  lost.add(personOf("b"));
  await upsert(personOf("b"), profileOf("b"));
  assert.deepEqual(directory.correlatedWith(personOf("b")), []);
  lost.clear();
  await apply({ type: "UserGroupsReplaced", userId: personOf("b"), source: "idp", groupIds: [groupId] });
  assert.deepEqual(directory.correlatedWith(personOf("b")), [provisionedUserId("okta", "b")]);
});

test("users are listed oldest first, without those that are deleted", async () => {
  const { directory, provision } = world();
  await provision("late", { createdAt: "2026-03-01T00:00:00.000Z" });
  await provision("early", { createdAt: "2026-01-01T00:00:00.000Z" });
  await provision("middle", { createdAt: "2026-02-01T00:00:00.000Z" });
  const idsOf = (): readonly (string | undefined)[] =>
    directory.usersOf("okta").map((userId) => directory.entry(userId)?.id);
  assert.deepEqual(idsOf(), ["id-early", "id-middle", "id-late"]);
  await provision("middle", { version: 2, resource: null });
  assert.deepEqual(idsOf(), ["id-early", "id-late"]);
  await provision("middle", { version: 3, createdAt: "2026-04-01T00:00:00.000Z" });
  assert.deepEqual(idsOf(), ["id-early", "id-late", "id-middle"]);
  assert.equal(directory.recordsOf("okta"), 3);
});

test("groups are found by id, by name whatever its case, and by externalId, and not after a rename", async () => {
  const { directory, apply } = world();
  const scim = { client: "okta", id: "g", externalId: "x", version: 1, createdAt: 1 as UnixMs, changedAt: 1 as UnixMs };
  const [eng, builders] = ["Eng" as GroupId, "Builders" as GroupId];
  await apply({ type: "GroupUpserted", groupId: eng, name: eng, scim });
  assert.deepEqual(directory.groupsWith("okta", "group name", "ENG"), [eng]);
  assert.deepEqual(directory.groupsWith("okta", "group externalId", "x"), [eng]);
  assert.deepEqual(directory.groupsWith("hr", "group name", "eng"), []);
  await apply({ type: "GroupUpserted", groupId: builders, name: builders, scim: { ...scim, externalId: null } });
  await apply({ type: "GroupUpserted", groupId: eng, name: eng });
  assert.equal(directory.groupOf("okta", "g"), builders);
  assert.deepEqual(directory.groupsWith("okta", "group name", "eng"), []);
  assert.deepEqual(directory.groupsWith("okta", "group externalId", "x"), []);
  assert.equal(directory.groups, 1);
});
