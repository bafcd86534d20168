/**
 * An old node and an old broker that were away while a level was finalized, on a real cluster.
 *
 * The returning node obeys final events and permits nothing. The returning broker does not lead. The new version,
 * started on the old one's disk, folds the events that the old one could not read.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { nextLevel, presentLevel } from "./next-build.ts";

const nextMain = join(import.meta.dirname, "next-main.ts");

let cluster: Cluster;
let cut: Session;
let unaffected: Session;
let old: ClusterProcess;

before(
  async () => {
    cluster = await startCluster({ timing: "short", regions: ["north", "north"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

async function restartAs(process: ClusterProcess, program: string): Promise<void> {
  process.program = program;
  await process.restart();
}

const getApp = (proxy: ClusterProcess, session: Session) => cluster.get(proxy, "app", session);

test("a silent old node delays a finalization only until it is fenced", async () => {
  old = cluster.proxy(2);
  const leader = await cluster.leader();
  for (const process of [cluster.proxy(1), cluster.authenticate, await cluster.follower(), leader])
    await restartAs(process, nextMain);
  [cut, unaffected] = [await cluster.session("alice"), await cluster.session("bob")];
  await cluster.session("carol");
  for (const session of [cut, unaffected]) assert.equal((await getApp(old, session)).permitted, true);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  old.pause();
  // Through the API first: a new command line may start only after the node is fenced.
  const first = await cluster.operator.post("/cluster/finalize", { level: nextLevel });
  if (first.status !== 200)
    assert.match(first.body, new RegExp(`proxy-2 \\(version [^)]+\\) reads level ${presentLevel}|has led for only`));
  let lastError = first.body;
  const done = await waitFor(
    "the silent node to be fenced, and the level finalized",
    async () => {
      const answer = await cluster.cardea("cluster", "finalize", "--level", String(nextLevel));
      lastError = answer.err;
      return answer.code === 0 ? answer : undefined;
    },
    { withinMs: 60_000 },
  ).catch((cause: unknown) => assert.fail(new Error(lastError, { cause })));
  assert.match(done.out, new RegExp(`level ${nextLevel} is finalized`));
  const change = await cluster.operator.revoke(cut, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, "the receipt does not wait for the fenced node");
  for (const verb of ["suspend", "restore"])
    assert.equal((await cluster.cardea("users", verb, "carol", "--wait")).code, 0);
});

test("an old node that returns obeys a final event of an unknown type, permits nothing, and gives the reason", async () => {
  old.resume();
  const reasons = await waitFor("the old node to read the finalization", async () => {
    const why = await old.notReadyReasons();
    return why.some((one) => one.includes("finalized")) ? why : undefined;
  });
  assert.match(reasons.join("; "), /start a newer one/);
  for (const session of [cut, unaffected]) {
    const { status, permitted } = await cluster.getOnce(old, "app", session);
    assert.deepEqual([permitted, status], [false, 503], `${session.user}, also on a route that serves without a lease`);
  }
  assert.equal((await getApp(cluster.proxy(1), cut)).permitted, false);
  assert.equal((await getApp(cluster.proxy(1), unaffected)).permitted, true);
  assert.equal(old.running, true, "a node that was serving keeps running");
});

test("the new version, started on the old node's disk, folds the events that the old one could not read", async () => {
  await restartAs(old, nextMain);
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
  assert.deepEqual([(await getApp(old, cut)).permitted, (await getApp(old, unaffected)).permitted], [false, true]);
  const carol = await cluster.session("carol");
  assert.equal((await getApp(old, carol)).permitted, true, "readmitted by an event of a new type");
  await waitFor("digests to agree", async () => {
    const { leader, nodes } = await cluster.status();
    const all = nodes.map(({ digest, lag, digestMismatch }) => [digest === leader?.digest, lag, digestMismatch]);
    return nodes.length === 3 && all.every(([same, lag, mismatch]) => same === true && lag === 0 && mismatch === false);
  });
});

test("an old broker that was away refuses to start, even without another broker, and the new version leads again", async () => {
  const broker = await cluster.follower();
  const leader = await cluster.leader();
  await broker.end();
  broker.program = mainFile;
  await leader.kill();
  await broker.launch();
  assert.equal((await broker.exited())?.code, 3);
  await leader.start();
  assert.equal((await cluster.leader()).name, leader.name);
  await restartAs(broker, nextMain);
  for (const proxy of cluster.proxies) {
    await proxy.ready();
    assert.equal((await getApp(proxy, unaffected)).permitted, true);
  }
});
