/** Move plan: the steps by which the home region moves, from what the servers say, at every point of a run. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Epoch, genesis } from "../../../../src/events/index.ts";
import {
  type AttachedStandby,
  type MoveView,
  planMove,
  strayStandbys,
} from "../../../../src/replication/log/postgres/move-plan.ts";
import type { ServerHead } from "../../../../src/replication/log/postgres/newest-head.ts";
import type { PromotionOrder } from "../../../../src/replication/log/postgres/promotion-order.ts";

const system = "1";
function server(host: string, parts: Partial<ServerHead> = {}, epoch = 1): ServerHead {
  const log = {
    ...{ cluster: "test", epoch: epoch as Epoch, incarnation: null, brokerId: null, brokerUrl: null, beat: 1 },
    ...{ head: genesis, durable: { ...genesis, epoch: epoch as Epoch }, durability: "asynchronous" as const },
  };
  return { host, name: host, role: "standby", writes: "accepted", system, timeline: 1, log, ...parts };
}
const primary = (host: string, parts: Partial<ServerHead> = {}, epoch = 1) =>
  server(host, { role: "primary", ...parts }, epoch);
const streams = (name: string, behindBytes = 0, unreplayedBytes = 0): AttachedStandby => ({
  ...{ name, isStreaming: true, behindBytes, unreplayedBytes },
});

function view(servers: readonly ServerHead[], parts: Partial<MoveView> = {}): MoveView {
  return {
    ...{ servers, unread: [], newest: servers[0] ?? null, fenced: [], rivals: [], doubt: null },
    target: new Set(["us"]),
    synchronous: "ANY 1 (east, us, ap)",
    attached: [streams("us"), streams("ap")],
    names: new Map(["east", "us", "ap", "west"].map((name) => [name, name])),
    regions: new Map([["east", "east"]]),
    heldBack: new Map(),
    orders: new Map(),
    ...parts,
  };
}
const stepsOf = (seen: MoveView): readonly string[] => planMove(seen).steps.map(({ id, state }) => `${id}: ${state}`);
const three = [primary("east"), server("us"), server("ap")];

describe("a planned move", () => {
  test("stops the writes, lets the target catch up, promotes it, and makes the others follow", () => {
    const plan = planMove(view(three));
    assert.deepEqual([plan.kind, plan.refusal], ["planned", null]);
    assert.deepEqual(stepsOf(view(three)), ["fence: to do", "catch-up: to do", "promote: to do", "follow: to do"]);
  });
  test("that was interrupted after the fence continues, though the standbys were stopped meanwhile", () => {
    const seen = view([primary("east", { writes: "refused" }), server("us"), server("ap")], { attached: [] });
    assert.equal(planMove(seen).refusal, null);
    assert.deepEqual(stepsOf(seen), ["fence: done", "catch-up: to do", "promote: to do", "follow: to do"]);
  });
  test("is refused while no standby of the target answers, receives, or is near", () => {
    assert.match(planMove(view([primary("east"), server("ap")])).refusal ?? "", /none of us answers as a standby/);
    assert.match(
      planMove(view(three, { attached: [streams("ap")] })).refusal ?? "",
      /no standby of the target region receives from east/,
    );
    const behind = view(three, { attached: [streams("us", 64 * 1_048_576), streams("ap")] });
    assert.match(planMove(behind).refusal ?? "", /us is 64 MiB behind east/);
  });
  test("is refused while a standby, also of another region, replays late: the promotion would wait for it", () => {
    const slow = view(three, { attached: [streams("us"), streams("ap", 0, 64 * 1_048_576)] });
    assert.match(planMove(slow).refusal ?? "", /ap has 64 MiB to replay/);
    const held = view(three, { heldBack: new Map([["ap", "has its replay paused; resume it"]]) });
    assert.match(planMove(held).refusal ?? "", /^ap has its replay paused; resume it, or leave it out of/);
    const lost = view([server("us"), server("ap")], { heldBack: new Map([["us", "replays 1h late"]]) });
    assert.match(planMove(lost).refusal ?? "", /^us replays 1h late/);
  });
  test("is refused where the commits would wait for standbys that are not there", () => {
    const refusal = /after the move 0 of the 1 standbys that commits must wait for would follow/;
    const two = view([primary("east"), server("us")], { unread: [{ host: "ap", problem: "silent" }] });
    assert.match(planMove(two).refusal ?? "", refusal);
    assert.equal(planMove({ ...two, synchronous: "" }).refusal, null);
    assert.match(
      planMove(view(three, { synchronous: "ANY 2 (east, us, ap)" })).refusal ?? "",
      /after the move 1 of the 2/,
    );
  });
});

describe("a server that does not answer while the newest primary refuses writes", () => {
  const promoted = /an earlier run may have promoted a server that does not answer: us \(silent\)/;
  const unread = [{ host: "us", problem: "silent" }];
  const fenced = primary("east", { writes: "refused" });
  const inEast = { target: new Set(["east"]), unread };
  const inAp = { target: new Set(["ap"]), unread };

  test("may have been promoted by an earlier run: without synchronous standbys no move goes on, here or elsewhere", () => {
    for (const parts of [inEast, inAp]) {
      const seen = view([fenced, server("ap")], { ...parts, attached: [streams("ap")], synchronous: "" });
      const { refusal } = planMove(seen);
      assert.match(refusal ?? "", promoted);
      assert.match(refusal ?? "", /east refuses writes meanwhile\. Run this command again when .* use --accept-loss$/);
      const accepted = planMove(seen, "accept");
      assert.equal(accepted.refusal, null);
      assert.match(accepted.warnings.join(), promoted);
    }
  });
  test("is no obstacle where all servers answer, or while no earlier run has stopped the writes", () => {
    const answered = view([fenced, server("us"), server("ap")], { target: new Set(["east"]), synchronous: "" });
    assert.equal(planMove(answered).refusal, null);
    const open = view([primary("east"), server("ap")], { ...inEast, synchronous: "" });
    assert.equal(planMove(open).refusal, null);
  });
  test("could acknowledge nothing where too few standbys are left to it", () => {
    const followed = view([fenced, server("ap")], { ...inEast, attached: [streams("ap")] });
    assert.equal(planMove(followed).refusal, null, "ap receives from east, so us has none");
    assert.match(planMove({ ...followed, attached: [] }).refusal ?? "", promoted, "ap may receive from us");
    const unnamed = new Map([...followed.names].filter(([host]) => host !== "us"));
    const other = { ...followed, names: new Map([...unnamed, ["us", "elsewhere"]]) };
    assert.match(planMove(other).refusal ?? "", promoted, "the silent server may have the listed us beside it");
    for (const synchronous of ["*", "ANY 1 (", "ANY 1 (east, us, ap, west)"])
      assert.match(planMove({ ...followed, synchronous }).refusal ?? "", promoted, synchronous);
  });
});

describe("a standby that an earlier run has ordered to become a primary", () => {
  const given = { state: "given", why: "was ordered by an earlier run to become a primary" } as const;
  const hidden = { state: "unknown", why: "may have been ordered to become a primary: permission denied" } as const;
  const fenced = [primary("east", { writes: "refused" }), server("us"), server("ap")];
  const ofUs = { orders: new Map([["us", given]]), regions: new Map([["us", "us"]]) };

  test("keeps the fenced primary from being opened, and every other standby from being promoted, whatever is accepted", () => {
    const text =
      /^us was ordered by an earlier run .* at any time.* Run cardea region move-home us, which waits for it/;
    for (const region of ["east", "ap"])
      for (const synchronous of ["", "ANY 1 (east, us, ap)"]) {
        const seen = view(fenced, { ...ofUs, synchronous, target: new Set([region]) });
        for (const loss of ["refuse", "accept"] as const) assert.match(planMove(seen, loss).refusal ?? "", text);
        assert.match(planMove(seen).refusal ?? "", /\. east refuses writes meanwhile\. Run/);
      }
    const lost = view([server("ap"), server("us")], { ...ofUs, attached: [], target: new Set(["ap"]) });
    assert.match(planMove(lost).refusal ?? "", text);
  });
  test("is named first, before one of which it cannot be shown, which is refused too", () => {
    const seen = { ...ofUs, target: new Set(["east"]), orders: new Map<string, PromotionOrder>([["ap", hidden]]) };
    assert.match(planMove(view(fenced, seen)).refusal ?? "", /^ap may have been ordered .*: permission denied\. east/);
    const both = new Map([...seen.orders, ...ofUs.orders]);
    assert.match(planMove(view(fenced, { ...seen, orders: both })).refusal ?? "", /^us was ordered/);
  });
  test("is a warning where the newest primary accepts writes already: nothing that a run does makes it worse", () => {
    const plan = planMove(view(three, { ...ofUs, target: new Set(["east"]) }));
    assert.equal(plan.refusal, null);
    assert.match(plan.warnings.join(), /us was ordered by an earlier run/);
  });
});

test("a refusal says that an earlier run has stopped the changes, and how to end that", () => {
  const ends = /; east refuses writes meanwhile; cardea region move-home east ends that$/;
  const fenced = primary("east", { writes: "refused" });
  const refused = [
    view([fenced, server("ap")]),
    view([fenced, server("us"), server("ap")], { heldBack: new Map([["ap", "has its replay paused"]]) }),
    view([fenced, server("us"), server("ap")], { synchronous: "ANY 2 (east, us, ap)" }),
  ];
  for (const seen of refused) assert.match(planMove(seen).refusal ?? "", ends);
  assert.doesNotMatch(planMove(view([primary("east"), server("ap")])).refusal ?? "", /meanwhile/);
});

describe("a lost home", () => {
  const lost = [server("ap"), server("us")];
  test("has its standbys stopped and compared before one is promoted", () => {
    const plan = planMove(view(lost, { attached: [], unread: [{ host: "east", problem: "silent" }] }));
    assert.deepEqual([plan.kind, plan.refusal, plan.warnings], ["lost", null, []]);
    assert.deepEqual(
      plan.steps.map(({ id }) => id),
      ["promote", "follow"],
    );
  });
  test("is moved with a warning where commits would wait afterwards", () =>
    assert.match(planMove(view([server("us")], { attached: [] })).warnings[0] ?? "", /after the move 0 of the 1/));
  test("is refused where no server of the target answers, and where none answers at all", () => {
    assert.match(planMove(view([server("ap")], { attached: [] })).refusal ?? "", /none of us answers as a standby/);
    assert.match(planMove(view([], { attached: [] })).refusal ?? "", /no Postgres server with the log/);
  });
});

describe("the newest primary is in the target region", () => {
  const arrived = (parts: Partial<ServerHead> = {}) => [
    primary("us", { timeline: 2, ...parts }, 2),
    server("ap", {}, 2),
  ];
  test("nothing is left to do where the others follow and no other primary accepts writes", () => {
    const seen = view(arrived(), { attached: [streams("ap")] });
    assert.deepEqual(stepsOf(seen), ["fence: done", "open: done", "follow: done"]);
  });
  test("standbys that a killed run left without a server follow, and a fence that came with a copy is removed", () => {
    const seen = view(arrived({ writes: "refused" }), { attached: [] });
    assert.deepEqual(stepsOf(seen), ["fence: done", "open: to do", "follow: to do"]);
    assert.deepEqual(strayStandbys(seen), ["ap"]);
  });
  test("an old primary that came back is fenced", () => {
    const seen = view([...arrived(), primary("east")], { attached: [streams("ap")] });
    assert.deepEqual(stepsOf(seen), ["fence: to do", "open: done", "follow: done"]);
    assert.match(planMove(seen).steps[0]?.what ?? "", /east refuses writes: it is an old primary/);
  });
});
