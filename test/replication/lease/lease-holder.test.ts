/**
 * Lease holder: when a node may decide, and when it may not.
 *
 * - The last test runs the inequality of W with random clocks, delays, losses and pauses (docs/protocol.md §7).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BootId, Epoch, Incarnation, MonotonicMs, NodeId, Position, UnixMs } from "../../../src/events/index.ts";
import {
  type ChainHistory,
  emptyHistory,
  extendHistory,
  type LeaseHolder,
  type LeaseInput,
  leaseHeldAt,
  leaseReasons,
  type Moment,
  newLeaseHolder,
  overdueMs,
  stepLease,
} from "../../../src/replication/lease/index.ts";
import type { Grant } from "../../../src/replication/wire/index.ts";
import { fc } from "../../support/property.ts";
import { aBoot, aNode, type History, history } from "../support.ts";

const log = history(20);
const delta = 5_000;
const window = 65_000;

const at = (monotonic: number, wallOffset = 1_000_000): Moment => ({
  monotonic: monotonic as MonotonicMs,
  wall: (monotonic + wallOffset) as UnixMs,
});
const historyOf = (of: History, upTo: number): ChainHistory => extendHistory(emptyHistory, of.recorded(0, upTo));

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

/** A node with its ticks. Time passes only through `pass`, 250 ms at a time; `sleep` skips ticks. */
class Node {
  state: LeaseHolder;
  now: number;
  wallOffset = 1_000_000;
  history: ChainHistory;

