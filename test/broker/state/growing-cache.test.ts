/** The cache that discards its oldest generation. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createGrowingCache } from "../../../src/broker/state/growing-cache.ts";

test("the newest entries are kept, up to the size, and the oldest dropped before there are twice as many", () => {
  const cache = createGrowingCache<number, string>(100);
  for (let n = 0; n < 1_000; n += 1) cache.set(n, `${n}`);
  for (let n = 900; n < 1_000; n += 1) assert.equal(cache.get(n), `${n}`);
  for (let n = 0; n < 800; n += 1) assert.equal(cache.get(n), undefined);
});

test("an entry that is read repeatedly stays, however many entries follow", () => {
  const cache = createGrowingCache<number, string>(10);
  cache.set(-1, "kept");
  for (let n = 0; n < 1_000; n += 1) {
    cache.set(n, "new");
    if (n % 5 === 0) assert.equal(cache.get(-1), "kept");
  }
  assert.equal(cache.get(3), undefined);
});

test("a newer value replaces an older one, even one about to be dropped, and a deleted entry is gone", () => {
  const cache = createGrowingCache<string, number>(2);
  for (const [n, key] of ["a", "b", "c"].entries()) cache.set(key, n);
  cache.set("a", 7);
  assert.equal(cache.get("a"), 7);
  cache.delete("a");
  assert.equal(cache.get("a"), undefined);
  cache.clear();
  assert.equal(cache.get("c"), undefined);
});
