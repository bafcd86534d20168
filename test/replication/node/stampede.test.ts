/**
 * Stampedes: a thousand nodes that notice the same fault at the same time must not rush the brokers.
 *
 * The nodes run in one simulated world. Its brokers answer after a few milliseconds, or not at all, and count the
 * requests.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { CardeaEvent, MonotonicMs, NodeId, UnixMs } from "../../../src/events/index.ts";
import type { Moment } from "../../../src/replication/lease/index.ts";
import {
  createPersonKeys,
  type NodeCore,
  type NodeEffect,
  type NodeInput,
  newNodeCore,
  stepNode,
} from "../../../src/replication/node/index.ts";
import { History, secret, userId } from "../support.ts";
import { bootOf, seeded } from "./driven-node.ts";

const nodes = 1_000;

/** Denials without sessions, because a thousand projections would each allocate room for thousands of sessions. */
function denial(n: number): CardeaEvent {
  return { type: "UserSuspended", userId: userId(n), reason: "test" };
}

function history(count: number): History {
  const log = new History().open(1);
  while (log.entries.length < count) log.add(denial(log.entries.length));
  return log;
}

type TimedAction = Readonly<{ at: number; order: number; run: () => void }>;

class World {
  now = 0;
  log: History;
  /** Whether brokers answer. */
  up = true;
  /** Whether a broker leads. Without a leader, reads are answered and renewals are not. */
  hasLeader = true;
  fanout: "up" | "down" = "up";
  readonly cores: NodeCore[] = [];
  readonly requests: Readonly<{ at: number; node: number; kind: "read" | "renew" | "confirm" | "goodbye" }>[] = [];
  inFlightMax = 0;
  readonly #inFlight = new Map<number, number>();
  readonly #heap: TimedAction[] = [];
  readonly #wakes: number[] = [];
  readonly #polls = new Set<() => void>();
  #order = 0;

