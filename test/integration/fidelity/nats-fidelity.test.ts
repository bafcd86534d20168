/**
 * NATS fidelity: the same scripts against the simulator's model of NATS and against real servers, and what was seen in
 * them.
 *
 * What a model says that no server does, or a server does that no model says, would be proved of nothing that exists.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type BenchConnection, bigBytes, type NatsBench, type StartNatsBench } from "./nats-bench.ts";
import { startModelBench } from "./nats-model-bench.ts";
import { startRealBench } from "./nats-real-bench.ts";
import { tell } from "./nats-script.ts";

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

    test("what one publishes arrives in order, at others and at itself", async () => {
      const [one, two] = [await bench.connect(), await bench.connect()];
      for (const text of numbers(1, 200)) one.publish(text);
      await one.flush();
      await two.flush();
      assert.deepEqual(two.seen(), ["connected", ...numbers(1, 200)]);
      assert.deepEqual(one.seen(), ["connected", ...numbers(1, 200)]);
    });

    test("who subscribes later gets nothing of what was published before", async () => {
      const one = await bench.connect();
      one.publish("early");
      await one.flush();
      const late = await bench.connect();
      one.publish("now");
      await one.flush();
      await late.flush();
      assert.deepEqual(late.seen(), ["connected", "now"]);
    });

    test("two publishers: each one's order is kept", async () => {
      const [one, two, listener] = [await bench.connect(), await bench.connect(), await bench.connect()];
      for (const text of numbers(1, 50)) {
        one.publish(`a${text}`);
        two.publish(`b${text}`);
      }
      await one.flush();
      await two.flush();
      await listener.flush();
      const of = (letter: string) => messagesOf(listener).filter((text) => text.startsWith(letter));
      assert.deepEqual(
        of("a"),
        numbers(1, 50).map((text) => `a${text}`),
      );
      assert.deepEqual(
        of("b"),
        numbers(1, 50).map((text) => `b${text}`),
      );
    });

    test("the stream captures what is published, answers who asks, and refuses a relay that expects an older end", async () => {
      await bench.createStream();
      const [leader, zombie] = [await bench.connect(), await bench.connect()];
      const answers = [
        await leader.publishToStream("batch 1", { expectedLast: 0 }),
        await leader.publishToStream("batch 2", { expectedLast: 1 }),
        await zombie.publishToStream("stale", { expectedLast: 1 }),
        await leader.publishToStream("batch 3", { expectedLast: 2 }),
      ];
      assert.deepEqual(answers, ["stored 1", "stored 2", "refused, last is 2", "stored 3"]);
      leader.publish("core");
      await leader.flush();
      assert.equal(await leader.publishToStream("batch 5", {}), "stored 5", "core messages are captured too");
      assert.deepEqual(await bench.streamed(), ["batch 1", "batch 2", "batch 3", "core", "batch 5"]);
      await zombie.flush();
      assert.ok(messagesOf(zombie).includes("stale"), "core subscribers get even what the stream refuses");
      await bench.deleteStream();
    });

    test("a message id that was seen is stored once, and answered with its first place, whatever else is asked", async () => {
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
      assert.equal(messagesOf(relay).filter((text) => text === "batch 1").length, 4, "core delivers every one");
      await bench.deleteStream();
    });

    test("a deleted stream answers nobody, core goes on, and a new one of its name begins at one", async () => {
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
      assert.equal(await relay.publishToStream("a", { id: "a" }), "stored 1", "what it knew of ids is gone");
      assert.deepEqual(await bench.streamed(), ["a"]);
      await bench.deleteStream();
    });

    test("a subscriber that does not read loses what is beyond the limits and is told only by a new connection", async () => {
      const slow = await bench.connect({ pausable: true });
      const [publisher, other] = [await bench.connect(), await bench.connect()];
      const [most, before] = [900, 5];
      const big = (text: string): string => text.padEnd(bigBytes);
      // Half of what the server keeps for one connection: on a busy machine a subscriber that reads may be that late.
      const unreadMax = 8;
      for (const text of numbers(1, before)) publisher.publish(big(text));
      await bench.until("the first ones", () => messagesOf(slow).length === before);
      await slow.pause();
      for (const text of numbers(before + 1, most)) {
        publisher.publish(big(text));
        if (Number(text) % unreadMax !== 0) continue;
        await publisher.flush(); // the publisher does not learn of it
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
      await bench.until("what comes after", () => slow.seen().includes("after"));
      const seen = slow.seen().map((line) => line.trimEnd());
      const got = seen.filter((line) => /^\d+$/.test(line)).length;
      assert.ok(got >= before && got < most, `${got} of ${most} arrived`);
      assert.deepEqual(seen, ["connected", ...numbers(1, got), "disconnected", "connected", "after"]);
    });

    test("a server that dies takes its connections with it; what is published meanwhile is gone for good", async () => {
      const [one, two] = [await bench.connect(), await bench.connect()];
      one.publish("before");
      await one.flush();
      await two.flush();
      await bench.kill(0);
      const disconnected = (each: BenchConnection): boolean => each.seen().includes("disconnected");
      await bench.until("both to notice", () => disconnected(one) && disconnected(two));
      one.publish("into the void");
      await bench.start(0);
      const again = (each: BenchConnection): boolean => each.seen().filter((line) => line === "connected").length === 2;
      await bench.until("both to be back", () => again(one) && again(two));
      one.publish("after");
      await one.flush();
      await two.flush();
      assert.deepEqual(two.seen(), ["connected", "before", "disconnected", "connected", "after"]);
    });
  });

  describe(`three NATS servers, ${name}`, { timeout: 240_000 }, () => {
    test("messages cross between servers in order; a client whose server dies goes on at another, and repeats nothing", async () => {
      const bench = await start({ servers: 3 });
      try {
        const [publisher, listener] = [await bench.connect({ server: 1 }), await bench.connect({ server: 0 })];
        await bench.until("the servers to know of each other's subscribers", () => {
          publisher.publish("hello");
          return listener.seen().includes("hello");
        });
        for (const text of numbers(1, 100)) publisher.publish(text);
        await bench.until("all of them", () => listener.seen().includes("100"));
        const counted = messagesOf(listener).filter((text) => text !== "hello");
        assert.deepEqual(counted, numbers(1, 100));
        await bench.kill(0);
        await bench.until("another server", () => listener.seen().at(-1) === "connected");
        await bench.until("it to be served", () => {
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

    test("the stream outlives one of its servers, and answers nobody without most of them", async () => {
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

test("a random story of relays and listeners reads the same from the model and from a real server", {
  timeout: 240_000,
}, async () => {
  const seed = Number(process.env["SEED"] ?? 1);
  const told: (readonly string[])[] = [];
  for (const [, start] of worlds) {
    const bench = await start({ servers: 1 });
    try {
      told.push(await tell(bench, seed, 150));
    } finally {
      await bench.dispose();
    }
  }
  const [ofModel = [], ofServer = []] = told;
  assert.equal(ofModel.length, ofServer.length);
  for (const [step, line] of ofModel.entries()) assert.equal(line, ofServer[step], `seed ${seed}`);
  for (const what of ["stored", "duplicate of", "refused, last is", "the stream is gone"])
    assert.ok(
      ofModel.some((line) => line.includes(what)),
      `the story has no: ${what}`,
    );
});
