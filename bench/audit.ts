/**
 * Bench: what a decision record costs on the request path, how many records a second go through the spool, and what
 * strict audit costs a proxy.
 *
 *   node bench/audit.ts [--records 200000] [--rounds 5] [--seconds 5] [--connections 128]
 *
 * - On the request path: the time inside `record`, and inside `recordDurably` until it returns its promise.
 * - The spool: from the decision until every record is durable and a sink that accepts everything has it, beside plain
 *   appends of as many finished lines, in as many groups as the spool made, each joined, written and synced. Rounds
 *   alternate; the result is the median of the ratios of neighbours (budget: at least 0.5).
 * - The proxy: authorised requests under wrk, on a strict route beside a best-effort one (budget: at least 0.7).
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type AuditSink, createRecorder, openSpoolFolder, type Recorder, type SpoolDisk } from "../src/audit/index.ts";
import type { BootId } from "../src/events/index.ts";
import { decision, node } from "../test/audit/support.ts";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { percentile } from "./support/histogram.ts";
import { byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "200000" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "5" }, // 0: without the proxy
    connections: { type: "string", default: "128" },
    folder: { type: "string", default: "/var/tmp" },
  },
});
const [records, rounds] = [Number(values.records), Number(values.rounds)];
/** Records in memory at most, as a proxy would have under load. */
const pendingMax = 20_000;
const pathUsMax = 3;
const spoolRatioMin = 0.5;
const strictRatioMin = 0.7;

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
    ...people[i % people.length],
    reasons,
    allow,
    deny,
    ...{ rule: "policy[0].allow.or", routeName: "Reports", userAgent },
    latencyMs: 0.4,
  }),
);
const requestOf = (i: number) => requests[i % requests.length] as (typeof requests)[number];

type Counted = Readonly<{ disk: SpoolDisk & Readonly<{ release(): void }>; writes: () => number }>;

function countWrites(folder: string): Counted {
  const disk = openSpoolFolder(folder);
  let writes = 0;
  const create: SpoolDisk["create"] = async (name) => {
    const file = await disk.create(name);
    return {
      ...file,
      sync() {
        writes++;
        return file.sync();
      },
    };
  };
  return { disk: { ...disk, create }, writes: () => writes };
}

function startRecorder(disk: SpoolDisk, sink: AuditSink): Promise<Recorder> {
  return createRecorder({
    ...{ node, boot: "bench" as BootId },
    spool: { disk, bytesMax: 10_000_000_000, sinks: [sink] },
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
    onFailure: (what, error) => console.error(what, error),
    onDamage: (damage) => console.error(damage),
  });
}

type SpoolRun = Readonly<{ perSecond: number; cpuUs: number; bytes: number; groups: number; usOf: readonly number[] }>;

async function runSpool(mode: "best_effort" | "strict"): Promise<SpoolRun> {
  const folder = mkdtempSync(join(values.folder, "cardea-bench-spool-"));
  const { disk, writes } = countWrites(folder);
  let delivered = 0;
  let bytes = 0;
  const write: AuditSink["write"] = async (batch) => {
    delivered += batch.last - batch.first + 1;
    bytes += batch.bytes.length;
  };
  const recorder = await startRecorder(disk, { name: "null", write, close: async () => undefined });
  const usOf: number[] = [];
  const began = performance.now();
  const cpu = process.cpuUsage();
  let settled = 0;
  for (let i = 0; i < records; ) {
    const before = performance.now();
    for (let k = 0; k < 50; k++, i++) {
      if (mode === "best_effort") recorder.record(requestOf(i));
      else void recorder.recordDurably(requestOf(i)).then(() => settled++);
    }
    usOf.push(((performance.now() - before) * 1_000) / 50);
    await turn();
    while (mode === "best_effort" ? recorder.stats().pending > pendingMax : i - settled > pendingMax) await delay(1);
  }
  while (delivered < records) await delay(1);
  const perSecond = records / ((performance.now() - began) / 1_000);
  const { user, system } = process.cpuUsage(cpu);
  const cpuUs = (user + system) / records;
  await recorder.close(5_000);
  disk.release();
  rmSync(folder, { recursive: true });
  return { perSecond, cpuUs, bytes, groups: writes(), usOf: usOf.toSorted((a, b) => a - b) };
}

