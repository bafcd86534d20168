/** Newest head: which server is read when several claim the log, and which of the others rival it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Epoch, type Link, parseHash, parsePosition } from "../../../../src/events/index.ts";
import {
  compareHeads,
  judgeHeads,
  linkToHold,
  newestOf,
  type ServerHead,
} from "../../../../src/replication/log/postgres/newest-head.ts";

const cluster = "test";
const link = (epoch: number, position: number): Link => ({
  epoch: epoch as Epoch,
  position: parsePosition(position),
  hash: parseHash(position.toString(16).padStart(64, "0")),
});

type Parts = Partial<Omit<ServerHead, "log">> &
  Readonly<{ epoch?: number; proven?: number; position?: number; durability?: "synchronous" | "asynchronous" }>;

function server(host: string, parts: Parts = {}): ServerHead {
  const { epoch = 1, proven = epoch, position = 10, durability = "asynchronous", ...rest } = parts;
  const head = link(epoch, position);
  const log = {
    ...{
      cluster,
      epoch: epoch as Epoch,
      incarnation: null,
      brokerId: null,
      brokerUrl: null,
      beat: 1,
      head,
      durability,
    },
    durable: link(proven, position),
  };
  return { host, name: host, role: "primary", writes: "accepted", system: "1", timeline: 1, log, ...rest };
}
const standby = (host: string, parts: Parts = {}): ServerHead => server(host, { role: "standby", ...parts });
const judge = (
  servers: readonly ServerHead[],
  { held = servers.map(({ host }) => host), unread = [] as readonly string[] } = {},
) =>
  judgeHeads(
    { servers, unread: unread.map((host) => ({ host, problem: "connection refused" })) },
    { cluster, holds: new Set(held) },
  );

describe("the newest server", () => {
  for (const [why, servers] of [
    ["is the primary among standbys that follow it", [standby("a"), server("NEW"), standby("b")]],
    ["has the later proven epoch", [server("old"), server("NEW", { epoch: 2 })]],
    [
      "is not the one that merely opened a later epoch without a clean commit",
      [server("old", { epoch: 3, proven: 1, timeline: 1 }), server("NEW", { epoch: 2, proven: 2 })],
    ],
    [
      "was promoted from the other, though no epoch was opened there yet",
      [server("old", { position: 12 }), server("NEW", { timeline: 2 })],
    ],
    [
      "is a standby if the primary that it follows does not answer and an old primary does",
      [server("old"), standby("NEW", { epoch: 2 })],
    ],
    [
      "is found by epoch where the role may not read the timeline",
      [server("old", { system: null, timeline: 9 }), server("NEW", { epoch: 2, system: null })],
    ],
    [
      "is not compared by timeline with a server of another origin",
      [server("old", { system: "2", timeline: 9 }), server("NEW", { position: 11 })],
    ],
  ] as const) {
    test(why, () => {
      for (const order of [servers, servers.toReversed()])
        assert.equal(newestOf({ servers: order }, cluster)?.host, "NEW");
    });
  }
  test("is null where no server has the log of this cluster", () => {
    const empty: ServerHead = { ...server("a"), log: null };
    assert.equal(newestOf({ servers: [empty] }, cluster), null);
    assert.equal(newestOf({ servers: [server("a")] }, "another"), null);
  });
  test("comparing is antisymmetric", () => {
    const all = [server("a"), server("b", { epoch: 2 }), server("c", { timeline: 2 }), standby("d", { epoch: 2 })];
    for (const a of all)
      for (const b of all) assert.equal(Math.sign(compareHeads(a, b)) + Math.sign(compareHeads(b, a)), 0);
  });
});

describe("rivals", () => {
  test("an old primary that still runs is a rival", () => {
    const { newest, rivals } = judge([server("old"), server("new", { epoch: 2 })]);
    assert.equal(newest?.host, "new");
    assert.deepEqual(
      rivals.map(({ host }) => host),
      ["old"],
    );
    assert.match(rivals[0]?.why ?? "", /acts as a primary \(epoch 1, head /);
  });
  test("an old primary that refuses writes and holds nothing else is fenced, not a rival", () => {
    const { fenced, rivals } = judge([server("old", { writes: "refused" }), server("new", { epoch: 2 })]);
    assert.deepEqual([fenced.map(({ host }) => host), rivals], [["old"], []]);
  });
  test("an old primary that refuses writes and holds other events is a rival", () => {
    const { fenced, rivals } = judge([server("old", { writes: "refused" }), server("new", { epoch: 2 })], {
      held: ["new"],
    });
    assert.deepEqual([fenced, rivals.map(({ host }) => host)], [[], ["old"]]);
    assert.match(rivals[0]?.why ?? "", /holds events that the newest log does not hold/);
  });
  test("a standby with another history is a rival, and one that is behind is none", () => {
    const seen = [server("new"), standby("behind", { position: 4 }), standby("other", { position: 4 })];
    const { rivals } = judge(seen, { held: ["behind"] });
    assert.deepEqual(
      rivals.map(({ host }) => host),
      ["other"],
    );
  });
  test("a primary without a log, and a log of another cluster, are rivals", () => {
    const empty: ServerHead = { ...server("empty"), log: null };
    const foreign = server("foreign");
    assert.ok(foreign.log !== null);
    const { rivals } = judge([server("new"), empty, { ...foreign, log: { ...foreign.log, cluster: "another" } }]);
    assert.deepEqual(
      rivals.map(({ host }) => host),
      ["empty", "foreign"],
    );
  });
  test("a standby is compared by what is proven, a primary by all that it shows", () => {
    assert.equal(linkToHold(standby("a", { epoch: 2, proven: 1 }))?.epoch, 1);
    assert.equal(linkToHold(server("a", { epoch: 2, proven: 1 }))?.epoch, 2);
    assert.equal(linkToHold({ ...server("a"), log: null }), null);
  });
});

describe("doubt", () => {
  test("a server that did not answer may be newer, unless the standbys show that nothing else was promoted", () => {
    assert.match(judge([server("a")], { unread: ["b"] }).doubt ?? "", /^b did not answer and may hold a newer epoch/);
    assert.equal(judge([server("a", { durability: "synchronous" })], { unread: ["b"] }).doubt, null);
    assert.equal(judge([server("a")]).doubt, null);
  });
  test("a standby is doubted while its primary is not read, and not where it is the only server", () => {
    assert.match(judge([standby("a")], { unread: ["b"] }).doubt ?? "", /its primary was not read/);
    assert.match(judge([standby("a", { epoch: 2 }), server("old")]).doubt ?? "", /its primary was not read/);
    assert.equal(judge([standby("a")]).doubt, null);
  });
});
