/**
 * Fifty followers on real brokers, Postgres and NATS while brokers and NATS restart at once.
 *
 * All followers are fresh again soon, none is refused, and their calls arrive nearly as evenly as before.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";
import { type CallCounter, startCallCounter } from "./call-counter.ts";
import type { FollowersLine, FollowersSpec } from "./followers-process.ts";

const followers = 50;
const perProcess = 10;
const renewMs = 4_000;
const processes: Child[] = [];
const counters: CallCounter[] = [];
const folder = new TemporaryFolder("followers");
let cluster: Cluster;
/** The highest number of open calls since its last reset to 0. */
let mostOpen = 0;

const openNow = (): number =>
  counters.reduce((sum, { open }) => sum + [...open.values()].reduce((all, each) => all + each, 0), 0);

before(
  async () => {
    // Renews every 4 s: fifty renews a second would overload a small machine.
    cluster = await startCluster({ timing: "default", regions: [], broker: { lease: "20s", renew: `${renewMs}ms` } });
    for (const { brokerUrl } of cluster.brokers)
      counters.push(
        await startCallCounter(brokerUrl, () => {
          mostOpen = Math.max(mostOpen, openNow());
        }),
      );
    for (let n = 0; n < followers / perProcess; n++) {
      const spec: FollowersSpec = {
        names: Array.from({ length: perProcess }, (_, i) => `follower-${n * perProcess + i}`),
        cluster: cluster.setup.clusterName,
        secret: Buffer.from(cluster.config.sharedSecret).toString("base64"),
        brokers: counters.map(({ url }) => url),
        nats: cluster.nats.urls,
        renewMs,
      };
      const main = join(import.meta.dirname, "followers-process.ts");
      processes.push(
        await Child.start({
          command: process.execPath,
          args: ["--no-warnings", main, JSON.stringify(spec)],
          logFile: join(folder.path, `followers-${n}.log`),
        }),
      );
    }
  },
  { timeout: 400_000 },
);
after(async () => {
  await Promise.all(processes.map((child) => child.kill()));
  await Promise.all(counters.map((counter) => counter.close()));
  await cluster?.stop();
  folder.remove();
});

/** The newest line of each follower. */
function latestLines(): FollowersLine {
  return processes.flatMap((child) => {
    const lines = child.log().slice(-20_000).split("\n");
    const line = lines.slice(0, -1).findLast((each) => each.startsWith("["));
    return line === undefined ? [] : (JSON.parse(line) as FollowersLine);
  });
}

const allAt = (position: number) => async (): Promise<boolean> => {
  const lines = latestLines();
  return lines.length === followers && lines.every((each) => each.ready && each.position >= position);
};

/** Prints the calls in the busiest tenth of a second, and the mean. */
function reportCalls(
  t: TestContext,
  what: string,
  kind: string,
  { since, until }: Readonly<{ since: number; until: number }>,
) {
  const counts = new Array<number>(Math.max(1, Math.ceil((until - since) / 100))).fill(0);
  for (const { calls } of counters)
    for (const call of calls) {
      const tenth = Math.floor((call.at - since) / 100);
      if (call.kind === kind && tenth >= 0 && tenth < counts.length) counts[tenth] = (counts[tenth] ?? 0) + 1;
    }
  const all = counts.reduce((sum, each) => sum + each, 0);
  const peak = Math.max(...counts);
  t.diagnostic(
    `${what}: ${all} calls, at most ${peak} in a tenth of a second, ${(all / counts.length).toFixed(1)} if even`,
  );
}

