import assert from "node:assert/strict";
import { test } from "node:test";
import { Recent } from "../../src/events/recent.ts";

test("the newest are remembered, the eldest forgotten, and one that is asked for stays", () => {
  for (const asked of [0, 499, 900, 949, 950, 999]) {
    const recent = new Recent<string, number>(100);
    for (let n = 0; n < 1_000; n++) {
      recent.set(`key ${n}`, n);
      assert.equal(recent.get("key 0"), 0);
    }
    if (asked === 0 || asked >= 951) assert.equal(recent.get(`key ${asked}`), asked);
    if (asked > 0 && asked < 900) assert.equal(recent.get(`key ${asked}`), undefined);
  }
});

test("what is deleted is gone from both generations, and a new value takes the place of an old one", () => {
  const recent = new Recent<string, number>(4);
  for (const n of [1, 2, 3]) recent.set(`key ${n}`, n);
  recent.set("key 1", 10);
  assert.equal(recent.get("key 1"), 10);
  for (const n of [1, 2, 3]) {
    recent.delete(`key ${n}`);
    assert.equal(recent.get(`key ${n}`), undefined);
  }
});