  constructor({ now = 0, applied = 10 } = {}) {
    this.now = now;
    this.state = newLeaseHolder({ node: aNode, boot: aBoot, at: at(now) });
    this.history = historyOf(log, applied);
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
      history: this.history,
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
    this.history = historyOf(of, position);
    return this.feed({ type: "projectionMoved", history: this.history, at: this.moment });
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

test("a grant that arrives after its lease has become stale is worth only the rest of the window", () => {
  const node = new Node();
  const nonce = node.renew();
  assert.equal(node.pass(6_000).granted(nonce).overdue, 1_000);
});

test("a grant counts only once the projection has reached its head", () => {
  const node = new Node({ applied: 9 });
  const nonce = node.renew();
  node.pass(500).granted(nonce);
  assert.equal(node.overdue, never);
  assert.match(node.reasons, /not yet at the granted head/);
  node.pass(500).reach(10);
  assert.equal(node.overdue, 1_000 - delta);
});

test("a grant does not count on another chain, at its head or beyond it", () => {
  for (const position of [10, 15]) {
    const node = new Node();
    node.history = historyOf(history(20, 1, 5), position);
    assert.equal(node.granted(node.renew()).overdue, never);
    assert.equal(node.reach(20, history(20, 1, 5)).overdue, never);
  }
});

test("a grant counts when its head is older than the projection and on the same chain", () => {
  const node = new Node({ applied: 20 });
  assert.equal(node.granted(node.renew(), { head: log.linkAt(7) }).overdue, -delta);
});

test("grants for other boots, other nodes and unknown nonces are ignored, and so is a repeated grant", () => {
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

test("a grant of an epoch older than the newest one seen is ignored", () => {
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

test("after the granted window nothing is permitted, whatever grace a route has", () => {
  const node = new Node();
  node.granted(node.renew());
  assert.equal(node.pass(window).overdue, window - delta);
  assert.equal(node.pass(250).overdue, never);
});

test("the limits of the newest grant apply from the moment it arrives", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  // The head of this shorter grant is not reached yet, but the leader already counts its window.
  node.granted(node.renew(), { head: log.linkAt(15), windowMs: 5_000, deltaMs: 2_000 });
  assert.equal(node.pass(1_500).overdue, 500);
  assert.equal(node.pass(2_750).overdue, never);
});

test("a longer window in the answer to an older renewal does not replace that of a newer one", () => {
  const node = new Node();
  const first = node.renew();
  const second = node.renew();
  node.granted(second, { windowMs: 5_000 }).granted(first, { windowMs: 900_000 });
  assert.equal(node.state.limits?.windowMs, 5_000);
});

test("a pause is noticed before any late tick has run", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  assert.equal(node.sleep(1_250).overdue, 2_250 - delta, "a tick that is 1 s late is not a pause");
  assert.equal(node.sleep(1).overdue, never);
  assert.match(node.reasons, /did not run for 1251 ms/);
});

test("after a pause nothing is permitted until a renewal sent after it is granted", () => {
  const node = new Node();
  node.granted(node.renew()).pass(1_000);
  const sentBefore = node.renew();
  node.sleep(4_000); // its grant waits in the socket buffer
  node.granted(sentBefore);
  assert.equal(
    node.overdue,
    never,
    "the grant is from before or during the pause, so it proves nothing about the present",
  );
  const sentAfter = node.renew();
  node.feed({ type: "tick", at: node.moment });
  assert.equal(node.overdue, never);
  node.pass(100).granted(sentAfter);
  assert.equal(node.overdue, 100 - delta);
  assert.equal(node.reasons, "");
});

test("a grant that waits for its head during a pause does not count after it", () => {
  const node = new Node({ applied: 9 });
  node.granted(node.renew()).pass(500).sleep(3_000).reach(10);
  assert.equal(node.overdue, never);
});

test("a suspend that the monotonic clock did not count is a pause too", () => {
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

test("sleeps too short for a pause age the lease", () => {
  const node = new Node();
  node.granted(node.renew());
  const unanswered = node.renew();
  for (let n = 1; n <= 2; n++) {
    node.wallOffset += 200;
    assert.equal(node.overdue, (n - 1) * 450 + 200 - delta, "before the tick that shows it");
    assert.equal(node.pass(250).overdue, n * 450 - delta, "and after it");
  }
  assert.equal(node.granted(unanswered).overdue, 900 - delta, "the lease of an earlier renewal ages as well");
  node.renew();
  node.wallOffset -= 200;
  assert.equal(node.pass(250).overdue, 1_150 - delta, "a clock set back does not lengthen the lease");
  assert.equal(node.granted(node.renew()).overdue, -delta);
});

test("a small step of the wall clock, back or forward, changes nothing", () => {
  for (const step of [-200, 200]) {
    const node = new Node();
    node.granted(node.renew()).pass(1_000);
    node.wallOffset += step;
    assert.ok(node.overdue < 0);
  }
});

test("a node is stale when its wall clock is off the leader's by more than 2 s beyond the travel time", () => {
  const table: [string, number, boolean][] = [
    ["ahead of the node by 2 s", 2_000, true],
    ["ahead of the node by more", 2_001, false],
    ["read while the answer was in flight", -900, true],
    ["behind the send time by 2 s", -1_000 - 2_000, true],
    ["behind the send time by more", -1_000 - 2_001, false],
  ];
  for (const [what, off, fresh] of table) {
    const node = new Node();
    const nonce = node.renew();
    node.pass(1_000).granted(nonce, { wallMs: (node.moment.wall + off) as UnixMs });
    assert.equal(node.overdue <= 0, fresh, what);
  }
});

test("when the wall clocks drift apart the lease is stale at once, and further grants do not lengthen the grace", () => {
  const node = new Node();
  for (let off = 0; off <= 2_000; off += 400)
    node.granted(node.renew(), { wallMs: (node.moment.wall + off) as UnixMs }).pass(1_000);
  assert.ok(node.overdue < 0);
  node.granted(node.renew(), { wallMs: (node.moment.wall + 2_400) as UnixMs });
  assert.equal(node.overdue, 1);
  assert.match(node.reasons, /clock is 2400 ms off/);
  assert.equal(node.pass(1_000).overdue, 1_001);
  node.granted(node.renew(), { wallMs: (node.moment.wall + 2_400) as UnixMs });
  assert.equal(node.overdue, 1_001, "another grant does not lengthen the grace");
  node.granted(node.renew());
  assert.equal(node.overdue, -delta);
});

test("a wall clock that was set and is off makes no grant by age younger", () => {
  const node = new Node();
  const byAge = { ageMs: 60_000, windowMs: window };
  node.granted(node.renew(), byAge).pass(1_000);
  const overdueBefore = node.overdue;
  assert.ok(overdueBefore > 60_000 - delta);
  node.wallOffset += 9_000;
  assert.equal(node.overdue, never, "the step may have been a sleep");
  node.granted(node.renew(), { ...byAge, ageMs: 61_000, wallMs: (node.moment.wall - 9_000) as UnixMs });
  assert.ok(node.overdue >= overdueBefore, `${node.overdue} ms overdue, less than the ${overdueBefore}`);
});

test("a lease by age counts as the oldest it can be if the granter's clock runs slow and the node's fast", () => {
  const drift = 0.01;
  const node = new Node();
  node.granted(node.renew(), { ageMs: 4_000, drift });
  assert.equal(node.overdue, (4_000 * (1 + drift)) / (1 - drift) - delta);
  const held = leaseHeldAt(node.state, node.moment);
  assert.equal(held?.freshSinceMs, node.now - (4_000 * (1 + drift)) / (1 - drift));
});

test("after a freeze of all clocks of a machine, nothing is permitted from the grant that shows it until a later renewal is granted", () => {
  for (const [frozenMs, renewed] of [
    [600, "before"],
    [1_500, "after"],
    [10 * 60_000, "before"],
  ] as const) {
    const node = new Node();
    node.granted(node.renew()).pass(1_000);
    const nonce = node.renew(); // its own clocks do not show the freeze that follows
    const sentLater = node.renew();
    const wallMs = (node.moment.wall + frozenMs) as UnixMs;
    node.granted(renewed === "before" ? nonce : node.renew(), { wallMs });
    assert.equal(node.overdue, never, `${frozenMs}`);
    assert.match(node.reasons, /did not run for \d+ ms; waiting for a newer grant/);
    node.granted(sentLater, { wallMs });
    assert.equal(node.overdue, never, "other renewals from before that grant do not count either");
    node.granted(node.renew(), { wallMs });
    // While the wall clock is off by more than 2 s, the lease is stale, and its grace is not extended.
    assert.equal(node.overdue, frozenMs > 2_000 ? 1 : -delta);
    node.pass(1_000).granted(node.renew(), { wallMs: (wallMs + 1_000) as UnixMs });
    assert.equal(node.overdue, frozenMs > 2_000 ? 1_001 : -delta);
  }
});

test("a leader's clock shows no freeze when it is another leader's, when answers overtake each other, or when it gains by drift", () => {
  const node = new Node();
  node.granted(node.renew());
  node.pass(1_000).granted(node.renew(), { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  assert.equal(node.overdue, -delta, "the clock of another leader");
  const [first, second] = [node.renew(), node.pass(900).renew()];
  node.granted(second, { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  node.granted(first, { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_000) as UnixMs });
  node.granted(node.renew(), { epoch: 2 as Epoch, wallMs: (node.moment.wall + 1_900) as UnixMs });
  assert.equal(node.overdue, -delta, "its newest reading counts");
  const alone = new Node();
  alone.granted(alone.renew()).pass(60_000);
  alone.granted(alone.renew(), { wallMs: (alone.moment.wall + 600) as UnixMs });
  assert.equal(alone.overdue, -delta, "a minute without a grant");
});

test("while the lease is blocked no grant counts; afterwards a grant may count at the next move of the projection", () => {
  for (const reason of ["rebuilding", "degraded", "enforcement-failed", "stopped"] as const) {
    const node = new Node();
    node.granted(node.renew());
    node.feed({ type: "blocked", reason, at: node.moment });
    assert.equal(node.overdue, never);
    assert.equal(node.granted(node.renew()).overdue, never);
    assert.notEqual(node.reasons, "");
    node.feed({ type: "unblocked", reason, at: node.moment });
    assert.equal(node.overdue, never, "removing the reason alone activates no grant");
    assert.ok(node.reach(12).overdue <= 0);
  }
});

test("nothing is granted by age from a lease that is blocked or whose window is over", () => {
  const rebuilding = new Node();
  rebuilding.granted(rebuilding.renew());
  assert.notEqual(leaseHeldAt(rebuilding.state, rebuilding.moment), null);
  rebuilding.feed({ type: "blocked", reason: "rebuilding", at: rebuilding.moment });
  assert.equal(leaseHeldAt(rebuilding.state, rebuilding.moment), null);

  const silent = new Node();
  silent.granted(silent.renew()).pass(window);
  assert.notEqual(leaseHeldAt(silent.state, silent.moment), null, "its window is not over");
  assert.equal(leaseHeldAt(silent.pass(250).state, silent.moment), null);
});

test("after its goodbye a boot permits nothing, whatever grants arrive", () => {
  const node = new Node();
  const nonce = node.renew();
  node.granted(node.renew()).feed({ type: "goodbye", at: node.moment });
  assert.equal(node.granted(nonce).overdue, never);
  assert.equal(node.granted(node.renew()).overdue, never);
  assert.match(node.reasons, /returned its lease/);
});

test("the state is bounded, however long grants go unanswered or wait for their head", () => {
  const node = new Node({ applied: 5 });
  for (let n = 0; n < 500; n++)
    node
      .pass(1_000)
      .granted(node.renew(), { head: log.linkAt(20) })
      .renew();
  assert.ok(node.state.unansweredRenews.length <= 64 && node.state.awaitingHead.length <= 64);
});

/**
 * The inequality of docs/protocol.md §7, in real time, for all clock rates within 1 ± ρ and all delays, losses,
 * repetitions and pauses:
 *
 * - A node with a fresh lease holds everything committed Δ/(1−ρ) before.
 * - A node permits nothing on any route once W has passed since the leader sent its last grant, by the leader's clock.
 */
test("a fresh node holds everything acknowledged Δ/(1−ρ) ago, and W after its last grant a node permits nothing", () => {
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
      type TimedInput = Readonly<{ real: number; input: (real: number) => void }>;
      const inputs: TimedInput[] = [];
      let state = newLeaseHolder({ node: aNode, boot: aBoot, at: local(0) });
      let folded = emptyHistory;
      let applied = 0;
      const fences: { sentAt: number; windowMs: number }[] = [];
      const feed = (input: LeaseInput): void => {
        state = stepLease(state, input);
      };
      const pauses: [number, number][] = [];
      seconds.forEach((each, index) => {
        const sendAt = index * 1_000;
        if (each.pauseMs > 0) pauses.push([sendAt + 500, sendAt + 500 + each.pauseMs]);
        inputs.push({
          real: sendAt,
          input: (real) => {
            feed({ type: "renewDue", at: local(real) });
            const { nonce } = state;
            // The beat starts after the renewal arrives. Its head is everything committed by then.
            const grantAt = real + each.outMs;
            const head = log.linkAt(headAt(grantAt));
            const answer = grant(nonce, { head, deltaMs, windowMs: each.windowMs, wallMs: local(grantAt).wall });
            fences.push({ sentAt: grantAt, windowMs: each.windowMs });
            if (each.lost) return;
            const arrive = (late: number): void => {
              inputs.push({
                real: grantAt + late,
                input: (r) => feed({ type: "granted", grant: answer, history: folded, at: local(r) }),
              });
            };
            arrive(each.backMs);
            if (each.twice) arrive(each.backMs + 100);
          },
        });
        inputs.push({
          real: sendAt + each.applyMs,
          input: (real) => {
            const reach = headAt(sendAt);
            if (reach <= applied) return;
            folded = extendHistory(folded, log.recorded(applied, reach));
            applied = reach;
            feed({ type: "projectionMoved", history: folded, at: local(real) });
          },
        });
      });
      for (let real = 0; real < 90_000; real += 250)
        inputs.push({ real, input: (r) => feed({ type: "tick", at: local(r) }) });
      const inPause = (real: number): number => pauses.reduce((t, [from, to]) => (t >= from && t < to ? to : t), real);
      let done = 0;
      while (inputs.length > 0) {
        // Inputs during a pause happen when it ends, in order of arrival.
        let next = 0;
        for (let i = 1; i < inputs.length; i++) {
          const [a, b] = [inputs[i], inputs[next]];
          if (a !== undefined && b !== undefined && inPause(a.real) < inPause(b.real)) next = i;
        }
        const [due] = inputs.splice(next, 1);
        if (due === undefined) break;
        const real = Math.max(done, inPause(due.real));
        done = real;
        check(real); // a decision before any other input of this moment
        due.input(real);
        check(real);
      }

      function check(real: number): void {
        const overdue = overdueMs(state, local(real));
        if (overdue === never) return;
        if (overdue <= 0) {
          const mustHold = headAt(real - deltaMs / (1 - rho));
          assert.ok(applied >= mustHold || mustHold === 1, `at ${real} it holds ${applied}, not ${mustHold}`);
        }
        // The leader counts by the longest window of a grant that may still be in use.
        const grantsSent = fences.filter(({ sentAt }) => sentAt <= real);
        const fencedTimes = grantsSent.map(
          ({ sentAt, windowMs }) => leader(sentAt) + (windowMs * (1 + rho)) / (1 - rho) + 50,
        );
        const fencedAt = Math.max(...fencedTimes);
        assert.ok(leader(real) < fencedAt, `at ${real} the node still permits after it is fenced`);
      }
    }),
    { numRuns: 300 },
  );
});
