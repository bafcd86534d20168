/**
 * Snapshots on a real cluster: real processes take, copy and load them while retention drops the log and appends
 * continue.
 *
 * Partitions and snapshots cover 100 events each; retention is one second.
 */
import assert from "node:assert/strict";
import { readdirSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openPostgresLog, verifyLog } from "../../../src/replication/log/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Appender, startAppender } from "./appender.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";
import { waitForOneDigest } from "./digests.ts";
import { basePosition, shrinkPartitions } from "./small-partitions.ts";

let cluster: Cluster;
let appender: Appender;

before(
  async () => {
    cluster = await startCluster({
      ...{ timing: "short", regions: ["north", "south"], relayed: "proxy-1" },
      broker: { snapshot_every: 100, snapshot_refresh: "1s", retention: "1s" },
      prepare: shrinkPartitions,
    });
    appender = startAppender(cluster);
  },
  { timeout: 400_000 },
);
after(async () => {
  await appender?.stop();
  await cluster?.stop();
});

const waitForLogToBeginAfter = (position: number): Promise<unknown> =>
  waitFor(`the log to begin after ${position}`, async () => (await basePosition(cluster.setup)) >= position, {
    withinMs: 60_000,
    everyMs: 250,
  });

async function status(proxy: ClusterProcess, session: Session): Promise<number> {
  return (await cluster.get(proxy, "strict", session)).status;
}
const statusNow = async (proxy: ClusterProcess, session: Session): Promise<number> =>
  (await cluster.getOnce(proxy, "strict", session)).status;

const denied = (code: number): boolean => code === 401 || code === 302 || code === 303;

let [revoked, kept]: [Session | undefined, Session | undefined] = [undefined, undefined];

test("partitions are dropped while appends continue, but only those that two snapshots cover", {
  timeout: 240_000,
}, async (t) => {
  revoked = await cluster.session("rev");
  kept = await cluster.session("kim");
  const { receipt } = await cluster.operator.revoke(revoked, { wait: "all" });
  assert.equal(receipt?.complete, true);
  await waitForLogToBeginAfter(Math.ceil((receipt?.link?.position ?? 0) / 100) * 100);
  const begins = await basePosition(cluster.setup);
  const { leader } = await cluster.status();
  const [, second] = leader?.snapshots ?? [];
  assert.ok(second !== undefined && begins <= second.position, `begins after ${begins}`);
  assert.deepEqual(appender.failures, [], "an append failed while a snapshot was taken or a partition dropped");
  t.diagnostic(
    `${appender.appendCount()} appends, the slowest ${Math.round(appender.slowestMs())} ms; log begins after ${begins}`,
  );
  for (const proxy of cluster.proxies) {
    assert.equal(await status(proxy, kept), 200);
    assert.ok(denied(await status(proxy, revoked)));
  }
});

test("a killed node continues from the snapshot on its own disk", { timeout: 240_000 }, async () => {
  const proxy = cluster.proxy(2);
  const folder = join(proxy.dataDir, "snapshots");
  await waitFor("a snapshot on the node's disk", () => readdirSync(join(folder, "manifests")).length > 0);
  await proxy.kill();
  await proxy.start();
  assert.ok((await basePosition(cluster.setup)) > 0);
  assert.equal(await status(proxy, kept ?? assert.fail()), 200);
  assert.ok(denied(await status(proxy, revoked ?? assert.fail())));
});

test("a node whose disk is damaged or empty loads a broker's snapshot, and earlier revocations stay in force", {
  timeout: 360_000,
}, async () => {
  const proxy = cluster.proxy(2);
  const folder = join(proxy.dataDir, "snapshots");
  await proxy.kill();
  for (const name of readdirSync(join(folder, "chunks"))) truncateSync(join(folder, "chunks", name), 20);
  await proxy.start();
  assert.match(proxy.log(), /a snapshot on this disk is unusable/);
  assert.equal(await status(proxy, kept ?? assert.fail()), 200);
  assert.ok(denied(await status(proxy, revoked ?? assert.fail())));
  await proxy.kill();
  rmSync(folder, { recursive: true });
  await proxy.start();
  assert.ok((await proxy.metric("cardea_replica_snapshots")) >= 1, proxy.log().slice(-3_000));
  assert.equal(await status(proxy, kept ?? assert.fail()), 200);
  assert.ok(denied(await status(proxy, revoked ?? assert.fail())));
});

