/**
 * The forger: it replays and changes captured messages and reports this to the monitors. Nothing that it makes is
 * authentic.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BrokerPort, NodeMessageAnswer } from "../../../chaos/sim/broker-port.ts";
import { Seals, type SimEnvelope } from "../../../chaos/sim/envelopes.ts";
import type { SimFact } from "../../../chaos/sim/facts.ts";
import { Forger } from "../../../chaos/sim/forger.ts";
import { NatsModel } from "../../../chaos/sim/nats-model.ts";
import type { PlannedAction } from "../../../chaos/sim/workload-plan.ts";
import { World } from "../../../chaos/sim/world.ts";
import type { BootId, Epoch, Incarnation, NodeId, UnixMs } from "../../../src/events/index.ts";
import { genesis } from "../../../src/events/index.ts";
import type { Batch, Grant, Renew } from "../../../src/replication/wire/index.ts";

const cluster = "sim";
const node = "node-1" as NodeId;
const boot = "boot-1" as BootId;
const [epoch, incarnation] = [3 as Epoch, "i" as Incarnation];
const broker = { cluster, role: "broker", name: "broker-1", boot, epoch, incarnation } as const;
const grant: Grant = {
  ...{ node, boot, nonce: 1, epoch, incarnation, start: genesis.position, head: genesis },
  ...{ deltaMs: 5_000, drift: 0.01, windowMs: 5_000, wallMs: 0 as UnixMs },
};
const batch: Batch = { epoch, incarnation, previous: genesis, entries: [], last: genesis, keys: [] };
const renew = { node, boot, nonce: 1 } as Renew;

function setUp() {
  const facts: SimFact[] = [];
  const world = new World({ seed: 5, facts: (fact) => facts.push(fact) });
  const seals = new Seals();
  const nats = new NatsModel<SimEnvelope>({
    ...{ world, servers: [{ name: "nats-1", region: "east" }] },
    limits: { kernelMessages: 100, pendingMessagesMax: 100, writeDeadlineMs: 10_000 },
    ...{ dedupeMs: 1_000, streamEntriesMax: 10, mirrorEveryMs: 500 },
  });
  world.process("nats-1").start();
  const forger = new Forger(world, nats);
  const add = (name: string) =>
    world.addProcess({
      ...{ name, region: "east", start: () => {} },
      identity: { role: "client", node: null, lessee: null, build: "", unknownTypes: [] },
    });
  const leader = add("broker-1");
  leader.start();
  const sent: SimEnvelope[] = [];
  const port = {
    process: leader,
    sendMessage: (envelope: SimEnvelope, answered: (answer: NodeMessageAnswer) => void) => {
      sent.push(envelope);
      answered({ type: "grant", envelope: seals.seal(broker, { kind: "grant", grant }) });
    },
  } as BrokerPort;
  const received: SimEnvelope[] = [];
  const listener = add("listener");
  listener.start();
  const client = nats.client({
    process: listener,
    onMessage: (envelope) => received.push(envelope),
    onConnected: () => {},
    onDisconnected: () => {},
  });
  forger.start();
  world.run(1_000);
  const forge = (action: Partial<PlannedAction>): void => {
    const whole: PlannedAction = { id: 1, atMs: 0, kind: "forge", who: 0, other: 0, much: 0.3, ...action };
    forger.forge(whole, { brokers: [port], nodes: ["node-1"] });
    world.run(world.now + 1_000);
  };
  return { world, facts, seals, forger, port, sent, received, client, forge };
}

test("a replayed batch is unchanged and authentic; a changed one is not", () => {
  const { seals, received, client, forge, world, facts } = setUp();
  forge({ other: 0.9 });
  assert.equal(received.length, 0, "nothing has been captured yet");
  const genuine = seals.seal(broker, { kind: "batch", batch });
  client.publish(genuine);
  world.run(world.now + 500);
  forge({ other: 0.9 });
  forge({ other: 0.1 });
  assert.deepEqual(
    received.map((envelope) => seals.isAuthentic(envelope, cluster)),
    [true, true, false],
  );
  assert.deepEqual(
    facts.flatMap((fact) => (fact.type === "forged" ? `${fact.how} ${fact.kind} ${fact.to}` : [])),
    ["replayed batch node-1", "forged batch node-1"],
  );
});

test("the forger answers a node in a broker's stead, once, with an old grant or a changed one", () => {
  const { seals, forger, port, sent, forge } = setUp();
  const between = forger.between("node-1", port);
  const answers: NodeMessageAnswer[] = [];
  const ask = (): void =>
    between.sendMessage(
      seals.seal(
        { ...broker, role: "proxy", name: node, epoch: 0 as Epoch, incarnation: "" },
        { kind: "renew", renew },
      ),
      (answer) => answers.push(answer),
    );
  ask();
  forge({ who: 0.4, other: 0.9 });
  ask();
  forge({ who: 0.4, other: 0.1 });
  ask();
  ask();
  const grants = answers.map((answer) => (answer.type === "grant" ? answer.envelope : assert.fail()));
  assert.deepEqual(
    grants.map((envelope) => seals.isAuthentic(envelope, cluster)),
    [true, true, false, true],
  );
  assert.equal(grants[1], grants[0], "the old one again");
  assert.equal(sent.length, 2, "the renews that the forger answered never reached the broker");
});

test("a node's message is replayed to a broker, unchanged or changed", () => {
  const { seals, forger, port, sent, forge } = setUp();
  const between = forger.between("node-1", port);
  between.sendMessage(seals.seal({ ...broker, role: "proxy", name: node }, { kind: "renew", renew }), () => {});
  forge({ who: 0.6, other: 0.9 });
  forge({ who: 0.6, other: 0.1 });
  assert.equal(sent.length, 3);
  assert.equal(sent[1], sent[0]);
  assert.equal(seals.isAuthentic(sent[2] ?? assert.fail(), cluster), false);
});
