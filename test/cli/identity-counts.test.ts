/** What an operator hears of identities that exceed the bound of their headers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import type { Oversize } from "../../src/auth/index.ts";
import { identityCounts } from "../../src/cli/identity-counts.ts";
import type { MonotonicMs } from "../../src/events/index.ts";

const found = (outcome: Oversize["outcome"]): Oversize => ({
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
  for (let i = 0; i < 100; i++) counts.onOversize(found("reduced"));
  counts.onOversize(found("refused"));
  assert.deepEqual(
    logged.map(([, message]) => message),
    [
      "identity headers exceed their bound; the assertion names only the policy's groups",
      "identity headers exceed their bound; the request is refused",
    ],
  );
  assert.ok("code" in (logged[1]?.[0] ?? {}));
  nowMs = 60_001;
  counts.onOversize(found("reduced"));
  assert.equal(logged.length, 3);
  const metrics = await registry.metrics();
  assert.match(metrics, /cardea_identity_headers_oversize_total\{outcome="reduced"\} 101/);
  assert.match(metrics, /cardea_identity_headers_oversize_total\{outcome="refused"\} 1/);
});
