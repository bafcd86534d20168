import assert from "node:assert/strict";
import { test } from "node:test";
import type { BootId, Epoch, Incarnation, MonotonicMs, NodeId, Position, UnixMs } from "../../../src/events/index.ts";
import {
  type ChainHistory,
  emptyHistory,
  extendHistory,
  type Grant,
  heldLease,
  type LeaseHolder,
  type LeaseInput,
  leaseReasons,
  type Moment,
  newLeaseHolder,
  overdueMs,
  stepLease,
} from "../../../src/replication/index.ts";
import { fc } from "../../support/property.ts";
import { aBoot, aNode, type History, history } from "../support.ts";

const log = history(20);
const delta = 5_000;
const window = 65_000;

const at = (monotonic: number, wallOffset = 1_000_000): Moment => ({
  monotonic: monotonic as MonotonicMs,
  wall: (monotonic + wallOffset) as UnixMs,
});
const trailOf = (of: History, upTo: number): ChainHistory => extendHistory(emptyHistory, of.recorded(0, upTo));

function grant(nonce: number, parts: Partial<Grant> = {}): Grant {
  return {
    node: aNode,
    boot: aBoot,
    nonce,
    epoch: 1 as Epoch,
    incarnation: "incarnation-1" as Incarnation,
    start: 1 as Position,
    head: log.linkAt(10),
    deltaMs: delta,
    drift: 0.01,
    windowMs: window,
    wallMs: 1_000_000 as UnixMs,
    ...parts,
  };
}

/** A node with its ticks: time passes only through here, 250 ms at a time, unless it is told to sleep. */
class Node {
  state: LeaseHolder;
  now: number;
  wallOffset = 1_000_000;
  trail: ChainHistory;

  constructor({ now = 0, applied = 10 } = {}) {
    this.now = now;
    this.state = newLeaseHolder({ node: aNode, boot: aBoot, at: at(now) });
    this.trail = trailOf(log, applied);
  }
  get moment(): Moment {
    return at(this.now, this.wallOffset);
  }
  feed(input: LeaseInput): this {
    this.state = stepLease(this.state, input);
    return this;
  }
  renew(): number {
    this.feed({ type: "renewDue", at: this.moment });
    return this.state.nonce;
  }
  granted(nonce: number, parts: Partial<Grant> = {}): this {
    return this.feed({
      type: "granted",
      grant: grant(nonce, { wallMs: this.moment.wall, ...parts }),
      history: this.trail,
      at: this.moment,
    });
  }
  pass(ms: number): this {
    const until = this.now + ms;
    while (this.now < until) {
      this.now = Math.min(until, this.now + 250);
      this.feed({ type: "tick", at: this.moment });
    }
    return this;
  }
  sleep(ms: number): this {
    this.now += ms;
    return this;
  }
  reach(position: number, of: History = log): this {
    this.trail = trailOf(of, position);
    return this.feed({ type: "projectionMoved", history: this.trail, at: this.moment });
  }
  get overdue(): number {
    return overdueMs(this.state, this.moment);
  }
  get reasons(): string {
    return leaseReasons(this.state, this.moment).join("; ");
  }
}

const never = Number.POSITIVE_INFINITY;

test("before its first grant a boot permits nothing, on any route", () => {
  const node = new Node();
  assert.equal(node.overdue, never);
  node.renew();
  assert.equal(node.pass(1_000).overdue, never);
  assert.equal(node.reasons, "no grant yet");
});

test("the lease counts from the send time of the renew, not from the arrival of its grant", () => {
  const node = new Node();
  const nonce = node.renew();
  node.pass(3_000).granted(nonce);
  assert.equal(node.overdue, 3_000 - delta);
  assert.equal(node.pass(2_000).overdue, 0, "fresh to the last millisecond");
  assert.ok(node.pass(250).overdue > 0);
  assert.match(node.reasons, /no grant for 5250 ms/);
});

test("a grant that comes later than the lease it gives is worth only what is left of it", () => {
  const node = new Node();
  const nonce = node.renew();
  assert.equal(node.pass(6_000).granted(nonce).overdue, 1_000);
});

test("a grant counts only once the projection has reached its head", () => {
  const node = new Node({ applied: 9 });
  const nonce = node.renew();
  node.pass(500).granted(nonce);
  assert.equal(node.overdue, never);
  assert.match(node.reasons, /behind the granted head/);
  node.pass(500).reach(10);
  assert.equal(node.overdue, 1_000 - delta);
});

