/** The recheck: which decisions of other nodes are decided again, and what raises an alarm. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AuditRecord, createRecheck, type DifferentDecision } from "../../../src/audit/index.ts";
import { SampleQueue, samplesMax } from "../../../src/audit/rederive/sample-queue.ts";
import type { DecisionRecord } from "../../../src/auth/index.ts";
import type { GroupId, Hash, Link, UserId } from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { type LogWorld, logWorld, stored } from "./support.ts";

let seq = 0;
const entry = (record: DecisionRecord, more: Partial<DecisionRecord> = {}): AuditRecord => {
  seq += 1;
  return { kind: "decision", seq, ...record, node: "proxy-1" as never, ...more };
};

function recheckOf(
  world: LogWorld,
  parts: Partial<Parameters<typeof createRecheck>[0]> = {},
): Readonly<{ recheck: ReturnType<typeof createRecheck>; alarms: DifferentDecision[]; clock: { ms: number } }> {
  const alarms: DifferentDecision[] = [];
  const clock = { ms: 0 };
  const { projection, places, open, log } = world;
  const recheck = createRecheck({
    ...{ node: "authenticate", rules: { oneIn: 1, perSecond: 1_000 }, random: () => 0, monotonicMs: () => clock.ms },
    replica: {
      ...{ projection, places, open },
      get applied() {
        return projection.applied;
      },
    },
    linkAt: async (position) => (await log.linkAt(position)) ?? null,
    configuration: async () => stored(world.config),
    readerOf: createRecordedRequestReader,
    onDifferent: (found) => void alarms.push(found),
    onFailure: () => {},
    ...parts,
  });
  return { recheck, alarms, clock };
}

test("a decision that another node got wrong raises an alarm with its record, and a right one none", async () => {
  const world = await logWorld();
  const [kim, lee] = [await world.signIn("kim@example.com"), await world.signIn("lee@example.com")];
  await world.members("eng", { added: [kim.userId] });
  const { recheck, alarms } = recheckOf(world);
  const [right, refused] = [world.recordOf("eng", kim), world.recordOf("eng", lee)];
  const wrong = entry(refused, { result: "permit", status: 200 });
  await world.signIn("later@example.com"); // other events do not matter
  for (const record of [entry(right), entry(refused), wrong]) recheck.offer(record, 400);
  await recheck.run();
  assert.deepEqual([recheck.counts().same, recheck.counts().different], [2, 1]);
  assert.deepEqual(alarms, recheck.counts().newest);
  assert.equal(alarms[0]?.id, `boot-1:${wrong.seq}`);
  assert.deepEqual(alarms[0]?.differences[0], { field: "result", recorded: "permit", derived: "deny" });
});

test("a decision whose facts have changed since is skipped, whichever fact it is", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const userId = kim.userId as UserId;
  const eng = "eng" as GroupId;
  const changes = [
    () => world.members("eng", { removed: [userId] }),
    () => world.append({ type: "UserGroupsReplaced", userId, source: "idp", groupIds: [eng] }),
    () => world.append({ type: "GroupRemoved", groupId: eng }),
    () => world.append({ type: "UserSuspended", userId, reason: "left" }),
    () => world.append({ type: "SessionRevoked", sessionId: kim.sessionId, userId, reason: "operator" }),
  ];
  for (const [index, change] of changes.entries()) {
    const { recheck, alarms } = recheckOf(world);
    // The answer is nonsense, so only the change of the facts keeps it from being an alarm.
    const record = { ...world.recordOf("eng", kim), reasons: ["accept"] } as const;
    const named = { sessionId: kim.sessionId, userId, result: "permit" } as const;
    await change();
    recheck.offer(entry(record, named), 400);
    await recheck.run();
    assert.deepEqual([recheck.counts().skipped.changed, alarms.length], [1, 0], `change ${index}`);
  }
});

test("a record of a link that the node has not reached waits, and is given up after half a minute", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  const record = world.recordOf("short", kim);
  const ahead: Link = { ...record.applied, position: (record.applied.position + 1) as never };
  const { recheck, alarms, clock } = recheckOf(world);
  recheck.offer(entry(record, { applied: ahead }), 400);
  await recheck.run();
  assert.equal(recheck.counts().waiting, 1);
  await world.signIn("next@example.com");
  await recheck.run();
  assert.deepEqual([recheck.counts().waiting, recheck.counts().skipped.history], [0, 1], "its link is not the log's");
  recheck.offer(entry(record, { applied: { ...ahead, position: 99 as never } }), 400);
  clock.ms = 31_000;
  await recheck.run();
  assert.deepEqual([recheck.counts().skipped.behind, alarms.length], [1, 0]);
});

test("a node whose own copy is of a history that was lost raises no alarm", async () => {
  const world = await logWorld();
  const lee = await world.signIn("lee@example.com");
  const record = entry(world.recordOf("eng", lee), { result: "permit" });
  const { projection, places, open } = world;
  const lost: Link = { ...projection.applied, hash: "0".repeat(64) as Hash };
  const { recheck, alarms } = recheckOf(world, { replica: { projection, places, open, applied: lost } });
  recheck.offer(record, 400);
  await recheck.run();
  assert.deepEqual([alarms.length, recheck.counts().skipped.history], [0, 1]);
});

test("a configuration that is not stored, a broker that does not answer and what cannot be known are counted as skipped", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const { recheck } = recheckOf(world);
  recheck.offer(entry(world.recordOf("certificate", kim)), 400);
  await recheck.run();
  assert.equal(recheck.counts().skipped.criteria, 1);
  const record = entry(world.recordOf("eng", kim));
  const unstored = recheckOf(world, { configuration: async () => undefined });
  const silent = recheckOf(world, { linkAt: () => Promise.reject(new Error("no broker answers")) });
  for (const one of [unstored, silent]) {
    one.recheck.offer(record, 400);
    await one.recheck.run();
  }
  assert.equal(unstored.recheck.counts().skipped.configuration, 1);
  assert.equal(silent.recheck.counts().skipped.failed, 1);
});

test("nodes with many configurations do not make a check compile one for each decision", async () => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  let read = 0;
  const { recheck, clock } = recheckOf(world, {
    configuration: async () => {
      read += 1;
      return stored(world.config);
    },
  });
  const check = async (configurations: number): Promise<void> => {
    for (let n = 0; n < 60; n++)
      recheck.offer(entry(world.recordOf("eng", kim), { configHash: `hash ${n % configurations}` as never }), 400);
    clock.ms += 1_000;
    await recheck.run();
  };
  await check(3);
  assert.deepEqual([read, recheck.counts().same], [3, 60]);
  await check(20);
  assert.ok(read <= 5, `${read} were compiled`);
  assert.ok(recheck.counts().skipped.configuration > 0);
  for (let n = 0; n < 60; n++) await check(8);
  assert.equal(recheck.counts().waiting, 0);
  const before = recheck.counts().skipped.configuration;
  await check(8);
  assert.equal(recheck.counts().skipped.configuration, before, "in time all of eight are known");
});

test("one in so many is chosen, at most so many a second, within a bound in bytes, and none of this node", () => {
  const record = entry({ occasion: "request" } as DecisionRecord);
  const queueOf = (oneIn: number, perSecond: number, random = () => 0.0009) =>
    new SampleQueue({ rules: { oneIn, perSecond }, ownNode: "authenticate", random });
  const at = (nowMs: number, bytes = 100) => ({ nowMs, bytes });
  assert.ok(queueOf(1_000, 5).offer(record, at(0)));
  assert.ok(!queueOf(1_000, 5, () => 0.0011).offer(record, at(0)));
  const slow = queueOf(1, 2);
  const chosen = [0, 1, 2, 3, 1_001].map((ms) => slow.offer(record, at(ms)));
  assert.deepEqual(chosen, [true, true, false, false, true]);
  const full = queueOf(1, 1_000);
  for (let n = 0; n < 200; n++) full.offer(record, at(n));
  assert.equal(full.size, samplesMax);
  const taken = full.takeAll();
  for (let n = 200; n < 400; n++) full.offer(record, at(n));
  assert.deepEqual(
    taken.filter((sample) => full.putBack(sample)),
    [],
    "what comes back fills no more than there is room",
  );
  assert.equal(full.size, samplesMax);
  const large = queueOf(1, 1_000);
  assert.deepEqual([large.offer(record, at(0, 900_000)), large.offer(record, at(0, 900_000))], [true, false]);
  for (const other of [{ node: "authenticate" }, { occasion: "closed" }] as object[])
    assert.ok(!queueOf(1, 5).offer({ ...record, ...other } as AuditRecord, at(0)));
  assert.ok(!queueOf(1, 5).offer({ ...record, kind: "operator" } as never, at(0)));
});

test("a check takes a small, bounded part of the processor", async (t) => {
  const world = await logWorld();
  const kim = await world.signIn("kim@example.com");
  await world.members("eng", { added: [kim.userId] });
  const { recheck, clock } = recheckOf(world);
  const record = world.recordOf("eng", kim);
  const round = async (): Promise<void> => {
    for (let n = 0; n < samplesMax; n++) recheck.offer(entry(record), 400);
    clock.ms += 1_000;
    await recheck.run();
  };
  await round();
  const before = process.cpuUsage();
  for (let n = 0; n < 20; n++) await round();
  const { user, system } = process.cpuUsage(before);
  const each = (user + system) / 1_000 / (20 * samplesMax);
  assert.equal(recheck.counts().same, 21 * samplesMax);
  t.diagnostic(`a check: ${each.toFixed(3)} ms of processor time`);
  assert.ok(each < 4, "five a second, the default, are then below 2 %");
});
