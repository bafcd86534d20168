/**
 * An asynchronous failover that undoes an upgrade: the lost events are a revocation of a type that only the next build
 * knows, and the finalization that allowed it. The old build leads afterwards.
 *
 * The old build cannot read what the nodes return, so it records the effect (`TighteningReasserted`). New nodes of
 * either build obey it.
 */
import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeEvents, genesis, type Recorded, sessionStream, uuidOfHash } from "../../../src/events/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { waitForLogDigest } from "../cluster/digests.ts";
import { nextLevel } from "../upgrade/next-build.ts";
import { groupOf, logAt } from "./failover-support.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const nextMain = join(import.meta.dirname, "../upgrade/next-main.ts");
let cluster: Cluster;

before(
  async () => {
    if (skip !== false) return;
    cluster = await startCluster({
      timing: "short",
      regions: ["north", "south"],
      postgres: () => startPostgresGroup({ synchrony: "asynchronous" }),
    });
    for (const process of [cluster.proxy(1), cluster.proxy(2), cluster.authenticate, ...cluster.brokers]) {
      process.program = nextMain;
      await process.restart();
    }
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const permittedEverywhere = (session: Session): Promise<boolean[]> =>
  Promise.all(cluster.proxies.map(async (proxy) => (await cluster.get(proxy, "app", session)).permitted));

/** The events of a stream on the primary, read by this build. */
async function eventsOf(stream: string): Promise<Recorded[]> {
  return logAt(cluster, groupOf(cluster).primary(), async (log) => {
    const outcome = await log.read(genesis, 10_000);
    if (outcome.type !== "page") throw new Error(`the log cannot be read: ${outcome.type}`);
    return [...decodeEvents(outcome.page.entries, genesis)].filter((each) => each.stream === stream);
  });
}

async function typesOf(stream: string): Promise<string[]> {
  return (await eventsOf(stream)).map(({ type }) => type);
}

async function restartEmpty(process: ClusterProcess, program: string): Promise<void> {
  await process.kill();
  rmSync(process.dataDir, { recursive: true });
  mkdirSync(process.dataDir, { mode: 0o700 });
  process.program = program;
  await process.start();
}

test("a lost revocation of a type that no broker knows is returned by the nodes, recorded by its effect, and obeyed by new nodes", {
  skip,
  timeout: 220_000,
}, async (t) => {
  const group = groupOf(cluster);
  const [unaffected, cut] = [await cluster.session("alice"), await cluster.session("bob")];
  for (const session of [unaffected, cut])
    await waitFor("the session to work everywhere", async () => (await permittedEverywhere(session)).every(Boolean));
  await group.replicated();

  await group.detachStandbys();
  await waitFor(
    "the level to be finalized",
    async () => (await cluster.operator.post("/cluster/finalize", { level: nextLevel })).status === 200,
    { withinMs: 30_000, everyMs: 250 },
  );
  const change = await cluster.operator.revoke(cut, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, "the revocation is acknowledged and enforced everywhere");
  const stream = sessionStream(cut.id as never);
  assert.equal((await typesOf(stream)).at(-1), "SessionCut", "the revocation is of the new type");
  assert.deepEqual(await permittedEverywhere(cut), [false, false]);

  await group.kill();
  for (const broker of cluster.brokers) {
    await broker.kill();
    broker.program = mainFile;
  }
  await group.failOver();
  const failedOverAt = performance.now();
  await Promise.all(cluster.brokers.map((broker) => broker.start()));
  assert.deepEqual(
    (await typesOf(stream)).filter((type) => type === "SessionCut"),
    [],
    "the revocation is lost",
  );

  const reasserted = await waitFor(
    "the lost revocation to be in the log again",
    async () => (await eventsOf(stream)).find(({ type }) => type === "TighteningReasserted"),
    { withinMs: 30_000 },
  );
  t.diagnostic(`recorded again ${Math.round(performance.now() - failedOverAt)} ms after the failover`);
  assert.equal(reasserted.cause, uuidOfHash(change.link.hash), "its cause is derived from the lost link");
  const { event } = reasserted;
  assert.ok(event.type === "TighteningReasserted");
  assert.deepEqual([event.of, event.subject, event.lost], ["SessionCut", stream, change.link.hash]);

  await waitFor(
    "the surviving session to be permitted everywhere",
    async () => (await permittedEverywhere(unaffected)).every(Boolean),
    {
      withinMs: 30_000,
    },
  );
  assert.deepEqual(await permittedEverywhere(cut), [false, false], "the nodes that hold the revocation deny");
  for (const proxy of cluster.proxies)
    await waitFor(
      "the node to have returned every lost revocation",
      async () => (await proxy.metric("cardea_replica_reasserting")) === 0,
    );
  assert.equal(
    (await typesOf(stream)).filter((type) => type === "TighteningReasserted").length,
    1,
    "the revocation is recorded once, though both nodes returned it",
  );

  // New nodes, of the old build and of the next one, learn the revocation from the log alone.
  await restartEmpty(cluster.proxy(2), mainFile);
  await restartEmpty(cluster.proxy(1), nextMain);
  for (const proxy of cluster.proxies)
    assert.equal(await proxy.metric("cardea_replica_rebuilds"), 0, `${proxy.name} starts empty`);
  assert.deepEqual(
    [await permittedEverywhere(cut), await permittedEverywhere(unaffected)],
    [
      [false, false],
      [true, true],
    ],
  );
  const receipt = await cluster.operator.receipt(change.link);
  assert.deepEqual([receipt.status, receipt.complete], ["lost", false]);
  await waitForLogDigest(cluster);
});
