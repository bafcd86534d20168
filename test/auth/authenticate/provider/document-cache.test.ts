/** Document cache: how often a provider has to serve its documents, whatever callers do and however it fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CacheLimits, createCachedDocument } from "../../../../src/auth/authenticate/provider/document-cache.ts";
import { fc } from "../../../support/property.ts";

const limits: CacheLimits = {
  ...{ freshMs: 600_000, usableMs: 3_600_000, demandedEveryMs: 10_000 },
  ...{ firstPauseMs: 1_000, pauseMsMax: 60_000 },
};

function startCache() {
  const at = { now: 0, isDown: false, version: 1 };
  const starts: number[] = [];
  const cache = createCachedDocument(
    async () => {
      starts.push(at.now);
      if (at.isDown) throw new Error("down");
      return `document ${at.version}`;
    },
    { limits, monotonic: () => at.now },
  );
  return { at, starts, cache };
}

test("callers that come together cause one fetch", async () => {
  const { starts, cache } = startCache();
  assert.deepEqual(await Promise.all([cache.read(), cache.read(), cache.read()]), [
    "document 1",
    "document 1",
    "document 1",
  ]);
  assert.equal(starts.length, 1);
});

test("a document that is no longer fresh still serves at once, and is fetched beside that", async () => {
  const { at, starts, cache } = startCache();
  await cache.read();
  at.now = limits.freshMs;
  at.version = 2;
  assert.equal(await cache.read(), "document 1");
  assert.equal(await cache.read(), "document 2");
  assert.deepEqual(starts, [0, limits.freshMs]);
});

test("while a provider is down the old document serves until it is too old, and then its error", async () => {
  const { at, cache } = startCache();
  await cache.read();
  at.isDown = true;
  for (at.now = 0; at.now < limits.usableMs; at.now += 60_000) assert.equal(await cache.read(), "document 1");
  await assert.rejects(cache.read(), /down/);
  at.isDown = false;
  at.now += limits.pauseMsMax;
  at.version = 2;
  assert.equal(await cache.read(), "document 2");
});

test("a flood of demands for a newer document fetches at most once in its interval", async () => {
  const { at, starts, cache } = startCache();
  const known = await cache.read();
  for (at.now = 1; at.now <= 60_000; at.now += 5) {
    const newer = await cache.readNewer(known);
    assert.equal(newer, "document 1");
  }
  assert.ok(starts.length <= 1 + 60_000 / limits.demandedEveryMs, `${starts.length} fetches`);
});

test("a demand is met by a document that another caller has fetched meanwhile", async () => {
  const { at, starts, cache } = startCache();
  const known = await cache.read();
  at.now = limits.demandedEveryMs;
  at.version = 2;
  assert.equal(await cache.readNewer(known), "document 2");
  assert.equal(await cache.readNewer(known), "document 2");
  assert.equal(starts.length, 2);
});

test("after failures the pauses double up to their bound, for a provider that never answered, too", async () => {
  const { at, starts, cache } = startCache();
  at.isDown = true;
  for (at.now = 0; at.now < 300_000; at.now += 100) await assert.rejects(cache.read(), /down/);
  const pauses = starts.slice(1).map((start, i) => start - (starts[i] ?? 0));
  assert.deepEqual(pauses.slice(0, 7), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
  assert.ok(Math.max(...pauses) <= limits.pauseMsMax);
});

test("whatever callers demand and whenever it fails, fetches are bounded and never overlap", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          waitMs: fc.integer({ min: 0, max: 5_000 }),
          demand: fc.constantFrom("any", "newer", "both"),
          isDown: fc.boolean(),
        }),
        { maxLength: 200 },
      ),
      async (steps) => {
        const { at, starts, cache } = startCache();
        let known = "";
        for (const { waitMs, demand, isDown } of steps) {
          at.now += waitMs;
          at.isDown = isDown;
          const reads = demand === "any" ? [cache.read()] : [cache.readNewer(known), cache.readNewer(known)];
          for (const read of await Promise.allSettled([...reads, ...(demand === "both" ? [cache.read()] : [])]))
            if (read.status === "fulfilled") known = read.value;
        }
        // At most one fetch in each interval of the shortest pause.
        assert.ok(starts.length <= 2 + at.now / limits.firstPauseMs, `${starts.length} in ${at.now} ms`);
        for (const [i, start] of starts.slice(1).entries())
          assert.ok(start - (starts[i] ?? 0) >= limits.firstPauseMs, "two fetches within the shortest pause");
      },
    ),
  );
});
