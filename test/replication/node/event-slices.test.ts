/** Event slices: heavy events are folded in pieces that end at event boundaries, in order and with exact states. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { afterEach, test } from "node:test";
import { type CardeaEvent, type GroupId, linkOf, Projection, type WrappedKey } from "../../../src/events/index.ts";
import { createLocalFanout } from "../../../src/replication/fanout/index.ts";
import { DeliverySlices, PageSlices, slicesOf } from "../../../src/replication/node/event-slices.ts";
import { type ReplicaProcess, startReplica } from "../../../src/replication/node/index.ts";
import type { Delivered } from "../../../src/replication/node/messages.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FakeBrokers } from "../fake-brokers.ts";
import { aNode, cluster, created, History, quiet, revoked, secret, userId } from "../support.ts";

const membersOf = (group: number, count: number): CardeaEvent => ({
  type: "GroupMembersChanged",
  groupId: `group ${group}` as GroupId,
  source: "scim",
  added: Array.from({ length: count }, (_, n) => userId(n)),
  removed: [],
});
/** A log after its first event, as one range. */
function rangeOf(...events: readonly CardeaEvent[]): Readonly<{ log: History; range: Delivered }> {
  const log = new History().open(1);
  const previous = log.head;
  for (const event of events) log.add(event);
  const recorded = log.entries.slice(1).map((entry) => entry.recorded);
  return { log, range: { epoch: previous.epoch, previous, events: recorded, last: log.head, keys: [] } };
}
const positionsOf = (ranges: readonly Pick<Delivered, "events">[]): readonly (readonly number[])[] =>
  ranges.map(({ events }) => events.map(({ position }) => position));

test("slices link to each other and hold every event once; a range of usual events is one slice", () => {
  const { range } = rangeOf(
    created(1),
    membersOf(1, 300),
    membersOf(2, 300),
    revoked(1),
    membersOf(3, 5_000),
    created(2),
  );
  const slices = slicesOf(range);
  assert.deepEqual(positionsOf(slices), [[2, 3], [4, 5], [6], [7]]);
  let at = range.previous;
  for (const { previous, events, last } of slices) {
    assert.deepEqual(previous, at);
    assert.deepEqual(last, linkOf(events.at(-1) ?? assert.fail()));
    at = last;
  }
  assert.deepEqual(at, range.last);
  const usual = rangeOf(...Array.from({ length: 1_000 }, (_, n) => created(n))).range;
  assert.equal(slicesOf(usual).length, 1);
  const covered = { ...range, events: [] };
  assert.deepEqual(slicesOf(covered), [{ previous: range.previous, events: [], last: range.last }]);
});

test("a delivery waits for the slices of the one before; keys come with the first slice alone", () => {
  const applied: Delivered[] = [];
  const jobs: (() => void)[] = [];
  const slices = new DeliverySlices({ apply: (each) => applied.push(each), later: (job) => jobs.push(job) });
  const keys = [{} as WrappedKey];
  const { range } = rangeOf(membersOf(1, 450), membersOf(2, 450), created(1));
  slices.push({ ...range, keys });
  assert.deepEqual(positionsOf(applied), [[2]]);
  const next = rangeOf(created(2)).range;
  slices.push(next);
  assert.equal(applied.length, 1, "the later delivery is not applied first");
  assert.equal(jobs.length, 1, "one job at a time");
  while (jobs.length > 0) jobs.shift()?.();
  assert.deepEqual(positionsOf(applied), [[2], [3, 4], [2]]);
  assert.deepEqual(
    applied.map((each) => each.keys.length),
    [1, 0, 0],
  );
});

