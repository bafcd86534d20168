/**
 * NATS is an accelerator: whatever becomes of it delays, and in the end every projection has the digest of the log.
 *
 * The minute of the outage is a minute on purpose: it is the longest thing that these tests wait for.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { waitForLogDigest } from "./digests.ts";

const outageMs = 60_000;
const roundMs = 3_000;
/** Also where a change takes long. */
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
 * Sessions and memberships come and go, and one with open WebSockets on every node is revoked.
 * @returns how long it took from the command to its complete receipt
 */
async function change(user: string): Promise<number> {
  const [gone, kept] = [await cluster.session(user, ["eng"]), await cluster.session(user, ["eng", "sales"])];
  const sockets = await Promise.all(
    cluster.proxies.map(async (proxy) => {
      await waitFor(`${proxy.name} to permit`, async () => (await cluster.get(proxy, "app", gone)).permitted);
      return openSocket({ port: proxy.ports.address, host: cluster.host("app"), cookie: gone.cookie });
    }),
  );
  const askedAt = performance.now();
  const { receipt } = await cluster.operator.revoke(gone, { wait: "all" });
  const tookMs = performance.now() - askedAt;
  assert.equal(receipt?.complete, true);
  assert.ok(receipt?.nodes.every(({ status }) => status === "applied"));
  for (const socket of sockets) assert.equal((await socket.closed).code, 4401);
  for (const proxy of cluster.proxies) {
    assert.equal((await cluster.get(proxy, "app", gone)).permitted, false, `${proxy.name}, after a complete receipt`);
    assert.equal((await cluster.get(proxy, "app", kept)).permitted, true);
  }
  const left = await cluster.operator.post("/groups/eng/members", { remove: [user], wait: "all" });
  assert.equal(left.status, 200, left.body);
  for (const proxy of cluster.proxies) assert.equal((await cluster.get(proxy, "eng", kept)).status, 403);
  return tookMs;
}

const delivered = (): Promise<number[]> =>
  Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_deliveries")));

test("each NATS server of three is killed and comes back in turn: changes go on, and all projections are the log's", async (t) => {
  for (const [i, node] of cluster.nats.nodes.entries()) {
    await node.kill();
    const tookMs = await change(`server-${i}`);
    t.diagnostic(`without ${node.name} a revocation was enforced everywhere after ${Math.round(tookMs)} ms`);
    await node.start();
    await change(`server-${i}-back`);
  }
  await waitForLogDigest(cluster);
});

test("a proxy and a broker are killed and come back: their projections are the log's", async () => {
  const proxy = cluster.proxy(2);
  const follower = await cluster.follower();
  await Promise.all([proxy.kill(), follower.kill()]);
  const [gone, kept] = [await cluster.session("dave"), await cluster.session("dave", ["eng"])];
  await cluster.operator.revoke(gone);
  await Promise.all([proxy.start(), follower.start()]);
  assert.equal((await cluster.get(proxy, "eng", kept)).permitted, true, "what happened meanwhile counts");
  assert.equal((await cluster.get(proxy, "app", gone)).permitted, false);
  await waitForLogDigest(cluster);
});

test("NATS is away for a minute: changes go on and are enforced within the poll bound, and in the end all projections are the log's", {
  timeout: 400_000,
}, async (t) => {
  await Promise.all(cluster.nats.nodes.map((node) => node.kill()));
  const goneAt = performance.now();
  const took: number[] = [];
  while (performance.now() - goneAt < outageMs || took.length < changesMin) {
    const beganAt = performance.now();
    took.push(await change(`user-${took.length}`));
    for (const proxy of cluster.proxies) await proxy.ready();
    await waitFor("the next round", () => performance.now() - beganAt > roundMs);
  }
  t.diagnostic(`${took.length} revocations enforced everywhere, the slowest after ${Math.round(Math.max(...took))} ms`);
  await waitForLogDigest(cluster);

  const before = await delivered();
  await Promise.all(cluster.nats.nodes.map((node) => node.start()));
  await waitFor(
    "deliveries to come again",
    async () => {
      await change("back");
      return (await delivered()).every((count, i) => count > (before[i] ?? 0));
    },
    { withinMs: 30_000 },
  );
  await waitForLogDigest(cluster);
});

test("a standby's ledger is the log's as well: that of the broker that leads after the other is gone", async () => {
  const leader = await cluster.leader();
  await leader.kill();
  await waitFor("another leader", async () => (await cluster.leader()).name !== leader.name);
  await waitForLogDigest(cluster);
});
