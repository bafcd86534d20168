/** Simulated nodes with a broker that grants and answers at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeActor } from "../../../chaos/sim/actors.ts";
import type { BrokerPort } from "../../../chaos/sim/broker-port.ts";
import { Seals, type SimEnvelope } from "../../../chaos/sim/envelopes.ts";
import { plainRoute, type SimFact, type SimFactOf } from "../../../chaos/sim/facts.ts";
import { NatsModel } from "../../../chaos/sim/nats-model.ts";
import { NodeFiles } from "../../../chaos/sim/node-file.ts";
import { profileOf } from "../../../chaos/sim/people.ts";
import type { SimProcess } from "../../../chaos/sim/process.ts";
import { addSimNode } from "../../../chaos/sim/sim-node.ts";
import { optionsOf } from "../../../chaos/sim/swarm.ts";
import { World } from "../../../chaos/sim/world.ts";
import {
  type BootId,
  type CardeaEvent,
  type NodeId,
  type PersonKey,
  seal,
  type UnixMs,
  wrapKey,
} from "../../../src/events/index.ts";
import { personKeyWrap } from "../../../src/replication/wire/index.ts";
import {
  bytesOf,
  cluster,
  created,
  type History,
  history,
  revoked,
  secret,
  sessionId,
  userId,
} from "../../replication/support.ts";

const options = {
  ...optionsOf(1),
  lease: { deltaMs: 2_000, drift: 0.01, beatMs: 100, takeoverMs: 2_000, windowMaxMs: 5_000 },
  routes: [
    { ...plainRoute, route: "wiki", onStale: "serve", staleGraceMs: 3_000 },
    { ...plainRoute, route: "vault" },
  ],
} as const;

const person: PersonKey = { userId: userId(1), keyId: bytesOf("id").slice(0, 8), key: bytesOf("key") };
const nonce = bytesOf("nonce").slice(0, 12);
const keys = [wrapKey(person, personKeyWrap(secret), nonce)];

/** A session of the provider that simulated routes require, with a profile that decrypts. */
function signedIn(n: number, user: number, round = 0): CardeaEvent {
  const profile = seal(profileOf(userId(user), round), person, nonce);
  return { ...created(n, user, profile), idpId: "idp" } as CardeaEvent;
}

class TestNode {
  readonly facts: SimFact[] = [];
  readonly world = new World({ seed: 7, facts: (fact) => void this.facts.push(fact), wallSkewMsMax: 0 });
  readonly seals = new Seals();
  readonly log: History = history(10);
  readonly nats: NatsModel<SimEnvelope>;
  readonly broker: SimProcess;
  readonly node: NodeActor;
  granting = true;
  /**
   * The next renew waits for the one after it, and is then answered with that one's number in another node's grant.
   */
  crossing: "no" | "next" | Parameters<BrokerPort["sendMessage"]>[1] = "no";
  readonly #publish: (envelope: SimEnvelope) => void;
  readonly #polls = new Set<() => void>();
  #requests = 0;

