/** Node watch: records each process's position and the age of its lease once a second, by its own metrics. */
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import type { RunClock } from "../judge/run-clock.ts";
import { lease } from "../world.ts";
import { metricIn } from "./metric.ts";

export type NodeWatch = Readonly<{ stop(): void }>;

const everyMs = 1_000;

export type NodeSample = Readonly<{ position: number | null; leaseAgeMs: number | null }>;

/** @param page the metrics of a process; a broker that reads the log itself holds no lease, so its age is null */
export function sampleIn(page: string): NodeSample {
  const replica = metricIn(page, "cardea_replica_applied");
  if (replica === undefined) return { position: metricIn(page, "cardea_broker_applied") ?? null, leaseAgeMs: null };
  const overdueS = metricIn(page, "cardea_lease_overdue_seconds");
  const isKnown = overdueS !== undefined && Number.isFinite(overdueS);
  return { position: replica, leaseAgeMs: isKnown ? Math.max(0, overdueS * 1_000 + lease.leaseMs) : null };
}

export function watchNodes(
  { processes }: Pick<Cluster, "processes">,
  { now, history }: Readonly<{ now: RunClock; history: HistoryFile }>,
): NodeWatch {
  const over = new AbortController();
  async function sample(process: ClusterProcess): Promise<void> {
    const at = now();
    const text = await process.metrics().catch(() => "");
    if (over.signal.aborted) return;
    history.write({ type: "sample", at, node: process.name, ...sampleIn(text) });
  }
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await Promise.all(processes.map(sample));
      await delay(everyMs, undefined, { signal: over.signal }).catch(() => {});
    }
  };
  void watch();
  return { stop: () => over.abort() };
}