test("beyond the bound everything that waits is applied at once, and nothing is left for later", () => {
  const applied: Delivered[] = [];
  const jobs: (() => void)[] = [];
  const slices = new DeliverySlices({ apply: (each) => applied.push(each), later: (job) => jobs.push(job) });
  const { range } = rangeOf(...Array.from({ length: 40 }, (_, n) => membersOf(n, 1_000)));
  slices.push(range);
  assert.equal(applied.length, 1);
  slices.push(rangeOf(...Array.from({ length: 40 }, (_, n) => membersOf(n, 1_000))).range);
  assert.equal(applied.length, 80);
  while (jobs.length > 0) jobs.shift()?.();
  assert.equal(applied.length, 80);
});

test("a revocation waits for no slices, not those before it and not those of its own delivery or page", () => {
  const applied: Delivered[] = [];
  const jobs: (() => void)[] = [];
  const slices = new DeliverySlices({ apply: (each) => applied.push(each), later: (job) => jobs.push(job) });
  slices.push(rangeOf(membersOf(1, 450), membersOf(2, 450), membersOf(3, 450)).range);
  assert.equal(applied.length, 1);
  const { range, log } = rangeOf(membersOf(4, 450), revoked(1));
  slices.push(range);
  assert.deepEqual(positionsOf(applied), [[2], [3], [4], [2, 3]]);
  const answer = { type: "page", page: range, head: log.head, keys: [] } as const;
  assert.deepEqual(new PageSlices().first(answer), answer);
});

test("a page is answered slice by slice to reads that follow its links, and dropped for any other read", () => {
  const { range, log } = rangeOf(membersOf(1, 450), membersOf(2, 450), membersOf(3, 450));
  const answer = { type: "page", page: range, head: log.head, keys: [{} as WrappedKey] } as const;
  const pages = new PageSlices();
  const first = pages.first(answer);
  assert.ok(first.type === "page" && first.page.events.length === 1 && first.keys.length === 1);
  const second = pages.after(first.page.last);
  assert.ok(second?.type === "page" && second.keys.length === 0);
  assert.equal(pages.after(range.previous), undefined, "another read");
  assert.equal(pages.after(second.page.last), undefined, "the rest is gone");
});

const running: ReplicaProcess[] = [];
afterEach(async () => {
  for (const node of running.splice(0)) await node.stop();
});
async function startNode(brokers: FakeBrokers): Promise<ReplicaProcess> {
  const node = startReplica({
    ...{ name: aNode, role: "proxy", region: "test", version: "1", cluster, secret, clock: systemClock, logger: quiet },
    ...{ databroker: brokers.databroker, fanout: brokers.fanout, configHash: () => "config-1", windowMs: () => 65_000 },
    ...{ randomBytes: (size) => randomBytes(size), dataDir: null, renewMs: 100 },
  });
  running.push(node);
  assert.ok(await node.whenReady(5_000));
  return node;
}

for (const way of ["a delivery", "a page"] as const) {
  test(`a node that decides folds ${way} of heavy events in pieces, each with the exact state of its position`, async () => {
    const brokers = new FakeBrokers(way === "a delivery" ? { fanout: createLocalFanout({ logger: quiet }) } : {});
    const node = await startNode(brokers);
    const seen: { position: number; digest: string }[] = [];
    node.onChange(({ link }) => void seen.push({ position: link.position, digest: node.projection.digest() }));
    brokers.commit(...Array.from({ length: 20 }, (_, n) => membersOf(n, 250)), created(1));
    let turns = 0;
    const count = (): void => {
      turns += 1;
      if (node.applied.position < brokers.log.head.position) setImmediate(count);
    };
    setImmediate(count);
    const last = brokers.commit(created(2));
    await waitFor("the node at the head", () => node.enforced.hash === last.hash);
    assert.ok(seen.length >= 5, `${seen.length} pieces`);
    assert.ok(turns >= 5, "other work ran between the pieces");
    const exact = new Projection();
    for (const { recorded } of brokers.log.entries) {
      exact.apply(recorded);
      const at = seen.find(({ position }) => position === recorded.position);
      if (at !== undefined) assert.equal(at.digest, exact.digest(), `at position ${recorded.position}`);
    }
  });
}
