/** What-if: a recorded request under another policy, with the facts of its time or of now; bounded reports. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type DecisionEntry, digestOf, WhatIfReport } from "../../../src/audit/index.ts";
import { callersNow, callersThen, decideOtherwise } from "../../../src/audit/rederive/index.ts";
import { withRoutePolicy } from "../../../src/audit/rederive/past-configuration.ts";
import type { DecisionRecord } from "../../../src/auth/index.ts";
import { RecordWindow } from "../../../src/console/api/lab/record-window.ts";
import type { UserId } from "../../../src/events/index.ts";
import { at, logWorld, readerOf, stored } from "./support.ts";

test("an edited policy answers as it would have, and what the record does not hold is never guessed", async () => {
  const world = await logWorld();
  const [kim, lee] = [await world.signIn("kim@example.com"), await world.signIn("lee@example.com")];
  await world.members("eng", { added: [kim.userId] });
  const { projection, open, places } = world;
  const base = stored(world.config);
  const ask = (record: DecisionRecord, ppl: unknown) => {
    const configuration = withRoutePolicy(base, "eng", ppl);
    return decideOtherwise(record, {
      callerOf: callersThen({ projection, open }),
      configuration,
      readRecord: readerOf(configuration),
    });
  };
  const group = (has: string) => ({ allow: { and: [{ groups: { has } }] } });
  const [of, other] = [world.recordOf("eng", kim), world.recordOf("eng", lee)];
  const answered = (answer: ReturnType<typeof ask>) => (answer.type === "answered" ? answer.permitted : answer.why);
  assert.deepEqual([answered(ask(of, group("eng"))), answered(ask(other, group("eng")))], [true, false]);
  assert.deepEqual([answered(ask(of, group("ops"))), answered(ask(other, group("ops")))], [false, false]);
  assert.equal(answered(ask(other, { allow: { and: [{ email: "lee@example.com" }] } })), true, "claims are of the log");
  const device = { allow: { and: [{ groups: { has: "eng" } }, { device: { is: "any" } }] } };
  assert.match(String(answered(ask(of, { allow: { and: [{ record: { type: "hr", exists: true } }] } }))), /record$/);
  assert.equal(answered(ask(other, device)), false, "without the group no device would help");
  const deniedBoth = { ...group("eng"), deny: { or: [{ groups: { has: "eng" } }] } };
  assert.equal(answered(ask(of, deniedBoth)), false);
  assert.match(String(answered(ask({ ...of, result: "unavailable" }, group("eng")))), /policy did not decide it/);
  assert.match(
    String(answered(ask({ ...of, path: "/a/[redacted]" }, { allow: { and: [{ http_path: "/a" }] } }))),
    /http_path/,
  );
  const anonymous = world.recordOf("eng", null);
  assert.equal(answered(ask(anonymous, { allow: { or: [{ accept: true }] } })), true);
  assert.equal(answered(ask(anonymous, group("eng"))), false);

  const throwing = withRoutePolicy(base, "eng", group("eng"));
  const found = throwing.routes.get("eng");
  assert.ok(found?.policy);
  const fails = (): never => {
    throw new RangeError("a policy that throws");
  };
  const routes = new Map([["eng", { ...found, policy: { ...found.policy, allow: fails } }]]);
  const failed = decideOtherwise(of, {
    callerOf: callersThen({ projection, open }),
    configuration: { ...throwing, routes },
    readRecord: readerOf(throwing),
  });
  assert.deepEqual(failed, {
    type: "not",
    why: "the policy could not be evaluated: a policy that throws",
    failed: true,
  });

  // With the facts of now, a person without access now is not compared.
  await world.append({ type: "UserSuspended", userId: lee.userId, reason: "left" });
  const state = { at, link: projection.applied, projection, places, open };
  const configuration = withRoutePolicy(base, "eng", group("eng"));
  const now = (record: DecisionRecord) =>
    decideOtherwise(record, { callerOf: callersNow(state), configuration, readRecord: readerOf(configuration) });
  assert.deepEqual(now(other), { type: "not", why: "the person was suspended" });
  assert.deepEqual(now({ ...of, userId: "unknown" as UserId }), { type: "not", why: "the person is not known now" });
});

test("a report counts by route, change and person, keeps the first decision, and stays within its bounds", () => {
  const report = new WhatIfReport({ differencesMax: 2 });
  const answer = { type: "answered", routeId: "eng", permitted: false, reasons: [], rule: () => null } as const;
  const record = (userId: string, seq: number): DecisionEntry =>
    ({
      kind: "decision",
      seq,
      boot: "b",
      at: seq,
      userId,
      routeId: "eng",
      result: "permit",
      reasons: [],
      path: "/".repeat(9_999),
    }) as never;
  for (let i = 0; i < 1_000; i += 1) report.add(record(`u-${i % 4}`, i), answer, () => i === 0);
  for (let i = 0; i < 1_000; i += 1) report.addNotReplayed(`why ${i}`);
  const summary = report.summary();
  assert.deepEqual(
    summary.differences.map(({ person, count, already, example }) => [person, count, already, example.id]),
    [
      ["u-0" as UserId, 250, 1, "b:0"],
      ["u-1" as UserId, 250, 0, "b:1"],
    ],
  );
  assert.deepEqual([summary.moreDifferences, summary.notReplayed.length], [500, 101]);
  assert.ok((summary.differences[0]?.example.path.length ?? 0) <= 501);
  assert.notEqual(digestOf({ a: 1 }, summary), digestOf({ a: 2 }, summary));
  assert.equal(digestOf({ a: 1 }, summary), digestOf({ a: 1 }, report.summary()));
});

test("records leave the window in the order of their positions, and no more are held than the bounds permit", () => {
  const window = new RecordWindow({ records: 8, bytes: 1_000 });
  const record = (position: number): DecisionEntry => ({ applied: { position }, at: position }) as never;
  const left: number[] = [];
  for (let i = 0; i < 100; i += 1) left.push(...window.add(record(i ^ 3), 10).map(({ applied }) => applied.position));
  left.push(...window.end().map(({ applied }) => applied.position));
  assert.deepEqual(
    left,
    Array.from({ length: 100 }, (_, i) => i),
  );
  assert.deepEqual(window.end(), []);
  const heavy = new RecordWindow({ records: 1_000, bytes: 100 });
  assert.equal(heavy.add(record(1), 99).length, 0);
  assert.equal(heavy.add(record(2), 99).length, 1, "bytes are a bound, too");
});
