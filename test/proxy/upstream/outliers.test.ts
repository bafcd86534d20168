/** Outlier detection and the state of health checks, with a clock that the test controls. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { HealthCheckConfig, OutlierConfig } from "../../../src/config/index.ts";
import { type CheckResult, HealthState } from "../../../src/proxy/upstream/health.ts";
import { Outliers, type UpstreamOutcome } from "../../../src/proxy/upstream/outliers.ts";
import { base, goodRoute, config as parsed } from "../../config/support.ts";

function configOf(yaml: string): OutlierConfig {
  const found = parsed(`${base}${goodRoute}    outlier_detection: ${yaml}\n`).routes[0]?.outlierDetection;
  assert.ok(found);
  return found;
}
const status = (code: number): UpstreamOutcome => ({ type: "answered", status: code });
const local: UpstreamOutcome = { type: "local" };

function rig(yaml: string, members = 10, chance = 0) {
  const events: string[] = [];
  const outliers = new Outliers(configOf(yaml), members, {
    now: 0,
    random: () => chance,
    onChange: (member, cause) => void events.push(`${member} ${cause ?? "back"}`),
  });
  const report = (member: number, outcomes: readonly UpstreamOutcome[], now = 0): void => {
    for (const outcome of outcomes) outliers.report(member, outcome, now);
  };
  return { outliers, events, report };
}
const times = (count: number, outcome: UpstreamOutcome): readonly UpstreamOutcome[] =>
  Array.from({ length: count }, () => outcome);

describe("consecutive failures", () => {
  test("five responses of 500 or above eject for 30 seconds; one success restarts the count", () => {
    const { outliers, events, report } = rig("{}");
    report(1, [...times(4, status(500)), status(404), ...times(4, status(500))]);
    assert.equal(outliers.isEjected(1), false);
    report(1, [status(503)], 5);
    assert.deepEqual([outliers.isEjected(1), events], [true, ["1 consecutive_5xx"]]);
    outliers.tick(29_000);
    assert.equal(outliers.isEjected(1), true);
    outliers.tick(40_000);
    assert.deepEqual([outliers.isEjected(1), events.at(-1)], [false, "1 back"]);
  });
  test("a second ejection lasts twice as long; quiet intervals shorten the next one", () => {
    const { outliers, report } = rig("{interval: 1s, base_ejection_time: 10s}");
    report(1, times(5, status(500)), 0);
    outliers.tick(10_000);
    report(1, times(5, status(500)), 10_500);
    outliers.tick(29_000);
    assert.equal(outliers.isEjected(1), true);
    outliers.tick(31_000);
    assert.equal(outliers.isEjected(1), false);
    report(1, times(5, status(500)), 40_000);
    outliers.tick(50_500);
    assert.equal(outliers.isEjected(1), false, "after nine quiet seconds it lasts as long as the first");
  });
  test("a failure without a response counts as 503, or separately if the route says so", () => {
    const together = rig("{consecutive_5xx: 3}");
    together.report(0, [local, status(500), local]);
    assert.deepEqual(together.events, ["0 consecutive_5xx"]);
    const split = rig(
      "{consecutive_5xx: 3, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2}",
    );
    split.report(0, [local, status(500), local]);
    assert.deepEqual(split.events, []);
    split.report(0, [local]);
    assert.deepEqual(split.events, ["0 consecutive_local_origin_failure"]);
  });
  test("gateway failures eject only if enforcing_consecutive_gateway_failure is set", () => {
    const failing = times(5, status(502));
    const off = rig("{consecutive_5xx: 100}");
    off.report(0, failing);
    assert.deepEqual(off.events, []);
    const on = rig("{consecutive_5xx: 100, enforcing_consecutive_gateway_failure: 100}");
    on.report(0, [...times(4, status(502)), status(500), ...times(4, status(504))]);
    assert.deepEqual(on.events, []);
    on.report(0, failing);
    assert.deepEqual(on.events, ["0 consecutive_gateway_failure"]);
  });
  test("enforcement may be a matter of chance", () => {
    const { events, report } = rig("{enforcing_consecutive_5xx: 30}", 10, 0.5);
    report(0, times(5, status(500)));
    assert.deepEqual(events, []);
  });
});

describe("the number of ejected members", () => {
  test("is at least one, and otherwise max_ejection_percent; with 0 it is none", () => {
    const small = rig("{}", 3);
    for (const member of [0, 1, 2]) small.report(member, times(5, status(500)));
    assert.deepEqual(small.events, ["0 consecutive_5xx"]);
    const half = rig("{max_ejection_percent: 50}", 4);
    for (const member of [0, 1, 2, 3]) half.report(member, times(5, status(500)));
    assert.deepEqual(half.events.length, 2);
    const none = rig("{max_ejection_percent: 0}", 4);
    none.report(0, times(5, status(500)));
    assert.deepEqual(none.events, []);
  });
  test("shrinks when a health check passes, unless the route disables that", () => {
    for (const [yaml, back] of [
      ["{}", true],
      ["{successful_active_health_check_uneject_host: false}", false],
    ] as const) {
      const { outliers, report } = rig(yaml);
      report(0, times(5, status(500)));
      outliers.unejectByHealth(0);
      assert.equal(outliers.isEjected(0), !back);
    }
  });
});

describe("failure rates", () => {
  const good = times(100, status(200));
  /** 100 requests with that many failures, never two in a row. */
  const failing = (count: number): readonly UpstreamOutcome[] =>
    good.map((outcome, i) => (i % 2 === 1 && i < count * 2 ? status(500) : outcome));

  test("eject a member that fails much more often than the others, once there are enough of them", () => {
    const many = rig("{max_ejection_percent: 50}", 6);
    for (let member = 0; member < 5; member++) many.report(member, good);
    many.report(5, failing(40));
    many.outliers.tick(10_000);
    assert.deepEqual(many.events, ["5 success_rate"]);
    const few = rig("{}", 4);
    for (let member = 0; member < 3; member++) few.report(member, good);
    few.report(3, failing(40));
    few.outliers.tick(10_000);
    assert.deepEqual(few.events, []);
  });
  test("eject above a threshold if enforcing_failure_percentage is set", () => {
    const yaml = "{enforcing_failure_percentage: 100, enforcing_success_rate: 0, failure_percentage_threshold: 40}";
    const { outliers, events, report } = rig(yaml, 6);
    for (let member = 0; member < 5; member++) report(member, good);
    report(5, failing(40));
    outliers.tick(9_999);
    assert.deepEqual(events, [], "not before the end of the interval");
    outliers.tick(10_000);
    assert.deepEqual(events, ["5 failure_percentage"]);
  });
});

