/**
 * Follower: keeps a projection in step with the log, whatever happens to deliveries, grants and reads.
 *
 * - The last group runs random sequences of deliveries, grants, reads and failovers.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeEvents, type Epoch, genesis, type Link, Projection, sameLink } from "../../../src/events/index.ts";
import type { ReadOutcome } from "../../../src/replication/log/index.ts";
import {
  type Follower,
  type FollowerEffect,
  type FollowerInput,
  newFollower,
  stepFollower,
} from "../../../src/replication/node/index.ts";
import { fc } from "../../support/property.ts";
import { anyEvent, created, History, history, revoked } from "../support.ts";

/** Plays the shell: applies events to real projections, and holds the one read in flight until the test answers it. */
class Shell {
  state: Follower = newFollower;
  visible = new Projection();
  next: Projection | null = null;
  reading: Link | null = null;
  reads = 0;
  applied = 0;
  rebuilds = 0;

  feed(input: FollowerInput): readonly FollowerEffect[] {
    if (input.type === "page" || input.type === "forked" || input.type === "truncated" || input.type === "readFailed") {
      this.reading = null;
    }
    const before = this.state;
    const [state, effects] = stepFollower(this.state, input);
    this.state = state;
    for (const effect of effects) this.#perform(effect);
    const rebuilt = effects.some(({ type }) => type === "rebuild");
    assert.ok(rebuilt || state.history.applied.position >= before.history.applied.position, "applied moved back");
    assert.ok(sameLink(state.history.applied, (this.next ?? this.visible).applied), "the follower and the fold agree");
    assert.equal(state.reading !== null, this.reading !== null, "the follower tracks the read in flight");
    return effects;
  }

  #perform(effect: FollowerEffect): void {
    switch (effect.type) {
      case "read":
        assert.equal(this.reading, null, "two reads are in flight");
        this.reading = effect.after;
        this.reads += 1;
        return;
      case "apply":
        this.applied += effect.events.length;
        // `apply` throws on a gap or a repetition.
        for (const recorded of effect.events) (this.next ?? this.visible).apply(recorded);
        return;
      case "rebuild":
        this.rebuilds += 1;
        this.next = new Projection();
        return;
      case "rebuilt":
        assert.notEqual(this.next, null);
        this.visible = this.next ?? this.visible;
        this.next = null;
    }
  }

  answer(outcome: ReadOutcome): readonly FollowerEffect[] {
    if (outcome.type !== "page") return this.feed(outcome);
    const { previous, entries, last, head } = outcome.page;
    return this.feed({ type: "page", page: { previous, events: decodeEvents(entries, previous), last }, head });
  }

  /** Answers reads from one log until the follower sends none. */
  answerReads(log: History, limit = 7): void {
    for (let turns = 0; this.reading !== null; turns++) {
      assert.ok(turns < 1_000, "reads without end");
      this.answer(log.read(this.reading, limit));
    }
  }

  grant(log: History): readonly FollowerEffect[] {
    return this.feed(granted(log));
  }

  caughtUp(log: History): this {
    this.feed({ type: "readRequested" });
    this.answerReads(log);
    return this;
  }
}

function granted(log: History, upTo = log.entries.length): FollowerInput {
  const { start, incarnation } = log.fork(upTo);
  return { type: "granted", epoch: log.linkAt(upTo).epoch, incarnation, start, head: log.linkAt(upTo) };
}

const delivery = (log: History, after: number, upTo: number): FollowerInput => ({
  type: "delivery",
  batch: log.range(after, upTo),
});

const types = (effects: readonly FollowerEffect[]): string[] => effects.map(({ type }) => type);

test("a new copy reads from genesis to the head, page by page, one read at a time", () => {
  const log = history(20);
  const shell = new Shell().caughtUp(log);
  assert.deepEqual(shell.visible.applied, log.head);
  assert.equal(shell.reads, 3);
  assert.equal(shell.applied, 20);
});

test("a delivery that links is applied without a read", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(8));
  assert.deepEqual(types(shell.feed(delivery(log, 8, 10))), ["apply"]);
  assert.deepEqual(shell.visible.applied, log.head);
});

test("only the new part of an overlapping delivery is applied", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(8));
  shell.feed(delivery(log, 5, 10));
  assert.deepEqual(shell.visible.applied, log.head);
  assert.equal(shell.applied, 10);
});

