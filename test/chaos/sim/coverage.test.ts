/** The line coverage of a simulation, from the counts of V8. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCoverage, linesOf } from "../../../chaos/sim/coverage.ts";

const source = [
  "/** A comment is no code. */",
  'import type { Link } from "./link.ts";',
  "",
  "type Pair = Readonly<{ a: number }>;",
  "export function one(pair: Pair): number {",
  "  // neither is this",
  "  if (pair.a > 1) {",
  "    return 2;",
  "  }",
  "  return 1;",
  "}",
].join("\n");

const range = (text: string, count: number, times = source.indexOf(text)) => ({
  startOffset: times,
  endOffset: times + text.length,
  count,
});
const whole = { startOffset: 0, endOffset: source.length, count: 1 };

test("blank lines, comments, types and braces are not lines of code; a file that was not loaded has run none", () => {
  assert.deepEqual(linesOf(source, undefined), { lines: 4, run: 0 });
});

test("a line has run unless the innermost range around it has a count of 0", () => {
  const body = source.slice(source.indexOf("export function"));
  const notTaken = { url: "", functions: [{ ranges: [whole] }, { ranges: [range(body, 1), range("return 2;", 0)] }] };
  assert.deepEqual(linesOf(source, notTaken), { lines: 4, run: 3 });
  const notCalled = { url: "", functions: [{ ranges: [whole] }, { ranges: [range(body, 0)] }] };
  assert.deepEqual(linesOf(source, notCalled), { lines: 4, run: 0 });
});

test("the summary names the share of src/ and of each package", () => {
  const coverage = {
    broker: { lines: 200, run: 180 },
    proxy: { lines: 600, run: 60 },
    "main.ts": { lines: 5, run: 5 },
  };
  assert.equal(formatCoverage(coverage), "src/ 30 % (broker 90, proxy 10)");
});
