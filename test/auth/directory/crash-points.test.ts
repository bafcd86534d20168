/**
 * Crash points: a leader that is killed between any two steps of a run, before a command, after it but before its
 * answer, or before a page. The next leader knows only the log. Nothing is lost, and a half-run removes nothing that
 * the directory still has.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CommandRequest,
  type CommandResult,
  directoryClient,
  type Projection,
} from "../../../src/events/index.ts";
import { type DirectoryWorld, directoryWorld, group, person } from "./directory-world.ts";

const first = {
  people: [person("ada"), person("bob"), person("cleo"), person("dan")],
  groups: [group("eng", ["ada", "bob", "dan"]), group("ops", ["cleo"]), group("old", ["ada"])],
};
/** One person is gone, one is deactivated, one is new; a group loses and gains people, one is renamed, one is gone. */
const second = {
  people: [person("ada"), person("bob", { active: false }), person("dan", { name: "Daniel" }), person("eve")],
  groups: [group("eng", ["ada", "eve"]), { ...group("ops", ["dan"]), name: "operations" }],
};

/** What the log says of people and groups, without positions and versions. */
function stateOf(projection: Projection, at: DirectoryWorld): object {
  const people = ["ada", "bob", "cleo", "dan", "eve"].map((id) => {
    const userId = at.recordOf(id);
    const groups = [...projection.memberships(userId)].filter(([, { sources }]) => sources.includes("directory"));
    return [id, projection.user(userId)?.status ?? "unknown", groups.map(([groupId]) => String(groupId)).sort()];
  });
  const owned = [...projection.groups()].filter(({ scim }) => scim?.client === directoryClient("corp"));
  return { people, groups: owned.map(({ groupId }) => String(groupId)).sort() };
}

type Crash = Readonly<{ at: "before a command" | "after a command" | "before a page"; number: number }>;

/** Runs a new leader's duty until it ends by itself or is killed. @returns the steps that it made */
async function lead(at: DirectoryWorld, crash: Crash | null): Promise<Readonly<{ commands: number; pages: number }>> {
  const given = await at.context();
  const process = new AbortController();
  let [commands, pages] = [0, 0];
  const kill = (): never => {
    process.abort();
    throw new Error("the leader was killed");
  };
  const { read } = at.directory;
  at.directory.read = async (request) => {
    if (crash?.at === "before a page" && crash.number === pages) kill();
    pages += 1;
    return read.call(at.directory, request);
  };
  const submit = async (request: CommandRequest): Promise<CommandResult> => {
    if (process.signal.aborted) throw new Error("the leader was killed");
    const number = commands++;
    if (crash?.at === "before a command" && crash.number === number) kill();
    const result = await given.submit(request);
    if (crash?.at === "after a command" && crash.number === number) kill();
    return result;
  };
  const signal = AbortSignal.any([given.signal, process.signal]);
  const duty = at.newDuty();
  await duty.run({ ...given, submit, signal, leads: () => !process.signal.aborted });
  duty.close();
  at.directory.read = read;
  return { commands, pages };
}

async function start(t: Parameters<typeof directoryWorld>[0]): Promise<DirectoryWorld> {
  let isPaused = false;
  const at = await directoryWorld(t, { isPaused: () => isPaused });
  at.directory.content = first;
  await at.sync();
  isPaused = true;
  for (const name of ["ada", "bob", "cleo"]) await at.signIn(name);
  at.directory.content = second;
  await at.submit({ type: "requestDirectorySync", directory: "corp", requestId: "now", removals: false });
  return at;
}

test("whichever step of a run its leader is killed at, the next one ends with the directory's state, and nothing more is taken", {
  timeout: 300_000,
}, async (t) => {
  const whole = await start(t);
  const before = stateOf(await whole.projection(), whole);
  const steps = await lead(whole, null);
  const wanted = stateOf(await whole.projection(), whole);
  assert.notDeepEqual(wanted, before);
  assert.ok(steps.commands >= 8 && steps.pages >= 4, JSON.stringify(steps));
  const crashes: Crash[] = [
    ...Array.from({ length: steps.commands }, (_, number) => ({ at: "before a command", number }) as const),
    ...Array.from({ length: steps.commands }, (_, number) => ({ at: "after a command", number }) as const),
    ...Array.from({ length: steps.pages }, (_, number) => ({ at: "before a page", number }) as const),
  ];
  for (const crash of crashes)
    await t.test(`${crash.at}: ${crash.number + 1}`, async (subtest) => {
      const at = await start(subtest);
      await lead(at, crash);
      const between = await at.projection();
      if (crash.at === "before a page")
        assert.deepEqual(stateOf(between, at), before, "a half-read run changes nothing");
      // Who keeps access and a group by the directory has both at every moment.
      assert.equal(between.user(at.recordOf("ada"))?.status, "active");
      assert.ok(between.membersOf("eng" as never).has(at.recordOf("ada")), "a member that stays was removed");
      await lead(at, null);
      assert.deepEqual(stateOf(await at.projection(), at), wanted);
      const state = await at.state();
      assert.deepEqual([state?.run, state?.asked, state?.last?.result], [null, null, "complete"]);
      const { commands } = await lead(at, null);
      assert.equal(commands, 0, "nothing is left to do");
    });
});

test("a leader killed twice in a row, at each pair of commands, leaves nothing undone", {
  timeout: 300_000,
}, async (t) => {
  const whole = await start(t);
  const { commands } = await lead(whole, null);
  const wanted = stateOf(await whole.projection(), whole);
  for (let number = 0; number < commands; number += 2)
    await t.test(`after the commands ${number + 1} and ${commands - number}`, async (subtest) => {
      const at = await start(subtest);
      await lead(at, { at: "after a command", number });
      await lead(at, { at: "after a command", number: Math.max(0, commands - number - 1) });
      await lead(at, null);
      assert.deepEqual(stateOf(await at.projection(), at), wanted);
    });
});
