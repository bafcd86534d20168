/**
 * A hostile NATS client without any secret: its messages are dropped before they are decoded, and the cluster keeps
 * working.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type Broker, startDatabrokerServer } from "../../src/broker/index.ts";
import { type NodeId, parseBootId } from "../../src/events/index.ts";
import { connectNatsFanout, type Fanout } from "../../src/replication/fanout/index.ts";
import { createMemoryLog } from "../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../src/replication/wire/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, secret, session } from "../broker/support.ts";
import {
  type HostileNatsClient,
  hostileKinds,
  hostileMessage,
  startHostileNatsClient,
} from "../support/hostile-nats-client.ts";
import { startNats } from "../support/nats.ts";
import { waitFor } from "../support/wait-for.ts";

describe("a hostile client on NATS", () => {
  const cleanups: (() => Promise<unknown>)[] = [];
  let broker: Broker;
  let node: ReplicaProcess;
  let fanout: Fanout;
  let stranger: HostileNatsClient;

  before(async () => {
    const nats = await startNats();
    cleanups.push(() => nats.stop());
    const fanoutOf = (name: string): Fanout => {
      const opened = connectNatsFanout({
        ...{ servers: nats.urls, cluster, name, secrets: [secret], logger: quiet, randomBytes: random },
        keepReplayBuffer: name === "broker-1",
      });
      cleanups.push(() => opened.close());
      return opened;
    };
    broker = brokerOn(createMemoryLog(), { fanout: fanoutOf("broker-1") });
    cleanups.push(() => broker.stop());
    const server = await startDatabrokerServer({
      ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port: 0 } },
    });
    cleanups.push(() => server.close());
    await waitFor("a leader", () => broker.leading());
    fanout = fanoutOf("node-1");
    const client = createBrokerClient({
      ...{ urls: [new URL(server.url)], cluster, role: "proxy", name: "node-1", secret },
      ...{ clock: systemClock, randomBytes: random, logger: quiet },
    });
    cleanups.push(() => client.close());
    node = startReplica({
      ...{ name: "node-1" as NodeId, boot: parseBootId(randomUUID()), role: "proxy", region: "eu", version: "test" },
      ...{ configHash: () => "c", cluster, secret, databroker: client, fanout, clock: systemClock, logger: quiet },
      ...{ randomBytes: random, windowMs: () => 60_000, dataDir: null, renewMs: 200 },
    });
    cleanups.push(() => node.stop());
    assert.ok(await node.whenReady(60_000));
    stranger = await startHostileNatsClient({ servers: nats.urls, cluster });
    cleanups.push(() => stranger.close());
    await waitFor("connections", () => fanout.status().healthy);
    await signIn("first");
    await waitFor("the hostile client to receive a batch", () => stranger.overheard() !== undefined);
  });
  after(async () => {
    for (const end of cleanups.reverse()) await end();
  });

  async function signIn(id: string): Promise<void> {
    const result = await broker.databroker("authenticate").submit(asked(createSession(id, "alice")));
    assert.equal(result.type, "done");
    await waitFor("the node to follow", () => node.projection.sessionStatus(session(id)).status === "active");
  }
  const refused = (): number => Object.values(fanout.status().refused ?? {}).reduce((sum, count) => sum + count, 0);

  // All of them together stay below 32 MiB per second, the limit of a flood.
  for (const kind of hostileKinds) {
    test(`that sends ${kind} messages does not stop deliveries: each message is counted, and few are verified`, async () => {
      const [before, deliveredBefore] = [refused(), fanout.status().delivered];
      const count = kind.startsWith("extensions") || kind === "deep-nesting" || kind === "large-headers" ? 5 : 300;
      const startedAtMs = performance.now();
      await stranger.send(kind, count);
      await waitFor("all of them to be counted", () => refused() >= before + count);
      const verifiedMax = 101 + (performance.now() - startedAtMs) / 20; // the budget and its refill in the meantime
      assert.ok(fanout.status().delivered - deliveredBefore <= verifiedMax, "at most the budget was verified");
      assert.equal(refused(), before + count, "nothing else was refused");
      const delivered = fanout.status().delivered;
      await signIn(`after-${kind}`);
      await waitFor("the genuine delivery", () => fanout.status().delivered > delivered);
      assert.equal(node.metrics().rebuilds, 0);
    });
  }

  test("adds at most 200 untagged messages to a replay, although the stream stores everything it published", async () => {
    const replayed = (await fanout.replay?.({ sinceMs: 600_000, timeoutMs: 20_000 })) ?? [];
    const genuine = hostileKinds.length + 1;
    assert.ok(replayed.length > 0, "the replay is empty");
    assert.ok(replayed.length <= 200 + genuine, `${replayed.length}: at most 200 without a tag`);
  });

  test("that floods a node makes it stop listening and report it; the node follows by reads, and listens again later", async () => {
    const junk = hostileMessage("small", undefined);
    await waitFor(
      "the flood to be noticed",
      async () => {
        await stranger.flood(junk, 12_000);
        return (fanout.status().floods ?? 0) > 0;
      },
      { withinMs: 60_000 },
    );
    assert.equal(fanout.status().healthy, false);
    assert.match(fanout.status().detail, /flood/);
    await signIn("during-the-flood");
    await waitFor("the node to listen again", () => fanout.status().healthy, { withinMs: 60_000 });
    const delivered = fanout.status().delivered;
    await signIn("after-the-flood");
    await waitFor("a delivery", () => fanout.status().delivered > delivered);
    assert.ok(node.ready().ready);
  });
});
