/** Nodes against a real broker: a replica with its own client, over HTTP, and a log in memory. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import {
  type Broker,
  createLeaderClient,
  type DatabrokerServer,
  startBroker,
  startDatabrokerServer,
} from "../../src/broker/index.ts";
import type { BrokerId, Command, CommandId, NodeId, SessionId, UnixMs, UserId } from "../../src/events/index.ts";
import { createLocalFanout, type Fanout } from "../../src/replication/fanout/index.ts";
import { createMemoryLog, type EventLog } from "../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { cluster, quiet, secret } from "./support.ts";

let log: EventLog;
let fanout: Fanout;
let broker: Broker;
let server: DatabrokerServer;
const clients: BrokerClient[] = [];

before(async () => {
  log = createMemoryLog();
  fanout = createLocalFanout({ logger: quiet });
  broker = startBroker({
    log,
    cluster,
    brokerId: "broker-1" as BrokerId,
    secret,
    fanout,
    clock: systemClock,
    random: (size) => randomBytes(size),
    lease: { deltaMs: 2_000, drift: 0.01, beatMs: 100, windowMaxMs: 60_000 },
    takeoverMs: 1_000,
    leaderClient: createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false }),
    advertisedUrl: null,
    duties: [],
    logger: quiet,
  });
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startDatabrokerServer({ broker, cluster, secret, listen, clock: systemClock, logger: quiet });
  await waitFor("the broker to lead", () => broker.leading());
});
after(async () => {
  for (const client of clients) await client.close();
  await server.close();
  await broker.stop();
  await fanout.close();
  await log.close();
});

function aClient(role: Role): BrokerClient {
  const client = createBrokerClient({
    urls: [new URL(server.url)],
    cluster,
    role,
    name: `${role}-1`,
    secret,
    clock: systemClock,
    randomBytes: (size) => randomBytes(size),
    logger: quiet,
  });
  clients.push(client);
  return client;
}

function aNode(
  name: string,
  parts: Readonly<{ fanout?: Fanout | null; dataDir?: string | null }> = {},
): ReplicaProcess {
  return startReplica({
    name: name as NodeId,
    role: "proxy",
    region: "here",
    version: "",
    configHash: () => "config-1",
    cluster,
    secret,
    databroker: aClient("proxy"),
    fanout: parts.fanout ?? null,
    clock: systemClock,
    randomBytes: (size) => randomBytes(size),
    logger: quiet,
    windowMs: () => 30_000,
    dataDir: parts.dataDir ?? null,
    renewMs: 200,
  });
}

const submit = (role: Role, command: Command) =>
  aClient(role).submit({ commandId: randomUUID() as CommandId, actor: "service:test", command });

async function signIn(): Promise<SessionId> {
  const sessionId = randomBytes(16).toString("base64url") as SessionId;
  const now = systemClock.wall();
  const result = await submit("authenticate", {
    type: "createSession",
    sessionId,
    userId: randomUUID() as string as UserId,
    idpId: "demo",
    issuedAt: now,
    expiresAt: (now + 3_600_000) as UnixMs,
    profile: { issuer: "https://idp", subject: "alice", email: "a@x", emailVerified: true, name: "Alice", claims: {} },
    tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    groupIds: null,
    maxSessionsPerUser: 100,
  });
  assert.ok(result.type === "done", JSON.stringify(result));
  return sessionId;
}

test("a session is known on every node right after its creation, and the receipt for its revocation names each node as applied", async () => {
  const [pushed, polled] = [aNode("pushed", { fanout }), aNode("polled")];
  try {
    for (const node of [pushed, polled]) assert.ok(await node.whenReady(10_000), node.ready().reasons.join());
    const sessionId = await signIn();
    const created = broker.databroker("operator");
    const head = (await created.status()).broker.applied;
    for (const node of [pushed, polled]) {
      assert.equal(await node.waitFor(head, 1_000), "reached");
      const status = node.projection.sessionStatus(sessionId);
      assert.ok(status.status === "active");
      assert.equal(node.open(status.session.profile, status.session.userId)?.subject, "alice");
    }
    const revoke = await submit("operator", { type: "revokeSession", sessionId, reason: "operator" });
    assert.ok(revoke.type === "done");
    const target = { type: "command", commandId: revoke.commandId } as const;
    const receipt = await aClient("operator").receipt(target, { wait: "all", timeoutMs: 5_000 });
    assert.equal(receipt.complete, true);
    for (const name of ["pushed", "polled"]) {
      assert.equal(receipt.nodes.find(({ node }) => node === name)?.status, "applied", name);
    }
    for (const node of [pushed, polled]) assert.equal(node.projection.sessionStatus(sessionId).status, "revoked");
  } finally {
    for (const node of [pushed, polled]) {
      assert.equal(await node.goodbye(), true);
      await node.stop();
    }
  }
});

test("a receipt waits for a node that cuts slowly, and does not report it as applied before", async () => {
  const node = aNode("slow", { fanout });
  const cutting = Promise.withResolvers<void>();
  try {
    assert.ok(await node.whenReady(10_000));
    const sessionId = await signIn();
    await waitFor("the session", () => node.projection.sessionStatus(sessionId).status === "active");
    node.onChange(() => cutting.promise);
    const revoke = await submit("operator", { type: "revokeSession", sessionId, reason: "operator" });
    assert.ok(revoke.type === "done");
    const target = { type: "link", link: revoke.link } as const;
    const operator = aClient("operator");
    const early = await operator.receipt(target, { wait: "all", timeoutMs: 500 });
    assert.equal(early.complete, false);
    assert.equal(early.nodes.find((each) => each.node === "slow")?.status, "unconfirmed");
    cutting.resolve();
    const late = await operator.receipt(target, { wait: "all", timeoutMs: 5_000 });
    assert.equal(late.complete, true);
  } finally {
    cutting.resolve();
    await node.goodbye();
    await node.stop();
  }
});

test("a node that restarts in its data folder without a goodbye does not delay a receipt", async () => {
  using folder = new TemporaryFolder("with-broker");
  const first = aNode("restarted", { fanout, dataDir: folder.path });
  assert.ok(await first.whenReady(10_000));
  await first.stop();
  const second = aNode("restarted", { fanout, dataDir: folder.path });
  try {
    assert.ok(await second.whenReady(10_000));
    const sessionId = await signIn();
    const revoke = await submit("operator", { type: "revokeSession", sessionId, reason: "operator" });
    assert.ok(revoke.type === "done");
    const target = { type: "link", link: revoke.link } as const;
    const receipt = await aClient("operator").receipt(target, { wait: "all", timeoutMs: 3_000 });
    assert.equal(receipt.complete, true, JSON.stringify(receipt));
    assert.deepEqual(
      receipt.nodes.filter(({ node }) => node === "restarted").map(({ boot }) => boot),
      [second.boot],
    );
  } finally {
    await second.goodbye();
    await second.stop();
  }
});
