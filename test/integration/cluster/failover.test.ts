/**
 * Failover on a real cluster with default leases: the leader dies, the leader is paused and resumes, and the store goes
 * away.
 *
 * The promises: takeover within 3 s, no session ends, and no command is reported done that is not in the log.
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

/** Constant requests of one session at some proxies, on a route that serves during its grace and one that does not. */
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
 * Asserts that no request was sent to sign in, that the route with grace was always served, and that the other route
 * answered at worst 503. A proxy that has logged a pause of its machine may answer 503 on both.
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

test("when the leader is killed another broker takes over, appends continue, sessions last, and older receipts complete", async (t) => {
  const paused = cluster.proxy(2);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const [revoked, unaffected] = [await cluster.session("alice"), await cluster.session("alice")];
  const [leader, follower] = [await cluster.leader(), await cluster.follower()];
  paused.pause();
  const revocation = await cluster.operator.revoke(revoked);
  assert.equal((await cluster.operator.receipt(revocation.link, { wait: "none" })).complete, false);
  const hammering = hammerAt(unaffected, [1, 3]);
  t.after(() => hammering.stop());

  const killedAt = performance.now();
  await leader.kill();
  const first = await cluster.session("bob");
  const tookMs = performance.now() - killedAt;
  t.diagnostic(`from the kill of the leader to the first append of the next: ${Math.round(tookMs)} ms`);
  assert.equal((await cluster.leader()).name, follower.name);
  assert.ok(first.link.epoch > revocation.link.epoch);

  const beforeResume = await cluster.operator.receipt(revocation.link, { wait: "none" });
  assert.ok(beforeResume.epoch >= first.link.epoch);
  assert.equal(beforeResume.complete, false, "the new leader knows that the paused node may still decide");
  assert.equal(beforeResume.nodes.find(({ node }) => node === paused.name)?.status, "unconfirmed");

  paused.resume();
  const [byLink, byCommand] = await Promise.all([
    cluster.operator.receipt(revocation.link),
    cluster.operator.receipt(revocation.commandId),
  ]);
  for (const receipt of [byLink, byCommand]) {
    assert.equal(receipt.complete, true);
    assert.deepEqual(receipt.link, revocation.link);
    assert.ok(receipt.epoch >= first.link.epoch, "the receipt is the new leader's");
    assert.ok(receipt.nodes.every(({ status }) => status !== "unconfirmed"));
  }
  const shots = await hammering.stop();
  assertServed(t, shots);
  for (const proxy of cluster.proxies) {
    assert.equal((await cluster.get(proxy, "app", revoked)).permitted, false);
    await waitFor("the new session to be permitted", async () => (await cluster.get(proxy, "app", first)).permitted);
  }
  await leader.start();
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("a paused leader that resumes is fenced, follows the new leader, and has reported no command done that is not in the log", async (t) => {
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
  const inFlight = commands.slice(30, 60).map(submit); // some of these are in the middle of a commit
  await new Promise((resolve) => setImmediate(resolve));
  leader.pause();
  const pausedAt = performance.now();
  const queued = commands.slice(60).map(submit); // these wait in its socket buffers
  const during = await cluster.session("bob");
  assert.equal((await cluster.leader()).name, follower.name);
  await waitFor("four seconds of pause", () => performance.now() - pausedAt > 4_000);

  leader.resume();
  const results = await Promise.all([...answers, ...inFlight, ...queued]);
  const done = results.filter((each) => each?.type === "done");
  t.diagnostic(`${done.length} of ${results.length} commands were reported done; the others must be sent again`);
  assert.ok(done.length >= 30);
  for (const result of done) {
    const receipt = await cluster.operator.receipt(result.commandId, { wait: "none" });
    assert.notEqual(receipt.status, "lost", "reported done, but not in the log");
    assert.deepEqual(receipt.link, result.link, "the command is at the reported link");
  }
  const others = results.filter((each) => each?.type !== "done");
  assert.ok(others.every((each) => each === undefined || each.type === "unavailable"));

  const leads = () => leader.metric("cardea_broker_leading");
  await waitFor("the old leader to step down", async () => (await leads()) === 0);
  await leader.ready();
  await waitFor("the old leader to follow", async () => {
    const { broker, leader: knownLeader } = JSON.parse((await callBroker(leader, { path: "/v1/status", token })).body);
    return broker.leading === false && knownLeader?.brokerId === follower.name;
  });
  const command = { type: "revokeSession", sessionId: during.id, reason: "operator" };
  const request = { commandId: randomUUID(), actor: "operator:test", command };
  const forwarded = await waitFor("the old leader to forward a command", async () => {
    const result = await submit(request);
    return result === undefined || result.type === "unavailable" ? undefined : result;
  });
  assert.equal(forwarded.type, "done");
  const receipt = await cluster.operator.receipt(forwarded.commandId);
  assert.equal(receipt.complete, true);
});

test("while Postgres is down for three seconds appends are refused promptly and decisions continue; afterwards the log is intact", async (t) => {
  const [unaffected, revoked] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(unaffected, [1, 2, 3]);
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
  const retried = cluster.operator.revoke(revoked); // its client retries with one command id
  const refusals = await Promise.all(
    cluster.brokers.map(async (broker) => {
      const answer = await revoke(broker, randomUUID());
      return { answer, tookMs: performance.now() - goneAt };
    }),
  );
  for (const { answer, tookMs } of refusals) {
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
  assert.ok((await retried).link.position > 0, "the retried command was carried out");
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
