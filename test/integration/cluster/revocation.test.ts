/**
 * Revocation on a real cluster with default leases: W is over a minute, so a receipt that completes within seconds was
 * confirmed by every node and did not wait for W.
 */
import assert from "node:assert/strict";
import { Agent } from "node:http";
import { after, before, test } from "node:test";
import type { Link } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket, openStream, sendRequest } from "./client.ts";
import { type Change, type CliResult, type Cluster, decisionsOf, type Session, startCluster } from "./cluster.ts";
import { fenceMs } from "./cluster-config.ts";
import type { ClusterProcess } from "./cluster-process.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({
      ...{ timing: "default", regions: ["north", "north", "south"] },
      env: { "proxy-2": { DRAIN_TIMEOUT: "15s" } }, // one test watches this drain
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const at = (proxy: ClusterProcess, session: Session, route = "app") => ({
  port: proxy.ports.address,
  host: cluster.host(route),
  cookie: session.cookie,
});

function receiptIn({ out, err }: CliResult): Receipt {
  const last = out.trim().split("\n").at(-1) ?? "";
  assert.match(last, /^\{/, `${out}${err}`);
  const { receipt } = JSON.parse(last) as Change;
  assert.ok(receipt !== null);
  return receipt;
}

const statusesOf = (receipt: Receipt, ...names: readonly string[]): string[] =>
  names.map((name) =>
    receipt.nodes
      .filter((each) => each.node === name)
      .map((each) => each.status)
      .join("+"),
  );

const proxyNames = (): string[] => cluster.proxies.map(({ name }) => name);

test("revoking a session ends it on every node at once: its next request, open WebSockets and half-sent responses", async () => {
  const revoked = await cluster.session("alice");
  const unaffected = await cluster.session("alice");
  for (const proxy of cluster.proxies) {
    for (const session of [revoked, unaffected]) {
      assert.equal((await cluster.get(proxy, "app", session)).permitted, true, `${proxy.name} permits at first`);
    }
  }
  const sockets = await Promise.all(cluster.proxies.map((proxy) => openSocket(at(proxy, revoked))));
  const others = await Promise.all(cluster.proxies.map((proxy) => openSocket(at(proxy, unaffected))));
  const streams = await Promise.all(
    cluster.proxies.map((proxy) => openStream({ ...at(proxy, revoked), path: "/stream" })),
  );
  assert.deepEqual(
    streams.map(({ status }) => status),
    [200, 200, 200],
  );

  const ran = await cluster.cardea("sessions", "revoke", revoked.id, "--wait", "--json");

  assert.equal(ran.code, 0, ran.err);
  const receipt = receiptIn(ran);
  assert.equal(receipt.status, "complete");
  assert.deepEqual(statusesOf(receipt, ...proxyNames()), ["applied", "applied", "applied"]);
  assert.deepEqual(statusesOf(receipt, "authenticate"), ["applied"]);
  assert.equal(receipt.nodes.length, 4, "the receipt names no other node");
  for (const proxy of cluster.proxies) {
    for (const route of ["app", "strict"]) {
      const refused = await cluster.get(proxy, route, revoked);
      assert.equal(refused.permitted, false, `${proxy.name} permitted after a complete receipt`);
      assert.equal(refused.status, 401, "the proxy offers to sign in");
    }
  }
  for (const socket of sockets) {
    assert.deepEqual(await socket.closed, { code: 4401, reason: "session ended: sign in again" });
  }
  for (const stream of streams) assert.equal(await stream.ended, "broken", "the client sees an incomplete response");

  for (const [i, proxy] of cluster.proxies.entries()) {
    assert.equal((await cluster.get(proxy, "app", unaffected)).permitted, true, "the person's other session lasts");
    assert.equal(others[i]?.isOpen(), true);
    others[i]?.close();
  }
});

test("when a receipt is complete, every open exchange was already cut, and nothing sent later arrives", async () => {
  const session = await cluster.session("alice");
  const sockets = await Promise.all(cluster.proxies.map((proxy) => openSocket(at(proxy, session))));
  const streams = await Promise.all(
    cluster.proxies.map((proxy) => openStream({ ...at(proxy, session), path: "/stream" })),
  );
  await waitFor("every WebSocket to receive ticks", () => sockets.every((socket) => socket.ticks() > 3));

  const { receipt } = await cluster.operator.revoke(session, { wait: "all" });
  const completedAt = performance.now();

  assert.equal(receipt?.complete, true);
  await Promise.all([...sockets.map(({ closed }) => closed), ...streams.map(({ ended }) => ended)]);
  for (const socket of sockets) assert.ok(socket.newest() > 0 && socket.newest() < completedAt);
  for (const stream of streams) {
    const [newest = 0] = stream
      .body()
      .trim()
      .split("\n")
      .slice(1)
      .map(Number)
      .toSorted((a, b) => b - a);
    assert.ok(newest > 0 && newest < completedAt);
  }
  for (const proxy of cluster.proxies) {
    const decisions = await waitFor("the cut to be recorded", () => {
      const records = decisionsOf(proxy).filter(
        (each) => each["sessionId"] === session.id && each["occasion"] !== "closed",
      );
      return records.some((each) => each["occasion"] === "redecision") && records;
    });
    assert.equal(decisions.at(-1)?.["result"], "signin", "the newest decision on this session is no permit");
  }
});

test("revoking a user ends all their sessions with one event, and a new sign-in works", async () => {
  const sessions = await Promise.all([1, 2, 3, 4].map(() => cluster.session("carol")));
  const bystander = await cluster.session("dave");
  const sockets = await Promise.all(sessions.map((session, i) => openSocket(at(cluster.proxy((i % 3) + 1), session))));
  const before = (await cluster.status()).leader?.head.position ?? 0;

  const ran = await cluster.cardea("sessions", "revoke", "--user", "carol", "--wait", "--json");

  assert.equal(ran.code, 0, ran.err);
  const receipt = receiptIn(ran);
  assert.deepEqual(statusesOf(receipt, ...proxyNames()), ["applied", "applied", "applied"]);
  assert.equal(receipt.link?.position, before + 1, "one event");
  for (const socket of sockets) assert.equal((await socket.closed).code, 4401);
  for (const proxy of cluster.proxies) {
    for (const session of sessions) assert.equal((await cluster.get(proxy, "app", session)).permitted, false);
    assert.equal((await cluster.get(proxy, "app", bystander)).permitted, true);
  }

  const newSession = await cluster.session("carol");
  for (const proxy of cluster.proxies) {
    assert.equal((await cluster.get(proxy, "app", newSession)).permitted, true, "a session created later is permitted");
    assert.equal(
      (await cluster.get(proxy, "app", sessions[0])).permitted,
      false,
      "the new session restores no old one",
    );
  }
});

test("a paused proxy stays unconfirmed, and --wait exits 1 and names the node and the time until it is fenced", async () => {
  const stopped = cluster.proxy(3);
  cluster.front.setTargets([cluster.proxy(1).ports.address, cluster.proxy(2).ports.address]);
  const session = await cluster.session("alice");
  stopped.pause();
  try {
    const ran = await cluster.cardea("sessions", "revoke", session.id, "--wait", "--timeout", "1s", "--json");
    assert.equal(ran.code, 1, ran.err);
    const receipt = receiptIn(ran);
    assert.deepEqual([receipt.status, receipt.complete], ["incomplete", false]);
    assert.deepEqual(statusesOf(receipt, stopped.name), ["unconfirmed"]);
    const { fencedInMs } = receipt.nodes.find(({ node }) => node === stopped.name) ?? {};
    assert.ok(typeof fencedInMs === "number" && fencedInMs > 0 && fencedInMs <= fenceMs(65_000), `${fencedInMs}`);
    assert.ok(receipt.completeInMs >= fencedInMs);

    const { commandId } = JSON.parse(ran.out.trim().split("\n").at(-1) ?? "") as Change;
    const shown = await cluster.cardea("receipt", commandId);
    assert.equal(shown.code, 1);
    assert.match(shown.out, /proxy-3.*unconfirmed|unconfirmed.*proxy-3/);

    const region = await cluster.operator.receipt(receipt.link as Link, { wait: "region" });
    assert.equal(region.complete, true, "a receipt of one region does not wait for a node in another");
    assert.deepEqual(statusesOf(region, ...proxyNames()), ["applied", "applied", "unconfirmed"]);
  } finally {
    stopped.resume();
    cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
  }
  const whole = await waitFor("the receipt", async () => {
    const { nodes } = await cluster.status();
    return nodes.every((node) => node.lag === 0) && (await cluster.operator.receipt(session.link));
  });
  assert.equal(whole.complete, true);
  assert.equal((await cluster.get(stopped, "app", session)).permitted, false);
});

test("the receipt of a link that is not in the log says lost and is never complete", async () => {
  const session = await cluster.session("alice");
  const invented = { ...session.link, hash: session.link.hash.replace(/^./, (c) => (c === "0" ? "1" : "0")) };
  const receipt = await cluster.operator.receipt(invented as typeof session.link);
  assert.equal(receipt.status, "lost");
  assert.equal(receipt.complete, false);
});

test("a rolling restart of the proxies does not stall a receipt requested in the middle of it", async () => {
  const [first, second] = [await cluster.session("alice"), await cluster.session("alice")];
  const bootsBefore = (await cluster.status()).nodes.map(({ boot }) => boot);
  for (const [i, proxy] of cluster.proxies.entries()) {
    const restarting = proxy.restart();
    if (i === 0) {
      const ran = await cluster.cardea("sessions", "revoke", first.id, "--wait", "--timeout", "20s", "--json");
      assert.equal(ran.code, 0, `${ran.out}${ran.err}`);
      assert.ok(
        receiptIn(ran).nodes.every(({ status }) => status === "applied"),
        "no node had to be fenced",
      );
    }
    await restarting;
  }
  const ran = await cluster.cardea("sessions", "revoke", second.id, "--wait", "--json");
  assert.equal(ran.code, 0, `${ran.out}${ran.err}`);
  assert.deepEqual(statusesOf(receiptIn(ran), ...proxyNames()), ["applied", "applied", "applied"], "each node once");
  const boots = (await cluster.status()).nodes.filter(({ role }) => role === "proxy").map(({ boot }) => boot);
  assert.equal(boots.length, 3);
  assert.ok(boots.every((boot) => !bootsBefore.includes(boot)));
  for (const proxy of cluster.proxies) {
    for (const session of [first, second]) assert.equal((await cluster.get(proxy, "app", session)).permitted, false);
  }
});

test("a proxy that is killed and restarted names the boot it replaces, so its receipt does not wait for W", async () => {
  const session = await cluster.session("alice");
  const killed = cluster.proxy(1);
  await killed.kill();
  cluster.front.setTargets([cluster.proxy(2).ports.address]);
  const { link } = await cluster.operator.revoke(session);
  const missing = await waitFor("all but one to confirm", async () => {
    const { complete, nodes } = await cluster.operator.receipt(link, { wait: "none" });
    assert.equal(complete, false, "the killed node may still be alive, so the receipt is incomplete");
    const unconfirmed = nodes.filter(({ status }) => status === "unconfirmed");
    return unconfirmed.length === 1 ? unconfirmed[0] : undefined;
  });
  assert.equal(missing.node, "proxy-1");
  assert.ok((missing.fencedInMs ?? 0) > 0, "without a restart the receipt would wait for the node's window");

  await killed.start();

  const completed = await cluster.operator.receipt(link);
  assert.equal(completed.complete, true);
  assert.ok(completed.nodes.every(({ status }) => status === "applied"));
  assert.equal(
    completed.nodes.filter(({ node }) => node === "proxy-1").length,
    1,
    "the receipt no longer names the old boot",
  );
  assert.equal((await cluster.get(killed, "app", session)).permitted, false);
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("on SIGTERM a proxy completes open requests, refuses new connections, and is in no receipt once it has ended", async () => {
  const session = await cluster.session("alice");
  const other = await cluster.session("bob");
  const leaving = cluster.proxy(2);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const slow = await openStream({ ...at(leaving, session), path: "/slow" });
  assert.equal(slow.body(), "begun\n");
  const socket = await openSocket(at(leaving, session));
  const keepAlive = keepAliveConnection(leaving);
  assert.equal((await keepAlive.send(session)).permitted, true);

  const ended = leaving.end();

  await waitFor("new connections to be refused", async () =>
    cluster.getOnce(leaving, "app", session).then(
      () => false,
      (error: NodeJS.ErrnoException) => error.code === "ECONNREFUSED",
    ),
  );
  assert.equal(
    await keepAlive.isClosed(session),
    true,
    "a keep-alive connection is closed, or its response announces the close",
  );
  assert.equal(cluster.upstream.slowRequests(), 1, "the slow response is still open");
  const { receipt: during } = await cluster.operator.revoke(other, { wait: "all" });
  assert.deepEqual(
    during?.nodes.filter(({ node }) => node === leaving.name).map(({ status }) => status),
    ["applied"],
    "receipts count a draining node until its last stream is closed",
  );
  cluster.upstream.finishSlow();
  assert.equal(await slow.ended, "whole");
  assert.equal(slow.body(), "begun\nwhole\n");
  assert.deepEqual(await socket.closed, { code: 1001, reason: "this node is going away: connect again" });
  assert.deepEqual(await ended, { code: 0, signal: null });

  const { nodes } = await cluster.status();
  assert.ok(!nodes.some(({ node }) => node === leaving.name), "after its goodbye no receipt waits for the node");
  const { receipt } = await cluster.operator.revoke(session, { wait: "all" });
  assert.equal(receipt?.complete, true);
  assert.ok(!receipt?.nodes.some(({ node }) => node === leaving.name));
  await leaving.start();
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("every other process also ends cleanly on SIGTERM, and a leader that resigns is replaced at once", async () => {
  const leader = await cluster.leader();
  const follower = await cluster.follower();
  assert.deepEqual(await leader.end(), { code: 0, signal: null });
  assert.equal((await cluster.leader()).name, follower.name);
  assert.match(leader.log(), /resigned/, "the leader resigned, so the others did not wait for its silence");
  await leader.start();
  assert.deepEqual(await cluster.authenticate.end(), { code: 0, signal: null });
  await cluster.authenticate.start();
});

/** A keep-alive connection opened before the drain. */
function keepAliveConnection(proxy: ClusterProcess) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const send = (session: Session) => sendRequest({ ...at(proxy, session), agent });
  return {
    send,
    async isClosed(session: Session): Promise<boolean> {
      const answer = await send(session).catch(() => undefined);
      agent.destroy();
      return answer === undefined || answer.headers.connection === "close";
    },
  };
}
