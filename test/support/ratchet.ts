/**
 * Ratchet: a checked-in file with a count per path. A count may only fall; a path that is not listed counts as 0.
 *
 * `node TEST --record` writes the current counts. It also accepts a higher count, so review must catch that.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type Finding = Readonly<{ path: string; line: number; text: string }>;

/** @throws AssertionError with each finding of a path that has more of them than the ratchet allows */
export function assertRatchet(name: string, findings: readonly Finding[]): void {
  const file = join(import.meta.dirname, "../recorded", `${name}.json`);
  const counts: Record<string, number> = {};
  for (const { path } of findings) counts[path] = (counts[path] ?? 0) + 1;
  if (process.argv.includes("--record")) {
    const sorted = Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
    writeFileSync(file, `${JSON.stringify(sorted, null, 2)}\n`);
  }
  const allowed: Readonly<Record<string, number>> = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const grown = Object.entries(counts).filter(([path, count]) => count > (allowed[path] ?? 0));
  const lines = grown.flatMap(([path, count]) => [
    `${path}: ${count} where ${allowed[path] ?? 0} are allowed`,
    ...findings.filter((finding) => finding.path === path).map(({ line, text }) => `  ${line}: ${text}`),
  ]);
  assert.ok(lines.length === 0, ["", ...lines].join("\n"));
}

/** Each line of a text with its number, from 1. */
export function numberedLines(text: string): readonly (readonly [line: number, text: string])[] {
  return text.split("\n").map((line, index) => [index + 1, line] as const);
}
