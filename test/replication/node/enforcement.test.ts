import assert from "node:assert/strict";
import { test } from "node:test";
import { genesis } from "../../../src/events/index.ts";
import { Enforcement } from "../../../src/replication/node/enforcement.ts";
import { history } from "../support.ts";

const log = history(20);

function anEnforcement() {
  const enforcement = new Enforcement(genesis);
  const begin = (position: number, id = position, decisive = true): void =>
    enforcement.begin({ id, link: log.linkAt(position), decisive, rebuilt: false });
  return { enforcement, begin };
}

test("what has been answered for is enforced, and an answer counts once", () => {
  const { enforcement, begin } = anEnforcement();
  begin(1);
  assert.deepEqual(enforcement.enforced, genesis);
  assert.deepEqual(enforcement.complete(1), { moved: true, decisive: true });
  assert.deepEqual(enforcement.enforced, log.linkAt(1));
  assert.deepEqual(enforcement.complete(1), { moved: false, decisive: false });
  assert.deepEqual(enforcement.complete(99), { moved: false, decisive: false });
});

test("a change that is still open holds back everything behind it, and nothing passes out of order", () => {
  const { enforcement, begin } = anEnforcement();
  for (const position of [1, 2, 3]) begin(position, position, position === 2);
  enforcement.complete(1);
  assert.deepEqual(enforcement.complete(3), { moved: false, decisive: false });
  assert.deepEqual(enforcement.enforced, log.linkAt(1));
  assert.deepEqual(
    enforcement.complete(2),
    { moved: true, decisive: true },
    "two changes in one move, one of them decisive",
  );
  assert.deepEqual(enforcement.enforced, log.linkAt(3));
});

test("what waits is bounded, and is still enforced to the last", () => {
  const { enforcement, begin } = anEnforcement();
  for (let n = 0; n < 5_000; n++) begin(1 + (n % 19), n);
  assert.ok(enforcement.waiting <= 1_024);
  begin(20, 5_000);
  for (let n = 5_000; n >= 1; n--) enforcement.complete(n);
  assert.deepEqual(enforcement.enforced, genesis, "the first is still open");
  enforcement.complete(0);
  assert.deepEqual(enforcement.enforced, log.linkAt(20));
});

test("with a history that was left nothing of it is said to be enforced any more, and what it had still to cut is waited for", () => {
  const { enforcement, begin } = anEnforcement();
  begin(4);
  begin(5);
  begin(6);
  enforcement.complete(5);
  const next = history(3, 2);
  enforcement.begin({ id: 100, link: next.linkAt(3), decisive: true, rebuilt: true });
  enforcement.complete(4);
  enforcement.complete(100);
  assert.deepEqual(enforcement.enforced, genesis, "one of the old history is still open");
  assert.deepEqual(enforcement.complete(6), { moved: true, decisive: true });
  assert.deepEqual(enforcement.enforced, next.linkAt(3));
  assert.equal(enforcement.waiting, 0);
});

test("a new history is enforced by itself where nothing of the old one is open", () => {
  const { enforcement, begin } = anEnforcement();
  begin(4);
  enforcement.complete(4);
  enforcement.begin({ id: 100, link: log.linkAt(2), decisive: true, rebuilt: true });
  assert.deepEqual(enforcement.enforced, log.linkAt(4));
  enforcement.complete(100);
  assert.deepEqual(enforcement.enforced, log.linkAt(2));
});
