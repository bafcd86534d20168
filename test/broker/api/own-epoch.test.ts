/** Claims about epochs and other processes over the real HTTP API. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import type { Epoch, Hash, Link, Position } from "../../../src/events/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { asked, brokerOn, cluster, FakeNode, quiet, random, secret, sharedLog } from "../support.ts";

let broker: Broker;
let server: DatabrokerServer;
const clients: BrokerClient[] = [];

before(async () => {
  broker = brokerOn(sharedLog(createMemoryLog()));
  server = await startDatabrokerServer({
    ...{ broker, cluster, secret, previousSecret: null, clock: systemClock, logger: quiet },
    listen: { host: "127.0.0.1", port: 0 },
  });
  await waitFor("the broker to lead", () => broker.leading());
});
after(async () => {
  for (const client of clients) await client.close();
  await server.close();
  await broker.stop();
});

function as(role: Role, name = `${role}-1`): BrokerClient {
  const client = createBrokerClient({
    ...{ urls: [new URL(server.url)], cluster, role, name, secret },
    ...{ clock: systemClock, randomBytes: random, logger: quiet, submitMs: 2_000 },
  });
  clients.push(client);
  return client;
}

const later = (epoch: number): Link => ({
  ...{ epoch: epoch as Epoch, position: 1 as Position, hash: "b".repeat(64) as Hash },
});
const metric = (name: string): number => broker.metrics()[name] ?? 0;

test("a leader checks a later epoch that a node claims in the store and opens one above it; repeated claims are rate limited", async () => {
  const node = new FakeNode("liar");
  const proxy = as("proxy");
  await node.lease(proxy);
  for (let claims = 0; claims < 40; claims++) {
    const ours = metric("epoch");
    node.enforced = later(ours + 1_000);
    await node.lease(proxy).catch(() => undefined);
    await waitFor("the broker to lead", () => broker.leading());
  }
  assert.ok(metric("epochClaims") >= 1 && metric("epochClaims") <= 12, String(metric("epochClaims")));
  assert.ok(metric("epochClaimsRefused") >= 1);
  assert.ok(metric("epoch") <= 20_000, String(metric("epoch")));
});

test("a leader also opens an epoch above one that a credential of a lost history names", async () => {
  const ours = metric("epoch");
  await waitFor("a claim to be looked up", async () => {
    const lostEpoch = (ours + 5) as Epoch;
    await new FakeNode("asks").lease(as("proxy"), { lostEpoch }).catch(() => undefined);
    return metric("epoch") > lostEpoch;
  });
});

test("a claim of an epoch far ahead changes nothing, so no claim drives the number to its maximum", async () => {
  const before = { epoch: metric("epoch"), opened: metric("epochsOpened"), refused: metric("epochClaimsRefused") };
  const node = new FakeNode("far-ahead");
  node.enforced = later(Number.MAX_SAFE_INTEGER);
  await node.lease(as("proxy")).catch(() => undefined);
  assert.ok(metric("epochClaimsRefused") > before.refused);
  assert.deepEqual([metric("epoch"), metric("epochsOpened")], [before.epoch, before.opened]);
  assert.ok(broker.leading());
});

test("a process activates a configuration only in its own name", async () => {
  const activate = (nodeId: string) =>
    asked({ type: "activateConfiguration", nodeId: nodeId as never, configHash: "ab" as never });
  const other = await as("proxy", "proxy-7").submit(activate("proxy-8"));
  assert.deepEqual([other.type, other.type === "refused" && other.code], ["refused", "forbidden"]);
  assert.equal((await as("proxy", "proxy-7").submit(activate("proxy-7"))).type, "done");
});

test("an erasure that a node reports as lost destroys no key", async () => {
  const { createSession, user } = await import("../support.ts");
  const authenticate = as("authenticate");
  assert.equal((await authenticate.submit(asked(createSession("kept", "carol")))).type, "done");
  const lost = {
    ...{ link: later(1), stream: `user:${user("carol")}`, type: "UserErased", userId: user("carol") },
    recordedAt: 1 as never,
  };
  const result = await as("proxy").submit(asked({ type: "reassertTightenings", events: [lost as never] }));
  assert.equal(result.type, "done");
  const restored = await as("operator").submit(asked({ type: "restoreUser", userId: user("carol") }));
  assert.equal(restored.type, "done", "suspended, not erased");
});
