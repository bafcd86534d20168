/**
 * Steady audit load: decisions at a fixed rate, with the destinations of a default configuration: a file, the store for
 * readers, the feed, and seals. Prints processor time per decision as JSON.
 *
 *   node audit-steady.ts SOURCES RATE SECONDS all|spool|none FOLDER
 *
 * - SOURCES is the `src` folder of the version to measure. `spool`: a sink that accepts everything, without seals.
 *   `none`: records are formatted and reach the feed only.
 * - No two decisions have the same id and path.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import type * as Audit from "../../src/audit/index.ts";
import type { AuditSink } from "../../src/audit/index.ts";
import type * as Quiet from "../../src/cli/build/audit/quiet-sleep.ts";
import type { UnixMs } from "../../src/events/index.ts";
import { decision } from "../../test/audit/support.ts";
import type { MetronomeSetup } from "./metronome.ts";

const [, , sources = "src", rateText = "20000", secondsText = "4", destinations = "all", parent = "/var/tmp"] =
  process.argv;
const [rate, seconds] = [Number(rateText), Number(secondsText)];
const warmUpMs = 2_000;
const everyMs = 1;

const audit = (await import(pathToFileURL(resolve(sources, "audit/index.ts")).href)) as typeof Audit;
// As the program makes pauses.
const quiet = pathToFileURL(resolve(sources, "cli/build/audit/quiet-sleep.ts"));
const pause: Audit.Sleep = existsSync(quiet)
  ? ((await import(quiet.href)) as typeof Quiet).quietSleep
  : (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal });
const { signerOfNode } = await import("../../test/audit/seal/seal-support.ts");
const { node, boot, sign } = signerOfNode();
const folder = mkdtempSync(join(parent, "cardea-bench-steady-"));
const [nowMs, monotonicMs] = [() => Date.now(), () => performance.now()];
const disk = audit.openSpoolFolder(join(folder, "spool"));
const pull = audit.openSpoolFolder(join(folder, "pull"));
const feed = audit.createFeed({
  start: { sequence: boot, number: 0, index: 0 },
  ...{ entriesMax: 20_000, bytesMax: 16 * 1_024 * 1_024, watchersMax: 1 },
});
const port: Audit.SealPort = {
  sign,
  headOf: () => undefined,
  isCoded: () => true,
  isReady: () => true,
  submit: async () => "done",
};
const accepting: AuditSink = { name: "nothing", write: async () => undefined, close: async () => undefined };
const destination =
  destinations === "all"
    ? {
        sinks: [
          audit.createFileSink(join(folder, "audit.jsonl")),
          await audit.openPullStore({ disk: pull, boot, bytesMax: 256 * 1_024 * 1_024, monotonicMs }),
        ],
        seal: { port, everyMs: 60_000 },
      }
    : { sinks: [accepting] };
const recorder = await audit.createRecorder({
  ...{ node, boot, nowMs, monotonicMs, sleep: pause },
  spool: destinations === "none" ? null : { disk, bytesMax: 1_024 * 1_024 * 1_024, ...destination },
  tap: (batch) => feed.pushBatch(batch),
  onFailure: (what, error) => console.error(what, error),
  onDamage: (damage) => console.error(damage),
});

const people = Array.from({ length: 8 }, () => ({ sessionId: randomUUID() as never, userId: randomUUID() as never }));
const reasons = ["user-ok"];
const sides = { reasons, allow: { met: true, reasons }, deny: { met: false, reasons: [] as string[] } };
const userAgent =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36";
const template = decision("/", { boot, ...sides, rule: "policy[0].allow.or", routeName: "Reports", userAgent });
const random = randomBytes(65_536).toString("hex");
let made = 0;
function decideOnce(): void {
  const from = (made * 37) % 100_000;
  recorder.record({
    ...template,
    ...people[made % people.length],
    at: Date.now() as UnixMs,
    requestId: `${random.slice(from, from + 8)}-${random.slice(from + 8, from + 12)}-4${random.slice(from + 13, from + 16)}-a${random.slice(from + 17, from + 20)}-${String(made).padStart(12, "0")}`,
    path: `/reports/${made * 7}/pages/${made % 13}?page=${made}`,
    latencyMs: (made % 97) / 10,
  });
  made++;
}

const state = new Int32Array(new SharedArrayBuffer(8));
const workerData: MetronomeSetup = { state, everyMs };
const metronome = new Worker(new URL("./metronome.ts", import.meta.url), { workerData });
let began = performance.now();
let due = 0;
metronome.on("message", () => {
  Atomics.store(state, 0, 0);
  const count = Math.floor(((performance.now() - began) * rate) / 1_000);
  for (; due < count; due++) decideOnce();
});
await sleep(warmUpMs);
const [cpu, from, at] = [process.cpuUsage(), made, performance.now()];
await sleep(seconds * 1_000);
const { user, system } = process.cpuUsage(cpu);
const [count, tookMs] = [made - from, performance.now() - at];
const stats = recorder.stats();
console.log(
  JSON.stringify({
    cpuUs: (user + system) / count,
    systemUs: system / count,
    perSecond: (count * 1_000) / tookMs,
    dropped: stats.dropped,
    queued: stats.sinks.map(({ queued }) => queued),
  }),
);
began = Number.POSITIVE_INFINITY;
await metronome.terminate();
await recorder.close(5_000);
for (const { release } of [disk, pull]) release();
rmSync(folder, { recursive: true });
process.exit();
