/** Reading one value from a page of metrics. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { metricIn } from "../../chaos/run/metric.ts";
import { sampleIn } from "../../chaos/run/node-watch.ts";
import { lease } from "../../chaos/world.ts";

const page = `# HELP cardea_region_lag lag
cardea_region_lag_max 9
cardea_region_lag{region="us"} 3
cardea_region_lag{region="ap"} 4
cardea_lease_overdue_seconds +Inf
cardea_replica_applied 120
`;

test("a measure is found by its whole name and its labels", () => {
  assert.equal(metricIn(page, "cardea_replica_applied"), 120);
  assert.equal(metricIn(page, "cardea_region_lag", { region: "ap" }), 4);
  assert.equal(metricIn(page, "cardea_lease_overdue_seconds"), Number.POSITIVE_INFINITY);
  assert.equal(metricIn(page, "cardea_region"), undefined);
  assert.equal(metricIn(page, "cardea_region_lag", { region: "eu" }), undefined);
});

test("the age of a lease is known of a process that holds one, and of no other", () => {
  const node = (overdue: string): string => `cardea_replica_applied 120\ncardea_lease_overdue_seconds ${overdue}\n`;
  assert.deepEqual(sampleIn(node("-0.5")), { position: 120, leaseAgeMs: lease.leaseMs - 500 });
  assert.deepEqual(sampleIn(node("+Inf")), { position: 120, leaseAgeMs: null });
  const reader = "cardea_broker_applied 121\ncardea_lease_overdue_seconds 0\n";
  assert.deepEqual(sampleIn(reader), { position: 121, leaseAgeMs: null }, "a broker that reads the log itself");
  assert.deepEqual(sampleIn(""), { position: null, leaseAgeMs: null }, "no answer");
});
