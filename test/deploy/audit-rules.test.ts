/** Alert rules on audit records, run by Prometheus' own promtool (Debian's package). */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { alertFiles, alertRules, alertRulesText, findPromtool } from "../support/alert-rules.ts";
import { TemporaryFolder } from "../support/child.ts";

const cases = readFileSync(join(import.meta.dirname, "audit-rules.yaml"), "utf8");
const options = { skip: findPromtool() === undefined ? "promtool is not installed" : false };

/** @param change of the text of the rules */
function runCases(change: (text: string) => string = (text) => text): Readonly<{ code: number | null; out: string }> {
  using folder = new TemporaryFolder("audit-rules");
  const rules = alertRulesText("audit");
  const changed = change(rules);
  writeFileSync(join(folder.path, alertFiles.audit), changed);
  writeFileSync(join(folder.path, "cases.yaml"), cases);
  const { status, stdout, stderr } = spawnSync(findPromtool() ?? "", ["test", "rules", "cases.yaml"], {
    cwd: folder.path,
    encoding: "utf8",
  });
  return { code: status, out: stdout + stderr };
}

test("the alerts fire, do not end when a process disappears, and end with their cause", options, () => {
  const { code, out } = runCases();
  assert.equal(code, 0, out);
});

const weaker: readonly (readonly [string, string, (text: string) => string])[] = [
  [
    "read the last value of a process that is gone",
    "CardeaAuditBlind",
    (text) => text.replace("last_over_time(cardea_audit_blind_records[1h])", "cardea_audit_blind_records"),
  ],
  [
    "see a process that began with a loss",
    "CardeaAuditRecordsLost",
    (text) => text.replace(/\n +or \(cardea_audit_sink_lost_records > 0\).*/, ""),
  ],
];
for (const [what, alert, change] of weaker)
  test(`the cases refuse rules that do not ${what}`, options, () => {
    assert.notEqual(change(alertRulesText("audit")), alertRulesText("audit"));
    const { code, out } = runCases(change);
    assert.equal(code, 1, out);
    assert.ok(out.includes(`alertname: ${alert}`), out);
  });

test("each alert has a case and a line on the page", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
  for (const { alert } of alertRules("audit")) {
    assert.ok(cases.includes(`alertname: ${alert}`), `no case for ${alert}`);
    assert.match(page, new RegExp(`^\\| (\`\\w+\`, )*\`${alert}\``, "m"), `docs/operations.md does not have ${alert}`);
  }
});
