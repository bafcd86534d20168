/** The report of a chaos run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkHistory } from "../../chaos/checker.ts";
import { type Entry, historyOf, nsPerMs } from "../../chaos/history.ts";
import { measure } from "../../chaos/measure.ts";
import { planFaults } from "../../chaos/plan.ts";
import { type ReportParts, report, summaryLine } from "../../chaos/report.ts";
import { ending, options, received, request, revocation, session } from "./support.ts";

function partsOf(entries: readonly Entry[], weakened: string | null = null): ReportParts {
  const history = historyOf(entries);
  const end = ending();
  return {
    plan: planFaults({ seed: 7, seconds: 120, proxies: 3, natsServers: 3 }),
    ...{ weakened, history, ending: end, restarts: 0, takeovers: 2, startedAt: 0 },
    measures: measure(history, options),
    violations: checkHistory(history, end, options).violations,
  };
}

const whole = [session(), ...revocation(200), request({ begin: 50, end: 55, arrived: 51, sent: 52 })];
const broken: Entry[] = [
  session(),
  ...revocation(200),
  request({ begin: 300, end: 305, arrived: 301, sent: 302 }),
  received(302, 304),
  {
    type: "fault",
    ...{
      index: 0,
      what: "pause-proxy",
      target: "proxy-1",
      begin: 90 * nsPerMs,
      end: 250 * nsPerMs,
      clear: 280 * nsPerMs,
    },
    problem: "",
  },
  { type: "note", at: 100 * nsPerMs, text: "broker-2 leads epoch 2" },
];

test("the last line sums up the run in numbers", () => {
  const line = summaryLine(partsOf(whole));
  assert.match(line, /^chaos 7: no violation; 1 answers judged, 0 faults of 0 kinds, 1 complete receipts, 2 takeovers/);
  assert.match(summaryLine(partsOf(broken)), /^chaos 7: 1 VIOLATIONS; /);
  assert.match(summaryLine(partsOf(whole, "a-rule")), /NOTHING NOTICED of a-rule/);
  assert.match(summaryLine(partsOf(broken, "a-rule")), /proved: 1 violations with a-rule/);
});

test("a violation is reported with the faults, the command, its receipt and the requests around it, in order", () => {
  const text = report(partsOf(broken));
  const order = [
    "fault: pause-proxy proxy-1, over at 0.250, clear at 0.280",
    "broker-2 leads epoch 2",
    "revoke-1 revoke-session s1: done at 1.20 at 0.120",
    "revoke-1 receipt complete",
    "r1 plain proxy-1 app: 200 by the upstream at 0.305, arrived 0.301, sent 0.302   ← this one",
    "r1 received what was sent at 0.302",
  ].map((words) => text.indexOf(words));
  assert.ok(
    order.every((offset) => offset > 0),
    JSON.stringify(order),
  );
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test("the report names the command that repeats the same faults", () => {
  assert.match(report(partsOf(whole)), /npm run chaos -- --seed 7 --seconds 120`/);
  assert.match(report(partsOf(whole, "a-rule")), /--seed 7 --seconds 120 --prove --rule a-rule`/);
});