test("a delivery that is already applied has no effect, with or without its events", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log);
  assert.deepEqual(shell.feed(delivery(log, 5, 8)), []);
  assert.deepEqual(shell.feed({ type: "delivery", batch: { ...log.range(5, 8), events: [] } }), []);
  assert.deepEqual(shell.feed(granted(log, 9)), []);
});

test("a gap causes one read, and deliveries from beyond the gap are applied after its page", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(4));
  const readsBefore = shell.reads;
  assert.deepEqual(types(shell.feed(delivery(log, 6, 8))), ["read"]);
  assert.deepEqual(types(shell.feed(delivery(log, 8, 10))), []);
  assert.deepEqual(types(shell.answer(log.fork(6).read(log.linkAt(4), 100))), ["apply"]);
  assert.deepEqual(shell.visible.applied, log.head);
  assert.equal(shell.reads, readsBefore + 1);
});

test("deliveries that arrive out of order are applied in order", () => {
  const log = history(6);
  const shell = new Shell().caughtUp(log.fork(2));
  shell.feed(delivery(log, 4, 6));
  shell.feed(delivery(log, 2, 4));
  assert.deepEqual(shell.visible.applied, log.head);
});

test("a grant whose head is ahead causes a read, so that a lost last batch is not missed", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(9));
  assert.deepEqual(types(shell.grant(log)), ["read"]);
});

test("a read requested while one is in flight follows after it", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(5));
  shell.feed(granted(log, 7));
  assert.deepEqual(types(shell.feed(granted(log, 10))), []);
  // The broker answers from before the later commits.
  assert.deepEqual(types(shell.answer(log.fork(7).read(log.linkAt(5), 100))), ["apply", "read"]);
});

test("an empty page is not requested again at once", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(5));
  shell.feed(delivery(log, 8, 10));
  assert.deepEqual(types(shell.answer(log.fork(5).read(log.linkAt(5), 100))), []); // a broker that lags
  assert.deepEqual(types(shell.grant(log)), ["read"]);
});

test("a page that does not link is neither applied nor requested again at once", () => {
  const log = history(10);
  const other = history(10, 1, 3);
  const shell = new Shell().caughtUp(log.fork(5));
  shell.feed({ type: "readRequested" });
  const page = { ...other.range(5, 10) };
  assert.deepEqual(shell.feed({ type: "page", page, head: other.head }), []);
  assert.deepEqual(shell.visible.applied, log.linkAt(5));
});

test("a failed read is not repeated until another is requested", () => {
  const shell = new Shell();
  shell.feed({ type: "readRequested" });
  assert.deepEqual(shell.feed({ type: "readFailed" }), []);
  assert.deepEqual(types(shell.feed({ type: "readRequested" })), ["read"]);
});

test("a batch of an epoch older than the newest one seen is dropped, even if it links", () => {
  const log = history(10);
  const shell = new Shell().caughtUp(log.fork(8));
  shell.feed({ ...granted(log, 8), epoch: 2 as Epoch, start: 9 } as FollowerInput);
  shell.feed({ type: "readFailed" });
  assert.deepEqual(shell.feed(delivery(log, 8, 10)), []);
  assert.deepEqual(shell.visible.applied, log.linkAt(8));
});

test("a late grant of a deposed leader, for a lost suffix, causes no rebuild", () => {
  const old = history(12);
  const log = old.fork(9).open(2).add(created(900)).add(created(901));
  const shell = new Shell().caughtUp(log);
  assert.deepEqual(shell.grant(old), []);
  assert.deepEqual(shell.visible.applied, log.head);
});

test("a new epoch that links is followed", () => {
  const log = history(8).open(2).add(created(900));
  const shell = new Shell().caughtUp(log.fork(8));
  assert.deepEqual(types(shell.feed(delivery(log, 8, 10))), ["apply"]);
});

test("a node ahead of the log learns it from the epoch's start in a grant, and rebuilds", () => {
  const old = history(12);
  const log = old.fork(9).open(2).add(created(900));
  const shell = new Shell().caughtUp(old);
  assert.deepEqual(types(shell.grant(log)), ["rebuild", "read"]);
  assert.deepEqual(shell.visible.applied, old.head, "the old projection stays visible during the rebuild");
  shell.answerReads(log);
  assert.equal(shell.visible.digest(), folded(log).digest());
});

test("the epoch's start alone proves a lost suffix, even if the log is longer than the copy", () => {
  const old = history(12);
  const log = old.fork(9).open(2);
  while (log.entries.length < 30) log.add(anyEvent(log.entries.length, 6));
  const shell = new Shell().caughtUp(old);
  assert.deepEqual(types(shell.grant(log)), ["rebuild", "read"]);
  assert.deepEqual(shell.reading, genesis);
});

