/** What a drill reads before it begins: which nodes are present, whether its credential lasts, who answers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { SignJWT } from "jose";
import type { Drill } from "../../../src/cli/drill/drill.ts";
import { drills } from "../../../src/cli/drill/drills/index.ts";
import {
  checkOperatorToken,
  drillMs,
  metricsReader,
  presentNodes,
  readingMsMax,
  silentNodes,
} from "../../../src/cli/drill/preflight.ts";
import { whyNotRecovered } from "../../../src/cli/drill/watch-cluster.ts";
import { CannotError } from "../../../src/cli/terminal/command.ts";
import { genesis, parseBootId } from "../../../src/events/index.ts";
import type { ClusterStatus, NodeStatus } from "../../../src/replication/index.ts";

const boot = parseBootId("0".repeat(32));

function nodeStatus(node: string, parts: Partial<NodeStatus> = {}): NodeStatus {
  return {
    node: node as NodeStatus["node"],
    boot,
    region: "north",
    role: "proxy",
    version: "1",
    reads: 3,
    applied: genesis,
    enforced: genesis,
    lag: 0,
    digest: "",
    configHash: null,
    lastGrantAgoMs: 100,
    fencedInMs: 60_000,
    digestMismatch: false,
    twin: null,
    heardAgoMs: 100,
    refusal: null,
    ...parts,
  };
}

const gone = { lastGrantAgoMs: 90_000, fencedInMs: 0, heardAgoMs: 90_000 } as const;

test("a node whose lease has ended and that is not heard any more is absent or retired, so it is not present", () => {
  const nodes = [nodeStatus("proxy-1"), nodeStatus("proxy-2", gone)];
  const present = presentNodes({ nodes, absent: [] });
  assert.deepEqual(
    present.map(({ node }) => node),
    ["proxy-1"],
  );
  assert.deepEqual(silentNodes(present), [], "one that an operator has retired keeps no drill from beginning");
});

test("a node that may still decide, or renews without a lease, is present and silent", () => {
  const nodes = [
    nodeStatus("proxy-1", { lastGrantAgoMs: 30_000, heardAgoMs: 30_000 }),
    nodeStatus("proxy-2", { ...gone, heardAgoMs: 500, refusal: "clock-drift" }),
    nodeStatus("proxy-3", { lastGrantAgoMs: null, fencedInMs: null, heardAgoMs: null }),
  ];
  assert.deepEqual(silentNodes(presentNodes({ nodes, absent: [] })), ["proxy-1", "proxy-2", "proxy-3"]);
});

test("an older broker does not say which nodes are absent, so every node that it names counts", () => {
  const nodes = [nodeStatus("proxy-1"), nodeStatus("proxy-2", gone)];
  assert.deepEqual(silentNodes(presentNodes({ nodes, absent: undefined })), ["proxy-2"]);
});

test("a node that does not come back is no recovery", () => {
  const leader = {} as NonNullable<ClusterStatus["leader"]>;
  const status = { leader, brokers: [], absent: [] };
  const wanted = { nodes: 2, brokers: 1 };
  assert.equal(whyNotRecovered({ ...status, nodes: [nodeStatus("a"), nodeStatus("b")] }, wanted), null);
  assert.equal(
    whyNotRecovered({ ...status, nodes: [nodeStatus("a"), nodeStatus("b", gone)] }, wanted),
    "1 of 2 nodes are present",
  );
});

test("an operator token must outlive the drill and its undo", async () => {
  const ending = (inS: number) =>
    new SignJWT({})
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime(Math.floor(Date.now() / 1_000) + inS)
      .sign(new Uint8Array(32));
  checkOperatorToken(undefined, 180_000);
  checkOperatorToken(await ending(3_600), 180_000);
  assert.throws(
    () => checkOperatorToken("not a token", 180_000),
    (error) => error instanceof CannotError && /not an operator token/.test(error.message),
  );
  const short = await ending(60);
  assert.throws(
    () => checkOperatorToken(short, 180_000),
    (error) => error instanceof CannotError && /ends in .* s, and the drill may take 180 s/.test(error.message),
  );
});

test("a credential must last for both receipts of a stopped process, its return and the undo, whatever the window", () => {
  const limits = { rounds: 1, faultMs: 15_000, quietMs: 5_000 };
  const named = (name: string): Drill => drills.find((drill) => drill.name === name) ?? assert.fail(name);
  const takesMs = (windowMs: number): number => drillMs(named("proxy-pause"), limits, windowMs);
  const [receiptsMs, returnMs, undoMs] = [2 * (65_000 + 5_000), 60_000, 120_000];
  assert.ok(takesMs(65_000) > 5_000 + 15_000 + receiptsMs + returnMs + undoMs);
  assert.equal(takesMs(66_000) - takesMs(65_000), 2_000);
  const canary = named("group-removal");
  assert.equal(drillMs(canary, limits, 65_000), drillMs(canary, limits, 0), "its receipts wait for no window");
  assert.ok(drillMs(canary, { ...limits, rounds: 2 }, 0) > drillMs(canary, limits, 0));
});

test("a frozen proxy, which accepts connections and answers nothing, does not hold up what the guard sees", async (t) => {
  const frozen = createServer(() => {});
  frozen.listen(0, "127.0.0.1");
  await once(frozen, "listening");
  t.after(() => frozen.close());
  const { port } = frozen.address() as { port: number };
  const read = metricsReader({ tls: {}, authorization: undefined });
  await assert.rejects(
    read({ node: "proxy-1", host: "127.0.0.1", port: 1, metrics: new URL(`http://127.0.0.1:${port}/metrics`) }),
    new RegExp(`it took longer than ${readingMsMax / 1_000} s`),
  );
});
