/** Budgets of the console in bytes: what a page loads once, and what it is. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { plainBranding } from "../../../src/config/index.ts";
import { createPageAssets, themeSheet } from "../../../src/console/index.ts";
import { frameAssets } from "../../../src/console/views/frame.ts";
import { consoleViews } from "../../../src/console/views/register-console.ts";
import { startOperatorWorld } from "../api/operator-support.ts";

const folder = join(import.meta.dirname, "..", "..", "..", "src", "console", "web");
const sources = Object.fromEntries(
  readdirSync(folder)
    .filter((name) => /\.(?:js|css)$/.test(name))
    .map((name) => [name, readFileSync(join(folder, name), "utf8")]),
);
const kilobytes = (bytes: number): string => `${(bytes / 1_000).toFixed(1)} kB`;

/** A script and all that it imports. */
function withImports(name: string, seen = new Set<string>()): Set<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  for (const [, imported = ""] of (sources[name] ?? assert.fail(name)).matchAll(
    /\b(?:from|import)\s*\(?\s*"\.\/([\w-]+\.js)"/g,
  ))
    withImports(imported, seen);
  return seen;
}
const gzipped = (names: Iterable<string>): number =>
  [...names].reduce((sum, name) => sum + gzipSync(sources[name] ?? "", { level: 9 }).length, 0);

/** As a checkout serves them; a published package is minified, and about a third smaller. */
test("the scripts of each view are at most 60 kB gzipped, and those of the frame 25", () => {
  assert.ok(gzipped(withImports(frameAssets.script)) <= 25_000);
  for (const { id, scripts = [] } of consoleViews) {
    const names = withImports(frameAssets.script);
    for (const name of scripts) withImports(name, names);
    const bytes = gzipped(names);
    assert.ok(bytes <= 60_000, `${id}: ${kilobytes(bytes)}`);
  }
});

test("the style sheets of each view are at most 12 kB gzipped", () => {
  const theme = gzipSync(themeSheet(plainBranding)).length;
  for (const { id, styles = [] } of consoleViews) {
    const own = [...frameAssets.sheets, ...styles].filter((name) => name !== "theme.css");
    const bytes = theme + gzipped(own);
    assert.ok(bytes <= 12_000, `${id}: ${kilobytes(bytes)}`);
  }
});

test("a script is loaded under a name that stands for it and for all that it imports", () => {
  const assets = createPageAssets({ "a.js": 'import "./b.js";', "b.js": "export {};" });
  const changed = createPageAssets({ "a.js": 'import "./b.js";', "b.js": "export { };" });
  assert.notEqual(assets.pathOf("a.js"), changed.pathOf("a.js"));
  const name = assets.pathOf("a.js")?.split("/").at(-1) ?? "";
  assert.equal(`import "./${assets.pathOf("b.js")?.split("/").at(-1)}";`, assets.find(name)?.body.toString());
  assert.throws(() => createPageAssets({ "a.js": 'import "./b.js";' }), /a\.js imports b\.js/);
  assert.throws(() => createPageAssets({ "a.js": 'import "./b.js";', "b.js": 'import "./a.js";' }), /each other/);
});

test("the overview is at most 30 kB", async (t) => {
  const world = await startOperatorWorld(t, { console: {} });
  const headers = { authorization: `Bearer ${await world.token()}` };
  const page = await world.visitor.request(world.world.url("authenticate", "/.pomerium/admin/"), { headers });
  assert.equal(page.status, 200);
  assert.ok(page.body.length <= 30_000, kilobytes(page.body.length));
});
