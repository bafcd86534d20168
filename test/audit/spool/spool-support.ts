/** Support for the tests of the spool: a recorder over a model disk, and what its sinks got. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import {
  type AuditRecord,
  type AuditSink,
  createRecorder,
  type Recorder,
  type SpoolDisk,
} from "../../../src/audit/index.ts";
import type { Damage } from "../../../src/audit/spool/index.ts";
import type { BootId } from "../../../src/events/index.ts";
import { node } from "../support.ts";

export type SpoolRig = Recorder & Readonly<{ failures: string[]; damages: Damage[]; boot: BootId; kill(): void }>;

/** `kill`: the recorder waits forever from its next pause on, as if its process were gone. */
export async function startSpool(
  disk: SpoolDisk,
  sinks: readonly AuditSink[],
  options: Readonly<{
    boot?: string;
    bytesMax?: number;
    segmentsMax?: number;
    recentPagesMax?: number;
    nowMs?: () => number;
    ringBytesMax?: number;
    strictMs?: number;
    gatherMs?: number;
    syncMs?: number;
    tap?: Parameters<typeof createRecorder>[0]["tap"];
    sleepMsMax?: number;
    onSleep?: (ms: number) => void;
    seal?: NonNullable<NonNullable<Parameters<typeof createRecorder>[0]["spool"]>["seal"]>;
  }> = {},
): Promise<SpoolRig> {
  const failures: string[] = [];
  const damages: Damage[] = [];
  let isKilled = false;
  const boot = (options.boot ?? "boot-1") as BootId;
  const sealing = options.seal === undefined ? {} : { seal: options.seal };
  const recorder = await createRecorder({
    ...{ node, boot, gatherMs: options.gatherMs ?? 1, syncMs: options.syncMs ?? 1 },
    spool: {
      ...{ disk, bytesMax: options.bytesMax ?? 1_000_000_000, sinks },
      ...(options.segmentsMax === undefined ? {} : { segmentsMax: options.segmentsMax }),
      ...(options.recentPagesMax === undefined ? {} : { recentPagesMax: options.recentPagesMax }),
      ...sealing,
    },
    ...(options.ringBytesMax === undefined ? {} : { ringBytesMax: options.ringBytesMax }),
    ...(options.strictMs === undefined ? {} : { strictMs: options.strictMs }),
    ...(options.tap === undefined ? {} : { tap: options.tap }),
    nowMs: options.nowMs ?? (() => Date.now()),
    monotonicMs: () => performance.now(),
    sleep(ms, signal) {
      options.onSleep?.(ms);
      if (isKilled) return new Promise(() => {});
      return delay(Math.min(ms, options.sleepMsMax ?? 20), undefined, signal === undefined ? {} : { signal });
    },
    onFailure: (what, error) => failures.push(`${what}: ${error instanceof Error ? error.message : error}`),
    onDamage: (damage) => damages.push(damage),
  });
  const kill = (): void => {
    isKilled = true;
  };
  return { ...recorder, failures, damages, boot, kill };
}

export type Account = Readonly<{
  /** Numbers with a record. */
  recorded: ReadonlySet<number>;
  /** Numbers that a gap covers, and the least number of decisions that it says were lost. */
  declared: ReadonlySet<number>;
  surelyLost: number;
}>;

/** Checks that repetitions are equal, and that numbers of a boot never go back but in a repetition. */
export function accountOf(records: readonly AuditRecord[], boot: string): Account {
  const byId = new Map<string, string>();
  const recorded = new Set<number>();
  const declared = new Set<number>();
  const gaps = new Set<string>();
  let surelyLost = 0;
  for (const record of records) {
    if (record.boot !== boot) continue;
    if (record.kind === "gap") {
      if (gaps.has(JSON.stringify(record))) continue; // after a crash a sink may get it again
      gaps.add(JSON.stringify(record));
      for (let number = record.first; number <= record.last; number++) declared.add(number);
      surelyLost += record.atLeast ?? record.last - record.first + 1;
      continue;
    }
    const text = JSON.stringify(record);
    assert.equal(byId.get(`${record.seq}`) ?? text, text, "a repetition is equal");
    byId.set(`${record.seq}`, text);
    recorded.add(record.seq);
  }
  return { recorded, declared, surelyLost };
}
