/**
 * A region and its window: a cut-off region's grants end with the lease of its broker, and a restarted broker has none.
 *
 * Leases are short: Δ is two seconds, the grace two more.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

let regions: TwoRegions;

before(
  async () => {
    regions = await startTwoRegions({ timing: "short", lateMs: 20 });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const measure = (of: ClusterProcess, name: string) => of.metric(`cardea_broker_${measureName(name)}`);
const applied = (of: ClusterProcess) => measure(of, "applied");

async function untilServing(): Promise<void> {
  const session = await regions.session("frank");
  for (const proxy of regions.west.proxies)
    await waitFor(
      `${proxy.name} to permit on every route`,
      async () =>
        (await regions.getNow(proxy, "app", session)).permitted &&
        (await regions.getNow(proxy, "strict", session)).permitted,
      { withinMs: 30_000 },
    );
}

test("after the window a cut-off region denies on every route, and serves again after healing", async (t) => {
  const session = await regions.session("alice");
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  assert.equal((await regions.get(proxy, "app", session)).permitted, true);
  regions.wan.cut();
  const cutAt = performance.now();
  const { link, receipt: own } = await regions.operator.revoke(session, { wait: "region", timeoutMs: 20_000 });
  assert.deepEqual([own?.complete, own?.region], [true, "east"], "the receipt for the east does not wait for the west");
  const all = regions.operator.receipt(link, { wait: "all", timeoutMs: 30_000 });
  await waitFor("the region to deny", async () => (await regions.getNow(proxy, "app", session)).status === 503);
  t.diagnostic(`denied ${Math.round(performance.now() - cutAt)} ms after the cut, with a window of 4,000 ms`);
  const receipt = await all;
  t.diagnostic(`complete for all ${Math.round(performance.now() - cutAt)} ms after the cut`);
  assert.equal(receipt.complete, true, "the west is fenced");
  const west = receipt.nodes.filter(({ region }) => region === "west");
  assert.deepEqual(
    west.map(({ node, status }) => [node, status]).toSorted(),
    ["broker-west", "proxy-west-1", "proxy-west-2"].map((node) => [node, "fenced"]),
    "every node of the west is reported as fenced, none as applied",
  );
  assert.equal((await regions.getNow(proxy, "app", session)).permitted, false);
  regions.wan.heal();
  const healedAt = performance.now();
  await untilServing();
  t.diagnostic(`served again ${Math.round(performance.now() - healedAt)} ms after healing`);
  assert.equal((await regions.get(proxy, "app", session)).permitted, false, "the session was revoked during the cut");
});

test("a regional broker restarted in a cut-off region serves the log from its disk, and grants nothing", async () => {
  const { broker, proxies } = regions.west;
  const [proxy] = proxies;
  assert.ok(proxy);
  await untilServing();
  const before = await applied(broker);
  regions.wan.cut();
  await broker.kill();
  await broker.launch();
  await waitFor("the broker to reach its earlier position", async () => (await applied(broker)) >= before, {
    withinMs: 30_000,
  });
  assert.equal(await measure(broker, "grantsByAge"), 0);
  await proxy.kill();
  await proxy.launch();
  await waitFor(
    "a restarted proxy to have the region's copy",
    async () => (await proxy.metric("cardea_replica_applied")) >= before,
    { withinMs: 30_000 },
  );
  const session = { cookie: "" } as Parameters<TwoRegions["get"]>[2];
  // The proxy listens a moment after its metrics do.
  const answer = await waitFor("the proxy to answer", () =>
    regions.getNow(proxy, "app", session).catch(() => undefined),
  );
  assert.equal(answer.permitted, false);
  assert.equal(await measure(broker, "grantsByAge"), 0);
  regions.wan.heal();
  await untilServing();
});

test("a regional broker catches up from its mirror of the replay buffer while the home brokers are unreachable", async (t) => {
  const { broker } = regions.west;
  await untilServing();
  await waitFor("the mirror to catch up", async () => (await measure(broker, "mirrorLag")) === 0);
  await broker.kill();
  for (const wan of regions.wan.brokers) wan.cut();
  const session = await regions.session("dave");
  const change = await regions.operator.revoke(session);
  await broker.launch();
  const startedAt = performance.now();
  await waitFor("the change from the mirror", async () => (await applied(broker)) >= change.link.position, {
    withinMs: 40_000,
  });
  t.diagnostic(`caught up ${Math.round(performance.now() - startedAt)} ms after the start`);
  for (const wan of regions.wan.brokers) wan.heal();
  await untilServing();
});

test("the mirror follows a replay buffer that is created again at home", async (t) => {
  await untilServing();
  const origin = `${regions.places.clusterName.toUpperCase()}_LOG`;
  const [east, west] = await Promise.all(
    [regions.east, regions.west].map(({ nats }) => connect({ servers: [...nats.urls] })),
  );
  assert.ok(east && west);
  try {
    const [home, leaf] = await Promise.all([jetstreamManager(east), jetstreamManager(west)]);
    await home.streams.delete(origin);
    await waitFor("the new stream", async () => (await home.streams.info(origin)).config.name === origin, {
      withinMs: 30_000,
    });
    await regions.session("erin");
    const deletedAt = performance.now();
    await waitFor(
      "the mirror to follow the new stream",
      async () => {
        const [original, mirrored] = [await home.streams.info(origin), await leaf.streams.info(`${origin}_WEST`)];
        return mirrored.state.messages > 0 && original.state.last_seq === mirrored.state.last_seq;
      },
      { withinMs: 60_000 },
    );
    t.diagnostic(`caught up with the new stream after ${Math.round(performance.now() - deletedAt)} ms`);
  } finally {
    await Promise.all([east.close(), west.close()]);
  }
});
