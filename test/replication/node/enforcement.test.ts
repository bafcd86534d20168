/** Enforcement: up to which link every change has been enforced. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { genesis } from "../../../src/events/index.ts";
import { Enforcement } from "../../../src/replication/node/enforcement.ts";
import { history } from "../support.ts";

const log = history(20);

function newEnforcement() {
  const enforcement = new Enforcement(genesis);
  const begin = (position: number, id = position, decisive = true): void =>
    enforcement.begin({ id, link: log.linkAt(position), decisive, rebuilt: false });
  return { enforcement, begin };
}

test("a completed change is enforced, and a completion counts once", () => {
  const { enforcement, begin } = newEnforcement();
  begin(1);
  assert.deepEqual(enforcement.enforced, genesis);
  assert.deepEqual(enforcement.complete(1), { moved: true, decisive: true });
  assert.deepEqual(enforcement.enforced, log.linkAt(1));
  assert.deepEqual(enforcement.complete(1), { moved: false, decisive: false });
  assert.deepEqual(enforcement.complete(99), { moved: false, decisive: false });
});

test("an open change holds back every later change", () => {
  const { enforcement, begin } = newEnforcement();
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

test("the queue of open changes is bounded, and is still enforced up to its end", () => {
  const { enforcement, begin } = newEnforcement();
  for (let n = 0; n < 5_000; n++) begin(1 + (n % 19), n);
  assert.ok(enforcement.waiting <= 1_024);
  begin(20, 5_000);
  for (let n = 5_000; n >= 1; n--) enforcement.complete(n);
  assert.deepEqual(enforcement.enforced, genesis, "the first is still open");
  enforcement.complete(0);
  assert.deepEqual(enforcement.enforced, log.linkAt(20));
});

test("after a rebuild nothing of the old chain counts as enforced, and its open changes are still awaited", () => {
  const { enforcement, begin } = newEnforcement();
  begin(4);
  begin(5);
  begin(6);
  enforcement.complete(5);
  const next = history(3, 2);
  enforcement.begin({ id: 100, link: next.linkAt(3), decisive: true, rebuilt: true });
  enforcement.complete(4);
  enforcement.complete(100);
  assert.deepEqual(enforcement.enforced, genesis, "a change of the old chain is still open");
  assert.deepEqual(enforcement.complete(6), { moved: true, decisive: true });
  assert.deepEqual(enforcement.enforced, next.linkAt(3));
  assert.equal(enforcement.waiting, 0);
});

test("a rebuild is enforced alone if no change of the old chain is open, and until then nothing is", () => {
  const { enforcement, begin } = newEnforcement();
  begin(4);
  enforcement.complete(4);
  enforcement.begin({ id: 100, link: log.linkAt(2), decisive: true, rebuilt: true });
  assert.deepEqual(enforcement.enforced, genesis);
  enforcement.complete(100);
  assert.deepEqual(enforcement.enforced, log.linkAt(2));
});
