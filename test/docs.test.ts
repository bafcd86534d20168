/** The documents tell the truth: every error code has its line, every command and relative link exists. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

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
