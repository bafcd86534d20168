/** Balancer: each policy alone, with weights and ineligible members, and the keys that move when a member leaves. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type BalancedMember,
  balancingKeyOf,
  compileBalancer,
  routingKeyOf,
} from "../../../src/proxy/upstream/balancer.ts";
import { Cluster } from "../../../src/proxy/upstream/cluster.ts";
import { route } from "../../auth/authorize/support.ts";

const { balancing } = route();
const outliersOff = { balancing, outlierDetection: null };
/** mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
const members = (weights: readonly number[], busy: readonly number[] = []): readonly BalancedMember[] =>
  weights.map((weight, i) => ({ name: `http://10.0.0.${i}:80/`, weight, busy: () => busy[i] ?? 0 }));
const all = (count: number): readonly boolean[] => Array.from({ length: count }, () => true);

function counts(pick: ReturnType<typeof compileBalancer>, eligible: readonly boolean[], rounds: number): number[] {
  const found = eligible.map(() => 0);
  for (let i = 0; i < rounds; i++) {
    const member = pick(eligible, balancingKeyOf(String(i)));
    assert.ok(member !== undefined && eligible[member] === true);
    found[member] = (found[member] ?? 0) + 1;
  }
  return found;
}

describe("round robin", () => {
  test("takes turns by weight, and spreads out the turns of a heavy member", () => {
    const pick = compileBalancer(balancing, members([3, 1]), randomOf(1));
    const turns = Array.from({ length: 8 }, () => pick(all(2), 0));
    assert.deepEqual(turns, [0, 0, 1, 0, 0, 0, 1, 0]);
  });
  test("skips members that are not eligible; with none left it returns none", () => {
    const pick = compileBalancer(balancing, members([1, 1, 1]), randomOf(1));
    assert.deepEqual(counts(pick, [true, false, true], 10), [5, 0, 5]);
    assert.equal(pick([false, false, false], 0), undefined);
  });
});

describe("least request", () => {
  const config = { ...balancing, policy: "least_request" } as const;
  test("picks the less busy of two random members", () => {
    const pick = compileBalancer(config, members([1, 1, 1, 1], [9, 9, 0, 9]), randomOf(2));
    const [a = 0, b = 0, idle = 0, d = 0] = counts(pick, all(4), 4_000);
    // It is drawn in at least one of two draws with probability 7/16, and is then always chosen.
    assert.ok(idle > 1_600 && idle < 1_900, `${[a, b, idle, d]}`);
  });
  test("draws more members if the route says so", () => {
    const pick = compileBalancer({ ...config, choiceCount: 40 }, members([1, 1, 1, 1], [9, 9, 0, 9]), randomOf(2));
    assert.ok((counts(pick, all(4), 100)[2] ?? 0) >= 99);
  });
  test("different weights shrink with the requests in progress", () => {
    const pick = compileBalancer(config, members([4, 1], [3, 0]), randomOf(3));
    assert.deepEqual(counts(pick, all(2), 10), [5, 5]);
    const unbiased = compileBalancer({ ...config, activeRequestBias: 0 }, members([4, 1], [3, 0]), randomOf(3));
    assert.deepEqual(counts(unbiased, all(2), 10), [8, 2]);
  });
});

test("random: in proportion to weights, never an ineligible member", () => {
  const pick = compileBalancer({ ...balancing, policy: "random" }, members([3, 1, 1]), randomOf(4));
  const [a = 0, b = 0, c = 0] = counts(pick, [true, true, false], 4_000);
  assert.ok(a > 2_850 && a < 3_150 && c === 0, `${[a, b, c]}`);
});

for (const policy of ["ring_hash", "maglev"] as const) {
  describe(policy, () => {
    const config = { ...balancing, policy, tableSize: 5_003, ringSizeMin: 4_096 };
    const keys = Array.from({ length: 3_000 }, (_, i) => balancingKeyOf(routingKeyOf(`session-${i}`)));

    test("a key maps to the same member on every node, and keys are spread by weight", () => {
      const [one, other] = [members([1, 1, 2]), members([1, 1, 2])].map((each) =>
        compileBalancer(config, each, randomOf(5)),
      );
      const places = keys.map((key) => one?.(all(3), key));
      assert.deepEqual(
        places,
        keys.map((key) => other?.(all(3), key)),
      );
      const share = places.filter((member) => member === 2).length / keys.length;
      assert.ok(share > 0.4 && share < 0.6, String(share));
    });
    test("when a member leaves, only its keys move, to all others, and they return with it", () => {
      const pick = compileBalancer(config, members([1, 1, 1, 1]), randomOf(6));
      const before = keys.map((key) => pick(all(4), key));
      const without = keys.map((key) => pick([true, true, false, true], key));
      const movedTo = new Set<number | undefined>();
      keys.forEach((_, i) => {
        if (before[i] === 2) movedTo.add(without[i]);
        else assert.equal(without[i], before[i]);
      });
      assert.deepEqual([...movedTo].sort(), [0, 1, 3]);
      assert.deepEqual(
        keys.map((key) => pick(all(4), key)),
        before,
      );
    });
    test("a new member gets its share of the keys, and few others move", () => {
      const four = compileBalancer(config, members([1, 1, 1, 1]), randomOf(7));
      const five = compileBalancer(config, members([1, 1, 1, 1, 1]), randomOf(7));
      const moved = keys.filter((key) => four(all(4), key) !== five(all(5), key)).length / keys.length;
      assert.ok(moved > 0.1 && moved < 0.35, String(moved));
    });
  });
}

describe("panic", () => {
  const quiet = { onHealth() {}, onEjection() {} };
  const cluster = (count: number, panicThreshold: number) =>
    new Cluster({ ...outliersOff, balancing: { ...balancing, panicThreshold } }, members(all(count).map(() => 1)), {
      now: () => 0,
      random: randomOf(8),
      events: quiet,
    });
  const picked = (one: Cluster, rounds: number) => new Set(Array.from({ length: rounds }, () => one.pick(0)));

  test("with half of the members healthy, only those are used", () => {
    const one = cluster(4, 50);
    one.setHealthy(0, false);
    one.setHealthy(1, false);
    assert.deepEqual(picked(one, 10), new Set([2, 3]));
  });
  test("with fewer healthy members, all are used", () => {
    const one = cluster(4, 50);
    for (const member of [0, 1, 2]) one.setHealthy(member, false);
    assert.deepEqual(picked(one, 10).size, 4);
    one.setHealthy(0, true);
    assert.deepEqual(picked(one, 10), new Set([0, 3]));
  });
  test("with a threshold of 0 it returns none if none is healthy", () => {
    const one = cluster(2, 0);
    one.setHealthy(0, false);
    assert.deepEqual(picked(one, 4), new Set([1]));
    one.setHealthy(1, false);
    assert.equal(one.pick(0), undefined);
  });
});