test("after a restart of all brokers and NATS, fifty followers become fresh without a refusal and without a rush of calls", {
  timeout: 590_000,
}, async (t) => {
  const first = await cluster.session("alice");
  await waitFor("all followers to be fresh", allAt(first.link.position), { withinMs: 120_000 });
  const calmAt = performance.now();
  mostOpen = 0;
  await waitFor("ten quiet seconds", () => performance.now() - calmAt > 10_000);
  const quiet = { since: calmAt, until: performance.now() };
  reportCalls(t, "renewals, quiet", "leases", quiet);
  t.diagnostic(`quiet: at most ${mostOpen} calls open at once`);

  mostOpen = 0;
  const goneAt = performance.now();
  await Promise.all([...cluster.brokers.map((broker) => broker.kill()), cluster.nats.kill()]);
  await waitFor("three seconds without brokers and NATS", () => performance.now() - goneAt > 3_000);
  const backAt = performance.now();
  await Promise.all([...cluster.brokers.map((broker) => broker.start()), cluster.nats.start()]);
  const startedAt = performance.now();
  const { link } = await waitFor("a change", () => cluster.session("bob").catch(() => undefined), { withinMs: 60_000 });
  await waitFor("all followers to be fresh again", allAt(link.position), { withinMs: 120_000 });
  const freshAt = performance.now();
  t.diagnostic(
    `brokers and NATS ${Math.round(startedAt - goneAt)} ms away; all ${followers} fresh and at the head ${Math.round(freshAt - startedAt)} ms after`,
  );
  await waitFor("five more seconds of calls", () => performance.now() - freshAt > 5_000);
  const after = { since: backAt, until: performance.now() };
  const statuses = counters.flatMap(({ statuses }) => [...statuses]);
  t.diagnostic(`responses by status: ${statuses.map(([status, count]) => `${status}: ${count}`).join(", ")}`);
  const refused = counters.flatMap(({ refusals }) => [...refusals].map(([what, count]) => `${count} × ${what}`));
  t.diagnostic(`refused: ${refused.join("; ") || "none"}`);
  reportCalls(t, "renewals, back", "leases", after);
  reportCalls(t, "reads, back", "events", after);
  t.diagnostic(`at most ${mostOpen} calls open at once, of ${followers} followers with a read and renewals`);
  assert.ok(mostOpen <= followers * 6, "more than a read and five renewals open per follower");
  // Failed calls back off, to both brokers, so the number of calls is bounded however long the restart took.
  const seconds = (after.until - after.since) / 1_000;
  for (const kind of ["leases", "events"]) {
    const recentCalls = counters.flatMap(({ calls }) =>
      calls.filter((call) => call.kind === kind && call.at >= after.since),
    );
    const most = followers * (10 + 4 * seconds);
    assert.ok(recentCalls.length <= most, `${recentCalls.length} calls of ${kind} in ${seconds.toFixed(1)} s`);
  }
  await waitFor("all to be in one epoch", () => latestLines().every(({ epoch }) => epoch >= link.epoch));
  // A renew may have reached the leader through a broker that then died; its second copy is refused as repeated.
  const others = refused.filter((each) => !/"repeated"/.test(each));
  assert.deepEqual(others, [], "a follower was refused for another reason than a repeated renew");
});

test("fifty followers catch up with the next leader after the leader alone is killed", {
  timeout: 240_000,
}, async (t) => {
  const stale = new Set<string>();
  const from = performance.now();
  mostOpen = 0;
  let running = true;
  const watching = (async () => {
    while (running) {
      for (const { name, ready, reasons } of latestLines()) if (!ready) stale.add(`${name}: ${reasons.join("; ")}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  const leader = await cluster.leader();
  try {
    await leader.kill();
    const { link } = await cluster.session("carol");
    t.diagnostic(
      `the next change was acknowledged ${Math.round(performance.now() - from)} ms after the kill of the leader`,
    );
    await waitFor("all followers to apply it", allAt(link.position), { withinMs: 60_000 });
  } finally {
    running = false;
    await watching;
  }
  reportCalls(t, "renewals", "leases", { since: from, until: performance.now() });
  t.diagnostic(
    `at most ${mostOpen} calls open at once; without a fresh lease meanwhile: ${[...stale].join(", ") || "none"}`,
  );
  await leader.start();
});
