/**
 * Audit faults: the disk of a proxy's audit spool is full or slow, and the file of its records cannot be written. The
 * proxy goes on; strict routes may answer 503.
 */
import { mkdir, rename, rmdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { sumIn } from "../run/metric.ts";
import { type Aim, type Inject, type Injection, processNamed } from "./injection.ts";

/** A sync takes longer than a strict request waits (1 s). */
const lateMs = 1_400;
const pendingPollMs = 50;
/**
 * How many records wait in memory when the process is killed. At least 128 numbers are reserved ahead of the newest
 * one, at any time; of numbers beyond the reservation docs/audit.md promises nothing.
 */
const pending = { least: 10, most: 100 };
const pendingWithinMs = 2_500;
const emptyWithinMs = 2_000;
const blockAttempts = 5;

type Acts = Pick<Injection, "begin" | "heal">;

function ofDisk({ cluster, target }: Aim, acts: (process: ClusterProcess) => Acts): Injection {
  const process = processNamed(cluster, target);
  return {
    target: `the audit disk of ${target}`,
    regions: [process.region],
    isolates: [],
    holds: [],
    ...acts(process),
  };
}

export const auditFaults = {
  "fill-disk": (aim) => ofDisk(aim, () => fullDisk(aim)),
  "slow-disk": (aim) => ofDisk(aim, slowDisk),
  "kill-on-full-disk": (aim) => killedOn(aim, () => fullDisk(aim)),
  "kill-on-slow-disk": (aim) => killedOn(aim, slowDisk),
  "block-audit-file": (aim) => blockedFile(aim),
} satisfies Readonly<Record<string, Inject>>;

function fullDisk({ cluster, target, note }: Aim): Acts {
  return {
    async begin() {
      if (cluster.disks.mounted) await cluster.disks.fill(target);
      else note(`the disk of ${target} did not fill up: this machine lets no process mount one`);
    },
    heal: () => cluster.disks.free(target),
  };
}

function slowDisk(process: ClusterProcess): Acts {
  return { begin: async () => process.slowDisk(lateMs), heal: async () => process.slowDisk(0) };
}

/** What it decided meanwhile is in memory alone when it is killed. */
function killedOn(aim: Aim, make: (process: ClusterProcess) => Acts): Injection {
  const { target, note } = aim;
  const acts = (process: ClusterProcess): Acts => {
    const disk = make(process);
    return {
      async begin() {
        await untilPending(process, emptyWithinMs, (count) => count < pending.least);
        await disk.begin();
        const count = await untilPending(process, pendingWithinMs, (count) => count >= pending.least);
        if (!(count <= pending.most)) return note(`${target} is not killed: ${count} records wait in memory`);
        await process.kill();
        note(`${target} was killed while ${count} records or more waited in memory`);
      },
      async heal() {
        await disk.heal();
        if (!process.running) await process.start();
      },
    };
  };
  return { ...ofDisk(aim, acts), holds: [target] };
}

/** @returns the count that was seen last; NaN: the process did not answer */
async function untilPending(
  process: ClusterProcess,
  withinMs: number,
  isEnough: (count: number) => boolean,
): Promise<number> {
  let count = Number.NaN;
  for (const giveUpAt = performance.now() + withinMs; performance.now() < giveUpAt; await delay(pendingPollMs)) {
    const page = await process.metrics().catch(() => null);
    count = page === null ? Number.NaN : sumIn(page, "cardea_audit_pending_records");
    if (isEnough(count)) break;
  }
  return count;
}

/** The file is moved away, as by an operator who rotates it, and a folder takes its name. */
function blockedFile({ cluster, target, id }: Aim): Injection {
  const process = processNamed(cluster, target);
  const { auditFile } = process;
  return {
    target: `the audit file of ${target}`,
    regions: [process.region],
    isolates: [],
    holds: [],
    async begin() {
      for (let attempt = 1; ; attempt++) {
        await rename(auditFile, `${auditFile}.${id}-${attempt}`).catch(ignoreMissing);
        try {
          await mkdir(auditFile);
          return;
        } catch (error) {
          // Between the two steps the process may have created the file again.
          if (attempt === blockAttempts || !hasCode(error, "EEXIST")) throw error;
        }
      }
    },
    heal: () => rmdir(auditFile),
  };
}

function ignoreMissing(error: unknown): void {
  if (!hasCode(error, "ENOENT")) throw error;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
