/**
 * Proxies with wrong clocks: clocks that all run fast, two clocks that drift apart, a suspended machine, and a frozen
 * machine whose clocks do not count the pause.
 *
 * libfaketime sets the clocks. Without it these tests are skipped. Leases are short.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { findFaketime } from "../../support/faketime.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";

const library = findFaketime();
const skip = library === undefined ? "needs libfaketime (apt-get install libfaketime)" : false;
const folder = new TemporaryFolder("clocks");
const [suspendedBy, frozenBy] = [join(folder.path, "suspended"), join(folder.path, "frozen")];
let cluster: Cluster;
let session: Session;

before(
  async () => {
    if (library === undefined) return;
    for (const path of [suspendedBy, frozenBy]) writeFileSync(path, "+0");
    const faked = (env: Readonly<Record<string, string>>) => ({
      LD_PRELOAD: library,
      FAKETIME_CACHE_DURATION: "1",
      ...env,
    });
    cluster = await startCluster({
      timing: "short",
      regions: ["north", "north", "south", "south", "south"],
      env: {
        "proxy-2": faked({ FAKETIME: "+0 x1.02" }),
        "proxy-3": faked({ FAKETIME: "+0 x1.01", FAKETIME_DONT_FAKE_MONOTONIC: "1" }),
        "proxy-4": faked({ FAKETIME_TIMESTAMP_FILE: suspendedBy, FAKETIME_DONT_FAKE_MONOTONIC: "1" }),
        "proxy-5": faked({ FAKETIME_TIMESTAMP_FILE: frozenBy }),
      },
    });
    session = await cluster.session("alice");
  },
  { timeout: 400_000 },
);
after(async () => {
  await cluster?.stop();
  folder.remove();
});

const routes = ["app", "strict"] as const;
const statuses = (proxy: ClusterProcess): Promise<number[]> =>
  Promise.all(routes.map(async (route) => (await cluster.getOnce(proxy, route, session)).status));
const serves = async (proxy: ClusterProcess): Promise<boolean> => {
  const answers = await Promise.all(routes.map((route) => cluster.getOnce(proxy, route, session)));
  return answers.every(({ permitted }) => permitted);
};

test("after a suspend that only the wall clock counted, the node permits nothing before a grant that it requested afterwards", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(4);
  await waitFor("the node to serve", () => serves(proxy));
  writeFileSync(suspendedBy, "+4");
  await waitFor("the node to notice the pause", () =>
    /did not run for a while; permitting nothing until a new grant/.test(proxy.log()),
  );
  // Its clock is 4 s off the leader's, so it gets no fresh lease until the clock is corrected.
  await waitFor("the route that denies without a lease to answer 503", async () => (await statuses(proxy))[1] === 503);
  await waitFor("the readiness page to name the clock difference", async () =>
    /clock is [34]\d{3} ms off/.test((await proxy.notReadyReasons()).join()),
  );
  await waitFor("the other nodes to serve", () => serves(cluster.proxy(1)));
  writeFileSync(suspendedBy, "+0");
  await waitFor("the node to serve again", () => serves(proxy), { withinMs: 20_000 });
});

test("after a freeze that none of its own clocks counted, the node notices it by the leader's clock and waits for a new grant", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(5);
  await waitFor("the node to serve", () => serves(proxy));
  const pauses = (): number =>
    proxy.log().match(/did not run for a while; permitting nothing until a new grant/g)?.length ?? 0;
  const before = pauses();
  // Three seconds pass; both clocks are set back by three seconds and do not count them.
  const [frozenMs, frozenS] = [3_000, 3];
  const frozenAt = performance.now();
  proxy.pause();
  await waitFor("three seconds to pass", () => performance.now() - frozenAt >= frozenMs);
  writeFileSync(frozenBy, `-${frozenS}`);
  proxy.resume();
  await waitFor("the node to notice the pause", () => pauses() > before, { withinMs: 20_000 });
  await waitFor("the readiness page to name the clock difference", async () =>
    /clock is \d{4} ms off/.test((await proxy.notReadyReasons()).join()),
  );
  writeFileSync(frozenBy, "+0");
  await waitFor("the node to serve again once its clock is right", () => serves(proxy), { withinMs: 20_000 });
});

test("a node whose monotonic clock runs 2% fast gets no lease and logs the reason, and receipts do not wait for it forever", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(2);
  await waitFor(
    "the leader to refuse the lease and give the reason",
    () => /monotonic clock runs at least [12]\.\d+ % faster than the leader's/.test(proxy.log()),
    { withinMs: 90_000, everyMs: 500 },
  );
  await waitFor(
    "the node to deny on both routes",
    async () => (await statuses(proxy)).every((status) => status === 503),
    {
      withinMs: 20_000,
    },
  );
  const { link } = await cluster.operator.revoke(await cluster.session("carol"));
  const receipt = await cluster.operator.receipt(link, { timeoutMs: 20_000 });
  assert.equal(receipt.complete, true);
  assert.ok(["applied", "fenced"].includes(receipt.nodes.find(({ node }) => node === proxy.name)?.status ?? ""));
  await waitFor("the other nodes to serve", () => serves(cluster.proxy(1)));
});

test("a node whose wall clock drifts 1% from its monotonic clock permits nothing, even with grants", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(3);
  await waitFor(
    "the readiness page to name the drift",
    async () => /run at different rates/.test((await proxy.notReadyReasons()).join()),
    {
      withinMs: 90_000,
      everyMs: 200,
    },
  );
  assert.deepEqual(await statuses(proxy), [503, 503]);
});