test("a node on another chain learns it from the hash in a grant, and rebuilds", () => {
  const old = history(12);
  const sibling = history(12, 1, 4); // the same epoch number and positions, another content
  const shell = new Shell().caughtUp(old);
  assert.deepEqual(types(shell.grant(sibling)), ["rebuild", "read"]);
});

test("the same epoch number with another incarnation is another epoch", () => {
  const old = history(12);
  const restored = new History().open(1, "another-incarnation");
  while (restored.entries.length < 20) restored.add(anyEvent(restored.entries.length, 2));
  const shell = new Shell().caughtUp(old);
  assert.deepEqual(types(shell.grant(restored)), ["rebuild", "read"]);
});

test("a delivery of a newer epoch with another event at an applied position proves a lost suffix", () => {
  const old = history(12);
  const log = old.fork(9).open(2).add(created(900));
  const covered = new Shell().caughtUp(old);
  assert.deepEqual(types(covered.feed(delivery(log, 9, 11))), ["rebuild", "read"]);
  const overlapping = new Shell().caughtUp(old.fork(10));
  assert.deepEqual(types(overlapping.feed(delivery(log, 9, 11))), ["rebuild", "read"]);
});

test("the answer of an old primary that its log lacks the node's link is not trusted", () => {
  const log = history(8).open(2).add(created(900));
  const shell = new Shell().caughtUp(log);
  shell.feed({ type: "readRequested" });
  assert.deepEqual(shell.feed({ type: "forked", head: history(12, 1, 4).head }), []);
  assert.equal(shell.rebuilds, 0);
});

test("the answer of a log in a newer epoch that it lacks the node's link is trusted", () => {
  const old = history(5).open(2).add(created(800)); // its last two events are lost
  const log = old.fork(5).open(3);
  while (log.entries.length < 12) log.add(anyEvent(log.entries.length, 5));
  log.open(4).add(created(901));
  const shell = new Shell().caughtUp(old);
  shell.grant(log);
  assert.equal(shell.rebuilds, 0, "the newest epoch starts after the copy's link, so the grant alone proves nothing");
  shell.answerReads(log);
  assert.equal(shell.rebuilds, 1);
  assert.equal(shell.visible.digest(), folded(log).digest());
});

test("the answer to a read from before a rebuild is ignored", () => {
  const old = history(12);
  const log = old.fork(9).open(2).add(created(900));
  const shell = new Shell().caughtUp(old);
  shell.feed({ type: "readRequested" });
  assert.deepEqual(types(shell.grant(log)), ["rebuild"], "the read in flight is awaited first");
  assert.deepEqual(types(shell.answer(old.read(old.head, 100))), ["read"]);
  assert.deepEqual(shell.reading, genesis);
});

test("a page requested before a rebuild is not applied, even if it links", () => {
  const old = history(12);
  const log = old.fork(4).open(2).add(created(900));
  const shell = new Shell();
  shell.feed({ type: "readRequested" });
  shell.feed(delivery(old, 0, 8)); // links at genesis, while the read from genesis is in flight
  assert.deepEqual(types(shell.grant(log)), ["rebuild"]);
  assert.deepEqual(types(shell.answer(old.read(genesis, 100))), ["read"]);
});

test("a rebuild does not end at the head of an old primary", () => {
  const old = history(12);
  const log = old.fork(9).open(2).add(created(900));
  const shell = new Shell().caughtUp(old);
  shell.grant(log);
  shell.answerReads(old);
  assert.notEqual(shell.next, null, "its head is in the lost epoch");
  shell.grant(log);
  shell.answerReads(log);
  assert.equal(shell.visible.digest(), folded(log).digest());
});

test("a copy behind retention reports it and stays unchanged", () => {
  const log = history(5);
  const shell = new Shell().caughtUp(log);
  shell.feed({ type: "readRequested" });
  shell.answer({ type: "truncated", first: 100 as never });
  assert.notEqual(shell.state.truncated, null);
  assert.deepEqual(shell.visible.applied, log.head);
});

function folded(log: History): Projection {
  const projection = new Projection();
  for (const { recorded } of log.entries) projection.apply(recorded);
  return projection;
}

// --- random sequences