test("a grant does not count on another chain, at its head or beyond it", () => {
  for (const position of [10, 15]) {
    const node = new Node();
    node.trail = trailOf(history(20, 1, 5), position);
    assert.equal(node.granted(node.renew()).overdue, never);
    assert.equal(node.reach(20, history(20, 1, 5)).overdue, never);
  }
});

test("a grant whose head is behind us counts when our chain went through it", () => {
  const node = new Node({ applied: 20 });
  assert.equal(node.granted(node.renew(), { head: log.linkAt(7) }).overdue, -delta);
});

test("grants of other boots, other nodes and unknown nonces are ignored, and so is one that comes twice", () => {
  const cases: Partial<Grant>[] = [{ boot: "boot-0" as BootId }, { node: "node-2" as NodeId }, { nonce: 99 }];
  for (const parts of cases) {
    const node = new Node();
    assert.equal(node.granted(node.renew(), parts).overdue, never);
  }
  const node = new Node();
  const nonce = node.renew();
  node.granted(nonce).pass(4_000);
  assert.equal(node.granted(nonce, { windowMs: 900_000 }).state.limits?.windowMs, window);
});

test("a grant of an older epoch than one heard of is ignored", () => {
  const node = new Node();
  const nonce = node.renew();
  node.feed({ type: "epochSeen", epoch: 2 as Epoch, at: node.moment });
  assert.equal(node.granted(nonce).overdue, never);
});

test("a late answer never moves the lease back", () => {
  const node = new Node();
  const first = node.renew();
  const second = node.pass(1_000).renew();
  node.pass(100).granted(second);
  const before = node.overdue;
  assert.equal(node.granted(first).overdue, before);
});

test("past the granted window nothing is permitted, whatever grace a route has", () => {
  const node = new Node();
  node.granted(node.renew());
  assert.equal(node.pass(window).overdue, window - delta);
  assert.equal(node.pass(250).overdue, never);
});

test("a node never uses more than its last grant named, from the moment it is received", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  // A shorter one, whose head is not reached yet: the leader already counts by it.
  node.granted(node.renew(), { head: log.linkAt(15), windowMs: 5_000, deltaMs: 2_000 });
  assert.equal(node.pass(1_500).overdue, 500);
  assert.equal(node.pass(2_750).overdue, never);
});

test("a longer window in the answer to an older renew does not replace the newer one's", () => {
  const node = new Node();
  const first = node.renew();
  const second = node.renew();
  node.granted(second, { windowMs: 5_000 }).granted(first, { windowMs: 900_000 });
  assert.equal(node.state.limits?.windowMs, 5_000);
});

test("a pause is seen before any late tick has run", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  assert.equal(node.sleep(1_250).overdue, 2_250 - delta, "250 ms tick, one second late: still running");
  assert.equal(node.sleep(1).overdue, never);
  assert.match(node.reasons, /did not run for 1251 ms/);
});

test("after a pause nothing is permitted before the answer to a renew sent after it", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  const sentBefore = node.renew();
  node.sleep(4_000); // its grant waits in the socket's buffer
  node.granted(sentBefore);
  assert.equal(node.overdue, never, "the grant was given before or while we slept: it says nothing of now");
  const sentAfter = node.renew();
  node.feed({ type: "tick", at: node.moment });
  assert.equal(node.overdue, never);
  node.pass(100).granted(sentAfter);
  assert.equal(node.overdue, 100 - delta);
  assert.equal(node.reasons, "");
});

test("a grant that waited for its head through a pause does not count after it", () => {
  const node = new Node({ applied: 9 });
  node.granted(node.renew()).pass(500).sleep(3_000).reach(10);
  assert.equal(node.overdue, never);
});

test("a suspend that the monotonic clock did not see is a pause too", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  const sentBefore = node.renew();
  node.wallOffset += 60_000;
  assert.equal(node.overdue, never);
  node.pass(100).granted(sentBefore);
  assert.equal(node.overdue, never);
  node.granted(node.renew());
  assert.equal(node.overdue, -delta);
});

