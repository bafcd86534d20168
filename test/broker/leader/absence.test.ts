/**
 * Absent nodes at a leader: what its status, metrics and readiness say of nodes that went silent, over changes of the
 * leader, until they are back, gone in order, or retired.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Broker, BrokerOptions } from "../../../src/broker/index.ts";
import { type BrokerId, decodeEvents, genesis, type NodeId } from "../../../src/events/index.ts";
import type { Databroker, Logger } from "../../../src/replication/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { LogWriter } from "../../support/log-writer.ts";
import { waitFor } from "../../support/wait-for.ts";
import { asked, brokerOn, createSession, FakeNode, quiet, sharedLog } from "../support.ts";
import { aLeader, granted } from "./slow-leader.ts";

/** W is 356 ms. */
const lease = { deltaMs: 300, drift: 0.01, beatMs: 20, windowMaxMs: 300 };

async function withBroker(
  log: EventLog,
  run: (broker: Broker) => Promise<void>,
  parts: Partial<BrokerOptions> = {},
): Promise<void> {
  const broker = brokerOn(log, { lease, ...parts });
  try {
    await run(broker);
  } finally {
    await broker.stop();
  }
}

function nodeIn(region: string, name: string, boot?: string): FakeNode {
  const node = new FakeNode(name, boot === undefined ? {} : { boot });
  node.region = region;
  node.windowMs = 300;
  return node;
}

const operator = (broker: Broker): Databroker => broker.databroker("operator");
const proxy = (broker: Broker): Databroker => broker.databroker("proxy");
async function absentAt(broker: Broker): Promise<readonly string[]> {
  const { absent } = await operator(broker).status();
  return absent?.map(({ node }) => node) ?? assert.fail("the leader does not say who is absent");
}
const untilAbsent = (broker: Broker, nodes: readonly string[]) =>
  waitFor(`${nodes.join(", ") || "no node"} to be absent`, async () => {
    const absent = await absentAt(broker);
    return JSON.stringify(absent) === JSON.stringify(nodes);
  });

const retire = (nodes: readonly string[], region: string | null = null) =>
  asked({ type: "retireNodes", nodes: nodes as readonly NodeId[], region }, { actor: "operator:alice" });

/** Raises the cluster to the level at which nodes can be retired. */
async function finalize(broker: Broker): Promise<void> {
  await waitFor(
    "level 3, once gossip of other brokers would have arrived",
    async () => (await operator(broker).submit(asked({ type: "finalizeUpgrade", level: 3 }))).type === "done",
    { withinMs: 20_000 },
  );
}

/** Reads with this level's readers only. */
const modern = { reads: 3 };

