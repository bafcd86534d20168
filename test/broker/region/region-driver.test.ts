/** The shell of a regional broker: the age mark is on the disk before a grant that rests on it is sent. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import { RegionCopy } from "../../../src/broker/index.ts";
import type { AgeMark } from "../../../src/broker/region/age-mark-file.ts";
import { RegionDriver } from "../../../src/broker/region/region-driver.ts";
import {
  type Epoch,
  genesis,
  type Incarnation,
  type MonotonicMs,
  type Position,
  Projection,
  parseBootId,
  parseBrokerId,
} from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import type { HeldLease } from "../../../src/replication/lease/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  answererOf,
  BrokerUnavailableError,
  createBrokerOpener,
  encodeMessage,
  type Opened,
  type Renew,
} from "../../../src/replication/wire/index.ts";
import { aBoot, aNode, cluster, quiet, secret } from "../../replication/support.ts";

const speaker = answererOf({
  ...{ cluster, name: parseBrokerId("region-broker"), boot: parseBootId("0".repeat(32)), secret },
  seed: new Uint8Array(32),
});
const noMark: AgeMark = { leftBehind: false, set() {}, clear() {} };

/** A regional broker with its own lease, whose home region is unreachable. */
function regionWith(mark: AgeMark): RegionDriver {
  const driver = new RegionDriver({
    copy: new RegionCopy(new SimCopyStore()),
    mark,
    home: () => ({}) as Databroker,
    clock: systemClock,
    logger: quiet,
    version: "1",
    renewMs: 1_000,
    openBroker: createBrokerOpener({ cluster, secrets: [secret] }),
    openNode: renewIn,
    signer: speaker,
    revocations: null,
  });
  const lease: HeldLease = {
    ...{ epoch: 1 as Epoch, incarnation: "i" as Incarnation, start: 1 as Position, drift: 0.01 },
    ...{ freshSinceMs: systemClock.monotonic() as MonotonicMs, deltaMs: 5_000, windowMs: 15_000 },
  };
  driver.setReplica({ applied: genesis, readNow() {}, projection: new Projection(), lease: () => lease });
  return driver;
}

/** Parses any bytes as one node's renew. */
function renewIn(): Opened {
  const renew: Renew = {
    ...{ node: aNode, boot: aBoot, nonce: 1, region: "west", role: "proxy", version: "1", reads: 1 },
    ...{ windowMs: 15_000, applied: genesis, enforced: genesis, digest: new Projection().digest(), configHash: "c" },
    ...{ replaces: null, monotonicMs: 1 },
  };
  const from: Opened["from"] = {
    ...{ cluster, role: "proxy", name: aNode, boot: aBoot, publicKey: new Uint8Array(32) },
    ...{ epoch: 0 as Epoch, incarnation: "" },
  };
  return { from, kind: "renew", payload: encodeMessage(renew) };
}

test("the age mark is on the disk before a grant by age is sent", async (t) => {
  const order: string[] = [];
  const driver = regionWith({ ...noMark, set: () => void order.push("mark") });
  t.after(() => void driver.stop());
  assert.notEqual(await driver.take("proxy", new Uint8Array()).finally(() => order.push("grant")), null);
  assert.deepEqual(order, ["mark", "grant"]);
});

test("no grant by age is sent if the disk does not store the age mark", async (t) => {
  const driver = regionWith({
    ...noMark,
    set: () => {
      throw new Error("no space left on device");
    },
  });
  t.after(() => void driver.stop());
  await assert.rejects(driver.take("proxy", new Uint8Array()), BrokerUnavailableError);
});
