/** Drills that stop one process by a command, on a real cluster, and the guard rails that stop them. */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { hammer } from "../cluster/client.ts";
import { type DrillCluster, type DrillResult, startDrillCluster, startHooks } from "./drill-support.ts";

let drills: DrillCluster;
before(
  async () => {
    drills = await startDrillCluster({ timing: "short", nats: 3, regions: ["north", "north", "south"] });
    await drills.signIn();
  },
  { timeout: 400_000 },
);
after(() => drills?.stop());

const quick = ["--quiet", "1s", "--for", "3s"];

function assertSafe(result: DrillResult): void {
  for (const name of ["nothing-after-receipt", "nothing-lost", "restored"] as const)
    assert.equal(result.verdict(name).result, "held", `${name}: ${result.verdict(name).text}\n${result.err}`);
  assert.equal(result.record().stopped, null, result.err);
  const isBroken = result.record().verdicts.some((verdict) => verdict.result === "broken");
  assert.equal(result.code, isBroken ? 1 : 0);
}

/** The balancer of a real installation leaves out a proxy that is away. */
function withoutProxy2(t: TestContext): void {
  const ports = drills.cluster.proxies.map(({ ports: { address } }) => address);
  drills.cluster.front.setTargets(ports.filter((_, index) => index !== 1));
  t.after(() => drills.cluster.front.setTargets(ports));
}

test("proxy-restart: rights that changed while the proxy was away are in force when it is back", async (t) => {
  withoutProxy2(t);
  const proxy = drills.cluster.proxy(2);
  const hook = await startHooks(t, { restart: () => proxy.restart() });
  const result = await drills.run(
    "proxy-restart",
    "--target",
    "proxy-2",
    "--do",
    hook("restart"),
    "--no-undo",
    ...quick,
  );
  assertSafe(result);
  const [fault] = result.record().faults;
  assert.equal(fault?.target, "proxy-2");
  assert.equal(fault?.region, "north");
  assert.notEqual(result.verdict("target-returns").result, "not-measured");
});

test("proxy-pause: the receipt is complete without the frozen proxy, which permits nothing when it wakes", async (t) => {
  withoutProxy2(t);
  const proxy = drills.cluster.proxy(2);
  t.after(() => proxy.resume());
  const hook = await startHooks(t, { pause: () => proxy.pause(), resume: () => proxy.resume() });
  const result = await drills.run(
    "proxy-pause",
    "--target",
    "proxy-2",
    "--do",
    hook("pause"),
    "--undo",
    hook("resume"),
    ...quick,
  );
  assertSafe(result);
  const nodes = result.record().receipts[0]?.nodes ?? [];
  assert.equal(nodes.find(({ node }) => node === "proxy-2")?.status, "fenced");
  assert.equal(nodes.find(({ node }) => node === "proxy-1")?.status, "applied");
});

test("standby-restart, leader-restart and nats-restart lose no acknowledged change", async (t) => {
  const { cluster } = drills;
  const hook = await startHooks(t, {
    standby: async () => (await cluster.follower()).restart(),
    leader: async () => (await cluster.leader()).restart(),
    nats: () => cluster.nats.node(1).restart(),
  });
  const standby = (await cluster.follower()).name;
  const after = ["--no-undo", ...quick];
  assertSafe(await drills.run("standby-restart", "--target", standby, "--do", hook("standby"), ...after));
  const leader = (await cluster.leader()).name;
  const result = await drills.run("leader-restart", "--do", hook("leader"), ...after);
  assertSafe(result);
  assert.equal(result.record().faults[0]?.target, leader);
  assert.notEqual((await cluster.leader()).name, leader);
  assertSafe(await drills.run("nats-restart", "--target", "nats-2", "--do", hook("nats"), ...after));
});

test("a drill does not begin where it would take the last of a kind, or the wrong one", async (t) => {
  let done = 0;
  const hook = await startHooks(t, { do: () => void done++ });
  const refused = async (...args: readonly string[]): Promise<string> => {
    const result = await drills.run(...args, "--do", hook("do"), "--no-undo", ...quick);
    assert.equal(result.code, 3, result.err);
    return result.err;
  };
  assert.match(await refused("proxy-restart", "--target", "proxy-3"), /the only proxy of region south/);
  assert.match(await refused("proxy-restart", "--target", "proxy-9"), /not a proxy of this cluster/);
  const [leader, standby] = [(await drills.cluster.leader()).name, (await drills.cluster.follower()).name];
  assert.match(await refused("standby-restart", "--target", leader), /not a broker that follows/);
  assert.match(await refused("leader-restart", "--target", standby), /does not lead/);
  assert.equal(done, 0);
});

