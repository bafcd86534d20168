/**
 * A thousand nodes that notice the same thing at the same time. Their world is one heap of moments here: brokers answer
 * after a few milliseconds, or not at all, and count.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { CardeaEvent, MonotonicMs, NodeId, UnixMs } from "../../../src/events/index.ts";
import {
  createPersonKeys,
  type Moment,
  type NodeCore,
  type NodeEffect,
  type NodeInput,
  newNodeCore,
  stepNode,
} from "../../../src/replication/index.ts";
import { History, secret, userId } from "../support.ts";
import { bootOf, seeded } from "./driven-node.ts";

const nodes = 1_000;

/** Denials without sessions: a thousand projections would each make room for some thousand sessions. */
function denial(n: number): CardeaEvent {
  return { type: "UserSuspended", userId: userId(n), reason: "test" };
}

function history(count: number): History {
  const made = new History().open(1);
  while (made.entries.length < count) made.add(denial(made.entries.length));
  return made;
}

type Due = Readonly<{ at: number; order: number; run: () => void }>;

class World {
  now = 0;
  log: History;
  /** Brokers answer. */
  up = true;
  /** One of them leads: without, reads are answered and renewals are not. */
  led = true;
  fanout: "up" | "down" = "up";
  readonly cores: NodeCore[] = [];
  readonly requests: Readonly<{ at: number; node: number; kind: "read" | "renew" | "confirm" | "goodbye" }>[] = [];
  inFlightMax = 0;
  readonly #inFlight = new Map<number, number>();
  readonly #heap: Due[] = [];
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

  everybody(input: (at: Moment) => NodeInput): void {
    for (let n = 0; n < nodes; n++) this.feed(n, input(this.moment));
  }

  /** Everybody who waits at the head is answered. */
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
          const answer = !(this.up && this.led)
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

