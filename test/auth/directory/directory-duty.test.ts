/** Directory sync: what a run of the leader changes, and what it never removes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DirectoryError, type DirectoryErrorKind } from "../../../src/auth/directory/directory-error.ts";
import { emptyPage } from "../../../src/auth/directory/source.ts";
import type { CommandRequest, CommandResult, GroupId, HeldChange, UnixMs, UserId } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type DirectoryWorld, directoryWorld, group, MemoryDirectory, person } from "./directory-world.ts";

const codeOf = (result: CommandResult): string => (result.type === "refused" ? result.code : result.type);
const eng = "eng" as GroupId;
const staff = {
  people: [person("ada"), person("bob"), person("cleo")],
  groups: [group("eng", ["ada", "bob"]), group("ops", ["cleo"])],
};
const many = (count: number) => Array.from({ length: count }, (_, n) => person(`p${String(n).padStart(3, "0")}`));

test("a run gives people who have signed in their groups, and those who sign in later", async (t) => {
  const at = await directoryWorld(t);
  assert.equal(codeOf(await at.signIn("ada")), "done");
  at.directory.content = staff;
  const run = await at.sync();
  assert.deepEqual([run.result, run.mode, run.added, run.removed], ["complete", "full", 3, 0]);
  assert.equal(codeOf(await at.signIn("cleo")), "done");
  const projection = await at.projection();
  assert.deepEqual([...projection.groupsOf(at.userOf("ada"), Date.now() as UnixMs)], ["eng"]);
  assert.deepEqual([...projection.groupsOf(at.userOf("cleo"), Date.now() as UnixMs)], ["ops"]);
  assert.deepEqual(projection.membership(at.userOf("ada"), eng)?.sources, ["directory"]);
  assert.deepEqual((await at.state())?.complete?.people, 3);
});

test("a second run of the same directory records nothing about people and groups", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  const before = (await at.events()).length;
  await at.sync();
  const types = (await at.events()).slice(before).map(({ type }) => type);
  const own = new Set(["UserUpserted", "DirectorySyncStarted", "DirectorySyncCompleted"]);
  assert.deepEqual(
    types.filter((type) => !own.has(type)),
    [],
  );
  assert.equal(types.filter((type) => type === "UserUpserted").length, 3, "the state: asked, started, ended");
});

test("the start of a run is in the log before the first page is read", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  const started = Promise.withResolvers<number>();
  at.directory.answers.push(async () => {
    const events = await at.events();
    started.resolve(events.filter(({ type }) => type === "DirectorySyncStarted").length);
    throw new DirectoryError("busy", { kind: "unreachable" });
  });
  await at.sync();
  assert.ok((await started.promise) >= 1);
});

test("a person who is not active, or no longer listed, loses sessions and cannot sign in until listed again", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  await at.signIn("bob");
  at.directory.content = { ...staff, people: [person("ada", { active: false }), person("cleo")] };
  const run = await at.sync();
  assert.equal(run.ended, 2);
  const projection = await at.projection();
  for (const name of ["ada", "bob"]) {
    const [sessionId] = projection.sessionsOf(at.userOf(name));
    assert.notEqual(sessionId && projection.sessionStatus(sessionId).status, "active", name);
    assert.equal(codeOf(await at.signIn(name)), "suspended");
    assert.equal(projection.user(at.userOf(name))?.status, "active", "the person's own status is not the directory's");
  }
  at.directory.content = staff;
  await at.sync();
  assert.equal(codeOf(await at.signIn("ada")), "done");
  assert.equal(codeOf(await at.signIn("bob")), "done");
  assert.deepEqual([...(await at.projection()).groupsOf(at.userOf("bob"), Date.now() as UnixMs)], ["eng"]);
});

test("a person who was not active before the first sign-in cannot sign in", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = { people: [person("ada", { active: false }), person("bob")], groups: [] };
  await at.sync();
  assert.equal(codeOf(await at.signIn("ada")), "suspended");
});

test("a member who leaves a group loses it, and a group that is gone is gone", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  at.directory.content = { ...staff, groups: [group("eng", ["bob"])] };
  const run = await at.sync();
  assert.deepEqual([run.result, run.removed], ["complete", 2]);
  const projection = await at.projection();
  assert.deepEqual([...projection.groupsOf(at.userOf("ada"), Date.now() as UnixMs)], []);
  assert.equal(projection.group("ops" as GroupId), undefined);
});

test("a group that is renamed keeps its members under the new name", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.signIn("ada");
  at.directory.content = {
    ...staff,
    groups: [{ ...group("eng", ["ada", "bob"]), name: "engineers" }, group("ops", ["cleo"])],
  };
  await at.sync();
  const projection = await at.projection();
  assert.deepEqual([...projection.groupsOf(at.userOf("ada"), Date.now() as UnixMs)], ["engineers"]);
  assert.equal(projection.group(eng), undefined);
});

test("groups inside groups give their people the outer group, also in a circle", async (t) => {
  const at = await directoryWorld(t);
  at.directory.delta = emptyPage;
  at.directory.content = {
    people: staff.people,
    groups: [group("eng", ["ada"], ["id-ops"]), group("ops", ["cleo"], ["id-all"]), group("all", ["bob"], ["id-eng"])],
  };
  await at.sync();
  for (const name of ["eng", "ops", "all"]) assert.equal((await at.membersOf(name)).length, 3, name);
  assert.equal((await at.state())?.delta, null, "the next run is full");
});

test("memberships of other sources, and exclusions by operators, stay", async (t) => {
  const at = await directoryWorld(t);
  await at.signIn("ada");
  await at.signIn("bob");
  const byOperator = { type: "changeGroupMembers", groupId: eng, source: "operator" } as const;
  await at.submit({ ...byOperator, added: [at.userOf("bob")], removed: [] });
  await at.submit({ ...byOperator, added: [], removed: [at.userOf("ada")] });
  at.directory.content = staff;
  await at.sync();
  const during = await at.projection();
  assert.deepEqual([...during.groupsOf(at.userOf("ada"), Date.now() as UnixMs)], [], "the operator's exclusion counts");
  at.directory.content = { ...staff, groups: [group("ops", ["cleo"])] };
  await at.sync();
  const after = await at.projection();
  assert.deepEqual(after.membership(at.userOf("bob"), eng)?.sources, ["operator"]);
});

test("two directories do not overwrite each other, and a person has the groups of both", async (t) => {
  const other = new MemoryDirectory();
  const second = { name: "git", match: "subject", groups: "name", everyMs: 3_600_000, source: other } as const;
  const at = await directoryWorld(t, { others: [second] });
  at.directory.content = { people: staff.people, groups: [group("eng", ["bob"])] };
  await at.sync();
  await at.signIn("ada");
  other.content = { people: [person("ada")], groups: [group("git", ["ada"]), group("eng", ["ada"])] };
  await waitFor("the second directory", async () => {
    await at.submit({ type: "requestDirectorySync", directory: "git", requestId: "r", removals: false });
    return (await at.membersOf("git")).length > 0;
  });
  await at.signIn("ada");
  const projection = await at.projection();
  assert.deepEqual(
    [...projection.groupsOf(at.userOf("ada"), Date.now() as UnixMs)],
    ["git"],
    "eng belongs to the directory that had it first",
  );
  at.directory.content = { people: staff.people, groups: [] };
  await at.sync({ removals: true });
  assert.deepEqual([...(await at.projection()).groupsOf(at.userOf("ada"), Date.now() as UnixMs)], ["git"]);
});

test("two groups of one name in a directory: the one that the log has keeps it", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = { people: staff.people, groups: [{ ...group("eng", ["ada"]), id: "z" }] };
  await at.sync();
  const impostor = { ...group("eng", ["cleo"]), id: "a" };
  at.directory.content = { people: staff.people, groups: [impostor, { ...group("eng", ["ada"]), id: "z" }] };
  const run = await at.sync();
  assert.match(run.problem ?? "", /left out.*eng/);
  assert.deepEqual(await at.membersOf("eng"), [at.recordOf("ada")]);
});

test("with match: email a person whose e-mail changes keeps the record, and the earlier e-mail still finds it", async (t) => {
  const at = await directoryWorld(t, { match: "email" });
  at.directory.content = {
    people: [person("1", { email: "Ada@example.test" }), person("2", { email: null })],
    groups: [],
  };
  await at.sync();
  await at.signIn("ada");
  at.directory.content = {
    people: [person("1", { email: "lovelace@example.test" }), person("2", { email: null })],
    groups: [group("eng", ["1"])],
  };
  const run = await at.sync();
  assert.equal(run.ended, 0);
  const projection = await at.projection();
  const [sessionId] = projection.sessionsOf(at.userOf("ada"));
  assert.equal(sessionId && projection.sessionStatus(sessionId).status, "active");
  await at.signIn("ada");
  await at.signIn("lovelace");
  const after = await at.projection();
  assert.deepEqual([...after.groupsOf(at.userOf("ada"), Date.now() as UnixMs)], ["eng"]);
  assert.deepEqual([...after.groupsOf(at.userOf("lovelace"), Date.now() as UnixMs)], ["eng"]);
});

test("of two people with one e-mail the active one counts", async (t) => {
  const at = await directoryWorld(t, { match: "email" });
  const email = "ada@example.test";
  at.directory.content = {
    people: [person("1", { email, active: false }), person("2", { email }), person("3", { email, active: false })],
    groups: [],
  };
  await at.sync();
  assert.equal(codeOf(await at.signIn("ada")), "done");
});

const failures: readonly DirectoryErrorKind[] = ["unreachable", "unauthorized", "forbidden", "malformed"];
for (const kind of failures)
  test(`a run that ends as ${kind} in its middle changes nothing`, async (t) => {
    const at = await directoryWorld(t);
    at.directory.content = staff;
    await at.sync();
    at.directory.content = { people: [person("ada")], groups: [] };
    const fail = () => {
      throw new DirectoryError("broken", { kind });
    };
    const [first] = at.directory.pages();
    at.directory.answers.push(() => ({ ...emptyPage, ...first, next: "1" }), ...Array.from({ length: 9 }, () => fail));
    const run = await at.sync();
    assert.equal(run.result, "failed");
    assert.equal((await at.membersOf("eng")).length, 2);
    assert.equal(codeOf(await at.signIn("bob")), "done");
  });

test("a page beyond its bounds fails the run", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  at.directory.answers.push(...[0, 1].map(() => () => ({ ...emptyPage, people: [person("x\u0000")] })));
  assert.equal((await at.sync()).result, "failed");
  assert.equal((await at.membersOf("eng")).length, 2);
});

test("a limited run waits, and continues at its cursor", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  const [first] = at.directory.pages();
  at.directory.answers.push(
    () => ({ ...emptyPage, ...first, next: "1" }),
    () => {
      throw new DirectoryError("slow down", { kind: "limited", retryAfterMs: 10 });
    },
  );
  assert.equal((await at.sync()).result, "complete");
  assert.equal((await at.membersOf("eng")).length, 2);
  const retried = at.directory.reads.filter((cursor) => cursor === "1");
  assert.ok(retried.length >= 2, "the same page was requested again");
});

test("a partial run adds and never removes", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  const pages = { people: [person("ada"), person("dan")], groups: [{ id: "id-eng", name: "eng" }] };
  const members = [{ groupId: "id-eng", people: ["dan"], groups: [] }];
  const problems = [{ about: "id-ops", message: "403" }];
  at.directory.answers.push(() => ({ ...emptyPage, ...pages, members, problems }));
  const run = await at.sync({ removals: true });
  assert.deepEqual([run.result, run.added, run.removed, run.ended], ["partial", 1, 0, 0]);
  assert.match(run.problem ?? "", /nothing is removed/);
  const wanted = ["ada", "bob", "dan"].map((id) => at.recordOf(id)).sort();
  assert.deepEqual(await at.membersOf("eng"), wanted);
  assert.equal(codeOf(await at.signIn("bob")), "done");
});

for (const [what, content] of [
  ["no people and no groups", { people: [], groups: [] }],
  ["people and no groups", { people: staff.people, groups: [] }],
  ["groups and no people", { people: [], groups: staff.groups }],
  ["groups and no members", { people: staff.people, groups: [group("eng", []), group("ops", [])] }],
] as const)
  test(`a directory that suddenly has ${what} removes nothing until an operator says so`, async (t) => {
    const at = await directoryWorld(t);
    at.directory.content = staff;
    await at.sync();
    at.directory.content = content;
    const run = await at.sync();
    assert.deepEqual([run.result, run.removed, run.ended], ["withheld", 0, 0]);
    assert.match(run.problem ?? "", /suddenly empty/);
    assert.equal((await at.membersOf("eng")).length, 2);
    const allowed = await at.sync({ removals: true });
    assert.equal(allowed.result, "complete");
    assert.equal((await at.membersOf("eng")).length, 0);
  });

const heldOf = async (at: DirectoryWorld): Promise<readonly HeldChange[]> => [
  ...(await at.projection()).massChanges.held(),
];
const decide = async (at: DirectoryWorld, type: "releaseHeldChange" | "dropHeldChange"): Promise<string> => {
  const [held] = await heldOf(at);
  assert.ok(held !== undefined);
  const { heldId, version } = held;
  const common = { heldId, version, reason: "looked at it" };
  return codeOf(
    await at.submit(type === "dropHeldChange" ? { type, ...common } : { type, ...common, allowUntil: null }),
  );
};

for (const [what, changed] of [
  ["no longer lists", (people: ReturnType<typeof many>) => people.slice(0, 30)],
  ["deactivates", (people: ReturnType<typeof many>) => people.map((each, n) => ({ ...each, active: n < 30 }))],
] as const) {
  test(`a directory that ${what} too many people at once is judged whole, by the rule of mass changes`, async (t) => {
    const at = await directoryWorld(t);
    const people = many(60);
    const ids = people.map(({ id }) => id);
    at.directory.content = { people, groups: [group("eng", ids)] };
    await at.sync();
    await at.signIn("p059");
    at.directory.content = { people: changed(people), groups: [group("eng", ids)] };
    for (let run = 0; run < 2; run++) {
      const { result, removed, ended, problem } = await at.sync();
      assert.deepEqual([result, removed, ended], ["withheld", 0, 0]);
      assert.match(problem ?? "", /1 mass changes wait for an operator/);
    }
    const [held, ...others] = await heldOf(at);
    assert.deepEqual([held?.source, held?.subject, held?.removed.length], ["service:directory/corp", "people", 30]);
    assert.deepEqual([held?.version, others], [1, []], "the second run has said the same");
    assert.equal((await at.membersOf("eng")).length, 61);
    assert.equal(codeOf(await at.signIn("p058")), "done");

    assert.equal(await decide(at, "releaseHeldChange"), "done");
    const projection = await at.projection();
    const [sessionId] = projection.sessionsOf(at.userOf("p059"));
    assert.notEqual(
      sessionId && projection.sessionStatus(sessionId).status,
      "active",
      "a release ends sessions at once",
    );
    assert.equal(codeOf(await at.signIn("p058")), "suspended");
    assert.equal(codeOf(await at.signIn("p001")), "done");
    const after = await at.sync();
    assert.equal(after.result, "complete", after.problem ?? "");
    assert.deepEqual(await heldOf(at), []);
  });
}

test("one person more is ended at once while many wait, and is not held with them", async (t) => {
  const at = await directoryWorld(t);
  const people = many(60);
  at.directory.content = { people, groups: [] };
  await at.sync();
  at.directory.content = { people: people.slice(0, 30), groups: [] };
  await at.sync();
  at.directory.content = { people: people.slice(1, 30), groups: [] };
  const run = await at.sync();
  assert.deepEqual([run.result, run.ended], ["withheld", 1]);
  assert.equal(codeOf(await at.signIn("p000")), "suspended");
  assert.equal(codeOf(await at.signIn("p045")), "done");
});

test("held ends are withdrawn for the people that the directory lists again, and a drop keeps the others", async (t) => {
  const at = await directoryWorld(t);
  const people = many(60);
  at.directory.content = { people, groups: [] };
  await at.sync();
  at.directory.content = { people: people.slice(0, 30), groups: [] };
  await at.sync();
  at.directory.content = { people: people.slice(0, 35), groups: [] };
  assert.equal((await at.sync()).result, "withheld");
  const [held] = await heldOf(at);
  assert.deepEqual([held?.removed.length, held?.version], [25, 2]);
  assert.equal(await decide(at, "dropHeldChange"), "done");
  assert.equal((await at.sync()).result, "withheld");
  assert.equal((await heldOf(at)).length, 1);
  assert.equal(codeOf(await at.signIn("p050")), "done");
  at.directory.content = { people, groups: [] };
  assert.equal((await at.sync()).result, "complete");
});

test("held ends of people that the directory has again are gone, without an operator", async (t) => {
  const at = await directoryWorld(t);
  const people = many(60);
  at.directory.content = { people, groups: [] };
  await at.sync();
  at.directory.content = { people: people.slice(0, 30), groups: [] };
  await at.sync();
  at.directory.content = { people, groups: [] };
  assert.equal((await at.sync()).result, "complete");
  assert.deepEqual(await heldOf(at), []);
});

test("a partial or suddenly empty run leaves what waits for an operator as it is", async (t) => {
  const at = await directoryWorld(t);
  const people = many(90);
  const ids = people.map(({ id }) => id);
  at.directory.content = { people, groups: [group("eng", ids)] };
  await at.sync();
  const fewer = { people: people.slice(0, 60), groups: [group("eng", ids.slice(0, 20))] };
  at.directory.content = fewer;
  assert.equal((await at.sync()).result, "withheld");
  const held = (await heldOf(at)).map(({ subject, version, removed }) => [subject, version, removed.length]);
  assert.deepEqual(held.map(([subject]) => subject).sort(), ["group:eng", "people"]);
  const still = async () =>
    (await heldOf(at)).map(({ subject, version, removed }) => [subject, version, removed.length]);
  const groups = fewer.groups.map(({ id, name }) => ({ id, name }));
  const members = fewer.groups.map(({ id, people: listed }) => ({ groupId: id, people: listed, groups: [] }));
  const problems = [{ about: null, message: "403" }];
  at.directory.answers.push(() => ({ ...emptyPage, people: fewer.people, groups, members, problems }));
  assert.equal((await at.sync()).result, "partial");
  assert.deepEqual(await still(), held);
  at.directory.content = { people: [], groups: [] };
  assert.equal((await at.sync()).result, "withheld");
  assert.deepEqual(await still(), held);
  assert.equal((await at.membersOf("eng")).length, 90);
});

test("the first run of a directory with many inactive people is complete: no one loses anything", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = { people: many(60).map((each, n) => ({ ...each, active: n < 10 })), groups: [] };
  const run = await at.sync();
  assert.deepEqual([run.result, run.problem], ["complete", null]);
  assert.equal(codeOf(await at.signIn("p050")), "suspended");
});

test("a mass change of a group waits for an operator, and is withdrawn when the directory has the people again", async (t) => {
  const at = await directoryWorld(t);
  const people = many(60);
  const ids = people.map(({ id }) => id);
  at.directory.content = { people, groups: [group("eng", ids), group("ops", ids.slice(0, 5))] };
  await at.sync();
  const fewer = { people, groups: [group("eng", [...ids.slice(0, 20)]), group("ops", ids.slice(0, 6))] };
  at.directory.content = fewer;
  const run = await at.sync();
  assert.deepEqual([run.result, run.added, run.removed], ["withheld", 1, 0]);
  assert.match(run.problem ?? "", /1 mass changes wait for an operator/);
  assert.deepEqual(
    (await heldOf(at)).map(({ source, removed }) => [source, removed.length]),
    [["service:directory/corp", 40]],
  );
  at.directory.content = { people, groups: [group("eng", ids), group("ops", ids.slice(0, 6))] };
  assert.equal((await at.sync()).result, "complete");
  assert.deepEqual(await heldOf(at), []);
  assert.equal((await at.membersOf("eng")).length, 60);
});

test("a run with every removal allowed makes mass changes of people and groups, and the next run is held again", async (t) => {
  const at = await directoryWorld(t);
  const people = many(90);
  const ids = people.map(({ id }) => id);
  at.directory.content = { people, groups: [group("eng", ids), group("ops", ids)] };
  await at.sync();
  at.directory.content = {
    people: people.slice(0, 60),
    groups: [group("eng", ids.slice(0, 20)), group("ops", ids.slice(0, 60))],
  };
  assert.equal((await at.sync()).result, "withheld");
  const allowed = await at.sync({ removals: true });
  assert.deepEqual([allowed.result, allowed.ended], ["complete", 30]);
  assert.equal((await at.membersOf("eng")).length, 20);
  assert.deepEqual(await heldOf(at), []);
  assert.deepEqual([...(await at.projection()).massChanges.allowed()], [], "the permission ends with the run");
  at.directory.content = {
    people: people.slice(0, 60),
    groups: [group("eng", ids.slice(0, 20)), group("ops", ids.slice(0, 5))],
  };
  assert.equal((await at.sync()).result, "withheld");
});

test("a run with every removal allowed leaves an operator's longer permission as it was", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  const source = "service:directory/corp";
  const until = (Date.now() + 7_200_000) as UnixMs;
  await at.submit({ type: "allowMassChanges", source, until, reason: "reorganisation" });
  await at.sync({ removals: true });
  assert.deepEqual([...(await at.projection()).massChanges.allowed()], [[source, until]]);
});

test("a request that arrives while a run begins is answered by the next run, with what it allows", async (t) => {
  const request = { type: "requestDirectorySync", directory: "corp", requestId: "late", removals: true } as const;
  let at: DirectoryWorld | undefined;
  let isLate = false;
  const arrives = async ({ command }: CommandRequest): Promise<void> => {
    if (command.type !== "startDirectorySync" || !isLate) return;
    isLate = false;
    assert.equal(codeOf((await at?.submit(request)) as CommandResult), "done");
  };
  at = await directoryWorld(t, { beforeSubmit: arrives });
  at.directory.content = staff;
  await at.sync();
  at.directory.content = { people: [], groups: [] };
  isLate = true;
  const full = at.directory.fullRuns;
  await at.submit({ ...request, requestId: "early", removals: false });
  const last = await waitFor("the run that answers", async () => {
    const state = await at?.state();
    return state?.run === null && state.asked === null && state.last?.result === "complete" && state.last.ended > 0
      ? state.last
      : undefined;
  });
  assert.equal(last.ended, 3);
  assert.equal(at.directory.fullRuns, full + 2, "one run for each request");
});

test("a delta applies what changed and removes what it names, and nothing else", async (t) => {
  const at = await directoryWorld(t, { everyMs: 50 });
  at.directory.content = staff;
  at.directory.delta = { ...emptyPage, delta: "delta 2" };
  await at.sync();
  const full = at.directory.fullRuns;
  at.directory.delta = {
    ...emptyPage,
    people: [person("dan")],
    removedPeople: ["cleo", "nobody"],
    members: [{ groupId: "id-eng", people: ["dan"], groups: [] }],
    removedMembers: [{ groupId: "id-eng", people: ["bob"], groups: [] }],
    delta: "delta 3",
  };
  await waitFor("the delta", async () => (await at.membersOf("eng")).includes(at.recordOf("dan")));
  await waitFor("its end", async () => (await at.state())?.delta === "delta 3");
  assert.deepEqual(await at.membersOf("eng"), [at.recordOf("ada"), at.recordOf("dan")].sort());
  assert.equal(codeOf(await at.signIn("cleo")), "suspended");
  assert.equal(codeOf(await at.signIn("bob")), "done");
  assert.equal(at.directory.fullRuns, full, "no full run was needed");
});

test("a delta of a whole group removes those it no longer lists, and one with groups inside groups becomes full", async (t) => {
  const at = await directoryWorld(t, { everyMs: 50 });
  at.directory.content = staff;
  at.directory.delta = { ...emptyPage, delta: "delta 2" };
  await at.sync();
  const whole = { members: [{ groupId: "id-eng", people: ["ada"], groups: [] }], wholeGroups: ["id-eng"] };
  at.directory.delta = { ...emptyPage, ...whole, delta: "delta 3" };
  await waitFor("the delta", async () => (await at.membersOf("eng")).length === 1);
  const full = at.directory.fullRuns;
  const nested = { members: [{ groupId: "id-eng", people: [], groups: ["id-ops"] }] };
  at.directory.delta = { ...emptyPage, ...nested, delta: "delta 4" };
  await waitFor("a full run", () => at.directory.fullRuns > full);
  await waitFor("its content", async () => (await at.membersOf("eng")).length === 2);
});

test("a delta that the directory no longer has becomes a full run", async (t) => {
  const at = await directoryWorld(t, { everyMs: 50 });
  at.directory.content = staff;
  at.directory.delta = { ...emptyPage, delta: "delta 2" };
  await at.sync();
  const full = at.directory.fullRuns;
  at.directory.answers.push(() => {
    throw new DirectoryError("too old", { kind: "deltaExpired" });
  });
  await waitFor("a full run", () => at.directory.fullRuns > full);
});

test("below its level nothing is read, and a request is refused with the remedy", async (t) => {
  const at = await directoryWorld(t, { level: 4 });
  at.directory.content = staff;
  const refused = await at.submit({ type: "requestDirectorySync", directory: "corp", requestId: "r", removals: false });
  assert.ok(refused.type === "refused");
  assert.match(refused.message, /level 5.*cardea cluster finalize/);
  assert.deepEqual(at.directory.reads, []);
});

test("an erased person of a directory is not provisioned again", async (t) => {
  const at = await directoryWorld(t);
  at.directory.content = staff;
  await at.sync();
  await at.submit({ type: "eraseUser", userId: at.recordOf("ada") as UserId });
  const run = await at.sync();
  assert.equal(run.result, "complete");
  assert.equal(codeOf(await at.signIn("ada")), "erased");
});
