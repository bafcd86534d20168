/**
 * Receipts and leases of a leader: which nodes a receipt waits for, which messages of nodes count, and when a node gets
 * a grant.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Broker, BrokerOptions } from "../../src/broker/index.ts";
import {
  decode,
  encode,
  type Link,
  type Position,
  parseHash,
  type SessionId,
  type UserId,
} from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import type { ReceiptTarget } from "../../src/replication/index.ts";
import { fenceAfterMs } from "../../src/replication/lease/index.ts";
import { createMemoryLog, type EventLog } from "../../src/replication/log/index.ts";
import { startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { LogWriter } from "../support/log-writer.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  aCommandId,
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
} from "./support.ts";

const short = { deltaMs: 300, drift: 0.01, beatMs: 20, windowMaxMs: 5_000 };

async function withBroker(
  run: (broker: Broker, log: EventLog) => Promise<void>,
  parts: Partial<BrokerOptions> = {},
): Promise<void> {
  const log = parts.log ?? sharedLog();
  const broker = brokerOn(log, { lease: short, ...parts });
  try {
    await run(broker, log);
  } finally {
    await broker.stop();
  }
}

/** Creates and revokes a session. @returns the link and command of the revocation */
async function revocation(broker: Broker): Promise<Readonly<{ link: Link; target: ReceiptTarget }>> {
  const id = `s-${aCommandId()}`;
  await broker.databroker("authenticate").submit(asked(createSession(id, "alice")));
  const result = await broker.databroker("operator").submit(asked(revoke(id)));
  if (result.type !== "done") return assert.fail(JSON.stringify(result));
  return { link: result.link, target: { type: "command", commandId: result.commandId } };
}
const ask = (broker: Broker, target: ReceiptTarget, timeoutMs = 5_000, wait: "all" | "none" = "all") =>
  broker.databroker("operator").receipt(target, { wait, timeoutMs });