/** Plain appends of so many bytes as lines, in so many groups, each synced. @returns records per second */
async function runPlain({ bytes, groups }: SpoolRun): Promise<number> {
  const folder = mkdtempSync(join(values.folder, "cardea-bench-plain-"));
  const file = await open(join(folder, "plain"), "w");
  const lines = Array.from({ length: requests.length }, (_, i) => `${"x".repeat(bytes / records - 8)}${10_000 + i}\n`);
  const began = performance.now();
  for (let i = 0, made = 0; i < groups; i++) {
    const group: string[] = [];
    for (const until = ((i + 1) * records) / groups; made < until; made++) group.push(lines[made % lines.length] ?? "");
    await file.write(group.join(""));
    await file.datasync();
  }
  const perSecond = records / ((performance.now() - began) / 1_000);
  await file.close();
  rmSync(folder, { recursive: true });
  return perSecond;
}

const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;

async function measureSpool(mode: "best_effort" | "strict"): Promise<readonly Budget[]> {
  await runSpool(mode); // warm-up
  const runs: SpoolRun[] = [];
  const plain: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const run = await runSpool(mode);
    runs.push(run);
    plain.push(await runPlain(run));
  }
  const ratios = runs.map(({ perSecond }, i) => perSecond / (plain[i] ?? Number.NaN));
  const usOf = runs.flatMap((run) => run.usOf).toSorted((a, b) => a - b);
  const p50 = percentile(usOf, 50);
  const p99 = percentile(usOf, 99);
  const per = median(runs.map(({ perSecond }) => perSecond));
  const groups = median(runs.map((run) => run.groups));
  console.log(`${mode}: ${whole(per)} records/s, ${groups} syncs; plain ${whole(median(plain))} records/s`);
  console.log(
    `${mode}: ${median(runs.map(({ cpuUs }) => cpuUs)).toFixed(1)} µs of processor time per record, all in all`,
  );
  console.log(`${mode}: ratios ${ratios.map((ratio) => ratio.toFixed(2)).join(", ")}`);
  console.log(`${mode}: on the request path ${p50.toFixed(2)} µs, p99 of 50 together ${p99.toFixed(2)} µs`);
  return [
    {
      what: `audit on the request path, ${mode}`,
      result: `${p50.toFixed(2)} µs`,
      budget: `≤ ${pathUsMax} µs`,
      met: p50 <= pathUsMax,
    },
    {
      what: `records through the spool, ${mode}, beside plain append and sync`,
      result: `${median(ratios).toFixed(2)} × (${whole(per)}/s)`,
      budget: `≥ ${spoolRatioMin} ×`,
      met: median(ratios) >= spoolRatioMin,
    },
  ];
}

async function measureProxy(): Promise<readonly Budget[]> {
  const budgets: Budget[] = [];
  await withStand(async (stand) => {
    const [upstream = 0] = await freePorts(1);
    const conf = writeNginxConf(stand.folder, "upstream", helloServer(upstream));
    await stand.start(coreOfLoad, "nginx", ["-c", conf], upstream);
    const subjects: Subject[] = [];
    for (const mode of ["best_effort", "strict"]) {
      const cardea = await startCardea(stand, { upstreamPort: upstream, name: mode, route: [`audit: ${mode}`] });
      subjects.push({ name: mode, url: `http://127.0.0.1:${cardea.port}/`, ...cardea });
    }
    const seconds = Number(values.seconds);
    const [bestEffort, strict] = await inRounds(subjects, { seconds, rounds: 3 }, byWrk(Number(values.connections)));
    const ratio = (strict?.perSecond ?? 0) / (bestEffort?.perSecond ?? 0);
    budgets.push({
      what: "requests/s of a strict route, beside best effort",
      result: `${ratio.toFixed(2)} × (${whole(strict?.perSecond ?? 0)}/s; p99 ${strict?.p99.toFixed(1)} and ${bestEffort?.p99.toFixed(1)} ms)`,
      budget: `≥ ${strictRatioMin} ×`,
      met: ratio >= strictRatioMin,
    });
  });
  return budgets;
}

reportBudgets([
  ...(await measureSpool("best_effort")),
  ...(await measureSpool("strict")),
  ...(Number(values.seconds) > 0 ? await measureProxy() : []),
]);
