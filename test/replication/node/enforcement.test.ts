import assert from "node:assert/strict";
import { test } from "node:test";
import { genesis } from "../../../src/events/index.ts";
import { Enforcement } from "../../../src/replication/node/enforcement.ts";
import { history } from "../support.ts";

const log = history(20);

function anEnforcement() {
  const enforcement = new Enforcement(genesis);
  const begin = (position: number, id = position, decisive = true): void =>
    enforcement.begin({ id, link: log.linkAt(position), decisive });
  return { enforcement, begin };
}

test("what has been answered for is enforced, and an answer counts once", () => {
  const { enforcement, begin } = anEnforcement();
  begin(1);
  assert.deepEqual(enforcement.enforced, genesis);
  assert.deepEqual(enforcement.settle(1), { moved: true, decisive: true });
  assert.deepEqual(enforcement.enforced, log.linkAt(1));
  assert.deepEqual(enforcement.settle(1), { moved: false, decisive: false });
  assert.deepEqual(enforcement.settle(99), { moved: false, decisive: false });
});

test("a change that is still open holds back everything behind it, and nothing passes out of order", () => {
  const { enforcement, begin } = anEnforcement();
  for (const position of [1, 2, 3]) begin(position, position, position === 2);
  enforcement.settle(1);
  assert.deepEqual(enforcement.settle(3), { moved: false, decisive: false });
  assert.deepEqual(enforcement.enforced, log.linkAt(1));
  assert.deepEqual(
    enforcement.settle(2),
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
  for (let n = 5_000; n >= 1; n--) enforcement.settle(n);
  assert.deepEqual(enforcement.enforced, genesis, "the first is still open");
  enforcement.settle(0);
  assert.deepEqual(enforcement.enforced, log.linkAt(20));
});
