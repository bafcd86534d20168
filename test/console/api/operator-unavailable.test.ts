/** Changes and receipts over the operator API while no leader can be reached, and what the command line makes of it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type CommandOutcome, parseBootId, parseLink, parseNodeId, type UnixMs } from "../../../src/events/index.ts";
import type { Databroker, HomeOutOfReach, RegionLag } from "../../../src/replication/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { run } from "../../cli/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
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
/** The state that the region's broker answers while it is cut off. */
const lastKnownAt = Date.now() - 36_000;
const region = (name: string, parts: Partial<RegionLag> = {}): RegionLag => ({
  ...{ region: name, brokers: 1, nodes: 2, fenced: 0, absent: 0, cutOff: false, lag: 3, silentMs: 400, ...parts },
});
const head = parseLink(`9.41210.${"b".repeat(64)}`);
const enforced = parseLink(`9.41207.${"c".repeat(64)}`);
const inCutOffRegion =
  (home: Partial<HomeOutOfReach> = {}) =>
  (inner: Databroker): Databroker => ({
    ...cutOff("none")(inner),
    async status(options) {
      const status = await inner.status(options);
      const node = {
        ...{ node: parseNodeId("proxy-ap-1"), boot: parseBootId("1".repeat(32)), region: "ap", role: "proxy" },
        ...{ version: "1", reads: null, applied: enforced, enforced, lag: 0, digest: null, configHash: null },
        ...{ lastGrantAgoMs: 900, fencedInMs: 31_000, digestMismatch: false, twin: null, heardAgoMs: null },
        refusal: null,
      };
      return {
        ...{ ...status, leader: null, absent: undefined, regions: undefined, nodes: [node] },
        home: {
          ...{ region: "ap", silentMs: 34_000, leasesUntil: (Date.now() + 31_000) as UnixMs },
          lastKnown: {
            at: lastKnownAt as UnixMs,
            head,
            regions: [region("ap"), region("eu"), region("us", { absent: 1 })],
          },
          ...home,
        },
      };
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

test("a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age", async (t) => {
  const at = await startOperatorWorld(t, { operator: inCutOffRegion() });
  const path = `/receipts/link:${link}?wait=region&region=eu&timeoutMs=0`;
  const streamed = { authorization: `Bearer ${await at.token()}`, accept: "text/event-stream" };
  for (const answer of [await at.get(path), await at.get(path, { headers: streamed })]) {
    assert.deepEqual([answer.status, answer.headers["retry-after"]], [503, "5"]);
    const body = json(answer);
    assert.match(body.error, /no leader can give a receipt/);
    assert.deepEqual(
      [body.code, "status" in body, "complete" in body, "signed" in body],
      ["home-unreachable", false, false, false],
    );
    const { lastKnown } = body;
    assert.deepEqual([lastKnown.status, lastKnown.complete, lastKnown.region], ["unknown", false, "ap"]);
    assert.equal(lastKnown.homeSilentMs, 34_000);
    assert.ok(lastKnown.leasesUntil > Date.now());
    assert.deepEqual(lastKnown.nodes, [
      {
        ...{ node: "proxy-ap-1", boot: "1".repeat(32), role: "proxy" },
        ...{ enforced, lastGrantAgoMs: 900, fencedInMs: 31_000 },
      },
    ]);
    assert.equal(lastKnown.reported.at, lastKnownAt);
    assert.ok(lastKnown.reported.ageMs >= 36_000);
    assert.deepEqual(
      lastKnown.reported.regions.map((each: Readonly<{ region: string; applied: number }>) => [
        each.region,
        each.applied,
      ]),
      ["ap", "eu", "us"].map((name) => [name, 41_207]),
    );
  }
});

test("a user who is unknown in a cut-off region hears that the home region is out of reach", async (t) => {
  const at = await startOperatorWorld(t, { operator: inCutOffRegion() });
  const answer = await at.post("/users/stranger/suspend");
  assert.deepEqual([answer.status, answer.headers["retry-after"], json(answer).code], [503, "5", "home-unreachable"]);
  assert.match(json(answer).error, /no user matches "stranger" .*, and the home region is out of reach/);
});

test("a region that was told nothing of the others says so, and one that an older leader told names no positions", async (t) => {
  const silent = await startOperatorWorld(t, { operator: inCutOffRegion({ lastKnown: null }) });
  const path = `/receipts/link:${link}?timeoutMs=0`;
  assert.equal(json(await silent.get(path)).lastKnown.reported, null);
  const old = { at: lastKnownAt as UnixMs, regions: [region("eu")] };
  const older = await startOperatorWorld(t, { operator: inCutOffRegion({ lastKnown: old }) });
  const { reported } = json(await older.get(path)).lastKnown;
  assert.deepEqual([reported.head, reported.regions[0].applied], [null, null]);
});

test("a stream that has begun ends with the last-known state when the region is cut off", async (t) => {
  let answers = 0;
  const at = await startOperatorWorld(t, {
    operator(inner) {
      const lost = inCutOffRegion()(inner);
      return {
        ...lost,
        receipt: async (target, options) => {
          if (answers++ > 0) return lost.receipt(target, options);
          const receipt = await inner.receipt(target, { ...options, timeoutMs: 0 });
          return { ...receipt, status: "incomplete", complete: false, signed: null };
        },
      };
    },
  });
  const headers = { authorization: `Bearer ${await at.token()}`, accept: "text/event-stream" };
  const answer = await at.get(`/receipts/link:${link}?timeoutMs=60000`, { headers });
  assert.equal(answer.status, 200);
  const [first = "", last = ""] = answer.body.split("\n\n").filter((block) => !block.startsWith(":"));
  assert.match(first, /^event: progress/);
  assert.match(last, /^event: unavailable\ndata: \{.*"code":"home-unreachable","lastKnown":\{"status":"unknown"/);
});

test("the command line prints the last-known state, with a name of another region too, and exits with 3", async (t) => {
  const at = await startOperatorWorld(t, { operator: inCutOffRegion() });
  const shown = await cardea(at, "receipt", link, "--wait", "--region", "eu");
  assert.equal(shown.code, 3, shown.out + shown.err);
  assert.match(shown.err, /no leader can give a receipt/);
  assert.match(shown.out, /^region ap at .*: home out of reach for 34\.0 s; leases by age until /);
  assert.match(shown.out, /^broker-1 has read the log up to 1\.1; nodes that renew through it:$/m);
  assert.match(shown.out, /^proxy-ap-1 +proxy +9\.41207 +0\.9 s ago$/m);
  assert.match(shown.out, /^as last known \d+\.\d s ago, at .*; the head of the log was 9\.41210:$/m);
  assert.match(shown.out, /^eu +1 +2 +0 +41207 +ok$/m);
  assert.match(shown.out, /^us .* 1 absent$/m);
  assert.doesNotMatch(shown.out, /complete|applied /);
  const folder = new TemporaryFolder("last-known");
  t.after(() => folder.remove());
  const file = join(folder.path, "receipt.jws");
  const lines = await cardea(at, "receipt", link, "--json", "--output", file);
  const { status, complete } = JSON.parse(lines.out);
  assert.deepEqual([lines.code, status, complete], [3, "unknown", false]);
  assert.equal(existsSync(file), false, "nothing is saved as a receipt");
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
