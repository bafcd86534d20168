/** Changes and receipts over the operator API while no leader can be reached, and what the command line makes of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CommandOutcome } from "../../src/events/index.ts";
import type { Databroker } from "../../src/replication/index.ts";
import { BrokerUnavailableError } from "../../src/replication/wire/index.ts";
import { run } from "../cli/support.ts";
import { json, type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

const cutOff =
  (outcome: CommandOutcome) =>
  (inner: Databroker): Databroker => ({
    ...inner,
    async submit({ commandId }) {
      const message = "the home region is unreachable";
      return { type: "unavailable", commandId, message, retryAfterMs: 5_000, code: "home-unreachable", outcome };
    },
    async receipt() {
      throw new BrokerUnavailableError("the home region is unreachable", {
        reason: "home-unreachable",
        outcome: "none",
      });
    },
    async takeSnapshot() {
      throw new BrokerUnavailableError("the home region is unreachable", {
        reason: "home-unreachable",
        outcome: "none",
      });
    },
  });
const commandId = "22222222-2222-4222-8222-222222222222";
const link = `1.1.${"a".repeat(64)}`;

async function cardea(at: OperatorWorld, ...args: readonly string[]) {
  return run([...args, "--url", at.world.url("authenticate")], { CARDEA_TOKEN: await at.token() });
}

for (const outcome of ["none", "unknown"] as const)
  test(`a command in a region that is cut off gets 503 with its code and the outcome ${outcome}`, async (t) => {
    const at = await startOperatorWorld(t, { operator: cutOff(outcome) });
    const answer = await at.post("/sessions/s1/revoke", { commandId });
    assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "5"]);
    const { error, ...fields } = json(answer);
    assert.deepEqual(fields, { code: "home-unreachable", outcome, commandId });
    assert.match(error, outcome === "none" ? /was not forwarded/ : /may or may not have been made/);
  });

test("without a leader the answer names the command id and no code, so that callers retry", async (t) => {
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      submit: async (request) => ({
        type: "unavailable",
        commandId: request.commandId,
        message: "m",
        retryAfterMs: 10,
      }),
    }),
  });
  const answer = await at.post("/sessions/s1/revoke", { commandId });
  assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "1"]);
  assert.deepEqual(json(answer), { error: "m", commandId });
});

test("a receipt, its stream and a snapshot in a region that is cut off name the code", async (t) => {
  const at = await startOperatorWorld(t, { operator: cutOff("none") });
  const path = `/receipts/link:${link}?wait=all&timeoutMs=0`;
  const headers = { authorization: `Bearer ${await at.token()}`, accept: "text/event-stream" };
  for (const answer of [await at.get(path), await at.get(path, { headers }), await at.post("/snapshots")])
    assert.deepEqual([answer.status, answer.headers["retry-after"], json(answer).code], [503, "5", "home-unreachable"]);
});

test("the command line does not repeat a change or a receipt there, and says what may have happened", async (t) => {
  for (const outcome of ["none", "unknown"] as const) {
    let submits = 0;
    let receipts = 0;
    const at = await startOperatorWorld(t, {
      operator(inner) {
        const lost = cutOff(outcome)(inner);
        return {
          ...lost,
          submit: (request) => {
            submits += 1;
            return lost.submit(request);
          },
          receipt: (target, options) => {
            receipts += 1;
            return lost.receipt(target, options);
          },
        };
      },
    });
    const revoked = await cardea(at, "sessions", "revoke", "s1", "--wait");
    assert.deepEqual([revoked.code, submits], [3, 1]);
    assert.match(revoked.err, /cut off from its home region/);
    const find = /cardea receipt [0-9a-f-]{36} tells/;
    if (outcome === "unknown") assert.match(revoked.err, find);
    else assert.doesNotMatch(revoked.err, find);
    const receipt = await cardea(at, "receipt", link, "--wait", "--timeout", "60s");
    assert.deepEqual([receipt.code, receipts], [3, 1]);
    assert.match(receipt.err, /home region/);
  }
});

const locally = (revokeLocally: NonNullable<Databroker["revokeLocally"]>, leader: CommandOutcome = "none") => {
  return (inner: Databroker): Databroker => ({ ...cutOff(leader)(inner), revokeLocally });
};
const refusedWith = (code: string, outcome?: CommandOutcome): NonNullable<Databroker["revokeLocally"]> => {
  return async ({ commandId: id }) => ({ type: "unavailable", commandId: id, code, message: "why", outcome });
};

for (const [what, operator, reason, outcome] of [
  ["keeps nothing of a revocation", locally(refusedWith("local-no-lease", "none")), "local-no-lease", "none"],
  ["may have kept it", locally(refusedWith("local-broker-unreachable")), "local-broker-unreachable", "unknown"],
  [
    "keeps nothing of one that was forwarded",
    locally(refusedWith("local-full", "none"), "unknown"),
    "local-full",
    "unknown",
  ],
  [
    "does not answer",
    locally(async () => {
      throw new BrokerUnavailableError("no broker answers");
    }),
    "local-broker-unreachable",
    "unknown",
  ],
] as const)
  test(`a region that is cut off and ${what} answers 503 with home-unreachable, the reason, and the outcome ${outcome}`, async (t) => {
    const at = await startOperatorWorld(t, { operator });
    const answer = await at.post("/sessions/s1/revoke", { commandId });
    assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "5"]);
    const { error, ...fields } = json(answer);
    assert.deepEqual(fields, { code: "home-unreachable", outcome, reason, commandId });
    assert.match(error, /cut off from its home region, and has not accepted the change by itself/);
    const line = await cardea(at, "sessions", "revoke", "s1");
    assert.equal(line.code, 3);
    if (outcome === "none") assert.doesNotMatch(line.err, /may or may not/);
    else assert.match(line.err, /may or may not have been made/);
  });

test("a home region that answers again is no reason to give up: the answer has no code", async (t) => {
  const at = await startOperatorWorld(t, { operator: locally(refusedWith("local-home-answers", "none")) });
  const answer = await at.post("/sessions/s1/revoke", { commandId });
  assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "1"]);
  assert.deepEqual(json(answer), { error: "why", reason: "local-home-answers", commandId });
});
