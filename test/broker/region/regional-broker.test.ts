/** A regional broker: which calls it forwards to the home region, and when. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import { startRegionalBroker } from "../../../src/broker/region/regional-broker.ts";
import {
  type CommandRequest,
  genesis,
  Projection,
  parseBrokerId,
  parseCommandId,
  parseNodeId,
} from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import type { HeldLease } from "../../../src/replication/lease/index.ts";
import type { ReplicaProcess } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";

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
    ...{ cluster: "test", brokerId: parseBrokerId("regional-1"), secret: randomBytes(32), previousSecret: null },
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
    ...{ cluster: "test", brokerId: parseBrokerId("regional-1"), secret: randomBytes(32), previousSecret: null },
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
