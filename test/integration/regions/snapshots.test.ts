/**
 * A region and its snapshots: a node of a cut-off region gets what retention has dropped from its regional broker, and
 * serves from it.
 *
 * Partitions have 100 events, snapshots are taken every 100, and retention is one second. Leases have their default
 * window of 65 s, of which this uses a part.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { genesis } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { Session } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { basePosition, shrinkPartitions } from "../cluster/small-partitions.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

let regions: TwoRegions;
let [valid, revoked]: [Session | undefined, Session | undefined] = [undefined, undefined];

before(
  async () => {
    regions = await startTwoRegions({
      ...{ timing: "default", lateMs: 20, prepare: shrinkPartitions },
      broker: { snapshot_every: 100, snapshot_refresh: "1s", retention: "1s" },
    });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

/** The applied position of a node or of a regional broker, which has its own copy. */
const applied = (of: ClusterProcess) => of.metric("cardea_replica_applied");
const getNow = (proxy: ClusterProcess) => regions.getNow(proxy, "app", valid ?? assert.fail());
const get = (proxy: ClusterProcess, session = valid) => regions.get(proxy, "app", session ?? assert.fail());

/** The first position that the western broker still has events of. */
async function regionBegins(): Promise<number> {
  const outcome = await regions.clientVia(regions.west.broker).read(genesis, { limit: 1, waitMs: 0 });
  return outcome.type === "truncated" ? outcome.first : 1;
}

function emptyDisk(proxy: ClusterProcess): void {
  rmSync(proxy.dataDir, { recursive: true });
  mkdirSync(proxy.dataDir, { mode: 0o700 });
}

/**
 * The proxy permits a valid session and can read its profile. It denies the session that was revoked in the dropped
 * part of the log.
 */
async function expectServing(proxy: ClusterProcess): Promise<void> {
  await waitFor(`${proxy.name} to permit`, async () => (await getNow(proxy)).permitted, { withinMs: 45_000 });
  const headers = JSON.parse((await get(proxy)).body) as Record<string, string>;
  assert.equal(decodeJwt(headers["x-pomerium-jwt-assertion"] ?? "")["email"], "kim@example.com");
  const { permitted, status } = await get(proxy, revoked);
  assert.deepEqual(
    [permitted, status === 503],
    [false, false],
    "denied because it is revoked, not because the lease is missing",
  );
}

test("retention drops the early log at home, and the regional broker drops it too", {
  timeout: 220_000,
}, async (t) => {
  [valid, revoked] = [await regions.session("kim"), await regions.session("rev")];
  const { receipt } = await regions.operator.revoke(revoked, { wait: "all", timeoutMs: 20_000 });
  assert.equal(receipt?.complete, true);
  const upTo = receipt?.link?.position ?? assert.fail();
  let filled = 0;
  await waitFor(
    "the log to start later, at home and in the west",
    async () => {
      await Promise.all(Array.from({ length: 10 }, () => regions.session(`filler-${filled++ % 40}`)));
      return (await basePosition(regions.places)) >= upTo && (await regionBegins()) > upTo;
    },
    { withinMs: 90_000, everyMs: 100 },
  );
  t.diagnostic(`${filled} sessions; the log begins after ${await basePosition(regions.places)}`);
  for (const { dataDir } of regions.west.proxies)
    await waitFor("a snapshot on the node's disk", () => readdirSync(join(dataDir, "snapshots/manifests")).length > 0);
});

test("in a cut-off region, a node with an empty disk starts from the regional broker's snapshot, another from its own, and both serve", {
  timeout: 220_000,
}, async (t) => {
  const { broker, proxies } = regions.west;
  const [empty, own] = proxies;
  assert.ok(empty && own);
  const position = (await regions.session("mia")).link.position;
  for (const proxy of [broker, ...proxies])
    await waitFor(`${proxy.name} to catch up`, async () => (await applied(proxy)) >= position);
  regions.wan.cut();
  const cutAt = performance.now();
  await Promise.all(proxies.map((proxy) => proxy.kill()));
  emptyDisk(empty);
  await Promise.all(proxies.map((proxy) => proxy.launch()));
  for (const proxy of proxies) {
    await expectServing(proxy);
    assert.ok((await applied(proxy)) >= position, `${proxy.name} has the events after the snapshot too`);
    t.diagnostic(`${proxy.name} serves ${((performance.now() - cutAt) / 1_000).toFixed(1)} s after the cut`);
  }
  const loads = await empty.metric("cardea_replica_snapshots");
  assert.ok(loads >= 1, `an empty disk, and no snapshot was loaded\n${empty.log().slice(-3_000)}`);
  const stored = () => readdirSync(join(empty.dataDir, "snapshots/manifests"));
  await waitFor("the snapshot to be stored for the next start", () => stored().length > 0);
});

test("a restarted regional broker starts from its own snapshot and grants nothing until home is reachable again", {
  timeout: 220_000,
}, async () => {
  const { broker, proxies } = regions.west;
  const [proxy] = proxies;
  assert.ok(proxy);
  const before = await applied(broker);
  assert.ok(before > 0);
  await Promise.all([broker.kill(), proxy.kill()]);
  emptyDisk(proxy);
  await Promise.all([broker.launch(), proxy.launch()]);
  for (const process of [broker, proxy])
    await waitFor(`${process.name} to reach its earlier position`, async () => (await applied(process)) >= before, {
      withinMs: 45_000,
    });
  assert.equal((await getNow(proxy)).permitted, false, "no node has a lease");
  regions.wan.heal();
  for (const each of proxies) await expectServing(each);
});
