/** Node identity over the real HTTP API: what an insider with the enrolment secret cannot claim for another node. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import type { Link } from "../../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  type BrokerClient,
  createBrokerClient,
  type MessageKind,
  type Role,
  signReplacement,
} from "../../../src/replication/wire/index.ts";
import {
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  quiet,
  random,
  revoke,
  secret,
  sharedLog,
} from "../support.ts";

let log: EventLog;
let broker: Broker;
let server: DatabrokerServer;
let proxy: BrokerClient;
let authenticate: BrokerClient;
let operator: BrokerClient;

async function start(): Promise<void> {
  broker = brokerOn(log);
  server = await startDatabrokerServer({
    ...{ broker, cluster, secret, previousSecret: null, clock: systemClock, logger: quiet },
    listen: { host: "127.0.0.1", port: 0 },
  });
  const client = (role: Role): BrokerClient =>
    createBrokerClient({
      ...{ urls: [new URL(server.url)], cluster, role, name: "test", secret },
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
  [proxy, authenticate, operator] = [client("proxy"), client("authenticate"), client("operator")];
}
async function stop(): Promise<void> {
  for (const each of [proxy, authenticate, operator]) await each.close();
  await server.close();
  await broker.stop();
}
before(async () => {
  log = sharedLog(createMemoryLog());
  await start();
});
after(stop);

let sessions = 0;
/** Revokes a session. @returns the node's status in a receipt now */
async function revocation() {
  sessions += 1;
  const id = `word-${sessions}`;
  assert.equal((await authenticate.submit(asked(createSession(id, "alice")))).type, "done");
  const revoked = await operator.submit(asked(revoke(id)));
  if (revoked.type !== "done") return assert.fail();
  const { link } = revoked;
  const statusOf = async (of: FakeNode) => {
    const receipt = await operator.receipt({ type: "link", link }, { wait: "none", timeoutMs: 0 });
    return receipt.nodes.find(({ boot }) => boot === of.boot)?.status;
  };
  return { link, statusOf };
}

function said(by: FakeNode, kind: MessageKind, of: FakeNode, enforced: Link): Uint8Array {
  const { node, boot } = of;
  const nonce = of.nonce + 1_000;
  switch (kind) {
    case "renew":
      return by.sealed(kind, { ...of.renew({ enforced, applied: enforced }), nonce });
    case "confirm":
      return by.sealed(kind, { node, boot, nonce, enforced });
    default:
      return by.sealed("goodbye", { node, boot, nonce });
  }
}

describe("an insider that enrols its own key under the name and boot of a live node", () => {
  for (const kind of ["renew", "confirm", "goodbye"] as const) {
    test(`is refused its ${kind}, and the receipt still waits for the node`, async () => {
      const honest = new FakeNode(`honest-${kind}`);
      await honest.lease(proxy);
      const insider = new FakeNode(honest.node, { boot: honest.boot });
      const { link, statusOf } = await revocation();
      const before = broker.metrics()["envelopesRefused"] ?? 0;
      await assert.rejects(proxy.lease(said(insider, kind, honest, link)), /the boot belongs to another key/);
      assert.equal(broker.metrics()["envelopesRefused"], before + 1);
      assert.equal(await statusOf(honest), "unconfirmed");
      await honest.confirm(proxy, link);
      assert.equal(await statusOf(honest), "applied");
      await honest.goodbye(proxy);
    });
  }

  test("is refused by a leader that has not heard from the node yet", async () => {
    const honest = new FakeNode("survivor");
    await honest.lease(proxy);
    await stop();
    await start();
    const { link, statusOf } = await revocation();
    const insider = new FakeNode(honest.node, { boot: honest.boot });
    for (const kind of ["renew", "confirm", "goodbye"] as const)
      await assert.rejects(proxy.lease(said(insider, kind, honest, link)), /the boot belongs to another key/);
    assert.equal(await statusOf(honest), "unconfirmed");
    await honest.goodbye(proxy);
  });

  test("gets its own lease under that name, which does not affect the node's", async () => {
    const honest = new FakeNode("twice");
    await honest.lease(proxy);
    const insider = new FakeNode("twice");
    await insider.lease(proxy);
    const { link, statusOf } = await revocation();
    await insider.confirm(proxy, link);
    assert.deepEqual([await statusOf(honest), await statusOf(insider)], ["unconfirmed", "applied"]);
    await insider.goodbye(proxy);
    assert.equal(await statusOf(honest), "unconfirmed");
    await honest.goodbye(proxy);
  });
});

describe("a boot id of an older build, which commits to no key", () => {
  test("is pinned to the first key that uses it", async () => {
    const old = new FakeNode("old-build", { boot: "7d4ffcf3-6f5e-4f8c-a2d4-2c6f0b3a9a11" });
    await old.lease(proxy);
    const insider = new FakeNode("old-build", { boot: old.boot });
    const { link, statusOf } = await revocation();
    for (const kind of ["renew", "confirm", "goodbye"] as const)
      await assert.rejects(proxy.lease(said(insider, kind, old, link)), /another key has signed for this boot/);
    assert.equal(await statusOf(old), "unconfirmed");
    await old.goodbye(proxy);
  });
});

describe("a boot that is named as replaced", () => {
  test("is still awaited if the claim has no proof, or another boot's proof", async () => {
    const honest = new FakeNode("claimed");
    await honest.lease(proxy);
    const { statusOf } = await revocation();
    const claims = [
      undefined,
      signReplacement(random(32), { cluster, node: honest.node, replaced: honest.boot, by: honest.boot }),
    ];
    for (const replacementProof of claims) {
      const insider = new FakeNode(honest.node);
      const before = broker.metrics()["replacementsRefused"] ?? 0;
      await insider.lease(proxy, {
        replaces: honest.boot,
        ...(replacementProof === undefined ? {} : { replacementProof }),
      });
      assert.equal(broker.metrics()["replacementsRefused"], before + 1);
      assert.equal(await statusOf(honest), "unconfirmed");
      await insider.goodbye(proxy);
    }
    await honest.goodbye(proxy);
  });

  test("is still awaited if its proof was signed for a third boot", async () => {
    const honest = new FakeNode("notLeader");
    await honest.lease(proxy);
    const { statusOf } = await revocation();
    const { node, boot: replaced } = honest;
    const meant = new FakeNode("notLeader");
    const proof = signReplacement(honest.key.seed, { cluster, node, replaced, by: meant.boot });
    const insider = new FakeNode("notLeader");
    await insider.lease(proxy, { replaces: replaced, replacementProof: proof });
    assert.equal(await statusOf(honest), "unconfirmed");
    await meant.lease(proxy, { replaces: replaced, replacementProof: proof });
    assert.equal(await statusOf(honest), undefined);
    for (const each of [insider, meant]) await each.goodbye(proxy);
  });
});
