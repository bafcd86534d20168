/**
 * Size of folders and files in src: at most 25 files in a folder, and no tiny file with a single importer. Counts may
 * only fall (recorded/).
 */
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { test } from "node:test";
import { assertRatchet } from "./support/ratchet.ts";

const root = join(import.meta.dirname, "..");
const sources = globSync("src/**/*.ts", { cwd: root }).sort();
const texts = new Map(sources.map((path) => [path, readFileSync(join(root, path), "utf8")]));

/** Files that hold one definition each, listed by a catalog: their size does not matter. */
const oneFileEach = /^src\/broker\/commands\/\w+\//;

test("a folder holds at most 25 files", () => {
  const files = new Map<string, number>();
  for (const path of sources) files.set(dirname(path), (files.get(dirname(path)) ?? 0) + 1);
  assertRatchet(
    "crowded-folders",
    [...files].flatMap(([path, count]) => (count > 25 ? [{ path, line: 1, text: `${count} files` }] : [])),
  );
});

test("a file under 30 lines has more than one importer; otherwise it belongs in its importer", () => {
  const importers = new Map<string, Set<string>>();
  for (const [path, text] of texts)
    for (const [, from = ""] of text.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)) {
      const target = relative(root, join(root, dirname(path), from));
      importers.set(target, (importers.get(target) ?? new Set()).add(path));
    }
  assertRatchet(
    "small-files",
    sources
      .filter((path) => (texts.get(path)?.split("\n").length ?? 0) <= 30 && (importers.get(path)?.size ?? 0) === 1)
      .filter((path) => !oneFileEach.test(path))
      // An entry point only names exports, so a file that it alone imports has nowhere else to go.
      .filter((path) => ![...(importers.get(path) ?? [])].some((importer) => basename(importer) === "index.ts"))
      .filter((path) => !["index.ts", "version.ts"].includes(basename(path)) && !path.endsWith("-error.ts"))
      .map((path) => ({ path, line: 1, text: `imported by ${[...(importers.get(path) ?? [])].join()}` })),
  );
});
