/**
 * Documentation checks: error codes, links, cited sections, named files, invariants and memory bounds match the code.
 *
 * Code and documents cite a section as `docs/protocol.md §3.2`. The section must be a heading of that document that
 * starts with the number.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { invariants } from "../chaos/sim/monitors/violation.ts";
import { findGrowingMemory } from "./support/growing-memory.ts";
import { cannotGrow } from "./support/memory-that-cannot-grow.ts";

const root = join(import.meta.dirname, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");

test("every error code has a line in docs/errors.md, and every line names an existing code", () => {
  const codes = new Set<string>();
  for (const file of globSync("src/**/*.ts", { cwd: root })) {
    for (const [, code] of read(file).matchAll(/\bcode = "(ERR_[A-Z_]+)"/g)) if (code !== undefined) codes.add(code);
  }
  const documented = new Set([...read("docs/errors.md").matchAll(/`(ERR_[A-Z_]+)`/g)].map(([, code]) => code ?? ""));
  assert.deepEqual([...codes].filter((code) => !documented.has(code)).sort(), [], "not documented");
  assert.deepEqual([...documented].filter((code) => !codes.has(code)).sort(), [], "documented, but not in src");
});

const documents = globSync(["*.md", "{docs,src,chaos,bench}/**/*.md"], { cwd: root });
const sources = globSync("{src,chaos,scripts,bench,test,bin}/**/*.{ts,cjs}", { cwd: root });

const headingsOf = (document: string): readonly string[] =>
  [...read(document).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
/** The anchor that GitHub gives a heading. */
const slugOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
const hasSection = (document: string, section: string): boolean =>
  headingsOf(document).some((heading) => /^\d+(?:\.\d+)*/.exec(heading)?.[0] === section);
/** Resolves a document from its path relative to the root or to the citing file. A link's text may omit `docs/`. */
const documentOf = (name: string, citing: string): string | undefined =>
  [name, join(dirname(citing), name), ...(citing.endsWith(".md") ? [join("docs", name)] : [])].find((path) =>
    existsSync(join(root, path)),
  );
/** Joins the lines of comments, so that a citation may wrap. */
const joined = (text: string): string => text.replace(/\n\s*(?:\*|\/\/)?[ \t]*/g, " ");
/** The text whose citations are checked. In a test only comments count: its strings may name invented documents. */
const citingText = (source: string): string =>
  source.startsWith("test/")
    ? [...read(source).matchAll(/(?:^|\s)(?:\/\/|\*|\/\*\*) (.*)$/gm)].map(([, comment]) => comment).join("\n")
    : read(source);

test("every relative link in the documents leads to an existing file and heading", () => {
  const broken: string[] = [];
  for (const file of documents) {
    for (const [, path = "", anchor] of read(file).matchAll(/\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g)) {
      if (/^[a-z]+:/.test(path)) continue;
      const target = path === "" ? file : join(dirname(file), path);
      if (!existsSync(join(root, target))) broken.push(`${file}: ${path}`);
      else if (anchor !== undefined && !headingsOf(target).map(slugOf).includes(anchor))
        broken.push(`${file}: ${path}#${anchor}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("code and documents cite only documents and sections of this repository", () => {
  const broken: string[] = [];
  const decisions = new Set(globSync("docs/adr/*.md", { cwd: root }).map((file) => basename(file).slice(0, 4)));
  for (const file of [...sources, ...documents]) {
    const text = joined(file.endsWith(".md") ? read(file) : citingText(file));
    for (const [cited, name = "", sections = ""] of text.matchAll(
      /([\w./-]+\.md)`?\)?((?:(?:,| and| to)? ?§\d+(?:\.\d+)*)*)/g,
    )) {
      const document = documentOf(name, file);
      if (document === undefined) broken.push(`${file}: ${name}`);
      else
        for (const [, section = ""] of sections.matchAll(/§([\d.]+\d|\d)/g))
          if (!hasSection(document, section)) broken.push(`${file}: ${cited}`);
    }
    for (const [, number = ""] of text.matchAll(/\b(?:ADR |adr\/)(\d{4})\b/g))
      if (!decisions.has(number)) broken.push(`${file}: ADR ${number}`);
  }
  assert.deepEqual([...new Set(broken)], []);
});