describe("the state of health checks", () => {
  const yaml =
    "{timeout: 1s, interval: 10s, unhealthy_threshold: 3, healthy_threshold: 2, tcp_health_check: {}, unhealthy_interval: 5s, healthy_edge_interval: 1s, no_traffic_interval: 60s}";
  const check = (): HealthCheckConfig => {
    const text = `${base}${goodRoute}    health_checks: [${yaml}]\n`;
    const found = parsed(text).routes[0]?.healthChecks[0];
    assert.ok(found);
    return found;
  };
  const after = (results: readonly CheckResult[]): HealthState => {
    const health = new HealthState(check());
    for (const result of results) health.record(result);
    return health;
  };
  test("is healthy before the first check, which decides at once", () => {
    assert.equal(after([]).healthy, true);
    assert.equal(after(["fail"]).healthy, false);
    assert.equal(after(["fail", "pass", "pass"]).healthy, true);
  });
  test("changes after as many equal results in a row as the thresholds require, or at once after an explicit refusal", () => {
    assert.equal(after(["pass", "fail", "fail"]).healthy, true);
    assert.equal(after(["pass", "fail", "fail", "pass", "fail", "fail"]).healthy, true);
    assert.equal(after(["pass", "fail", "fail", "fail"]).healthy, false);
    assert.equal(after(["pass", "hard"]).healthy, false);
    assert.equal(after(["fail", "pass"]).healthy, false);
    assert.equal(after(["fail", "pass", "pass"]).healthy, true);
  });
  test("sets a longer interval without traffic", () => {
    const next = (results: readonly CheckResult[], traffic = true) => after(results).nextIn(traffic, () => 0.5);
    assert.equal(next(["pass"], false), 60_000);
    assert.equal(next(["pass"]), 1_000, "the edge");
    assert.equal(next(["pass", "pass"]), 10_000);
    assert.equal(next(["fail"]), 5_000);
    const jittered = new HealthState({ ...check(), intervalJitterMs: 100, intervalJitterPercent: 10 });
    assert.equal(
      jittered.nextIn(true, () => 0.5),
      5_000 + 50 + 250,
    );
  });
});
