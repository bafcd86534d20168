/**
 * Alert rules of deploy/prometheus, run by Prometheus' own promtool (Debian's package): each alert fires, does not end
 * when a process disappears, and ends with its cause.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse, stringify } from "yaml";
import { alertFiles, alertRules, alertRulesText, findPromtool } from "../support/alert-rules.ts";
import { TemporaryFolder } from "../support/child.ts";

const casesText = readFileSync(join(import.meta.dirname, "prometheus-rules.yaml"), "utf8");
const cases: CaseFile = parse(casesText, { merge: true });
const options = { skip: findPromtool() === undefined ? "promtool is not installed" : false };
const files = ["home", "region"] as const;

/** The cases that name the alert: a weaker rule needs no others. */
function casesOf(alert: string): CaseFile {
  const tests = cases.tests.filter((one) => one.alert_rule_test?.some(({ alertname }) => alertname === alert));
  return { ...cases, tests };
}

type Case = Readonly<{ interval: string; alert_rule_test?: readonly { alertname: string }[] }>;
type CaseFile = Readonly<{ evaluation_interval: string; tests: readonly Case[] }>;

/** Rules are evaluated as often as the file says. Cases of hours, whose series have a value a minute, need a minute. */
function filesOf(some: CaseFile): readonly CaseFile[] {
  const isShort = ({ interval }: Case): boolean => interval.endsWith("s");
  return [
    { ...some, tests: some.tests.filter(isShort) },
    { ...some, evaluation_interval: "1m", tests: some.tests.filter((one) => !isShort(one)) },
  ].filter(({ tests }) => tests.length > 0);
}

/** @param change of the text of each rule file */
function runCases(
  change: (text: string) => string = (text) => text,
  some: CaseFile = cases,
): Readonly<{ code: number | null; out: string }> {
  using folder = new TemporaryFolder("prometheus-rules");
  for (const file of files) writeFileSync(join(folder.path, alertFiles[file]), change(alertRulesText(file)));
  const names = filesOf(some).map((file, index) => {
    writeFileSync(join(folder.path, `cases-${index}.yaml`), stringify(file, { aliasDuplicateObjects: false }));
    return `cases-${index}.yaml`;
  });
  const { status, stdout, stderr } = spawnSync(findPromtool() ?? "", ["test", "rules", ...names], {
    cwd: folder.path,
    encoding: "utf8",
  });
  return { code: status, out: stdout + stderr };
}

test(
  "the alerts fire, do not end when a process disappears or the leader changes, and end with their cause",
  options,
  () => {
    const { code, out } = runCases();
    assert.equal(code, 0, out);
  },
);

const weaker: readonly (readonly [string, string, (text: string) => string])[] = [
  ["keep firing over a failover", "CardeaNodeAbsent", (text) => text.replaceAll(/^.*keep_firing_for: .*\n/gm, "")],
  [
    "read the last value of a broker that is gone",
    "CardeaRevocationsUnmerged",
    (text) => text.replaceAll(/last_over_time\(\(?(\w+)(?: >= 0\))?\[[\w:]+\]\)/g, "$1"),
  ],
  [
    "keep what a broker holds while it changes its part",
    "CardeaRevocationsUnmerged",
    (text) => text.replace("(cardea_broker_local_unmerged >= 0)[1d:1m]", "cardea_broker_local_unmerged[1d]"),
  ],
  [
    "see that no broker can take its part",
    "CardeaNoLeader",
    (text) =>
      text.replace(
        "absent(cardea_broker_leading == 1)",
        "max(cardea_broker_leading) == 0 or absent(cardea_broker_leading)",
      ),
  ],
];
for (const [what, alert, change] of weaker)
  test(`the cases refuse rules that do not ${what}`, options, () => {
    // The same cases pass with the rules as they are, above.
    const { code, out } = runCases(change, casesOf(alert));
    assert.equal(code, 1, out);
    assert.ok(out.includes(`alertname: ${alert}`), out);
  });

test("each alert has a case and a line on the page", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
  for (const { alert } of files.flatMap(alertRules)) {
    assert.ok(casesText.includes(`alertname: ${alert}`), `no case for ${alert}`);
    assert.ok(page.includes(`| \`${alert}\` |`), `docs/operations.md does not have ${alert}`);
  }
});
