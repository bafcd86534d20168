/**
 * Run plan, as a property: whatever a directory had before, after a complete run the log has exactly what it has now,
 * the next plan is empty, and without permission to remove nothing is ever taken away.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { applyPlan } from "../../../src/auth/directory/apply-plan.ts";
import { DirectoryIndex } from "../../../src/auth/directory/directory-index.ts";
import { checkPage } from "../../../src/auth/directory/page-check.ts";
import { planRun, type RunPlan } from "../../../src/auth/directory/run-plan.ts";
import { emptyPage } from "../../../src/auth/directory/source.ts";
import { StagedRun } from "../../../src/auth/directory/staged-run.ts";
import {
  directoryClient,
  type GroupId,
  type Profile,
  type Projection,
  provisionedUserId,
  type UserId,
} from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { directoryWorld, openUser } from "./directory-world.ts";

const ids = ["a", "b", "c", "d", "e"];
const subset = fc.uniqueArray(fc.constantFrom(...ids), { maxLength: ids.length });
/** Two groups may have one name; a group may be inside another. */
const content = fc.record({
  active: subset,
  inactive: fc.uniqueArray(fc.constantFrom(...ids), { maxLength: 2 }),
  groups: fc.uniqueArray(
    fc.record({
      id: fc.constantFrom("1", "2", "3"),
      name: fc.constantFrom("eng", "ops", "all"),
      people: subset,
      inner: fc.uniqueArray(fc.constantFrom("1", "2", "3"), { maxLength: 1 }),
    }),
    { selector: ({ id }) => id, maxLength: 3 },
  ),
});
type Content = Readonly<{
  active: readonly string[];
  inactive: readonly string[];
  groups: readonly Readonly<{ id: string; name: string; people: readonly string[]; inner: readonly string[] }>[];
}>;

function stage({ active, inactive, groups }: Content): StagedRun {
  const staged = new StagedRun("full");
  const people = [...active.filter((id) => !inactive.includes(id)), ...inactive].map((id) => ({
    id,
    userName: id,
    email: null,
    name: id,
    active: !inactive.includes(id),
  }));
  const members = groups.map(({ id, people: listed, inner }) => ({ groupId: id, people: listed, groups: inner }));
  staged.add(
    checkPage({ ...emptyPage, people, groups: groups.map(({ id, name }) => ({ id, name })), members }, "full"),
  );
  return staged;
}

test("a complete run makes the log what the directory is, and one without removals takes nothing away", {
  timeout: 120_000,
}, async (t) => {
  const at = await directoryWorld(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(content, content, async (first, second) => {
      run += 1;
      const name = `d${run}`;
      const client = directoryClient(name);
      const index = new DirectoryIndex(() => []);
      const plan = async (of: Content): Promise<readonly [RunPlan, Projection]> => {
        const projection = await at.projection();
        const profiles = async (users: readonly UserId[]) => {
          const opened = new Map<UserId, Profile>();
          for (const userId of users) {
            const profile = await openUser(at.log, projection, userId);
            if (profile !== undefined) opened.set(userId, profile);
          }
          return opened;
        };
        await index.refresh({ projection, profiles, pause: async () => {} });
        // Groups of other runs of this test must not own the names.
        const staged = stage({ ...of, groups: of.groups.map((each) => ({ ...each, name: `${name} ${each.name}` })) });
        const steps = planRun({ directory: { name, match: "subject", groups: "name" }, staged, index, projection });
        for (;;) {
          const { value, done } = steps.next();
          if (done === true) return [value, projection];
        }
      };
      const apply = async (of: RunPlan, permitted: Readonly<{ removals: boolean }>) =>
        applyPlan(of, permitted, {
          directory: name,
          index,
          projection: await at.projection(),
          submit: at.submitAsDuty,
          leads: () => true,
          uuid: randomUUID,
          now: Date.now,
          sleep: async () => {},
          pause: async () => {},
          signal: new AbortController().signal,
          log: { warn: (fields) => assert.fail(JSON.stringify(fields)) },
        });
      const all = { removals: true };
      await apply((await plan(first))[0], all);
      const [additive, before] = await plan(second);
      await apply(additive, { removals: false });
      const between = await at.projection();
      for (const { groupId, scim } of before.groups())
        if (scim?.client === client)
          for (const userId of before.membersOf(groupId))
            assert.ok(between.membersOf(groupId).has(userId), "a run without removals has removed a member");
      for (const id of ids) {
        const userId = provisionedUserId(client, id);
        // That a person is explicitly not active is no absence.
        const isEnded = before.user(userId)?.status !== "active" || second.inactive.includes(id);
        if (!isEnded) assert.equal(between.user(userId)?.status, "active");
      }
      // A name that another group gives up is taken in the run after it.
      for (let round = 0; round < 3; round++) await apply((await plan(second))[0], all);
      const [rest, after] = await plan(second);
      const { writes, ends, gone, groups, goneGroups } = rest;
      assert.deepEqual([writes, ends, gone, groups, goneGroups], [[], [], [], [], []]);
      for (const id of ids) {
        const wanted = second.inactive.includes(id) ? false : second.active.includes(id);
        assert.equal(after.user(provisionedUserId(client, id))?.status === "active", wanted, id);
      }
      const staged = stage(second);
      for (const { id, name: written } of second.groups) {
        const owned = after.group(`${name} ${written}` as GroupId)?.scim;
        if (owned?.id !== id) continue;
        const listed = [...staged.membersOf(id)].map((number) => staged.idOf(number));
        const known = listed.filter((each) => second.active.includes(each) || second.inactive.includes(each));
        const members = [...after.membersOf(`${name} ${written}` as GroupId)].sort();
        assert.deepEqual(members, known.map((each) => provisionedUserId(client, each)).sort());
      }
    }),
    { numRuns: 40 },
  );
});
