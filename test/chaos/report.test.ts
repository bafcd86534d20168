/** The report of a chaos run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { planFaults } from "../../chaos/faults/plan.ts";
import { checkHistory } from "../../chaos/judge/checker.ts";
import { type Entry, historyOf, nsPerMs } from "../../chaos/judge/history.ts";
import { measure } from "../../chaos/report/measure.ts";
import { type ReportParts, report, summaryLine } from "../../chaos/report/report.ts";
import { ending, faultOf, options, received, request, revocation, session } from "./support.ts";

function partsOf(entries: readonly Entry[], weakened: string | null = null): ReportParts {
  const history = historyOf(entries);
  const end = ending();
  return {
    name: "7",
    command: "npm run chaos -- --random --seed 7",
    plan: planFaults({ seed: 7, seconds: 120, topology: "one-region" }),
    weakened,
    history,
    ending: end,
    restarts: 0,
    takeovers: 2,
    startedAt: 0,
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
  faultOf(90, 250, { clear: 280 * nsPerMs }),
  { type: "note", at: 100 * nsPerMs, text: "broker-2 leads epoch 2" },
];

test("the last line sums up the run in numbers", () => {
  const line = summaryLine(partsOf(whole));
  assert.match(line, /^chaos 7: no violation; 1 answers judged, 0 faults of 0 kinds, 1 complete receipts, 2 takeovers/);
  assert.match(summaryLine(partsOf(broken)), /^chaos 7: 1 VIOLATIONS; /);
  assert.match(summaryLine(partsOf(whole, "a-rule")), /NOTHING NOTICED of a-rule/);
  assert.match(summaryLine(partsOf(broken, "a-rule")), /proved: 1 violations with a-rule/);
});

test("each run says how long the processes of the harness waited for a processor, together and one by one", () => {
  const load = (process: string, ranMs: number, waitedMs: number): Entry => {
    return { type: "load", process, begin: 0, end: nsPerMs, ranMs, waitedMs };
  };
  const parts = partsOf([...whole, load("main", 100, 300), load("load", 200, 200), load("main", 100, 100)]);
  const waited = "1.5 ms for each ms that they ran (main 2.0, load 1.0)";
  assert.ok(summaryLine(parts).endsWith(`our own processes waited ${waited}`), summaryLine(parts));
  assert.ok(report(parts).includes(`| our own processes waited for a processor | ${waited} |`));
  assert.match(summaryLine(partsOf(whole)), /our own processes waited an unknown time$/);
});

test("a violation is reported with the faults, the command, its receipt and the requests around it, in order", () => {
  const text = report(partsOf(broken));
  const order = [
    "fault: pause-proxy proxy-eu-1, over at 0.250, clear at 0.280",
    "broker-2 leads epoch 2",
    "revoke-1 revoke-session s1: done at 1.20 at 0.120",
    "revoke-1 receipt complete",
    "r1 plain proxy-eu-1 app: 200 by the upstream at 0.305, arrived 0.301, sent 0.302   ← this one",
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

test("the report names the command that repeats the same faults, and the planned ones", () => {
  const text = report(partsOf(whole));
  assert.match(text, /The same faults again: `npm run chaos -- --random --seed 7`/);
  assert.match(text, /## What was planned/);
});

test("the report lists every promise of a scenario with its bound and what was seen", () => {
  const promise = {
    type: "promise",
    scenario: "cut-region",
    promise: "us serves",
    begin: 10,
    end: 20,
    boundMs: 8_000,
  } as const;
  const text = report(
    partsOf([
      ...whole,
      { ...promise, kept: true, tookMs: 1_200, seen: "" },
      { ...promise, promise: "us refuses", kept: false, tookMs: null, seen: "200 | 200" },
    ]),
  );
  assert.match(text, /\| cut-region \| us serves \| 8000 ms \| 1200 ms \|/);
  assert.match(text, /\| cut-region \| us refuses \| 8000 ms \| BROKEN: 200 \/ 200 \|/);
  assert.match(text, /1 of 2 promises kept/);
  assert.match(text, /a promise of a scenario was not kept within its bound/);
});
