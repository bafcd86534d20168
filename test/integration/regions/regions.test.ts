/**
 * Regions: a region that is cut off from the leader keeps its contract, restarts its nodes from what it has, and heals
 * without a stampede; no revocation is missed on the way. Leases are as they come: a window of 65 seconds, of which
 * this uses a part.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "../cluster/client.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

/** Renews come once a second; the rest is for a busy machine. */
const lateMs = 40;
let regions: TwoRegions;

before(
  async () => {
    regions = await startTwoRegions({ timing: "default", lateMs });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const measure = (of: ClusterProcess, name: string) => of.metric(`cardea_broker_${measureName(name)}`);

test("a sign-in in the east is honoured in the west at once: its link is waited for", async (t) => {
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  const took: number[] = [];
  for (let i = 0; i < 5; i++) {
    const session = await regions.session(`user-${i}`);
    const askedAt = performance.now();
    const answer = await regions.get(proxy, "app", session);
    took.push(Math.round(performance.now() - askedAt));
    assert.equal(answer.permitted, true, `${answer.status} ${answer.body.slice(0, 200)}`);
  }
  t.diagnostic(`with ${2 * lateMs} ms between the regions the first request took ${took.join(", ")} ms`);
});

test("a receipt waits for one region or for all, names the region's broker too, and open streams in the west are cut", async (t) => {
  const session = await regions.session("alice");
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  assert.equal((await regions.get(proxy, "app", session)).permitted, true);
  const socket = await openSocket({ port: proxy.ports.address, host: regions.host("app"), cookie: session.cookie });
  const askedAt = performance.now();
  const { receipt } = await regions.operator.revoke(session, { wait: "all" });
  t.diagnostic(`revoked in both regions after ${Math.round(performance.now() - askedAt)} ms`);
  assert.equal(receipt?.complete, true, JSON.stringify(receipt?.nodes));
  assert.deepEqual([...new Set(receipt?.nodes.map((node) => node.region))].sort(), ["east", "west"]);
  assert.ok(receipt?.nodes.some(({ node, role }) => node === "broker-west" && role === "broker"));
  assert.equal((await socket.closed).code, 4401);
  assert.equal((await regions.get(proxy, "app", session)).permitted, false);
});

test("a receipt for one region is complete when its own nodes have applied, though the other is cut off; one for all is not, and names who is missing, until that heals", {
  timeout: 220_000,
}, async (t) => {
  const { proxy: eastern } = regions.east;
  const [first, second] = regions.west.proxies;
  assert.ok(first && second);
  const session = await regions.session("grace");
  for (const proxy of [eastern, first, second])
    assert.equal((await regions.get(proxy, "app", session)).permitted, true, proxy.name);
  regions.wan.cut();

  // A node of the region itself that has not applied it yet keeps its region's receipt open.
  eastern.pause();
  const change = await regions.operator.revoke(session, { wait: "region", timeoutMs: 500 });
  assert.equal(change.receipt?.complete, false, "proxy-east cannot have applied it");
  const missing = missingIn(change.receipt);
  assert.ok(
    missing.some(({ node }) => node === "proxy-east"),
    JSON.stringify(missing),
  );
  eastern.resume();

  const own = await regions.operator.receipt(change.link, { wait: "region", timeoutMs: 20_000 });
  assert.deepEqual([own.complete, own.wait, own.region], [true, "region", "east"], JSON.stringify(own.nodes));
  const [ours, theirs] = [own.nodes.filter(({ region }) => region === "east"), missingIn(own)];
  assert.ok(ours.length >= 2 && ours.every(({ status }) => status === "applied"), JSON.stringify(ours));
  assert.deepEqual(
    theirs.map(({ region }) => region).filter((region) => region !== "west"),
    [],
  );
  assert.equal((await regions.get(eastern, "app", session)).permitted, false, "after its region's receipt");
  assert.equal((await regions.get(first, "app", session)).permitted, true, "which promises nothing of the other");

  const all = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 1_000 });
  assert.deepEqual([all.complete, all.status], [false, "incomplete"]);
  const names = missingIn(all).map(({ node }) => node);
  assert.deepEqual(names.toSorted(), ["broker-west", "proxy-west-1", "proxy-west-2"]);
  for (const { node, reason, fencedInMs } of missingIn(all)) {
    assert.match(reason, /not yet|confirmed nothing/, node);
    assert.ok((fencedInMs ?? 0) > 0 && (fencedInMs ?? 0) <= all.completeInMs, `${node}: ${fencedInMs} ms`);
  }
  const west = { wait: "region", region: "west", timeoutMs: 500 } as const;
  const link = { type: "link", link: change.link } as const;
  assert.equal((await regions.client("operator").receipt(link, west)).complete, false, "nor is that of the west alone");

  regions.wan.heal();
  const healedAt = performance.now();
  const healed = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 50_000 });
  t.diagnostic(`complete for all ${Math.round(performance.now() - healedAt)} ms after healing`);
  assert.equal(healed.complete, true, JSON.stringify(healed.nodes));
  for (const proxy of [first, second])
    assert.equal((await regions.get(proxy, "app", session)).permitted, false, `${proxy.name}, after it`);
  const after = await regions.session("heidi");
  for (const proxy of [first, second])
    await waitFor("a fresh lease", async () => (await regions.get(proxy, "strict", after)).permitted, {
      withinMs: 30_000,
    });
});

