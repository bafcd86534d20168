/** One person, asked about at a directory now: what the answer changes, and what it leaves alone. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { DirectoryError } from "../../../src/auth/directory/directory-error.ts";
import { type DirectoryPage, emptyPage } from "../../../src/auth/directory/source.ts";
import type { CommandResult, DirectoryPersonAnswer, GroupId, UnixMs, UserId } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type DirectoryWorld, directoryWorld, group, person } from "./directory-world.ts";

const codeOf = (result: CommandResult): string => (result.type === "refused" ? result.code : result.type);
const staff = {
  people: [person("ada"), person("bob"), person("cleo")],
  groups: [group("eng", ["ada", "bob"]), group("ops", ["cleo"])],
};

/** The directory's answer about a person. */
function pageOf(id: string, groups: readonly string[], fields: Parameters<typeof person>[1] = {}): DirectoryPage {
  const named = groups.map((name) => group(name, [id]));
  return {
    ...emptyPage,
    people: [person(id, fields)],
    groups: named.map(({ id: groupId, name }) => ({ id: groupId, name })),
    members: named.map(({ id: groupId }) => ({ groupId, people: [id], groups: [] })),
  };
}

async function ask(at: DirectoryWorld, userId: UserId): Promise<DirectoryPersonAnswer> {
  const requestId = randomUUID();
  const asked = await at.submit({ type: "requestDirectoryPerson", directory: "corp", requestId, userId });
  assert.equal(asked.type, "done", JSON.stringify(asked));
  return waitFor("the answer", async () => {
    const request = (await at.state())?.people.find(({ id }) => id === requestId);
    return request?.answer ?? undefined;
  });
}
const groupsNow = async (at: DirectoryWorld, subject: string): Promise<readonly string[]> =>
  [...(await at.projection()).groupsOf(at.userOf(subject), Date.now() as UnixMs)].sort();

test("what the directory says of a person is applied at once, and the answer names it and the position", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  await at.signIn("bob");
  const asked: string[] = [];
  at.directory.readPerson = async (id) => {
    asked.push(id);
    return pageOf(id, ["ops"]);
  };
  const moved = await ask(at, at.userOf("ada"));
  assert.deepEqual([moved.result, moved.said, moved.changed], ["answered", "active, in 1 group", true]);
  assert.equal(moved.position !== null && moved.position <= (await at.projection()).applied.position, true);
  assert.deepEqual(asked, ["ada"]);
  assert.deepEqual(await groupsNow(at, "ada"), ["ops"]);
  assert.deepEqual(await groupsNow(at, "bob"), ["eng"], "no one else is concerned");
  const same = await ask(at, at.userOf("ada"));
  assert.deepEqual([same.result, same.changed], ["answered", false]);

  at.directory.readPerson = async (id) => pageOf(id, ["ops"], { active: false });
  assert.match((await ask(at, at.userOf("ada"))).said, /^not active/);
  const [sessionId] = (await at.projection()).sessionsOf(at.userOf("ada"));
  assert.notEqual(sessionId && (await at.projection()).sessionStatus(sessionId).status, "active");
  assert.equal(codeOf(await at.signIn("ada")), "suspended");

  at.directory.readPerson = async () => null;
  const gone = await ask(at, at.userOf("bob"));
  assert.deepEqual([gone.said, gone.changed], ["not in the directory", true]);
  assert.equal(codeOf(await at.signIn("bob")), "suspended");
  assert.deepEqual(await at.membersOf("eng"), []);
});

test("a directory that cannot be asked, does not answer or answers about another person changes nothing and says so", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  await at.signIn("dan");
  const before = (await at.projection()).applied.position;
  assert.match((await ask(at, at.userOf("ada"))).said, /cannot be asked about one person; cardea directories sync/);
  at.directory.readPerson = async () => {
    throw new DirectoryError("the directory does not answer", { kind: "unreachable" });
  };
  const silent = await ask(at, at.userOf("ada"));
  assert.deepEqual([silent.result, silent.said, silent.position], ["failed", "the directory does not answer", null]);
  at.directory.readPerson = async () => {
    throw new TypeError("a bug");
  };
  const broken = await ask(at, at.userOf("ada"));
  assert.deepEqual([broken.result, broken.changed], ["failed", false]);
  assert.match(broken.said, /the log of the leader says why/);
  at.directory.readPerson = async () => pageOf("bob", []);
  assert.equal((await ask(at, at.userOf("ada"))).result, "failed");
  at.directory.readPerson = async (id) => ({ ...pageOf(id, []), problems: [{ about: null, message: "403" }] });
  assert.equal((await ask(at, at.userOf("ada"))).result, "failed");
  at.directory.readPerson = async () => ({ ...emptyPage, people: [{ ...person("ada"), userName: "x\u0000" }] });
  assert.equal((await ask(at, at.userOf("ada"))).result, "failed");
  const types = (await at.events()).filter(({ position }) => position > before).map(({ event }) => event.type);
  assert.deepEqual(new Set(types), new Set(["UserUpserted"]), "only the state of the directory");
  assert.deepEqual(await groupsNow(at, "ada"), ["eng"]);
});

test("with groups inside groups only what lists the person directly is removed by a run, and the answer says so", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = { ...staff, groups: [group("eng", ["ada"]), group("all", [], ["id-eng"])] };
  await at.sync();
  await at.signIn("ada");
  at.directory.readPerson = async (id) => pageOf(id, ["eng"]);
  const answer = await ask(at, at.userOf("ada"));
  assert.deepEqual([answer.said, answer.changed], ["active, in 1 group; 1 groups are left to the next run", false]);
  assert.deepEqual(await groupsNow(at, "ada"), ["all", "eng"]);
  at.directory.readPerson = async (id) => pageOf(id, []);
  await ask(at, at.userOf("ada"));
  assert.deepEqual(await groupsNow(at, "ada"), [], "who is in no group is in none through another one");
});

test("a run that had read the person before does not undo what the directory has said since", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  const reading = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const [people] = at.directory.pages();
  at.directory.answers.push(async () => {
    reading.resolve();
    await asked.promise;
    return { ...emptyPage, ...people, next: "1" };
  });
  const run = at.sync();
  await reading.promise;
  at.directory.readPerson = async (id) => pageOf(id, [], { active: false });
  assert.equal((await ask(at, at.userOf("ada"))).changed, true);
  asked.resolve();
  await run;
  assert.equal(codeOf(await at.signIn("ada")), "suspended");
  assert.equal((await at.projection()).membership(at.recordOf("ada"), "eng" as GroupId)?.sources.length ?? 0, 0);
  await at.sync();
  assert.equal(codeOf(await at.signIn("ada")), "done", "the next run reads the person anew");
});

test("requests about people have a bound, and the oldest answer leaves first", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  for (let n = 0; n < 18; n++) await ask(at, at.userOf("ada"));
  assert.equal((await at.state())?.people.length, 16);
  const answered = Promise.withResolvers<DirectoryPage | null>();
  at.directory.readPerson = () => answered.promise;
  const results: string[] = [];
  for (let n = 0; n < 18; n++) {
    const request = { type: "requestDirectoryPerson", directory: "corp", requestId: `r${n}` } as const;
    results.push(codeOf(await at.submit({ ...request, userId: at.userOf("ada") })));
  }
  assert.equal(results.filter((each) => each === "conflict").length, 2);
  answered.resolve(pageOf("ada", ["eng"]));
  await waitFor("all answers", async () => (await at.state())?.people.every(({ answer }) => answer !== null));
});
