/** Write queue: a bound on concurrent and on waiting work. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NoTurnError, Turns } from "../../../src/replication/log/write-queue.ts";

test("only a bounded number of tasks runs at once, in order of arrival, and tasks above the waiting bound are refused", async () => {
  const turns = new Turns({ atOnce: 2, waitingMax: 3 });
  const started: number[] = [];
  const finish: (() => void)[] = [];
  const work = (n: number) =>
    turns.take(async () => {
      started.push(n);
      await new Promise<void>((resolve) => finish.push(resolve));
      if (n === 1) throw new Error("failed");
      return n;
    });
  const all = Promise.allSettled([0, 1, 2, 3, 4, 5].map(work));
  await new Promise(setImmediate);
  assert.deepEqual(started, [0, 1]);
  for (const running of [
    [0, 1, 2],
    [0, 1, 2, 3],
    [0, 1, 2, 3, 4],
  ]) {
    finish.shift()?.();
    await new Promise(setImmediate);
    assert.deepEqual(started, running);
  }
  for (const end of finish) end();
  const outcomes = await all;
  assert.deepEqual(
    outcomes.map((o) => o.status),
    ["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled", "rejected"],
  );
  assert.ok(outcomes[5]?.status === "rejected" && outcomes[5].reason instanceof NoTurnError);
  assert.equal(await turns.take(async () => "free again"), "free again");
});
