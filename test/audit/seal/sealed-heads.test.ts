/** Sealed heads: a node knows its own seals again, for two weeks of them, and no other. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { test } from "node:test";
import { earlierMax, SealedHeads } from "../../../src/audit/seal/sealed-heads.ts";

test("seals are known again, also after a restart, and the oldest are forgotten at the bound", () => {
  const headAt = (size: number) => ({ size, root: hash("sha256", String(size), "buffer") });
  const total = earlierMax + 128 + 10;
  let heads = new SealedHeads();
  for (let size = 1; size <= total; size++) {
    heads.add(headAt(size));
    if (size % 1_000 === 0) heads = SealedHeads.from(JSON.parse(JSON.stringify(heads.form())));
  }
  for (const size of [11, 12, 500, earlierMax, total - 128, total]) assert.ok(heads.has(headAt(size)), `${size}`);
  for (const size of [1, 10, total + 1]) assert.ok(!heads.has(headAt(size)), `${size}`);
  assert.ok(!heads.has({ size: 500, root: headAt(501).root }));
  assert.ok((heads.form().earlierHeads ?? "").length <= (earlierMax * 16 * 4) / 3 + 4);
  const { heads: whole } = heads.form();
  const old = SealedHeads.from({ heads: whole });
  assert.ok(old.has(headAt(total)) && !old.has(headAt(500)), "as an older build has stored it");
});
