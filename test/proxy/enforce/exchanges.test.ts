import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { genesis, type MonotonicMs, type Stream, type UnixMs } from "../../../src/events/index.ts";
import {
  type CutReason,
  type ExchangeLimits,
  type ExchangeOptions,
  Exchanges,
  type ReauthorizeOutcome,
  type Settled,
} from "../../../src/proxy/enforce/exchanges.ts";
import type { PendingCut } from "../../../src/proxy/message/deliveries.ts";

const alice: Stream = "user:alice";
const bob: Stream = "user:bob";

function createExchanges() {
  const now = { monotonic: 0, wall: 1_000, overdueMs: -1 };
  const cuts: CutReason[] = [];
  const undecided: unknown[] = [];
  const exchanges = new Exchanges({
    clock: { monotonic: () => now.monotonic as MonotonicMs, wall: () => now.wall as UnixMs },
    freshness: { overdueMs: () => now.overdueMs },
    onCut: (reason) => void cuts.push(reason),
    onRedecisionFailed: (error, requestId) => void undecided.push([requestId, error]),
  });
  const open = (parts: Partial<ExchangeOptions> = {}) => {
    const verdict: { next: ReauthorizeOutcome } = {
      next: { type: "permitted", reads: parts.reads ?? [alice], until: null },
    };
    const redecisions = { times: 0 };
    const exchange = exchanges.open({
      kind: "http",
      requestId: "request-1",
      reads: [alice],
      until: null,
      graceMs: 0,
      lifetimeMs: 0,
      openedAt: now.monotonic as MonotonicMs,
      redecide: () => {
        redecisions.times++;
        return verdict.next;
      },
      ...parts,
    });
    const destroyed: CutReason[] = [];
    exchange.attach((reason) => void destroyed.push(reason));
    return { exchange, verdict, redecisions, destroyed };
  };
  const change = (touched: Stream[], rebuilt = false) =>
    waitFor((settled) => exchanges.onChange({ link: genesis, touched: new Set(touched), rebuilt }, settled));
  return { now, cuts, undecided, exchanges, open, change };
}
/** Undefined: the callback settled at once. */
function waitFor(begin: (settled: Settled) => void): Promise<void> | undefined {
  let isSettled = false;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  begin((failure) => {
    isSettled = failure === null;
    if (failure === null) resolve();
    else reject(failure);
  });
  return isSettled ? undefined : promise;
}
function underWay(begin: PendingCut["then"]): PendingCut {
  // biome-ignore lint/suspicious/noThenProperty: stands for a promise, and ends in this turn.
  return { then: begin };
}
const refused: ReauthorizeOutcome = { type: "refused", reason: "session-ended" };