  constructor(log: History, { apartMs = 1_000 } = {}) {
    this.log = log;
    for (let n = 0; n < nodes; n++) {
      this.cores.push(
        newNodeCore({
          node: `node-${n}` as NodeId,
          boot: bootOf(n),
          role: "proxy",
          region: "here",
          version: "1",
          replaces: null,
          windowMs: 65_000,
          configHash: "c",
          keys: createPersonKeys([secret]),
          random: seeded(n * 7_919 + 1),
          at: this.moment,
        }),
      );
      this.#in((n * apartMs) / nodes, () =>
        this.feed(n, { type: "started", snapshot: null, fanout: "up", at: this.moment }),
      );
    }
  }

  get moment(): Moment {
    return { monotonic: this.now as MonotonicMs, wall: (this.now + 1_000_000) as UnixMs };
  }

  pass(ms: number): void {
    const until = this.now + ms;
    for (let next = this.#heap[0]; next !== undefined && next.at <= until; next = this.#heap[0]) {
      this.#pop();
      this.now = Math.max(this.now, next.at);
      next.run();
    }
    this.now = until;
  }

  feed(n: number, input: NodeInput): void {
    const core = this.cores[n];
    if (core === undefined) return;
    for (const effect of stepNode(core, input)[1]) this.#perform(n, effect);
  }

  feedAll(input: (at: Moment) => NodeInput): void {
    for (let n = 0; n < nodes; n++) this.feed(n, input(this.moment));
  }

  /** Commits an event and answers every read that waits at the head. */
  commit(): void {
    this.log.add(denial(this.log.entries.length));
    for (const answer of [...this.#polls]) answer();
  }

  since(at: number, kind: "read" | "renew" | "confirm" | "goodbye"): number[] {
    return this.requests.filter((each) => each.at >= at && each.kind === kind).map((each) => each.at - at);
  }

  #perform(n: number, effect: NodeEffect): void {
    switch (effect.type) {
      case "wake": {
        this.#wakes[n] = effect.at;
        if (effect.at === Number.POSITIVE_INFINITY) return;
        this.#in(Math.max(0, effect.at - this.now), () => {
          if (this.#wakes[n] === effect.at) this.feed(n, { type: "woke", at: this.moment });
        });
        return;
      }
      case "changed":
        this.feed(n, { type: "changeEnforced", id: effect.id, at: this.moment });
        return;
      case "loadSnapshot":
        this.feed(n, { type: "snapshotFailed", id: effect.id, reason: "none", at: this.moment });
        return;
      case "read":
        this.#read(n, effect);
        return;
      case "sendLease": {
        const { message } = effect;
        this.requests.push({ at: this.now, node: n, kind: message.type });
        this.#in(5, () => {
          const answer = !(this.up && this.hasLeader)
            ? ({ type: "failed", error: new Error("down") } as const)
            : message.type !== "renew"
              ? ({ type: "taken" } as const)
              : ({ type: "grant", grant: this.#grant(message.renew) } as const);
          this.feed(n, { type: "leaseAnswered", id: effect.id, answer, at: this.moment });
        });
        return;
      }
      default:
    }
  }

  #read(n: number, { id, after, limit, waitMs }: Extract<NodeEffect, { type: "read" }>): void {
    this.requests.push({ at: this.now, node: n, kind: "read" });
    this.#inFlight.set(n, (this.#inFlight.get(n) ?? 0) + 1);
    this.inFlightMax = Math.max(this.inFlightMax, this.#inFlight.get(n) ?? 0);
    let open = true;
    const answer = (): void => {
      if (!open) return;
      open = false;
      this.#polls.delete(answer);
      this.#inFlight.set(n, (this.#inFlight.get(n) ?? 0) - 1);
      this.feed(n, { type: "readAnswered", id, answer: this.#answerTo(after, limit), at: this.moment });
    };
    if (!this.up || this.log.head.position > after.position || waitMs === 0) this.#in(5, answer);
    else {
      this.#polls.add(answer);
      this.#in(waitMs, answer);
    }
  }

  #answerTo(after: Parameters<History["read"]>[0], limit: number) {
    if (!this.up) return { type: "failed", error: new Error("down") } as const;
    const outcome = this.log.read(after, limit);
    if (outcome.type !== "page") return outcome;
    const { previous, last, head } = outcome.page;
    const page = { previous, last, events: this.log.recorded(previous.position, last.position) };
    return { type: "page", page, head, keys: [] } as const;
  }

  /** Another broker opens an epoch. The fan-out delivers it to all nodes within 10 ms. */
  takeOver(): void {
    this.hasLeader = true;
    const previous = this.log.head;
    this.log.open(previous.epoch + 1);
    const { epoch, events, last } = this.log.range(previous.position, previous.position + 1);
    const delivery = { epoch, incarnation: this.log.incarnation, previous, events, last, keys: [] };
    for (let n = 0; n < nodes; n++) {
      this.#in((n % 50) / 5, () => this.feed(n, { type: "delivered", delivery, at: this.moment }));
    }
    for (const answer of [...this.#polls]) answer();
  }

  /** A broker fails: its waiting reads are answered with failures. */
  break(): void {
    this.up = false;
    for (const answer of [...this.#polls]) answer();
  }

  #grant(renew: Readonly<{ node: NodeId; boot: ReturnType<typeof bootOf>; nonce: number }>) {
    const { node, boot, nonce } = renew;
    const { head, incarnation, start } = this.log;
    const limits = { deltaMs: 5_000, drift: 0.01, windowMs: 65_000, wallMs: this.moment.wall };
    return { node, boot, nonce, epoch: head.epoch, incarnation, start, head, ...limits };
  }

  #in(ms: number, run: () => void): void {
    this.#order += 1;
    const heap = this.#heap;
    heap.push({ at: this.now + ms, order: this.#order, run });
    for (let at = heap.length - 1; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!before(heap[at], heap[parent])) break;
      swap(heap, at, parent);
      at = parent;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    swap(heap, 0, heap.length - 1);
    heap.pop();
    for (let at = 0; ; ) {
      const left = at * 2 + 1;
      const least = before(heap[left + 1], heap[left]) ? left + 1 : left;
      if (!before(heap[least], heap[at])) break;
      swap(heap, at, least);
      at = least;
    }
  }
}

function before(a: TimedAction | undefined, b: TimedAction | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function swap(heap: TimedAction[], a: number, b: number): void {
  const [first, second] = [heap[a], heap[b]];
  if (first === undefined || second === undefined) return;
  heap[a] = second;
  heap[b] = first;
}

/** The largest number of calls within one interval of this length. */
function busiest(times: readonly number[], ms: number): number {
  const counts = new Map<number, number>();
  for (const at of times) counts.set(Math.floor(at / ms), (counts.get(Math.floor(at / ms)) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

/** Prints the calls in each tenth of a second, and compares the peak with an even spread. */
function reportRate(
  t: TestContext,
  what: string,
  times: readonly number[],
  withinMs: number,
): { peak: number; even: number } {
  const counts = new Array<number>(Math.ceil(withinMs / 100)).fill(0);
  for (const at of times) {
    const tenth = Math.floor(at / 100);
    if (tenth < counts.length) counts[tenth] = (counts[tenth] ?? 0) + 1;
  }
  const peak = Math.max(...counts);
  const even = counts.reduce((sum, each) => sum + each, 0) / counts.length;
  const bars = counts.map((each) => " ▁▂▃▄▅▆▇█"[Math.ceil((each / Math.max(1, peak)) * 8)]).join("");
  t.diagnostic(`${what}: at most ${peak} in a tenth of a second, ${Math.round(even)} if spread evenly  |${bars}|`);
  return { peak, even };
}

function serving(world: World): number {
  return world.cores.filter((core) => core.overdueMs(world.moment) <= 0).length;
}

test("a thousand nodes without brokers for half a minute retry with growing pauses, and all serve again soon after, without a rush", () => {
  const world = new World(history(20));
  world.pass(4_000);
  assert.equal(serving(world), nodes);
  world.break();
  const brokenAt = world.now;
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(30_000);
  const failed = world.since(brokenAt, "read");
  assert.ok(failed.length < nodes * 30, `${failed.length} reads in half a minute`);
  assert.ok(
    busiest(
      failed.filter((at) => at > 20_000),
      100,
    ) < 120,
    "the reads arrive in waves",
  );
  world.up = true;
  const healedAt = world.now;
  world.commit();
  world.pass(5_000);
  assert.equal(serving(world), nodes);
  for (const core of world.cores) assert.equal(core.applied.position, 21);
  const reads = world.since(healedAt, "read");
  assert.ok(busiest(reads, 100) < nodes / 3, `${busiest(reads, 100)} reads in the busiest tenth of a second`);
  assert.ok(busiest(world.since(healedAt, "renew"), 100) < nodes / 5);
  assert.equal(world.inFlightMax, 1);
});

test("a thousand nodes without a fan-out each keep one read at the head, and every change reaches all within a second", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  const goneAt = world.now;
  world.pass(2_000);
  assert.ok(busiest(world.since(goneAt, "read"), 50) < nodes / 2, "the reads start at once");
  for (let n = 0; n < 5; n++) {
    world.commit();
    world.pass(999);
    for (const core of world.cores) assert.equal(core.applied.position, world.log.head.position);
  }
  const quietAt = world.now;
  world.pass(10_000);
  const perSecond = world.since(quietAt, "read").length / nodes / 10;
  assert.ok(perSecond < 1.2, `${perSecond} reads of a node in a quiet second`);
  assert.equal(world.inFlightMax, 1);
});

test("a fan-out that returns for a thousand nodes at once does not make them all read at once", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(5_000);
  const backAt = world.now;
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "up", at }));
  world.pass(5_000);
  const reads = world.since(backAt, "read");
  assert.ok(reads.length <= nodes * 2, `${reads.length} reads`);
  assert.ok(busiest(reads, 50) < nodes / 4, `${busiest(reads, 50)} in the busiest interval`);
});

test("a broker that fails while a thousand nodes wait at it does not cause a thousand reads at once from the next one", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(2_000);
  const goneAt = world.now;
  world.break();
  world.up = true; // the next broker is available at once
  world.pass(1_000);
  assert.ok(busiest(world.since(goneAt, "read"), 50) < nodes / 3);
});

test("when another broker leads after 3 s, a thousand nodes renew as evenly as before and become fresh again", (t) => {
  const world = new World(history(20));
  world.pass(15_000); // by now every node relies on the fan-out again after the reads of its start
  const goneAt = world.now;
  world.hasLeader = false;
  world.pass(3_000);
  const without = reportRate(t, "renewals without a leader", world.since(goneAt, "renew"), 3_000);
  assert.ok(without.peak < without.even * 1.5);
  const backAt = world.now;
  world.takeOver();
  world.pass(5_000);
  assert.equal(serving(world), nodes);
  for (const core of world.cores) assert.equal(core.applied.epoch, 2);
  const renewals = reportRate(t, "renewals at the next leader", world.since(backAt, "renew"), 5_000);
  assert.ok(renewals.peak < renewals.even * 1.5);
  const reads = reportRate(t, "reads meanwhile", world.since(goneAt, "read"), 8_000);
  assert.ok(reads.peak < nodes / 50, "no node missed an event; a few get a grant before the delivery");
});

test("after brokers and fan-out restart together, a thousand nodes recover within seconds, never many at once", (t) => {
  const world = new World(history(20));
  world.pass(15_000); // by now every node relies on the fan-out again after the reads of its start
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.break();
  const goneAt = world.now;
  world.pass(8_000);
  world.up = true;
  for (let n = 0; n < 20; n++) world.log.add(denial(world.log.entries.length));
  const backAt = world.now;
  world.feedAll((at) => ({ type: "fanoutChanged", fanout: "up", at }));
  world.pass(10_000);
  assert.equal(serving(world), nodes);
  for (const core of world.cores) assert.equal(core.applied.position, 40);
  const before = world.since(goneAt, "read").filter((at) => at < 8_000);
  const failed = reportRate(t, "failed reads", before, 8_000);
  assert.ok(
    failed.peak < nodes / 2,
    "the first retries stay within half a second, because changes must still arrive within one second",
  );
  const late = before.filter((at) => at >= 2_000).map((at) => at - 2_000);
  assert.ok(reportRate(t, "failed reads from the third second on", late, 6_000).peak < nodes / 6);
  const reads = reportRate(t, "reads after the restart", world.since(backAt, "read"), 3_000);
  assert.ok(reads.peak < nodes / 3);
  const renewals = reportRate(t, "renewals", world.since(backAt, "renew"), 10_000);
  assert.ok(renewals.peak < renewals.even * 1.5);
  assert.equal(world.inFlightMax, 1);
});

test("a thousand nodes that start at the same moment do not stay in step", (t) => {
  const world = new World(history(20), { apartMs: 0 });
  world.pass(60_000);
  assert.equal(serving(world), nodes);
  const renewals = reportRate(t, "renewals after a minute", world.since(55_000, "renew"), 5_000);
  assert.ok(renewals.peak < renewals.even * 1.6);
});
