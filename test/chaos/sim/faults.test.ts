/** The faults of a simulation: each is reported before and after it acts, and everything is repaired at the end. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SimFact, SimFactOf } from "../../../chaos/sim/facts.ts";
import type { PlannedFault } from "../../../chaos/sim/fault-plan.ts";
import { type FaultContext, startFaults } from "../../../chaos/sim/faults.ts";
import { type FaultKind, faultClasses, optionsOf } from "../../../chaos/sim/swarm.ts";
import { World } from "../../../chaos/sim/world.ts";
import { buildIdleCluster } from "./idle-cluster.ts";

const kinds: readonly FaultKind[] = Object.values(faultClasses).flat();

function setUp(seed: number) {
  const facts: SimFact[] = [];
  const world = new World({ seed, facts: (fact) => facts.push(fact), traceLinesMax: 1_000 });
  const options = optionsOf(seed);
  const cluster = buildIdleCluster(world, options);
  const infrastructure = [...world.processes.values()].filter(({ identity }) => identity.role !== "client");
  const context: FaultContext = {
    ...{ actors: cluster.actors, options, infrastructure, clients: cluster.clients, rollout: { finalizing: "no" } },
    pick: (list, by) => list[Math.floor(by * list.length)],
  };
  for (const client of cluster.clients) client.start();
  world.run(2_000);
  return { world, facts, context, heard: cluster.heard };
}

const fault = (kind: FaultKind, more: Partial<PlannedFault> = {}): PlannedFault => ({
  ...{ id: 0, atMs: 3_000, kind, forMs: 2_000, who: 0.5, other: 0.3, much: 0.6, ...more },
});

function ofType<Type extends SimFact["type"]>(facts: readonly SimFact[], type: Type): SimFactOf<Type>[] {
  return facts.filter((fact): fact is SimFactOf<Type> => fact.type === type);
}

function assertRepaired({ world, context }: ReturnType<typeof setUp>): void {
  const all = [...world.processes.values()];
  assert.deepEqual(
    all.filter(({ status }) => status !== "running").map(({ name }) => name),
    [],
  );
  for (const from of all) for (const to of all) assert.ok(!world.network.isCut(from, to), `${from.name}>${to.name}`);
  assert.ok(context.actors.postgres.primary.isPrimary);
  assert.equal(context.actors.postgres.servers.filter((server) => server.isPrimary).length, 1);
  assert.equal(context.actors.postgres.synchronous, context.options.synchronous);
}

for (const kind of kinds) {
  test(`${kind} is reported, lasts for its duration and is repaired`, () => {
    const setup = setUp(11);
    const { world, facts, context } = setup;
    const wall = new Map([...world.processes.values()].map((process) => [process, process.clock.wall() - world.now]));
    const faults = startFaults(context, [fault(kind)]);
    world.run(12_000);
    assert.equal(faults.begun(), 1);
    const [began] = ofType(facts, "fault-began");
    const [ended] = ofType(facts, "fault-ended");
    assert.deepEqual([began?.kind, began?.at, ended?.kind, ended?.at], [kind, 3_000, kind, 5_000]);
    let healed = false;
    faults.heal(() => {
      healed = true;
    });
    world.run(25_000);
    assert.ok(healed);
    assertRepaired(setup);
    for (const [process, before] of wall) {
      if (process.identity.role !== "broker" && process.identity.role !== "node") continue;
      assert.ok(Math.abs(process.clock.wall() - world.now - before) < 1_000, `${process.name}'s wall clock is right`);
    }
  });
}

test("faults of every kind at once, stopped half way, are repaired", () => {
  for (const seed of [1, 2, 3]) {
    const setup = setUp(seed);
    const { world, facts, context } = setup;
    const random = world.random("test");
    const plan = kinds.flatMap((kind, id) =>
      [0, 1].map((round) =>
        fault(kind, {
          ...{ id: id * 2 + round, atMs: random.within(3_000, 9_000), forMs: random.within(10, 9_000) },
          ...{ who: random.next(), other: random.next(), much: random.next() },
        }),
      ),
    );
    const faults = startFaults(context, plan);
    world.run(10_000);
    let healed = 0;
    faults.heal(() => {
      healed = world.now;
    });
    assert.deepEqual(
      ofType(facts, "fault-began")
        .map(({ id }) => id)
        .toSorted((a, b) => a - b),
      ofType(facts, "fault-ended")
        .map(({ id }) => id)
        .toSorted((a, b) => a - b),
    );
    world.run(30_000);
    assert.ok(healed > 0, `seed ${seed}`);
    assertRepaired(setup);
  }
});

test("nodes that lack revocations may restart while their region is cut off, and take them after it has healed", () => {
  const restarted = new Set<number>();
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
    const { world, facts, context, heard } = setUp(seed);
    const [home] = context.actors.brokers;
    const [region] = context.actors.regionals;
    assert.ok(home && region);
    startFaults(context, [fault("node-lacks-revocations", { who: 0, other: 0.6, forMs: 1_000 })]);
    world.run(3_650);
    assert.ok(world.network.isCut(home.process, region.process));
    const lacking = heard.splice(0);
    assert.ok(lacking.length > 0 && lacking.every((line) => /^node-[34] limit none taken$/.test(line)), `${lacking}`);
    const starts = ofType(facts, "started").filter(({ at, role }) => role === "node" && at > 3_000);
    assert.ok(starts.length === 0 || starts.length === lacking.length);
    restarted.add(starts.length);
    world.run(3_900);
    assert.ok(!world.network.isCut(home.process, region.process));
    assert.equal(heard.join(), "");
    world.run(4_100);
    assert.equal(heard.filter((line) => line.endsWith("limit none")).length, lacking.length);
  }
  assert.deepEqual([...restarted].sort(), [0, 1, 2], "none, one or both of the nodes restart");
});
