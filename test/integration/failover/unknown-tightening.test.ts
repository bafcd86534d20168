/**
 * A failover without the newest events, back over an upgrade: what is lost is a revocation of a type that only the next
 * build knows, with the finalization that allowed it, and who leads afterwards is the old build again. It cannot read
 * what the nodes hand back; it records the effect (`TighteningReasserted`), and whoever comes later, of either build,
 * refuses whom nobody may let in again.
 */
import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeEvents, genesis, type Recorded, sessionStream, uuidOfHash } from "../../../src/events/index.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import { type ClusterProcess, mainFile } from "../cluster/cluster-process.ts";
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

const everywhere = (session: Session): Promise<boolean[]> =>
  Promise.all(cluster.proxies.map(async (proxy) => (await cluster.get(proxy, "app", session)).permitted));

/** As the primary has them, read by this build. */
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

async function anew(process: ClusterProcess, program: string): Promise<void> {
  await process.kill();
  rmSync(process.dataDir, { recursive: true });
  mkdirSync(process.dataDir, { mode: 0o700 });
  process.program = program;
  await process.start();
}

test("a revocation of a type that no broker knows any more is handed back, recorded by its effect, and obeyed by newcomers", {
  skip,
  timeout: 220_000,
}, async (t) => {
  const group = groupOf(cluster);
  const [kept, cut] = [await cluster.session("alice"), await cluster.session("bob")];
  for (const session of [kept, cut])
    await waitFor("the session to work everywhere", async () => (await everywhere(session)).every(Boolean));
  await group.replicated();

  await group.detachStandbys();
  await waitFor(
    "the level to be finalized",
    async () => (await cluster.operator.post("/cluster/finalize", { level: nextLevel })).status === 200,
    { withinMs: 30_000, everyMs: 250 },
  );
  const change = await cluster.operator.revoke(cut, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, "acknowledged, and enforced everywhere");
  const stream = sessionStream(cut.id as never);
  assert.equal((await typesOf(stream)).at(-1), "SessionCut", "written in the new format");
  assert.deepEqual(await everywhere(cut), [false, false]);

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
    "it is lost",
  );

  const again = await waitFor(
    "the lost revocation to be in the log again",
    async () => (await eventsOf(stream)).find(({ type }) => type === "TighteningReasserted"),
    { withinMs: 30_000 },
  );
  t.diagnostic(`there ${Math.round(performance.now() - failedOverAt)} ms after the failover`);
  assert.equal(again.cause, uuidOfHash(change.link.hash), "under an id that follows from what was lost");
  const { event } = again;
  assert.ok(event.type === "TighteningReasserted");
  assert.deepEqual([event.of, event.subject, event.lost], ["SessionCut", stream, change.link.hash]);

  await waitFor("what was kept to be served everywhere", async () => (await everywhere(kept)).every(Boolean), {
    withinMs: 30_000,
  });
  assert.deepEqual(await everywhere(cut), [false, false], "on the nodes that remember");
  for (const proxy of cluster.proxies)
    await waitFor("all of it to be handed back", async () => (await proxy.metric("cardea_replica_reasserting")) === 0);
  assert.equal((await typesOf(stream)).filter((type) => type === "TighteningReasserted").length, 1, "by both, once");

  // Who has never seen what was lost, of the old build and of the next one, has it from the log alone.
  await anew(cluster.proxy(2), mainFile);
  await anew(cluster.proxy(1), nextMain);
  for (const proxy of cluster.proxies)
    assert.equal(await proxy.metric("cardea_replica_rebuilds"), 0, `${proxy.name} begins anew`);
  assert.deepEqual(
    [await everywhere(cut), await everywhere(kept)],
    [
      [false, false],
      [true, true],
    ],
  );
  const receipt = await cluster.operator.receipt(change.link);
  assert.deepEqual([receipt.status, receipt.complete], ["lost", false]);
  await waitForLogDigest(cluster);
});
