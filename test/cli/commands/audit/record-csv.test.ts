/** CSV of audit records: every reader gets the same cells, and no spreadsheet evaluates one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "csv-parse/sync";
import type { AuditRecord } from "../../../../src/audit/index.ts";
import { csvHead, formatCsvRow } from "../../../../src/cli/commands/audit/record-csv.ts";
import { samples } from "../../../audit/samples.ts";
import { decision } from "../../../audit/support.ts";

const none = new Map<string, string>();
const rowsOf = (text: string): readonly Record<string, string>[] => parse(text, { columns: true });
const rowOf = (record: AuditRecord): Record<string, string> => rowsOf(csvHead + formatCsvRow(record, none))[0] ?? {};
const withPath = (path: string): AuditRecord => ({ kind: "decision", seq: 1, ...decision(path) });

test("every kind of record is a row with the cells of its kind", () => {
  const text =
    csvHead +
    Object.values(samples)
      .map((record) => formatCsvRow(record, none))
      .join("");
  assert.ok(text.split("\r\n").length === Object.keys(samples).length + 2);
  const rows = rowsOf(text);
  assert.deepEqual(
    rows.map(({ id }) => id),
    Object.values(samples).map(({ boot, seq }) => `${boot}:${seq}`),
  );
  const full = rowOf(samples["decision"] as AuditRecord);
  assert.deepEqual(
    [
      full["at"],
      full["result"],
      full["status"],
      full["reasons"],
      full["user_id"],
      full["route_name"],
      full["latency_ms"],
    ],
    ["2025-11-28T00:00:00.000Z", "permit", "200", "user-ok", "u-1", "Reports", "0.4"],
  );
  const act = rowOf(samples["operator"] as AuditRecord);
  assert.deepEqual(
    [act["actor"], act["command"], act["outcome"], act["act_reason"]],
    ["user:u-admin", "suspendUser", "done", "left the company"],
  );
  const gap = rowOf(samples["gap"] as AuditRecord);
  assert.deepEqual(
    [gap["gap_first"], gap["gap_last"], gap["missing_least"], gap["missing_most"], gap["gap_reason"]],
    ["11", "20", "0", "10", "killed"],
  );
});

test("quotes, commas and line ends in a text stay in its cell", () => {
  for (const path of ['a"b', "a,b", "a\r\nb", '","x', "a;b\tc", "ä😀"])
    assert.equal(rowOf(withPath(path))["path"], path);
});

test("what a spreadsheet would evaluate gets an apostrophe; numbers stay numbers", () => {
  for (const path of [
    "=1+1",
    "+1",
    "-1",
    "@sum(a)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\u{ff1d}1",
    "|cmd",
    "%0a=1",
    "\u00a0=1",
  ])
    assert.equal(rowOf(withPath(path))["path"], `'${path}`);
  assert.equal(rowOf(withPath("/=1"))["path"], "/=1");
  const text = formatCsvRow({ ...withPath("/"), latencyMs: -5 } as AuditRecord, none);
  assert.match(text, /,-5,/);
});

test("control and format characters are replaced, and values of other types are text", () => {
  assert.equal(
    rowOf(withPath("\u001b]0;x\u0007\u202e\u0085\0"))["path"],
    "\u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
  );
  const strange = { ...withPath("/"), userId: { a: 1 }, status: "=1", at: 1e300 } as never as AuditRecord;
  const row = rowOf(strange);
  assert.deepEqual([row["user_id"], row["status"], row["at"]], ['{"a":1}', "'=1", "1e+300"]);
});

test("a name stands beside its id where it is known", () => {
  const names = new Map([["u-1", "=ann@example.com"]]);
  const [row] = rowsOf(csvHead + formatCsvRow(samples["decision"] as AuditRecord, names));
  assert.deepEqual([row?.["user_id"], row?.["user_name"]], ["u-1", "'=ann@example.com"]);
});