describe("receipts", () => {
  test("without any node to wait for, a receipt is complete at once, by command id and by link", async () => {
    await withBroker(async (broker) => {
      const { link, target } = await revocation(broker);
      for (const each of [target, { type: "link", link } as const]) {
        const receipt = await ask(broker, each, 0);
        assert.deepEqual([receipt.status, receipt.link], ["complete", link]);
      }
    });
  });

  test("a node's confirmation counts as applied and completes the waiting receipt", async () => {
    await withBroker(async (broker) => {
      const node = new FakeNode("proxy-1");
      const port = broker.databroker("proxy");
      await node.lease(port);
      const { link, target } = await revocation(broker);
      const before = await ask(broker, target, 0);
      assert.deepEqual([before.complete, before.nodes[0]?.status], [false, "unconfirmed"]);
      const waiting = ask(broker, target);
      await node.confirm(port, link);
      const receipt = await waiting;
      assert.deepEqual([receipt.complete, receipt.nodes[0]?.status], [true, "applied"]);
    });
  });

  test("a renew that carries `enforced` counts as a confirmation", async () => {
    await withBroker(async (broker) => {
      const node = new FakeNode("proxy-1");
      await node.lease(broker.databroker("proxy"));
      const { link, target } = await revocation(broker);
      node.enforced = link;
      await node.lease(broker.databroker("proxy"));
      assert.equal((await ask(broker, target, 0)).complete, true);
    });
  });

  test("a silent node is fenced after its W and not before; only then is the receipt complete", async () => {
    await withBroker(async (broker) => {
      const node = new FakeNode("proxy-1");
      node.windowMs = 500;
      const startedAt = performance.now();
      await node.lease(broker.databroker("proxy"));
      const { target } = await revocation(broker);
      const early = await ask(broker, target, 0);
      assert.ok(early.completeInMs > 0 && early.completeInMs <= fenceAfterMs(500, 0.01));
      const receipt = await ask(broker, target);
      assert.deepEqual([receipt.complete, receipt.nodes[0]?.status], [true, "fenced"]);
      assert.ok(performance.now() - startedAt >= fenceAfterMs(500, 0.01));
    });
  });

  test("at its timeout a receipt names the missing node and the time until its fence", async () => {
    await withBroker(async (broker) => {
      const node = new FakeNode("proxy-1");
      node.windowMs = 4_000;
      await node.lease(broker.databroker("proxy"));
      const { target } = await revocation(broker);
      const receipt = await ask(broker, target, 50);
      assert.deepEqual([receipt.status, receipt.nodes[0]?.node], ["incomplete", "proxy-1"]);
      assert.ok((receipt.nodes[0]?.fencedInMs ?? 0) > 3_000);
    });
  });

  test("a goodbye, and a new boot of the same node, complete a receipt that waits for the old one", async () => {
    await withBroker(async (broker) => {
      const port = broker.databroker("proxy");
      const [leaving, restarted] = [new FakeNode("proxy-1"), new FakeNode("proxy-2", { boot: "old" })];
      for (const node of [leaving, restarted]) {
        node.windowMs = 4_000;
        await node.lease(port);
      }
      const { link, target } = await revocation(broker);
      const waiting = ask(broker, target);
      await leaving.goodbye(port);
      const next = new FakeNode("proxy-2", { boot: "new" });
      await next.lease(port, { replaces: restarted.boot, enforced: link });
      // Complete as soon as both are gone: the new boot's first grant names a head that holds the revocation.
      assert.equal((await waiting).complete, true);
      assert.deepEqual(
        (await ask(broker, target)).nodes.map(({ boot, status }) => [boot, status]),
        [["new", "applied"]],
      );
      await assert.rejects(leaving.lease(port), { code: "ERR_BROKER_LEASE_REFUSED" });
      await restarted.lease(port); // it is alive, so receipts wait for it again
      assert.deepEqual(
        (await ask(broker, (await revocation(broker)).target, 0)).nodes.map(({ boot, status }) => [boot, status]),
        [
          ["new", "unconfirmed"],
          ["old", "unconfirmed"],
        ],
      );
    });
  });

  test("a receipt reports lost for an unknown command or a link of another history", async () => {
    await withBroker(async (broker) => {
      const { link } = await revocation(broker);
      const unknown = await ask(broker, { type: "command", commandId: aCommandId() }, 0);
      assert.deepEqual([unknown.status, unknown.complete, unknown.link], ["lost", false, null]);
      const forged = { ...link, hash: parseHash("a".repeat(64)) };
      assert.equal((await ask(broker, { type: "link", link: forged }, 0)).status, "lost");
      const ahead = { ...link, position: (link.position + 50) as typeof link.position };
      assert.equal((await ask(broker, { type: "link", link: ahead }, 0)).status, "lost");
    });
  });

  test("a revocation of an already revoked session has a receipt too", async () => {
    await withBroker(async (broker) => {
      const node = new FakeNode("proxy-1");
      await node.lease(broker.databroker("proxy"));
      const operator = broker.databroker("operator");
      await broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      await operator.submit(asked(revoke("s1")));
      const again = await operator.submit(asked(revoke("s1")));
      assert.equal(again.type === "done" && again.changed, false);
      const target = { type: "command", commandId: again.commandId } as const;
      assert.equal((await ask(broker, target, 0)).complete, false);
      if (again.type === "done") await node.confirm(broker.databroker("proxy"), again.link);
      assert.equal((await ask(broker, target, 0)).complete, true);
    });
  });
});

