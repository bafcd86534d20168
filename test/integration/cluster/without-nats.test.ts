/**
 * Without NATS everything goes on over HTTPS: revocations reach nodes by reads that wait at the head, leases are
 * renewed, changes are appended. NATS dies while the cluster runs, is away when every process starts, and comes back.
 * Times are printed, not asserted.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { waitForLogDigest } from "./digests.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const revocations = 15;

/**
 * Revokes one session after the other, each with open WebSockets. @returns when each was cut at the last node, and the
 * receipt there
 */
async function revokeMany(): Promise<Readonly<{ cut: number[]; receipt: number[] }>> {
  const took: { cut: number[]; receipt: number[] } = { cut: [], receipt: [] };
  for (let i = 0; i < revocations; i++) {
    const session = await cluster.session(`user-${i}`);
    const sockets = await Promise.all(
      cluster.proxies.map(async (proxy) => {
        await waitFor(`${proxy.name} to permit`, async () => (await cluster.get(proxy, "app", session)).permitted);
        return openSocket({ port: proxy.ports.address, host: cluster.host("app"), cookie: session.cookie });
      }),
    );
    const askedAt = performance.now();
    const cut = Promise.all(sockets.map(async ({ closed }) => assert.equal((await closed).code, 4401))).then(
      () => performance.now() - askedAt,
    );
    const { receipt } = await cluster.operator.revoke(session, { wait: "all" });
    took.receipt.push(performance.now() - askedAt);
    assert.equal(receipt?.complete, true);
    assert.ok(receipt?.nodes.every(({ status }) => status === "applied"));
    for (const proxy of cluster.proxies)
      assert.equal((await cluster.get(proxy, "app", session)).permitted, false, `${proxy.name}, after the receipt`);
    took.cut.push(await cut);
  }
  return took;
}

function told({ cut, receipt }: Awaited<ReturnType<typeof revokeMany>>): string {
  const words = (all: readonly number[]): string => {
    const sorted = all.toSorted((a, b) => a - b);
    return `median ${Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0)} ms, slowest ${Math.round(sorted.at(-1) ?? 0)} ms`;
  };
  return `cut at the last node ${words(cut)}; receipt ${words(receipt)}`;
}

const grants = () => Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_grants")));
const deliveries = () => Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_deliveries")));

async function moreGrants(): Promise<void> {
  const before = await grants();
  await waitFor("renewed leases", async () => (await grants()).every((count, i) => count >= (before[i] ?? 0) + 3));
  for (const proxy of cluster.proxies) await proxy.ready();
}

test("NATS is killed while the cluster runs: revocations, renewals and changes go on", {
  timeout: 240_000,
}, async (t) => {
  t.diagnostic(`with NATS: ${told(await revokeMany())}`);
  await cluster.nats.kill();
  t.diagnostic(`without NATS: ${told(await revokeMany())}`);
  await moreGrants();
  await waitForLogDigest(cluster);
});

test("every process starts without NATS, and the cluster works", { timeout: 400_000 }, async (t) => {
  for (const broker of cluster.brokers) await broker.restart();
  await Promise.all([cluster.authenticate, ...cluster.proxies].map((one) => one.restart()));
  assert.ok((await deliveries()).every((count) => count === 0));
  t.diagnostic(`started without NATS: ${told(await revokeMany())}`);
  await moreGrants();
  assert.ok(
    (await deliveries()).every((count) => count === 0),
    "nothing came over NATS",
  );
  await waitForLogDigest(cluster);
});

test("NATS comes back: deliveries come again, and nothing was missed", { timeout: 240_000 }, async (t) => {
  await cluster.nats.start();
  await waitFor(
    "deliveries at every node",
    async () => {
      await cluster.session("once-more");
      return (await deliveries()).every((count) => count > 0);
    },
    { withinMs: 30_000 },
  );
  t.diagnostic(`NATS is back: ${told(await revokeMany())}`);
  await waitForLogDigest(cluster);
});