  constructor() {
    const { world } = this;
    const east = "east";
    this.nats = new NatsModel({
      ...{ world, servers: [{ name: "nats-1", region: east }] },
      limits: { kernelMessages: 64, pendingMessagesMax: 256, writeDeadlineMs: 10_000 },
      ...{ dedupeMs: 120_000, streamEntriesMax: 1_000, mirrorEveryMs: 200 },
    });
    const identity = { role: "broker", node: null, lessee: null, build: "1", unknownTypes: [] } as const;
    this.broker = world.addProcess({ name: "broker-1", region: east, identity, start: () => {} });
    this.node = addSimNode({
      ...{
        world,
        options,
        nats: this.nats,
        seals: this.seals,
        cluster,
        secret,
        addresses: null,
        name: "node-1",
        node: "node-1" as NodeId,
      },
      ...{ region: east, lessee: "proxy", build: "1", unknownTypes: [], brokers: () => [this.#port()] },
      files: new NodeFiles(),
    });
    world.process("nats-1").start();
    this.broker.start();
    const client = this.nats.client({
      process: this.broker,
      onMessage: () => {},
      onConnected: () => {},
      onDisconnected: () => {},
    });
    this.#publish = (envelope) => void client.publish(envelope);
    world.run(100);
    this.node.process.start();
    world.run(2_000);
  }

  commit(...events: Parameters<History["add"]>[0][]): void {
    const after = this.log.entries.length;
    for (const event of events) this.log.add(event);
    this.#publish(
      this.seals.seal(this.#leader(), { kind: "batch", batch: this.log.batch(after, this.log.entries.length, keys) }),
    );
    for (const answer of [...this.#polls]) answer();
  }

  request(route: string, kind: "request" | "stream" = "request", session = sessionId(100)): string[] {
    this.#requests += 1;
    const verdicts: string[] = [];
    const user = userId(1);
    const incoming = { request: this.#requests, route, session, user, kind, token: this.log.linkAt(1), forMs: 60_000 };
    this.node.process.run(() => this.node.request(incoming, (verdict) => verdicts.push(verdict)));
    return verdicts;
  }

  all<Type extends SimFact["type"]>(type: Type): SimFactOf<Type>[] {
    return this.facts.filter((fact): fact is SimFactOf<Type> => fact.type === type);
  }

  #leader() {
    const { epoch } = this.log.head;
    return {
      cluster,
      role: "broker",
      name: "broker-1",
      boot: "b" as BootId,
      epoch,
      incarnation: this.log.incarnation,
    } as const;
  }

  #port(): BrokerPort {
    return {
      process: this.broker,
      denials: (_, answered) => answered({ type: "none" }),
      read: ({ after, limit, waitMs }, answered) => {
        const answer = (): void => {
          this.#polls.delete(answer);
          const outcome = this.log.read(after, limit);
          answered(outcome.type === "page" ? { type: "page", page: { ...outcome.page, keys } } : outcome);
        };
        if (waitMs === 0 || this.log.head.position > after.position) answer();
        else {
          this.#polls.add(answer);
          this.broker.after(waitMs, answer);
        }
      },
      sendMessage: ({ payload }, answered) => {
        if (payload.kind !== "renew") answered({ type: "taken" });
        else if (!this.granting) answered({ type: "unavailable" });
        else {
          const { node, boot, nonce, windowMs } = payload.renew;
          const { head, incarnation, start } = this.log;
          const terms = { deltaMs: 2_000, drift: 0.01, windowMs, wallMs: this.broker.clock.wall() as UnixMs };
          const grant = { node, boot, nonce, epoch: head.epoch, incarnation, start, head, ...terms };
          const give = (given: typeof grant, to = answered): void =>
            to({ type: "grant", envelope: this.seals.seal(this.#leader(), { kind: "grant", grant: given }) });
          if (this.crossing === "no") give(grant);
          else if (this.crossing === "next") this.crossing = answered;
          else {
            give({ ...grant, node: "node-9" as NodeId }, this.crossing);
            give(grant);
            this.crossing = "no";
          }
        }
      },
      submit: ({ commandId }, answered) => answered({ type: "unavailable", commandId, message: "", retryAfterMs: 0 }),
      snapshot: (answered) => answered(null),
    };
  }
}

test("a node reads the log, gets a lease and permits; a revocation cuts its streams before it is confirmed", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  const verdicts = testNode.request("wiki", "stream");
  testNode.world.run(4_000);
  assert.deepEqual(verdicts, ["permit"]);
  assert.ok(testNode.all("relayed").length > 3);
  testNode.commit(revoked(100, 1));
  testNode.world.run(5_000);
  const [ended] = testNode.all("exchange-ended");
  assert.ok(ended?.how === "cut");
  const enforced = testNode.all("enforced").find(({ link }) => link.hash === testNode.log.head.hash);
  const confirmed = testNode.all("confirm-sent").find(({ enforced: at }) => at.hash === testNode.log.head.hash);
  assert.ok(enforced && confirmed && ended.at <= enforced.at && enforced.at <= confirmed.at);
  assert.deepEqual(testNode.request("wiki"), ["deny"]);
});

test("without grants a route with grace serves until its grace ends, a route without grace stops at once, and so do their streams", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  testNode.request("wiki", "stream");
  testNode.request("vault", "stream");
  testNode.world.run(3_000);
  testNode.granting = false;
  testNode.world.run(5_500);
  assert.deepEqual([testNode.request("wiki"), testNode.request("vault")], [["permit"], ["unavailable"]]);
  assert.deepEqual(
    testNode
      .all("exchange-ended")
      .filter(({ how }) => how === "cut")
      .map(({ reason }) => reason),
    ["stale"],
  );
  testNode.world.run(9_000);
  assert.deepEqual([testNode.request("wiki"), testNode.request("vault")], [["unavailable"], ["unavailable"]]);
});

test("a killed node restarts from its disk; with a lost disk it reads the whole log again", () => {
  const testNode = new TestNode();
  testNode.world.run(20_000);
  assert.ok(testNode.all("snapshot-built").length > 0);
  testNode.node.process.restart();
  testNode.world.run(22_000);
  assert.deepEqual(
    testNode.all("snapshot-loaded").map(({ from }) => from),
    ["disk"],
  );
  assert.deepEqual(testNode.all("rebuilding"), []);
  testNode.commit(signedIn(100, 1));
  testNode.world.run(22_500);
  assert.deepEqual(testNode.request("wiki"), ["permit"]);
  testNode.node.disk("lost");
  testNode.node.process.restart();
  testNode.world.run(24_000);
  assert.equal(testNode.all("snapshot-loaded").length, 1);
  assert.deepEqual(testNode.request("wiki"), ["permit"]);
});

test("a resumed node permits nothing before a grant that it requested after the pause", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  testNode.granting = false;
  testNode.node.process.pause();
  testNode.world.run(5_000);
  testNode.node.process.resume();
  testNode.world.run(5_001);
  assert.deepEqual(testNode.request("wiki"), ["unavailable"]);
  testNode.granting = true;
  testNode.world.run(7_000);
  assert.deepEqual(testNode.request("wiki"), ["permit"]);
});

test("a node ignores another node's grant and accepts its own grant with the same number", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  testNode.crossing = "next";
  const before = testNode.all("grant-received").length;
  testNode.world.run(5_500);
  assert.equal(testNode.crossing, "no");
  const [another, own] = testNode.all("grant-received").slice(before);
  assert.deepEqual([another?.taken, own?.taken, another?.nonce], [false, true, own?.nonce]);
});

test("a node that stops cuts its open streams, sends a goodbye and exits", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  testNode.request("wiki", "stream");
  testNode.world.run(3_000);
  testNode.node.process.run(() => testNode.node.stop());
  testNode.world.run(4_000);
  assert.deepEqual(
    testNode.all("exchange-ended").map(({ how, reason }) => [how, reason]),
    [["cut", "draining"]],
  );
  const [ended, goodbye] = [testNode.all("exchange-ended")[0], testNode.all("goodbye-sent")[0]];
  assert.ok(ended && goodbye && ended.at <= goodbye.at);
  assert.equal(testNode.node.process.isUp, false);
});

test("another configuration takes effect at once: streams that its policies deny are cut, the others continue", () => {
  const testNode = new TestNode();
  testNode.commit(signedIn(100, 1));
  testNode.world.run(2_500);
  testNode.request("wiki", "stream");
  testNode.request("vault", "stream");
  testNode.world.run(3_000);
  testNode.node.process.run(() => testNode.node.configure(5)); // it has no route `vault`
  testNode.world.run(3_100);
  assert.deepEqual(
    testNode.all("exchange-ended").map(({ request, reason }) => [request, reason]),
    [[2, "route-removed"]],
  );
  assert.deepEqual(testNode.request("vault"), ["deny"]);
  testNode.node.process.run(() => testNode.node.configure(6)); // a route for members of `board` precedes `wiki`
  testNode.world.run(3_200);
  assert.deepEqual(
    testNode.all("exchange-ended").map(({ request, reason }) => [request, reason]),
    [
      [2, "route-removed"],
      [1, "not-permitted"],
    ],
  );
});