test("a node that is cut off beyond its window does not hold the log back; it loads a snapshot and never moves backwards", {
  timeout: 360_000,
}, async () => {
  const proxy = cluster.proxy(1);
  const { relays } = cluster;
  const before = await proxy.metric("cardea_replica_snapshots");
  const meanwhile = await cluster.session("mia");
  await waitFor("the session to be permitted", async () => (await status(proxy, meanwhile)) === 200);
  for (const relay of [...relays.brokers, relays.nats]) relay.cut();
  const appliedAtCut = await proxy.metric("cardea_replica_applied");
  assert.ok(appliedAtCut >= meanwhile.link.position);
  await cluster.operator.revoke(meanwhile);
  await waitForLogToBeginAfter(appliedAtCut + 1);
  // Brokers hold the newest events in memory; restarted brokers no longer have the dropped ones.
  for (const broker of [await cluster.follower(), await cluster.leader()]) await broker.restart();
  const watching = watch(proxy, { revoked: revoked ?? assert.fail(), meanwhile, kept: kept ?? assert.fail() });
  for (const relay of [...relays.brokers, relays.nats]) relay.restore();
  await waitFor("the node to serve again", async () => (await statusNow(proxy, kept ?? assert.fail())) === 200, {
    withinMs: 30_000,
  });
  const { applied, codes } = await watching.stop();
  assert.deepEqual(
    applied,
    applied.toSorted((a, b) => a - b),
    "the applied position went back",
  );
  assert.ok(
    (applied[0] ?? 0) >= appliedAtCut,
    `the node restarted from an empty copy: ${applied.slice(0, 20)}; it had applied ${appliedAtCut}`,
  );
  assert.ok(!codes.revoked.includes(200), "a session revoked before the cut was permitted");
  assert.ok(!codes.meanwhile.includes(200), "a session whose revocation is in the dropped events was permitted");
  assert.deepEqual(
    codes.kept.filter((code) => code !== 200 && code !== 503),
    [],
    "a valid session got another answer than 200 or 503",
  );
  assert.ok(denied(await status(proxy, meanwhile)), "the session revoked during the cut is denied");
  const loads = await proxy.metric("cardea_replica_snapshots");
  assert.ok(
    loads > before,
    `${loads} loads, ${before} before; it had applied ${appliedAtCut}\n${proxy.log().slice(-4_000)}`,
  );
});

/** Polls the node's applied position and its status for each session. */
function watch<Who extends string>(proxy: ClusterProcess, sessions: Readonly<Record<Who, Session>>) {
  const applied: number[] = [];
  const names = Object.keys(sessions) as Who[];
  const codes = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Who, number[]>;
  let running = true;
  const watching = (async () => {
    while (running) {
      applied.push(await proxy.metric("cardea_replica_applied"));
      for (const name of names) codes[name].push(await statusNow(proxy, sessions[name]));
      await sleep(5);
    }
  })();
  return {
    async stop() {
      running = false;
      await watching;
      return { applied, codes };
    },
  };
}

test("an operator creates and lists snapshots, and the copies on the brokers' disks verify", {
  timeout: 240_000,
}, async () => {
  const head = (await cluster.status()).leader?.head.position ?? 0;
  const created = await cluster.cardea("snapshot", "create", "--json");
  assert.equal(created.code, 0, created.err);
  assert.ok(JSON.parse(created.out).position >= head);
  const listed = await cluster.cardea("snapshot", "list", "--json");
  assert.equal(listed.code, 0, listed.err);
  assert.ok(JSON.parse(listed.out).length >= 2);
  const leader = await cluster.leader();
  // Exit 3: retention dropped the log during the comparison. A snapshot that differs is exit 1.
  const verified = await waitFor(
    "a comparison that finishes before retention drops its range",
    async () => {
      const ran = await cluster.cardeaWith(leader.configFile, "snapshot", "verify", "--against-log");
      return ran.code === 3 ? undefined : ran;
    },
    { withinMs: 60_000 },
  );
  assert.equal(verified.code, 0, verified.err + verified.out);
  const follower = await cluster.follower();
  const copied = await cluster.cardeaWith(follower.configFile, "snapshot", "verify");
  assert.equal(copied.code, 0, copied.err + copied.out);
  await waitFor("the leader to report the age of the newest snapshot", async () => {
    const age = await leader.metric("cardea_snapshot_age_seconds");
    return age > 0 && (await leader.metric("cardea_snapshot_position")) >= head;
  });
  await waitFor("the status to name the snapshot", async () =>
    /snapshot +at \d+/.test((await cluster.cardea("cluster", "status")).out),
  );
});

test("a broker with an empty disk starts from another broker's snapshot", { timeout: 360_000 }, async () => {
  const follower = await cluster.follower();
  await follower.kill();
  rmSync(join(follower.dataDir, "snapshots"), { recursive: true, force: true });
  await follower.start();
  await waitFor("the broker to continue from a snapshot", () => /continuing from a snapshot/.test(follower.log()));
  // It can also lead from there.
  const leader = await cluster.leader();
  await leader.kill();
  const countBefore = appender.appendCount();
  await waitFor("appends to continue", () => appender.appendCount() > countBefore + 10, { withinMs: 60_000 });
  await leader.start();
  assert.match(leader.log(), /continuing from a snapshot/);
  for (const proxy of cluster.proxies) {
    assert.equal(await status(proxy, kept ?? assert.fail()), 200);
    assert.ok(denied(await status(proxy, revoked ?? assert.fail())));
  }
});

test("the remaining log verifies, and all nodes end with one digest", { timeout: 240_000 }, async () => {
  await appender.stop();
  const log = await openPostgresLog({
    connectionString: cluster.setup.postgres,
    cluster: cluster.setup.clusterName,
  });
  try {
    assert.equal((await verifyLog(log)).type, "intact");
  } finally {
    await log.close();
  }
  await waitForOneDigest(cluster, 3);
});
