/** Lines of `cardea audit tail`: whatever a record holds, no control character reaches the terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { auditLineOf, escapeControls } from "../../../src/cli/commands/audit.ts";
import { samples } from "../../audit/samples.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: there must be none
const controls = /[\u0000-\u001f\u007f-\u009f]/;
const hostile = "\u001b]0;owned\u0007\u009b2J\r\n\u0085";

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
    const json = escapeControls(JSON.stringify(made));
    assert.doesNotMatch(json, controls);
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
