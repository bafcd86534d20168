/** What the judge demands of regions that are cut off, and of the home region meanwhile. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Entry } from "../../chaos/judge/history.ts";
import { nsPerMs } from "../../chaos/judge/history.ts";
import { arrived, faultOf, request, session, violationsOf } from "./support.ts";

const cutOf = (beginMs: number, endMs: number): Entry =>
  faultOf(beginMs, endMs, { what: "cut-region", target: "us", regions: ["us"], isolates: ["us"] });
const onUs = { node: "proxy-us-1" };

describe("a region that no lease can reach permits nothing after its window", () => {
  const after = request({ begin: 6_100, end: 6_110, arrived: 6_101, sent: 6_102 }, onUs);

  test("a request that begins after the window and reaches the upstream is a violation", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), after]), ["permitted-in-isolated-region"]);
    const unknown = request({ begin: 6_100, end: 8_000 }, { ...onUs, outcome: "unknown", status: 0 });
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), unknown, arrived(6_200)]), [
      "permitted-in-isolated-region",
    ]);
  });

  test("a request within the window, after healing, or of another region is none", () => {
    const within = request({ begin: 5_900, end: 5_910, arrived: 5_901, sent: 5_902 }, onUs);
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), within]), []);
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 6_050), after]), []);
    const elsewhere = request({ begin: 6_100, end: 6_110, arrived: 6_101, sent: 6_102 }, { node: "proxy-ap-1" });
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), elsewhere]), []);
  });

  test("a request that a node of the region refuses is none", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), request({ begin: 6_100, end: 6_110 }, onUs)]), []);
  });

  test("a fault that was certainly never in force demands nothing", () => {
    const failed = faultOf(1_000, 9_000, { regions: ["us"], isolates: ["us"], inForce: null, problem: "no network" });
    assert.deepEqual(violationsOf([session(), failed, after]), []);
  });
});

describe("faults of other regions do not disturb the home region", () => {
  const requests = (permitted: number, all: number, node = "proxy-eu-1"): readonly Entry[] =>
    Array.from({ length: all }, (_, i) => {
      const begin = 1_500 + i;
      const times = i < permitted ? { begin, end: begin + 1, arrived: begin, sent: begin } : { begin, end: begin + 1 };
      return request(times, { id: `r${i}`, node });
    });

  test("a share of refusals that no busy machine explains is a violation", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), ...requests(250, 300)]), ["home-disturbed"]);
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), ...requests(299, 300)]), []);
  });

  test("no share is demanded on a machine where the processes of the harness wait long for a processor", () => {
    const load = (waitedMs: number): Entry => {
      return { type: "load", process: "load", begin: 0, end: 5_000 * nsPerMs, ranMs: 1_000, waitedMs };
    };
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), ...requests(250, 300), load(9_000)]), []);
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), ...requests(250, 300), load(2_000)]), [
      "home-disturbed",
    ]);
  });

  test("refusals in the region that is broken do not count", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), ...requests(0, 300, "proxy-us-1")]), []);
  });

  test("refusals while the home region itself is broken, or while a client was stalled, do not count", () => {
    const own = faultOf(1_000, 4_000, { what: "kill-leader", regions: ["eu"] });
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), own, ...requests(0, 300)]), []);
    const stall = { type: "stall", process: "load", begin: 1_000 * nsPerMs, end: 4_000 * nsPerMs } as const;
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 4_000), stall, ...requests(0, 300)]), []);
  });
});

describe("where the home region moves", () => {
  const move = (region: string, beginMs: number, endMs: number, problem = ""): Entry => {
    return { type: "home-move", region, begin: beginMs * nsPerMs, end: endMs * nsPerMs, problem };
  };
  const after = request({ begin: 7_100, end: 7_110, arrived: 7_101, sent: 7_102 }, onUs);

  test("a region may be served again once a move has begun, because the leader may be where it can be reached", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), move("us", 7_000, 8_000), after]), []);
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), move("us", 7_200, 8_000), after]), [
      "permitted-in-isolated-region",
    ]);
  });

  test("a fault that begins while no region is known to be the home region isolates none", () => {
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), move("us", 500, 1_500), after]), []);
    const refused = [move("us", 500, 600, "refused"), move("us", 9_500, 9_600)];
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), ...refused, after]), []);
    const again = [move("us", 500, 600, "refused"), move("eu", 700, 900)];
    assert.deepEqual(violationsOf([session(), cutOf(1_000, 9_000), ...again, after]), ["permitted-in-isolated-region"]);
  });

  test("a move that was refused or interrupted has to succeed when it is repeated", () => {
    const interrupted = move("us", 500, 600, "interrupted");
    assert.deepEqual(violationsOf([session(), interrupted]), ["not-ready-in-time"]);
    assert.deepEqual(violationsOf([session(), interrupted, move("us", 700, 900)]), []);
  });

  const requestsOf = (node: string): readonly Entry[] =>
    Array.from({ length: 300 }, (_, i) => {
      const begin = 11_000 + i;
      return request({ begin, end: begin + 1 }, { id: `r${i}`, node });
    });
  const cutOfAp = faultOf(10_500, 14_000, { what: "cut-region", target: "ap", regions: ["ap"], isolates: ["ap"] });

  test("the region that is home then must not be disturbed, and the one before may be", () => {
    const moved = [session(), move("us", 2_000, 3_000), cutOfAp];
    assert.deepEqual(violationsOf([...moved, ...requestsOf("proxy-us-1")]), ["home-disturbed"]);
    assert.deepEqual(violationsOf([...moved, ...requestsOf("proxy-eu-1")]), []);
    assert.deepEqual(violationsOf([session(), cutOfAp, ...requestsOf("proxy-eu-1")]), ["home-disturbed"]);
  });

  test("no region must be served while the home region moves, and shortly after", () => {
    const refused = [move("us", 2_000, 3_000, "refused"), move("us", 20_000, 20_100)];
    for (const moving of [[move("us", 10_000, 13_000)], [move("us", 7_000, 9_500)], refused])
      for (const node of ["proxy-us-1", "proxy-eu-1"])
        assert.deepEqual(violationsOf([session(), ...moving, cutOfAp, ...requestsOf(node)]), []);
  });
});

test("a broken promise of a scenario is a violation, and a kept one is not", () => {
  const promise = { type: "promise", scenario: "s", promise: "us serves", begin: 1, end: 2, boundMs: 8_000 } as const;
  assert.deepEqual(violationsOf([{ ...promise, kept: true, tookMs: 3, seen: "" }]), []);
  assert.deepEqual(violationsOf([{ ...promise, kept: false, tookMs: null, seen: "503" }]), ["promise-broken"]);
});
