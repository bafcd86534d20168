/**
 * A disconnected node and retention, with real processes: retention keeps what the node still needs while the node may
 * decide. If an operator drops those partitions by hand, the node serves its old copy and then loads a snapshot.
 *
 * The longest grace here is 15 minutes, so no node is fenced. snapshots.test.ts covers a fenced node.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { formatLink } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Appender, startAppender } from "./appender.ts";
import { hammer, openSocket } from "./client.ts";
import { type Change, type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";
import { waitForOneDigest } from "./digests.ts";
import { basePosition, dropPartitionsBelow, shrinkPartitions } from "./small-partitions.ts";

let cluster: Cluster;
let appender: Appender;
/** The disconnected node; the first test sets it, and the next two use it. */
let away: Away;

type Away = Readonly<{
  proxy: ClusterProcess;
  appliedAtCut: number;
  sessions: Readonly<Record<"kept" | "gone", Session>>;
  revocation: Change;
  hammering: ReturnType<typeof hammer>;
}>;

before(
  async () => {
    cluster = await startCluster({
      ...{ timing: "short", regions: ["north", "south"], relayed: "proxy-1" },
      broker: { snapshot_every: 100, snapshot_refresh: "1s", retention: "1s" },
      moreRoutes: { patient: { on_stale: "serve", stale_grace: "15m" } },
      prepare: shrinkPartitions,
    });
    appender = startAppender(cluster);
  },
  { timeout: 400_000 },
);
after(async () => {
  await away?.hammering.stop();
  await appender?.stop();
  await cluster?.stop();
});

/** Position of the older of the two newest snapshots: retention may drop the log up to it. */
async function olderSnapshot(): Promise<number> {
  const { leader } = await cluster.status();
  return leader?.snapshots?.[1]?.position ?? 0;
}
const untilSnapshotsPass = (position: number): Promise<unknown> =>
  waitFor(`two snapshots beyond ${position}`, async () => (await olderSnapshot()) > position, {
    withinMs: 60_000,
    everyMs: 250,
  });
const at = (route: string, { cookie }: Session) => ({
  ...{ port: cluster.proxy(1).ports.address, host: cluster.host(route), cookie },
});
const applied = (proxy: ClusterProcess): Promise<number> => proxy.metric("cardea_replica_applied");

test("retention keeps the events that a disconnected node needs while the node may decide, however many newer snapshots exist", {
  timeout: 360_000,
}, async (t) => {
  const proxy = cluster.proxy(1);
  const sessions = { kept: await cluster.session("kim"), gone: await cluster.session("gus") };
  for (const session of Object.values(sessions))
    assert.equal((await cluster.get(proxy, "patient", session)).status, 200);
  await waitFor(
    "partitions to be dropped while no node is disconnected",
    async () => (await basePosition(cluster.setup)) > 0,
    {
      withinMs: 60_000,
    },
  );
  for (const relay of [...cluster.relays.brokers, cluster.relays.nats]) relay.cut();
  const appliedAtCut = await waitFor("the node to receive no more events", async () => {
    const before = await applied(proxy);
    await cluster.session("more");
    return (await applied(proxy)) === before && before;
  });
  const revocation = await cluster.operator.revoke(sessions.gone);
  const hammering = hammer(
    [
      { name: "kept patient", target: at("patient", sessions.kept) },
      { name: "gone patient", target: at("patient", sessions.gone) },
      { name: "kept strict", target: at("strict", sessions.kept) },
    ],
    { callers: 1 },
  );
  away = { proxy, appliedAtCut, sessions, revocation, hammering };

  await untilSnapshotsPass(appliedAtCut + 200);
  const firstBase = await basePosition(cluster.setup);
  assert.ok(
    firstBase > 0 && firstBase <= appliedAtCut,
    `the log begins after ${firstBase}, and the node has applied ${appliedAtCut}`,
  );
  await untilSnapshotsPass((await olderSnapshot()) + 200);
  assert.ok((await basePosition(cluster.setup)) <= appliedAtCut, "retention dropped events that the node needs");
  const { nodes } = await cluster.operator.receipt(revocation.link, { wait: "none" });
  assert.equal(nodes.find(({ node }) => node === proxy.name)?.status, "unconfirmed", "the node is not fenced");
  t.diagnostic(`applied ${appliedAtCut}, the log begins after ${firstBase}, snapshots from ${await olderSnapshot()}`);
});

