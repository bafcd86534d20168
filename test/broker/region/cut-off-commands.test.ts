/** Commands and receipts of a regional broker whose home region is out of reach, or has no leader. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import { startRegionalBroker } from "../../../src/broker/region/regional-broker.ts";
import {
  type CommandRequest,
  genesis,
  type MonotonicMs,
  Projection,
  parseBrokerId,
  parseCommandId,
  parseSessionId,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import type { ReplicaProcess } from "../../../src/replication/node/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";

describe("commands of a region whose home is out of reach", () => {
  test("are refused at once, with a code and as certainly not accepted; so are receipts and snapshots", async (t) => {
    const { broker, clock, calls } = await startBroker(t, async () => hangs());
    clock.ms += 60_000;
    const operator = broker.databroker("operator");
    const result = await operator.submit(revocation());
    assert.ok(result.type === "unavailable");
    assert.deepEqual([result.code, result.outcome, result.retryAfterMs], ["home-unreachable", "none", 5_000]);
    const unreachable = (error: unknown): boolean =>
      error instanceof BrokerUnavailableError && error.reason === "home-unreachable" && error.outcome === "none";
    await assert.rejects(operator.receipt({ type: "link", link: genesis }, { wait: "all", timeoutMs: 0 }), unreachable);
    await assert.rejects(operator.takeSnapshot(), unreachable);
    assert.equal(calls(), 0);
  });

  test("that were forwarded before it was lost end soon after, with an unknown outcome", async (t) => {
    const { broker, clock, calls } = await startBroker(t, async () => hangs());
    const waiting = broker.databroker("operator").submit(revocation());
    await waitFor("the command to be forwarded", () => calls() === 1);
    clock.ms += 60_000;
    const result = await waiting;
    assert.ok(result.type === "unavailable");
    assert.deepEqual([result.code, result.outcome], ["home-unreachable", "unknown"]);
  });

  test("are forwarded while home brokers answer that none leads: another one will", async (t) => {
    let leads = false;
    const { broker, clock, own } = await startBroker(t, async ({ commandId }) => {
      if (!leads) throw new BrokerUnavailableError("no leading broker can be reached");
      return { type: "done", commandId, link: genesis, changed: true };
    });
    for (let n = 0; n < 10; n += 1) {
      clock.ms += 1_000;
      await assert.rejects(own().lease(new Uint8Array()));
    }
    const refused = await broker.databroker("operator").submit(revocation());
    assert.ok(refused.type === "unavailable" && refused.code === undefined, JSON.stringify(refused));
    leads = true;
    assert.equal((await broker.databroker("operator").submit(revocation())).type, "done");
  });
});

const hangs = <T>(): Promise<T> => new Promise(() => {});
const revocation = (): CommandRequest => ({
  commandId: parseCommandId(randomUUID()),
  actor: "operator:test",
  command: { type: "revokeSession", sessionId: parseSessionId("s1"), reason: "operator" },
});

/** A regional broker with its own clock, and home brokers without a leader that answer commands as the test says. */
async function startBroker(t: TestContext, submit: Databroker["submit"]) {
  const clock = { ms: 1_000 };
  let calls = 0;
  let own: Databroker | undefined;
  const noLeader = async () => {
    throw new BrokerUnavailableError("no leading broker can be reached");
  };
  const home = {
    submit(request: CommandRequest) {
      calls += 1;
      return submit(request);
    },
    lease: noLeader,
  } as Partial<Databroker> as Databroker;
  const broker = startRegionalBroker({
    ...{ cluster: "test", brokerId: parseBrokerId("regional-1"), region: "ap", secret: randomBytes(32) },
    ...{ previousSecret: null, revocations: null },
    ...{ version: "1", renewMs: 1_000, random: randomBytes, fanout: null },
    clock: { monotonic: () => clock.ms as MonotonicMs, wall: () => (1_700_000_000_000 + clock.ms) as UnixMs },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    copy: new RegionCopy(new SimCopyStore()),
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => home,
    startReplica: ({ databroker }) => {
      own = databroker;
      const replica = {
        ...{ applied: genesis, projection: new Projection(), lease: () => null },
        ...{ onChange: () => () => {}, goodbye: async () => true, stop: async () => {} },
      };
      return replica as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  t.after(() => broker.stop());
  const ownDatabroker = (): Databroker => {
    if (own === undefined) throw new Error("the broker has not started its replica");
    return own;
  };
  // The watch begins with the first input of the region core.
  await ownDatabroker()
    .lease(new Uint8Array())
    .catch(() => {});
  return { broker, clock, calls: () => calls, own: ownDatabroker };
}
