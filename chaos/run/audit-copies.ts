/**
 * Audit copies: waits, for a bounded time, until the sinks of all processes have everything, and reads what they have.
 */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { type AuditCopy, type AuditLine, type AuditSeen, auditLineOf } from "../judge/audit-line.ts";
import { nsPerMs } from "../judge/history.ts";
import { watchLoad } from "../judge/machine-load.ts";
import type { RunClock } from "../judge/run-clock.ts";
import { sumIn } from "./metric.ts";

const drainedWithinMs = 30_000;
const pollEveryMs = 250;
const readAttempts = 5;
/** Numbers of records that no sink or not every sink has. */
const waiting = ["cardea_audit_pending_records", "cardea_audit_sink_queued_records"];

/** The wall clock at the origin of a run. */
export function wallClockAt(now: RunClock): number {
  return Date.now() - now() / nsPerMs;
}

/** Call it once no client uses the cluster any more. @param originMs the wall clock at the origin of the run */
export async function readAuditCopies(
  cluster: Cluster,
  { now, originMs }: Readonly<{ now: RunClock; originMs: number }>,
): Promise<AuditSeen> {
  const undrained = await untilDrained(cluster);
  const unread: string[] = [];
  const keep = async ({ name, nats }: Cluster["regions"][number]): Promise<void> => {
    await cluster.auditStreams.keep(nats.urls).catch((error: unknown) => unread.push(`JetStream of ${name}: ${error}`));
  };
  await Promise.all(cluster.regions.map(keep));
  // A copy that was read in part proves nothing.
  const stream: AuditCopy[] = unread.length > 0 ? [] : [{ sink: "JetStream", ...cluster.auditStreams.kept() }];
  const clockStepMs = Math.abs(wallClockAt(now) - originMs);
  return {
    copies: [await filesOf(cluster.processes), ...stream],
    undrained: [...undrained, ...unread],
    originMs,
    clockStepMs,
  };
}

async function untilDrained({ processes }: Cluster): Promise<readonly string[]> {
  const startedAt = performance.now();
  const load = watchLoad();
  for (let quiet = 0; ; ) {
    const late = (await Promise.all(processes.map(waitingIn))).flat();
    quiet = late.length === 0 ? quiet + 1 : 0;
    if (quiet === 2) return [];
    if (performance.now() - startedAt > drainedWithinMs * load()) return late;
    await delay(pollEveryMs);
  }
}

async function waitingIn(process: ClusterProcess): Promise<readonly string[]> {
  try {
    const page = await process.metrics();
    const counts = waiting.map((name) => [name, sumIn(page, name)] as const);
    return counts.flatMap(([name, count]) => (count > 0 ? [`${process.name}: ${name} ${count}`] : []));
  } catch (error) {
    return [`${process.name}: ${error}`];
  }
}

/** The files of all processes, with those that were rotated or renamed. */
async function filesOf(processes: readonly ClusterProcess[]): Promise<AuditCopy> {
  const lines: AuditLine[] = [];
  let malformed = 0;
  for (const { auditFile } of processes) {
    const read = await readFolder(dirname(auditFile), basename(auditFile, ".jsonl"));
    for (const line of read.lines) lines.push(line);
    malformed += read.malformed;
  }
  return { sink: "file", lines, malformed };
}

/** A file may be compressed, and so renamed, while the folder is read. */
async function readFolder(folder: string, stem: string): Promise<Omit<AuditCopy, "sink">> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readFiles(existsSync(folder) ? await filesIn(folder, stem) : []);
    } catch (error) {
      const isRenamed = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (!isRenamed || attempt === readAttempts) throw error;
    }
  }
}

async function filesIn(folder: string, stem: string): Promise<readonly string[]> {
  const names = await readdir(folder);
  return names.filter((name) => name.startsWith(stem)).map((name) => join(folder, name));
}

async function readFiles(paths: readonly string[]): Promise<Omit<AuditCopy, "sink">> {
  const lines: AuditLine[] = [];
  let malformed = 0;
  for (const path of paths) {
    const bytes = await readFile(path);
    const text = (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
    for (const one of text.split("\n")) {
      const line = auditLineOf(one, null);
      if (line !== undefined) lines.push(line);
      else if (one !== "") malformed += 1;
    }
  }
  return { lines, malformed };
}
