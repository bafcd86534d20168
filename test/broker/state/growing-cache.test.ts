import assert from "node:assert/strict";
import { test } from "node:test";
import { growingCache } from "../../../src/broker/state/growing-cache.ts";

test("the newest entries are remembered, up to its size, and the oldest are forgotten before there are twice as many", () => {
  const cache = growingCache<number, string>(100);
  for (let n = 0; n < 1_000; n += 1) cache.set(n, `${n}`);
  for (let n = 900; n < 1_000; n += 1) assert.equal(cache.get(n), `${n}`);
  for (let n = 0; n < 800; n += 1) assert.equal(cache.get(n), undefined);
});

test("what is asked for again and again stays, however much comes after it", () => {
  const cache = growingCache<number, string>(10);
  cache.set(-1, "kept");
  for (let n = 0; n < 1_000; n += 1) {
    cache.set(n, "new");
    if (n % 5 === 0) assert.equal(cache.get(-1), "kept");
  }
  assert.equal(cache.get(3), undefined);
});

test("a newer value replaces an older one, also where the older was about to be forgotten, and what was deleted is gone", () => {
  const cache = growingCache<string, number>(2);
  for (const [n, key] of ["a", "b", "c"].entries()) cache.set(key, n);
  cache.set("a", 7);
  assert.equal(cache.get("a"), 7);
  cache.delete("a");
  assert.equal(cache.get("a"), undefined);
  cache.clear();
  assert.equal(cache.get("c"), undefined);
});
