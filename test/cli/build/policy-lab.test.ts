/** The thread of the policy lab: a text that takes too long ends it alone, and calls wait within a bound. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { WorkerPolicyLab } from "../../../src/cli/build/lab/policy-lab.ts";
import { PolicyLabError } from "../../../src/console/index.ts";

const isWhy = (why: string) => (error: unknown) => error instanceof PolicyLabError && error.why === why;
const text = "allow:\n  or:\n    - accept: true\n";

test("a text that takes too long is refused with a remedy, and the next one gets a new thread", async (t) => {
  const lab = new WorkerPolicyLab({ callMs: 1 });
  t.after(() => lab.close());
  await assert.rejects(lab.check({ text, route: null }), isWhy("costly"));
  await assert.rejects(lab.check({ text, route: null }), /takes longer than 0 s to check: simplify it/);
});

test("calls wait within a bound, are answered one by one, and the thread ends when it is idle", async (t) => {
  const lab = new WorkerPolicyLab({ callsMax: 2, idleMs: 5 });
  t.after(() => lab.close());
  const calls = [1, 2, 3].map(() => lab.check({ text, route: null }));
  await assert.rejects(calls[2] ?? Promise.resolve(), isWhy("busy"));
  const [first, second] = await Promise.all(calls.slice(0, 2));
  assert.deepEqual([first?.ok, second?.ok], [true, true]);
  assert.equal((await lab.check({ text: "allow: [", route: null })).ok, false);
  await lab.close();
  await assert.rejects(lab.check({ text, route: null }), isWhy("busy"));
});
