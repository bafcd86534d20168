/**
 * A node that is away while the log behind it is let go of, with real processes: within its lease and grace retention
 * waits for it; where partitions are dropped by hand all the same, it goes on from a snapshot, and serves from what it
 * had until then.
 *
 * Its longest grace is a quarter of an hour, so nobody is fenced off here. What happens to one who is:
 * snapshots.test.ts.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
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
/** What the tests leave to each other. */
let away: Away;

type Away = Readonly<{
  proxy: ClusterProcess;
  stoodAt: number;
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

/** The older of the two newest snapshots: what retention may drop up to. */
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

test("retention stops at a node that is away and may still decide, however many snapshots there are beyond it", {
  timeout: 360_000,
}, async (t) => {
  const proxy = cluster.proxy(1);
  const sessions = { kept: await cluster.session("kim"), gone: await cluster.session("gus") };
  for (const session of Object.values(sessions))
    assert.equal((await cluster.get(proxy, "patient", session)).status, 200);
  await waitFor("partitions to be dropped while nobody is away", async () => (await basePosition(cluster.setup)) > 0, {
    withinMs: 60_000,
  });
  for (const relay of [...cluster.relays.brokers, cluster.relays.nats]) relay.cut();
  const stoodAt = await waitFor("it to hear of nothing more", async () => {
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
  away = { proxy, stoodAt, sessions, revocation, hammering };

  await untilSnapshotsPass(stoodAt + 200);
  const heldAt = await basePosition(cluster.setup);
  assert.ok(heldAt > 0 && heldAt <= stoodAt, `the log begins behind ${heldAt}, and the node stands at ${stoodAt}`);
  await untilSnapshotsPass((await olderSnapshot()) + 200);
  assert.ok((await basePosition(cluster.setup)) <= stoodAt, "it was waited for no longer");
  const { nodes } = await cluster.operator.receipt(revocation.link, { wait: "none" });
  assert.equal(nodes.find(({ node }) => node === proxy.name)?.status, "unconfirmed", "nor is it fenced");
  t.diagnostic(
    `stood at ${stoodAt}, the log begins behind ${heldAt}, snapshots at ${await olderSnapshot()} and beyond`,
  );
});

test("where the log is cut beyond it all the same, it serves what it may from what it has, goes on from a snapshot, and then obeys what stood in between", {
  timeout: 360_000,
}, async (t) => {
  const { proxy, stoodAt, sessions, revocation, hammering } = away;
  const { link } = revocation;
  await dropPartitionsBelow(cluster.setup, (await olderSnapshot()) + 1);
  const begins = await basePosition(cluster.setup);
  assert.ok(begins > link.position, `the log begins behind ${begins}; the revocation stood at ${link.position}`);
  // Brokers remember the newest events in memory: those that start now do not know the ones that were dropped.
  for (const broker of [await cluster.follower(), await cluster.leader()]) await broker.restart();
  assert.equal(await applied(proxy), stoodAt, "it heard of nothing");
  const asked = await cluster.operator.get(`/receipts/link:${formatLink(link)}?wait=none&timeout=0`);
  assert.equal(
    asked.status,
    503,
    "nor does anybody say that it had, or that the log does not hold what it has let go of",
  );
  const sockets = {
    kept: await openSocket(at("patient", sessions.kept)),
    gone: await openSocket(at("patient", sessions.gone)),
  };
  const loads = await proxy.metric("cardea_replica_snapshots");
  const places: number[] = [];
  let watching = true;
  const watched = (async () => {
    while (watching) places.push(await applied(proxy));
  })();

  for (const relay of [...cluster.relays.brokers, cluster.relays.nats]) relay.restore();
  // Whoever has enforced what was said last has enforced all of it.
  const { link: last } = await cluster.session("last");
  const receipt = await cluster.operator.receipt(last, { timeoutMs: 60_000 });
  const completeAt = performance.now();
  await proxy.ready();
  const served = (name: string): number =>
    hammering.shots.filter((shot) => shot.name === name && shot.sentAt > completeAt && shot.permitted).length;
  await waitFor("both routes to be served", () => served("kept patient") > 20 && served("kept strict") > 20);
  const refused = () => hammering.shots.filter(({ name, sentAt }) => name === "gone patient" && sentAt > completeAt);
  await waitFor("who was revoked to have asked again", () => refused().length > 20);
  watching = false;
  await watched;
  const shots = await hammering.stop();

  assert.equal(receipt.complete, true, JSON.stringify(receipt));
  assert.equal(
    receipt.nodes.find(({ node }) => node === proxy.name)?.status,
    "applied",
    "it was waited for, not fenced",
  );
  assert.ok((await proxy.metric("cardea_replica_snapshots")) > loads, proxy.log().slice(-4_000));
  assert.match(proxy.log(), /the log begins behind this copy/);
  assert.ok((places[0] ?? 0) >= stoodAt, `it began again from nothing: ${places.slice(0, 20)}`);
  assert.deepEqual(
    places,
    places.toSorted((a, b) => a - b),
    "its place went back",
  );

  assert.deepEqual(
    refused().filter(({ permitted }) => permitted),
    [],
    "permitted after a complete receipt",
  );
  const { code } = await sockets.gone.closed;
  assert.equal(code, 4401, "an open stream of theirs is closed");
  assert.ok(sockets.gone.newest() < completeAt, "and was before the receipt was complete");
  const toTheSignedIn = new Set(shots.filter(({ name }) => name !== "gone patient").map(({ status }) => status));
  assert.deepEqual([...toTheSignedIn].toSorted(), [200, 503], "nobody who is signed in is sent to sign in");
  if (!proxy.hasReportedPause()) {
    const unserved = shots.filter(({ name, permitted }) => name === "kept patient" && !permitted);
    assert.deepEqual(unserved, [], "a route within its grace was not served, before, while or after");
    assert.equal(sockets.kept.isOpen(), true);
  }
  t.diagnostic(`${shots.length} requests; the log begins behind ${begins}, it stood at ${stoodAt}`);
  sockets.kept.close();
});

test("it ends with the projection of all others, and retention goes on", { timeout: 240_000 }, async () => {
  const begins = await basePosition(cluster.setup);
  await waitFor("partitions to be dropped again", async () => (await basePosition(cluster.setup)) > begins, {
    withinMs: 60_000,
    everyMs: 250,
  });
  await appender.stop();
  await waitForOneDigest(cluster, 3);
  const { leader, nodes } = await cluster.status();
  const own = nodes.find(({ node }) => node === away.proxy.name);
  assert.ok(own?.digest !== null && own?.digest === leader?.digest, JSON.stringify(own));
});
