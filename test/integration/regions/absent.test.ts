/**
 * A region that is cut off is loud until it is retired: status, exit code and metrics of a real cluster, over a change
 * of the leader. In the region itself, status says what it may still do.
 *
 * Leases are short: Δ is two seconds, the grace two more. test/broker/leader/absence.test.ts lets the minute pass after
 * which a leader forgets a lease.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import type { ClusterStatus } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { shortMs } from "../cluster/cluster-config.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

/** How often a regional broker asks the leader how the regions are (regional-broker.ts). */
const askedEveryMs = 2_000;

let regions: TwoRegions;
/** Lines of each state before the cut: a busy machine starts slowly. */
const linesBefore = { lost: 0, back: 0 };
before(
  async () => {
    regions = await startTwoRegions({ timing: "short", brokers: 2, westProxies: 1 });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const names = ["broker-west", "proxy-west-1"];
const absentIn = (status: ClusterStatus) => status.absent?.map(({ node }) => node).toSorted() ?? [];
const metricOf = (leader: ClusterProcess, name: string) =>
  leader.metric(`cardea_region_${measureName(name)}`, { region: "west" });
const linesIn = (of: ClusterProcess, text: string) =>
  of
    .log()
    .split("\n")
    .filter((line) => line.includes(text));
async function leader(): Promise<ClusterProcess> {
  const { leader: leading } = await regions.status();
  return regions.east.brokers.find(({ name }) => name === leading?.brokerId) ?? assert.fail("no leader");
}
const untilAbsent = () =>
  waitFor("the west to be absent", async () => absentIn(await regions.status()).join() === names.join(), {
    withinMs: 30_000,
  });

test("a healthy cluster exits with 0, and every node is ok", async () => {
  await waitFor("no problem", async () => (await regions.cardea("cluster", "status")).code === 0, { withinMs: 30_000 });
  const { out } = await regions.cardea("cluster", "status");
  assert.match(out, /^proxy-west-1 +west +proxy +ok /m);
});

test("a region that is cut off is absent in status, exit code and metrics, also under the next leader", {
  timeout: 300_000,
}, async (t) => {
  linesBefore.lost = linesIn(regions.west.broker, "the home region is out of reach").length;
  linesBefore.back = linesIn(regions.west.broker, "the home region answers again").length;
  await waitFor("the leader to know both regions", async () => (await regions.status()).regions?.length === 2);
  await sleep(askedEveryMs + 1_000);
  regions.wan.cut();
  const cutAt = performance.now();
  await waitFor(
    "the region to be cut off",
    async () => (await regions.status()).regions?.find(({ region }) => region === "west")?.cutOff === true,
    { withinMs: 30_000 },
  );
  t.diagnostic(`cut off ${((performance.now() - cutAt) / 1_000).toFixed(1)} s after the cut`);
  await untilAbsent();
  const status = await regions.cardea("cluster", "status");
  assert.equal(status.code, 1);
  assert.match(status.out, /^west .* CUT OFF$/m);
  assert.match(status.out, /^proxy-west-1 +west +proxy +absent /m);

  const first = await leader();
  await first.kill();
  await untilAbsent();
  const second = await leader();
  assert.notEqual(second.name, first.name);
  assert.equal(await metricOf(second, "cutOff"), 1);
  assert.equal(await metricOf(second, "absent"), 2);
  await first.launch();

  assert.ok((await metricOf(second, "silentMs")) > 0);
  const session = await regions.session("alice");
  const { receipt } = await regions.operator.revoke(session, { wait: "all", timeoutMs: 30_000 });
  assert.equal(receipt?.complete, true, "no receipt waits for a node whose window has passed");
  const west = receipt?.regions?.find(({ region }) => region === "west");
  assert.deepEqual([west?.absent, west?.cutOff], [2, true]);
  assert.ok((west?.heardAt ?? Number.POSITIVE_INFINITY) < Date.now() - shortMs.lease / 2, "not since the cut");
});

test("in the region itself, status says that the home region is out of reach, and how the regions were last known", async () => {
  const { broker } = regions.west;
  const via = regions.clientVia(broker);
  const { home, leader: leading } = await waitFor("its own lease to end", async () => {
    const status = await via.status();
    return status.home?.leasesUntil === null && status;
  });
  assert.equal(leading, null);
  assert.equal(home?.region, "west");
  assert.ok((home?.silentMs ?? 0) > 0);
  assert.ok(
    home?.lastKnown?.regions.some(({ region }) => region === "east"),
    JSON.stringify(home),
  );
  assert.equal(linesIn(broker, "the home region is out of reach").length, linesBefore.lost + 1);
});

test("the region is present again after healing, and its end is logged once on both sides", async () => {
  regions.wan.heal();
  await waitFor("no node to be absent", async () => absentIn(await regions.status()).length === 0, {
    withinMs: 60_000,
  });
  await waitFor("no problem", async () => (await regions.cardea("cluster", "status")).code === 0, { withinMs: 30_000 });
  assert.equal(linesIn(regions.west.broker, "the home region answers again").length, linesBefore.back + 1);
  const again = await waitFor("the leader to log the end", async () => {
    const lines = linesIn(await leader(), "a region answers again");
    return lines.length > 0 && lines;
  });
  assert.equal(again.length, 1);
});

test("a node that is stopped cleanly is not absent; one that is killed is, until it is retired by an operator", async () => {
  assert.equal((await regions.cardea("cluster", "finalize")).code, 0);
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  await proxy.end();
  await waitFor("the node to leave", async () => {
    const status = await regions.status();
    return status.nodes.every(({ node }) => node !== proxy.name) && absentIn(status).length === 0;
  });
  await proxy.launch();
  await waitFor("the node to be back", async () =>
    (await regions.status()).nodes.some(({ node }) => node === proxy.name),
  );
  const present = await regions.cardea("cluster", "retire", proxy.name);
  assert.notEqual(present.code, 0);
  assert.match(present.err, /still present: proxy-west-1/);
  await proxy.kill();
  await waitFor("the node to be absent", async () => absentIn(await regions.status()).join() === proxy.name, {
    withinMs: 30_000,
  });
  assert.equal((await regions.cardea("cluster", "status")).code, 1);
  const retired = await regions.cardea("cluster", "retire", proxy.name);
  assert.equal(retired.code, 0, retired.err);
  assert.deepEqual(absentIn(await regions.status()), []);
  assert.equal((await regions.cardea("cluster", "status")).code, 0);
});

test("a receipt for a named region waits for that region, and a region without nodes gets none", async () => {
  const session = await regions.session("bob");
  await regions.operator.revoke(session);
  const status = await regions.status();
  assert.ok(status.leader);
  const { epoch, position, hash } = status.leader.head;
  const link = `${epoch}.${position}.${hash}`;
  const west = await regions.cardea("receipt", link, "--wait", "--region", "west");
  assert.equal(west.code, 0, west.err);
  assert.match(west.out, /complete in region west/);
  assert.match(west.out, /broker-west +west +broker +applied +by \d\d:/);
  const mistyped = await regions.cardea("receipt", link, "--wait", "--region", "wset");
  assert.notEqual(mistyped.code, 0);
  assert.match(mistyped.err, /no node of region wset is known; the regions are: east, west/);
});

test("a region that is lost is retired by one command, and is listed again when it is back", {
  timeout: 300_000,
}, async () => {
  const [proxy] = regions.west.proxies;
  await proxy?.launch();
  const isBack = async () => {
    const { regions: all } = await regions.status();
    const west = all?.find(({ region }) => region === "west");
    return west?.brokers === 1 && west.nodes === 1 && west.absent === 0 && !west.cutOff;
  };
  await waitFor("the node to be back", isBack, { withinMs: 60_000 });
  const early = await regions.cardea("cluster", "retire", "--region", "west");
  assert.match(early.err, /still present: /);
  regions.wan.cut();
  await untilAbsent();
  assert.equal((await regions.cardea("cluster", "status")).code, 1);
  const { code, out, err } = await regions.cardea("cluster", "retire", "--region", "west");
  assert.equal(code, 0, err);
  assert.match(out, /^region west: nodes retired \(position \d+, epoch \d+\)$/m);
  const status = await regions.cardea("cluster", "status");
  assert.equal(status.code, 0, status.out);
  assert.doesNotMatch(status.out, /CUT OFF|absent/);
  regions.wan.heal();
  await waitFor("the region to be listed again", isBack, { withinMs: 60_000 });
});