/** Other sources with sections: standards, and papers with a quoted title. */
const standard = /(?:RFC \d+|OIDC|OpenID Connect|Trace Context|Logout 1\.0|SSF 1\.0|SPDY|")[^§]*(?:§[\d.]+[^§]*)*$/;

test("every § belongs to a cited document, to a standard, or to a numbered section of its own page", () => {
  const broken: string[] = [];
  for (const file of [...sources, ...documents]) {
    const text = joined(file.endsWith(".md") ? read(file) : citingText(file));
    for (const { index, 1: section = "" } of text.matchAll(/§(\d+(?:\.\d+)*)/g)) {
      const before = text.slice(Math.max(0, index - 160), index);
      if (standard.test(before) || /\.md[^§]{0,12}(?:§[\d.]+[^§]{0,8})*$/.test(before)) continue;
      if (file.endsWith(".md") && (hasSection(file, section) || /\[(?:[\w./-]+ )?$/.test(before))) continue;
      broken.push(`${file}: …${text.slice(Math.max(0, index - 40), index + 8)}`);
    }
  }
  assert.deepEqual(broken, []);
});

/** Folders that runs write to; they are not in the repository. */
const outputs = ["chaos/reports/", "chaos/sim/stories/"];

test("every file that a document names exists", () => {
  const missing: string[] = [];
  for (const file of documents) {
    if (file === "CHANGELOG.md") continue; // it names files of the past
    for (const [, path = ""] of read(file).matchAll(/`((?:src|chaos|test|scripts|bench|docs)\/[^`\s…]*)`/g)) {
      if (outputs.some((output) => path.startsWith(output))) continue;
      const exists = path.includes("*") ? globSync(path, { cwd: root }).length > 0 : existsSync(join(root, path));
      if (!exists) missing.push(`${file}: ${path}`);
    }
  }
  assert.deepEqual(missing, []);
});

test("docs/protocol.md lists every invariant, and marks those that the simulator does not check", () => {
  const rows = [...read("docs/protocol.md").matchAll(/^\| ([a-z-]+|\d+) \| (– )?[^|]+\|$/gm)];
  const inSection = rows.filter(([, name = ""]) => /^\d+$/.test(name) || name in invariants);
  const watched = inSection.filter(([, , unwatched]) => unwatched === undefined).map(([, name]) => name);
  assert.deepEqual(watched.sort(), Object.keys(invariants).sort(), "add or remove a row of docs/protocol.md §8");
  const numbered = inSection.flatMap(([, name = ""]) => (/^\d+$/.test(name) ? [Number(name)] : []));
  assert.deepEqual(
    numbered,
    Array.from({ length: 38 }, (_, i) => i + 1),
  );
});

test("every row of docs/limits.md states a bound in bytes, or names what bounds it", () => {
  const inBytes = /\b(?:bytes|characters|[KM]i?B)\b/;
  const bySomethingElse = /^one (?:entry|task|run|callback) per |^the |file descriptors|first table|`[\w/-]+\.ts`/;
  const rows = [...read("docs/limits.md").matchAll(/^\| (`src\/[^`]+\.ts` `[^`]+`) \| ([^|]+) \|/gm)];
  assert.ok(rows.length > 100);
  assert.deepEqual(
    rows.flatMap(([, where, limit = ""]) => (inBytes.test(limit) || bySomethingElse.test(limit) ? [] : [where])),
    [],
    "a number of entries is no bound: state the maximum size of an entry",
  );
});

test("every collection that may grow has a bound in docs/limits.md, or a reason why outside input cannot make it grow", () => {
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
  assert.deepEqual([...known].filter((each) => !present.has(each)).sort(), [], "listed, but removed or renamed");
  assert.deepEqual(
    documented.filter((each) => explained.includes(each)),
    [],
    "listed twice",
  );
});

test("the index of decisions has every one, in the order of their numbers", () => {
  const indexed = [...read("docs/adr/README.md").matchAll(/^\| \[\d{4}\]\((\d{4}-[^)]+\.md)\) \|/gm)].map(
    ([, file]) => file,
  );
  assert.deepEqual(indexed, globSync("0*.md", { cwd: join(root, "docs/adr") }).sort());
});