describe("messages that are not authentic", () => {
  const strangers: readonly (readonly [string, FakeNode])[] = [
    ["under another secret", new FakeNode("proxy-1", { secret: new Uint8Array(32).fill(1) })],
    ["of another cluster", new FakeNode("proxy-1", { cluster: "other" })],
  ];
  for (const [what, stranger] of strangers) {
    test(`a renew ${what} gets no lease`, async () => {
      await withBroker(async (broker) => {
        await broker.databroker("authenticate").submit(asked(createSession("s", "alice")));
        await assert.rejects(stranger.lease(broker.databroker("proxy")), { code: "ERR_BROKER_LEASE_REFUSED" });
        assert.equal(broker.metrics()["envelopesRefused"], 1);
      });
    });
  }

  test("a confirmation that is forged, replayed, altered or of another history does not count", async () => {
    await withBroker(async (broker) => {
      const port = broker.databroker("proxy");
      const [honest, liar] = [new FakeNode("proxy-1"), new FakeNode("proxy-2")];
      honest.windowMs = liar.windowMs = 4_000;
      for (const node of [honest, liar]) await node.lease(port);
      const early = honest.sealed("confirm", { ...honest, nonce: 2, enforced: honest.enforced });
      await port.lease(early);
      const { link, target } = await revocation(broker);
      const { node, boot } = honest;
      const refused = async (envelope: Uint8Array) =>
        assert.rejects(port.lease(envelope), { code: "ERR_BROKER_LEASE_REFUSED" });
      await refused(liar.sealed("confirm", { node, boot, nonce: 99, enforced: link }));
      await refused(early);
      const broken = honest.sealed("confirm", { node, boot, nonce: 3, enforced: link });
      broken[broken.length - 70] = (broken[broken.length - 70] ?? 0) ^ 1;
      await refused(broken);
      const foreign = { ...link, hash: parseHash("b".repeat(64)) };
      await refused(honest.sealed("confirm", { node, boot, nonce: 4, enforced: foreign }));
      await refused(new Uint8Array([1, 2, 3]));
      const receipt = await ask(broker, target, 0);
      assert.deepEqual(
        receipt.nodes.map(({ status }) => status),
        ["unconfirmed", "unconfirmed"],
      );
    });
  });

  test("a confirmation altered into a goodbye releases no boot", async () => {
    await withBroker(async (broker) => {
      const port = broker.databroker("proxy");
      const node = new FakeNode("proxy-1");
      await node.lease(port);
      const fields = decode(node.sealed("confirm", { ...node, nonce: 2, enforced: node.enforced }));
      if (!Array.isArray(fields)) return assert.fail();
      assert.equal(fields[1], "confirm");
      await assert.rejects(port.lease(encode(fields.with(1, "goodbye"))), { code: "ERR_BROKER_LEASE_REFUSED" });
      const { target } = await revocation(broker);
      assert.deepEqual(
        (await ask(broker, target, 0)).nodes.map(({ status }) => status),
        ["unconfirmed"],
      );
    });
  });

  test("a confirmed link older than the leader's memory is checked against the log: a forged one is refused, a true one counts", async () => {
    const store = createMemoryLog();
    const writer = await LogWriter.open(store);
    const old = writer.head;
    const userId = "u" as UserId;
    for (let batch = 0; batch < 17; batch++) {
      const events = Array.from({ length: 2_000 }, (_, n) => ({
        ...({ type: "SessionRevoked", sessionId: `s-${batch}-${n}` as SessionId, userId, reason: "operator" } as const),
      }));
      assert.equal((await writer.append([{ events }])).type, "appended");
    }
    await withBroker(
      async (broker) => {
        const port = broker.databroker("proxy");
        const node = new FakeNode("proxy-1");
        node.windowMs = 4_000;
        await waitFor("a lease", () => node.lease(port).catch(() => undefined));
        const forged = { ...old, hash: parseHash("c".repeat(64)) };
        assert.equal((await ask(broker, { type: "link", link: forged }, 0)).status, "lost");
        const target = { type: "link", link: old } as const;
        assert.equal((await ask(broker, target, 0)).status, "incomplete");
        await assert.rejects(node.confirm(port, forged), { code: "ERR_BROKER_LEASE_REFUSED" });
        assert.equal((await ask(broker, target, 0)).status, "incomplete");
        await node.confirm(port, old);
        assert.equal(
          (await ask(broker, target, 0)).status,
          "incomplete",
          "it may have been confirmed before this epoch",
        );
        const opening = await store.linkAt((writer.head.position + 1) as Position);
        await node.confirm(port, opening ?? assert.fail());
        assert.equal((await ask(broker, target, 0)).nodes[0]?.status, "applied");
      },
      { log: sharedLog(store) },
    );
  });

  test("a goodbye in another node's name releases no boot", async () => {
    await withBroker(async (broker) => {
      const port = broker.databroker("proxy");
      const [honest, liar] = [new FakeNode("proxy-1"), new FakeNode("proxy-2")];
      for (const node of [honest, liar]) await node.lease(port);
      const { node, boot } = honest;
      await assert.rejects(port.lease(liar.sealed("goodbye", { node, boot, nonce: 9 })));
      const { target } = await revocation(broker);
      assert.equal((await ask(broker, target, 0)).nodes.length, 2);
    });
  });

  test("a node with a diverged projection counts as applied in no receipt until it reports the right digest", async () => {
    await withBroker(
      async (broker) => {
        const [node, port] = [new FakeNode("proxy-1"), broker.databroker("proxy")];
        node.windowMs = 4_000;
        const { link: before } = await revocation(broker);
        const digest = (await broker.databroker("operator").status()).leader?.digest ?? assert.fail();
        await node.lease(port, { version: "1", enforced: before, applied: before, digest });
        const { link, target } = await revocation(broker);
        await node.confirm(port, link); // and folded it differently
        const statusOf = async () => (await ask(broker, target, 0)).nodes[0];
        const said = { version: "1", applied: link, enforced: link };
        await assert.rejects(node.lease(port, { ...said, digest: "0".repeat(64) }), /projection differs/);
        assert.deepEqual([(await statusOf())?.status, (await statusOf())?.enforced], ["unconfirmed", null]);
        assert.match((await statusOf())?.reason ?? "", /no longer gets a lease: its projection differs/);
        await assert.rejects(node.confirm(port, link), /projection differs/);
        const built = (await broker.databroker("operator").status()).leader?.digest ?? assert.fail();
        await node.lease(port, { ...said, digest: built });
        assert.equal((await statusOf())?.status, "applied");
      },
      { version: "1" },
    );
  });

  test("a node whose projection differs from the leader's at one link gets no lease; one of another build is only reported", async () => {
    await withBroker(
      async (broker) => {
        const { link } = await revocation(broker);
        const port = broker.databroker("proxy");
        const wrong = { applied: link, enforced: link, digest: "0".repeat(64) };
        await assert.rejects(new FakeNode("proxy-1").lease(port, { ...wrong, version: "1" }), /projection differs/);
        await new FakeNode("proxy-2").lease(port, { ...wrong, version: "2" });
        const { nodes } = await broker.databroker("operator").status();
        assert.deepEqual(
          nodes.map(({ node, digestMismatch }) => [node, digestMismatch]),
          [["proxy-2", true]],
        );
        assert.equal(broker.metrics()["digestMismatches"], 2);
      },
      { version: "1" },
    );
  });
});

