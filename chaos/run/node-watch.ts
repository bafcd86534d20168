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

export function watchNodes(
  { processes }: Pick<Cluster, "processes">,
  { now, history }: Readonly<{ now: RunClock; history: HistoryFile }>,
): NodeWatch {
  const over = new AbortController();
  async function sample(process: ClusterProcess): Promise<void> {
    const at = now();
    const text = await process.metrics().catch(() => "");
    if (over.signal.aborted) return;
    const position = metricIn(text, "cardea_replica_applied") ?? metricIn(text, "cardea_broker_applied") ?? null;
    const overdueS = metricIn(text, "cardea_lease_overdue_seconds");
    const leaseAgeMs =
      overdueS === undefined || !Number.isFinite(overdueS) ? null : Math.max(0, overdueS * 1_000 + lease.leaseMs);
    history.write({ type: "sample", at, node: process.name, position, leaseAgeMs });
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