test("sleeps too short to be a pause are taken off the lease", () => {
  const node = new Node();
  node.granted(node.renew());
  const waiting = node.renew();
  for (let n = 1; n <= 2; n++) {
    node.wallOffset += 200;
    assert.equal(node.overdue, (n - 1) * 450 + 200 - delta, "before the tick that tells");
    assert.equal(node.pass(250).overdue, n * 450 - delta, "and behind it");
  }
  assert.equal(node.granted(waiting).overdue, 900 - delta, "what was asked for before them, too");
  node.renew();
  node.wallOffset -= 200;
  assert.equal(node.pass(250).overdue, 1_150 - delta, "a clock set back lengthens nothing");
  assert.equal(node.granted(node.renew()).overdue, -delta);
});

test("a wall clock that is set back or forth by little changes nothing", () => {
  for (const step of [-200, 200]) {
    const node = new Node();
    node.granted(node.renew()).pass(1_000);
    node.wallOffset += step;
    assert.ok(node.overdue < 0);
  }
});

test("more than two seconds off the leader's clock a node is not fresh, beyond what the answer's travel explains", () => {
  const table: [string, number, boolean][] = [
    ["ahead of us by 2 s", 2_000, true],
    ["ahead of us by more", 2_001, false],
    ["read while the answer was under way", -900, true],
    ["behind our sending by 2 s", -1_000 - 2_000, true],
    ["behind our sending by more", -1_000 - 2_001, false],
  ];
  for (const [what, off, fresh] of table) {
    const node = new Node();
    const nonce = node.renew();
    node.pass(1_000).granted(nonce, { wallMs: (node.moment.wall + off) as UnixMs });
    assert.equal(node.overdue <= 0, fresh, what);
  }
});

test("when the clocks come apart slowly the lease is over at once, and only what is left of the grace runs on", () => {
  const node = new Node();
  for (let off = 0; off <= 2_000; off += 400)
    node.granted(node.renew(), { wallMs: (node.moment.wall + off) as UnixMs }).pass(1_000);
  assert.ok(node.overdue < 0);
  node.granted(node.renew(), { wallMs: (node.moment.wall + 2_400) as UnixMs });
  assert.equal(node.overdue, 1);
  assert.match(node.reasons, /clock is 2400 ms off/);
  assert.equal(node.pass(1_000).overdue, 1_001);
  node.granted(node.renew(), { wallMs: (node.moment.wall + 2_400) as UnixMs });
  assert.equal(node.overdue, 1_001, "another grant does not lengthen it");
  node.granted(node.renew());
  assert.equal(node.overdue, -delta);
});

test("a clock that was set, and is off, makes no grant by age younger than it is", () => {
  const node = new Node();
  const byAge = { ageMs: 60_000, windowMs: window };
  node.granted(node.renew(), byAge).pass(1_000);
  const earned = node.overdue;
  assert.ok(earned > 60_000 - delta);
  node.wallOffset += 9_000;
  assert.equal(node.overdue, never, "it may have been a sleep");
  node.granted(node.renew(), { ...byAge, ageMs: 61_000, wallMs: (node.moment.wall - 9_000) as UnixMs });
  assert.ok(node.overdue >= earned, `${node.overdue} is what is left of the grace, and before it was ${earned}`);
});

test("a lease by age is as old as it may be when the granter's clock runs slow and the node's runs fast", () => {
  const drift = 0.01;
  const node = new Node();
  node.granted(node.renew(), { ageMs: 4_000, drift });
  assert.equal(node.overdue, (4_000 * (1 + drift)) / (1 - drift) - delta);
  const held = heldLease(node.state, node.moment);
  assert.equal(held?.freshSinceMs, node.now - (4_000 * (1 + drift)) / (1 - drift));
});