describe("a change decides again about exactly the exchanges that read a changed fact", () => {
  test("and applies the grace and the lifetime of the new decision", () => {
    const { now, open, change } = createExchanges();
    const [grace, lifetime] = [open({ graceMs: 10_000 }), open({ graceMs: 10_000, lifetimeMs: 60_000 })];
    now.overdueMs = 5_000;
    now.monotonic = 30_000;
    assert.deepEqual([grace.exchange.mayCarry(), lifetime.exchange.mayCarry()], [true, true]);
    const permittedWith = (terms: ExchangeLimits): ReauthorizeOutcome => ({
      type: "permitted",
      reads: [alice],
      until: null,
      limits: terms,
    });
    grace.verdict.next = permittedWith({ graceMs: 1_000, lifetimeMs: 0 });
    lifetime.verdict.next = permittedWith({ graceMs: 10_000, lifetimeMs: 20_000 });
    void change([alice]);
    assert.deepEqual([grace.exchange.mayCarry(), lifetime.exchange.mayCarry()], [false, false]);
    assert.deepEqual([grace.destroyed, lifetime.destroyed], [["stale"], ["lifetime"]]);
  });

  test("and destroys exchanges that are now denied", () => {
    const { open, change, cuts } = createExchanges();
    const [mine, other] = [open(), open({ reads: [bob] })];
    mine.verdict.next = refused;
    assert.equal(change([alice]), undefined);
    assert.deepEqual([mine.destroyed, other.redecisions.times], [["session-ended"], 0]);
    assert.deepEqual(cuts, ["session-ended"]);
  });
  test("and cuts every caller before what belongs to the cuts otherwise, all of it before the change is enforced", () => {
    const order: string[] = [];
    const exchanges = new Exchanges({
      clock: { monotonic: () => 0 as MonotonicMs, wall: () => 0 as UnixMs },
      freshness: { overdueMs: () => -1 },
      onCut: () => {},
      onRedecisionFailed: () => {},
      onCallersCut: () => void order.push("callers cut"),
    });
    const limits = { graceMs: 0, lifetimeMs: 0, openedAt: 0 as MonotonicMs };
    for (const name of ["one", "two"]) {
      const redecide = () => refused;
      const exchange = exchanges.open({
        kind: "http",
        requestId: name,
        reads: [alice],
        until: null,
        ...limits,
        redecide,
      });
      exchange.attach(() => {
        exchange.afterCuts(() => {
          order.push(`${name}'s upstream`);
          if (name === "one") throw new Error("it cannot be closed");
        });
        order.push(name);
      });
    }
    const change = { link: genesis, touched: new Set([alice]), rebuilt: false };
    exchanges.onChange(change, (failure) => void order.push(failure?.code ?? "settled"));
    const upstreams = ["one's upstream", "two's upstream"];
    assert.deepEqual(order, ["one", "two", "callers cut", ...upstreams, "ERR_PROXY_CUT_FAILED"]);
    exchanges.afterCuts(() => void order.push("at once"));
    assert.equal(order.at(-1), "at once");
  });
  test("and about all of them after a rebuild or on request", async () => {
    const { open, change, exchanges } = createExchanges();
    const [one, two] = [open(), open({ reads: [bob] })];
    void change([], true);
    await waitFor((settled) => exchanges.redecideAll(settled));
    assert.deepEqual([one.redecisions.times, two.redecisions.times], [2, 2]);
  });
  test("once, however many of an exchange's facts changed", () => {
    const { open, change } = createExchanges();
    const both = open({ reads: [alice, bob] });
    void change([alice, bob]);
    assert.equal(both.redecisions.times, 1);
  });
  test("by the facts of the latest decision", () => {
    const { open, change } = createExchanges();
    const one = open();
    one.verdict.next = { type: "permitted", reads: [bob], until: null };
    void change([alice]);
    void change([alice]);
    assert.equal(one.redecisions.times, 1);
    void change([bob]);
    assert.equal(one.redecisions.times, 2);
  });
  test("but not about exchanges that have ended", () => {
    const { open, change, exchanges } = createExchanges();
    const one = open();
    one.exchange.close();
    one.exchange.close();
    void change([alice]);
    assert.equal(one.redecisions.times, 0);
    assert.deepEqual(exchanges.counts, { http: 0, websocket: 0, tcp: 0, udp: 0 });
  });
});

