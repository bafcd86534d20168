/**
 * Leases over HTTPS without NATS, on real Postgres: what the `lessee` table holds of each node, when a row is written,
 * and when it is deleted.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { createSession, revoke } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, type TestNode, type Tls, waitToLead } from "./in-process.ts";

const timing = { deltaMs: 1_500, windowMs: 30_000 };
const folder = new TemporaryFolder("leases");
let server: PostgresServer;
let database: string;
let tls: Tls;
let testCluster: InProcessCluster;

before(async () => {
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(folder.path, name)) as [string, string];
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
      ...["-keyout", key, "-out", cert, "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"],
    ],
    { stdio: "ignore" },
  );
  tls = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  server = await startPostgres();
});
after(async () => {
  await server.stop();
  folder.remove();
});
beforeEach(async () => {
  database = await server.newDatabase();
  testCluster = new InProcessCluster(database, timing, { tls });
});
afterEach(() => testCluster.stop());

/** The rows of the table, by node and boot. */
const rows = (): Promise<{ node: string; boot: string; window: number }[]> =>
  withClient(
    database,
    async (client) =>
      (await client.query("select node, boot, window_ms::int as window from cardea.lessee order by 1, 2")).rows,
  );
const receipt = (member: TestBroker, commandId: string, timeoutMs: number) =>
  member.broker
    .databroker("operator")
    .receipt({ type: "command", commandId: commandId as never }, { wait: "all", timeoutMs });
const ready = async (node: TestNode): Promise<void> => {
  assert.ok(await node.replica.whenReady(60_000), node.replica.ready().reasons.join());
};

test("without NATS, renewals, confirmations and changes go over HTTPS, even when the leader is replaced", {
  timeout: 120_000,
}, async (t) => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  const second = await testCluster.broker("broker-2");
  const node = await testCluster.node("proxy-1", [first, second]);
  await ready(node);
  for (const [member, session] of [
    [first, "s1"],
    [second, "s2"],
  ] as const) {
    if (member === second) {
      await first.crash();
      node.relay.setTargets([second.port]);
      await waitToLead(second);
      await ready(node);
    }
    await submitCommand(member, createSession(session, "alice"));
    await waitFor("the node to permit", () => node.permits(session));
    const at = performance.now();
    const { commandId } = await submitCommand(member, revoke(session));
    await waitFor("the node to deny", () => !node.permits(session));
    t.diagnostic(`a revocation was enforced ${Math.round(performance.now() - at)} ms after the command`);
    const answer = await receipt(member, commandId, 30_000);
    assert.deepEqual([answer.complete, answer.nodes.map(({ status }) => status)], [true, ["applied"]]);
  }
  await waitFor("the lease to be renewed", () => node.replica.metrics().grants > 2);
});

test("the lessee table holds a node before its first grant, until its goodbye or until its next boot replaces it", {
  timeout: 120_000,
}, async () => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  const [one, two] = await Promise.all([
    testCluster.node("proxy-1", [member]),
    testCluster.node("proxy-2", [member], { dataDir: join(folder.path, "proxy-2") }),
  ]);
  let isGrantedEarly = false;
  while (!one.replica.ready().ready) {
    const granted = one.replica.metrics().grants > 0;
    isGrantedEarly ||= granted && !(await rows()).some(({ boot }) => boot === one.replica.boot);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(isGrantedEarly, false, "a grant arrived before the row was written");
  await ready(two);
  assert.deepEqual(
    await rows(),
    [one, two].map(({ replica }) => ({ node: replica.node, boot: replica.boot, window: timing.windowMs })),
  );

  await submitCommand(member, createSession("s", "alice"));
  for (const node of [one, two]) await waitFor("the node to permit", () => node.permits("s"));
  assert.equal(await one.replica.goodbye(), true);
  assert.equal(one.permits("s"), false, "after its goodbye the node permits nothing");
  await waitFor("the row of the node to be deleted", async () =>
    (await rows()).every(({ node }) => node !== "proxy-1"),
  );

  // The node ends without a goodbye: its row stays, and a receipt waits for it until its next boot names it.
  await two.replica.stop();
  const { commandId } = await submitCommand(member, revoke("s"));
  const pending = await receipt(member, commandId, 0);
  assert.deepEqual(
    pending.nodes.map(({ node, status }) => [node, status]),
    [["proxy-2", "unconfirmed"]],
  );
  const restarted = await testCluster.node("proxy-2", [member], { dataDir: join(folder.path, "proxy-2") });
  await ready(restarted);
  const done = await receipt(member, commandId, 30_000);
  assert.deepEqual(
    [done.complete, done.nodes.map(({ boot, status }) => [boot, status])],
    [true, [[restarted.replica.boot, "applied"]]],
  );
  await waitFor("the row of the previous boot to be deleted", async () => {
    const boots = (await rows()).map(({ boot }) => boot);
    return boots.length === 1 && boots[0] === restarted.replica.boot;
  });
});
