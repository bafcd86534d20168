/**
 * Record content: the parser that turns the content of a data source into records, or reports the first problem.
 *
 * - All or nothing: content with any error is refused as a whole.
 * - JSON is a list of objects; CSV (RFC 4180) has the field names in the first line.
 * - Every record has an `id`, or an address range under `$index.cidr`.
 *
 * Pure.
 */

import { isAddressRange } from "../source-ip.ts";
import type { DataRecord } from "./records.ts";
import { rangeOf } from "./records.ts";

export type RecordFormat = "json" | "csv";
export type RecordContent = Readonly<{ ok: true; records: readonly DataRecord[] } | { ok: false; problem: string }>;

export function parseRecordContent(
  text: string,
  { format, recordsMax }: Readonly<{ format: RecordFormat; recordsMax: number }>,
): RecordContent {
  const rows = format === "csv" ? parseCsv(text.replace(/^\uFEFF/, "")) : parseJsonRecords(text);
  if (typeof rows === "string") return { ok: false, problem: rows };
  if (rows.length > recordsMax) return { ok: false, problem: `has more than ${recordsMax} records` };
  for (const [index, record] of rows.entries()) {
    const problem = problemOf(record);
    if (problem !== undefined) return { ok: false, problem: `record ${index + 1} ${problem}` };
  }
  return { ok: true, records: rows };
}

function problemOf(record: DataRecord): string | undefined {
  const { id } = record;
  const range = rangeOf(record);
  if (range !== undefined) return isAddressRange(range) ? undefined : "has no range of addresses in $index.cidr";
  if (id === undefined || id === null) return "has no id";
  return typeof id === "string" || typeof id === "number" ? undefined : "has an id that is neither text nor a number";
}

function parseJsonRecords(text: string): readonly DataRecord[] | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "is not JSON"; // the parser's own message quotes the content
  }
  if (!Array.isArray(value)) return "is not a list of records";
  const stranger = value.findIndex((item: unknown) => typeof item !== "object" || item === null || Array.isArray(item));
  return stranger < 0 ? (value as readonly DataRecord[]) : `record ${stranger + 1} is not an object`;
}

/** Parses field by field: a quoted field may hold commas, quotes and line ends. */
function parseCsv(text: string): readonly DataRecord[] | string {
  const lines = readCsvLines(text);
  if (typeof lines === "string") return lines;
  const [names, ...rest] = lines;
  if (names === undefined) return "is empty, without a line of field names";
  if (new Set(names).size < names.length) return "names a field twice";
  const records: DataRecord[] = [];
  for (const [index, fields] of rest.entries()) {
    if (fields.length !== names.length) return `record ${index + 1} has ${fields.length} fields, not ${names.length}`;
    records.push(Object.fromEntries(names.map((name, at) => [name, fields[at]])));
  }
  return records;
}

function readCsvLines(text: string): readonly (readonly string[])[] | string {
  const lines: string[][] = [];
  let line: string[] = [];
  const field = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  while (field.lastIndex < text.length || line.length > 0) {
    const from = field.lastIndex;
    const match = field.exec(text);
    if (match === null) return `line ${text.slice(0, from).split("\n").length} has a misplaced quote`;
    const [, quoted, plain = "", end] = match;
    line.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    if (line.length > 1 || line[0] !== "" || quoted !== undefined) lines.push(line);
    line = [];
    if (end === "") break;
  }
  return lines;
}
