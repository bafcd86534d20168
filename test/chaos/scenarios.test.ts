/** The scenarios: their form, their list, and which of them share a cluster. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { topologies } from "../../chaos/cluster/topology.ts";
import { faultKinds, faultProfiles, isFaultKind } from "../../chaos/faults/fault-kinds.ts";
import { batchesOf } from "../../chaos/scenarios/batches.ts";
import { scenarios } from "../../chaos/scenarios/index.ts";
import { allOf, type Condition } from "../../chaos/scenarios/look.ts";

const folder = join(import.meta.dirname, "../../chaos/scenarios");
const files = globSync("*/*.ts", { cwd: folder });
const linesMax = 50;

test("there are at least thirty scenarios, each with a name of its own", () => {
  assert.ok(scenarios.length >= 30, String(scenarios.length));
  assert.equal(new Set(scenarios.map(({ name }) => name)).size, scenarios.length);
});

test("each scenario is one short file of its name, and every file is listed", () => {
  assert.deepEqual(files.map((file) => basename(file, ".ts")).sort(), scenarios.map(({ name }) => name).sort());
  for (const file of files) {
    const lines = readFileSync(join(folder, file), "utf8").split("\n").length;
    assert.ok(lines <= linesMax, `${file} has ${lines} lines`);
  }
});

test("each scenario says its fault and its promise in sentences, and its promise names its bound", () => {
  for (const { name, fault, promise, boundS, topology } of scenarios) {
    assert.match(name, /^[a-z]+(-[a-z]+)*$/);
    assert.match(fault, /^\S.*\.$/, name);
    assert.match(promise, /^\S.*\.$/, name);
    assert.ok(promise.includes(`${boundS} s`), `${name}: the promise does not name ${boundS} s`);
    assert.ok(topology in topologies);
  }
});

test("each scenario breaks something that its topology has", () => {
  for (const { name, topology } of scenarios) {
    const file = files.find((each) => basename(each, ".ts") === name) ?? assert.fail(name);
    const text = readFileSync(join(folder, file), "utf8");
    const kinds = [...text.matchAll(/\.fault\(\s*"([^"]+)"/g)].map(([, kind = ""]) => kind);
    assert.ok(kinds.length > 0 || text.includes(".moveHome("), `${name} breaks nothing`);
    for (const kind of kinds)
      assert.ok(isFaultKind(kind) && faultProfiles[kind].in.includes(topology), `${name}: ${kind}`);
  }
});

test("most kinds of faults have a scenario", () => {
  const texts = files.map((file) => readFileSync(join(folder, file), "utf8")).join("");
  const without = faultKinds.filter((kind) => !texts.includes(`"${kind}"`));
  assert.ok(without.length <= faultKinds.length / 3, without.join(", "));
});

test("scenarios of one topology share a cluster until one changes it", () => {
  const [first] = scenarios;
  assert.ok(first);
  const named = (name: string, topology: "one-region" | "three-regions", changes: boolean) => ({
    ...first,
    name,
    topology,
    ...(changes && { changesCluster: true as const }),
  });
  const batches = batchesOf([
    named("a", "three-regions", false),
    named("b", "one-region", true),
    named("c", "three-regions", true),
    named("d", "one-region", false),
    named("e", "three-regions", false),
  ]);
  assert.deepEqual(
    batches.map((batch) => batch.map(({ name }) => name)),
    [["b"], ["d"], ["a", "c"], ["e"]],
  );
  assert.deepEqual(batchesOf([]), []);
});

test("conditions together hold when all of them hold, and say which do not", async () => {
  const yes: Condition = async () => ({ holds: true, seen: "yes" });
  const no: Condition = async () => ({ holds: false, seen: "no" });
  assert.deepEqual(await allOf(yes, yes)(), { holds: true, seen: "yes; yes" });
  assert.deepEqual(await allOf(yes, no)(), { holds: false, seen: "no" });
});
