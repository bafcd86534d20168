/**
 * NATS outages: NATS is an accelerator, so its loss only delays changes, and every projection ends with the digest of
 * the log.
 *
 * The outage is longer than a read may wait (25 s) on purpose; no other wait of these tests is as long.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { waitForLogDigest } from "./digests.ts";

const outageMs = 30_000;
const roundMs = 3_000;
/** At least so many changes, even if each takes long. */
const changesMin = 5;
let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "default", nats: 3, regions: ["north", "south"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

/**
 * Creates two sessions, revokes the one that has a WebSocket on every node, and removes a group membership.
 * @returns milliseconds from the revocation to its complete receipt
 */
async function change(user: string): Promise<number> {
  const [revoked, valid] = [await cluster.session(user, ["eng"]), await cluster.session(user, ["eng", "sales"])];
  const sockets = await Promise.all(
    cluster.proxies.map(async (proxy) => {
      await waitFor(`${proxy.name} to permit`, async () => (await cluster.get(proxy, "app", revoked)).permitted);
      return openSocket({ port: proxy.ports.address, host: cluster.host("app"), cookie: revoked.cookie });
    }),
  );
  const askedAt = performance.now();
  const { receipt } = await cluster.operator.revoke(revoked, { wait: "all" });
  const tookMs = performance.now() - askedAt;
  assert.equal(receipt?.complete, true);
  assert.ok(receipt?.nodes.every(({ status }) => status === "applied"));
  for (const socket of sockets) assert.equal((await socket.closed).code, 4401);
  for (const proxy of cluster.proxies) {
    assert.equal(
      (await cluster.get(proxy, "app", revoked)).permitted,
      false,
      `${proxy.name}, after a complete receipt`,
    );
    assert.equal((await cluster.get(proxy, "app", valid)).permitted, true);
  }
  const left = await cluster.operator.post("/groups/eng/members", { remove: [user], wait: "all" });
  assert.equal(left.status, 200, left.body);
  for (const proxy of cluster.proxies) assert.equal((await cluster.get(proxy, "eng", valid)).status, 403);
  return tookMs;
}

const deliveries = (): Promise<number[]> =>
  Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_deliveries")));

test("changes continue while each of three NATS servers is killed and restarted in turn, and all projections match the log", async (t) => {
  for (const [i, node] of cluster.nats.nodes.entries()) {
    await node.kill();
    const tookMs = await change(`server-${i}`);
    t.diagnostic(`without ${node.name} a revocation was enforced everywhere after ${Math.round(tookMs)} ms`);
    await node.start();
    await change(`server-${i}-back`);
  }
  await waitForLogDigest(cluster);
});

test("a proxy and a broker that are killed and restarted end with the projection of the log", async () => {
  const proxy = cluster.proxy(2);
  const follower = await cluster.follower();
  await Promise.all([proxy.kill(), follower.kill()]);
  const [revoked, valid] = [await cluster.session("dave"), await cluster.session("dave", ["eng"])];
  await cluster.operator.revoke(revoked);
  await Promise.all([proxy.start(), follower.start()]);
  assert.equal(
    (await cluster.get(proxy, "eng", valid)).permitted,
    true,
    "a change made while the proxy was down counts",
  );
  assert.equal((await cluster.get(proxy, "app", revoked)).permitted, false);
  await waitForLogDigest(cluster);
});

test("during half a minute without NATS changes are enforced within the poll bound, and afterwards all projections match the log", {
  timeout: 400_000,
}, async (t) => {
  await Promise.all(cluster.nats.nodes.map((node) => node.kill()));
  const goneAt = performance.now();
  const durationsMs: number[] = [];
  while (performance.now() - goneAt < outageMs || durationsMs.length < changesMin) {
    const beganAt = performance.now();
    durationsMs.push(await change(`user-${durationsMs.length}`));
    for (const proxy of cluster.proxies) await proxy.ready();
    await waitFor("the next round", () => performance.now() - beganAt > roundMs);
  }
  t.diagnostic(
    `${durationsMs.length} revocations enforced everywhere, the slowest after ${Math.round(Math.max(...durationsMs))} ms`,
  );
  await waitForLogDigest(cluster);

  const before = await deliveries();
  await Promise.all(cluster.nats.nodes.map((node) => node.start()));
  await waitFor(
    "deliveries to resume",
    async () => {
      await change("back");
      return (await deliveries()).every((count, i) => count > (before[i] ?? 0));
    },
    { withinMs: 30_000 },
  );
  await waitForLogDigest(cluster);
});

test("the broker that takes over has the state of the log", async () => {
  const leader = await cluster.leader();
  await leader.kill();
  await waitFor("another leader", async () => (await cluster.leader()).name !== leader.name);
  await waitForLogDigest(cluster);
});
