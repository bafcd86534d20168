/**
 * Cluster watcher: once a second it reads the status and each proxy's metrics, records them, and asks the guard.
 *
 * A reading that fails, or takes longer than three seconds, is recorded as unknown and counts in the guard; it never
 * ends the watch.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { ClusterStatus } from "../../replication/index.ts";
import type { DrillFile, DrillProxy } from "./drill-file.ts";
import { type Guard, type GuardInput, type GuardRules, newGuard, peopleWithin, shareOf, stepGuard } from "./guard.ts";
import type { Observations } from "./observations.ts";
import type { DrillOperator } from "./operator-changes.ts";
import { countsBetween, noRequests, peopleCounts, type RequestCounts } from "./people-metrics.ts";
import { presentNodes, readingMsMax, silentNodes } from "./preflight.ts";

const everyMs = 1_000;

export type WatchOptions = Readonly<{
  file: DrillFile;
  operator: DrillOperator;
  observations: Observations;
  rules: GuardRules;
  readMetrics: (proxy: DrillProxy) => Promise<string>;
  regionOf: (node: string) => string;
  now: () => number;
  /** Called once, with the reason to stop. */
  onStop: (reason: string) => void;
  signal: AbortSignal;
}>;

/** Runs until the signal aborts. Never rejects. */
export async function watchCluster(options: WatchOptions): Promise<void> {
  const { file, operator, observations, rules, now, signal } = options;
  const counts = new Map<string, RequestCounts>();
  let guard: Guard = newGuard;
  let stopped = false;
  while (!signal.aborted) {
    const atMs = now();
    const [status, metrics] = await Promise.all([
      operator.status(readingMsMax).catch(() => null), // unknown: the guard counts it
      Promise.all(file.proxies.map((proxy) => readPeople(proxy, counts, options))),
    ]);
    if (status !== null) recordStatus(status, atMs, observations);
    const read = metrics.filter((one) => typeof one !== "string");
    const input: GuardInput = {
      atMs,
      status: status === null ? null : guardStatus(status),
      people: {
        requests: read.reduce((sum, one) => sum + one.permitted + one.refused + one.unavailable, 0),
        errors: read.reduce((sum, one) => sum + one.unavailable, 0),
      },
      unreadable: metrics.filter((one) => typeof one === "string"),
    };
    const [next, reason] = stepGuard(guard, input, rules);
    guard = next;
    const people = peopleWithin(guard);
    if (shareOf(people) > shareOf(observations.peopleWorst)) observations.peopleWorst = people;
    if (reason !== null && !stopped) {
      stopped = true;
      options.onStop(reason);
    }
    // The abort ends the pause; the loop's condition ends the watch.
    await delay(Math.max(50, everyMs - (now() - atMs)), undefined, { signal }).catch(() => undefined);
  }
}

/** @returns the proxy's name if its metrics cannot be read */
async function readPeople(
  proxy: DrillProxy,
  counts: Map<string, RequestCounts>,
  { file, observations, readMetrics, regionOf, now }: WatchOptions,
): Promise<RequestCounts | string> {
  try {
    const after = peopleCounts(await readMetrics(proxy), file.canary.route);
    const before = counts.get(proxy.node);
    counts.set(proxy.node, after);
    const since = before === undefined ? noRequests : countsBetween(before, after);
    const { permitted, refused, unavailable } = since;
    observations.addPeople(regionOf(proxy.node), now(), { permitted, refused, unavailable, failed: 0 });
    return since;
  } catch {
    return proxy.node; // the guard counts it
  }
}

function guardStatus(status: ClusterStatus): NonNullable<GuardInput["status"]> {
  const { leader, absent = [] } = status;
  const nodes = presentNodes(status);
  return {
    leads: leader !== null,
    differing: nodes.filter(({ digestMismatch }) => digestMismatch).map(({ node }) => node),
    silent: [...new Set([...silentNodes(nodes), ...absent.map(({ node }) => node)])],
  };
}

function recordStatus({ leader, nodes }: ClusterStatus, atMs: number, observations: Observations): void {
  if (leader !== null) observations.head.push({ atMs, position: leader.head.position });
  for (const { node, region, role, applied, lag, lastGrantAgoMs } of nodes)
    observations.addSample(
      { node, region, role },
      { atMs, position: applied?.position ?? null, lag, stalenessMs: lastGrantAgoMs },
    );
}

/** Why the cluster has not recovered; null: every node has a lease and has caught up, and a broker leads. */
export function whyNotRecovered(
  status: Pick<ClusterStatus, "leader" | "brokers" | "nodes" | "absent">,
  wanted: Readonly<{ nodes: number; brokers: number }>,
): string | null {
  const { leader, brokers } = status;
  const nodes = presentNodes(status);
  if (leader === null) return "no broker leads";
  if (1 + brokers.length < wanted.brokers) return `${1 + brokers.length} of ${wanted.brokers} brokers are present`;
  if (nodes.length < wanted.nodes) return `${nodes.length} of ${wanted.nodes} nodes are present`;
  const silent = nodes.find(({ lastGrantAgoMs }) => lastGrantAgoMs === null || lastGrantAgoMs > 3_000);
  if (silent !== undefined) return `${silent.node} has no lease`;
  const behind = nodes.find(({ lag }) => lag === null || lag > 100);
  return behind === undefined ? null : `${behind.node} is behind`;
}
