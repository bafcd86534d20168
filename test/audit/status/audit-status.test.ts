/** Audit status: one number per node and sink, reported under the node's own signature. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  blindOf,
  createStatusBoard,
  type NodeAuditStatus,
  type RecorderStats,
  signStatus,
  statusOf,
} from "../../../src/audit/index.ts";
import { encode } from "../../../src/events/index.ts";
import { createDeliveryTag, deliveryTagKey } from "../../../src/replication/fanout/index.ts";
import { secret, signerOf } from "../support.ts";

const cluster = "test";
const nowMs = 1_700_000_000_000;

const stats = (more: Partial<RecorderStats> = {}): RecorderStats => ({
  ...{
    recorded: 100,
    dropped: 0,
    unreserved: 0,
    pending: 3,
    pendingBytes: 900,
    spoolBytes: 5_000,
    refusal: null,
    seal: null,
  },
  sinks: [
    { ...sinkStats("file a"), queued: 7, queuedBytes: 2_000, lagMs: 1_500.4, lost: 11, deadLetters: 2, failing: true },
    sinkStats("nats"),
  ],
  ...more,
});
function sinkStats(name: string): RecorderStats["sinks"][number] {
  return {
    name,
    written: 0,
    writtenAtMs: null,
    lost: 0,
    queued: 0,
    queuedBytes: 0,
    lagMs: 0,
    deadLetters: 0,
    failing: false,
  };
}
const where = { node: "node-a", boot: "boot-a", region: "eu", atMs: nowMs, spoolBytesMax: 10_000 };
const signer = (node = "node-a", boot = "boot-a", more: object = {}) => signerOf({ cluster, node, boot, ...more });

function board(clock = { nowMs, monotonicMs: 0 }) {
  return createStatusBoard({
    ...{ cluster, secrets: [secret] },
    nowMs: () => clock.nowMs,
    monotonicMs: () => clock.monotonicMs,
  });
}

test("blind is what waits in memory and in the spool, is lost, or was rejected, for each sink", () => {
  assert.equal(blindOf(stats(), "file a"), 3 + 7 + 11 + 2);
  assert.equal(blindOf(stats(), "nats"), 3);
  const [first] = statusOf(stats(), where).sinks;
  assert.deepEqual(first, {
    ...{ name: "file a", blind: 23, waiting: 10, lost: 11, deadLetters: 2, lagMs: 1_500, failing: true },
    ...{ written: 0, writtenAtMs: null },
  });
});

test("the newest report of each node counts, and a silent node stays with its age", () => {
  const clock = { nowMs, monotonicMs: 0 };
  const seen = board(clock);
  const report = (atMs: number, pending: number, node = "node-a") =>
    signStatus(statusOf(stats({ pending }), { ...where, node, atMs }), signer(node));
  assert.equal(seen.accept(report(nowMs, 1)), null);
  assert.equal(seen.accept(report(nowMs, 1, "node-b")), null);
  clock.monotonicMs = 10_000;
  clock.nowMs = nowMs + 10_000;
  assert.equal(seen.accept(report(nowMs + 10_000, 2)), null);
  const older = report(nowMs + 5_000, 99);
  assert.equal(seen.accept(older), "outdated");
  clock.monotonicMs = 70_000;
  assert.deepEqual(
    seen.list().map(({ node, heardAgoMs, sinks }) => [node, heardAgoMs, sinks[1]?.blind]),
    [
      ["node-a", 60_000, 2],
      ["node-b", 70_000, 1],
    ],
  );
});

test("a report that is forged, of another node, replayed, malformed or too large is refused", () => {
  const seen = board();
  const good = signStatus(statusOf(stats(), where), signer());
  assert.equal(seen.accept({ ...good, tag: undefined }), "unsigned");
  const stranger = new Uint8Array(32).fill(1);
  assert.equal(
    seen.accept(signStatus(statusOf(stats(), where), signer("node-a", "boot-a", { secret: stranger }))),
    "unsigned",
  );
  const tagged = (envelope: Uint8Array) => ({
    envelope,
    tag: createDeliveryTag(envelope, deliveryTagKey(secret), nowMs),
  });
  const unrooted = signer("node-a", "boot-a", { rootOf: "broker" });
  assert.equal(seen.accept(signStatus(statusOf(stats(), where), unrooted)), "not-authentic");
  assert.equal(seen.accept(signStatus(statusOf(stats(), where), signer("node-b"))), "foreign");
  assert.equal(seen.accept(signStatus(statusOf(stats(), where), signer("node-a", "boot-b"))), "foreign");
  const late = { ...where, atMs: nowMs - 200_000 };
  assert.equal(seen.accept(signStatus(statusOf(stats(), late), signer())), "outdated");
  const ahead = { ...where, atMs: nowMs + 200_000 };
  assert.equal(seen.accept(signStatus(statusOf(stats(), ahead), signer())), "outdated");
  const made = statusOf(stats(), where);
  const bad: readonly unknown[] = [
    { ...made, sinks: Array.from({ length: 40 }, () => made.sinks[0]) },
    { ...made, sinks: [{ ...made.sinks[0], blind: -1 }] },
    { ...made, sinks: [{ ...made.sinks[0], name: "x".repeat(300) }] },
    { ...made, region: 7 },
    { ...made, atMs: "now" },
    null,
  ];
  for (const status of bad)
    assert.equal(seen.accept(tagged(signer().seal(encode(["audit status", status as NodeAuditStatus])))), "malformed");
  assert.equal(
    seen.accept(tagged(signer().seal(encode(["audit.test.here.node-a", 1, 2, nowMs, new Uint8Array(32)])))),
    "malformed",
  );
  assert.equal(seen.accept(tagged(new Uint8Array(20_000))), "too-large");
  assert.deepEqual(seen.list(), []);
  assert.equal(seen.accept(good), null);
  assert.equal(seen.accept(good), "outdated", "sent again");
});

test("a status of the most sinks with the longest names fits into a report", () => {
  const sinks = Array.from({ length: 50 }, (_, n) => ({ ...sinkStats(`${"f".repeat(400)}${n}`), queued: 2 ** 50 }));
  const seen = board();
  assert.equal(seen.accept(signStatus(statusOf(stats({ sinks }), where), signer())), null);
});
