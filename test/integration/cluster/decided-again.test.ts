/**
 * Decisions made again, with real processes: by an operator after retention has dropped the events, and by another node
 * while they are made.
 *
 * The brokers drop events after a second, and what is left of the past is their archive.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { AccessFailure, ExplainAnswer, WhoReport } from "../../../src/console/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Appender, startAppender } from "./appender.ts";
import { hammer } from "./client.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";
import { basePosition, shrinkPartitions } from "./small-partitions.ts";

let cluster: Cluster;
let appender: Appender;

before(
  async () => {
    cluster = await startCluster({
      ...{ timing: "short", regions: ["north", "south"] },
      broker: { snapshot_every: 100, snapshot_refresh: "1s", retention: "5s" },
      settings: { audit: { recheck_one_in: 1, recheck_per_second: 500 } },
      prepare: shrinkPartitions,
    });
    appender = startAppender(cluster);
  },
  { timeout: 400_000 },
);
after(async () => {
  await appender?.stop();
  await cluster?.stop();
});

type Line = Readonly<{
  kind: string;
  boot: string;
  seq: number;
  requestId: string;
  path: string;
  result: string;
  at: number;
  applied: { position: number };
}>;

let requests = 0;
/** Requests a page under a path of its own, and returns the record of the decision. */
async function decided(proxy: ClusterProcess, route: string, session: Session | null): Promise<Line> {
  requests += 1;
  const path = `/request-${requests}`;
  await cluster.get(proxy, route, session, path);
  return waitFor(`the record of ${path}`, () =>
    readFileSync(join(proxy.dataDir, "audit/decisions.jsonl"), "utf8")
      .split("\n")
      .filter((line) => line.includes(`"${path}"`))
      .map((line) => JSON.parse(line) as Line)
      .findLast(({ result }) => result !== "unavailable"),
  );
}

async function explain(id: string): Promise<Readonly<{ code: number | null; answer: ExplainAnswer }>> {
  const { code, out, err } = await cluster.cardea("audit", "explain", id, "--json");
  assert.notEqual(out, "", `${code}: ${err}`);
  return { code, answer: JSON.parse(out) as ExplainAnswer };
}

const rechecks = (result: string): Promise<number> =>
  cluster.authenticate.metric("cardea_audit_rechecks_total", { result });

