/**
 * Postgres fidelity: the same scripts against the simulator's model of a primary with a standby and against real
 * servers.
 *
 * A difference would make proofs from the simulator worthless. The scripts run in order on one pair of servers, and the
 * last one ends it.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Epoch, sessionStream } from "../../../src/events/index.ts";
import { type EventLog, LogUnavailableError, verifyLog } from "../../../src/replication/log/index.ts";
import { aCommandId, anIncarnation, aSession, LogWriter, openEpochRequest } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import type { PostgresBench, StartPostgresBench } from "./postgres-bench.ts";
import { startModelBench } from "./postgres-model-bench.ts";
import { startRealBench } from "./postgres-real-bench.ts";
import { runScript } from "./postgres-script.ts";

const worlds: readonly (readonly [name: string, start: StartPostgresBench, skip: string | false])[] = [
  ["the model", startModelBench, false],
  [
    "real servers",
    startRealBench,
    findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false,
  ],
];

for (const [name, start, skip] of worlds) {
  describe(`Postgres, ${name}`, { skip, timeout: 480_000 }, () => {
    let bench: PostgresBench;
    let log: EventLog;
    /** The log as another process opens it. */
    let other: EventLog;
    before(async () => {
      bench = await start();
      [log, other] = [await bench.open(), await bench.open()];
    });
    after(() => bench.dispose());

    /** A writer of a new epoch with a first commit that is confirmed as durable. */
    const aWriter = async (on = log): Promise<LogWriter> => {
      const writer = await LogWriter.open(on);
      assert.equal((await writer.appendEach(aSession())).type, "appended");
      assert.equal((await writer.beat()).type, "beaten");
      return writer;
    };

    test("a clean append is visible to every session, and other readers get it after the next commit", async () => {
      const writer = await aWriter();
      const before = writer.head;
      assert.equal((await writer.appendEach(aSession(), aSession())).type, "appended");
      assert.equal(await bench.visibleHead("primary"), before.position + 2);
      assert.deepEqual((await log.observe()).head, writer.head, "the process that got the answer serves it");
      assert.deepEqual((await other.observe()).head, before, "other processes see it after the next commit");
      assert.equal((await writer.beat()).type, "beaten");
      assert.deepEqual((await other.observe()).head, writer.head);
    });

    test("a deposed leader is fenced, by the epoch or by the incarnation alone", async () => {
      const old = await aWriter();
      const writer = await aWriter(other);
      assert.deepEqual(await old.appendEach(aSession()), { type: "fenced", epoch: writer.epoch });
      assert.deepEqual(await old.beat(), { type: "fenced", epoch: writer.epoch });
      const rival = { incarnation: anIncarnation() };
      assert.deepEqual(await writer.append([{ events: [aSession()] }], rival), { type: "fenced", epoch: writer.epoch });
      assert.deepEqual(await writer.beat(rival), { type: "fenced", epoch: writer.epoch });
      assert.deepEqual(await log.openEpoch(openEpochRequest(old.epoch)), { type: "overtaken", epoch: writer.epoch });
      assert.equal((await writer.beat()).type, "beaten");
    });

    test("a batch or a beat after an outdated head is refused with the current head", async () => {
      const writer = await aWriter();
      const late = writer.fork();
      assert.equal((await writer.appendEach(aSession())).type, "appended");
      assert.deepEqual(await late.appendEach(aSession()), { type: "head-moved", head: writer.head });
      assert.deepEqual(await late.beat(), { type: "head-moved", head: writer.head });
    });

    test("a repeated command is answered with its events, and an outdated version with the current one", async () => {
      const writer = await aWriter();
      const [commandId, session] = [aCommandId(), aSession()];
      assert.equal((await writer.append([{ commandId, events: [session] }])).type, "appended");
      const first = writer.head.position;
      const again = await writer.append([{ events: [aSession()] }, { commandId, events: [aSession()] }]);
      assert.deepEqual(again, { type: "duplicate-command", commandId, first, count: 1 });
      const stream = sessionStream(session.sessionId);
      const streams = [{ stream, expected: 0, next: 1 }];
      const stale = await writer.append([{ events: [session] }], { streams });
      assert.deepEqual(stale, { type: "version-conflict", streams: [{ stream, actual: 1 }] });
      assert.equal(await bench.visibleHead("primary"), first, "neither of them wrote anything");
    });

    test("without the standby a commit hangs unseen, and is acknowledged when the standby is back", async () => {
      const writer = await aWriter();
      const before = writer.head;
      await bench.standbyAway();
      const hanging = writer.appendEach(aSession());
      await bench.commitWaits();
      assert.equal(await bench.visibleHead("primary"), before.position);
      assert.deepEqual((await other.observe()).head, before);
      assert.equal(await other.linkAt((before.position + 1) as never), undefined);
      await bench.standbyBack();
      assert.equal((await hanging).type, "appended");
      assert.equal(await bench.visibleHead("primary"), before.position + 1);
    });

    test("behind a hanging commit, a write and the opening of an epoch fail as certainly not done", async () => {
      const writer = await aWriter();
      // It waits 60 % of this time for the head row, and the rest for the server's answer that the lock was not free.
      const impatient = await bench.open({ writeTimeoutMs: 10_000 });
      await bench.standbyAway();
      const hanging = writer.appendEach(aSession());
      await bench.commitWaits();
      assert.equal((await writer.fork(impatient).beat()).type, "unavailable");
      assert.equal((await impatient.openEpoch(openEpochRequest(writer.epoch))).type, "unavailable");
      await bench.standbyBack();
      assert.equal((await hanging).type, "appended");
      assert.equal((await writer.beat()).type, "beaten");
    });

    test("a refusal waits for no standby", async () => {
      const old = await aWriter();
      const writer = await aWriter(other);
      await bench.standbyAway();
      assert.deepEqual(await old.appendEach(aSession()), { type: "fenced", epoch: writer.epoch });
      await bench.standbyBack();
    });

    test("a cancelled wait is indeterminate and visible at once, and is not served before a clean commit confirms it", async () => {
      const writer = await aWriter();
      const before = writer.head;
      const commandId = aCommandId();
      await bench.standbyAway();
      const batch = writer.batch([{ commandId, events: [aSession()] }]);
      const hanging = writer.send(batch);
      await bench.commitWaits();
      await bench.cancelWait();
      assert.equal((await hanging).type, "indeterminate");
      assert.equal(await bench.visibleHead("primary"), before.position + 1);
      assert.deepEqual((await log.observe()).head, before);
      assert.deepEqual((await other.observe()).head, before);
      assert.equal(await other.findCommand(commandId), undefined);
      assert.deepEqual(await writer.beat(), { type: "head-moved", head: batch.last });
      await bench.standbyBack();
      const next = await aWriter(other);
      assert.equal(next.opening.recorded.position, before.position + 2, "the event stays in the log");
      assert.deepEqual(await other.findCommand(commandId), { first: before.position + 1, count: 1 });
    });

    test("an epoch whose commit hangs is indeterminate, and fences the previous one once it is visible", async () => {
      const writer = await aWriter();
      const impatient = await bench.open({ writeTimeoutMs: 3_000 });
      await bench.standbyAway();
      const opening = impatient.openEpoch(openEpochRequest(writer.epoch));
      await bench.commitWaits();
      assert.equal((await opening).type, "indeterminate");
      assert.equal(
        (await other.observe()).epoch,
        writer.epoch,
        "the server still waits, and no session sees the epoch",
      );
      await bench.cancelWait(); // the caller is gone, so nothing announces when the epoch is visible
      await bench.until("the epoch to be visible", async () => (await other.observe()).epoch === writer.epoch + 1);
      assert.deepEqual(await writer.beat(), { type: "fenced", epoch: writer.epoch + 1 });
      await bench.standbyBack();
    });

    test("a write that timed out at the client is still carried out", async () => {
      const writer = (await aWriter()).fork(await bench.open({ writeTimeoutMs: 3_000 }));
      const before = writer.head;
      const commandId = aCommandId();
      await bench.standbyAway();
      assert.equal((await writer.append([{ commandId, events: [aSession()] }])).type, "indeterminate");
      assert.equal(await bench.visibleHead("primary"), before.position);
      await bench.standbyBack();
      await bench.until("the write to be visible", async () => (await bench.visibleHead("primary")) > before.position);
      assert.equal((await writer.beat()).type, "head-moved");
    });

    test("waiting commits are released as clean when commits no longer wait for standbys", async () => {
      const writer = await aWriter();
      await bench.standbyAway();
      const hanging = writer.appendEach(aSession());
      await bench.commitWaits();
      await bench.setSynchronous(0);
      assert.equal((await hanging).type, "appended");
      assert.equal((await writer.appendEach(aSession())).type, "appended");
      await bench.setSynchronous(1);
      await bench.standbyBack();
      assert.equal((await writer.beat()).type, "beaten");
    });

    test("emptied names release a hanging commit, which stays asynchronous until the standby has it", async () => {
      const writer = await aWriter();
      const waited = writer.head;
      const isSynchronous = async (): Promise<boolean> => (await log.durabilityOf(writer.head)) === "synchronous";
      await bench.until("the first commit to be synchronous", isSynchronous);
      await bench.standbyAway();
      const hanging = writer.appendEach(aSession());
      await bench.commitWaits();
      await bench.setSynchronous(0);
      assert.equal((await hanging).type, "appended", "without a warning");
      assert.equal(await log.durabilityOf(writer.head), "asynchronous");
      assert.equal(await log.durabilityOf(waited), "asynchronous", "without names no rule says which standby has it");
      await bench.setSynchronous(1);
      assert.equal(await log.durabilityOf(writer.head), "asynchronous", "names alone prove nothing");
      await bench.standbyBack();
      await bench.until("the standby to have it", isSynchronous);
      assert.equal((await writer.beat()).type, "beaten");
    });

    test("a standby is neither written to nor read from", async () => {
      await assert.rejects(bench.open({ servers: ["standby"] }), LogUnavailableError);
      const either = await bench.open({ servers: ["standby", "primary"] });
      assert.equal((await aWriter(either)).head.position, await bench.visibleHead("primary"));
    });

    test("after a crash a hanging commit is visible; after a promotion it never happened", async () => {
      const writer = await aWriter();
      const before = writer.head;
      const commandId = aCommandId();
      await bench.standbyAway();
      const hanging = writer.append([{ commandId, events: [aSession()] }]);
      await bench.commitWaits();
      await bench.kill("primary");
      assert.equal((await hanging).type, "indeterminate");
      await bench.start("primary");
      assert.equal(
        await bench.visibleHead("primary"),
        before.position + 1,
        "the commit is visible, although it was never acknowledged",
      );
      assert.deepEqual((await other.observe()).head, before, "but it is not served");
      assert.equal(await other.findCommand(commandId), undefined);
      const impatient = await bench.open({ writeTimeoutMs: 3_000, servers: ["primary"] });
      const onOld = await impatient.openEpoch(openEpochRequest(writer.epoch));
      assert.equal(onOld.type, "indeterminate", "the old primary acknowledges nothing without the standby");

      await bench.kill("primary");
      await bench.promoteStandby();
      assert.equal(await bench.visibleHead("standby"), before.position);
      const next = await aWriter(other);
      assert.equal(next.epoch, writer.epoch + 1);
      assert.equal(next.opening.recorded.position, before.position + 1, "another event has its position");
      assert.equal(await other.findCommand(commandId), undefined);
      assert.deepEqual(await writer.beat(), { type: "fenced", epoch: next.epoch });
      assert.equal((await verifyLog(other)).type, "intact");

      // The old primary returns without knowing of the promotion. It can be read, shows its own past, and acknowledges
      // nothing.
      await bench.start("primary");
      const stale = await bench.open({ writeTimeoutMs: 3_000, servers: ["primary"] });
      const seen = await stale.observe();
      assert.equal(seen.epoch, (writer.epoch + 1) as Epoch, "an epoch whose opening was never acknowledged");
      assert.deepEqual(seen.head, before);
      assert.equal((await stale.openEpoch(openEpochRequest(seen.epoch))).type, "indeterminate");
      const confused = await bench.open({ writeTimeoutMs: 3_000 });
      await bench.until("the log to find the new primary", async () => {
        const { epoch } = await confused.observe();
        return (await confused.openEpoch(openEpochRequest(epoch))).type === "opened";
      });
      assert.equal((await verifyLog(confused)).type, "intact");
      assert.equal((await next.beat()).type, "fenced");
    });
  });
}

test("a random script of writers and faults gives the same results on the model and on real servers", {
  skip: findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false,
  timeout: 590_000,
}, async () => {
  const seed = Number(process.env["SEED"] ?? 2);
  const results: (readonly string[])[] = [];
  for (const start of [startModelBench, startRealBench]) {
    const bench = await start();
    try {
      results.push(await runScript(bench, seed, 80));
    } finally {
      await bench.dispose();
    }
  }
  const [ofModel = [], ofServers = []] = results;
  for (const [step, line] of ofModel.entries()) assert.equal(line, ofServers[step]);
  for (const end of ["cancelled", "standby back", "released", "crash", "emptied and set again"])
    assert.ok(
      ofModel.some((line) => line.includes(end)),
      `the script has no: ${end}`,
    );
});
