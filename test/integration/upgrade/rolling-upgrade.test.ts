/**
 * An upgrade of a real cluster, process by process, while people go on using it: readers first, back half-way, on
 * again, the wrong order, finalized, and no way back after that. The next version is this one with a few sentences
 * changed (next-build.ts).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeEvents, genesis, type Link, type Recorded } from "../../../src/events/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import { type ClusterProcess, mainFile } from "../cluster/cluster-process.ts";
import { nextLevel, nextSchema, nextVersion } from "./next-build.ts";
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

async function become(process: ClusterProcess, program: string): Promise<void> {
  process.program = program;
  await traffic.bypass(process, () => process.restart());
}

/** All events, up to the head that the leader has now: the broker that is asked may be one that follows. */
async function everyEvent(): Promise<readonly Recorded[]> {
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

/** The newest event about a session or a person, as it was written. */
async function written(stream: string): Promise<readonly [type: string, version: number]> {
  const event = (await everyEvent()).findLast((one) => one.stream === stream);
  return [event?.type ?? "", event?.schemaVersion ?? 0];
}

async function allRefuse(session: Session): Promise<void> {
  for (const proxy of cluster.proxies) {
    const { status, permitted } = await cluster.get(proxy, "app", session);
    assert.deepEqual([permitted, status === 200], [false, false], `${proxy.name} permits ${session.user}`);
  }
}

async function revoked(session: Session): Promise<void> {
  const change = await cluster.operator.revoke(session, { wait: "all", timeoutMs: 20_000 });
  assert.equal(change.receipt?.complete, true, JSON.stringify(change.receipt));
  await allRefuse(session);
}

async function digestsAgree(): Promise<void> {
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

/** A broker that has started again is told of as what it was before, until the leader has heard from it. */
function otherBrokerIs(build: "old" | "new"): Promise<Awaited<ReturnType<Cluster["status"]>>> {
  return waitFor(`the leader to hear from the other broker's ${build} build`, async () => {
    const status = await cluster.status();
    const [other, ...more] = status.brokers;
    if (other === undefined || more.length > 0) return undefined;
    return (other.version === nextVersion) === (build === "new") ? status : undefined;
  });
}

/** Of the store, as it says. */
async function schemaVersion(): Promise<number> {
  const text = "select max(version) as version from cardea.schema_version";
  const { rows } = await withClient(cluster.setup.postgres, (client) => client.query(text));
  return Number(rows[0]?.["version"]);
}

const finalize = () => cluster.cardea("cluster", "finalize", "--level", String(nextLevel));

test("the wrong order: brokers first go on writing what nodes can read, and the upgrade cannot be finalized", async () => {
  const schemaBefore = await schemaVersion();
  for (const broker of [await cluster.follower(), await cluster.leader()]) await become(broker, nextMain);
  const refused = await waitFor("every broker to be heard from", async () => {
    const answer = await finalize();
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  assert.equal(refused.code, 3);
  for (const name of ["proxy-1", "proxy-2", "authenticate"])
    assert.match(refused.err, new RegExp(`${name} \\(version [^)]+\\) reads level 2`));
  assert.doesNotMatch(refused.err, /broker-/);

  const session = await cluster.session("carol");
  await revoked(session);
  assert.deepEqual(await written(`session:${session.id}`), ["SessionRevoked", 1]);
  await digestsAgree();
  assert.deepEqual([schemaBefore, await schemaVersion()], [nextSchema - 1, nextSchema], "the new build brought a step");
  for (const broker of cluster.brokers) await become(broker, mainFile);
  await revoked(await cluster.session("dora"));
  await digestsAgree();
});

test("readers first, and back half-way: every mix of versions permits and revokes", async () => {
  const [one, two] = [cluster.proxy(1), cluster.proxy(2)];
  for (const node of [one, cluster.authenticate]) await become(node, nextMain);
  await revoked(await cluster.session("carol"));
  await digestsAgree();
  await become(one, mainFile);
  await revoked(await cluster.session("dave"));
  await become(one, nextMain);
  await become(two, nextMain);
  await become(await cluster.follower(), nextMain);
  await revoked(await cluster.session("erin"));

  const leader = await cluster.leader();
  const refused = await finalize();
  assert.equal(refused.code, 3);
  assert.match(refused.err, /the leading broker reads level 2/);
  await become(leader, nextMain);

  const back = await cluster.follower();
  await become(back, mainFile);
  await otherBrokerIs("old");
  const named = await waitFor("every broker to be heard from", async () => {
    const answer = await finalize();
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  // It may have come to lead by then, where the machine stopped the other one.
  assert.match(named.err, new RegExp(`(broker ${back.name} \\(version [^)]+\\)|the leading broker) reads level 2`));
  await become(back, nextMain);
  await digestsAgree();
});

test("before it is finalized, the new version writes as the old one did; after it, in its own formats, which every node obeys", async () => {
  const [before, victim, cut] = [
    await cluster.session("frank"),
    await cluster.session("grace"),
    await cluster.session("heidi"),
  ];
  assert.equal((await cluster.cardea("users", "suspend", "frank", "--wait")).code, 0);
  assert.deepEqual(await written(`user:${before.userId}`), ["UserSuspended", 1]);
  await allRefuse(before);

  const status = await otherBrokerIs("new");
  assert.deepEqual([status.level, status.leader?.reads, status.leader?.version], [1, nextLevel, nextVersion]);
  assert.deepEqual(
    status.brokers.map(({ reads }) => reads),
    [nextLevel],
  );
  const finalized = await waitFor("the upgrade to be finalized", async () => {
    const answer = await cluster.cardea("cluster", "finalize", "--wait");
    return answer.err.includes("has led for only") ? undefined : answer;
  });
  assert.equal(finalized.code, 0, finalized.err);
  assert.match(finalized.out, /level 3 is finalized/);
  assert.equal((await cluster.cardea("cluster", "finalize")).code, 0, "once more changes nothing");

  assert.equal((await cluster.cardea("users", "suspend", "grace", "--wait")).code, 0);
  assert.deepEqual(await written(`user:${victim.userId}`), ["UserSuspended", 2]);
  await allRefuse(victim);
  assert.equal((await cluster.cardea("users", "restore", "grace", "--wait")).code, 0);
  assert.deepEqual(await written(`user:${victim.userId}`), ["UserReadmitted", 1]);
  await revoked(cut);
  assert.deepEqual(await written(`session:${cut.id}`), ["SessionCut", 1]);
  await digestsAgree();
  assert.equal((await cluster.status()).level, nextLevel);
});

test("after it, an old build does not start: node and broker say why, and the new one starts again in their place", async () => {
  const broker = await cluster.follower();
  for (const process of [cluster.proxy(2), cluster.authenticate, broker]) {
    await traffic.bypass(process, async () => {
      await process.end();
      const before = process.log().length;
      process.program = mainFile;
      await process.launch();
      const exit = await process.exited();
      assert.equal(exit?.code, 3, process.name);
      const said = process.log().slice(before);
      assert.match(said, /this build \([^)]+\) cannot serve this cluster: .*finalized.* level/);
      process.program = nextMain;
      await process.start();
    });
  }
  await revoked(await cluster.session("ivan"));
  await digestsAgree();
});

test("all the while everybody who had the right was permitted", async (t) => {
  const { permitted, refused, askedAgain } = await traffic.stop();
  t.diagnostic(`${permitted} requests permitted, a second proxy was asked ${askedAgain} times`);
  assert.deepEqual(refused, []);
  assert.ok(permitted > 100);
});
