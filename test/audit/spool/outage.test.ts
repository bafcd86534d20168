/**
 * Half an hour without a sink, on a model clock and a model disk: what the sink gets afterwards, records and declared
 * gaps, is what was decided, and the other sinks notice nothing.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  type AuditSink,
  createRecorder,
  type Recorder,
  type SpoolDisk,
  type SpoolFile,
} from "../../../src/audit/index.ts";
import type { BootId } from "../../../src/events/index.ts";
import { boot, decision, node, recordsIn } from "../support.ts";

const minute = 60_000;

/** Time passes only in `pass`, from timer to timer. */
class ModelClock {
  now = 1_700_000_000_000;
  readonly #timers: { at: number; ring: () => void }[] = [];

  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const timer = { at: this.now + ms, ring: resolve };
      signal?.addEventListener("abort", () => resolve(), { once: true });
      const next = this.#timers.findIndex(({ at }) => at > timer.at);
      this.#timers.splice(next < 0 ? this.#timers.length : next, 0, timer);
      return undefined;
    });

  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      await turn(); // everything that needs no time
      const [next] = this.#timers;
      if (next === undefined || next.at > until) break;
      this.#timers.shift();
      this.now = Math.max(this.now, next.at);
      next.ring();
    }
    this.now = until;
  }
}

/** Files in memory. Nothing fails, and nothing takes time. */
function memoryDisk(): SpoolDisk & Readonly<{ bytes: () => number }> {
  const files = new Map<string, { content: Buffer; size: number }>();
  const fileOf = (name: string): SpoolFile => {
    const file = files.get(name) ?? { content: Buffer.alloc(0), size: 0 };
    return {
      async write(chunks, at) {
        let offset = at;
        for (const chunk of chunks) {
          if (offset + chunk.length > file.content.length) {
            const grown = Buffer.alloc((offset + chunk.length) * 2);
            file.content.copy(grown);
            file.content = grown;
          }
          file.content.set(chunk, offset);
          offset += chunk.length;
        }
        file.size = Math.max(file.size, offset);
      },
      sync: async () => undefined,
      read: async (into, at) => file.content.copy(into, 0, at, Math.min(file.size, at + into.length)),
      async truncate(size) {
        file.size = size;
      },
      close: async () => undefined,
    };
  };
  return {
    list: async () => [...files].map(([name, { size }]) => ({ name, size })),
    async create(name) {
      files.set(name, { content: Buffer.alloc(0), size: 0 });
      return fileOf(name);
    },
    open: async (name) => fileOf(name),
    readSmall: async (name) => files.get(name)?.content.subarray(0, files.get(name)?.size) ?? null,
    replace: async (name, bytes) => void files.set(name, { content: Buffer.from(bytes), size: bytes.length }),
    remove: async (name) => void files.delete(name),
    bytes: () => [...files.values()].reduce((sum, { size }) => sum + size, 0),
  };
}

type Sink = AuditSink & {
  mode: "good" | "failing" | "stuck";
  attempts: number;
  release(): void;
  /** Of each boot: how many of its numbers arrived as records, and its gaps. Numbers are dense. */
  readonly boots: Map<string, { next: number; records: number; gaps: [number, number][] }>;
};

/** Counts what it gets, and checks that it is in order and without holes. */
function countingSink(name: string): Sink {
  let waiting = Promise.withResolvers<void>();
  const sink: Sink = {
    name,
    mode: "good",
    attempts: 0,
    boots: new Map(),
    release() {
      waiting.resolve();
      waiting = Promise.withResolvers();
    },
    async write(batch) {
      sink.attempts++;
      if (sink.mode === "failing") throw new Error("the sink fails");
      if (sink.mode === "stuck") await waiting.promise;
      const of = sink.boots.get(batch.boot) ?? { next: 1, records: 0, gaps: [] };
      sink.boots.set(batch.boot, of);
      const gap = batch.first === batch.last ? recordsIn(batch).find((record) => record.kind === "gap") : undefined;
      if (gap !== undefined) of.gaps.push([gap.first, gap.last]);
      else of.records += batch.last - batch.first + 1;
      assert.equal(gap?.first ?? batch.first, of.next, "no number is missing");
      of.next = batch.last + 1;
    },
    close: async () => undefined,
  };
  return sink;
}

type Rig = Readonly<{ recorder: Recorder; clock: ModelClock; disk: ReturnType<typeof memoryDisk>; failures: string[] }>;

