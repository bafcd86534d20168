/**
 * Metrics of upstreams: health, ejections, and circuit breaker overflows. Labels are routes and the upstreams of the
 * configuration.
 */
import { Counter, Gauge, type Registry } from "prom-client";
import type { Logger } from "../../replication/index.ts";
import type { CheckResult } from "./health.ts";
import type { EjectionCause } from "./outliers.ts";

export type UpstreamLabels = Readonly<{ route: string; upstream: string }>;
/** A bound of a route's `circuit_breaker_thresholds`, by the end of the key's name. */
export type BreakerBound = "pending_requests" | "requests" | "retries";

export type UpstreamMetrics = Readonly<{
  /** Adds the upstream, as healthy and not ejected. */
  addUpstream(labels: UpstreamLabels): void;
  removeUpstream(labels: UpstreamLabels): void;
  recordCheck(labels: UpstreamLabels, result: CheckResult): void;
  setHealth(labels: UpstreamLabels, healthy: boolean): void;
  /** @param cause null: it has ended */
  setEjection(labels: UpstreamLabels, cause: EjectionCause | null): void;
  countOverflow(route: string, bound: BreakerBound): void;
}>;

export function createUpstreamMetrics(options: Readonly<{ registry: Registry; logger: Logger }>): UpstreamMetrics {
  const { registry, logger } = options;
  const registers = [registry];
  const labelNames = ["route", "upstream"] as const;
  const healthy = new Gauge({
    name: "cardea_proxy_upstream_healthy",
    help: "1 while the health checks of a route consider an upstream healthy, otherwise 0.",
    labelNames,
    registers,
  });
  const ejected = new Gauge({
    name: "cardea_proxy_upstream_ejected",
    help: "1 while an upstream is ejected by outlier detection.",
    labelNames,
    registers,
  });
  const checks = new Counter({
    name: "cardea_proxy_upstream_health_checks_total",
    help: "Health checks, by result.",
    labelNames: [...labelNames, "result"],
    registers,
  });
  const ejections = new Counter({
    name: "cardea_proxy_upstream_ejections_total",
    help: "Ejections by outlier detection, by cause.",
    labelNames: [...labelNames, "cause"],
    registers,
  });
  const overflows = new Counter({
    name: "cardea_proxy_upstream_overflows_total",
    help: "Requests answered with 503, or not sent again, because a bound of circuit_breaker_thresholds was reached.",
    labelNames: ["route", "bound"],
    registers,
  });
  return {
    addUpstream(labels) {
      healthy.set(labels, 1);
      ejected.set(labels, 0);
    },
    removeUpstream(labels) {
      healthy.remove(labels);
      ejected.remove(labels);
    },
    recordCheck: (labels, result) => checks.inc({ ...labels, result: result === "pass" ? "pass" : "fail" }),
    setHealth(labels, well) {
      healthy.set(labels, well ? 1 : 0);
      if (well) logger.info(labels, "an upstream is healthy again");
      else logger.warn(labels, "an upstream is unhealthy");
    },
    setEjection(labels, cause) {
      ejected.set(labels, cause === null ? 0 : 1);
      if (cause === null) {
        logger.info(labels, "an ejected upstream is used again");
        return;
      }
      ejections.inc({ ...labels, cause });
      logger.warn({ ...labels, cause }, "outlier detection ejected an upstream");
    },
    countOverflow: (route, bound) => overflows.inc({ route, bound }),
  };
}
