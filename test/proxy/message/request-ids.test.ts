import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { test } from "node:test";
import { createRequestIds } from "../../../src/proxy/message/request-ids.ts";

test("ids are random UUIDs of version 4, and none repeats", () => {
  const next = createRequestIds((bytes) => randomFillSync(bytes));
  const ids = Array.from({ length: 5_000 }, next);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, ids.length);
});

test("each id uses its own bytes, in order", () => {
  let fills = 0;
  const next = createRequestIds((bytes) => {
    fills++;
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i + fills) % 256;
  });
  assert.equal(next(), "01020304-0506-4708-890a-0b0c0d0e0f10");
  assert.equal(next(), "11121314-1516-4718-991a-1b1c1d1e1f20");
  for (let i = 2; i < 256; i++) next();
  assert.equal(fills, 1);
  assert.equal(next(), "02030405-0607-4809-8a0b-0c0d0e0f1011");
});
