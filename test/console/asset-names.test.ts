/**
 * Names of assets: scripts and style sheets of all areas share one set of names. Two areas that write to one name
 * replace each other's file, and pages of the first then load the script of the second.
 */
import assert from "node:assert/strict";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { plainBranding } from "../../src/config/index.ts";
import { createPageAssets, themeSheet } from "../../src/console/index.ts";

const source = join(import.meta.dirname, "..", "..", "src");
const folder = join(source, "console", "web");
const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /\.(?:js|css)$/.test(name));

test("no two sources have one name, not even in two folders, in other letters or as an asset that is made", () => {
  const sources = [...files, "theme.css"]; // made from the branding
  const byName = Map.groupBy(sources, (path) => basename(path).toLowerCase());
  const shared = [...byName].filter(([, paths]) => paths.length > 1);
  assert.deepEqual(shared, [], "each asset needs a name of its own");
  assert.deepEqual(
    files.filter((path) => basename(path) !== path),
    [],
    "only the folder itself is served",
  );
  assert.ok(createPageAssets({ "theme.css": themeSheet(plainBranding) }).pathOf("theme.css"));
});

test("a script is loaded by the views of one area or by one set of pages", () => {
  const users = Map.groupBy(
    globSync("{console,cli/build/pages}/**/*.ts", { cwd: source })
      .filter((path) => !path.startsWith("console/text/"))
      .flatMap((path) => {
        const text = readFileSync(join(source, path), "utf8");
        return [...text.matchAll(/"([\w-]+\.js)"/g)].map(([, name = ""]) => ({ name, area: areaOf(path) }));
      }),
    ({ name }) => name,
  );
  const shared = [...users]
    .map(([name, at]) => ({ name, areas: [...new Set(at.map(({ area }) => area))] }))
    .filter(({ areas }) => areas.length > 1);
  assert.deepEqual(shared, [], "two areas name one script; what both use is named once, in views/components");
  for (const name of users.keys()) assert.ok(files.includes(name), `${name} is named and is not there`);
});

/** `console/views/record/…` is an area of its own; everything that serves the other pages is one. */
function areaOf(path: string): string {
  return /^console\/views\/[\w-]+(?=\/|\.ts$)/.exec(path)?.[0] ?? "pages";
}

test("each script and style sheet is loaded by a page or imported by a script", () => {
  const code = globSync("{console,cli/build/pages}/**/*.{ts,js}", { cwd: source })
    .map((path) => readFileSync(join(source, path), "utf8"))
    .join("\n");
  const lost = files.filter((name) => !code.includes(`"${name}"`) && !code.includes(`"./${name}"`));
  assert.deepEqual(lost, []);
});
