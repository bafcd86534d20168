/**
 * NATS fidelity: the same scripts against the simulator's model of NATS and against real servers, with the same
 * observations.
 *
 * A difference would make proofs from the simulator worthless.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type BenchConnection, bigBytes, type NatsBench, type StartNatsBench } from "./nats-bench.ts";
import { startModelBench } from "./nats-model-bench.ts";
import { startRealBench } from "./nats-real-bench.ts";
import { runScript } from "./nats-script.ts";

const worlds: readonly (readonly [name: string, start: StartNatsBench])[] = [
  ["the model", startModelBench],
  ["a real server", startRealBench],
];

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `${from + index}`);
const messagesOf = (connection: BenchConnection): string[] =>
  connection.seen().filter((line) => !/connected$/.test(line));

for (const [name, start] of worlds) {
  describe(`NATS, ${name}`, () => {
    let bench: NatsBench;
    before(async () => {
      bench = await start({ servers: 1 });
    });
    after(() => bench.dispose());

    test("messages arrive in order, at other subscribers and at the publisher", async () => {
      const [one, two] = [await bench.connect(), await bench.connect()];
      for (const text of numbers(1, 200)) one.publish(text);
      await one.flush();
      await two.flush();
      assert.deepEqual(two.seen(), ["connected", ...numbers(1, 200)]);
      assert.deepEqual(one.seen(), ["connected", ...numbers(1, 200)]);
    });

    test("a later subscriber gets no earlier messages", async () => {
      const one = await bench.connect();
      one.publish("early");
      await one.flush();
      const late = await bench.connect();
      one.publish("now");
      await one.flush();
      await late.flush();
      assert.deepEqual(late.seen(), ["connected", "now"]);
    });

    test("the order of each of two publishers is kept", async () => {
      const [one, two, listener] = [await bench.connect(), await bench.connect(), await bench.connect()];
      for (const text of numbers(1, 50)) {
        one.publish(`a${text}`);
        two.publish(`b${text}`);
      }
      await one.flush();
      await two.flush();
      await listener.flush();
      const sentBy = (letter: string) => messagesOf(listener).filter((text) => text.startsWith(letter));
      assert.deepEqual(
        sentBy("a"),
        numbers(1, 50).map((text) => `a${text}`),
      );
      assert.deepEqual(
        sentBy("b"),
        numbers(1, 50).map((text) => `b${text}`),
      );
    });

    test("the stream stores what is published, acknowledges on request, and refuses a relay that expects an older end", async () => {
      await bench.createStream();
      const [leader, deposed] = [await bench.connect(), await bench.connect()];
      const answers = [
        await leader.publishToStream("batch 1", { expectedLast: 0 }),
        await leader.publishToStream("batch 2", { expectedLast: 1 }),
        await deposed.publishToStream("stale", { expectedLast: 1 }),
        await leader.publishToStream("batch 3", { expectedLast: 2 }),
      ];
      assert.deepEqual(answers, ["stored 1", "stored 2", "refused, last is 2", "stored 3"]);
      leader.publish("core");
      await leader.flush();
      assert.equal(await leader.publishToStream("batch 5", {}), "stored 5", "the stream stores core messages too");
      assert.deepEqual(await bench.streamed(), ["batch 1", "batch 2", "batch 3", "core", "batch 5"]);
      await deposed.flush();
      assert.ok(messagesOf(deposed).includes("stale"), "core subscribers get messages that the stream refuses too");
      await bench.deleteStream();
    });

    test("a repeated message id is stored once and answered with its first position, whatever condition comes with it", async () => {
      await bench.createStream();
      const relay = await bench.connect();
      const answers = [
        await relay.publishToStream("batch 1", { id: "7:1-1" }),
        await relay.publishToStream("batch 1", { id: "7:1-1" }),
        await relay.publishToStream("batch 2", { id: "7:2-2", expectedLast: 1 }),
        await relay.publishToStream("batch 1", { id: "7:1-1", expectedLast: 0 }),
        await relay.publishToStream("batch 1", { id: "7:1-1", expectedLast: 2 }),
      ];
      assert.deepEqual(answers, ["stored 1", "duplicate of 1", "stored 2", "duplicate of 1", "duplicate of 1"]);
      assert.deepEqual(await bench.streamed(), ["batch 1", "batch 2"]);
      await relay.flush();
      assert.equal(
        messagesOf(relay).filter((text) => text === "batch 1").length,
        4,
        "core subscribers get every repetition",
      );
      await bench.deleteStream();
    });

    test("a deleted stream gives no answers while core continues, and a new stream of its name starts at one", async () => {
      await bench.createStream();
      const relay = await bench.connect();
      assert.equal(await relay.publishToStream("a", { id: "a" }), "stored 1");
      await bench.deleteStream();
      assert.equal(await relay.publishToStream("b", { expectedLast: 1 }), "no answer");
      relay.publish("c");
      await relay.flush();
      assert.deepEqual(messagesOf(relay), ["a", "b", "c"]);
      await bench.createStream();
      assert.equal(await relay.publishToStream("d", { expectedLast: 1 }), "refused, last is 0");
      assert.equal(await relay.publishToStream("a", { id: "a" }), "stored 1", "its known ids are gone");
      assert.deepEqual(await bench.streamed(), ["a"]);
      await bench.deleteStream();
    });

    test("a slow subscriber loses messages beyond the limits, and learns it only by a new connection", async () => {
      const slow = await bench.connect({ pausable: true });
      const [publisher, other] = [await bench.connect(), await bench.connect()];
      const [most, before] = [900, 5];
      const big = (text: string): string => text.padEnd(bigBytes);
      // Half of the server's buffer for one connection. On a busy machine a subscriber that reads may lag that much.
      const unreadMax = 8;
      for (const text of numbers(1, before)) publisher.publish(big(text));
      await bench.until("the first messages", () => messagesOf(slow).length === before);
      await slow.pause();
      for (const text of numbers(before + 1, most)) {
        publisher.publish(big(text));
        if (Number(text) % unreadMax !== 0) continue;
        await publisher.flush(); // the publisher does not notice the slow subscriber
        await other.flush();
      }
      await publisher.flush();
      await other.flush();
      assert.deepEqual(
        messagesOf(other).map((text) => text.trimEnd()),
        numbers(1, most),
      );
      await slow.resume();
      await bench.until("the next connection", () => slow.seen().filter((line) => line === "connected").length === 2);
      publisher.publish("after");
      await bench.until("the message after it", () => slow.seen().includes("after"));
      const seen = slow.seen().map((line) => line.trimEnd());
      const got = seen.filter((line) => /^\d+$/.test(line)).length;
      assert.ok(got >= before && got < most, `${got} of ${most} arrived`);
      assert.deepEqual(seen, ["connected", ...numbers(1, got), "disconnected", "connected", "after"]);
    });

    test("a server that dies ends its connections, and messages published meanwhile are lost", async () => {
      const [one, two] = [await bench.connect(), await bench.connect()];
      one.publish("before");
      await one.flush();
      await two.flush();
      await bench.kill(0);
      const disconnected = (each: BenchConnection): boolean => each.seen().includes("disconnected");
      await bench.until("both clients to notice", () => disconnected(one) && disconnected(two));
      one.publish("into the void");
      await bench.start(0);
      const reconnected = (each: BenchConnection): boolean =>
        each.seen().filter((line) => line === "connected").length === 2;
      await bench.until("both clients to be back", () => reconnected(one) && reconnected(two));
      one.publish("after");
      await one.flush();
      await two.flush();
      assert.deepEqual(two.seen(), ["connected", "before", "disconnected", "connected", "after"]);
    });
  });

  describe(`three NATS servers, ${name}`, { timeout: 240_000 }, () => {
    test("messages cross servers in order, and a client whose server dies continues at another without repetitions", async () => {
      const bench = await start({ servers: 3 });
      try {
        const [publisher, listener] = [await bench.connect({ server: 1 }), await bench.connect({ server: 0 })];
        await bench.until("the servers to know of each other's subscribers", () => {
          publisher.publish("hello");
          return listener.seen().includes("hello");
        });
        for (const text of numbers(1, 100)) publisher.publish(text);
        await bench.until("all messages", () => listener.seen().includes("100"));
        const counted = messagesOf(listener).filter((text) => text !== "hello");
        assert.deepEqual(counted, numbers(1, 100));
        await bench.kill(0);
        await bench.until("another server", () => listener.seen().at(-1) === "connected");
        await bench.until("the client to receive again", () => {
          publisher.publish("after");
          return listener.seen().includes("after");
        });
        const lines = listener.seen().filter((line) => line !== "hello" && line !== "after");
        assert.deepEqual(lines, ["connected", ...numbers(1, 100), "disconnected", "connected"]);
        assert.deepEqual(new Set(publisher.seen()), new Set(["connected", "hello", ...numbers(1, 100), "after"]));
      } finally {
        await bench.dispose();
      }
    });

    test("the stream survives the loss of one server, and gives no answer without a majority", async () => {
      const bench = await start({ servers: 3 });
      try {
        await bench.createStream();
        const relay = await bench.connect({ server: 2 });
        const stored = async (id: string, position: number): Promise<void> => {
          const wanted = new RegExp(`^(stored|duplicate of) ${position}$`);
          let answer = "";
          for (let round = 1; round <= 20 && !wanted.test(answer); round += 1)
            answer = await relay.publishToStream(id, { id, expectedLast: position - 1 });
          assert.match(answer, wanted);
        };
        await stored("a", 1); // the servers may still elect the stream's leader
        await bench.kill(0);
        await stored("b", 2);
        await bench.kill(1);
        assert.equal(await relay.publishToStream("c", { id: "c", expectedLast: 2 }), "no answer");
      } finally {
        await bench.dispose();
      }
    });
  });
}

test("a random script of relays and listeners gives the same results on the model and on a real server", {
  timeout: 240_000,
}, async () => {
  const seed = Number(process.env["SEED"] ?? 1);
  const results: (readonly string[])[] = [];
  for (const [, start] of worlds) {
    const bench = await start({ servers: 1 });
    try {
      results.push(await runScript(bench, seed, 150));
    } finally {
      await bench.dispose();
    }
  }
  const [ofModel = [], ofServer = []] = results;
  assert.equal(ofModel.length, ofServer.length);
  for (const [step, line] of ofModel.entries()) assert.equal(line, ofServer[step], `seed ${seed}`);
  for (const what of ["stored", "duplicate of", "refused, last is", "the stream is gone"])
    assert.ok(
      ofModel.some((line) => line.includes(what)),
      `the script has no: ${what}`,
    );
});
