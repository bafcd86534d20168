/**
 * Upstream choice: picks the upstream of a route for the next request, and learns from the outcome of each.
 *
 * A route with one upstream, no health checks and no outlier detection has nothing to choose, and that costs nothing.
 */

import { type BreakerConfig, type RouteConfig, speaksHttp2 } from "../../config/index.ts";
import type { UpstreamAddress } from "../http1/upstream-pool.ts";
import type { UpstreamPool } from "../message/upstream-call.ts";
import { balancingKeyOf, routingKeyOf } from "./balancer.ts";
import { Cluster } from "./cluster.ts";
import { startHealthChecks } from "./health-client.ts";
import type { UpstreamOutcome } from "./outliers.ts";
import type { UpstreamMetrics } from "./pool-metrics.ts";

export type UpstreamTarget = Readonly<{
  url: URL;
  /** Host and port for the Host header. */
  host: string;
  pool: UpstreamPool;
  /** For gRPC over TLS, which is HTTP/2 or nothing. */
  grpcPool: UpstreamPool;
  /** For connections outside of the pools: upgrades. */
  connect: UpstreamAddress;
  limits: BreakerConfig;
  /** Upgrades and tunnels in progress. */
  upgrades: { busy: number };
  /** Retries in progress. */
  retries: { busy: number };
  /** Everything in progress. */
  busy: () => number;
  /** Receives the outcome of each request; null: not needed. */
  report: ((outcome: UpstreamOutcome) => void) | null;
}>;

/** The caller, for policies that keep one caller at one upstream. */
export type BalancingCaller = Readonly<{ sessionId: string | null; ip: string }>;
/**
 * @param failed the upstream that could not be reached: returns another
 * @returns undefined: none is healthy, or there is no other
 */
export type NextUpstream = (asking: BalancingCaller, failed?: UpstreamTarget) => UpstreamTarget | undefined;

export type ChooserDeps = Readonly<{ now: () => number; random: () => number; metrics: UpstreamMetrics }>;
export type UpstreamChooser = Readonly<{ next: NextUpstream; stop: () => void }>;

export function createUpstreamChooser(
  route: RouteConfig,
  bare: readonly UpstreamTarget[],
  world: ChooserDeps,
): UpstreamChooser {
  const [only] = bare;
  if (only === undefined) throw new TypeError(`route ${route.id} has no upstream`);
  const { healthChecks, outlierDetection } = route;
  if (bare.length === 1 && healthChecks.length === 0 && outlierDetection === null)
    return { next: (_asking, failed) => (failed === undefined ? only : undefined), stop: () => {} };

  const { now, random, metrics } = world;
  const labels = bare.map(({ url }) => ({ route: route.id, upstream: url.href.replace(/\/$/, "") }));
  const labelsOf = (member: number) => labels[member] ?? { route: route.id, upstream: "" };
  const members = bare.map(({ url, busy }, i) => ({ name: url.href, weight: route.to[i]?.weight ?? 1, busy }));
  const cluster = new Cluster(route, members, {
    now,
    random,
    events: {
      onHealth: (member, healthy) => metrics.setHealth(labelsOf(member), healthy),
      onEjection: (member, cause) => metrics.setEjection(labelsOf(member), cause),
    },
  });
  const targets: readonly UpstreamTarget[] = bare.map((target, i) =>
    outlierDetection === null ? target : { ...target, report: (outcome) => cluster.report(i, outcome) },
  );
  for (const one of labels) metrics.addUpstream(one);
  const checked = bare.map(({ connect, host, url }) => ({ address: connect, host, http2: speaksHttp2(url) }));
  const checks = startHealthChecks(healthChecks, checked, {
    random,
    hasTraffic: () => cluster.hasTraffic,
    onChecked(member, result, healthy) {
      metrics.recordCheck(labelsOf(member), result);
      cluster.setHealthy(member, healthy);
    },
  });
  const hashes = route.balancing.policy === "ring_hash" || route.balancing.policy === "maglev";
  return {
    next({ sessionId, ip }, failed) {
      const first = !cluster.hasTraffic;
      const key = hashes ? balancingKeyOf(sessionId === null ? ip : routingKeyOf(sessionId)) : 0;
      const member = cluster.pick(key, failed === undefined ? undefined : targets.indexOf(failed));
      if (first) checks.onTraffic();
      return member === undefined ? undefined : targets[member];
    },
    stop() {
      checks.stop();
      for (const one of labels) metrics.removeUpstream(one);
    },
  };
}