test("a node whose unread events were dropped serves its old copy within its grace, loads a snapshot, and then enforces a revocation from the dropped range", {
  timeout: 360_000,
}, async (t) => {
  const { proxy, appliedAtCut, sessions, revocation, hammering } = away;
  const { link } = revocation;
  await dropPartitionsBelow(cluster.setup, (await olderSnapshot()) + 1);
  const begins = await basePosition(cluster.setup);
  assert.ok(begins > link.position, `the log begins after ${begins}; the revocation is at ${link.position}`);
  // Brokers hold the newest events in memory; restarted brokers no longer have the dropped ones.
  for (const broker of [await cluster.follower(), await cluster.leader()]) await broker.restart();
  assert.equal(await applied(proxy), appliedAtCut, "the node received an event");
  const receiptReply = await cluster.operator.get(`/receipts/link:${formatLink(link)}?wait=none&timeout=0`);
  assert.equal(receiptReply.status, 503, "a broker that no longer has the event says neither complete nor lost");
  const sockets = {
    kept: await openSocket(at("patient", sessions.kept)),
    gone: await openSocket(at("patient", sessions.gone)),
  };
  const loads = await proxy.metric("cardea_replica_snapshots");
  const positions: number[] = [];
  let watching = true;
  const watched = (async () => {
    while (watching) {
      positions.push(await applied(proxy));
      await sleep(10); // a scrape costs the node that has to catch up
    }
  })();

  for (const relay of [...cluster.relays.brokers, cluster.relays.nats]) relay.restore();
  // A node that has enforced the newest change has enforced all earlier ones.
  const { link: last } = await cluster.session("last");
  const receipt = await cluster.operator.receipt(last, { timeoutMs: 60_000 });
  const completeAt = performance.now();
  await proxy.ready();
  const served = (name: string): number =>
    hammering.shots.filter((shot) => shot.name === name && shot.sentAt > completeAt && shot.permitted).length;
  await waitFor("both routes to be served", () => served("kept patient") > 20 && served("kept strict") > 20);
  const refused = () => hammering.shots.filter(({ name, sentAt }) => name === "gone patient" && sentAt > completeAt);
  await waitFor("the revoked session to be refused", () => refused().length > 20);
  watching = false;
  await watched;
  const shots = await hammering.stop();

  assert.equal(receipt.complete, true, JSON.stringify(receipt));
  assert.equal(
    receipt.nodes.find(({ node }) => node === proxy.name)?.status,
    "applied",
    "the receipt waited for the node and did not count it as fenced",
  );
  assert.ok((await proxy.metric("cardea_replica_snapshots")) > loads, proxy.log().slice(-4_000));
  assert.match(proxy.log(), /the log begins after this node's position/);
  assert.ok((positions[0] ?? 0) >= appliedAtCut, `the node restarted from an empty copy: ${positions.slice(0, 20)}`);
  assert.deepEqual(
    positions,
    positions.toSorted((a, b) => a - b),
    "the applied position went back",
  );

  assert.deepEqual(
    refused().filter(({ permitted }) => permitted),
    [],
    "permitted after a complete receipt",
  );
  const { code } = await sockets.gone.closed;
  assert.equal(code, 4401, "the revoked session's open stream is closed");
  assert.ok(sockets.gone.newest() < completeAt, "the stream carried data after the receipt was complete");
  const statusesOfValidSession = new Set(
    shots.filter(({ name }) => name !== "gone patient").map(({ status }) => status),
  );
  assert.deepEqual([...statusesOfValidSession].toSorted(), [200, 503], "a valid session is never sent to sign in");
  if (!proxy.hasReportedPause()) {
    const unserved = shots.filter(({ name, permitted }) => name === "kept patient" && !permitted);
    assert.deepEqual(unserved, [], "a route within its grace is served before, during and after the load");
    assert.equal(sockets.kept.isOpen(), true);
  }
  t.diagnostic(`${shots.length} requests; the log begins after ${begins}, the node was at ${appliedAtCut}`);
  sockets.kept.close();
});

test("the node ends with the same digest as all others, and retention continues", { timeout: 240_000 }, async () => {
  const begins = await basePosition(cluster.setup);
  await waitFor("partitions to be dropped again", async () => (await basePosition(cluster.setup)) > begins, {
    withinMs: 60_000,
    everyMs: 250,
  });
  await appender.stop();
  await waitForOneDigest(cluster, 3);
  const { leader, nodes } = await cluster.status();
  const nodeStatus = nodes.find(({ node }) => node === away.proxy.name);
  assert.ok(nodeStatus?.digest !== null && nodeStatus?.digest === leader?.digest, JSON.stringify(nodeStatus));
});
