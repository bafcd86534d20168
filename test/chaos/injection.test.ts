/** What a fault of a whole region isolates, wherever the home region is. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isolatedBy, touchedBy } from "../../chaos/faults/injection.ts";

const cluster = { regions: [{ name: "eu" }, { name: "us" }, { name: "ap" }] };

test("a region that is cut off from all others gets no lease, unless it is the home region: then the others get none", () => {
  assert.deepEqual(isolatedBy({ cluster, home: { name: "eu" } }, "us"), ["us"]);
  assert.deepEqual(isolatedBy({ cluster, home: { name: "us" } }, "us"), ["eu", "ap"]);
});

test("a fault of the home region touches every region", () => {
  assert.deepEqual(touchedBy({ cluster, home: { name: "eu" } }, "us"), ["us"]);
  assert.deepEqual(touchedBy({ cluster, home: { name: "us" } }, "us"), ["us", "eu", "ap"]);
});
