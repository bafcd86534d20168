/**
 * A region and its snapshots: what retention has dropped from the log, at home and in the region's copy, a node of a
 * region that is cut off has from its region's broker, and serves from it. Partitions of 100 events, a snapshot every
 * 100, nothing kept for longer than a second. Leases are as they come: a window of 65 seconds, of which this uses a
 * part.
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
let [kept, revoked]: [Session | undefined, Session | undefined] = [undefined, undefined];

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

/** Of a node, and of the broker of a region, which has a copy of its own. */
const applied = (of: ClusterProcess) => of.metric("cardea_replica_applied");
const getNow = (proxy: ClusterProcess) => regions.getNow(proxy, "app", kept ?? assert.fail());
const get = (proxy: ClusterProcess, session = kept) => regions.get(proxy, "app", session ?? assert.fail());

/** The first position that the west's own broker still has events of. */
async function regionBegins(): Promise<number> {
  const outcome = await regions.clientVia(regions.west.broker).read(genesis, { limit: 1, waitMs: 0 });
  return outcome.type === "truncated" ? outcome.first : 1;
}

function emptyDisk(proxy: ClusterProcess): void {
  rmSync(proxy.dataDir, { recursive: true });
  mkdirSync(proxy.dataDir, { mode: 0o700 });
}

/** Who may, may, under a name that is legible; who was revoked in the part of the log that is gone may not. */
async function serves(proxy: ClusterProcess): Promise<void> {
  await waitFor(`${proxy.name} to permit`, async () => (await getNow(proxy)).permitted, { withinMs: 45_000 });
  const headers = JSON.parse((await get(proxy)).body) as Record<string, string>;
  assert.equal(decodeJwt(headers["x-pomerium-jwt-assertion"] ?? "")["email"], "kim@example.com");
  const { permitted, status } = await get(proxy, revoked);
  assert.deepEqual(
    [permitted, status === 503],
    [false, false],
    "refused for what is known of it, not for want of a lease",
  );
}

test("retention drops the early log at home, and the region's broker lets go of it too", {
  timeout: 220_000,
}, async (t) => {
  [kept, revoked] = [await regions.session("kim"), await regions.session("rev")];
  const { receipt } = await regions.operator.revoke(revoked, { wait: "all", timeoutMs: 20_000 });
  assert.equal(receipt?.complete, true);
  const upTo = receipt?.link?.position ?? assert.fail();
  let filled = 0;
  await waitFor(
    "the log to begin later, at home and in the west",
    async () => {
      await Promise.all(Array.from({ length: 10 }, () => regions.session(`filler-${filled++ % 40}`)));
      return (await basePosition(regions.places)) >= upTo && (await regionBegins()) > upTo;
    },
    { withinMs: 90_000, everyMs: 100 },
  );
  t.diagnostic(`${filled} sessions; the log begins behind ${await basePosition(regions.places)}`);
  for (const { dataDir } of regions.west.proxies)
    await waitFor("a copy on the node's disk", () => readdirSync(join(dataDir, "snapshots/manifests")).length > 0);
});

test("cut off from home, a node with an empty disk starts from its region's snapshot, and one with its own from that; both serve", {
  timeout: 220_000,
}, async (t) => {
  const { broker, proxies } = regions.west;
  const [empty, own] = proxies;
  assert.ok(empty && own);
  const behind = (await regions.session("mia")).link.position;
  for (const proxy of [broker, ...proxies])
    await waitFor(`${proxy.name} to be level`, async () => (await applied(proxy)) >= behind);
  regions.wan.cut();
  const cutAt = performance.now();
  await Promise.all(proxies.map((proxy) => proxy.kill()));
  emptyDisk(empty);
  await Promise.all(proxies.map((proxy) => proxy.launch()));
  for (const proxy of proxies) {
    await serves(proxy);
    assert.ok((await applied(proxy)) >= behind, `${proxy.name} has what came behind the snapshot too`);
    t.diagnostic(`${proxy.name} serves ${((performance.now() - cutAt) / 1_000).toFixed(1)} s after the cut`);
  }
  const loads = await empty.metric("cardea_replica_snapshots");
  assert.ok(loads >= 1, `an empty disk, and no snapshot was loaded\n${empty.log().slice(-3_000)}`);
  const kepts = () => readdirSync(join(empty.dataDir, "snapshots/manifests"));
  await waitFor("it to be kept for the next start", () => kepts().length > 0);
});

test("the region's broker too starts from its own snapshot, and nodes from it; it grants nothing until home is there again", {
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
    await waitFor(`${process.name} to be where it was`, async () => (await applied(process)) >= before, {
      withinMs: 45_000,
    });
  assert.equal((await getNow(proxy)).permitted, false, "no lease, so nobody");
  regions.wan.heal();
  for (const each of proxies) await serves(each);
});
