/** A regional broker: which calls it forwards to the home region, and when. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import { startRegionalBroker } from "../../../src/broker/region/regional-broker.ts";
import {
  type CommandRequest,
  type Epoch,
  genesis,
  type Incarnation,
  type MonotonicMs,
  type Position,
  Projection,
  parseBrokerId,
  parseCommandId,
  parseNodeId,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { ClusterStatus, Databroker, StatusOptions } from "../../../src/replication/index.ts";
import type { HeldLease } from "../../../src/replication/lease/index.ts";
import type { ReplicaProcess } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { cluster, FakeNode, quiet, secret } from "../support.ts";

test("an activation is forwarded only while the regional broker holds a lease", async (t) => {
  const forwarded: CommandRequest[] = [];
  let leader: "accepts" | "refuses" = "accepts";
  const home = {
    submit: async (request: CommandRequest) => {
      forwarded.push(request);
      const { commandId } = request;
      if (leader === "refuses") return { type: "refused", commandId, code: "forbidden", message: "in its own name" };
      return { type: "done", commandId, link: genesis, changed: true };
    },
    lease: async () => null,
  } as Partial<Databroker> as Databroker;
  let lease: HeldLease | null = null;
  let own: Databroker | undefined;
  const broker = startRegionalBroker({
    ...{
      cluster: "test",
      brokerId: parseBrokerId("regional-1"),
      region: "ap",
      secret: randomBytes(32),
      previousSecret: null,
    },
    ...{ version: "1", renewMs: 60_000, clock: systemClock, random: randomBytes, fanout: null },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    copy: new RegionCopy(new SimCopyStore()),
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => home,
    revocations: null,
    startReplica: ({ databroker }) => {
      own = databroker;
      const replica = {
        applied: genesis,
        projection: new Projection(),
        lease: () => lease,
        onChange: () => () => {},
        goodbye: async () => true,
        stop: async () => {},
      };
      return replica as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  t.after(() => broker.stop());
  const name = parseNodeId("proxy-1");
  const databroker = broker.databrokerFor({ origin: "remote", hop: "direct", caller: { role: "proxy", name } });
  const request = {
    ...{ commandId: parseCommandId(randomUUID()), actor: `service:${name}` },
    command: { type: "activateConfiguration", nodeId: name, configHash: "a".repeat(64) },
  } as CommandRequest;

  await own?.lease(new Uint8Array()); // the home region answers
  assert.equal((await databroker.submit(request)).type, "unavailable");
  assert.equal(forwarded.length, 0);

  lease = { deltaMs: 5_000 } as HeldLease;
  assert.equal((await databroker.submit(request)).type, "done");
  assert.equal(forwarded.length, 1);

  leader = "refuses"; // a new leader that has not granted this broker a lease yet
  assert.equal((await databroker.submit(request)).type, "unavailable", "a node of an older build submits it again");
  const foreign = { ...request, command: { ...request.command, nodeId: parseNodeId("proxy-2") } } as CommandRequest;
  assert.equal((await databroker.submit(foreign)).type, "refused");
});

test("a regional broker refuses what another region asks of the home region, so that the caller tries the next broker", async (t) => {
  const asked: string[] = [];
  const home = {
    lease: async () => {
      asked.push("lease");
      return null;
    },
  } as Partial<Databroker> as Databroker;
  const broker = startRegionalBroker({
    ...{
      cluster: "test",
      brokerId: parseBrokerId("regional-1"),
      region: "ap",
      secret: randomBytes(32),
      previousSecret: null,
    },
    ...{ version: "1", renewMs: 60_000, clock: systemClock, random: randomBytes, fanout: null },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    copy: new RegionCopy(new SimCopyStore()),
    mark: { leftBehind: false, set() {}, clear() {} },
    revocations: null,
    home: () => home,
    startReplica: () => {
      const replica = {
        ...{ applied: genesis, projection: new Projection(), lease: () => null, onChange: () => () => {} },
        ...{ goodbye: async () => true, stop: async () => {} },
      };
      return replica as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  t.after(() => broker.stop());
  const name = "regional-2";
  for (const role of ["broker", "proxy", "operator"] as const) {
    const regional = broker.databrokerFor({ origin: "remote", hop: "regional", caller: { role, name } });
    const unavailable = { code: "ERR_REPLICATION_BROKER_UNAVAILABLE" };
    await assert.rejects(regional.lease(new Uint8Array()), unavailable);
    await assert.rejects(regional.read(genesis, { limit: 1, waitMs: 0 }), unavailable);
    await assert.rejects(regional.status(), unavailable);
    const commandId = parseCommandId(randomUUID());
    const request = { commandId, actor: "system", command: { type: "expireSessions" } } as unknown as CommandRequest;
    assert.equal((await regional.submit(request)).type, "unavailable");
  }
  const direct = broker.databrokerFor({ origin: "remote", hop: "direct", caller: { role: "broker", name } });
  await assert.rejects(direct.lease(new Uint8Array()), /grants no leases to brokers/);
  assert.deepEqual(asked, []);
});

test("before its part changes, a broker waits until the leases by age have ended, also once its own lease is blocked", async (t) => {
  const now = 100_000;
  const clock = { monotonic: () => now as MonotonicMs, wall: () => now as UnixMs };
  const away = async (): Promise<never> => {
    throw new BrokerUnavailableError("away", { reason: "no-answer" });
  };
  let lease: HeldLease | null = {
    ...{ epoch: 1 as Epoch, incarnation: "i" as Incarnation, start: 1 as Position },
    ...{ freshSinceMs: now - 1_000, deltaMs: 5_000, drift: 0.01, windowMs: 65_000 },
  };
  const broker = startRegionalBroker({
    ...{ cluster, brokerId: parseBrokerId("regional-1"), region: "ap", secret, previousSecret: null },
    ...{ version: "1", renewMs: 1_000, clock, random: randomBytes, fanout: null, logger: quiet },
    copy: new RegionCopy(new SimCopyStore()),
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => ({ lease: away, status: away }) as Partial<Databroker> as Databroker,
    revocations: null,
    startReplica: () => {
      const replica = {
        ...{ applied: genesis, projection: new Projection(), lease: () => lease, onChange: () => () => {} },
        ...{ goodbye: async () => true, stop: async () => {} },
      };
      return replica as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  t.after(() => broker.stop());
  const node = new FakeNode("proxy-1");
  node.windowMs = 65_000;
  const { ageMs } = await node.lease(broker.databroker("proxy"));
  assert.equal(ageMs, 1_000);
  lease = null;
  assert.ok((await broker.stopBeforeRoleChange()) >= 64_000);
});

test("the status of a region that is cut off says until when leases by age count, and how the regions were last known", async (t) => {
  let home: "answers" | "is away" = "answers";
  let now = 1_000;
  const wallAtZero = 1_700_000_000_000;
  const clock = { monotonic: () => now as MonotonicMs, wall: () => (wallAtZero + now) as UnixMs };
  const regions = [
    { region: "eu", brokers: 1, nodes: 2, fenced: 0, absent: 0, cutOff: false, lag: 0, silentMs: 300 },
    { region: "ap", brokers: 1, nodes: 1, fenced: 0, absent: 0, cutOff: false, lag: 0, silentMs: 300 },
  ];
  const asked: (StatusOptions | undefined)[] = [];
  const leading = {
    leader: { brokerId: "broker-1", head: genesis },
    nodes: [],
    absent: [],
    regions,
  } as unknown as ClusterStatus;
  const away = async (): Promise<never> => {
    throw new BrokerUnavailableError("away", { reason: "no-answer" });
  };
  const homeDatabroker = {
    status: async (options?: StatusOptions) => {
      asked.push(options);
      return home === "answers" ? leading : away();
    },
    lease: async () => (home === "answers" ? null : away()),
  } as Partial<Databroker> as Databroker;
  let own: Databroker | undefined;
  const lines: string[] = [];
  const note = (_: object, message: string) => void lines.push(message);
  const broker = startRegionalBroker({
    ...{ cluster: "test", brokerId: parseBrokerId("regional-1"), region: "ap", secret: randomBytes(32) },
    ...{ previousSecret: null, version: "1", renewMs: 1_000, clock, random: randomBytes, fanout: null },
    logger: { debug() {}, info: note, warn: note, error: note },
    copy: new RegionCopy(new SimCopyStore()),
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => homeDatabroker,
    revocations: null,
    startReplica: ({ databroker }) => {
      own = databroker;
      const replica = {
        applied: genesis,
        projection: new Projection(),
        lease: () => ({ freshSinceMs: 1_000, windowMs: 65_000, deltaMs: 5_000 }) as HeldLease,
        onChange: () => () => {},
        goodbye: async () => true,
        stop: async () => {},
      };
      return replica as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  t.after(() => broker.stop());
  const operator = broker.databroker("operator");
  await own?.lease(new Uint8Array()); // the home region answers
  assert.deepEqual((await operator.status()).regions, regions);
  assert.deepEqual(broker.ready(), { ready: true, reasons: [] });

  home = "is away";
  now = 4_000;
  await assert.rejects(async () => own?.lease(new Uint8Array()));
  const cutOff = await operator.status();
  assert.deepEqual(
    [cutOff.leader, cutOff.home],
    [
      null,
      {
        region: "ap",
        silentMs: 3_000,
        leasesUntil: wallAtZero + 66_000,
        lastKnown: { at: wallAtZero + 1_000, head: genesis, regions },
      },
    ],
  );
  assert.deepEqual(broker.ready(), {
    ready: true,
    reasons: [`the home region is out of reach; leases by age until ${new Date(wallAtZero + 66_000).toISOString()}`],
  });
  now = 66_001;
  assert.equal((await operator.status({ nodes: "omitted" })).home?.leasesUntil, null);
  assert.ok(asked.includes(undefined));
});
