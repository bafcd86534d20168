/**
 * What every sink of decision records must keep, whatever is behind it. A sink's test calls this with a way to open the
 * sink, to read back what it has, and to take it away and bring it back.
 */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { AuditRecord, AuditSink } from "../../src/audit/index.ts";
import type { BootId } from "../../src/events/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { ModelDisk } from "./spool/model-disk.ts";
import { startSpool } from "./spool/spool-support.ts";
import { batchOf, decision, node } from "./support.ts";

export type SinkWorld = Readonly<{
  /** Opens the sink for a boot of the node. The same place each time. */
  open(boot: string): Promise<AuditSink>;
  /** What is behind the sink, in the order in which its readers see it, repetitions included. */
  records(): Promise<readonly AuditRecord[]>;
  /** Takes away what is behind the sink, and brings it back as it was. */
  breakDown(): Promise<void>;
  repair(): Promise<void>;
}>;

export function checkSink(name: string, start: (t: TestContext) => Promise<SinkWorld>): void {
  const one = (seq: number, boot = "boot-1", path = "/"): AuditRecord => ({
    ...{ kind: "decision", seq },
    ...decision(path, { boot: boot as BootId }),
  });
  const ids = (records: readonly AuditRecord[]): string[] => records.map(({ boot, seq }) => `${boot}:${seq}`);

  describe(`the sink contract: ${name}`, () => {
    test("records that were accepted can be read, in order and unchanged", async (t) => {
      const world = await start(t);
      const sink = await world.open("boot-1");
      const records = [one(1), one(2, "boot-1", "/ä/\u2028/😀"), one(3)];
      await sink.write(batchOf(...records.slice(0, 2)));
      await sink.write(batchOf(...records.slice(2)));
      await sink.close();
      assert.deepEqual(await world.records(), records);
    });

    test("a batch written again does no harm: the record has the same id and content", async (t) => {
      const world = await start(t);
      const sink = await world.open("boot-1");
      for (const batch of [batchOf(one(1), one(2)), batchOf(one(1), one(2)), batchOf(one(2), one(3))])
        await sink.write(batch);
      await sink.close();
      const byId = new Map((await world.records()).map((record) => [record.seq, record]));
      assert.deepEqual([...byId.keys()], [1, 2, 3]);
    });

    test("a gap record and the records of an earlier boot of the node are accepted", async (t) => {
      const world = await start(t);
      const sink = await world.open("boot-2");
      const boot = "boot-1" as BootId;
      const why = "a test";
      await sink.write(batchOf(one(1)));
      await sink.write(batchOf({ kind: "gap", seq: 9, node, boot, at: 1 as never, first: 2, last: 9, why }));
      await sink.write(batchOf(one(10)));
      await sink.write(batchOf(one(1, "boot-2")));
      await sink.close();
      assert.deepEqual(ids(await world.records()), ["boot-1:1", "boot-1:9", "boot-1:10", "boot-2:1"]);
    });

    test("a batch of half a megabyte is accepted", async (t) => {
      const world = await start(t);
      const sink = await world.open("boot-1");
      const records = Array.from({ length: 250 }, (_, i) => one(i + 1, "boot-1", `/${"x".repeat(1_600)}`));
      await sink.write(batchOf(...records));
      await sink.close();
      assert.equal((await world.records()).length, 250);
    });

    test("closing is idempotent enough for a shutdown: it settles, also without a write", async (t) => {
      const world = await start(t);
      await (await world.open("boot-1")).close();
    });

    test("an outage loses nothing: the sink rejects, or waits, and gets everything afterwards", async (t) => {
      const world = await start(t);
      const recorder = await startSpool(new ModelDisk(), [await world.open("boot-1")]);
      for (let i = 0; i < 20; i++) recorder.record(decision());
      await waitFor("the first records", async () => (await world.records()).length >= 20);
      await world.breakDown();
      for (let i = 0; i < 30; i++) recorder.record(decision());
      await delay(300);
      await world.repair();
      for (let i = 0; i < 10; i++) recorder.record(decision());
      await waitFor("the sink to have everything", () => recorder.stats().sinks[0]?.queued === 0, { withinMs: 30_000 });
      await recorder.close(5_000);
      const numbers = new Set((await world.records()).map(({ seq }) => seq));
      assert.equal(numbers.size, 60);
    });
  });
}
