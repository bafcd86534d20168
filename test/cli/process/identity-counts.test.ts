/** Metrics of identity: oversized headers, code exchanges, refreshes, and the age of the claims of providers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import { countRefresh, newRefreshMemory } from "../../../src/auth/authenticate/provider/refresh-memory.ts";
import type { OversizeIdentity } from "../../../src/auth/index.ts";
import { identityCounts } from "../../../src/cli/process/identity-counts.ts";
import { registerRefreshCounts } from "../../../src/cli/process/refresh-counts.ts";
import type { MonotonicMs } from "../../../src/events/index.ts";

const oversize = (outcome: OversizeIdentity["outcome"]): OversizeIdentity => ({
  ...{ outcome, routeId: "wiki", userId: "user-1" },
  ...{ bytes: 256_000, bytesMax: 16_384, groupsOmitted: 4_999 },
});

test("every oversize identity is counted, and each outcome is logged once a minute", async () => {
  const registry = new Registry();
  const logged: [fields: object, message: string][] = [];
  let nowMs = 0;
  const counts = identityCounts(registry, {
    logger: { warn: (fields, message) => void logged.push([fields, message ?? ""]) },
    now: () => nowMs as MonotonicMs,
  });
  for (let i = 0; i < 100; i++) counts.onOversize(oversize("reduced"));
  counts.onOversize(oversize("refused"));
  assert.deepEqual(
    logged.map(([, message]) => message),
    [
      "identity headers exceed their bound; the assertion names only the policy's groups",
      "identity headers exceed their bound; the request is refused",
    ],
  );
  assert.ok("code" in (logged[1]?.[0] ?? {}));
  nowMs = 60_001;
  counts.onOversize(oversize("reduced"));
  assert.equal(logged.length, 3);
  const metrics = await registry.metrics();
  assert.match(metrics, /cardea_identity_headers_oversize_total\{outcome="reduced"\} 101/);
  assert.match(metrics, /cardea_identity_headers_oversize_total\{outcome="refused"\} 1/);
});

test("refreshes are counted by the provider's client and result; memberships have an age", async () => {
  const registry = new Registry();
  const memory = newRefreshMemory();
  registerRefreshCounts(registry, memory, (idpId) => (idpId === "main" ? "cardea" : idpId));
  countRefresh(memory, "main", "refreshed");
  for (let i = 0; i < 3; i++) countRefresh(memory, "main", "provider-down");
  Object.assign(memory.ages, { sessions: 2, oldestS: 7_200, meanS: 3_600 });
  const metrics = await registry.metrics();
  assert.match(metrics, /^cardea_session_refreshes_total\{client="cardea",result="refreshed"\} 1$/m);
  assert.match(metrics, /^cardea_session_refreshes_total\{client="cardea",result="provider-down"\} 3$/m);
  assert.match(metrics, /^cardea_session_refreshes_total\{client="cardea",result="refused"\} 0$/m);
  assert.match(metrics, /^cardea_sessions_in_refresh_grace 0$/m);
  assert.match(metrics, /^cardea_membership_age_seconds\{stat="oldest"\} 7200$/m);
  assert.match(metrics, /^cardea_membership_age_seconds\{stat="mean"\} 3600$/m);
});
