/** Test suite of the NATS fan-out, for a server from local binaries or from a container. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Projection } from "../../src/events/index.ts";
import { connectNatsFanout, type Fanout, type NatsFanoutOptions } from "../../src/replication/fanout/index.ts";
import { startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { FakeBrokers } from "../replication/fake-brokers.ts";
import { aNode, created, history, quiet, revoked, secret } from "../replication/support.ts";
import { envelopeOf, textIn } from "../support/envelopes.ts";
import type { NatsCluster, NatsOptions } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

export function describeNatsFanout(name: string, startNats: (options?: NatsOptions) => Promise<NatsCluster>): void {
  describe(name, () => {
    let nats: NatsCluster;
    const open: Fanout[] = [];
    let cluster = "";

    before(async () => {
      nats = await startNats();
    });
    after(async () => {
      await nats.stop();
    });
    afterEach(async () => {
      for (const fanout of open.splice(0)) await fanout.close();
    });

    function fanoutTo(servers: readonly string[], parts: Partial<NatsFanoutOptions> = {}): Fanout {
      const fanout = connectNatsFanout({
        servers,
        cluster,
        name: "test",
        secrets: [secret],
        logger: quiet,
        randomBytes: (size) => randomBytes(size),
        ...parts,
      });
      open.push(fanout);
      return fanout;
    }

    /** Switches to a new cluster name, so that tests do not receive each other's messages. */
    function newCluster(): void {
      cluster = `test-${randomBytes(4).toString("hex")}`;
    }

    const connected = (fanout: Fanout) =>
      waitFor("a connection to NATS", () => fanout.status().healthy, { withinMs: 20_000 });

    function receivedBy(fanout: Fanout): string[] {
      const received: string[] = [];
      fanout.subscribe((envelope) => received.push(textIn(envelope)));
      return received;
    }
    const text = envelopeOf;

    async function streamInfo() {
      const connection = await connect({ servers: [...nats.urls] });
      const manager = await jetstreamManager(connection);
      return {
        info: () => manager.streams.info(`${cluster.toUpperCase()}_LOG`),
        remove: () => manager.streams.delete(`${cluster.toUpperCase()}_LOG`),
        [Symbol.asyncDispose]: () => connection.close(),
      };
    }

    test("every subscriber receives what a client publishes, in order, the publisher included", async () => {
      newCluster();
      const [one, two] = [fanoutTo(nats.urls), fanoutTo(nats.urls)];
      const [own, others] = [receivedBy(one), receivedBy(two)];
      await connected(one);
      await connected(two);
      for (let n = 0; n < 100; n++) one.publish(text(`${n}`));
      const all = Array.from({ length: 100 }, (_, n) => `${n}`);
      await waitFor("everything to arrive", () => others.length >= 100 && own.length >= 100);
      assert.deepEqual(others, all);
      assert.deepEqual(own, all);
    });

    test("a listener that throws stops neither other listeners nor itself", async () => {
      newCluster();
      const fanout = fanoutTo(nats.urls);
      fanout.subscribe(() => assert.fail("a poisonous message"));
      const received = receivedBy(fanout);
      await connected(fanout);
      fanout.publish(text("a"));
      fanout.publish(text("b"));
      await waitFor("both messages", () => received.length === 2);
    });

    test("batches of another cluster are not delivered", async () => {
      newCluster();
      const mine = receivedBy(fanoutTo(nats.urls));
      newCluster();
      const other = fanoutTo(nats.urls);
      const received = receivedBy(other);
      await connected(other);
      other.publish(text("x"));
      await waitFor("the message to arrive", () => received.length === 1);
      assert.deepEqual(mine, []);
    });

    test("a cluster name that would change the subject is refused", () => {
      for (const name of ["", "a.b", "a b", ">", "*"]) {
        assert.throws(
          () =>
            connectNatsFanout({
              servers: [],
              cluster: name,
              name: "t",
              secrets: [secret],
              logger: quiet,
              randomBytes: (n) => randomBytes(n),
            }),
          {
            code: "ERR_REPLICATION_INVALID_CLUSTER_NAME",
          },
        );
      }
    });

    test("with NATS down the fan-out starts, drops and counts what is published, and connects when NATS is up", async () => {
      newCluster();
      const late = await startNats();
      await late.kill();
      const fanout = fanoutTo(late.urls);
      const received = receivedBy(fanout);
      await delay(300);
      assert.equal(fanout.status().healthy, false);
      fanout.publish(text("into the void"));
      assert.equal(fanout.status().dropped, 1);
      await late.start();
      await connected(fanout);
      fanout.publish(text("heard"));
      await waitFor("the message to arrive", () => received.includes("heard"));
      assert.deepEqual(received, ["heard"]);
      await fanout.close();
      await late.stop();
    });

    test("the fan-out reconnects to a restarted server, and its subscribers are notified to check for missed events", async () => {
      newCluster();
      const frail = await startNats();
      const fanout = fanoutTo(frail.urls);
      const received = receivedBy(fanout);
      let connections = 0;
      fanout.onConnected(() => {
        connections += 1;
      });
      await waitFor("the first connection", () => connections === 1);
      for (let round = 1; round <= 2; round++) {
        await frail.kill();
        await waitFor("the loss to be noticed", () => !fanout.status().healthy);
        await frail.start();
        await waitFor("the next connection", () => connections === round + 1, { withinMs: 20_000 });
        fanout.publish(text(`round ${round}`));
        await waitFor("the message to arrive", () => received.includes(`round ${round}`));
      }
      assert.equal(fanout.status().interruptions, 2);
      await fanout.close();
      await frail.stop();
    });

    test("a frozen server is noticed, although its socket stays open", { timeout: 120_000 }, async () => {
      newCluster();
      const frozen = await startNats();
      const fanout = fanoutTo(frozen.urls);
      await connected(fanout);
      await frozen.pause();
      await waitFor("the freeze to be noticed", () => !fanout.status().healthy, { withinMs: 15_000 });
      await frozen.resume();
      await connected(fanout);
      await fanout.close();
      await frozen.stop();
    });

    test("messages too large for NATS, or too many at once, are dropped and counted", async () => {
      newCluster();
      const fanout = fanoutTo(nats.urls);
      await connected(fanout);
      fanout.publish(new Uint8Array(2 * 1024 * 1024));
      assert.equal(fanout.status().dropped, 1);
      for (let n = 0; n < 60; n++) fanout.publish(envelopeOf(randomBytes(500_000)));
      assert.ok(fanout.status().dropped > 10, "messages above the bound on unsent bytes are dropped");
      await waitFor(
        "the published messages to be delivered",
        () => fanout.status().delivered === fanout.status().published,
      );
      fanout.publish(text("again"));
      await waitFor(
        "the next message to be delivered",
        () => fanout.status().delivered === fanout.status().published && fanout.status().published > 0,
      );
    });

    test("the replay buffer stores what is published and replays it", async () => {
      newCluster();
      const broker = fanoutTo(nats.urls, { keepReplayBuffer: true });
      await connected(broker);
      await using stream = await streamInfo();
      await waitFor("the stream", async () => (await stream.info()).config.subjects[0] === `${cluster}.log`);
      const { config } = await stream.info();
      assert.equal(config.storage, "file");
      assert.equal(config.discard, "old");
      assert.equal(config.num_replicas, 1);
      assert.equal(config.max_age / 1e9, 24 * 3_600);
      for (let n = 0; n < 1_200; n++) broker.publish(text(`${n}`));
      await waitFor("the stream to have all messages", async () => (await stream.info()).state.messages === 1_200);
      const replayed = await broker.replay?.({ sinceMs: 60_000 });
      assert.equal(replayed?.length, 1_200);
      assert.equal(textIn(replayed.at(-1) ?? Buffer.of()), "1199");
      assert.equal((await broker.replay?.({ sinceMs: 60_000, limit: 7 }))?.length, 7);
      await waitFor("every consumer to be removed", async () => (await stream.info()).state.consumer_count === 0);
    });

    test("a broker creates a deleted stream again; a node creates none", { timeout: 120_000 }, async () => {
      newCluster();
      const node = fanoutTo(nats.urls);
      await connected(node);
      await using stream = await streamInfo();
      await delay(300);
      await assert.rejects(stream.info());
      const broker = fanoutTo(nats.urls, { keepReplayBuffer: true });
      await connected(broker);
      const untilStream = () =>
        waitFor("the stream", async () => (await stream.info()) !== undefined, { withinMs: 15_000 });
      await untilStream();
      await stream.remove();
      await untilStream();
    });

    test("on three servers the replay buffer has three replicas and survives the loss of one server", {
      timeout: 240_000,
    }, async () => {
      newCluster();
      const three = await startNats({ size: 3 });
      const fanout = fanoutTo(three.urls, { keepReplayBuffer: true });
      await connected(fanout);
      const connection = await connect({ servers: [...three.urls] });
      const manager = await jetstreamManager(connection);
      const replicas = async () => (await manager.streams.info(`${cluster.toUpperCase()}_LOG`)).config.num_replicas;
      await waitFor("three replicas", async () => (await replicas()) === 3, { withinMs: 30_000 });
      const received = receivedBy(fanout);
      await three.node(0).kill();
      await waitFor(
        "batches to arrive again",
        () => {
          fanout.publish(text("still here"));
          return received.length > 0;
        },
        { withinMs: 20_000, everyMs: 100 },
      );
      await connection.close();
      await fanout.close();
      await three.stop();
    });

    test("a node ends at the log's digest through an outage of NATS, a deleted stream and a restart", {
      timeout: 120_000,
    }, async () => {
      newCluster();
      const frail = await startNats();
      const publisher = fanoutTo(frail.urls, { keepReplayBuffer: true });
      const fanout = fanoutTo(frail.urls);
      await connected(publisher);
      await connected(fanout);
      const brokers = new FakeBrokers({ log: history(20), fanout: publisher });
      const node = startReplica({
        name: aNode,
        role: "proxy",
        region: "test",
        version: "1",
        configHash: () => "config-1",
        cluster: "test", // the cluster of the envelopes; the subject uses another name here
        secret,
        databroker: brokers.databroker,
        fanout,
        clock: systemClock,
        randomBytes: (size) => randomBytes(size),
        logger: quiet,
        windowMs: () => 5_000,
        dataDir: null,
      });
      try {
        assert.ok(await node.whenReady(60_000));
        let id = 100;
        const commit = async (): Promise<void> => {
          id += 1;
          const link = brokers.commit(created(id), revoked(id));
          await waitFor("the node to follow", () => node.applied.hash === link.hash, { everyMs: 5 });
        };
        const readsBefore = node.metrics().reads;
        for (let n = 0; n < 50; n++) await commit();
        // A grant may name a head whose delivery is still in flight.
        assert.ok(node.metrics().reads - readsBefore < 25, "nearly all events arrive by delivery");

        await frail.kill();
        await waitFor("the outage to be noticed", () => !fanout.status().healthy);
        for (let n = 0; n < 20; n++) await commit();
        await waitFor("a fresh lease", () => node.overdueMs(systemClock.monotonic()) <= 0);

        await frail.start();
        await connected(fanout);
        await connected(publisher);
        const deliveredBefore = fanout.status().delivered;
        for (let n = 0; n < 20; n++) await commit();
        await waitFor(
          "nearly all events to arrive by delivery",
          () => fanout.status().delivered - deliveredBefore >= 19,
        );

        const connection = await connect({ servers: [...frail.urls] });
        const manager = await jetstreamManager(connection);
        await waitFor("the stream", () => manager.streams.delete(`${cluster.toUpperCase()}_LOG`), { withinMs: 15_000 });
        await connection.close();
        for (let n = 0; n < 20; n++) await commit();

        const projection = new Projection();
        for (const { recorded } of brokers.log.entries) projection.apply(recorded);
        assert.equal(node.projection.digest(), projection.digest());
        assert.equal(node.metrics().rebuilds, 0);
      } finally {
        await node.stop();
        for (const each of open.splice(0)) await each.close();
        await frail.stop();
      }
    });
  });
}
