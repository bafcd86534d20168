/**
 * Failover on a real cluster with leases as they come: a leader that dies, one that is stopped and wakes, and a store
 * that goes away. What is promised: takeover within 3 s, nobody signed out, and never a success that is not in the log.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, type TestContext, test } from "node:test";
import type { CommandResult } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { callBroker, serviceToken } from "./broker-api.ts";
import { hammer, type Shot } from "./client.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south", "south"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

/**
 * Callers of the same session at some of the proxies, all the time, on a route that serves its grace and one that does
 * not.
 */
function hammerAt(session: Session, numbers: readonly number[]) {
  return hammer(
    numbers.flatMap((n) =>
      ["app", "strict"].map((route) => ({
        name: `proxy-${n} ${route}`,
        target: { port: cluster.proxy(n).ports.address, host: cluster.host(route), cookie: session.cookie },
      })),
    ),
  );
}

/**
 * Nobody was signed out; what may be served in its grace always was, and the rest but for moments without a lease. A
 * proxy that says it was stopped by its machine is excused.
 */
function assertServed(t: TestContext, shots: readonly Shot[]): void {
  assert.ok(shots.length > 100);
  const refused = shots.filter(({ permitted }) => !permitted);
  const [strict, others] = [/strict/, /app/].map((name) => refused.filter((shot) => name.test(shot.name)));
  const stopped = cluster.proxies.filter((proxy) => proxy.hasReportedPause()).map(({ name }) => `${name} app`);
  assert.deepEqual(
    others?.filter(({ name, status }) => status !== 503 || !stopped.includes(name)),
    [],
  );
  assert.deepEqual(
    strict?.filter(({ status }) => status !== 503),
    [],
  );
  t.diagnostic(`${shots.length} requests; ${strict?.length} found no lease on the route that denies without one`);
}

