/** NATS bench on the simulator's model: time passes only while a script waits. */
import assert from "node:assert/strict";
import { type NatsClient, NatsModel } from "../../../chaos/sim/nats-model.ts";
import type { Identity } from "../../../chaos/sim/process.ts";
import { World } from "../../../chaos/sim/world.ts";
import type { BenchConnection, NatsBench, StartNatsBench } from "./nats-bench.ts";

const client: Identity = { role: "client", node: null, lessee: null, build: "", unknownTypes: [] };
const waitMsMax = 60_000;

export const startModelBench: StartNatsBench = async ({ servers }) => {
  const world = new World({ seed: 1 });
  const names = Array.from({ length: servers }, (_, index) => `nats-${index + 1}`);
  const model = new NatsModel<string>({
    world,
    servers: names.map((name) => ({ name, region: `region of ${name}` })),
    limits: { kernelMessages: 40, pendingMessagesMax: 16, writeDeadlineMs: 2_000 },
    // A real server forgets ids after two minutes. Scripts on it never take that long, but the model's time may.
    ...{ dedupeMs: 86_400_000, streamEntriesMax: 10_000, mirrorEveryMs: 200 },
  });
  for (const name of names) world.process(name).start();
  let connections = 0;

  const until = async (what: string, isSo: () => boolean): Promise<void> => {
    const giveUpAt = world.now + waitMsMax;
    while (!isSo()) {
      assert.ok(world.now < giveUpAt, `timed out waiting for ${what}`);
      world.run(world.now + 20);
    }
  };

  async function connect({ server = 0 } = {}): Promise<BenchConnection> {
    connections += 1;
    const seen: string[] = [];
    let natsClient: NatsClient<string> | undefined;
    const process = world.addProcess({
      name: `client-${connections}`,
      region: `region of nats-${server + 1}`,
      identity: client,
      start: (own) => {
        natsClient = model.client({
          process: own,
          onMessage: (message) => seen.push(message),
          onConnected: () => seen.push("connected"),
          onDisconnected: () => seen.push("disconnected"),
        });
      },
    });
    process.start();
    await until("a connection", () => seen.length > 0);
    return {
      seen: () => seen,
      publish: (text) => natsClient?.publish(text),
      async publishToStream(text, condition = {}) {
        let answer: string | undefined;
        natsClient?.publishToStream(text, condition, (ack) => {
          if (ack === undefined || ack.type === "no-stream") answer = "no answer";
          else if (ack.type === "refused") answer = `refused, last is ${ack.lastSequence}`;
          else answer = `${ack.duplicate ? "duplicate of" : "stored"} ${ack.sequence}`;
        });
        await until("the stream's answer", () => answer !== undefined);
        return answer ?? "no answer";
      },
      flush: async () => world.run(world.now + 1_000),
      pause: async () => process.pause(),
      resume: async () => process.resume(),
    };
  }

  const bench: NatsBench = {
    connect,
    async createStream() {
      model.stream.create();
    },
    async deleteStream() {
      model.deleteStream();
    },
    streamed: async () => model.stream.after(0).map(({ message }) => message),
    async kill(server) {
      world.process(names[server] ?? "").kill();
    },
    async start(server) {
      world.process(names[server] ?? "").start();
    },
    until,
    dispose: async () => {},
  };
  return bench;
};
