/** Part change: one part of a process runs at a time, also when one stops slowly, fails to stop or fails to start. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { PartChange } from "../../../src/cli/process/part-change.ts";

type Role = "home" | "region";

/** Parts whose stop waits until the test releases it. */
function aProcess() {
  const running = new Set<Role>();
  const events: string[] = [];
  const releases = new Map<Role, () => void>();
  const failures = new Set<string>();
  let most = 0;
  const warnings: string[] = [];
  const log = (_fields: object, message: string): void => void warnings.push(message);
  const parts = new PartChange<Role, Readonly<{ role: Role; stop(): Promise<void> }>>(
    async (role) => {
      if (failures.has(`start ${role}`)) throw new Error("it cannot start");
      running.add(role);
      most = Math.max(most, running.size);
      events.push(`${role} starts`);
      const { promise, resolve } = Promise.withResolvers<void>();
      releases.set(role, resolve);
      return {
        role,
        async stop() {
          events.push(`${role} stops`);
          await promise;
          running.delete(role);
          events.push(`${role} has stopped`);
          if (failures.has(`stop ${role}`)) throw new Error("it stopped in disorder");
        },
      };
    },
    { debug() {}, info() {}, warn: log, error: log },
  );
  const release = (role: Role): void => releases.get(role)?.();
  return { parts, events, warnings, failures, release, most: () => most };
}

test("the next part starts only once the former one has stopped, however slowly it stops", async () => {
  const { parts, events, release, most } = aProcess();
  await parts.change("home");
  const changing = parts.change("region");
  for (let n = 0; n < 50; n++) await turn();
  assert.deepEqual(events, ["home starts", "home stops"]);
  assert.equal(parts.current, null, "callers meet no part meanwhile");
  release("home");
  const { role } = await changing;
  assert.deepEqual(events, ["home starts", "home stops", "home has stopped", "region starts"]);
  assert.deepEqual([role, most()], ["region", 1]);
  release("region");
  await parts.stop();
  assert.equal(parts.current, null);
});

test("a process that ends while its part stops waits for that part", async () => {
  const { parts, release, events } = aProcess();
  await parts.change("home");
  const changing = parts.change("region");
  let ended = false;
  const ending = parts.stop().then(() => {
    ended = true;
  });
  for (let n = 0; n < 50; n++) await turn();
  assert.equal(ended, false);
  release("home");
  await ending;
  assert.ok(events.includes("home has stopped"));
  await changing;
  release("region");
  await parts.stop();
});

test("a part that stops in disorder is named in the log, and the next one starts", async () => {
  const { parts, failures, release, warnings } = aProcess();
  failures.add("stop home");
  await parts.change("home");
  release("home");
  const { role } = await parts.change("region");
  assert.equal(role, "region");
  assert.deepEqual(warnings, ["the former part of this broker did not stop cleanly"]);
  release("region");
  await parts.stop();
});

test("a part that cannot start leaves none, and the change can be repeated", async () => {
  const { parts, failures, release } = aProcess();
  await parts.change("home");
  release("home");
  failures.add("start region");
  await assert.rejects(parts.change("region"), /it cannot start/);
  assert.equal(parts.current, null);
  failures.clear();
  assert.equal((await parts.change("region")).role, "region");
  release("region");
  await parts.stop();
});
