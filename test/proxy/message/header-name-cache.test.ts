/** Caches of header names and values, which callers and upstreams choose: their size in bytes is limited. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { cachedBytesMax, HeaderNameCache } from "../../../src/proxy/message/header-name-cache.ts";
import { HeaderValueCheck } from "../../../src/proxy/message/header-values.ts";
import { recordedMethod, recordedPath } from "../../../src/proxy/message/recorded-text.ts";
import { publicAccess, routeTo, startRig, startUpstream } from "../support.ts";

test("the cache of header names is limited in bytes, and a flood of names does not evict the common ones", () => {
  const names = new HeaderNameCache<number>();
  let bytes = 0;
  let sizeMax = 0;
  for (let i = 0; i < 100_000; i++) {
    names.add(`x-random-${i}`, i);
    sizeMax = Math.max(sizeMax, names.size);
    bytes = Math.max(bytes, names.size * `x-random-${i}`.length);
  }
  assert.ok(bytes <= cachedBytesMax);
  assert.ok(sizeMax > 100, "enough for the names of ordinary requests");
  names.add("x".repeat(10_000), 1);
  assert.equal(names.get("x".repeat(10_000)), undefined);
  names.add("accept", 7);
  assert.equal(names.get("accept"), 7);
});

test("the cache of checked header values is limited in bytes", () => {
  const values = new HeaderValueCheck();
  for (let i = 0; i < 1_000; i++) assert.ok(values.isWritable(`${i}`.padEnd(4_000, "v")));
  assert.ok(!values.isWritable(`${"v".repeat(200)}\n`));
});

test("a decision record keeps at most 2 KB of a path and 32 characters of a method", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const path = `/${"p".repeat(10_000)}`;
  assert.equal((await rig.request({ path })).status, 200);
  const record = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.equal(record.path, `/${"p".repeat(2_047)}…(+7953)`);
  assert.equal(upstream.seen.at(-1)?.url, path, "the request itself is not truncated");
  assert.equal(recordedPath("/short"), "/short");
  assert.equal(recordedMethod("M".repeat(5_000)), "M".repeat(32));
});
