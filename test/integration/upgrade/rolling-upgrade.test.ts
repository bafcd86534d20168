/**
 * A rolling upgrade of a real cluster under traffic: brokers first (the wrong order), nodes first, a step back halfway,
 * the finalization, and old builds after it.
 *
 * The next version is this build with a few changes (next-build.ts).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeEvents, genesis, type Link, type Recorded } from "../../../src/events/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { nextLevel, nextSchema, nextVersion, presentLevel } from "./next-build.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

const nextMain = join(import.meta.dirname, "next-main.ts");

let cluster: Cluster;
let traffic: Traffic;

before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "north"] });
    traffic = startTraffic(cluster, [await cluster.session("alice"), await cluster.session("bob")]);
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

async function restartAs(process: ClusterProcess, program: string): Promise<void> {
  process.program = program;
  await traffic.bypass(process, () => process.restart());
}

/** Reads all events up to the leader's head; the broker that replies may lag behind it. */
async function readAllEvents(): Promise<readonly Recorded[]> {
  const { leader } = await waitFor("a leader", async () => {
    const status = await cluster.status();
    return status.leader === null ? undefined : { leader: status.leader };
  });
  const events: Recorded[] = [];
  for (let at: Link = genesis; at.position < leader.head.position; ) {
    const outcome = await cluster.client("operator").read(at, { limit: 1_000, waitMs: 1_000 });
    assert.equal(outcome.type, "page");
    if (outcome.type !== "page" || outcome.page.entries.length === 0) continue;
    events.push(...decodeEvents(outcome.page.entries, outcome.page.previous));
    at = outcome.page.last;
  }
  return events;
}

/** Type and schema version of the newest event of a stream. */
async function newestFormat(stream: string): Promise<readonly [type: string, version: number]> {
  const event = (await readAllEvents()).findLast((one) => one.stream === stream);
  return [event?.type ?? "", event?.schemaVersion ?? 0];
}

async function assertRefusedEverywhere(session: Session): Promise<void> {
  for (const proxy of cluster.proxies) {
    const { status, permitted } = await cluster.get(proxy, "app", session);
    assert.deepEqual([permitted, status === 200], [false, false], `${proxy.name} permits ${session.user}`);
  }
}

async function revokeAndCheck(session: Session): Promise<void> {
  const change = await cluster.operator.revoke(session, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, JSON.stringify(change.receipt));
  await assertRefusedEverywhere(session);
}

async function waitForOneDigest(): Promise<void> {
  await waitFor("every node to fold to the leader's digest", async () => {
    const { leader, nodes } = await cluster.status();
    if (leader === null) return false;
    assert.deepEqual(
      nodes.filter(({ digestMismatch }) => digestMismatch),
      [],
    );
    return (
      nodes.length === 3 && nodes.every(({ lag, lastGrantAgoMs }) => lag === 0 && (lastGrantAgoMs ?? 9_000) < 3_000)
    );
  });
}

/** Waits: the status shows the old build of a restarted broker until the leader hears from the new one. */
function waitForFollowerBuild(build: "old" | "new"): Promise<Awaited<ReturnType<Cluster["status"]>>> {
  return waitFor(`the leader to hear from the other broker's ${build} build`, async () => {
    const status = await cluster.status();
    const [other, ...more] = status.brokers;
    if (other === undefined || more.length > 0) return undefined;
    return (other.version === nextVersion) === (build === "new") ? status : undefined;
  });
}

/** The version that the store records for its schema. */
async function schemaVersion(): Promise<number> {
  const text = "select max(version) as version from cardea.schema_version";
  const { rows } = await withClient(cluster.setup.postgres, (client) => client.query(text));
  return Number(rows[0]?.["version"]);
}

const finalize = () => cluster.cardea("cluster", "finalize", "--level", String(nextLevel));

