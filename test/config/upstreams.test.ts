/** The upstream settings of a route: accepted and refused values, and the location of each problem. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { base, config, errors, goodRoute, problems, warnings } from "./support.ts";

const route = (lines: string, global = "") => config(`${base}${global}${goodRoute}${lines}`).routes[0];
const usual = "timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 1";

test("load-balancing policies accept every spelling of Envoy and Pomerium", () => {
  for (const written of ["LEAST_REQUEST", "least_request", "LB_POLICY_LEAST_REQUEST"])
    assert.equal(route(`    load_balancing_policy: ${written}\n`)?.balancing.policy, "least_request");
  assert.equal(route("")?.balancing.policy, "round_robin");
});

test("the settings of an unselected policy have no effect, which is a warning", () => {
  assert.deepEqual(warnings(`${base}${goodRoute}    ring_hash_lb_config: {minimum_ring_size: 64}\n`), [
    "c.yaml:17:5: routes[0].ring_hash_lb_config: has no effect with load_balancing_policy: round_robin; remove it",
  ]);
});

test("thresholds come from the route, then the global settings, then Envoy's defaults", () => {
  assert.deepEqual(route("")?.circuitBreakers, {
    ...{ connections: 1_024, pending: 1_024, requests: 1_024, retries: 3, streams: 65_536 },
  });
  const global = "circuit_breaker_thresholds: {max_requests: 10, max_retries: 1}\n";
  assert.deepEqual(
    route("    circuit_breaker_thresholds: {max_requests: 20, max_connections: 5}\n", global)?.circuitBreakers,
    {
      ...{ connections: 5, pending: 1_024, requests: 20, retries: 1, streams: 20 },
    },
  );
});

test("an https upstream is offered HTTP/2, unless the route or the global settings say otherwise", () => {
  const secure = (lines: string, global = "") =>
    config(`${base}${global}${goodRoute.replace("http://127", "https://127")}${lines}`).routes[0]?.upstreamCodecType;
  const http1 = "upstream_codec_type: http1\n";
  assert.deepEqual([secure(""), secure(`    ${http1}`), secure("", http1)], ["auto", "http1", "http1"]);
  assert.equal(secure("    upstream_codec_type: auto\n", http1), "auto");
  assert.deepEqual(warnings(`${base}${goodRoute}    ${http1}`), [
    "c.yaml:17:5: routes[0].upstream_codec_type: has no effect without an https upstream; remove it",
  ]);
});

test("outlier_detection: {} enables it; without the key it is off", () => {
  assert.equal(route("")?.outlierDetection, null);
  assert.equal(route("    outlier_detection: {}\n")?.outlierDetection?.consecutive5xx, 5);
  assert.equal(route("    outlier_detection: {consecutive_5xx: 12}\n")?.outlierDetection?.consecutive5xx, 12);
});

test("a panic threshold is a percentage, also in Envoy's form", () => {
  const checks = `    health_checks: [{${usual}, tcp_health_check: {}}]\n`;
  for (const written of ["30", "{value: 30}", "30%"])
    assert.equal(route(`${checks}    healthy_panic_threshold: ${written}\n`)?.balancing.panicThreshold, 30);
});

test("a Unix socket upstream is an absolute path without a query", () => {
  const to = (written: string) => `${base}${goodRoute.replace("http://127.0.0.1:8091", written)}`;
  assert.equal(config(to("unix:///run/app.sock")).routes[0]?.to[0]?.url.href, "unix:///run/app.sock");
  assert.equal(config(to("https+unix:///run/app.sock")).routes[0]?.to[0]?.url.protocol, "https+unix:");
  for (const wrong of ["unix://run/app.sock", "unix:///run/app.sock?x", "unix:///a/../b"])
    assert.deepEqual(errors(to(wrong)), [
      `c.yaml:13:9: routes[0].to: "${wrong}" is not a socket; write unix:///run/app.sock`,
    ]);
});

suite("an invalid setting is refused", () => {
  const table: readonly (readonly [lines: string, problem: string])[] = [
    [
      "    load_balancing_policy: FASTEST\n",
      '17:28: routes[0].load_balancing_policy: "FASTEST" is not known here; write one of round_robin, least_request, random, ring_hash, maglev',
    ],
    [
      "    health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, tcp_health_check: {}}]\n",
      "17:21: routes[0].health_checks[0]: healthy_threshold is missing; write healthy_threshold",
    ],
    [
      `    health_checks: [{${usual}}]\n`,
      "17:21: routes[0].health_checks[0]: none of http_health_check, tcp_health_check, grpc_health_check is given; write exactly one",
    ],
    [
      `    health_checks: [{${usual}, tcp_health_check: {}, htttp_health_check: {path: /}}]\n`,
      "17:137: routes[0].health_checks[0].htttp_health_check: htttp_health_check is not a known key here; did you mean http_health_check?",
    ],
    [
      `    health_checks: [{${usual}, tcp_health_check: {}, tpc_health_check: {}}]\n`,
      "17:135: routes[0].health_checks[0].tpc_health_check: tpc_health_check is not a known key here; remove it: tcp_health_check is already set here",
    ],
    [
      `    health_checks: [{${usual}, http_health_check: {path: healthz}}]\n`,
      '17:121: routes[0].health_checks[0].http_health_check.path: "healthz" is not a path; write one such as /healthz',
    ],
    [
      `    health_checks: [{${usual}, http_health_check: {path: /, expected_statuses: [{start: 300, end: 200}]}}]\n`,
      "17:144: routes[0].health_checks[0].http_health_check.expected_statuses[0]: a mapping is not a range of statuses; write - {start: 200, end: 300}; the end is exclusive",
    ],
    [
      `    health_checks: [{${usual}, tcp_health_check: {send: {text: xyz}}}]\n`,
      "17:120: routes[0].health_checks[0].tcp_health_check.send: is not a payload; write {text: …} with its bytes in hexadecimal, or {binary: …} in base64",
    ],
    [
      "    health_checks: []\n    healthy_panic_threshold: 101\n",
      "18:30: routes[0].healthy_panic_threshold: 101 is not a percentage; write a number from 0 to 100",
    ],
    [
      "    outlier_detection: {consecutive_5x: 1}\n",
      "17:25: routes[0].outlier_detection.consecutive_5x: is not a known key; did you mean consecutive_5xx?",
    ],
    [
      "    load_balancing_policy: MAGLEV\n    maglev_lb_config: {table_size: 100}\n",
      "18:36: routes[0].maglev_lb_config.table_size: 100 is not a prime number up to 5000011; write one such as 65537",
    ],
    [
      "    load_balancing_policy: RING_HASH\n    ring_hash_lb_config: {minimum_ring_size: 100, maximum_ring_size: 10}\n",
      "18:46: routes[0].ring_hash_lb_config.minimum_ring_size: is larger than maximum_ring_size; make it smaller",
    ],
  ];
  for (const [lines, problem] of table)
    test(problem, () => assert.deepEqual(errors(`${base}${goodRoute}${lines}`), [`c.yaml:${problem}`]));
});

test("HTTP/2 is selected by h2 (with TLS) and h2c (without); neither is allowed for a TCP service", () => {
  for (const to of [
    "h2://a.internal",
    "H2://a.internal:8443/path",
    "h2c://a.internal:8080",
    "[h2://a.internal, https://b.internal]",
  ])
    assert.deepEqual(
      problems(
        `${base}routes:\n  - from: https://x.example.com\n    to: ${to}\n    allow_any_authenticated_user: true\n`,
      ),
      [],
      to,
    );
  const wrong = `${base}routes:\n  - from: https://x.example.com\n    to: h2://a.internal?b\n    allow_any_authenticated_user: true\n`;
  assert.match(errors(wrong).join(), /an upstream has a query/);
});

test("a TCP route leads to services or to other proxies, never both; a UDP route only to services", () => {
  const routeOf = (from: string, to: string, more = ""): string =>
    `${base}routes:\n  - from: ${from}\n    to: ${to}\n    allow_any_authenticated_user: true\n${more}`;
  const tcp = "tcp+https://db.example.com:5432";
  for (const to of ["tcp://10.0.0.1:5432", "https://proxy.internal", "[http://a.internal:8080, https://b.internal/]"])
    assert.deepEqual(problems(routeOf(tcp, to)), [], to);
  for (const to of [
    "[tcp://10.0.0.1:5432, https://proxy.internal]",
    "https://proxy.internal/path",
    "h2c://a.internal",
    "h2://a.internal",
  ])
    assert.equal(errors(routeOf(tcp, to)).length, 1, to);
  assert.equal(errors(routeOf("udp+https://dns.example.com:53", "https://proxy.internal")).length, 1);
  const header = "    set_request_headers: {A: b}\n";
  assert.deepEqual(problems(routeOf(tcp, "https://proxy.internal", header)), []);
  assert.equal(warnings(routeOf(tcp, "tcp://10.0.0.1:5432", header)).length, 1);
});