const missingIn = (receipt: Receipt | null) => receipt?.nodes.filter(({ status }) => status === "unconfirmed") ?? [];

test("the region's lag is visible: in the status, on the command line, and as metrics", async () => {
  const status = await regions.status();
  assert.deepEqual([...new Set(status.nodes.map(({ region }) => region))].sort(), ["east", "west"]);
  assert.ok(status.nodes.some(({ node, role }) => node === "broker-west" && role === "broker"));
  await waitFor("the command line to tell of one broker and two nodes of the west, without a lag", async () => {
    const { out, err } = await regions.cardea("cluster", "status");
    assert.match(out, /broker-west/, err);
    assert.match(out, /^west +1 +2 +0/m);
    return true;
  });
  const leading = regions.east.brokers[0] ?? assert.fail();
  await waitFor(
    "the leader to count them",
    async () => (await leading.metric("cardea_region_nodes", { region: "west" })) === 2,
  );
  await waitFor("the region to be level", async () => (await measure(regions.west.broker, "regionLag")) === 0);
  assert.ok((await measure(regions.west.broker, "homeSilentMs")) >= 0);
  await waitFor("the mirror to be level", async () => (await measure(regions.west.broker, "mirrorLag")) === 0);
});

test("a region that is cut off serves by its contract, restarts a node, and after healing has missed no revocation", {
  timeout: 400_000,
}, async (t) => {
  const { broker, proxies } = regions.west;
  const [first, second] = proxies;
  assert.ok(first && second);
  const [kept, gone] = [await regions.session("bob", ["eng"]), await regions.session("carol")];
  for (const proxy of proxies) {
    assert.equal((await regions.get(proxy, "eng", kept)).permitted, true);
    assert.equal((await regions.get(proxy, "strict", gone)).permitted, true);
  }

  const byAge = await measure(broker, "grantsByAge");
  regions.wan.cut();
  const cutAt = performance.now();
  const sinceCut = (): string => `${((performance.now() - cutAt) / 1_000).toFixed(1)} s after the cut`;
  await waitFor(
    "new leases by age",
    async () => (await measure(broker, "grantsByAge")) >= byAge + 2 && (await measure(broker, "leasesByAge")) >= 2,
    { withinMs: 20_000 },
  );
  t.diagnostic(`grants by age ${sinceCut()}`);

  // Restarted as by a crash, with nobody to ask but the region.
  await first.kill();
  await first.launch();
  const again = await waitFor(
    "the restarted proxy to permit",
    async () => (await regions.getNow(first, "eng", kept)).permitted && performance.now(),
    { withinMs: 45_000 },
  );
  t.diagnostic(
    `a proxy killed and started in the cut-off region serves ${((again - cutAt) / 1_000).toFixed(1)} s after the cut`,
  );
  await waitFor(
    "a route that denies when stale to do so",
    async () => (await regions.getNow(first, "strict", kept)).status === 503,
    { withinMs: 15_000 },
  );
  assert.equal((await regions.get(second, "app", gone)).permitted, true, "a route that serves when stale does");

  // Revoked at home meanwhile: the receipt does not say that it is complete while the west may still permit.
  const change = await regions.operator.revoke(gone);
  const told = await waitFor("the east to have applied it", async () => {
    const receipt = await regions.operator.receipt(change.link, { wait: "none" });
    assert.equal(receipt.complete, false);
    const east = receipt.nodes.filter(({ region }) => region === "east");
    return east.every(({ status }) => status === "applied") ? receipt : undefined;
  });
  const open = missingIn(told);
  assert.ok(
    open.some(({ node }) => node === "broker-west"),
    "the broker that grants by age is named",
  );
  assert.ok(open.every(({ region }) => region === "west"));

  const connections = regions.wan.brokers.map((wan) => wan.taken()).reduce((sum, each) => sum + each, 0);
  const reads = await measure(broker, "homeReads");
  regions.wan.heal();
  const healedAt = performance.now();
  const receipt = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 60_000 });
  const completeMs = performance.now() - healedAt;
  assert.equal(receipt.complete, true, JSON.stringify(receipt.nodes));
  for (const proxy of proxies)
    assert.equal((await regions.get(proxy, "app", gone)).permitted, false, `${proxy.name}, after a complete receipt`);
  t.diagnostic(`healed: the revocation is enforced in the west after ${Math.round(completeMs)} ms`);
  await waitFor("fresh leases", async () => (await regions.get(first, "strict", kept)).permitted, { withinMs: 20_000 });
  const more = regions.wan.brokers.map((wan) => wan.taken()).reduce((sum, each) => sum + each, 0) - connections;
  const newReads = (await measure(broker, "homeReads")) - reads;
  t.diagnostic(`for healing, ${more} connections and ${newReads} reads crossed between the regions`);
  // One that waits at the head is asked again every second or so.
  const healedS = (performance.now() - healedAt) / 1_000;
  assert.ok(newReads <= 20 + healedS, "one process catches up for its region");
});