test("brokers upgraded before the nodes write what the nodes can read, and the upgrade cannot be finalized", async () => {
  const schemaBefore = await schemaVersion();
  for (const broker of [await cluster.follower(), await cluster.leader()]) await restartAs(broker, nextMain);
  const refused = await waitFor("the leader to hear from every broker", async () => {
    const answer = await finalize();
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  assert.equal(refused.code, 3);
  for (const name of ["proxy-1", "proxy-2", "authenticate"])
    assert.match(refused.err, new RegExp(`${name} \\(version [^)]+\\) reads level ${presentLevel}`));
  assert.doesNotMatch(refused.err, /broker-/);

  const session = await cluster.session("carol");
  await revokeAndCheck(session);
  assert.deepEqual(await newestFormat(`session:${session.id}`), ["SessionRevoked", 1]);
  await waitForOneDigest();
  assert.deepEqual(
    [schemaBefore, await schemaVersion()],
    [nextSchema - 1, nextSchema],
    "the new build migrated the schema",
  );
  for (const broker of cluster.brokers) await restartAs(broker, mainFile);
  await revokeAndCheck(await cluster.session("dora"));
  await waitForOneDigest();
});

test("every mix of versions permits and revokes, while nodes are upgraded first and some go back", async () => {
  const [one, two] = [cluster.proxy(1), cluster.proxy(2)];
  for (const node of [one, cluster.authenticate]) await restartAs(node, nextMain);
  await revokeAndCheck(await cluster.session("carol"));
  await waitForOneDigest();
  await restartAs(one, mainFile);
  await revokeAndCheck(await cluster.session("dave"));
  await restartAs(one, nextMain);
  await restartAs(two, nextMain);
  await restartAs(await cluster.follower(), nextMain);
  await revokeAndCheck(await cluster.session("erin"));

  const leader = await cluster.leader();
  const refused = await finalize();
  assert.equal(refused.code, 3);
  assert.match(refused.err, new RegExp(`the leading broker reads level ${presentLevel}`));
  await restartAs(leader, nextMain);

  const follower = await cluster.follower();
  await restartAs(follower, mainFile);
  await waitForFollowerBuild("old");
  const refusal = await waitFor("the leader to hear from every broker", async () => {
    const answer = await finalize();
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  // It may lead by then, if the machine paused the other broker.
  assert.match(
    refusal.err,
    new RegExp(`(broker ${follower.name} \\(version [^)]+\\)|the leading broker) reads level ${presentLevel}`),
  );
  await restartAs(follower, nextMain);
  await waitForOneDigest();
});

test("the new version writes the old formats before the finalization and its own formats afterwards, and every node obeys both", async () => {
  const [before, victim, cut] = [
    await cluster.session("frank"),
    await cluster.session("grace"),
    await cluster.session("heidi"),
  ];
  assert.equal((await cluster.cardea("users", "suspend", "frank", "--wait")).code, 0);
  assert.deepEqual(await newestFormat(`user:${before.userId}`), ["UserSuspended", 2]);
  await assertRefusedEverywhere(before);

  const status = await waitForFollowerBuild("new");
  assert.deepEqual(
    [status.level, status.leader?.reads, status.leader?.version],
    [nextLevel - 1, nextLevel, nextVersion],
  );
  assert.deepEqual(
    status.brokers.map(({ reads }) => reads),
    [nextLevel],
  );
  const finalized = await waitFor("the upgrade to be finalized", async () => {
    const answer = await cluster.cardea("cluster", "finalize", "--wait");
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  assert.equal(finalized.code, 0, finalized.err);
  assert.match(finalized.out, new RegExp(`level ${nextLevel} is finalized`));
  assert.equal((await cluster.cardea("cluster", "finalize")).code, 0, "a second finalization changes nothing");

  assert.equal((await cluster.cardea("users", "suspend", "grace", "--wait")).code, 0);
  assert.deepEqual(await newestFormat(`user:${victim.userId}`), ["UserSuspended", 3]);
  await assertRefusedEverywhere(victim);
  assert.equal((await cluster.cardea("users", "restore", "grace", "--wait")).code, 0);
  assert.deepEqual(await newestFormat(`user:${victim.userId}`), ["UserReadmitted", 1]);
  await revokeAndCheck(cut);
  assert.deepEqual(await newestFormat(`session:${cut.id}`), ["SessionCut", 1]);
  await waitForOneDigest();
  assert.equal((await cluster.status()).level, nextLevel);
});

test("after the finalization an old node or broker exits with the reason, and the new build starts in its place", async () => {
  const broker = await cluster.follower();
  for (const process of [cluster.proxy(2), cluster.authenticate, broker]) {
    await traffic.bypass(process, async () => {
      await process.end();
      const before = process.log().length;
      process.program = mainFile;
      await process.launch();
      const exit = await process.exited();
      assert.equal(exit?.code, 3, process.name);
      const output = process.log().slice(before);
      assert.match(output, /this build \([^)]+\) cannot serve this cluster: .*finalized.* level/);
      process.program = nextMain;
      await process.start();
    });
  }
  await revokeAndCheck(await cluster.session("ivan"));
  await waitForOneDigest();
});

test("every request of a valid session was permitted during the whole upgrade", async (t) => {
  const { permitted, refused, retries } = await traffic.stop();
  t.diagnostic(`${permitted} requests permitted, ${retries} attempts at a second proxy`);
  assert.deepEqual(refused, []);
  assert.ok(permitted > 100);
});