describe("grants", () => {
  test("a node gets no grant after a failed beat, and gets one at its next renew", async () => {
    const log = sharedLog();
    let failing = true;
    const fault = {
      ...log,
      beat: async (r: Parameters<EventLog["beat"]>[0]) =>
        failing ? ({ type: "unavailable", cause: 0 } as const) : log.beat(r),
    };
    await withBroker(
      async (broker) => {
        await broker.databroker("authenticate").submit(asked(createSession("s", "alice")));
        const node = new FakeNode("proxy-1");
        const port = broker.databroker("proxy");
        await assert.rejects(node.lease(port), { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" });
        failing = false;
        assert.equal((await node.lease(port)).nonce, 2);
      },
      { log: fault },
    );
  });

  test("the row of a lessee is stored before the grant is sent, and removed by the goodbye", async () => {
    await withBroker(async (broker, log) => {
      const node = new FakeNode("proxy-1");
      const port = broker.databroker("proxy");
      const grant = await node.lease(port);
      assert.deepEqual(
        (await log.lessees()).map(({ boot, windowMs }) => [boot, windowMs]),
        [[node.boot, grant.windowMs]],
      );
      await node.goodbye(port);
      await waitFor("the row to be removed", async () => (await log.lessees()).length === 0);
    });
  });

  test("a node that has seen a later epoch makes the leader open one above it before any grant", async () => {
    await withBroker(async (broker, log) => {
      const { link } = await revocation(broker);
      const node = new FakeNode("proxy-1");
      const later = { ...link, epoch: (link.epoch + 6) as typeof link.epoch };
      await node.lease(broker.databroker("proxy"), { applied: later }).catch(() => undefined);
      const grant = await waitFor("a grant", () => node.lease(broker.databroker("proxy")).catch(() => undefined));
      assert.ok(grant.epoch > link.epoch + 6);
      assert.equal((await log.observe()).epoch, grant.epoch);
    });
  });

  test("three real nodes confirm a revocation, and a stopped one is named until it is fenced", async () => {
    const fanout = createLocalFanout({ logger: quiet });
    await withBroker(
      async (broker) => {
        const nodes = ["proxy-1", "proxy-2", "proxy-3"].map((name) =>
          startReplica({
            ...{ name: name as never, role: "proxy", region: "eu", version: "1" },
            ...{ configHash: () => "c", cluster, secret, databroker: broker.databroker("proxy"), fanout },
            ...{ clock: systemClock, randomBytes: random, logger: quiet, windowMs: () => 1_000, dataDir: null },
            renewMs: 100,
          }),
        );
        try {
          for (const node of nodes) assert.ok(await node.whenReady(5_000));
          const first = await ask(broker, (await revocation(broker)).target);
          assert.deepEqual(
            first.nodes.map(({ status }) => status),
            ["applied", "applied", "applied"],
          );
          await nodes[2]?.stop();
          const { target } = await revocation(broker);
          const missing = await ask(broker, target, 100);
          assert.deepEqual(
            missing.nodes.map(({ status }) => status),
            ["applied", "applied", "unconfirmed"],
          );
          const complete = await ask(broker, target);
          assert.deepEqual([complete.complete, complete.nodes[2]?.status], [true, "fenced"]);
        } finally {
          for (const node of nodes) await node.stop();
        }
      },
      { fanout },
    );
  });

  test("a broker with an exclusive log writes no beats and no rows of lessees", async () => {
    const log = createMemoryLog();
    await withBroker(
      async (broker) => {
        const node = new FakeNode("proxy-1");
        await broker.databroker("authenticate").submit(asked(createSession("s", "alice")));
        await node.lease(broker.databroker("proxy"));
        assert.deepEqual([broker.metrics()["beats"], (await log.lessees()).length], [0, 0]);
        const { link, target } = await revocation(broker);
        assert.equal((await ask(broker, target, 0)).complete, false);
        await node.confirm(broker.databroker("proxy"), link);
        assert.equal((await ask(broker, target, 0)).complete, true);
      },
      { log },
    );
  });

  test("a node in the leader's own process is remembered when the epoch is reopened, though it has no row", async () => {
    const log = createMemoryLog();
    await withBroker(
      async (broker) => {
        await broker.databroker("authenticate").submit(asked(createSession("s", "alice")));
        const node = new FakeNode("proxy-1");
        node.windowMs = 4_000;
        await node.lease(broker.databroker("proxy"));
        for (let reopened = 1; reopened <= 2; reopened++) {
          const { epoch, head } = await log.observe();
          const later = { ...head, epoch: (head.epoch + 1) as typeof head.epoch };
          await new FakeNode("proxy-2").lease(broker.databroker("proxy"), { applied: later }).catch(() => undefined);
          await waitFor("the next epoch", () => broker.leading() && (broker.metrics()["epoch"] ?? 0) > epoch);
          const { link, target } = await revocation(broker);
          const open = await ask(broker, target, 0);
          assert.deepEqual(
            open.nodes.map((each) => [each.node, each.status, (each.fencedInMs ?? 0) > 3_000]),
            [["proxy-1", "unconfirmed", true]],
          );
          if (reopened === 2) {
            await node.lease(broker.databroker("proxy"), { enforced: link });
            assert.equal((await ask(broker, target, 0)).complete, true);
          }
        }
      },
      // These epochs are in no log: without a node in another process, nothing is held for them.
      { log, lease: { ...short, remoteWindowMaxMs: 0 } },
    );
  });
});
