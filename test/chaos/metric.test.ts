/** Reading one value from a page of metrics. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { metricIn } from "../../chaos/run/metric.ts";

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
