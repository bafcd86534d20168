/** The command line of the chaos harness. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ArgumentTools, type ChaosRequest, parseChaosArguments } from "../../chaos/arguments.ts";
import { planFaults } from "../../chaos/faults/plan.ts";
import { scenarios } from "../../chaos/scenarios/index.ts";
import { weakenings } from "../../chaos/weakenings.ts";

const tools: ArgumentTools = { scenarios, newSeed: () => 77, readFile: () => assert.fail("no file is named") };
const parse = (...argv: readonly string[]): ChaosRequest => parseChaosArguments(argv, tools);

function random(...argv: readonly string[]): Extract<ChaosRequest, { type: "random" }> {
  const request = parse(...argv);
  assert.equal(request.type, "random");
  return request as Extract<ChaosRequest, { type: "random" }>;
}

describe("random faults", () => {
  test("without arguments, faults of a new seed break three regions for two minutes", () => {
    const { rounds, rule, keep, command } = random();
    assert.deepEqual(rounds, [planFaults({ seed: 77, seconds: 120, topology: "three-regions" })]);
    assert.deepEqual([rule, keep], [null, "on-violation"]);
    assert.equal(command, "npm run chaos -- --random --seed 77 --seconds 120 --topology three-regions");
  });

  test("seed, length and topology can be chosen", () => {
    const { rounds } = random("--random", "--minutes", "3", "--seed", "5", "--topology", "one-region");
    assert.deepEqual(rounds, [planFaults({ seed: 5, seconds: 180, topology: "one-region" })]);
  });

  test("an hour is six rounds of ten minutes, each with a seed of its own", () => {
    const { rounds } = random("--minutes", "60", "--seed", "5");
    assert.deepEqual(
      rounds.map(({ seconds }) => seconds),
      [600, 600, 600, 600, 600, 600],
    );
    assert.equal(new Set(rounds.map(({ seed }) => seed)).size, 6);
    assert.equal(rounds[0]?.seed, 5);
  });

  test("the printed command parses to the same rounds", () => {
    const request = random("--minutes", "25", "--seed", "5");
    const again = random(...request.command.replace("npm run chaos -- ", "").split(" "));
    assert.deepEqual(again.rounds, request.rounds);
  });

  test("a saved plan is run again", () => {
    const plan = planFaults({ seed: 5, seconds: 60, topology: "three-regions" });
    const request = parseChaosArguments(["--plan", "p.json"], { ...tools, readFile: () => JSON.stringify(plan) });
    assert.equal(request.type, "random");
    assert.deepEqual(request.type === "random" && request.rounds, [plan]);
  });
});

describe("proving that the judge notices", () => {
  test("the first rule is removed in a run of a minute", () => {
    const { rounds, rule } = random("--prove");
    assert.equal(rule, Object.keys(weakenings)[0]);
    assert.equal(rounds[0]?.seconds, 60);
  });

  test("each rule is removed in the topology in which its absence shows", () => {
    for (const [rule, { topology }] of Object.entries(weakenings))
      assert.equal(random("--prove", "--rule", rule).rounds[0]?.topology, topology);
  });

  test("each rule is removed under the faults in which its absence shows, several times in any minute", () => {
    for (const [rule, { faults }] of Object.entries(weakenings)) {
      if (faults === undefined) continue;
      for (let seed = 1; seed <= 50; seed++) {
        const planned = random("--prove", "--rule", rule, "--seed", String(seed)).rounds[0]?.faults ?? [];
        assert.ok(planned.length >= 3, `${rule}, seed ${seed}: ${planned.length} faults`);
        assert.ok(planned.every(({ kind }) => faults.includes(kind)));
      }
    }
  });
});

describe("scenarios", () => {
  test("--list lists them", () => assert.deepEqual(parse("--list"), { type: "list" }));

  test("one, several, those of a topology, or all can be named", () => {
    const named = (...argv: readonly string[]): readonly string[] => {
      const request = parse(...argv);
      return request.type === "scenarios" ? request.scenarios.map(({ name }) => name) : [];
    };
    assert.deepEqual(named("--scenario", "leaf-cut"), ["leaf-cut"]);
    assert.deepEqual(named("--scenario", "leaf-cut", "--scenario", "kill-leader"), ["leaf-cut", "kill-leader"]);
    assert.deepEqual(named("--scenario", "leaf-cut", "--scenario", "leaf-cut"), ["leaf-cut"]);
    assert.equal(named("--scenario", "all").length, scenarios.length);
    const alone = scenarios.filter(({ topology }) => topology === "one-region");
    assert.equal(named("--scenario", "one-region").length, alone.length);
  });
});

test("a mistake is refused with a sentence that names it", () => {
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--scenario", "nothing"], /there is no scenario nothing/],
    [["--list", "--random"], /choose one/],
    [["--seed", "x"], /--seed x/],
    [["--seconds", "5"], /--seconds 5: a whole number from 20/],
    [["--seconds", "60", "--minutes", "1"], /not both/],
    [["--topology", "two"], /--topology is one of one-region, three-regions, movable-home/],
    [["--prove", "--rule", "none"], /--rule is one of/],
    [["--burn"], /burn/],
  ];
  for (const [argv, message] of wrong) assert.throws(() => parse(...argv), message);
});
