/**
 * Ten thousand revocations at once: a real Postgres, a broker over HTTP and two nodes, with a cluster's default bounds.
 *
 * - Ten thousand sessions are one batch and one receipt.
 * - All sessions of a user are one event, however many there are.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Broker, startDatabrokerServer } from "../../src/broker/index.ts";
import { type Command, type CommandResult, type NodeId, type SessionId, userIdOf } from "../../src/events/index.ts";
import { openPostgresLog, verifyLog } from "../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import {
  type BrokerClient,
  checkReceipt,
  createBrokerClient,
  digestOfIds,
  type Role,
  receiptKeys,
} from "../../src/replication/wire/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, secret } from "../broker/support.ts";
import { startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { waitFor } from "../support/wait-for.ts";

const many = 10_000;
const people = 500;
const cleanups: (() => Promise<unknown>)[] = [];
let broker: Broker;
let connectionString: string;
let log: Awaited<ReturnType<typeof openPostgresLog>>;
let nodes: readonly ReplicaProcess[];
let clientOf: (role: Role, name: string) => BrokerClient;

before(async () => {
  const postgres = await startPostgres();
  cleanups.push(() => postgres.stop());
  connectionString = await postgres.newDatabase();
  log = await openPostgresLog({ connectionString, cluster });
  cleanups.push(() => log.close());
  broker = brokerOn(log);
  cleanups.push(() => broker.stop());
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port: 0 } },
  });
  cleanups.push(() => server.close());
  clientOf = (role, name) => {
    const client = createBrokerClient({
      ...{ urls: [new URL(server.url)], cluster, role, name, secret, submitMs: 60_000 },
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
    cleanups.push(() => client.close());
    return client;
  };
  await waitFor("a leader", () => broker.leading());
  nodes = ["proxy-1", "proxy-2"].map((name) => {
    const replica = startReplica({
      ...{ name: name as NodeId, role: "proxy", region: "eu", version: "test" },
      ...{ configHash: () => "c", cluster, secret, databroker: clientOf("proxy", name), fanout: null },
      ...{ clock: systemClock, randomBytes: random, logger: quiet, windowMs: () => 65_000, dataDir: null },
    });
    cleanups.push(() => replica.stop());
    return replica;
  });
  for (const node of nodes) assert.ok(await node.whenReady(60_000));
});
after(async () => {
  for (const end of cleanups.reverse()) await end();
});

const idOf = (n: number): SessionId => `session-${String(n).padStart(5, "0")}` as SessionId;
const userOf = (n: number) => userIdOf("https://idp.test", `person-${n % people}`);

async function signIn(from: number, count: number, user: (n: number) => string): Promise<void> {
  const port = broker.databroker("authenticate");
  const atOnce = 500;
  for (let at = from; at < from + count; at += atOnce) {
    const width = Math.min(atOnce, from + count - at);
    const results = await Promise.all(
      Array.from({ length: width }, (_, n) => {
        const request = asked(createSession(idOf(at + n), user(at + n), { maxSessionsPerUser: 100_000 }));
        return waitFor("an answer", async () => {
          const result = await port.submit(request);
          return result.type === "unavailable" ? undefined : result; // retried, as any caller does
        });
      }),
    );
    assert.ok(
      results.every(({ type }) => type === "done"),
      JSON.stringify(results.find(({ type }) => type !== "done")),
    );
  }
}

async function done(client: BrokerClient, command: Command): Promise<Extract<CommandResult, { type: "done" }>> {
  const result = await client.submit(asked(command));
  return result.type === "done" ? result : assert.fail(JSON.stringify(result));
}

const rows = (text: string, values: readonly unknown[] = []) =>
  withClient(connectionString, async (client) => (await client.query(text, [...values])).rows);

test(`${many} sessions are revoked by one batch in Postgres and denied on two nodes, and one receipt lists them`, async (t) => {
  await signIn(0, many + 1, userOf);
  const operator = clientOf("operator", "test");
  const { applied: before } = (await broker.databroker("operator").status()).broker;
  await waitFor(
    "the nodes to apply the sessions",
    () => nodes.every((node) => node.applied.position >= before.position),
    {
      withinMs: 60_000,
    },
  );

  const sessionIds = Array.from({ length: many }, (_, n) => idOf(n));
  const requestedAt = performance.now();
  const { link } = await done(operator, { type: "revokeSessions", sessionIds, reason: "operator" });
  const recordedAt = performance.now();
  const receipt = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 60_000 });
  const completeAt = performance.now();
  t.diagnostic(
    `${many} sessions: in the log after ${Math.round(recordedAt - requestedAt)} ms, in force on both nodes after ${Math.round(completeAt - requestedAt)} ms`,
  );

  const transactions = await rows(
    "select xmin::text, count(*)::int as events, max(pos)::int - min(pos)::int + 1 as places from cardea.event where type = 'SessionRevoked' group by 1",
  );
  assert.deepEqual(
    transactions.map(({ events, places }) => [events, places]),
    [[many, many]],
    "one transaction without other events in between",
  );
  assert.equal(receipt.complete, true);
  assert.deepEqual(receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort(), [
    "proxy-1 applied",
    "proxy-2 applied",
  ]);
  for (const node of nodes) {
    assert.ok(sessionIds.every((id) => node.projection.sessionStatus(id).status === "revoked"));
    assert.equal(node.projection.sessionStatus(idOf(many)).status, "active", "no other session is revoked");
  }
  const checked = await checkReceipt(receipt.signed ?? "", [await receiptKeys({ cluster, secrets: [secret] })]);
  if (!checked.ok) return assert.fail(checked.detail);
  const [change, another] = checked.statement.changes ?? [];
  assert.deepEqual([change?.type, change?.count, change?.idsSha256], ["SessionRevoked", many, digestOfIds(sessionIds)]);
  assert.equal(another, undefined);
  assert.equal((await verifyLog(log)).type, "intact");
});

test("revoking all sessions of a user is one event, however many there are", async (t) => {
  const count = 200; // sessions of one person are recorded one after another
  const user = userIdOf("https://idp.test", "of-many");
  await signIn(20_000, count, () => user);
  const operator = clientOf("operator", "test");
  const { applied } = (await broker.databroker("operator").status()).broker;
  const requestedAt = performance.now();
  const { link } = await done(operator, { type: "revokeUserSessions", userId: user, reason: "operator" });
  const receipt = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 60_000 });
  t.diagnostic(
    `${count} sessions of one user: in force on both nodes after ${Math.round(performance.now() - requestedAt)} ms`,
  );
  assert.equal(link.position, applied.position + 1);
  assert.equal(receipt.complete, true);
  for (const node of nodes)
    assert.ok(
      Array.from({ length: count }, (_, n) => idOf(20_000 + n)).every(
        (id) => node.projection.sessionStatus(id).status === "revoked",
      ),
    );
});
