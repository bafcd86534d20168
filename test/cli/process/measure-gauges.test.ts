/** Gauges of named measures: metric names, units and removal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { createMeasureGauges, measureName } from "../../../src/cli/process/measure-gauges.ts";

test("each measure has its own metric name, and times are in seconds", async () => {
  for (const [measure, name] of [
    ["applied", "applied"],
    ["commitsWait", "commits_wait"],
    ["homeSilentMs", "home_silent_seconds"],
    ["queuedBytes", "queued_bytes"],
    ["requests2xx", "requests_2xx"],
  ] as const)
    assert.equal(measureName(measure), name);
  const registry = new Registry();
  const gauges = createMeasureGauges(registry, { prefix: "cardea_region", help: "A region", labelNames: ["region"] });
  gauges.set("lag", 3, { region: "west" });
  gauges.set("silentMs", 1_500, { region: "west" });
  const page = await registry.metrics();
  assert.match(page, /^cardea_region_lag\{region="west"\} 3$/m);
  assert.match(page, /^cardea_region_silent_seconds\{region="west"\} 1\.5$/m);
  gauges.reset();
  assert.doesNotMatch(await registry.metrics(), /region="west"/, "a removed region leaves no sample");
});
