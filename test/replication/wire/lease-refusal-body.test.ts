/** Body of a lease refusal: compatibility between versions that send a code and versions that send only a sentence. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { digestMismatch, levelTooOld } from "../../../src/replication/lease/index.ts";
import {
  bootHasLeft,
  repeatedMessage,
  tooManyNodes,
  tooManyRenews,
} from "../../../src/replication/lease/lease-refusal.ts";
import { formatLeaseRefusal, parseLeaseRefusal } from "../../../src/replication/wire/index.ts";

const refusals = [
  digestMismatch,
  levelTooOld({ finalized: 3, reads: 2 }),
  repeatedMessage,
  tooManyNodes({ role: "proxy", nodesMax: 5 }),
  tooManyRenews,
  bootHasLeft,
  { code: "clock-drift", message: "its monotonic clock runs at least 1.20 % slower than the leader's" },
  { code: "other", message: "no lessee of this epoch" },
] as const;

for (const refusal of refusals) {
  test(`${refusal.code}: "${refusal.message}" is parsed alike with its code and, from an older broker, without it`, () => {
    const { reason, code } = formatLeaseRefusal(refusal);
    assert.equal(reason, refusal.message, "an older node reads the sentence in the field it knows");
    assert.deepEqual(parseLeaseRefusal({ reason, code }), refusal);
    assert.deepEqual(parseLeaseRefusal({ reason }), refusal);
  });
}

test("the code decides, whatever the sentence says", () => {
  const reason = digestMismatch.message;
  assert.deepEqual(parseLeaseRefusal({ reason, code: "other" }), { code: "other", message: reason });
});

test("an unknown code is parsed as `other`", () => {
  assert.equal(parseLeaseRefusal({ reason: "it is Tuesday", code: "tuesday" })?.code, "other");
});

test("a body without a sentence is no refusal; a long sentence is truncated", () => {
  assert.equal(parseLeaseRefusal({ code: "left" }), undefined);
  assert.equal(parseLeaseRefusal({ reason: "x".repeat(1_000), code: "other" })?.message.length, 200);
});