type Action =
  | Readonly<{ do: "deliver"; from: "old" | "log"; at: number; count: number }>
  | Readonly<{ do: "grant"; upTo: number; from: "old" | "log" }>
  | Readonly<{ do: "answer"; by: "old" | "log" | "none"; limit: number }>
  | Readonly<{ do: "readRequested" }>
  | Readonly<{ do: "failOver" }>;

const source = fc.constantFrom("old" as const, "log" as const);
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("deliver" as const),
      from: source,
      at: fc.nat(40),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("grant" as const), from: source, upTo: fc.nat(40) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("answer" as const),
      by: fc.constantFrom("old" as const, "log" as const, "log" as const, "none" as const),
      limit: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "readRequested" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "failOver" as const }) },
);

/** A batch as a leader publishes it: within one epoch. */
function published(log: History, at: number, count: number): FollowerInput | undefined {
  const after = Math.min(at, log.entries.length - 1);
  let upTo = Math.min(after + count, log.entries.length);
  const epoch = log.linkAt(after + 1).epoch;
  while (log.linkAt(upTo).epoch !== epoch) upTo -= 1;
  return upTo > after ? delivery(log, after, upTo) : undefined;
}

test("after any losses, repetitions and failovers a follower ends at the log's digest, and never applies an event twice or over a gap", () => {
  fc.assert(
    fc.property(
      fc.array(action, { minLength: 1, maxLength: 80 }),
      fc.integer({ min: 4, max: 30 }),
      fc.array(fc.record({ back: fc.nat(8), grown: fc.integer({ min: 1, max: 8 }) }), { minLength: 3, maxLength: 3 }),
      (actions, length, failOvers) => {
        let log = history(length);
        const histories = [log];
        let failedOver = 0;
        const shell = new Shell();
        for (const each of actions) {
          const old = histories.at(-2) ?? log;
          const chosen = "from" in each && each.from === "old" ? old : log;
          switch (each.do) {
            case "deliver": {
              const input = published(chosen, each.at, each.count);
              if (input !== undefined) shell.feed(input);
              break;
            }
            case "grant":
              // A deposed leader cannot commit a new grant, but an old grant can arrive late.
              shell.feed(granted(chosen, Math.max(1, Math.min(each.upTo, chosen.entries.length))));
              break;
            case "answer":
              if (shell.reading === null) break;
              if (each.by === "none") shell.feed({ type: "readFailed" });
              else shell.answer((each.by === "old" ? old : log).read(shell.reading, each.limit));
              break;
            case "readRequested":
              shell.feed({ type: "readRequested" });
              break;
            case "failOver": {
              const plan = failOvers[failedOver];
              if (plan === undefined) break;
              failedOver += 1;
              const next = log.fork(Math.max(1, log.entries.length - plan.back)).open(failedOver + 1);
              for (let n = 0; n < plan.grown; n++) next.add(anyEvent(next.entries.length, failedOver));
              log = next;
              histories.push(next);
            }
          }
        }
        // Then the faults end: brokers of the surviving log answer, and a grant arrives every second.
        for (let second = 0; second < 6; second++) {
          shell.answerReads(log);
          shell.grant(log);
          shell.answerReads(log);
        }
        assert.equal(shell.next, null);
        assert.deepEqual(shell.visible.applied, log.head);
        assert.equal(shell.visible.digest(), folded(log).digest());
        assert.equal(shell.state.reading, null);
      },
    ),
    { numRuns: 1_500 },
  );
});

test("without a lost history, a follower never rebuilds", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.integer({ min: 4, max: 30 }), (actions, length) => {
      const log = history(length).open(2).add(created(700)).add(revoked(700)).open(3).add(created(701));
      const shell = new Shell();
      for (const each of actions) {
        if (each.do === "deliver") {
          const input = published(log, each.at, each.count);
          if (input !== undefined) shell.feed(input);
        } else if (each.do === "grant") shell.feed(granted(log, Math.max(1, Math.min(each.upTo, log.entries.length))));
        else if (each.do === "readRequested") shell.feed({ type: "readRequested" });
        else if (each.do === "answer" && shell.reading !== null) {
          shell.answer(log.fork(Math.max(shell.reading.position, length - each.limit)).read(shell.reading, each.limit));
        }
      }
      shell.answerReads(log);
      shell.grant(log);
      shell.answerReads(log);
      assert.equal(shell.rebuilds, 0);
      assert.deepEqual(shell.visible.applied, log.head);
      assert.equal(shell.applied, log.entries.length);
    }),
    { numRuns: 500 },
  );
});
