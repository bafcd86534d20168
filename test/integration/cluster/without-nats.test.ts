/**
 * A cluster without NATS: everything continues over HTTPS. Long polls carry revocations, leases are renewed, and
 * changes are appended.
 *
 * NATS dies while the cluster runs, is down while every process starts, and returns. Times are printed, not asserted.
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

const revocations = 6;

/**
 * Revokes sessions one by one, each with open WebSockets.
 * @returns milliseconds from each revocation to the cut at the last node, and to the receipt
 */
async function revokeMany(): Promise<Readonly<{ cut: number[]; receipt: number[] }>> {
  const durationsMs: { cut: number[]; receipt: number[] } = { cut: [], receipt: [] };
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
    durationsMs.receipt.push(performance.now() - askedAt);
    assert.equal(receipt?.complete, true);
    assert.ok(receipt?.nodes.every(({ status }) => status === "applied"));
    for (const proxy of cluster.proxies)
      assert.equal((await cluster.get(proxy, "app", session)).permitted, false, `${proxy.name}, after the receipt`);
    durationsMs.cut.push(await cut);
  }
  return durationsMs;
}

function summaryOf({ cut, receipt }: Awaited<ReturnType<typeof revokeMany>>): string {
  const percentiles = (all: readonly number[]): string => {
    const sorted = all.toSorted((a, b) => a - b);
    return `median ${Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0)} ms, slowest ${Math.round(sorted.at(-1) ?? 0)} ms`;
  };
  return `cut at the last node ${percentiles(cut)}; receipt ${percentiles(receipt)}`;
}

const grants = () => Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_grants")));
const deliveries = () => Promise.all(cluster.proxies.map((proxy) => proxy.metric("cardea_replica_deliveries")));

async function waitForGrants(): Promise<void> {
  const before = await grants();
  await waitFor("renewed leases", async () => (await grants()).every((count, i) => count >= (before[i] ?? 0) + 3));
  for (const proxy of cluster.proxies) await proxy.ready();
}

test("after NATS is killed, revocations, renewals and changes continue", {
  timeout: 240_000,
}, async (t) => {
  t.diagnostic(`with NATS: ${summaryOf(await revokeMany())}`);
  await cluster.nats.kill();
  t.diagnostic(`without NATS: ${summaryOf(await revokeMany())}`);
  await waitForGrants();
  await waitForLogDigest(cluster);
});

test("a cluster whose processes all start without NATS works", { timeout: 400_000 }, async (t) => {
  for (const broker of cluster.brokers) await broker.restart();
  await Promise.all([cluster.authenticate, ...cluster.proxies].map((one) => one.restart()));
  assert.ok((await deliveries()).every((count) => count === 0));
  t.diagnostic(`started without NATS: ${summaryOf(await revokeMany())}`);
  await waitForGrants();
  assert.ok(
    (await deliveries()).every((count) => count === 0),
    "no delivery came from NATS",
  );
  await waitForLogDigest(cluster);
});

test("when NATS returns, deliveries resume and nothing was missed", { timeout: 240_000 }, async (t) => {
  await cluster.nats.start();
  await waitFor(
    "deliveries at every node",
    async () => {
      await cluster.session("once-more");
      return (await deliveries()).every((count) => count > 0);
    },
    { withinMs: 30_000 },
  );
  t.diagnostic(`NATS is back: ${summaryOf(await revokeMany())}`);
  await waitForLogDigest(cluster);
});