test("a machine that was frozen with all of its clocks permits nothing on any route from the first grant that tells, until one asked for since", () => {
  for (const [frozenMs, whenAsked] of [
    [600, "before"],
    [1_500, "after"],
    [10 * 60_000, "before"],
  ] as const) {
    const node = new Node();
    node.granted(node.renew()).pass(1_000);
    const nonce = node.renew(); // its own clocks have nothing to tell of what comes now
    const sentLater = node.renew();
    const wallMs = (node.moment.wall + frozenMs) as UnixMs;
    node.granted(whenAsked === "before" ? nonce : node.renew(), { wallMs });
    assert.equal(node.overdue, never, `${frozenMs}`);
    assert.match(node.reasons, /did not run for \d+ ms; waiting for a grant asked for since/);
    node.granted(sentLater, { wallMs });
    assert.equal(node.overdue, never, "nor do others count that were asked for before");
    node.granted(node.renew(), { wallMs });
    // Until its clock is set right it is not fresh when it is more than 2 s off, and has the grace once.
    assert.equal(node.overdue, frozenMs > 2_000 ? 1 : -delta);
    node.pass(1_000).granted(node.renew(), { wallMs: (wallMs + 1_000) as UnixMs });
    assert.equal(node.overdue, frozenMs > 2_000 ? 1_001 : -delta);
  }
});

