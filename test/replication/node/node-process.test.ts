/** Replica process: a whole node against fake brokers and a local fan-out, in real time. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { afterEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import {
  type BootId,
  clusterStream,
  decode,
  encode,
  type Link,
  type MonotonicMs,
  type PersonKey,
  type Position,
  Projection,
  type Stream,
  seal,
  sessionStream,
  type UnixMs,
  wrapKey,
} from "../../../src/events/index.ts";
import { createLocalFanout, type Fanout } from "../../../src/replication/fanout/index.ts";
import type { Clock } from "../../../src/replication/index.ts";
import { type ReplicaOptions, type ReplicaProcess, startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { createEnvelopeOpener, enrolmentRoot, personKeyWrap } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { delayedFanout } from "../../support/delayed-fanout.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FakeBrokers } from "../fake-brokers.ts";
import {
  aNode,
  bytesOf,
  cluster,
  created,
  type History,
  history,
  leaderOf,
  newSigner,
  quiet,
  revoked,
  sealMessage,
  secret,
  sessionId,
  userId,
} from "../support.ts";

const running: ReplicaProcess[] = [];
afterEach(async () => {
  for (const node of running.splice(0)) await node.stop();
});

type Parts = Partial<ReplicaOptions>;
function start(brokers: FakeBrokers, parts: Parts = {}): ReplicaProcess {
  const node = startReplica({
    name: aNode,
    role: "proxy",
    region: "test",
    version: "1",
    configHash: () => "config-1",
    cluster,
    secret,
    databroker: brokers.databroker,
    fanout: brokers.fanout,
    clock: systemClock,
    randomBytes: (size) => randomBytes(size),
    logger: quiet,
    windowMs: () => 65_000,
    dataDir: null,
    renewMs: 100,
    ...parts,
  });
  running.push(node);
  return node;
}

async function ready(node: ReplicaProcess): Promise<ReplicaProcess> {
  if (!(await node.whenReady(5_000))) assert.fail(node.ready().reasons.join("; "));
  return node;
}

const local = (): Fanout => createLocalFanout({ logger: quiet });
const overdue = (node: ReplicaProcess): number => node.overdueMs(systemClock.monotonic());
const never = Number.POSITIVE_INFINITY;
const reached = (node: ReplicaProcess, link: Link) =>
  waitFor(`the node to reach ${link.position}`, () => node.applied.hash === link.hash);
const enforced = (node: ReplicaProcess, link: Link) =>
  waitFor(`the node to have enforced ${link.position}`, () => node.enforced.hash === link.hash);

function digestOf(log: History): string {
  const projection = new Projection();
  for (const { recorded } of log.entries) projection.apply(recorded);
  return projection.digest();
}

test("a node reads the log to its head, is granted a lease and is ready", async () => {
  const brokers = new FakeBrokers({ log: history(50), fanout: local() });
  const node = start(brokers, { pageLimit: 7 });
  assert.equal(overdue(node), never, "before that it permits nothing");
  assert.match(node.ready().reasons.join(), /reading the log/);
  await ready(node);
  assert.deepEqual(node.applied, brokers.log.head);
  assert.equal(node.projection.digest(), digestOf(brokers.log));
  assert.ok(overdue(node) <= 0);
  const renew = await waitFor("a renewal at the head", () => brokers.renews.find((r) => r.applied.position === 50));
  assert.equal(renew.digest, digestOf(brokers.log));
  assert.deepEqual(renew.enforced, brokers.log.head);
});

test("a delivery is applied, passed to listeners and enforced before `publish` returns", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  const changes: [number, string[]][] = [];
  node.onChange(({ link, touched }) => void changes.push([link.position, [...touched]]));
  const link = brokers.commit(created(1), revoked(1));
  assert.deepEqual(changes, [[3, [sessionStream(sessionId(1))]]]);
  assert.deepEqual(node.enforced, link);
});

test("an enforced revocation is confirmed at once, a neutral event is not confirmed", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  await ready(start(brokers, { renewMs: 60_000 }));
  brokers.commit({ type: "GroupUpserted", groupId: "g" as never, name: "g" });
  const link = brokers.commit(revoked(1));
  await waitFor("a confirmation", () => brokers.confirms.length === 1);
  assert.deepEqual(brokers.confirms[0]?.enforced, link);
});

test("a node of a large cluster, whose leader names a pause, confirms many changes with few messages", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  brokers.grantParts = () => ({ confirmPauseMs: 200 });
  await ready(start(brokers, { renewMs: 60_000 }));
  for (let n = 0; n < 30; n++) {
    brokers.commit(revoked(n));
    await delay(2);
  }
  const says = ({ enforced }: Readonly<{ enforced: { position: number } }>): boolean => enforced.position === 31;
  await waitFor("the last change", () => brokers.confirms.some(says) || brokers.renews.some(says));
  assert.ok(brokers.confirms.length < 5, `${brokers.confirms.length} confirmations`);
});

test("confirmations are sent one at a time, up to the newest enforced link", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const databroker = brokers.databroker;
  let inFlight = 0;
  const slow = {
    ...databroker,
    lease: async (envelope: Uint8Array) => {
      inFlight += 1;
      assert.ok(inFlight <= 2, "at most one renewal and one confirmation are in flight");
      await delay(20);
      inFlight -= 1;
      return databroker.lease(envelope);
    },
  };
  await ready(start(brokers, { databroker: slow, renewMs: 60_000 }));
  for (let n = 0; n < 30; n++) brokers.commit(revoked(n));
  await waitFor("the last confirmation", () => brokers.confirms.at(-1)?.enforced.position === 31);
  assert.ok(brokers.confirms.length < 5);
});

test("a lost delivery is noticed at the next one, and read from a broker", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.publishing = false;
  brokers.commit(created(1));
  brokers.publishing = true;
  await reached(node, brokers.commit(revoked(1)));
  assert.equal(node.projection.digest(), digestOf(brokers.log));
});

test("a lost last delivery is noticed at the next grant", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.publishing = false;
  await reached(node, brokers.commit(created(1)));
});

test("without a fan-out every change arrives by a read that waits at the head", async (t) => {
  const brokers = new FakeBrokers();
  const node = await ready(start(brokers, { renewMs: 60_000 }));
  await waitFor("a read that waits", () => brokers.reads.at(-1)?.waitMs === 1_000);
  const startedAt = performance.now();
  await reached(node, brokers.commit(created(1)));
  t.diagnostic(`applied after ${Math.round(performance.now() - startedAt)} ms`);
  const before = brokers.reads.length;
  await delay(300);
  assert.ok(brokers.reads.length - before <= 2, "it does not read without pause");
});

test("a broker that answers waiting reads at once is not read from without pause", async () => {
  const brokers = new FakeBrokers();
  const databroker = brokers.databroker;
  const impatient = {
    ...databroker,
    read: (after: Link, o: never) => databroker.read(after, { ...(o as object), waitMs: 0 } as never),
  };
  await ready(start(brokers, { databroker: impatient as never }));
  const before = brokers.reads.length;
  await delay(500);
  assert.ok(brokers.reads.length - before <= 12);
});

test("changes arrive by reads while the fan-out is down, and reads stop when it is back", async (t) => {
  const inner = local();
  let healthy = true;
  const fanout: Fanout = { ...inner, status: () => ({ ...inner.status(), healthy }) };
  const brokers = new FakeBrokers({ fanout });
  const node = await ready(start(brokers));
  brokers.publishing = false;
  healthy = false;
  const failedAt = performance.now();
  await reached(node, brokers.commit(created(1)));
  t.diagnostic(`applied ${Math.round(performance.now() - failedAt)} ms after the fan-out failed`);
  await waitFor("a read that waits", () => brokers.reads.at(-1)?.waitMs === 1_000);
  healthy = true;
  brokers.publishing = true;
  await reached(node, brokers.commit(created(2)));
  await delay(50);
  const before = brokers.reads.length;
  await reached(node, brokers.commit(created(3)));
  await delay(600);
  assert.equal(brokers.reads.length, before);
});

test("without reachable brokers a node retries with growing pauses, and recovers by itself", async () => {
  const brokers = new FakeBrokers({ log: history(5) });
  brokers.reachable = false;
  const node = start(brokers);
  await delay(1_500);
  assert.ok(brokers.reads.length >= 3 && brokers.reads.length < 15, `${brokers.reads.length} reads`);
  brokers.reachable = true;
  await ready(node);
});

test("a slow listener holds back `enforced`, not `applied`", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  const before = node.enforced;
  const cutting = Promise.withResolvers<void>();
  node.onChange(() => cutting.promise);
  const link = brokers.commit(revoked(1));
  assert.deepEqual(node.applied, link);
  assert.deepEqual(node.enforced, before);
  const renews = brokers.renews.length;
  await waitFor("two more renewals", () => brokers.renews.length > renews + 2);
  assert.deepEqual(brokers.renews.at(-1)?.enforced, before);
  assert.deepEqual(brokers.renews.at(-1)?.applied, link);
  assert.equal(brokers.confirms.length, 0);
  cutting.resolve();
  await enforced(node, link);
  await waitFor("the confirmation", () => brokers.confirms.at(-1)?.enforced.position === link.position);
});

test("a confirmation names what is enforced, not what is applied but still being cut", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers, { renewMs: 10_000 }));
  const cuts = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let changes = 0;
  node.onChange(() => cuts[changes++]?.promise);
  const first = brokers.commit(revoked(1));
  const second = brokers.commit(revoked(2));
  assert.deepEqual(node.applied, second);
  cuts[0]?.resolve();
  await waitFor("the confirmation", () => brokers.confirms.length > 0);
  assert.deepEqual(brokers.confirms.at(-1)?.enforced, first);
  cuts[1]?.resolve();
  await waitFor("the second confirmation", () => brokers.confirms.at(-1)?.enforced.position === second.position);
});

test("a listener that fails blocks the node's lease, and the node stops renewing", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  node.onChange(() => Promise.reject(new Error("a stream would not close")));
  brokers.commit(revoked(1));
  await waitFor("the node to notice", () => overdue(node) === never);
  assert.match(node.ready().reasons.join(), /could not be enforced/);
  await delay(150);
  const renews = brokers.renews.length;
  await delay(400);
  assert.equal(brokers.renews.length, renews);
});

test("a listener that never finishes blocks the node's lease after a bound, and the node stops renewing", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers, { enforcingMsMax: 1_000 }));
  node.onChange(() => new Promise(() => {}));
  brokers.commit(revoked(1));
  assert.ok(overdue(node) <= 0);
  await waitFor("the node to give up", () => overdue(node) === never);
  assert.match(node.ready().reasons.join(), /could not be enforced/);
  const renews = brokers.renews.length;
  await delay(300);
  assert.equal(brokers.renews.length, renews);
});

test("a commit made by a listener is applied after the change that the listener sees, in order", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  const positions: number[] = [];
  node.onChange(({ link }) => {
    positions.push(link.position);
    if (link.position < 6) brokers.commit(created(link.position));
    assert.deepEqual(node.applied, link, "the listener sees the projection at its change");
  });
  brokers.commit(created(1));
  assert.deepEqual(positions, [2, 3, 4, 5, 6]);
  assert.deepEqual(node.enforced, brokers.log.head);
});

// --- read your writes

test("a request that needs a link does not wait for a fan-out with a delay of 3 s", async () => {
  const brokers = new FakeBrokers({ fanout: delayedFanout(local(), { delayMs: 3_000 }) });
  const node = await ready(start(brokers, { renewMs: 60_000 }));
  const link = brokers.commit(created(1));
  assert.equal(await node.waitFor(link, 150), "reached");
  assert.equal(node.projection.sessionStatus(sessionId(1)).status, "active");
  assert.equal(await node.waitFor(link, 0), "reached");
  await brokers.fanout?.close();
});

test("a request that needs an unavailable link is refused in time", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.reachable = false;
  brokers.publishing = false;
  const link = brokers.commit(created(1));
  const startedAt = performance.now();
  assert.equal(await node.waitFor(link, 100), "behind");
  assert.ok(performance.now() - startedAt >= 95);
  assert.equal(node.metrics().waiting, 0);
});

test("a link of a lost suffix is refused, whether or not the log has reached its position again", async () => {
  const brokers = new FakeBrokers({ log: history(20), fanout: local() });
  const [reused, beyond] = [brokers.log.linkAt(12), brokers.log.linkAt(20)];
  brokers.failOver({ keep: 9, epoch: 2 });
  while (brokers.log.entries.length < 15) brokers.commit(created(brokers.log.entries.length));
  const node = await ready(start(brokers));
  assert.equal(await node.waitFor(reused, 100), "lost");
  assert.equal(await node.waitFor(beyond, 100), "lost");
  assert.equal(await node.waitFor(brokers.log.linkAt(9), 100), "reached");
});

test("changes that the log has lost are reported to the operator once, with their subjects, whatever their effect", async () => {
  const logged: { message: string; fields: { events?: number; streams?: readonly Stream[]; more?: boolean } }[] = [];
  const logger = { ...quiet, error: (fields: object, message: string) => void logged.push({ message, fields }) };
  const lossReports = () => logged.filter(({ message }) => message.startsWith("the log has lost changes"));
  const brokers = new FakeBrokers({ log: history(5), fanout: local() });
  const node = await ready(start(brokers, { logger }));
  const member = { type: "GroupMembersChanged", groupId: "eng" as never, source: "operator" } as const;
  brokers.commit({ ...member, added: [], removed: [userId(1)] });
  brokers.commit(created(77, 2));
  await waitFor("both changes", () => node.applied.position === 7);
  brokers.failOver({ keep: 5, epoch: 2 });
  await waitFor("the new history", () => node.applied.epoch === 2);
  await ready(node);
  assert.deepEqual(lossReports().length, 1, logged.map(({ message }) => message).join("\n"));
  const { events, streams = [], more } = lossReports()[0]?.fields ?? {};
  assert.deepEqual([events, more], [2, false]);
  assert.ok(streams.some((stream) => stream === "group:eng") && streams.includes(`user:${userId(1)}` as Stream));
  assert.equal(streams.at(-1), sessionStream(sessionId(77)), "sessions last");
  brokers.commit(created(78, 2));
  brokers.failOver({ keep: 6, epoch: 3 });
  await waitFor("a third history", () => node.applied.epoch === 3);
  await ready(node);
  assert.deepEqual(
    lossReports().map(({ fields }) => fields.events),
    [2, 1],
    "nothing is reported twice",
  );
});

// --- forged and unauthenticated messages

test("unauthenticated messages are dropped and counted, even if they link", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  const stranger = newSigner({ rootSecret: bytesOf("another") });
  const honest = brokers.leader;
  brokers.leader = stranger;
  brokers.publishing = true;
  const before = node.applied;
  brokers.log.add(created(1));
  brokers.fanout?.publish(sealMessage(stranger, "batch", brokers.log.batch(1, 2)));
  brokers.fanout?.publish(sealMessage(newSigner({ role: "proxy" }), "batch", brokers.log.batch(1, 2)));
  brokers.fanout?.publish(sealMessage(leaderOf(1, "another"), "batch", brokers.log.batch(1, 2)));
  brokers.fanout?.publish(randomBytes(500));
  assert.deepEqual(node.applied, before);
  assert.deepEqual(node.metrics().refused, { "delivery: not-authentic": 3, "delivery: wrong-sender": 1 });
  brokers.leader = honest;
  await reached(node, brokers.log.head);
});

test("a forged grant gives no lease, even if everything in it is true", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const databroker = brokers.databroker;
  const honest = brokers.leader;
  const forged = {
    ...databroker,
    lease: async (envelope: Uint8Array) => {
      const grant = await databroker.lease(envelope);
      if (grant === null) return null;
      const broken = Uint8Array.from(grant);
      broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 1;
      return broken;
    },
  };
  assert.ok(honest);
  const node = start(brokers, { databroker: forged });
  await waitFor("forged grants to be refused", () => (node.metrics().refused["grant: not-authentic"] ?? 0) >= 3);
  assert.equal(overdue(node), never);
});

test("a grant of a leader known to be deposed does not count, although its head is on the chain", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const deposed = new FakeBrokers({ log: brokers.log.fork(1) });
  brokers.granting = false;
  let requests = 0;
  const lease = async (envelope: Uint8Array) => {
    requests += 1;
    return requests <= 3 ? brokers.databroker.lease(envelope) : deposed.databroker.lease(envelope);
  };
  const node = start(brokers, { databroker: { ...brokers.databroker, lease } });
  await reached(node, brokers.log.head);
  brokers.failOver({ keep: 1, epoch: 2 });
  assert.equal(node.applied.epoch, 2);
  await waitFor("grants of the deposed leader", () => node.metrics().grants > 1);
  assert.equal(overdue(node), never);
});

test("an event that cannot be folded blocks the node's lease, even if the leader signed it", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.log.addUnknown("GroupMembersChanged", { effect: "either", stream: "group:eng" });
  brokers.publish(brokers.log.entries.length - 1);
  assert.equal(overdue(node), never);
  await delay(150);
  const renews = brokers.renews.length;
  await delay(300);
  assert.equal(brokers.renews.length, renews);
});

test("a grant for another boot does not count", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  brokers.grantParts = () => ({ boot: "boot-of-another" as BootId });
  const node = start(brokers);
  await waitFor("some renewals", () => brokers.renews.length > 3);
  assert.equal(overdue(node), never);
});

// --- the lease

test("without grants the lease expires, and the next grant restores it", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  brokers.lease = { deltaMs: 300, windowMs: 600 };
  const node = await ready(start(brokers, { renewMs: 50 }));
  brokers.granting = false;
  await waitFor("the lease to be stale", () => overdue(node) > 0 && overdue(node) < never);
  await waitFor("the window to be over", () => overdue(node) === never);
  brokers.granting = true;
  await ready(node);
});

test("a node whose clock jumped permits nothing until a later renewal is granted, and says why", async () => {
  let sleptMs = 0;
  const clock: Clock = {
    monotonic: () => (systemClock.monotonic() + sleptMs) as MonotonicMs,
    wall: () => (systemClock.wall() + sleptMs) as UnixMs,
  };
  const brokers = new FakeBrokers({ fanout: local() });
  brokers.grantParts = (grant) => ({ wallMs: (grant.wallMs + sleptMs) as UnixMs });
  const node = await ready(start(brokers, { clock, renewMs: 60_000 }));
  sleptMs = 2_000;
  assert.equal(node.overdueMs(clock.monotonic()), never, "before any tick");
  assert.match(node.ready().reasons.join(), /did not run/);
  await ready(node); // it renews at its tick, without waiting for the next regular renewal
  assert.ok(node.overdueMs(clock.monotonic()) <= 0);
});

test("a sleep that the monotonic clock did not count is noticed by the wall clock", async () => {
  let sleptMs = 0;
  const clock: Clock = { monotonic: systemClock.monotonic, wall: () => (systemClock.wall() + sleptMs) as UnixMs };
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers, { clock, renewMs: 60_000 }));
  sleptMs = 1_500;
  assert.equal(node.overdueMs(clock.monotonic()), never);
});

test("a goodbye is sent and ends the boot permanently", async () => {
  using folder = new TemporaryFolder("goodbye");
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers, { dataDir: folder.path }));
  node.drain();
  assert.deepEqual(node.ready().reasons, ["draining"]);
  assert.ok(overdue(node) <= 0, "open streams continue");
  assert.equal(await node.goodbye(), true);
  assert.equal(brokers.goodbyes[0]?.boot, node.boot);
  assert.equal(overdue(node), never);
  await node.stop();
  const next = await ready(start(brokers, { dataDir: folder.path }));
  assert.equal(brokers.renews.find(({ boot }) => boot === next.boot)?.replaces, null);
});

test("a boot whose goodbye no broker accepted is named by the next boot", async () => {
  using folder = new TemporaryFolder("node");
  const brokers = new FakeBrokers({ fanout: local() });
  const parts = { dataDir: folder.path };
  const first = await ready(start(brokers, parts));
  brokers.reachable = false;
  assert.equal(await first.goodbye(), false);
  await first.stop();
  brokers.reachable = true;
  await ready(start(brokers, parts));
  assert.equal(brokers.renews.at(-1)?.replaces, first.boot);
});

test("a boot that ended without a goodbye is named by the next boot in its data folder", async () => {
  using folder = new TemporaryFolder("replaces");
  const brokers = new FakeBrokers({ fanout: local() });
  const first = await ready(start(brokers, { dataDir: folder.path }));
  assert.throws(() => start(brokers, { dataDir: folder.path }), { code: "ERR_REPLICATION_DATA_FOLDER_LOCKED" });
  await first.stop();
  const next = await ready(start(brokers, { dataDir: folder.path }));
  assert.equal(brokers.renews.find(({ boot }) => boot === next.boot)?.replaces, first.boot);
});

test("a boot names its predecessor until the leader's first grant, and not after it", async () => {
  using folder = new TemporaryFolder("predecessor");
  const brokers = new FakeBrokers({ fanout: local() });
  const first = await ready(start(brokers, { dataDir: folder.path }));
  await first.stop();
  brokers.granting = false;
  const next = start(brokers, { dataDir: folder.path, renewMs: 20 });
  const own = () => brokers.renews.filter(({ boot }) => boot === next.boot);
  await waitFor("three renewals without a grant", () => own().length >= 3);
  assert.ok(own().every(({ replaces, replacementProof }) => replaces === first.boot && replacementProof !== undefined));

  // A grant of a regional broker carries an age: the leader has not removed the predecessor yet.
  brokers.grantParts = () => ({ ageMs: 1 });
  brokers.granting = true;
  await ready(next);
  const regional = own().length;
  await waitFor("renewals after a regional grant", () => own().length > regional + 2);
  assert.equal(own().at(-1)?.replaces, first.boot);

  brokers.grantParts = () => ({});
  await waitFor("a renewal after the leader's grant", () => own().at(-1)?.replaces === null);
  const granted = own().length;
  await waitFor("more renewals", () => own().length > granted + 2);
  for (const renew of own().slice(granted)) {
    assert.equal(renew.replaces, null);
    assert.equal(renew.replacementProof, undefined);
  }
});

test("a node knows how long its leader has been silent, and takes no grant by age for the leader's", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  brokers.grantParts = () => ({ ageMs: 1 });
  const node = await ready(start(brokers, { renewMs: 20 }));
  assert.ok(overdue(node) <= 0);
  assert.equal(node.leaderSilentMs(), Number.POSITIVE_INFINITY, "no leader has answered yet");
  brokers.grantParts = () => ({});
  await waitFor("a grant of the leader", () => Number.isFinite(node.leaderSilentMs()));
  brokers.grantParts = () => ({ ageMs: 1 });
  await waitFor("silence, with a lease by age", () => node.leaderSilentMs() > 200);
  assert.ok(overdue(node) <= 0);
  brokers.granting = false;
  await waitFor("more silence", () => node.leaderSilentMs() > 300);
  brokers.granting = true;
  brokers.grantParts = () => ({});
  await waitFor("another grant of the leader", () => node.leaderSilentMs() < 200);
});

test("a renewal names the configuration and the window in force when it is sent", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  let configHash = "config-1";
  let windowMs = 65_000;
  const node = await ready(start(brokers, { configHash: () => configHash, windowMs: () => windowMs }));
  configHash = "config-2";
  windowMs = 5_000;
  const after = brokers.renews.length;
  await waitFor("two more renewals", () => brokers.renews.length >= after + 3);
  for (const renew of brokers.renews.slice(after + 1)) {
    assert.deepEqual([renew.configHash, renew.windowMs], ["config-2", 5_000]);
  }
  assert.ok(overdue(node) <= 0);
});

test("every message of a node is signed with the one key of its boot, and is refused if one byte is altered", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const databroker = brokers.databroker;
  const sent: Uint8Array[] = [];
  const recorded = {
    ...databroker,
    lease: (envelope: Uint8Array) => {
      sent.push(envelope);
      return databroker.lease(envelope);
    },
  };
  const node = await ready(start(brokers, { databroker: recorded }));
  await waitFor("a renewal", () => brokers.renews.length >= 2);
  brokers.commit(revoked(1));
  await waitFor("a confirmation", () => brokers.confirms.length === 1);
  assert.equal(await node.goodbye(), true);

  const open = createEnvelopeOpener({ cluster, rootOf: (role) => enrolmentRoot(secret, role).publicKey });
  const kinds = new Set<string>();
  const keys = new Set<string>();
  for (const envelope of sent) {
    const opened = open(envelope);
    if ("refused" in opened) return assert.fail(opened.refused);
    assert.deepEqual([opened.from.name, opened.from.boot, opened.from.role], [aNode, node.boot, "proxy"]);
    kinds.add(opened.kind);
    keys.add(Buffer.from(opened.from.publicKey).toString("hex"));
    const fields = decode(envelope) as unknown[];
    const altered = Uint8Array.from(opened.payload);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    assert.ok("refused" in open(encode(fields.with(4, altered))), opened.kind);
    const unsigned = encode(fields.with(5, new Uint8Array(64)));
    assert.ok("refused" in open(unsigned), opened.kind);
  }
  assert.deepEqual([...kinds].sort(), ["confirm", "goodbye", "renew"]);
  assert.equal(keys.size, 1);
});

// --- a history that was lost

test("a node that holds a lost suffix permits nothing while it rebuilds, and keeps the lost denials", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const shared = brokers.commit(created(1, 1), created(2, 1), created(3, 2));
  const node = await ready(start(brokers));
  brokers.commit(revoked(1, 1));
  brokers.commit(created(9, 1));
  const changes: boolean[] = [];
  node.onChange(({ rebuilt }) => void changes.push(rebuilt));
  brokers.reachable = false; // no read succeeds yet
  brokers.failOver({ keep: shared.position, epoch: 2 });
  assert.equal(overdue(node), never, "the delivery of the new epoch shows the loss");
  assert.match(node.ready().reasons.join(), /rebuilding/);
  assert.equal(node.projection.sessionStatus(sessionId(1)).status, "revoked", "the old projection keeps denying");
  brokers.reachable = true;
  await ready(node);
  assert.deepEqual(changes, [true]);
  assert.equal(node.projection.digest(), digestOf(brokers.log));
  assert.equal(node.projection.sessionStatus(sessionId(9)).status, "unknown");
  assert.equal(node.projection.sessionStatus(sessionId(1)).status, "active", "the surviving log has it active");
  assert.ok(node.isDeniedLocally(sessionStream(sessionId(1))), "the node still denies it");
  assert.ok(!node.isDeniedLocally(sessionStream(sessionId(2))));
  await waitFor("a renewal on the new chain", () => brokers.renews.at(-1)?.enforced.epoch === 2);
  assert.equal(node.metrics().rebuilds, 1);
});

test("a node that missed the new epoch learns of it from a grant", async () => {
  const brokers = new FakeBrokers({ log: history(10), fanout: local() });
  const node = await ready(start(brokers));
  brokers.publishing = false;
  brokers.failOver({ keep: 6, epoch: 2 });
  await waitFor(
    "the new history",
    () => node.projection.digest() === digestOf(brokers.log) && node.applied.epoch === 2,
  );
  await ready(node);
});

// --- events this build does not know

test("an unknown event that may loosen or tighten blocks the lease, and tightening events are still applied", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.commit(created(1), created(2));
  const unknown = (name: string, effect: "neutral" | "either" | "tightens", stream: Stream): void => {
    brokers.log.addUnknown(name, { effect, stream });
    brokers.publish(brokers.log.entries.length - 1);
  };
  unknown("SomethingHarmless", "neutral", clusterStream);
  assert.ok(overdue(node) <= 0);
  unknown("SessionBanished", "tightens", sessionStream(sessionId(1)));
  assert.ok(overdue(node) <= 0);
  assert.equal(node.projection.sessionStatus(sessionId(1)).status, "revoked");
  unknown("RuleOfTheMoon", "either", clusterStream);
  assert.equal(overdue(node), never);
  assert.match(node.ready().reasons.join(), /unknown to this build/);
  unknown("SessionBanished", "tightens", sessionStream(sessionId(2)));
  assert.equal(node.projection.sessionStatus(sessionId(2)).status, "revoked");
  assert.deepEqual(node.enforced, brokers.log.head);
});

test("personal data opens while the person is known, and never after the person's erasure", async () => {
  const person: PersonKey = { userId: userId(1), keyId: bytesOf("id").slice(0, 8), key: bytesOf("key") };
  const sealed = seal({ issuer: "i", subject: "s" }, person, bytesOf("n").slice(0, 12));
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  brokers.keys.set(person.userId, wrapKey(person, personKeyWrap(secret), bytesOf("w").slice(0, 12)));
  brokers.commit({ ...created(1, 1), profile: sealed } as never);
  const session = node.projection.session(sessionId(1));
  assert.ok(session?.status === "active");
  assert.equal(node.open(session.profile, userId(1))?.subject, "s");
  brokers.commit({ type: "UserErased", userId: userId(1) });
  assert.equal(node.open(session.profile, userId(1)), undefined);
  brokers.commit(created(2, 2)); // its batch still carries the key, as from a broker that lags
  assert.equal(node.open(session.profile, userId(1)), undefined);
  assert.equal(node.metrics().personKeys, 0);
});

test("a stopped node permits nothing and leaves no work running", async () => {
  const brokers = new FakeBrokers({ fanout: local() });
  const node = await ready(start(brokers));
  const waiting = node.waitFor({ ...brokers.log.head, position: 99 as never }, 60_000);
  await node.stop();
  assert.equal(overdue(node), never);
  assert.equal(await waiting, "behind");
  const renews = brokers.renews.length;
  brokers.commit(created(1));
  await delay(300);
  assert.equal(node.applied.position, 1);
  assert.ok(brokers.renews.length <= renews + 1);
});

test("a copy behind retention reports it, retries with growing pauses, and is not ready", async () => {
  const brokers = new FakeBrokers({ log: history(5) });
  let reads = 0;
  const truncated = {
    ...brokers.databroker,
    read: async () => {
      reads += 1;
      return { type: "truncated", first: 100 as Position } as const;
    },
  };
  const node = start(brokers, { databroker: truncated, renewMs: 60_000 });
  await delay(1_000);
  assert.match(node.ready().reasons.join(), /begins after this node's position/);
  assert.ok(reads > 1 && reads < 12, `${reads} reads`);
});

test("an unknown event is dropped with its lost suffix", async () => {
  const brokers = new FakeBrokers({ log: history(5), fanout: local() });
  const node = await ready(start(brokers));
  brokers.log.addUnknown("RuleOfTheMoon", { effect: "either", stream: clusterStream });
  brokers.publish(5);
  assert.equal(overdue(node), never);
  brokers.failOver({ keep: 5, epoch: 2 });
  await ready(node);
  assert.equal(node.projection.degraded, undefined);
});

test("a node whose brokers are away retries its goodbye before its process ends", async () => {
  const at = (path: string): string => JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
  const program = `
    import { randomBytes } from "node:crypto";
    import { parseNodeId } from ${at("events/index.ts")};
    import { startReplica } from ${at("replication/node/index.ts")};
    import { systemClock } from ${at("replication/runtime/index.ts")};
    import { BrokerUnavailableError } from ${at("replication/wire/index.ts")};
    const away = async () => { throw new BrokerUnavailableError("connection refused"); };
    const [debug, info, warn, error] = Array(4).fill(() => {});
    const node = startReplica({
      name: parseNodeId("node-1"), role: "proxy", region: "r1", version: "1", configHash: () => "c", cluster: "c1",
      secret: new Uint8Array(32), databroker: { lease: away, read: away, submit: away }, fanout: null,
      clock: systemClock, randomBytes, logger: { debug, info, warn, error }, windowMs: () => 10_000, dataDir: null,
    });
    console.log("accepted:", await node.goodbye());
    await node.stop();
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program]);
  assert.equal(stdout, "accepted: false\n");
});