  /** Another broker leads: its epoch is told to everybody within the moment that a fan-out takes. */
  takeOver(): void {
    this.led = true;
    const previous = this.log.head;
    this.log.open(previous.epoch + 1);
    const { epoch, events, last } = this.log.stretch(previous.position, previous.position + 1);
    const delivery = { epoch, incarnation: this.log.incarnation, previous, events, last, keys: [] };
    for (let n = 0; n < nodes; n++) {
      this.#in((n % 50) / 5, () => this.feed(n, { type: "delivered", delivery, at: this.moment }));
    }
    for (const answer of [...this.#polls]) answer();
  }

  /** A broker goes: what waits at it is broken off. */
  break(): void {
    this.up = false;
    for (const answer of [...this.#polls]) answer();
  }

  #grant(renew: Readonly<{ node: NodeId; boot: ReturnType<typeof bootOf>; nonce: number }>) {
    const { node, boot, nonce } = renew;
    const { head, incarnation, start } = this.log;
    const terms = { deltaMs: 5_000, drift: 0.01, windowMs: 65_000, wallMs: this.moment.wall };
    return { node, boot, nonce, epoch: head.epoch, incarnation, start, head, ...terms };
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

function before(a: Due | undefined, b: Due | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function swap(heap: Due[], a: number, b: number): void {
  const [first, second] = [heap[a], heap[b]];
  if (first === undefined || second === undefined) return;
  heap[a] = second;
  heap[b] = first;
}

/** The most that fall into any stretch of this length. */
function busiest(times: readonly number[], ms: number): number {
  const counts = new Map<number, number>();
  for (const at of times) counts.set(Math.floor(at / ms), (counts.get(Math.floor(at / ms)) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

/** Counts of each tenth of a second, beside what they would be if the same calls came evenly. */
function told(
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
  t.diagnostic(`${what}: at most ${peak} in a tenth of a second, ${Math.round(even)} if they came evenly  |${bars}|`);
  return { peak, even };
}

function serving(world: World): number {
  return world.cores.filter((core) => core.overdueMs(world.moment) <= 0).length;
}

test("a thousand nodes whose brokers are away for half a minute ask ever more rarely, and all serve again soon after, without a rush", () => {
  const world = new World(history(20));
  world.pass(4_000);
  assert.equal(serving(world), nodes);
  world.break();
  const brokenAt = world.now;
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(30_000);
  const inVain = world.since(brokenAt, "read");
  assert.ok(inVain.length < nodes * 30, `${inVain.length} reads in half a minute`);
  assert.ok(
    busiest(
      inVain.filter((at) => at > 20_000),
      100,
    ) < 120,
    "no waves",
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

test("a thousand nodes whose fan-out is gone read at the head, one at a time, and every change is everywhere within a second", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  const goneAt = world.now;
  world.pass(2_000);
  assert.ok(busiest(world.since(goneAt, "read"), 50) < nodes / 2, "they begin one after another");
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

test("a fan-out that is back for a thousand nodes at once does not send them all to the brokers at once", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(5_000);
  const backAt = world.now;
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "up", at }));
  world.pass(5_000);
  const reads = world.since(backAt, "read");
  assert.ok(reads.length <= nodes * 2, `${reads.length} reads`);
  assert.ok(busiest(reads, 50) < nodes / 4, `${busiest(reads, 50)} in the busiest stretch`);
});

test("a broker that goes while a thousand nodes wait at it is not followed by a thousand reads of the next one", () => {
  const world = new World(history(20));
  world.pass(4_000);
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.pass(2_000);
  const goneAt = world.now;
  world.break();
  world.up = true; // the next one is there at once
  world.pass(1_000);
  assert.ok(busiest(world.since(goneAt, "read"), 50) < nodes / 3);
});

test("a leader that goes, and another three seconds later: a thousand nodes ask for leases as evenly as before, and all are fresh again", (t) => {
  const world = new World(history(20));
  world.pass(15_000); // what was read at the start makes nobody doubt the fan-out any more
  const goneAt = world.now;
  world.led = false;
  world.pass(3_000);
  const without = told(t, "renewals without a leader", world.since(goneAt, "renew"), 3_000);
  assert.ok(without.peak < without.even * 1.5);
  const backAt = world.now;
  world.takeOver();
  world.pass(5_000);
  assert.equal(serving(world), nodes);
  for (const core of world.cores) assert.equal(core.applied.epoch, 2);
  const renewals = told(t, "renewals of the next one", world.since(backAt, "renew"), 5_000);
  assert.ok(renewals.peak < renewals.even * 1.5);
  const reads = told(t, "reads meanwhile", world.since(goneAt, "read"), 8_000);
  assert.ok(reads.peak < nodes / 50, "nobody has missed anything; a few hear a grant before the fan-out");
});

test("brokers and fan-out are restarted together: a thousand nodes come back within seconds, and never many at once", (t) => {
  const world = new World(history(20));
  world.pass(15_000); // what was read at the start makes nobody doubt the fan-out any more
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "down", at }));
  world.break();
  const goneAt = world.now;
  world.pass(8_000);
  world.up = true;
  for (let n = 0; n < 20; n++) world.log.add(denial(world.log.entries.length));
  const backAt = world.now;
  world.everybody((at) => ({ type: "fanoutChanged", fanout: "up", at }));
  world.pass(10_000);
  assert.equal(serving(world), nodes);
  for (const core of world.cores) assert.equal(core.applied.position, 40);
  const before = world.since(goneAt, "read").filter((at) => at < 8_000);
  const inVain = told(t, "reads in vain", before, 8_000);
  assert.ok(inVain.peak < nodes / 2, "spread over less than half a second: changes are still to arrive within one");
  const late = before.filter((at) => at >= 2_000).map((at) => at - 2_000);
  assert.ok(told(t, "reads in vain from the third second on", late, 6_000).peak < nodes / 6);
  const reads = told(t, "reads when they are back", world.since(backAt, "read"), 3_000);
  assert.ok(reads.peak < nodes / 3);
  const renewals = told(t, "renewals", world.since(backAt, "renew"), 10_000);
  assert.ok(renewals.peak < renewals.even * 1.5);
  assert.equal(world.inFlightMax, 1);
});

test("a thousand nodes that were started in the same moment do not stay in step", (t) => {
  const world = new World(history(20), { apartMs: 0 });
  world.pass(60_000);
  assert.equal(serving(world), nodes);
  const renewals = told(t, "renewals after a minute", world.since(55_000, "renew"), 5_000);
  assert.ok(renewals.peak < renewals.even * 1.6);
});
