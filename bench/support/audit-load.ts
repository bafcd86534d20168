/** Audit load: decisions as a busy proxy makes them, through a spool on disk to one sink. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import {
  type AuditSink,
  createRecorder,
  openSpoolFolder,
  type Recorder,
  type SpoolDisk,
} from "../../src/audit/index.ts";
import type { BootId } from "../../src/events/index.ts";
import { decision, node } from "../../test/audit/support.ts";

export const boot = "bench" as BootId;
/** Records in memory at most, as a proxy would have under load. */
const pendingMax = 20_000;

const people = Array.from({ length: 100 }, () => ({ sessionId: randomUUID() as never, userId: randomUUID() as never }));
const reasons = ["user-ok"]; // the proxy, too, shares the list of a decision's reasons
const [allow, deny] = [
  { met: true, reasons },
  { met: false, reasons: [] },
];
const userAgent =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
const requests = Array.from({ length: 1_024 }, (_, i) =>
  decision(`/reports/${i * 7}/pages/${i % 13}`, {
    requestId: `018f3c5e-7b1a-7c3d-9a52-${String(i).padStart(12, "0")}`,
    ...{ boot, ...people[i % people.length] },
    reasons,
    allow,
    deny,
    ...{ rule: "policy[0].allow.or", routeName: "Reports", userAgent },
    latencyMs: 0.4,
  }),
);
export const requestOf = (i: number) => requests[i % requests.length] as (typeof requests)[number];

export type Cost = Readonly<{
  perSecond: number;
  /** Processor time of this process for one record: all threads, the kernel included. */
  cpuUs: number;
}>;

/** Runs what stores so many records. */
export async function measure(records: number, run: () => Promise<void>): Promise<Cost> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  await run();
  const perSecond = records / ((performance.now() - began) / 1_000);
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond, cpuUs: (user + system) / records };
}

export type SpoolRun = Cost &
  Readonly<{
    /** Bytes of the records in each batch that the sink got. */
    batches: readonly number[];
    /** Bytes that the spool wrote up to each sync. */
    groups: readonly number[];
    /** Microseconds on the request path, sorted: means of 50 together. */
    usOf: readonly number[];
  }>;

export type SpoolLoad = Readonly<{
  records: number;
  mode: "best_effort" | "strict";
  /** The parent of the spool's folder. */
  folder: string;
  sink: Pick<AuditSink, "write">;
}>;

/** From the first decision until the sink has the last record. */
export async function runSpool({ records, mode, folder: parent, sink }: SpoolLoad): Promise<SpoolRun> {
  const folder = mkdtempSync(join(parent, "cardea-bench-spool-"));
  const { disk, groups } = countGroups(folder);
  let delivered = 0;
  const batches: number[] = [];
  const write: AuditSink["write"] = async (batch) => {
    await sink.write(batch);
    delivered += batch.last - batch.first + 1;
    batches.push(batch.bytes.length);
  };
  const recorder = await startRecorder(disk, { name: "bench", write, close: async () => undefined });
  const usOf: number[] = [];
  const cost = await measure(records, async () => {
    let settled = 0;
    for (let i = 0; i < records; ) {
      const before = performance.now();
      const until = Math.min(records, i + 50);
      const count = until - i;
      for (; i < until; i++) {
        if (mode === "best_effort") recorder.record(requestOf(i));
        else void recorder.recordDurably(requestOf(i)).then(() => settled++);
      }
      usOf.push(((performance.now() - before) * 1_000) / count);
      await turn();
      while (mode === "best_effort" ? recorder.stats().pending > pendingMax : i - settled > pendingMax) await delay(1);
    }
    while (delivered < records) await delay(1);
  });
  await recorder.close(5_000);
  disk.release();
  rmSync(folder, { recursive: true });
  return { ...cost, batches, groups, usOf: usOf.toSorted((a, b) => a - b) };
}

function countGroups(
  folder: string,
): Readonly<{ disk: SpoolDisk & Readonly<{ release(): void }>; groups: readonly number[] }> {
  const disk = openSpoolFolder(folder);
  const groups: number[] = [];
  let bytes = 0;
  const create: SpoolDisk["create"] = async (name) => {
    const file = await disk.create(name);
    return {
      ...file,
      write(parts, at) {
        for (const part of parts) bytes += part.length;
        return file.write(parts, at);
      },
      sync() {
        groups.push(bytes);
        bytes = 0;
        return file.sync();
      },
    };
  };
  return { disk: { ...disk, create }, groups };
}

function startRecorder(disk: SpoolDisk, sink: AuditSink): Promise<Recorder> {
  return createRecorder({
    ...{ node, boot },
    spool: { disk, bytesMax: 10_000_000_000, sinks: [sink] },
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
    onFailure: (what, error) => console.error(what, error),
    onDamage: (damage) => console.error(damage),
  });
}
