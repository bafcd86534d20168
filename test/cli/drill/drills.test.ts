/** The catalog of drills, as the command line and docs/drills.md show it. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promises } from "../../../src/cli/drill/drill.ts";
import { drills } from "../../../src/cli/drill/drills/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { run } from "../support.ts";

const page = readFileSync(new URL("../../../docs/drills.md", import.meta.url), "utf8");

test("docs/drills.md has a row for every drill, and a row for every promise but the last", () => {
  for (const { name } of drills) assert.ok(page.includes(`| \`${name}\` |`), name);
  for (const [name, text] of Object.entries(promises)) {
    const isNamed = page.includes(`| ${text} |`) || page.includes(`*${text}*`);
    // The page shortens one sentence.
    assert.ok(isNamed || name === "acknowledged", `docs/drills.md lacks: ${text}`);
  }
});

test("every drill says why, promises that nothing is permitted after a receipt, and that all is as before", () => {
  for (const drill of drills) {
    assert.ok(drill.purpose.length > 40 && drill.does.length > 40, drill.name);
    assert.equal(drill.promises["nothing-after-receipt"], "none");
    assert.equal(drill.promises.restored, "none");
  }
  assert.equal(new Set(drills.map(({ name }) => name)).size, drills.length);
});

test("drill list shows all drills, or one with its promises, bounds and guard rails", async () => {
  const all = await run(["drill", "list"]);
  assert.equal(all.code, 0);
  for (const { name } of drills) assert.match(all.out, new RegExp(`^${name} `, "m"));
  const one = await run(["drill", "list", "leader-restart"]);
  assert.match(one.out, /A revocation is acknowledged in time.*\(10 s\)/);
  assert.match(one.out, /another broker/);
  const json = await run(["drill", "list", "--json"]);
  assert.deepEqual(
    JSON.parse(json.out).map(({ name }: { name: string }) => name),
    drills.map(({ name }) => name),
  );
});

for (const [mistake, args, expected] of [
  ["a drill that does not exist", ["drill", "list", "burn-it-down"], /there is no drill "burn-it-down"/],
  ["no drill file", ["drill", "run", "group-removal"], /name the drill file/],
  [
    "a command for a drill that stops nothing",
    ["drill", "run", "group-removal", "--do", "x", "--no-undo"],
    /changes only the canary/,
  ],
  ["a process drill without a command", ["drill", "run", "proxy-pause", "-f", "x"], /--do COMMAND with --undo COMMAND/],
  ["an outage of an hour", ["drill", "run", "proxy-restart", "--do", "x", "--no-undo", "--for", "60m"], /at most 5m/],
  ["rounds of a drill that has one", ["drill", "run", "suspend-user", "--rounds", "3"], /for group-removal alone/],
] as const)
  test(`${mistake} is a usage error`, async () => {
    const { code, err } = await run(args);
    assert.equal(code, 2);
    assert.match(err, expected);
  });

test("a drill file that cannot be read, or is wrong, ends with 3 and names it", async () => {
  const { code, err } = await run(["drill", "run", "group-removal", "-f", "/nonexistent/drill.yaml"]);
  assert.equal(code, 3);
  assert.match(err, /\/nonexistent\/drill\.yaml cannot be read; docs\/drills\.md/);
});

test("a report that could not be written keeps the drill from beginning, before anything is read or changed", async (t) => {
  const folder = new TemporaryFolder("drills");
  t.after(() => folder.remove());
  const file = join(folder.path, "drill.yaml");
  writeFileSync(
    file,
    "canary: { url: 'http://app.localhost/', user: c, group: g, route: r }\nproxies: { p: { address: '127.0.0.1:1' } }\n",
  );
  for (const report of [join(folder.path, "nowhere/report.html"), folder.path]) {
    const { code, err } = await run(["drill", "run", "group-removal", "-f", file, "--report", report]);
    assert.equal(code, 3);
    assert.match(err, /^cardea drill run: the drill does not begin: the report .* cannot be written/);
  }
});
