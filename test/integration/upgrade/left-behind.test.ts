/**
 * Those who were away while a level was finalized, on a real cluster: an old node and an old broker that come back
 * later. The node obeys what it can and permits nothing; the broker does not lead; and the new version, started on what
 * the old one left on its disk, knows everything that the old one could only guess at.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { nextLevel } from "./next-build.ts";

const mainOfThisBuild = join(import.meta.dirname, "../../../src/main.ts");
const nextMain = join(import.meta.dirname, "next-main.ts");

let cluster: Cluster;
let cut: Session;
let kept: Session;
let old: ClusterProcess;

before(
  async () => {
    cluster = await startCluster({ timing: "short", regions: ["north", "north"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

async function become(process: ClusterProcess, program: string): Promise<void> {
  process.program = program;
  await process.restart();
}

const answers = (proxy: ClusterProcess, session: Session) => cluster.get(proxy, "app", session);

test("a node that is away does not hold an upgrade up for longer than it may decide", async () => {
  old = cluster.proxy(2);
  const leader = await cluster.leader();
  for (const process of [cluster.proxy(1), cluster.authenticate, await cluster.follower(), leader])
    await become(process, nextMain);
  [cut, kept] = [await cluster.session("alice"), await cluster.session("bob")];
  await cluster.session("carol");
  for (const session of [cut, kept]) assert.equal((await answers(old, session)).permitted, true);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  old.pause();
  // At once, from within: a command line may take longer to start than the node is waited for.
  const first = await cluster.operator.post("/cluster/finalize", { level: nextLevel });
  if (first.status !== 200) assert.match(first.body, /proxy-2 \(version [^)]+\) reads level 2|has led for only/);
  let said = first.body;
  const done = await waitFor(
    "the silent node to be fenced, and the level finalized",
    async () => {
      const answer = await cluster.cardea("cluster", "finalize", "--level", String(nextLevel));
      said = answer.err;
      return answer.code === 0 ? answer : undefined;
    },
    { withinMs: 60_000 },
  ).catch((cause: unknown) => assert.fail(new Error(said, { cause })));
  assert.match(done.out, /level 3 is finalized/);
  const change = await cluster.operator.revoke(cut, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, "whoever is fenced is not waited for");
  for (const verb of ["suspend", "restore"])
    assert.equal((await cluster.cardea("users", verb, "carol", "--wait")).code, 0);
});

test("when it comes back it obeys the final event that it does not know, permits nothing, and says why", async () => {
  old.resume();
  const reasons = await waitFor("the old node to read on", async () => {
    const why = await old.notReadyReasons();
    return why.some((one) => one.includes("finalized")) ? why : undefined;
  });
  assert.match(reasons.join("; "), /start a newer one/);
  for (const session of [cut, kept]) {
    const { status, permitted } = await cluster.getOnce(old, "app", session);
    assert.deepEqual([permitted, status], [false, 503], `${session.user}, also on a route that serves without a lease`);
  }
  assert.equal((await answers(cluster.proxy(1), cut)).permitted, false);
  assert.equal((await answers(cluster.proxy(1), kept)).permitted, true);
  assert.equal(old.running, true, "a node that was serving stays, and can be asked");
});

test("the new version, on the old one's disk, folds again what the old one could not read", async () => {
  await become(old, nextMain);
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
  assert.deepEqual([(await answers(old, cut)).permitted, (await answers(old, kept)).permitted], [false, true]);
  const carol = await cluster.session("carol");
  assert.equal((await answers(old, carol)).permitted, true, "readmitted by an event of a type that is new");
  await waitFor("digests to agree", async () => {
    const { leader, nodes } = await cluster.status();
    const all = nodes.map(({ digest, lag, digestMismatch }) => [digest === leader?.digest, lag, digestMismatch]);
    return nodes.length === 3 && all.every(([same, lag, mismatch]) => same === true && lag === 0 && mismatch === false);
  });
});

test("an old broker that was away does not lead after it, whoever else is gone; the new version takes the lead again", async () => {
  const broker = await cluster.follower();
  const leader = await cluster.leader();
  await broker.end();
  broker.program = mainOfThisBuild;
  await leader.kill();
  await broker.launch();
  assert.equal((await broker.exited())?.code, 3);
  await leader.start();
  assert.equal((await cluster.leader()).name, leader.name);
  await become(broker, nextMain);
  for (const proxy of cluster.proxies) {
    await proxy.ready();
    assert.equal((await answers(proxy, kept)).permitted, true);
  }
});
