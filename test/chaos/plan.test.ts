/** The plan of faults that a seed gives. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { topologies } from "../../chaos/cluster/topology.ts";
import { type FaultKind, faultKinds, faultProfiles, targetsOf } from "../../chaos/faults/fault-kinds.ts";
import { describeFault, isDrawn, parsePlan, planFaults } from "../../chaos/faults/plan.ts";

const seeds = Array.from({ length: 200 }, (_, i) => i * 7_919 + 1);
const names = ["one-region", "three-regions", "movable-home"] as const;

for (const topology of names) {
  const options = { seconds: 120, topology };

  test(`${topology}: the same seed gives the same plan, and another seed a different one`, () => {
    assert.deepEqual(planFaults({ ...options, seed: 42 }), planFaults({ ...options, seed: 42 }));
    assert.notDeepEqual(planFaults({ ...options, seed: 42 }).faults, planFaults({ ...options, seed: 43 }).faults);
  });

  test(`${topology}: every seed plans many faults in two minutes, in order, with quiet times at both ends`, () => {
    for (const seed of seeds) {
      const { faults } = planFaults({ ...options, seed });
      assert.ok(faults.length >= (topology === "one-region" ? 20 : 12), `seed ${seed}: ${faults.length} faults`);
      assert.deepEqual(
        faults.map((fault) => fault.atMs),
        faults.map((fault) => fault.atMs).sort((a, b) => a - b),
      );
      assert.ok((faults[0]?.atMs ?? 0) >= 6_000);
      assert.ok(Math.max(...faults.map((fault) => fault.atMs + fault.forMs)) <= 120_000);
    }
  });

  test(`${topology}: a long run has every kind of fault that the topology can have`, () => {
    const kinds = new Set(planFaults({ seconds: 600, topology, seed: 3 }).faults.map((fault) => fault.kind));
    const wanted = faultKinds.filter((kind) => isDrawn(kind, topology));
    assert.deepEqual(
      wanted.filter((kind) => !kinds.has(kind)),
      [],
    );
    assert.ok([...kinds].every((kind) => isDrawn(kind, topology)));
  });

  test(`${topology}: no part is broken again while it is down or paused`, () => {
    for (const seed of seeds) {
      const until = new Map<string, number>();
      for (const { kind, target, atMs, forMs } of planFaults({ ...options, seed }).faults) {
        const option = targetsOf(kind, topologies[topology]).find((each) => each.target === target);
        assert.ok(option, `${kind} ${target}`);
        for (const part of option.parts) {
          assert.ok((until.get(part) ?? 0) <= atMs, `seed ${seed}: ${part} at ${atMs}`);
          until.set(part, atMs + forMs);
        }
      }
    }
  });

  test(`${topology}: a saved plan is read as it was`, () => {
    const plan = planFaults({ ...options, seed: 9 });
    assert.deepEqual(parsePlan(JSON.stringify(plan)), plan);
  });
}

test("nearly every plan of two minutes in one region has every kind of fault", () => {
  const wanted = faultKinds.filter((kind) => isDrawn(kind, "one-region"));
  const complete = seeds.filter((seed) => {
    const { faults } = planFaults({ seconds: 120, topology: "one-region", seed });
    const kinds = new Set(faults.map((fault) => fault.kind));
    return wanted.every((kind) => kinds.has(kind));
  });
  assert.ok(complete.length > seeds.length * 0.8, `${complete.length} of ${seeds.length}`);
});

test("the home region moves only where it may, alone with its brokers and its Postgres, while others are broken", () => {
  const moving = { kind: "move-home", beside: 0 };
  for (const seed of seeds) {
    assert.ok(
      planFaults({ seed, seconds: 180, topology: "three-regions" }).faults.every((f) => f.kind !== moving.kind),
    );
    const { faults } = planFaults({ seed, seconds: 180, topology: "movable-home" });
    const moves = faults.filter(({ kind }) => kind === moving.kind);
    assert.ok(moves.length > 0, `seed ${seed}`);
    for (const { atMs, target } of moves) {
      const meanwhile = faults.filter((each) => each.atMs > atMs && each.atMs < atMs + 45_000);
      moving.beside += meanwhile.length;
      const parts = meanwhile.flatMap((each) =>
        targetsOf(each.kind, topologies["movable-home"]).flatMap((o) => (o.target === each.target ? o.parts : [])),
      );
      for (const part of ["brokers", "postgres", `region ${target}`]) assert.ok(!parts.includes(part), `seed ${seed}`);
    }
  }
  assert.ok(moving.beside > 3 * seeds.length, String(moving.beside));
});

test("a plan may be of some kinds only", () => {
  const { faults } = planFaults({ seed: 5, seconds: 60, topology: "three-regions", only: ["cut-region"] });
  assert.deepEqual([...new Set(faults.map(({ kind }) => kind))], ["cut-region"]);
  assert.ok(faults.length >= 3, String(faults.length));
});

test("faults of audit records happen beside the others, which are those of the seed without them", () => {
  const isBeside = (kind: FaultKind): boolean => faultProfiles[kind].beside === true;
  const options = { seconds: 180, topology: "three-regions" } as const;
  const others = faultKinds.filter((kind) => !isBeside(kind));
  for (const seed of seeds.slice(0, 50)) {
    const { faults } = planFaults({ ...options, seed });
    const withoutIndex = (all: typeof faults) => all.map((fault) => ({ ...fault, index: 0 }));
    const kept = faults.filter(({ kind }) => !isBeside(kind));
    assert.deepEqual(withoutIndex(kept), withoutIndex(planFaults({ ...options, seed, only: others }).faults));
    const kinds = new Set(faults.map(({ kind }) => kind).filter(isBeside));
    assert.ok(kinds.size >= 4, `seed ${seed}: ${[...kinds].join(", ")}`);
  }
});

test("most faults of three regions concern regions", () => {
  const { faults } = planFaults({ seconds: 600, topology: "three-regions", seed: 1 });
  const regional = faults.filter(({ kind }) => !faultProfiles[kind].in.includes("one-region"));
  assert.ok(regional.length > faults.length / 3, `${regional.length} of ${faults.length}`);
});

test("every kind of fault has a target in each topology that draws it", () => {
  for (const kind of faultKinds)
    for (const name of faultProfiles[kind].in)
      assert.ok(targetsOf(kind, topologies[name]).length > 0, `${kind} ${name}`);
});

test("a short run has fewer faults and still ends in time", () => {
  const { faults } = planFaults({ seconds: 40, topology: "one-region", seed: 5 });
  assert.ok(faults.length > 0 && faults.length <= 12);
  assert.ok(faults.every((fault) => fault.atMs + fault.forMs <= 40_000));
  assert.deepEqual(planFaults({ seconds: 10, topology: "one-region", seed: 5 }).faults, []);
});

test("a saved plan that names another fault, target or topology is refused with the place of the mistake", () => {
  const fault = { atMs: 1, kind: "cut-region", target: "us", forMs: 2 };
  const plan = { seed: 1, seconds: 60, topology: "three-regions", faults: [fault] };
  assert.equal(parsePlan(JSON.stringify(plan)).faults.length, 1);
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ ...plan, topology: "two" }, /topology/],
    [{ ...plan, seed: -1 }, /seed/],
    [{ ...plan, faults: [{ ...fault, kind: "burn" }] }, /faults\[0\]\.kind/],
    [{ ...plan, faults: [{ ...fault, target: "eu" }] }, /faults\[0\]\.target: us, ap/],
    [{ ...plan, faults: [{ ...fault, forMs: "2" }] }, /faults\[0\]\.forMs/],
    [{ ...plan, topology: "one-region" }, /cut-region has none here/],
  ];
  for (const [text, message] of wrong) assert.throws(() => parsePlan(JSON.stringify(text)), message);
});

test("a fault is described in one line", () => {
  assert.equal(
    describeFault({ atMs: 12_400, kind: "pause-proxy", target: "proxy-eu-2", forMs: 3_100 }),
    "12.4 s pause-proxy proxy-eu-2 for 3.1 s",
  );
  assert.equal(describeFault({ atMs: 500, kind: "delete-stream", target: "eu", forMs: 0 }), "0.5 s delete-stream eu");
});
