/**
 * Clocks that cannot be relied upon, on real proxies: one whose clocks all run fast, one whose two clocks come apart, a
 * machine that was suspended, and one that was frozen with everything it could tell the time by. libfaketime makes the
 * clocks; without it, and without a grown-up lease, nothing here is about how fast anything is.
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

test("a suspended machine: its wall clock has gone on, its monotonic one has not; it permits nothing before a grant asked for since", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(4);
  await waitFor("it to serve", () => serves(proxy));
  writeFileSync(suspendedBy, "+4");
  await waitFor("it to notice", () => /did not run: permitting nothing until a new grant/.test(proxy.log()));
  // Four seconds off the leader's clock it is not fresh either, until it is set right.
  await waitFor("the route that denies without a lease", async () => (await statuses(proxy))[1] === 503);
  await waitFor("the clock to be told off", async () =>
    /clock is [34]\d{3} ms off/.test((await proxy.notReadyReasons()).join()),
  );
  await waitFor("the others to go on", () => serves(cluster.proxy(1)));
  writeFileSync(suspendedBy, "+0");
  await waitFor("it to serve again", () => serves(proxy), { withinMs: 20_000 });
});

test("a frozen machine: nothing of its own tells, and the leader's clock does; it waits for a grant asked for since", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(5);
  await waitFor("it to serve", () => serves(proxy));
  const pauses = (): number => proxy.log().match(/did not run: permitting nothing until a new grant/g)?.length ?? 0;
  const before = pauses();
  // Three seconds pass, and its clocks, set back by as much, do not count them.
  const [frozenMs, frozenS] = [3_000, 3];
  const frozenAt = performance.now();
  proxy.pause();
  await waitFor("them to pass", () => performance.now() - frozenAt >= frozenMs);
  writeFileSync(frozenBy, `-${frozenS}`);
  proxy.resume();
  await waitFor("it to notice", () => pauses() > before, { withinMs: 20_000 });
  await waitFor("it to say that its clock is off", async () =>
    /clock is \d{4} ms off/.test((await proxy.notReadyReasons()).join()),
  );
  writeFileSync(frozenBy, "+0");
  await waitFor("it to serve again once its clock is right", () => serves(proxy), { withinMs: 20_000 });
});

test("a monotonic clock that runs two per cent fast: the leader refuses it leases, says why, and receipts do not wait for it for ever", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(2);
  await waitFor(
    "the leader to refuse it, and to say why",
    () => /monotonic clock runs at least [12]\.\d+ % faster than the leader's/.test(proxy.log()),
    { withinMs: 90_000, everyMs: 500 },
  );
  await waitFor("it to deny on both routes", async () => (await statuses(proxy)).every((status) => status === 503), {
    withinMs: 20_000,
  });
  const { link } = await cluster.operator.revoke(await cluster.session("carol"));
  const receipt = await cluster.operator.receipt(link, { timeoutMs: 20_000 });
  assert.equal(receipt.complete, true);
  assert.ok(["applied", "fenced"].includes(receipt.nodes.find(({ node }) => node === proxy.name)?.status ?? ""));
  await waitFor("the others to go on", () => serves(cluster.proxy(1)));
});

test("a wall clock that runs one per cent away from the monotonic one: the node itself permits nothing, whatever it is granted", {
  skip,
  timeout: 240_000,
}, async () => {
  const proxy = cluster.proxy(3);
  await waitFor("it to say so", async () => /run at different rates/.test((await proxy.notReadyReasons()).join()), {
    withinMs: 90_000,
    everyMs: 200,
  });
  assert.deepEqual(await statuses(proxy), [503, 503]);
});