test("a command that harms people is undone as soon as they see errors", async (t) => {
  const { cluster } = drills;
  const person = await cluster.session("alice");
  const people = hammer([
    {
      name: "alice",
      target: { port: cluster.proxy(1).ports.address, host: cluster.host("strict"), cookie: person.cookie },
    },
  ]);
  t.after(() => people.stop());
  await waitFor("a person to be served", () => people.shots.some(({ permitted }) => permitted));
  // Without a broker, a route with `on_stale: deny` answers 503 once the lease has expired.
  const resume = (): void => {
    for (const broker of cluster.brokers) broker.resume();
  };
  t.after(resume);
  const hook = await startHooks(t, {
    harm: () => {
      for (const broker of cluster.brokers) broker.pause();
    },
    resume,
  });
  const standby = (await cluster.follower()).name;
  const result = await drills.run(
    ...["standby-restart", "--target", standby, "--do", hook("harm"), "--undo", hook("resume")],
    ...["--quiet", "1s", "--for", "60s"],
  );
  assert.equal(result.code, 1, result.err);
  assert.match(result.record().stopped ?? "", /people saw \d+ errors/);
  assert.equal(result.verdict("restored").result, "held", result.verdict("restored").text);
  assert.equal(result.verdict("people-unharmed").result, "broken");
  await waitFor(
    "people to be served again",
    async () => (await cluster.getOnce(cluster.proxy(1), "strict", person)).permitted,
    { withinMs: 60_000 },
  );
  await Promise.all(cluster.proxies.map((proxy) => proxy.ready()));
});

test("an interrupt while a proxy is frozen wakes it, and gives the canary its right back", async (t) => {
  withoutProxy2(t);
  const proxy = drills.cluster.proxy(2);
  t.after(() => proxy.resume());
  let isPaused = false;
  const hook = await startHooks(t, {
    pause: () => {
      proxy.pause();
      isPaused = true;
    },
    resume: () => {
      proxy.resume();
      isPaused = false;
    },
  });
  const drill = drills.start(
    "proxy-pause",
    "--target",
    "proxy-2",
    "--do",
    hook("pause"),
    "--undo",
    hook("resume"),
    "--quiet",
    "1s",
    "--for",
    "1s",
  );
  await waitFor(
    "the canary to lose its right while the proxy is frozen",
    async () => isPaused && !(await drills.canary()).groups.includes("eng"),
    { withinMs: 90_000, everyMs: 5 },
  );
  drill.kill("SIGTERM");
  const result = await drill.result;
  assert.equal(result.code, 1, result.err);
  assert.equal(result.record().stopped, "interrupted by SIGTERM");
  assert.equal(isPaused, false);
  assert.equal(result.verdict("restored").result, "held", result.verdict("restored").text);
  assert.ok((await drills.canary()).groups.includes("eng"));
  await proxy.ready();
});

// The last one, since proxy-2 stays dead.
test("a proxy that died keeps drills from beginning, by name and with the remedy; a retired one must leave the drill file", async (t) => {
  withoutProxy2(t);
  const { cluster } = drills;
  const proxy = cluster.proxy(2);
  await waitFor("the level that retires nodes", async () => (await cluster.cardea("cluster", "finalize")).code === 0);
  await proxy.kill();
  await waitFor(
    "the dead proxy to be absent",
    async () => (await cluster.status()).absent?.some(({ node }) => node === proxy.name) === true,
    { withinMs: 60_000 },
  );
  const dryRun = (): Promise<DrillResult> => drills.run("group-removal", "--dry-run");
  const refused = await dryRun();
  assert.equal(refused.code, 3, refused.out);
  assert.match(
    refused.err,
    /the drill does not begin: absent: proxy-2; start what is missing, or, if it will not come back: cardea cluster retire proxy-2/,
  );
  assert.equal((await cluster.cardea("cluster", "retire", proxy.name)).code, 0);
  const err = await waitFor("the retired proxy to be off the list", async () => {
    const { err } = await dryRun();
    return err.includes("without a lease") ? undefined : err;
  });
  assert.match(err, /the drill does not begin: proxy-2 does not answer at 127\.0\.0\.1:/);
});