describe("the enforcement of a change", () => {
  test("is reported after every cut in progress, including those of earlier changes", async () => {
    const { open, change } = createExchanges();
    const one = open();
    let done = (): void => {};
    one.exchange.attach(() => new Promise<void>((resolve) => (done = resolve)));
    one.verdict.next = refused;
    const first = change([alice]);
    const second = change([bob]);
    assert.ok(first !== undefined && second !== undefined);
    let settled = 0;
    void first.then(() => settled++);
    void second.then(() => settled++);
    await new Promise(setImmediate);
    assert.equal(settled, 0);
    done();
    await Promise.all([first, second]);
    assert.equal(change([bob]), undefined);
  });
  test("fails when a cut fails; the other exchanges are cut anyway", async () => {
    const { open, change } = createExchanges();
    const [one, two] = [open(), open()];
    one.exchange.attach(() => {
      throw new Error("no");
    });
    one.verdict.next = two.verdict.next = refused;
    await assert.rejects(async () => change([alice]), { code: "ERR_PROXY_CUT_FAILED" });
    assert.deepEqual(two.destroyed, ["session-ended"]);
  });
  test("waits for the cuts that began before it, and for no later ones", () => {
    const { open, change, exchanges } = createExchanges();
    const [one, two, three] = [open(), open({ reads: [bob] }), open({ reads: ["user:carol"] })];
    const done: (() => void)[] = [];
    for (const { exchange, verdict } of [one, two, three]) {
      exchange.attach(() => underWay((finish) => done.push(finish)));
      verdict.next = refused;
    }
    const reported: string[] = [];
    const changeFact = (fact: Stream) =>
      exchanges.onChange({ link: genesis, touched: new Set([fact]), rebuilt: false }, () => void reported.push(fact));
    changeFact(alice);
    changeFact(bob);
    void change(["user:carol"]);
    done[1]?.();
    assert.deepEqual(reported, [], "the second change waits for the first one's cut too");
    done[0]?.();
    assert.deepEqual(reported, [alice, bob], "neither waits for the third");
  });
  test("fails when a cut fails while it waits; a change that did not wait for that cut succeeds", async () => {
    const { open, change } = createExchanges();
    const [one, two] = [open(), open({ reads: [bob] })];
    const ends: Parameters<PendingCut["then"]>[] = [];
    for (const { exchange, verdict } of [one, two]) {
      exchange.attach(() => underWay((...end) => ends.push(end)));
      verdict.next = refused;
    }
    const [first, second] = [change([alice]), change([bob])];
    assert.ok(first !== undefined && second !== undefined);
    ends[1]?.[1](new Error("no"));
    ends[0]?.[0]();
    await first;
    await assert.rejects(second, { code: "ERR_PROXY_CUT_FAILED" });
  });
  test("cutAll continues after an exchange whose cut fails", async () => {
    const { open, exchanges } = createExchanges();
    const [one, two] = [open(), open()];
    one.exchange.attach(() => {
      throw new Error("no");
    });
    await assert.rejects(async () => waitFor((settled) => exchanges.cutAll("draining", settled)), {
      code: "ERR_PROXY_CUT_FAILED",
    });
    assert.deepEqual(two.destroyed, ["draining"]);
  });
  test("a decision that throws is a denial, and its error is reported to be counted and logged", () => {
    const { open, change, undecided } = createExchanges();
    const broken = new Error("no");
    const one = open({
      redecide: () => {
        throw broken;
      },
    });
    void change([alice]);
    assert.deepEqual(one.destroyed, ["not-permitted"]);
    assert.deepEqual(undecided, [["request-1", broken]]);
  });
});

describe("the check before each chunk", () => {
  test("permits within the route's grace after the lease has expired, and not beyond it", () => {
    const { now, open } = createExchanges();
    const [strict, lenient] = [open(), open({ graceMs: 100 })];
    now.overdueMs = 0;
    assert.ok(strict.exchange.mayCarry());
    now.overdueMs = 100;
    assert.deepEqual([strict.exchange.mayCarry(), lenient.exchange.mayCarry()], [false, true]);
    now.overdueMs = Infinity;
    assert.equal(lenient.exchange.mayCarry(), false);
    now.overdueMs = -1;
    assert.equal(lenient.exchange.mayCarry(), false, "a cut is final");
    assert.deepEqual(lenient.destroyed, ["stale"]);
  });
  test("decides again when time alone may have changed the decision", () => {
    const { now, open } = createExchanges();
    const one = open({ until: 2_000 as UnixMs });
    assert.ok(one.exchange.mayCarry());
    assert.equal(one.redecisions.times, 0);
    now.wall = 2_000;
    one.verdict.next = { type: "permitted", reads: [alice], until: 3_000 as UnixMs };
    assert.ok(one.exchange.mayCarry() && one.exchange.mayCarry());
    assert.equal(one.redecisions.times, 1);
    now.wall = 3_000;
    one.verdict.next = refused;
    assert.equal(one.exchange.mayCarry(), false);
  });
  test("enforces the lifetime", () => {
    const { now, open, exchanges } = createExchanges();
    const one = open({ lifetimeMs: 10 });
    now.monotonic = 9;
    exchanges.sweep();
    assert.deepEqual(one.destroyed, []);
    now.monotonic = 10;
    exchanges.sweep();
    assert.deepEqual(one.destroyed, ["lifetime"]);
  });
});

test("an exchange that is cut before it is attached is destroyed as soon as it is attached", () => {
  const { exchanges, change } = createExchanges();
  const exchange = exchanges.open({
    kind: "http",
    requestId: "request-1",
    reads: [alice],
    until: null,
    graceMs: 0,
    lifetimeMs: 0,
    openedAt: 0 as MonotonicMs,
    redecide: () => refused,
  });
  void change([alice]);
  assert.equal(exchange.mayCarry(), false);
  const destroyed: CutReason[] = [];
  exchange.attach((reason) => void destroyed.push(reason));
  assert.deepEqual(destroyed, ["session-ended"]);
});
