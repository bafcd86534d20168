/** The documents tell the truth: every error code has its line, every command and relative link exists. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { findGrowingMemory } from "./support/growing-memory.ts";
import { cannotGrow } from "./support/memory-that-cannot-grow.ts";

const root = join(import.meta.dirname, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");

test("every error code has a line in docs/errors.md, and no line speaks of a code that is gone", () => {
  const codes = new Set<string>();
  for (const file of globSync("src/**/*.ts", { cwd: root })) {
    for (const [, code] of read(file).matchAll(/\bcode = "(ERR_[A-Z_]+)"/g)) if (code !== undefined) codes.add(code);
  }
  const documented = new Set([...read("docs/errors.md").matchAll(/`(ERR_[A-Z_]+)`/g)].map(([, code]) => code ?? ""));
  assert.deepEqual([...codes].filter((code) => !documented.has(code)).sort(), [], "not documented");
  assert.deepEqual([...documented].filter((code) => !codes.has(code)).sort(), [], "documented, but gone");
});

test("every relative link in the documents leads somewhere", () => {
  const broken: string[] = [];
  for (const file of globSync(["*.md", "docs/**/*.md", "chaos/*.md", "bench/*.md"], { cwd: root })) {
    for (const [, target] of read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (target === undefined || /^[a-z]+:/.test(target)) continue;
      if (!existsSync(join(root, dirname(file), target))) broken.push(`${file}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("every collection that may grow has its bound in docs/limits.md, or a reason why nothing outside can make it grow", () => {
  const found = findGrowingMemory(root);
  const documented = [...read("docs/limits.md").matchAll(/^\| `(src\/[^`]+\.ts)` `([^`]+)` \|/gm)].map(
    ([, file, name]) => `${file} ${name}`,
  );
  const explained = Object.values(cannotGrow).flat();
  const known = new Set([...documented, ...explained]);
  assert.deepEqual(
    found.filter((each) => !known.has(each)),
    [],
    "add a row to docs/limits.md with the bound, or a line to test/support/memory-that-cannot-grow.ts",
  );
  const present = new Set(found);
  assert.deepEqual([...known].filter((each) => !present.has(each)).sort(), [], "listed, but gone or renamed");
  assert.deepEqual(
    documented.filter((each) => explained.includes(each)),
    [],
    "listed twice",
  );
});
