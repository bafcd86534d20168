/** The generational cache: keeps recent entries, bounded by number or by weight. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { GenerationalCache } from "../../../src/events/session-index/generational-cache.ts";

test("the newest entries are kept, the oldest dropped, and an entry that is read stays", () => {
  for (const number of [0, 499, 900, 949, 950, 999]) {
    const recent = new GenerationalCache<string, number>(100);
    for (let n = 0; n < 1_000; n++) {
      recent.set(`key ${n}`, n);
      assert.equal(recent.get("key 0"), 0);
    }
    if (number === 0 || number >= 951) assert.equal(recent.get(`key ${number}`), number);
    if (number > 0 && number < 900) assert.equal(recent.get(`key ${number}`), undefined);
  }
});

test("weighted values are bounded by weight, not by number", () => {
  const recent = new GenerationalCache<number, string>(1_000, (text) => text.length);
  const totalWeight = (): number => [...recent.keys()].reduce((sum, key) => sum + (recent.get(key)?.length ?? 0), 0);
  for (let n = 0; n < 500; n++) recent.set(n, "x".repeat(n % 50));
  assert.ok(totalWeight() <= 1_000);
  for (let n = 0; n < 100; n++) recent.set(1_000, "x".repeat(n)); // a repeated key counts with its newest weight only
  recent.set(1_001, "x".repeat(400));
  assert.equal(recent.get(1_000)?.length, 99);
  recent.set(1_002, "x".repeat(5_000));
  assert.equal(recent.get(1_002)?.length, 5_000, "a value above the bound is kept alone");
  recent.set(1_003, "x");
  recent.set(1_004, "x".repeat(500));
  assert.equal(recent.keys().has(1_001), false);
});

test("a deleted entry is gone from both generations, and a new value replaces an old one", () => {
  const recent = new GenerationalCache<string, number>(4);
  for (const n of [1, 2, 3]) recent.set(`key ${n}`, n);
  recent.set("key 1", 10);
  assert.equal(recent.get("key 1"), 10);
  for (const n of [1, 2, 3]) {
    recent.delete(`key ${n}`);
    assert.equal(recent.get(`key ${n}`), undefined);
  }
});