test("after retention each past decision is made again with the same answer: after a change of groups, of the configuration and of the leader, and after an erasure", {
  timeout: 400_000,
}, async () => {
  const [north, south] = [cluster.proxy(1), cluster.proxy(2)];
  const members = (body: object) => cluster.operator.post("/groups/eng/members", body);
  const kim = await cluster.session("kim", ["eng"]);
  const lee = await cluster.session("lee");
  const records: [string, Line][] = [];
  records.push(["permit", await decided(north, "eng", kim)]);
  records.push(["deny", await decided(north, "eng", lee)]);
  records.push(["signin", await decided(south, "eng", null)]);
  const beforeRemoval = new Date().toISOString();
  assert.equal((await members({ remove: [kim.userId] })).status, 200);
  await waitFor("the removal to count", async () => (await cluster.getOnce(north, "eng", kim)).status === 403);
  records.push(["deny", await decided(north, "eng", kim)]);
  const removed = new Date().toISOString();
  assert.equal((await members({ add: [kim.userId] })).status, 200);
  await waitFor("the addition to count", async () => (await cluster.getOnce(north, "eng", kim)).status === 200);
  records.push(["permit", await decided(north, "eng", kim)]);

  const config = JSON.parse(readFileSync(north.configFile, "utf8")) as { routes: { id: string; policy?: unknown }[] };
  const eng = config.routes.find(({ id }) => id === "eng");
  assert.ok(eng);
  eng.policy = { allow: { and: [{ groups: { has: "ops" } }] } };
  writeFileSync(north.configFile, JSON.stringify(config));
  await waitFor("the new policy", async () => (await cluster.getOnce(north, "eng", kim)).status === 403);
  records.push(["deny", await decided(north, "eng", kim)]);
  await cluster.operator.revoke(kim);
  await waitFor("the revocation", async () => (await cluster.getOnce(north, "app", kim)).status !== 200);
  records.push(["signin", await decided(north, "app", kim)]);

  const last = Math.max(...records.map(([, { applied }]) => applied.position));
  await waitFor("retention to pass the decisions", async () => (await basePosition(cluster.setup)) > last + 100, {
    ...{ withinMs: 120_000, everyMs: 500 },
  });
  const old = await cluster.leader();
  await old.kill();
  await waitFor("another leader", async () => (await cluster.status()).leader?.brokerId !== old.name, {
    withinMs: 60_000,
  });
  assert.equal((await cluster.operator.post(`/users/${lee.userId}/erase`, {})).status, 200);

  for (const [result, { boot, seq, requestId }] of records) {
    const { code, answer } = await explain(seq % 2 === 0 ? requestId : `${boot}:${seq}`);
    assert.equal(answer.record.result, result);
    assert.equal(answer.again.type, "same", JSON.stringify(answer.again));
    assert.deepEqual([code, answer.broken], [0, []]);
    if (answer.again.type === "same") assert.deepEqual(answer.again.uncompared, []);
    assert.equal(answer.source?.erased, answer.record.userId === lee.userId);
  }

  const who = async (at: string): Promise<readonly string[]> => {
    const { body } = await cluster.operator.get(`/access/who?route=eng&at=${encodeURIComponent(at)}&limit=1000`);
    const sent = body.split("\n").filter((line) => line.startsWith("data: "));
    const report = JSON.parse(sent.at(-1)?.slice(6) ?? "null") as WhoReport | AccessFailure;
    assert.ok(report.type === "report", JSON.stringify(report));
    return report.configurations.flatMap(({ people }) => people.map(({ userId }) => userId));
  };
  assert.ok((await who(beforeRemoval)).includes(kim.userId));
  assert.ok(!(await who(removed)).includes(kim.userId));
  await old.start();
});

test("while everything changes under load no decision raises an alarm, and one of a wrong node does", {
  timeout: 400_000,
}, async () => {
  const south = cluster.proxy(2);
  const sessions = await Promise.all(["ada", "bob", "cyd"].map((name) => cluster.session(name, ["eng"])));
  const target = { port: south.ports.address, host: cluster.host("eng") };
  const hammering = hammer(sessions.map(({ user, cookie }) => ({ name: user, target: { ...target, cookie } })));
  const before = await rechecks("same");
  for (const { userId } of [...sessions, ...sessions]) {
    await cluster.operator.post("/groups/eng/members", { remove: [userId] });
    await cluster.operator.post("/groups/eng/members", { add: [userId] });
  }
  const [ada] = sessions;
  assert.ok(ada);
  await cluster.operator.revoke(ada);
  const leader = await cluster.leader();
  await leader.restart();
  await south.restart();
  await waitFor("many decisions to be made again", async () => (await rechecks("same")) > before + 200, {
    withinMs: 60_000,
  });
  await hammering.stop();
  assert.equal(await rechecks("different"), 0, cluster.authenticate.log());

  south.program = new URL("wrong-decisions-main.ts", pathToFileURL(import.meta.filename)).pathname;
  await south.restart();
  const zoe = await cluster.session("zoe");
  const wrong = await decided(south, "eng", zoe);
  assert.equal(wrong.result, "permit", "the wrong node lets everyone in");
  await waitFor("the alarm", async () => (await rechecks("different")) > 0, { withinMs: 30_000 });
  const alarm = cluster.authenticate
    .log()
    .split("\n")
    .filter((line) => line.includes("decided differently"));
  assert.ok(
    alarm.some((line) => line.includes(`${wrong.boot}:${wrong.seq}`)),
    alarm.join("\n"),
  );
  const { code, answer } = await explain(`${wrong.boot}:${wrong.seq}`);
  assert.deepEqual([code, answer.again.type], [1, "different"]);
});
