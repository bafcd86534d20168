/**
 * The NATS model beyond what a real server can be made to do on request: cuts, pauses, disturbances, a stream that
 * loses entries, lagging mirrors.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SimFact } from "../../../chaos/sim/facts.ts";
import { type NatsClient, NatsModel } from "../../../chaos/sim/nats-model.ts";
import { MirrorModel, StreamModel } from "../../../chaos/sim/nats-stream.ts";
import type { SimProcess } from "../../../chaos/sim/process.ts";
import { World } from "../../../chaos/sim/world.ts";

type Member = Readonly<{ process: SimProcess; face: () => NatsClient<number>; seen: string[] }>;

function room(seed = 1) {
  const facts: SimFact[] = [];
  const world = new World({ seed, facts: (fact) => facts.push(fact) });
  const model = new NatsModel<number>({
    world,
    servers: [
      { name: "nats-1", region: "east" },
      { name: "nats-2", region: "east" },
      { name: "nats-3", region: "west" },
    ],
    limits: { kernelMessages: 10, pendingMessagesMax: 5, writeDeadlineMs: 10_000 },
    ...{ dedupeMs: 120_000, streamEntriesMax: 100, mirrorEveryMs: 200 },
  });
  for (const name of model.serverNames) world.process(name).start();
  const join = (name: string, region: string): Member => {
    const seen: string[] = [];
    let face: NatsClient<number> | undefined;
    const process = world.addProcess({
      ...{ name, region },
      identity: { role: "client", node: null, lessee: null, build: "", unknownTypes: [] },
      start: (own) => {
        face = model.client({
          process: own,
          onMessage: (message) => seen.push(`${message}`),
          onConnected: () => seen.push("+"),
          onDisconnected: () => seen.push("-"),
        });
      },
    });
    process.start();
    world.run(world.now + 500);
    return { process, face: () => face as NatsClient<number>, seen };
  };
  const publish = (from: Member, first: number, last: number): void => {
    for (let n = first; n <= last; n += 1) {
      world.after(n - first, () => from.face().publish(n));
    }
    world.run(world.now + last - first + 300);
  };
  return { world, model, facts, join, publish };
}

const range = (first: number, last: number): string[] =>
  Array.from({ length: last - first + 1 }, (_, index) => `${first + index}`);

test("messages that wait for a short cut to heal arrive late, in order, without loss", () => {
  const { world, model, join, publish } = room();
  const [from, to] = [join("from", "east"), join("to", "west")];
  const heal = world.network.part(
    [to.process],
    model.serverNames.map((name) => world.process(name)),
  );
  publish(from, 1, 10);
  assert.deepEqual(to.seen, ["+"]);
  heal();
  world.run(world.now + 500);
  assert.deepEqual(to.seen, ["+", ...range(1, 10)]);
});

test("a cut that outlasts the pings ends the connection, and the waiting messages are lost", () => {
  const { world, model, join, publish } = room();
  const [from, to] = [join("from", "east"), join("to", "west")];
  const heal = world.network.part(
    [to.process],
    model.serverNames.map((name) => world.process(name)),
  );
  publish(from, 1, 10);
  world.run(world.now + 10_000);
  assert.equal(to.face().publish(99), "dropped");
  heal();
  world.run(world.now + 5_000);
  publish(from, 11, 12);
  assert.deepEqual(to.seen, ["+", "-", "+", "11", "12"]);
});

test("a resumed subscriber receives what its kernel holds, however late", () => {
  const { world, join, publish } = room();
  const [from, to] = [join("from", "east"), join("to", "west")];
  to.process.pause();
  publish(from, 1, 12);
  world.run(world.now + 30_000);
  assert.deepEqual(to.seen, ["+"]);
  to.process.resume();
  world.run(world.now + 500);
  assert.deepEqual(to.seen.slice(0, 13), ["+", ...range(1, 12)]);
});

test("a subscriber whose kernel and server buffers overflow is cut off and loses what the server held; other subscribers are not affected", () => {
  const { world, join, publish, facts, model } = room();
  const [from, to, other] = [join("from", "east"), join("to", "west"), join("other", "east")];
  to.process.pause();
  publish(from, 1, 40);
  to.process.resume();
  world.run(world.now + 3_000);
  publish(from, 41, 42);
  assert.deepEqual(to.seen, ["+", ...range(1, 10), "-", "+", "41", "42"]);
  assert.deepEqual(other.seen, ["+", ...range(1, 42)]);
  assert.equal(model.counts.consumersCut, 1);
  assert.ok(facts.some((fact) => fact.type === "nats-happened" && fact.what === "consumer-cut" && fact.about === "to"));
});

test("a paused server forwards what it had received when it is resumed, long after its clients have left", () => {
  const { world, model, join } = room();
  const [from, to] = [join("from", "east"), join("to", "west")];
  const servers = model.serverNames.map((name) => world.process(name));
  const [one, two] = servers.slice(0, 2);
  one?.pause();
  two?.pause();
  from.face().publish(1);
  world.run(world.now + 20_000);
  assert.ok(from.seen.includes("-"));
  from.face().publish(2);
  world.run(world.now + 1_000);
  one?.resume();
  two?.resume();
  world.run(world.now + 1_000);
  assert.deepEqual(
    to.seen.filter((line) => line === "1" || line === "2"),
    ["2", "1"],
  );
});

test("a boot that has ended gets no more callbacks, and the next one has its own connection", () => {
  const { world, join, publish } = room();
  const [from, to] = [join("from", "east"), join("to", "west")];
  to.process.kill();
  publish(from, 1, 3);
  assert.deepEqual(to.seen, ["+"]);
  to.process.start();
  world.run(world.now + 500);
  publish(from, 4, 4);
  assert.deepEqual(to.seen, ["+", "+", "4"]);
});

test("disturbances drop, repeat and reorder messages, and are counted", () => {
  const { world, model, join, publish } = room();
  const [from, to] = [join("from", "east"), join("to", "east")];
  Object.assign(model.disturbances, { drop: 0.2, repeat: 0.2, overtake: 0.3, lateMsMax: 500 });
  publish(from, 1, 200);
  world.run(world.now + 2_000);
  const got = to.seen.slice(1).map(Number);
  assert.ok(new Set(got).size < 200, "some never arrived");
  assert.ok(got.length > new Set(got).size, "some arrived twice");
  assert.ok(
    got.some((n, index) => index > 0 && n < (got[index - 1] ?? 0)),
    "some were overtaken",
  );
  assert.ok(model.counts.lost > 0 && model.counts.repeated > 0);
});

test("a stream that loses its suffix reuses its sequence numbers; a mirror that was ahead keeps its entries", () => {
  const stream = new StreamModel<string>({ dedupeMs: 1_000, entriesMax: 10 });
  stream.create();
  const mirror = new MirrorModel<string>(10);
  for (const text of ["a", "b", "c"]) stream.append(text, 0, { id: text });
  mirror.follow(stream);
  assert.equal(stream.loseSuffix(2), 2);
  assert.deepEqual(stream.append("c", 1, { id: "c", expectedLast: 1 }), {
    type: "stored",
    sequence: 2,
    duplicate: false,
  });
  assert.equal(mirror.follow(stream), 0);
  stream.append("d", 2, {});
  stream.append("e", 3, {});
  mirror.follow(stream);
  assert.deepEqual(
    mirror.since(0, 100).map(({ message }) => message),
    ["a", "b", "c", "e"],
  );
});

test("a message id is forgotten when the deduplication window has passed", () => {
  const stream = new StreamModel<string>({ dedupeMs: 1_000, entriesMax: 10 });
  stream.create();
  assert.deepEqual(stream.append("a", 0, { id: "a" }), { type: "stored", sequence: 1, duplicate: false });
  assert.deepEqual(stream.append("a", 999, { id: "a" }), { type: "stored", sequence: 1, duplicate: true });
  assert.deepEqual(stream.append("a", 1_000, { id: "a" }), { type: "stored", sequence: 2, duplicate: false });
});

test("a region's replay buffer holds published messages after a short delay, and none without a stream", () => {
  const { world, join, publish } = room();
  const broker = join("broker", "west");
  const replayed: (readonly number[])[] = [];
  const ask = (): void => {
    broker.face().replay({ sinceMs: 60_000, limit: 100, timeoutMs: 5_000 }, (found) => replayed.push(found));
    world.run(world.now + 6_000);
  };
  publish(broker, 1, 2);
  ask();
  broker.face().ensureStream();
  world.run(world.now + 500);
  publish(broker, 3, 5);
  world.run(world.now + 500);
  ask();
  assert.deepEqual(replayed, [[], [3, 4, 5]]);
});
