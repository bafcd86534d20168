/** People's requests from the counters of a proxy. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { countsBetween, noRequests, peopleCounts } from "../../../src/cli/drill/people-metrics.ts";

const page = [
  "# TYPE cardea_proxy_requests_total counter",
  'cardea_proxy_requests_total{route="app",status="2xx"} 100',
  'cardea_proxy_requests_total{route="app",status="3xx"} 7',
  'cardea_proxy_requests_total{route="app",status="5xx",worker="1"} 3',
  'cardea_proxy_requests_total{worker="2",route="app",status="5xx"} 2',
  'cardea_proxy_requests_total{route="app",status="0xx"} 4',
  'cardea_proxy_requests_total{route="none",status="4xx"} 1.5e+3',
  'cardea_proxy_requests_total{route="canary",status="5xx"} 1000',
  'cardea_proxy_requests_total{route="can\\"ary",status="5xx"} 11',
  'cardea_proxy_request_failures_total{route="app",reason="lease"} 99',
  "",
].join("\n");

test("requests of every route count by what their status means, except the canary's", () => {
  assert.deepEqual(peopleCounts(page, "canary"), { permitted: 107, refused: 1_500, unavailable: 16, unanswered: 4 });
  assert.equal(peopleCounts(page, 'can"ary').unavailable, 1_005, "a quotation mark in the route's id");
});

test("a proxy that restarted counts from nothing again", () => {
  const before = { permitted: 100, refused: 5, unavailable: 2, unanswered: 0 };
  const later = { permitted: 130, refused: 5, unavailable: 3, unanswered: 0 };
  assert.deepEqual(countsBetween(before, later), { permitted: 30, refused: 0, unavailable: 1, unanswered: 0 });
  const restarted = { permitted: 12, refused: 0, unavailable: 1, unanswered: 0 };
  assert.deepEqual(countsBetween(before, restarted), restarted);
  assert.deepEqual(peopleCounts("", "canary"), noRequests);
});
