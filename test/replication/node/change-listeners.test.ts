import assert from "node:assert/strict";
import { test } from "node:test";
import { ChangeListeners } from "../../../src/replication/node/change-listeners.ts";
import { history } from "../support.ts";

const change = { link: history(1).head, touched: new Set<never>(), rebuilt: false };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function told() {
  const listeners = new ChangeListeners();
  const outcomes: boolean[] = [];
  const tell = (): void => listeners.notify(change, ({ failed }) => outcomes.push(!failed));
  return { listeners, outcomes, tell };
}

test("what nobody has to be waited for is enforced at once", () => {
  const { listeners, outcomes, tell } = told();
  tell();
  listeners.add(() => {});
  tell();
  assert.deepEqual(outcomes, [true, true]);
});

test("every listener is waited for", async () => {
  const { listeners, outcomes, tell } = told();
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  listeners.add(() => first.promise);
  listeners.add(() => second.promise);
  tell();
  first.resolve();
  await turn();
  assert.deepEqual(outcomes, []);
  second.resolve();
  await turn();
  assert.deepEqual(outcomes, [true]);
});

test("a listener that throws or rejects fails the change, and the others are told all the same", async () => {
  for (const listener of [() => Promise.reject(new Error("stuck")), () => assert.fail("stuck")]) {
    const { listeners, outcomes, tell } = told();
    let others = 0;
    listeners.add(listener);
    listeners.add(() => {
      others += 1;
    });
    tell();
    await turn();
    assert.deepEqual(outcomes, [false]);
    assert.equal(others, 1);
  }
});

test("a listener that has gone is not told", () => {
  const { listeners, tell } = told();
  let count = 0;
  const off = listeners.add(() => {
    count += 1;
  });
  tell();
  off();
  tell();
  assert.equal(count, 1);
});
