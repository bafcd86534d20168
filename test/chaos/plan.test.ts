/** The plan of faults that a seed gives. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeFault, faultKinds, type PlannedFault, planFaults } from "../../chaos/plan.ts";

const options = { seconds: 120, proxies: 3, natsServers: 3 };
const seeds = Array.from({ length: 200 }, (_, i) => i * 7_919 + 1);

test("the same seed gives the same plan, and another seed a different one", () => {
  assert.deepEqual(planFaults({ ...options, seed: 42 }), planFaults({ ...options, seed: 42 }));
  assert.notDeepEqual(planFaults({ ...options, seed: 42 }).faults, planFaults({ ...options, seed: 43 }).faults);
});

test("every seed plans at least 20 faults in two minutes, in order, with quiet times at both ends", () => {
  for (const seed of seeds) {
    const { faults } = planFaults({ ...options, seed });
    assert.ok(faults.length >= 20, `seed ${seed}: ${faults.length} faults`);
    assert.deepEqual(
      faults.map((fault) => fault.atMs),
      faults.map((fault) => fault.atMs).sort((a, b) => a - b),
    );
    assert.ok((faults[0]?.atMs ?? 0) >= 6_000);
    assert.ok(Math.max(...faults.map((fault) => fault.atMs + fault.forMs)) <= 120_000);
  }
});

test("nearly every plan of two minutes has every kind of fault", () => {
  const complete = seeds.filter((seed) => {
    const kinds = new Set(planFaults({ ...options, seed }).faults.map((fault) => fault.kind));
    return faultKinds.every((kind) => kinds.has(kind));
  });
  assert.ok(complete.length > seeds.length * 0.9, `${complete.length} of ${seeds.length}`);
});

test("no part is broken again while it is down or paused", () => {
  const partsOf = ({ kind, target }: PlannedFault): string[] => {
    if (kind === "rolling-restart") return ["proxy 0", "proxy 1", "proxy 2"];
    if (kind === "kill-all-nats" || kind === "pause-all-nats") return ["nats 0", "nats 1", "nats 2"];
    if (kind === "cut-proxy-and-kill-leader") return [`proxy ${target}`, "brokers"];
    if (kind === "promote-lagging-standby") return ["postgres", "brokers"];
    if (kind === "hostile-nats-client") return [];
    if (kind.includes("-proxy")) return [`proxy ${target}`];
    if (kind.endsWith("nats")) return [`nats ${target}`];
    if (/leader|standby|brokers$/.test(kind)) return ["brokers"];
    return kind === "delete-stream" ? [] : ["postgres"];
  };
  for (const seed of seeds) {
    const until = new Map<string, number>();
    for (const fault of planFaults({ ...options, seed }).faults) {
      for (const part of partsOf(fault)) {
        assert.ok((until.get(part) ?? 0) <= fault.atMs, `seed ${seed}: ${part} at ${fault.atMs}`);
        until.set(part, fault.atMs + fault.forMs);
      }
    }
  }
});

test("a short run has fewer faults and still ends in time", () => {
  const { faults } = planFaults({ ...options, seconds: 40, seed: 5 });
  assert.ok(faults.length > 0 && faults.length <= 12);
  assert.ok(faults.every((fault) => fault.atMs + fault.forMs <= 40_000));
  assert.deepEqual(planFaults({ ...options, seconds: 10, seed: 5 }).faults, []);
});

test("a fault is described in one line", () => {
  assert.equal(
    describeFault({ index: 0, atMs: 12_400, kind: "pause-proxy", target: 1, forMs: 3_100 }),
    "12.4 s pause-proxy 2 for 3.1 s",
  );
  assert.equal(
    describeFault({ index: 0, atMs: 500, kind: "delete-stream", target: null, forMs: 0 }),
    "0.5 s delete-stream",
  );
});