describe("a node that goes silent", () => {
  test("is absent once its window has passed, and stays so under the next leader, which awaits it in no receipt", async () => {
    const log = sharedLog();
    const node = nodeIn("ap", "proxy-ap");
    await withBroker(log, async (broker) => {
      await node.lease(proxy(broker));
      assert.deepEqual(await absentAt(broker), [], "its lease counts");
      await untilAbsent(broker, ["proxy-ap"]);
      const { reasons, ready } = broker.ready();
      assert.equal(ready, true, "the leader itself is ready");
      assert.deepEqual(reasons, ["region ap is cut off", "1 node is absent"]);
    });
    // A leader forgets the lessee a minute after its window.
    const writer = await LogWriter.open(log);
    await writer.beat({ left: await log.lessees() });
    assert.deepEqual(await log.lessees(), []);
    await withBroker(
      log,
      async (broker) => {
        await untilAbsent(broker, ["proxy-ap"]);
        const created = await broker.databroker("authenticate").submit(asked(createSession("s1", "u1")));
        assert.ok(created.type === "done");
        const receipt = await operator(broker).receipt(
          { type: "link", link: created.link },
          { wait: "all", timeoutMs: 5_000 },
        );
        assert.equal(receipt.complete, true);
        const [region] = receipt.regions ?? [];
        assert.deepEqual([region?.region, region?.absent, region?.cutOff], ["ap", 1, true]);
        assert.ok(typeof region?.heardAt === "number");
        assert.deepEqual(
          broker.regions().map(({ region: name, absent, fenced, cutOff }) => [name, absent, fenced, cutOff]),
          [["ap", 1, 1, true]],
        );
        assert.equal(broker.metrics()["absentNodes"], 1);
        assert.equal(broker.metrics()["cutOffRegions"], 1);
      },
      { brokerId: "broker-2" as BrokerId },
    );
  });

  test("stays absent when its leader has forgotten its lease, a minute after its window", async () => {
    const leader = await aLeader();
    const node = nodeIn("ap", "proxy-ap");
    await granted(leader, node);
    await leader.runUntil(leader.now + 10_000);
    assert.deepEqual([leader.lessees, leader.absent.length], [["proxy-ap"], 1]);
    await leader.runUntil(leader.now + 60_000);
    assert.deepEqual(leader.lessees, []);
    assert.deepEqual(
      leader.absent.map(({ node: name, silentMs }) => [name, silentMs > 60_000]),
      [["proxy-ap", true]],
    );
  });

  test("is back with its next renew, also under another boot, as one node", async () => {
    const log = sharedLog();
    await withBroker(log, async (broker) => {
      await nodeIn("ap", "proxy-ap").lease(proxy(broker));
      await untilAbsent(broker, ["proxy-ap"]);
      await nodeIn("ap", "proxy-ap").lease(proxy(broker));
      assert.deepEqual(await absentAt(broker), []);
      assert.equal((await log.admittedNodes()).length, 1);
      await untilAbsent(broker, ["proxy-ap"]);
    });
  });

  test("that said goodbye is not absent, and has no row", async () => {
    const log = sharedLog();
    await withBroker(log, async (broker) => {
      const node = nodeIn("ap", "proxy-ap");
      await node.lease(proxy(broker));
      assert.equal((await log.admittedNodes()).length, 1);
      await node.goodbye(proxy(broker));
      await waitFor("the row to be removed", async () => (await log.admittedNodes()).length === 0);
      assert.deepEqual(await absentAt(broker), []);
    });
  });

  test("leaves one line in the log when it goes, and one when it is back", async () => {
    const lines: string[] = [];
    const note = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`);
    const logger: Logger = { ...quiet, info: note, warn: note };
    await withBroker(
      sharedLog(),
      async (broker) => {
        const [near, far] = [nodeIn("eu", "proxy-eu"), nodeIn("ap", "proxy-ap")];
        let alive = [near];
        const renewing = (async () => {
          while (alive.length > 0) {
            for (const node of alive) await node.lease(proxy(broker));
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
        })();
        await far.lease(proxy(broker));
        await untilAbsent(broker, ["proxy-ap"]);
        const about = (text: string) => lines.filter((line) => line.includes(text));
        await waitFor("the line of the region", async () => about("a region is cut off").length > 0);
        alive = [near, far];
        await waitFor("the line of its end", async () => about("a region answers again").length > 0);
        alive = [];
        await renewing;
        assert.equal(about("a region is cut off").length, 1, lines.join("\n"));
        assert.match(about("a region is cut off")[0] ?? "", /"region":"ap"/);
        assert.deepEqual(
          about("nodes are absent"),
          [],
          "the nodes of a region that is cut off have no line of their own",
        );
      },
      { logger },
    );
  });
});

describe("a retired node", () => {
  test("is permanently off the list, with its actor on the record", async () => {
    const log = sharedLog();
    await withBroker(log, async (broker) => {
      const [gone, other] = [nodeIn("ap", "proxy-ap"), nodeIn("ap", "proxy-ap-2")];
      await gone.lease(proxy(broker), modern);
      await other.lease(proxy(broker), modern);
      await untilAbsent(broker, ["proxy-ap", "proxy-ap-2"]);
      const early = await operator(broker).submit(retire(["proxy-ap"]));
      assert.ok(
        early.type === "refused" && /needs level 3.*cluster finalize/.test(early.message),
        JSON.stringify(early),
      );
      await finalize(broker);
      const result = await operator(broker).submit(retire(["proxy-ap"]));
      assert.equal(result.type, "done", JSON.stringify(result));
      assert.deepEqual(await absentAt(broker), ["proxy-ap-2"]);
      const tooOld = nodeIn("ap", "proxy-ap-2", "boot-too-old");
      await assert.rejects(tooOld.lease(proxy(broker), { reads: 1 }), /finalized level 3/);
      assert.deepEqual(await absentAt(broker), ["proxy-ap-2"], "a boot that gets no lease does not take its place");
      const page = await log.read(genesis, 1_000);
      assert.ok(page.type === "page");
      const recorded = decodeEvents(page.page.entries, genesis).find(({ type }) => type === "NodesRetired");
      assert.deepEqual(
        [recorded?.actor, recorded?.event],
        ["operator:alice", { type: "NodesRetired", nodes: [{ nodeId: "proxy-ap", role: "proxy", region: "ap" }] }],
      );
    });
    await withBroker(
      log,
      async (broker) => {
        await untilAbsent(broker, ["proxy-ap-2"]);
        const again = await operator(broker).submit(retire(["proxy-ap"]));
        assert.equal(again.type === "refused" && again.code, "not-found");
        assert.equal((await operator(broker).submit(retire([], "ap"))).type, "done");
        assert.deepEqual(await absentAt(broker), []);
        assert.deepEqual(await log.admittedNodes(), []);
      },
      { brokerId: "broker-2" as BrokerId },
    );
  });

  test("was not present, and is admitted again when it comes back", async () => {
    const log = sharedLog(createMemoryLog());
    await withBroker(log, async (broker) => {
      await operator(broker).status();
      await finalize(broker);
      const node = nodeIn("ap", "proxy-ap");
      await node.lease(proxy(broker), modern);
      const present = await operator(broker).submit(retire(["proxy-ap"]));
      assert.equal(present.type === "refused" && present.code, "conflict");
      await untilAbsent(broker, ["proxy-ap"]);
      assert.equal((await operator(broker).submit(retire(["proxy-ap"]))).type, "done");
      await node.lease(proxy(broker), modern);
      await waitFor("its row", async () => (await log.admittedNodes()).length === 1);
      await untilAbsent(broker, ["proxy-ap"]);
    });
  });

  test("that may still decide is awaited by receipts as before", async () => {
    await withBroker(sharedLog(), async (broker) => {
      await finalize(broker);
      const node = nodeIn("ap", "proxy-ap");
      await node.lease(proxy(broker), modern);
      const created = await broker.databroker("authenticate").submit(asked(createSession("s1", "u1")));
      assert.ok(created.type === "done");
      await waitFor("the node to be silent", async () => {
        const result = await operator(broker).submit(retire(["proxy-ap"]));
        return result.type === "done";
      });
      const receipt = await operator(broker).receipt(
        { type: "link", link: created.link },
        { wait: "all", timeoutMs: 5_000 },
      );
      assert.equal(receipt.complete, true);
      assert.deepEqual(
        receipt.nodes.map(({ node: name, status }) => [name, status]),
        [["proxy-ap", "fenced"]],
      );
    });
  });
});
