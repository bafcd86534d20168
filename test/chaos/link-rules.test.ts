/** The rules that break links: which links they match, and what still passes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Effect, type Link, type Rule, stateOf } from "../../chaos/cluster/link-rules.ts";

const link: Link = { port: 1, to: 2, near: ["broker-us-1", "us"], far: ["broker-eu-1", "brokers", "eu"], delayMs: 40 };
const cut: Effect = { type: "cut" };
const oneWay: Effect = { type: "one-way" };
const passes = (...rules: readonly Rule[]): string => {
  const { out, back } = stateOf(link, rules);
  return `${out.open ? "out" : ""} ${back.open ? "back" : ""}`.trim();
};

describe("a rule breaks the links between its two ends", () => {
  test("without a rule both directions pass, as late as the distance demands", () => {
    assert.deepEqual(stateOf(link, []), {
      out: { open: true, lateMs: 40, trickles: false },
      back: { open: true, lateMs: 40, trickles: false },
    });
  });

  test("a cut matches whichever end it names first", () => {
    assert.equal(passes({ a: ["us"], b: ["eu"], effect: cut }), "");
    assert.equal(passes({ a: ["eu"], b: ["us"], effect: cut }), "");
  });

  test("a link of which an end lacks a tag is left alone", () => {
    assert.equal(passes({ a: ["us"], b: ["ap"], effect: cut }), "out back");
    assert.equal(passes({ a: ["us"], b: ["eu", "NATS"], effect: cut }), "out back");
    assert.equal(passes({ a: ["broker-us-2"], b: ["eu"], effect: cut }), "out back");
  });

  test("one way: what the first end sends passes, whichever end dialled", () => {
    assert.equal(passes({ a: ["us"], b: ["eu"], effect: oneWay }), "out");
    assert.equal(passes({ a: ["eu"], b: ["us"], effect: oneWay }), "back");
  });

  test("overlapping rules add up", () => {
    assert.equal(passes({ a: ["us"], b: ["eu"], effect: oneWay }, { a: ["eu"], b: ["us"], effect: oneWay }), "");
    const slow: Rule = { a: ["us"], b: ["eu"], effect: { type: "slow", ms: 250 } };
    assert.equal(stateOf(link, [slow, slow]).out.lateMs, 540);
    assert.equal(stateOf(link, [slow, { a: ["us"], b: ["brokers"], effect: { type: "trickle" } }]).back.trickles, true);
  });

  test("forgetting connections leaves new ones whole", () => {
    assert.equal(passes({ a: ["us"], b: ["eu"], effect: { type: "half-open" } }), "out back");
  });
});