async function startRig(sinks: readonly Sink[], bytesMax: number, before: Rig | null = null): Promise<Rig> {
  const clock = before?.clock ?? new ModelClock();
  const disk = before?.disk ?? memoryDisk();
  const failures: string[] = [];
  const recorder = await createRecorder({
    ...{ node, boot: before === null ? boot : ("boot-2" as BootId), spool: { disk, bytesMax, sinks } },
    ...{ nowMs: () => clock.now, monotonicMs: () => clock.now, sleep: clock.sleep },
    onFailure: (what, error) => failures.push(`${what}: ${error}`),
    onDamage: (damage) => assert.fail(JSON.stringify(damage)),
  });
  return { recorder, clock, disk, failures };
}

/** Decisions of so long, 100 in each second. @returns how many strict ones were stored: one of each 100, or none */
async function decideFor(
  { recorder, clock }: Rig,
  ms: number,
  { strict, of = boot }: Readonly<{ strict: boolean; of?: string }>,
): Promise<number> {
  let stored = 0;
  const made = decision("/reports/2026", { boot: of as BootId });
  for (let second = 0; second < ms / 1_000; second++) {
    for (let i = 1; i <= 100; i++) {
      if (!strict || i < 100) recorder.record(made);
      else void recorder.recordDurably(made).then(() => stored++);
    }
    await clock.pass(1_000);
  }
  return stored;
}

async function end({ recorder, clock }: Rig): Promise<void> {
  const closing = recorder.close(3_000);
  await clock.pass(3_000);
  await closing;
}

describe("NATS and a file away for 30 minutes, at 100 decisions a second", () => {
  for (const { bytesMax, strict, what } of [
    { bytesMax: 1_000_000_000, strict: true, what: "with room for them, all records arrive" },
    { bytesMax: 30_000_000, strict: false, what: "without room, the newest arrive, and one gap declares the others" },
  ]) {
    test(what, async () => {
      const [ok, away, stuck] = [countingSink("ok"), countingSink("nats"), countingSink("file")];
      const rig = await startRig([ok, away, stuck], bytesMax);
      const { recorder, clock, disk, failures } = rig;
      let stored = await decideFor(rig, minute, { strict });
      const outageAt = recorder.stats().recorded;
      const { attempts } = away;
      away.mode = "failing";
      stuck.mode = "stuck";
      stored += await decideFor(rig, 30 * minute, { strict });
      assert.ok(disk.bytes() <= bytesMax + 4_200_000, `${disk.bytes()} bytes on the disk`);
      assert.deepEqual(failures, ["nats: Error: the sink fails"], "reported once");
      const { sinks, refusal } = recorder.stats();
      assert.equal(sinks[0]?.queued, 0, "the other sink has everything");
      assert.equal(refusal, null);
      assert.ok((sinks[1]?.lagMs ?? 0) >= (strict ? 29 : 5) * minute, `${sinks[1]?.lagMs} ms`);
      assert.ok(away.attempts - attempts < 30 + (30 * minute) / 5_000, "one attempt every five seconds");
      for (const sink of [away, stuck]) {
        sink.mode = "good";
        sink.release();
      }
      await clock.pass(10_000);
      assert.ok(
        recorder.stats().sinks.every(({ queued }) => queued === 0),
        "caught up ten seconds after its return",
      );
      stored += await decideFor(rig, minute, { strict });
      await end(rig);
      const made = recorder.stats().recorded;
      assert.equal(made, 32 * 60 * 100);
      assert.equal(stored, strict ? 32 * 60 : 0, "no strict one was refused");
      for (const sink of [ok, away, stuck]) {
        const { next, records, gaps } = sink.boots.get(boot) ?? assert.fail();
        assert.equal(next, made + 1);
        const lost = gaps.reduce((sum, [first, last]) => sum + last - first + 1, 0);
        assert.equal(records + lost, made, `${sink.name}: records and gaps are what was decided`);
        assert.equal(gaps.length, strict || sink === ok ? 0 : 1, sink.name);
        for (const [first] of gaps) assert.ok(first > outageAt - 200, "nothing of before the outage is lost");
        assert.ok(lost < made * 0.8 && (gaps.length === 0 || lost > made * 0.3), `${lost} of ${made} are lost`);
      }
    });
  }

  test("and a new process in place of the old one meanwhile: nothing is lost between them", async () => {
    const away = countingSink("nats");
    away.mode = "failing";
    const first = await startRig([away], 1_000_000_000);
    await decideFor(first, 2 * minute, { strict: true });
    await end(first);
    const second = await startRig([away], 1_000_000_000, first);
    await decideFor(second, minute, { strict: true, of: "boot-2" });
    away.mode = "good";
    await second.clock.pass(10_000);
    const counts = [...away.boots].map(([of, { records, gaps }]) => [of, records, gaps.length]);
    assert.deepEqual(counts, [
      [boot, 12_000, 0],
      ["boot-2", 6_000, 0],
    ]);
  });
});
