/** Change listeners: when a change counts as enforced. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChangeListeners } from "../../../src/replication/node/change-listeners.ts";
import { history } from "../support.ts";

const change = { link: history(1).head, touched: new Set<never>(), rebuilt: false };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function withListeners() {
  const listeners = new ChangeListeners();
  const outcomes: boolean[] = [];
  const notify = (): void => listeners.notify(change, ({ failed }) => outcomes.push(!failed));
  return { listeners, outcomes, notify };
}

test("a change without pending listeners is enforced at once", () => {
  const { listeners, outcomes, notify } = withListeners();
  notify();
  listeners.add(() => {});
  notify();
  assert.deepEqual(outcomes, [true, true]);
});

test("a change is enforced once every listener has finished", async () => {
  const { listeners, outcomes, notify } = withListeners();
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  listeners.add(() => first.promise);
  listeners.add(() => second.promise);
  notify();
  first.resolve();
  await turn();
  assert.deepEqual(outcomes, []);
  second.resolve();
  await turn();
  assert.deepEqual(outcomes, [true]);
});

test("a listener that throws or rejects fails the change, and the others are still notified", async () => {
  for (const listener of [() => Promise.reject(new Error("stuck")), () => assert.fail("stuck")]) {
    const { listeners, outcomes, notify } = withListeners();
    let others = 0;
    listeners.add(listener);
    listeners.add(() => {
      others += 1;
    });
    notify();
    await turn();
    assert.deepEqual(outcomes, [false]);
    assert.equal(others, 1);
  }
});

test("a removed listener is not notified", () => {
  const { listeners, notify } = withListeners();
  let count = 0;
  const off = listeners.add(() => {
    count += 1;
  });
  notify();
  off();
  notify();
  assert.equal(count, 1);
});
