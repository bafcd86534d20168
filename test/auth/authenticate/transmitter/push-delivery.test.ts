/** Push delivery: order, retries, dead letters, and what a receiver that refuses everything costs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  inFlightMax,
  newPush,
  type PushAnswer,
  type PushEffect,
  type PushState,
  pauseMsMax,
  refusedInRowMax,
  stepPush,
  strikesMax,
  type Waiting,
} from "../../../../src/auth/authenticate/transmitter/push-delivery.ts";

const accepted: PushAnswer = { type: "accepted" };
const down: PushAnswer = { type: "failed", reason: "down", retryAfterMs: null };
const refused = (err = "invalid_request", isAboutStream = false): PushAnswer => ({
  ...{ type: "refused", err, description: "", isAboutStream },
});

/** A stream and its receiver. */
function world(waiting: readonly Waiting[], answerOf: (jti: string) => PushAnswer) {
  let state: PushState = newPush;
  let left = [...waiting];
  let now = 0;
  const effects: PushEffect[] = [];
  const posts: string[] = [];
  function feed([next, caused]: readonly [PushState, readonly PushEffect[]]): void {
    state = next;
    for (const effect of caused) {
      effects.push(effect);
      if (effect.type === "post") posts.push(effect.jti);
      if (effect.type === "accepted" || effect.type === "deadLetter")
        left = left.filter(({ jti }) => jti !== effect.jti);
    }
  }
  return {
    posts,
    effects,
    get state() {
      return state;
    },
    get left() {
      return left.map(({ jti }) => jti);
    },
    get now() {
      return now;
    },
    schedule: () => feed(stepPush(state, { type: "schedule", now, waiting: left })),
    answer: (jti: string, answer = answerOf(jti)) => feed(stepPush(state, { type: "answered", now, jti, answer })),
    /** Runs until this time, or until nothing waits. */
    run(untilMs: number) {
      for (; now <= untilMs && left.length > 0; now += 100) {
        this.schedule();
        for (const jti of [...state.inFlight.keys()]) this.answer(jti);
      }
    },
  };
}

const of = (count: number, key = (n: number) => `person-${n}`): readonly Waiting[] =>
  Array.from({ length: count }, (_, n) => ({ jti: `t${n}`, key: key(n) }));

test("tokens about one person go one after the other, and those about others go together", () => {
  const at = world(
    of(4, (n) => (n < 3 ? "ann" : "bob")),
    () => accepted,
  );
  at.schedule();
  assert.deepEqual(at.posts, ["t0", "t3"]);
  at.answer("t0");
  at.schedule();
  assert.deepEqual(at.posts, ["t0", "t3", "t1"]);
});

test("at most so many requests are in progress at once", () => {
  const at = world(of(100), () => accepted);
  at.schedule();
  at.schedule();
  assert.equal(at.posts.length, inFlightMax);
});

test("one refused token is a dead letter, and the others follow in order", () => {
  const at = world(
    of(5, () => "ann"),
    (jti) => (jti === "t2" ? refused() : accepted),
  );
  at.run(10_000);
  assert.deepEqual(at.left, []);
  assert.deepEqual(
    at.effects.filter(({ type }) => type === "deadLetter").map((effect) => "jti" in effect && effect.jti),
    ["t2"],
  );
  assert.deepEqual(at.posts, ["t0", "t1", "t2", "t3", "t4"]);
});

test("a receiver that refuses one token after the other does not use up the stream", () => {
  const at = world(of(50), () => refused());
  at.run(600_000);
  const dead = at.effects.filter(({ type }) => type === "deadLetter").length;
  assert.equal(dead, refusedInRowMax);
  assert.equal(at.left.length, 50 - dead);
});

test("a refusal that is about the stream gives no token up", () => {
  const at = world(of(3), () => refused("invalid_key", true));
  at.run(60_000);
  assert.equal(at.left.length, 3);
  assert.ok(at.effects.every(({ type }) => type !== "deadLetter"));
});

test("a receiver that is down gets one request at a time, less and less often", () => {
  const at = world(of(100), () => down);
  at.run(3_600_000);
  assert.equal(at.left.length, 100);
  assert.ok(at.posts.length < 30, `${at.posts.length} requests in an hour`);
  const [before] = [at.posts.length];
  at.run(at.now + pauseMsMax * 2);
  assert.ok(at.posts.length - before <= 4);
});

test("when the receiver is back everything arrives, in order for each person", () => {
  let isDown = true;
  const at = world(
    of(30, (n) => `person-${n % 3}`),
    () => (isDown ? down : accepted),
  );
  at.run(60_000);
  isDown = false;
  at.run(at.now + 2 * pauseMsMax);
  assert.deepEqual(at.left, []);
  const order = at.effects.flatMap((effect) => (effect.type === "accepted" ? [Number(effect.jti.slice(1))] : []));
  for (const person of [0, 1, 2]) {
    const own = order.filter((n) => n % 3 === person);
    assert.deepEqual(
      own,
      [...own].sort((a, b) => a - b),
    );
  }
});

test("one token that always fails delays no other person, and is given up while others succeed", () => {
  const many = of(2_000);
  const at = world(many, (jti) => (jti === "t0" ? down : accepted));
  let offered = 20;
  let now = 0;
  let state: PushState = newPush;
  const done = new Set<string>();
  const dead = new Set<string>();
  for (; now < 3 * 3_600_000 && !dead.has("t0"); now += 5_000) {
    offered = Math.min(many.length, offered + 1);
    const waiting = many.slice(0, offered).filter(({ jti }) => !done.has(jti) && !dead.has(jti));
    let [next, effects] = stepPush(state, { type: "schedule", now, waiting });
    state = next;
    for (const effect of effects) {
      if (effect.type !== "post") continue;
      [next, effects] = stepPush(state, {
        ...{ type: "answered", now, jti: effect.jti },
        answer: effect.jti === "t0" ? down : accepted,
      });
      state = next;
      for (const each of effects) {
        if (each.type === "accepted") done.add(each.jti);
        if (each.type === "deadLetter") dead.add(each.jti);
      }
    }
  }
  assert.ok(dead.has("t0"), `not given up after ${strikesMax} strikes`);
  assert.ok(done.size > 100);
  assert.equal(at.left.length, 2_000);
});

test("the pause that a receiver asks for is kept, within a bound", () => {
  const at = world(of(1), () => ({ type: "failed", reason: "busy", retryAfterMs: 60_000 }));
  at.run(59_000);
  assert.equal(at.posts.length, 1);
  const long = world(of(1), () => ({ type: "failed", reason: "busy", retryAfterMs: 1e12 }));
  long.run(2 * pauseMsMax + 1_000);
  assert.equal(long.posts.length, 2);
});

test("an answer for a token that is not in progress changes nothing", () => {
  const at = world(of(2), () => accepted);
  at.answer("t0");
  assert.deepEqual(at.effects, []);
  assert.equal(at.state, newPush);
});
