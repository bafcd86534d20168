/** Apply plan: how the changes of a run are submitted, and what happens when one of them fails. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ApplyParts, applyPlan, RunEndedError } from "../../../src/auth/directory/apply-plan.ts";
import { DirectoryIndex } from "../../../src/auth/directory/directory-index.ts";
import type { RunPlan } from "../../../src/auth/directory/run-plan.ts";
import { type CommandResult, Projection, type UserId } from "../../../src/events/index.ts";

const done = { type: "done", link: { epoch: 1, position: 1, hash: "" } } as unknown as CommandResult;
const people = (count: number): RunPlan["writes"] =>
  Array.from({ length: count }, (_, n) => ({
    userId: `user-${n}` as UserId,
    id: `p${n}`,
    resource: { userName: `p${n}`, active: true },
    before: undefined,
    movedFrom: null,
  }));
const counts = { people: 0, groups: 0, memberships: 0, added: 0, removed: 0, known: 0, losing: 0 };
const planOf = (count: number): RunPlan => ({
  ...{ writes: people(count), ends: [], gone: [], groups: [], goneGroups: [], counts, skipped: [] },
  isSuddenlyEmpty: false,
});
const partsOf = (submit: ApplyParts["submit"], fields: Partial<ApplyParts> = {}): ApplyParts => ({
  directory: "corp",
  index: new DirectoryIndex(() => []),
  projection: new Projection(),
  submit,
  leads: () => true,
  uuid: randomUUID,
  now: Date.now,
  sleep: async () => {},
  pause: async () => {},
  signal: new AbortController().signal,
  log: { warn() {} },
  ...fields,
});

test("after a failure no further change begins, and none is in flight when it is reported", async () => {
  let inFlight = 0;
  let begun = 0;
  const submit = async (): Promise<CommandResult> => {
    const number = ++begun;
    inFlight += 1;
    await sleep(number % 7);
    inFlight -= 1;
    if (number >= 100) throw new Error(`failure ${number}`);
    return done;
  };
  await assert.rejects(applyPlan(planOf(5_000), { removals: true }, partsOf(submit)), /failure 1\d\d/);
  assert.equal(inFlight, 0, "changes are still in flight");
  const atEnd = begun;
  assert.ok(atEnd < 1_000, `${atEnd} changes began`);
  await sleep(20);
  assert.equal(begun, atEnd, "changes began after the failure was reported");
});

test("a run whose epoch ends stops, and nothing is in flight when it says so", async () => {
  const epoch = new AbortController();
  let inFlight = 0;
  let begun = 0;
  const submit = async (): Promise<CommandResult> => {
    if (++begun === 50) epoch.abort();
    inFlight += 1;
    await sleep(1);
    inFlight -= 1;
    return done;
  };
  const parts = partsOf(submit, { signal: epoch.signal });
  await assert.rejects(applyPlan(planOf(5_000), { removals: true }, parts), RunEndedError);
  assert.equal(inFlight, 0);
});
