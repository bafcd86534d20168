/** Verdicts of a drill: held, broken and not measured, each beside the others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type PromiseName, promises } from "../../../src/cli/drill/drill.ts";
import { drills } from "../../../src/cli/drill/drills/index.ts";
import { type CanaryProbe, Observations } from "../../../src/cli/drill/observations.ts";
import { type Outcome, verdictsOf } from "../../../src/cli/drill/verdicts.ts";

const [groupRemoval, proxyRestart] = ["group-removal", "proxy-restart"].map((name) => {
  const found = drills.find((drill) => drill.name === name);
  assert.ok(found !== undefined);
  return found;
});
assert.ok(groupRemoval !== undefined && proxyRestart !== undefined);

function outcomeOf(observations: Observations, more: Partial<Outcome> = {}): Outcome {
  return {
    observations,
    windowMs: 4_000,
    peopleErrorsMax: 0.01,
    lost: 0,
    returnedMs: null,
    leftOver: [],
    stopped: null,
    ...more,
  };
}
const resultOf = (outcome: Outcome, name: PromiseName, drill = groupRemoval): string | undefined =>
  verdictsOf(drill, outcome).find(({ promise }) => promise === promises[name])?.result;

const probe: CanaryProbe = {
  proxy: "proxy-1",
  sentAt: 0,
  endedAt: 5,
  answer: "permitted",
  status: 200,
  requestId: "r",
};
const cutAt = (completeAt: number | null) => ({
  what: "remove-member",
  sentAt: 100,
  completeAt,
  refusedAt: new Map<string, number>(),
});

test("a request that was sent after the complete receipt and permitted breaks the promise, and is evidence", () => {
  const observations = new Observations();
  observations.cut = cutAt(200);
  observations.addProbe({ ...probe, sentAt: 199, endedAt: 230 }, "eu");
  assert.equal(resultOf(outcomeOf(observations), "nothing-after-receipt"), "not-measured", "sent before the receipt");
  observations.addProbe({ ...probe, sentAt: 210, endedAt: 215, answer: "refused", status: 403 }, "eu");
  assert.equal(resultOf(outcomeOf(observations), "nothing-after-receipt"), "held");
  observations.addProbe({ ...probe, sentAt: 220, endedAt: 225 }, "eu");
  assert.equal(resultOf(outcomeOf(observations), "nothing-after-receipt"), "broken");
  assert.equal(observations.evidence.length, 1);
});

test("a proxy that permits again after it refused has not refused yet", () => {
  const observations = new Observations();
  observations.cut = cutAt(null);
  observations.addProbe({ ...probe, sentAt: 110, endedAt: 120, answer: "refused" }, "eu");
  assert.equal(observations.cut.refusedAt.get("proxy-1"), 120);
  observations.addProbe({ ...probe, sentAt: 130, endedAt: 140 }, "eu");
  assert.equal(observations.cut.refusedAt.has("proxy-1"), false);
  observations.addProbe({ ...probe, sentAt: 150, endedAt: 160, answer: "refused" }, "eu");
  observations.addProbe({ ...probe, sentAt: 170, endedAt: 180, answer: "refused" }, "eu");
  assert.equal(observations.cut.refusedAt.get("proxy-1"), 160);
});

test("times are held within the bound, and one that is late or missing breaks the promise", () => {
  const revocation = {
    atMs: 0,
    what: "remove-member",
    region: "eu",
    acknowledgedMs: 10,
    enforcedMs: 40,
    completeMs: 90,
  };
  const observations = new Observations();
  assert.equal(resultOf(outcomeOf(observations), "receipt-complete"), "not-measured");
  observations.revocations.push(revocation);
  for (const name of ["acknowledged", "every-node-refuses", "receipt-complete"] as const)
    assert.equal(resultOf(outcomeOf(observations), name), "held", name);
  observations.revocations.push({ ...revocation, acknowledgedMs: 2_001, enforcedMs: null, completeMs: 5_001 });
  for (const name of ["acknowledged", "every-node-refuses", "receipt-complete"] as const)
    assert.equal(resultOf(outcomeOf(observations), name), "broken", name);
});

test("a receipt that waits for a silent node may take its window, and no longer", () => {
  const observations = new Observations();
  const revocation = {
    atMs: 0,
    what: "remove-member",
    region: "eu",
    acknowledgedMs: 10,
    enforcedMs: 40,
    completeMs: 6_900,
  };
  observations.revocations.push(revocation);
  assert.equal(resultOf(outcomeOf(observations), "receipt-complete", proxyRestart), "held");
  observations.revocations.push({ ...revocation, completeMs: 7_100 });
  assert.equal(resultOf(outcomeOf(observations), "receipt-complete", proxyRestart), "broken");
});

test("other proxies are judged while the fault lasts and the canary has its right; the target is not", () => {
  const observations = new Observations();
  observations.faultActive = true;
  observations.awayTarget = "proxy-2";
  for (let i = 0; i < 200; i++) observations.addProbe(probe, "eu");
  observations.addProbe({ ...probe, proxy: "proxy-2", answer: "failed", status: 0 }, "eu");
  observations.addProbe({ ...probe, answer: "failed", status: 0 }, "eu");
  assert.equal(resultOf(outcomeOf(observations), "others-serve", proxyRestart), "held", "1 of 201");
  for (let i = 0; i < 3; i++) observations.addProbe({ ...probe, answer: "unavailable", status: 503 }, "eu");
  assert.equal(resultOf(outcomeOf(observations), "others-serve", proxyRestart), "broken");
});

test("errors of people, a lost change and something left over each break their promise", () => {
  const observations = new Observations();
  observations.addPeople("eu", 0, { permitted: 1_000, refused: 0, unavailable: 1, failed: 0 });
  assert.equal(resultOf(outcomeOf(observations), "people-unharmed"), "held");
  observations.peopleWorst = { requests: 3, errors: 3 };
  assert.equal(resultOf(outcomeOf(observations), "people-unharmed"), "held", "three errors are no harm");
  observations.peopleWorst = { requests: 400, errors: 20 };
  assert.equal(resultOf(outcomeOf(observations), "people-unharmed"), "broken");
  assert.equal(resultOf(outcomeOf(new Observations()), "people-unharmed"), "not-measured");
  assert.equal(resultOf(outcomeOf(observations, { leftOver: ["the canary user is suspended"] }), "restored"), "broken");
  assert.equal(resultOf(outcomeOf(observations), "restored"), "held");
  observations.revocations.push({ atMs: 0, what: "", region: "", acknowledgedMs: 1, enforcedMs: 1, completeMs: 1 });
  assert.equal(resultOf(outcomeOf(observations, { lost: 1 }), "nothing-lost"), "broken");
  assert.equal(resultOf(outcomeOf(observations, { lost: null }), "nothing-lost"), "not-measured");
});

test("what an interrupted drill did not reach is not measured, and says why", () => {
  const verdicts = verdictsOf(groupRemoval, outcomeOf(new Observations(), { stopped: "interrupted by SIGINT" }));
  const [first] = verdicts;
  assert.equal(first?.result, "not-measured");
  assert.equal(first?.text, "the drill was stopped before");
});
