/** The guard of a drill: each reason to stop, and what is not one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type GuardInput, type GuardRules, newGuard, stepGuard } from "../../../src/cli/drill/guard.ts";

const rules: GuardRules = { target: "proxy-1", peopleErrorsMax: 0.01, needsMetrics: true };
const well: GuardInput = {
  atMs: 0,
  status: { leads: true, differing: [], silent: [] },
  people: { requests: 100, errors: 0 },
  unreadable: [],
};

/** Feeds one input a second. @returns the first reason and its second; undefined: there is none */
function stopOf(
  inputs: readonly Partial<GuardInput>[],
  options: GuardRules = rules,
): Readonly<{ reason: string; second: number }> | undefined {
  let guard = newGuard;
  for (const [second, input] of inputs.entries()) {
    const [next, reason] = stepGuard(guard, { ...well, ...input, atMs: second * 1_000 }, options);
    guard = next;
    if (reason !== null) return { reason, second };
  }
  return undefined;
}
const times = (count: number, input: Partial<GuardInput>): readonly Partial<GuardInput>[] =>
  Array.from({ length: count }, () => input);

test("a healthy cluster is no reason to stop", () => {
  assert.equal(stopOf(times(600, {})), undefined);
});

test("errors of people above the share stop the drill at once", () => {
  const found = stopOf([{}, {}, { people: { requests: 100, errors: 5 } }]);
  assert.equal(found?.second, 2);
  assert.match(found?.reason ?? "", /people saw 5 errors in 300 requests/);
});

test("errors below the share, or fewer than five, do not stop it", () => {
  assert.equal(stopOf([{ people: { requests: 10_000, errors: 60 } }]), undefined);
  assert.equal(stopOf([{ people: { requests: 4, errors: 4 } }]), undefined);
});

test("errors older than ten seconds no longer count", () => {
  const sparse = Array.from({ length: 40 }, (_, i) => ({ people: { requests: 10, errors: i % 11 === 0 ? 4 : 0 } }));
  assert.equal(stopOf(sparse), undefined);
});

test("a digest that differs stops the drill at once, also that of the target", () => {
  const status = { leads: true, differing: ["proxy-1"], silent: [] };
  assert.match(stopOf([{ status }])?.reason ?? "", /digest of proxy-1/);
});

test("the target may be silent, with all its workers; a second node may not", () => {
  const silent = (names: readonly string[]): Partial<GuardInput> => ({
    status: { leads: true, differing: [], silent: names },
  });
  assert.equal(stopOf(times(60, silent(["proxy-1", "proxy-1-w2"]))), undefined);
  assert.match(stopOf(times(60, silent(["proxy-1", "proxy-10"])))?.reason ?? "", /proxy-10 has had no lease/);
  assert.equal(stopOf([...times(2, silent(["proxy-2"])), {}, ...times(2, silent(["proxy-2"]))]), undefined);
});

test("twenty seconds without a leader, or without any status, stop the drill", () => {
  const leaderless = { status: { leads: false, differing: [], silent: [] } };
  assert.equal(stopOf([{}, ...times(60, leaderless)])?.second, 20);
  assert.equal(stopOf([{}, ...times(60, { status: null })])?.second, 20);
  assert.equal(stopOf(times(60, { status: null }))?.second, 20);
  assert.equal(stopOf([...times(15, { status: null }), {}, ...times(15, { status: null })]), undefined);
});

test("a drill that stops a process does not run on when errors of people cannot be seen", () => {
  const blind = times(60, { unreadable: ["proxy-2"] });
  assert.match(stopOf(blind)?.reason ?? "", /metrics of proxy-2/);
  assert.equal(stopOf(times(60, { unreadable: ["proxy-1"] })), undefined, "the target is away");
  assert.equal(stopOf(blind, { ...rules, target: null, needsMetrics: false }), undefined);
});
