/**
 * Words and layout of sources, tests and documents: plain English, and lines that fit. Counts may only fall
 * (recorded/).
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertRatchet, type Finding, numberedLines } from "./support/ratchet.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const sources = globSync("{src,test,chaos,scripts,bench,bin}/**/*.{ts,cjs}", { cwd: root }).sort();
const documents = globSync(["*.md", "{docs,src,chaos,bench,deploy,examples}/**/*.md"], { cwd: root })
  .filter((path) => path !== "CHANGELOG.md")
  .sort();

const retired =
  /\b(whoever|whom|somebody|nobody|anybody|of ours|is told|is asked|for good|let go|hand(s|ed)? on|not to be believed)\b/i;
/** Exempt: names on the wire, names of other systems, and this list itself. */
const exempt = /kubernetes-nobody|"nobody"|nobody:|User nobody|user nobody|^const retired|whoever\|whom/;

test("no comment, string, test name or document contains a retired word", () => {
  assertRatchet(
    "retired-words",
    findIn([...sources, ...documents], (line) => retired.test(line) && !exempt.test(line)),
  );
});

test("a comment line has at most 120 columns", () => {
  assertRatchet(
    "long-comments",
    findIn(sources, (line) => line.length > 120 && /^\s*(\*|\/\/|\/\*)|\s\/\/ /.test(line)),
  );
});

test('src has no "yes" | "no" and no spread of a literal', () => {
  assertRatchet(
    "shortcuts",
    findIn(
      sources.filter((path) => path.startsWith("src/")),
      (line) => /"yes" \| "no"|\.\.\.\{ ?\w+[,:]|\.\.\.\{$|\.\.\.\["/.test(line),
    ),
  );
});

function findIn(paths: readonly string[], isFound: (line: string) => boolean): Finding[] {
  return paths.flatMap((path) =>
    numberedLines(read(path))
      .filter(([, text]) => isFound(text))
      .map(([line, text]) => ({ path, line, text: text.trim().slice(0, 140) })),
  );
}