test("the leader is killed: another takes over, appends go on, nobody is signed out, and older receipts complete", async (t) => {
  const paused = cluster.proxy(2);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const [leader, follower] = [await cluster.leader(), await cluster.follower()];
  paused.pause();
  const asked = await cluster.operator.revoke(revoked);
  assert.equal((await cluster.operator.receipt(asked.link, { wait: "none" })).complete, false);
  const hammering = hammerAt(kept, [1, 3]);
  t.after(() => hammering.stop());

  const killedAt = performance.now();
  await leader.kill();
  const first = await cluster.session("bob");
  const tookMs = performance.now() - killedAt;
  t.diagnostic(`from the kill of the leader to the first append of the next: ${Math.round(tookMs)} ms`);
  assert.equal((await cluster.leader()).name, follower.name);
  assert.ok(first.link.epoch > asked.link.epoch);

  const still = await cluster.operator.receipt(asked.link, { wait: "none" });
  assert.ok(still.epoch >= first.link.epoch);
  assert.equal(still.complete, false, "the new leader knows who may still be deciding");
  assert.equal(still.nodes.find(({ node }) => node === paused.name)?.status, "unconfirmed");

  paused.resume();
  const [byLink, byCommand] = await Promise.all([
    cluster.operator.receipt(asked.link),
    cluster.operator.receipt(asked.commandId),
  ]);
  for (const receipt of [byLink, byCommand]) {
    assert.equal(receipt.complete, true);
    assert.deepEqual(receipt.link, asked.link);
    assert.ok(receipt.epoch >= first.link.epoch, "the new leader answers");
    assert.ok(receipt.nodes.every(({ status }) => status !== "unconfirmed"));
  }
  const shots = await hammering.stop();
  assertServed(t, shots);
  for (const proxy of cluster.proxies) {
    assert.equal((await cluster.get(proxy, "app", revoked)).permitted, false);
    await waitFor("the new session", async () => (await cluster.get(proxy, "app", first)).permitted);
  }
  await leader.start();
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("a paused leader that wakes is fenced and follows, and never called anything done that is not in the log", async (t) => {
  const [leader, follower] = [await cluster.leader(), await cluster.follower()];
  const session = await cluster.session("alice");
  const token = serviceToken(cluster, { role: "operator" });
  const commands = Array.from({ length: 90 }, () => ({
    commandId: randomUUID(),
    actor: "operator:test",
    command: {
      ...{ type: "changeGroupMembers", groupId: `g${randomUUID().slice(0, 8)}`, source: "operator" },
      ...{ added: [session.userId], removed: [] },
    },
  }));
  const submit = async (body: object): Promise<CommandResult | undefined> => {
    const answer = await callBroker(leader, { path: "/v1/commands", token, body, timeoutMs: 30_000 }).catch(
      () => undefined,
    );
    return answer && (JSON.parse(answer.body) as CommandResult);
  };

  const answers = commands.slice(0, 30).map(submit);
  await Promise.all(answers);
  const underWay = commands.slice(30, 60).map(submit); // some of these are in the midst of a commit
  await new Promise((resolve) => setImmediate(resolve));
  leader.pause();
  const pausedAt = performance.now();
  const waiting = commands.slice(60).map(submit); // and these lie in its sockets
  const during = await cluster.session("bob");
  assert.equal((await cluster.leader()).name, follower.name);
  await waitFor("four seconds of pause", () => performance.now() - pausedAt > 4_000);

  leader.resume();
  const results = await Promise.all([...answers, ...underWay, ...waiting]);
  const done = results.filter((each) => each?.type === "done");
  t.diagnostic(`${done.length} of ${results.length} commands were called done, the others are to be asked again`);
  assert.ok(done.length >= 30);
  for (const result of done) {
    const receipt = await cluster.operator.receipt(result.commandId, { wait: "none" });
    assert.notEqual(receipt.status, "lost", "called done, and not in the log");
    assert.deepEqual(receipt.link, result.link, "and at the very place that was named");
  }
  const others = results.filter((each) => each?.type !== "done");
  assert.ok(others.every((each) => each === undefined || each.type === "unavailable"));

  const leads = () => leader.metric("cardea_broker_leading");
  await waitFor("it to step down", async () => (await leads()) === 0);
  await leader.ready();
  await waitFor("it to follow", async () => {
    const { broker, leader: seen } = JSON.parse((await callBroker(leader, { path: "/v1/status", token })).body);
    return broker.leading === false && seen?.brokerId === follower.name;
  });
  const command = { type: "revokeSession", sessionId: during.id, reason: "operator" };
  const request = { commandId: randomUUID(), actor: "operator:test", command };
  const through = await waitFor("it to hand on what it is asked", async () => {
    const result = await submit(request);
    return result === undefined || result.type === "unavailable" ? undefined : result;
  });
  assert.equal(through.type, "done");
  const receipt = await cluster.operator.receipt(through.commandId);
  assert.equal(receipt.complete, true);
});

test("Postgres goes away for three seconds: appends are refused soon, decisions go on, and the log is whole afterwards", async (t) => {
  const [kept, revoked] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(kept, [1, 2, 3]);
  t.after(() => hammering.stop());
  const token = serviceToken(cluster, { role: "operator" });
  const revoke = (broker: ClusterProcess, commandId: string) =>
    callBroker(broker, {
      ...{ path: "/v1/commands", token, timeoutMs: 30_000 },
      body: {
        ...{ commandId, actor: "operator:test" },
        command: { type: "revokeSession", sessionId: revoked.id, reason: "operator" },
      },
    });

  await cluster.postgres.kill();
  const goneAt = performance.now();
  const patient = cluster.operator.revoke(revoked); // its caller asks on, with one command id
  const asked = await Promise.all(
    cluster.brokers.map(async (broker) => {
      const answer = await revoke(broker, randomUUID());
      return { answer, tookMs: performance.now() - goneAt };
    }),
  );
  for (const { answer, tookMs } of asked) {
    assert.equal(answer.status, 503);
    assert.ok(answer.headers["retry-after"] !== undefined);
    t.diagnostic(`without a store, an append was refused after ${Math.round(tookMs)} ms`);
  }
  await waitFor("three seconds without Postgres", () => performance.now() - goneAt > 3_000);
  await cluster.postgres.start();
  const backAt = performance.now();

  const change = await waitFor("appends to work again", () => cluster.operator.revoke(revoked, { wait: "all" }), {
    withinMs: 20_000,
  });
  t.diagnostic(`with the store back, the first append took ${Math.round(performance.now() - backAt)} ms`);
  assert.equal(change.receipt?.complete, true);
  assert.ok((await patient).link.position > 0, "what somebody waited for is carried out");
  const shots = await hammering.stop();
  assertServed(t, shots);
  for (const proxy of cluster.proxies) {
    assert.equal((await cluster.get(proxy, "app", revoked)).permitted, false);
    await proxy.ready();
  }
  const verified = await cluster.cardeaWith(cluster.brokers[0]?.configFile ?? "", "log", "verify");
  assert.equal(verified.code, 0, `${verified.out}${verified.err}`);
  assert.match(verified.out, /\d+ events verified/);
});