test("a leader's clock says nothing of ours when it is another leader's, when answers overtake each other, or when it gains by drift", () => {
  const node = new Node();
  node.granted(node.renew());
  node.pass(1_000).granted(node.renew(), { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  assert.equal(node.overdue, -delta, "another clock");
  const [first, second] = [node.renew(), node.pass(900).renew()];
  node.granted(second, { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  node.granted(first, { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_000) as UnixMs });
  node.granted(node.renew(), { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  assert.equal(node.overdue, -delta, "the newest of its words counts");
  const alone = new Node();
  alone.granted(alone.renew()).pass(60_000);
  alone.granted(alone.renew(), { wallMs: (alone.moment.wall + 600) as UnixMs });
  assert.equal(alone.overdue, -delta, "a minute without a grant");
});

test("while something makes the lease void, no grant counts; afterwards the next move of the projection may", () => {
  for (const reason of ["rebuilding", "degraded", "enforcement-failed", "stopped"] as const) {
    const node = new Node();
    node.granted(node.renew());
    node.feed({ type: "blocked", reason, at: node.moment });
    assert.equal(node.overdue, never);
    assert.equal(node.granted(node.renew()).overdue, never);
    assert.notEqual(node.reasons, "");
    node.feed({ type: "unblocked", reason, at: node.moment });
    assert.equal(node.overdue, never, "not by itself");
    assert.ok(node.reach(12).overdue <= 0);
  }
});

test("nothing is granted by age from a lease that is void, or whose window is over", () => {
  const rebuilding = new Node();
  rebuilding.granted(rebuilding.renew());
  assert.notEqual(heldLease(rebuilding.state, rebuilding.moment), null);
  rebuilding.feed({ type: "blocked", reason: "rebuilding", at: rebuilding.moment });
  assert.equal(heldLease(rebuilding.state, rebuilding.moment), null);

  const silent = new Node();
  silent.granted(silent.renew()).pass(window);
  assert.notEqual(heldLease(silent.state, silent.moment), null, "its window is not over");
  assert.equal(heldLease(silent.pass(250).state, silent.moment), null);
});

test("after its goodbye a boot permits nothing, whatever comes", () => {
  const node = new Node();
  const nonce = node.renew();
  node.granted(node.renew()).feed({ type: "goodbye", at: node.moment });
  assert.equal(node.granted(nonce).overdue, never);
  assert.equal(node.granted(node.renew()).overdue, never);
  assert.match(node.reasons, /goodbye/);
});

test("what is remembered is bounded, however long no answer comes", () => {
  const node = new Node({ applied: 5 });
  for (let n = 0; n < 500; n++)
    node
      .pass(1_000)
      .granted(node.renew(), { head: log.linkAt(20) })
      .renew();
  assert.ok(node.state.unansweredRenews.length <= 64 && node.state.awaitingHead.length <= 64);
});

/**
 * The inequality of docs/protocol.md §7, in real time: whatever the rates of the clocks (1 ± ρ), travel times, losses,
 * repetitions and pauses, a node that permits something holds what was committed Δ/(1−ρ) before; and once its W has
 * passed since the leader sent its last grant, by the leader's clock, it permits nothing on any route.
 */
test("a node that is fresh knows what was acknowledged Δ/(1−ρ) ago, and W after its last grant it permits nothing", () => {
  const rho = 0.01;
  const rate = fc.double({ min: 1 - rho, max: 1 + rho, noNaN: true });
  const second = fc.record({
    outMs: fc.integer({ min: 0, max: 4_000 }),
    backMs: fc.integer({ min: 0, max: 9_000 }),
    lost: fc.boolean(),
    twice: fc.boolean(),
    pauseMs: fc.constantFrom(0, 0, 0, 0, 700, 3_000, 20_000),
    windowMs: fc.constantFrom(5_000, 5_000, 20_000),
    applyMs: fc.integer({ min: 0, max: 6_000 }),
  });
  fc.assert(
    fc.property(fc.array(second, { minLength: 5, maxLength: 30 }), rate, rate, (seconds, nodeRate, leaderRate) => {
      const deltaMs = 5_000;
      const start = 1_000_000;
      const local = (real: number): Moment => at(start + real * nodeRate, 0);
      const leader = (real: number): number => real * leaderRate;
      // One event is committed each second of real time: at the k-th the log holds k events.
      const headAt = (real: number): number => Math.max(1, Math.min(log.entries.length, Math.floor(real / 1_000)));
      type Thing = Readonly<{ real: number; input: (real: number) => void }>;
      const things: Thing[] = [];
      let state = newLeaseHolder({ node: aNode, boot: aBoot, at: local(0) });
      let trail = emptyHistory;
      let applied = 0;
      const fences: { sentAt: number; windowMs: number }[] = [];
      const feed = (input: LeaseInput): void => {
        state = stepLease(state, input);
      };
      const pauses: [number, number][] = [];
      seconds.forEach((each, index) => {
        const sendAt = index * 1_000;
        if (each.pauseMs > 0) pauses.push([sendAt + 500, sendAt + 500 + each.pauseMs]);
        things.push({
          real: sendAt,
          input: (real) => {
            feed({ type: "renewDue", at: local(real) });
            const { nonce } = state;
            // The beat starts after the renew has arrived; the head is what is committed by then.
            const grantAt = real + each.outMs;
            const head = log.linkAt(headAt(grantAt));
            const answer = grant(nonce, { head, deltaMs, windowMs: each.windowMs, wallMs: local(grantAt).wall });
            fences.push({ sentAt: grantAt, windowMs: each.windowMs });
            if (each.lost) return;
            const arrive = (late: number): void => {
              things.push({
                real: grantAt + late,
                input: (r) => feed({ type: "granted", grant: answer, history: trail, at: local(r) }),
              });
            };
            arrive(each.backMs);
            if (each.twice) arrive(each.backMs + 100);
          },
        });
        things.push({
          real: sendAt + each.applyMs,
          input: (real) => {
            const reach = headAt(sendAt);
            if (reach <= applied) return;
            trail = extendHistory(trail, log.recorded(applied, reach));
            applied = reach;
            feed({ type: "projectionMoved", history: trail, at: local(real) });
          },
        });
      });
      for (let real = 0; real < 90_000; real += 250)
        things.push({ real, input: (r) => feed({ type: "tick", at: local(r) }) });
      const inPause = (real: number): number => pauses.reduce((t, [from, to]) => (t >= from && t < to ? to : t), real);
      let done = 0;
      while (things.length > 0) {
        // What falls into a pause happens when it ends, in the order in which it came.
        let next = 0;
        for (let i = 1; i < things.length; i++) {
          const [a, b] = [things[i], things[next]];
          if (a !== undefined && b !== undefined && inPause(a.real) < inPause(b.real)) next = i;
        }
        const [thing] = things.splice(next, 1);
        if (thing === undefined) break;
        const real = Math.max(done, inPause(thing.real));
        done = real;
        check(real); // a decision, before anything else of this moment has run
        thing.input(real);
        check(real);
      }

      function check(real: number): void {
        const overdue = overdueMs(state, local(real));
        if (overdue === never) return;
        if (overdue <= 0) {
          const mustHold = headAt(real - deltaMs / (1 - rho));
          assert.ok(applied >= mustHold || mustHold === 1, `at ${real} it holds ${applied}, not ${mustHold}`);
        }
        // As the leader reckons: by the longest window of a grant that may still be in use.
        const given = fences.filter(({ sentAt }) => sentAt <= real);
        const ends = given.map(({ sentAt, windowMs }) => leader(sentAt) + (windowMs * (1 + rho)) / (1 - rho) + 50);
        const fencedAt = Math.max(...ends);
        assert.ok(leader(real) < fencedAt, `at ${real} it still counts as leased`);
      }
    }),
    { numRuns: 300 },
  );
});
