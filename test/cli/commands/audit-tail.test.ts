/** Lines of `cardea audit tail`: whatever a record holds, no control character reaches the terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { escapeControls } from "../../../src/cli/commands/audit.ts";
import { formatAuditLine } from "../../../src/cli/operator/audit-line.ts";
import { samples } from "../../audit/samples.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none
const controls = /[\u0000-\u001f\u007f-\u009f\u202e\u2028]/;
const hostile = "\u001b]0;owned\u0007\u009b2J\r\n\u0085\u202e\u2028";

const plain = { names: new Map<string, string>(), columns: null, hasColours: false };
const auditLineOf = (record: AuditRecord): string => formatAuditLine(record, plain);

/** The record with the hostile text in each of its texts. */
function poisoned(value: unknown): unknown {
  if (typeof value === "string") return `${value}${hostile}`;
  if (Array.isArray(value)) return value.map(poisoned);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, key === "kind" ? one : poisoned(one)]));
}

for (const [name, record] of Object.entries(samples))
  test(`a record with terminal escapes in every text is one harmless line: ${name}`, () => {
    const made = poisoned(record) as AuditRecord;
    assert.doesNotMatch(auditLineOf(made), controls);
    const names = new Map([["u-1", hostile]]);
    for (const columns of [20, 79, 120, 240])
      assert.doesNotMatch(formatAuditLine(made, { names, columns, hasColours: false }), controls);
    const json = escapeControls(JSON.stringify(made));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none
    assert.doesNotMatch(json, /[\u0000-\u001f\u007f-\u009f]/);
    assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(made)), "the JSON says the same");
  });

test("acts of operators and sign-ins have their own lines", () => {
  const line = (name: string): string => auditLineOf(samples[name] as AuditRecord);
  assert.match(
    line("operator"),
    /OPERATOR +done {2}node-1 {2}user:u-admin {2}suspendUser user:u-1 {2}\[left the company\] {2}@3\.1207/,
  );
  assert.match(line("refused"), /OPERATOR +refused .*\(no-such-user\)/);
  assert.match(line("signIn"), /SIGN-IN +done/);
  assert.match(line("signOut"), /SIGN-OUT +unavailable/);
});

const decided = (more: object = {}): AuditRecord => ({ ...samples["decision"], ...more }) as AuditRecord;
// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
const colours = /\u001b\[\d+m/g;

test("on a terminal the lines are aligned, cut to its width, and coloured by result", () => {
  const long = decided({ path: `/${"ä".repeat(300)}`, userId: "u-1" });
  const short = decided({ path: "/", userId: null, result: "deny", status: 403 });
  for (const columns of [30, 64, 80, 110, 150, 200]) {
    const lines = [long, short].map((record) => formatAuditLine(record, { ...plain, columns, hasColours: true }));
    const bare = lines.map((line) => line.replace(colours, ""));
    for (const line of bare) assert.ok(line.length <= columns, `${line.length} of ${columns}: ${line}`);
    const at = bare.map((line) => line.indexOf(" GET "));
    assert.equal(at[0], at[1], bare.join("\n"));
  }
  const line = (record: AuditRecord, hasColours: boolean): string =>
    formatAuditLine(record, { ...plain, columns: 120, hasColours });
  assert.ok(line(long, true).includes("\u001b[32mpermit"));
  assert.ok(line(short, true).includes("\u001b[31mdeny"));
  assert.doesNotMatch(line(short, false), colours);
});

test("a record of another version, or of a stranger, is a line too", () => {
  const strange: readonly object[] = [
    decided({ at: 1e300 }),
    decided({ applied: undefined, userId: {}, routeName: 7 }),
    decided({ result: "constructor" }),
    { ...samples["operator"], link: undefined, code: undefined, reason: undefined, actor: undefined },
    { ...samples["operator"], targets: [null, 7, {}], outcome: undefined },
    { ...samples["gap"], why: 7, ended: {} },
  ];
  for (const record of strange)
    for (const columns of [null, 80, 200]) {
      const line = formatAuditLine(record as AuditRecord, { ...plain, columns, hasColours: true });
      assert.notEqual(line, "");
    }
});

test("characters of two columns count as two, and combining marks as none", () => {
  const columns = 100;
  const path = `/${"漢字".repeat(60)}`;
  const line = formatAuditLine(decided({ path }), { ...plain, columns });
  const width = [...line].reduce((sum, one) => sum + (/\p{Script=Han}/u.test(one) ? 2 : 1), 0);
  assert.ok(width <= columns && width > columns - 4, String(width));
});

test("people are shown by name where there is one, routes by name", () => {
  const names = new Map([["u-1", "alice@example.com"]]);
  const line = formatAuditLine(decided({ userId: "u-1", routeName: "Reports" }), { ...plain, names });
  assert.match(line, / alice@example\.com /);
  assert.match(line, /\(Reports\)/);
  assert.match(formatAuditLine(decided({ userId: "u-2" }), { ...plain, names }), / u-2 /);
  const act = formatAuditLine(samples["operator"] as AuditRecord, { ...plain, names });
  assert.match(act, /suspendUser alice@example\.com/);
});
