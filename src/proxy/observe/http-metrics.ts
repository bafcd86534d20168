/**
 * HTTP metrics: the metrics of the data path, except the counts of each route (route-meters.ts). Labels are words of
 * fixed lists.
 */
import { Counter, Gauge, type Registry } from "prom-client";
import type { Logger } from "../../replication/index.ts";
import type { CutReason, KindCounts } from "../enforce/exchanges.ts";
import type { FailureReason } from "../reply/failures.ts";
import type { UpstreamMetrics } from "../upstream/pool-metrics.ts";
import { type RouteMeter, RouteMeters } from "./route-meters.ts";

/** Summary of a request after its last byte has left. */
export type RequestEnd = Readonly<{
  meter: RouteMeter;
  /** The final status that was sent; 0: none. */
  status: number;
  /** Null: the caller got the complete response. */
  failure: FailureReason | null;
  /** Null for upgraded connections and tunnels, for which it has no meaning. */
  durationMs: number | null;
  /** Null: no upstream has responded. */
  upstreamMs: number | null;
  /** Bytes sent to the caller, and bytes received from it. */
  bytes: number;
  bytesReceived: number;
}>;

export type HttpMetrics = Readonly<{
  meters: RouteMeters;
  requestEnded(request: RequestEnd): void;
  cut(reason: CutReason): void;
  /**
   * Re-deciding an open exchange failed. Logged once a second at most, because one cause usually affects many
   * exchanges.
   */
  redecisionFailed(error: unknown, requestId: string): void;
  refused(reason: string): void;
  retried(): void;
  resent(): void;
  overflow: UpstreamMetrics["countOverflow"];
  upstreamFailed(routeId: string, code: string): void;
  /** Counts a dropped datagram. UDP does not guarantee delivery. */
  datagramDropped(reason: DropReason): void;
  /** An access log line was dropped because the buffer was full. */
  lineDropped(): void;
}>;

/**
 * slow-caller, slow-upstream: the receiver does not keep up · too-large: exceeds the size of a datagram · context: the
 * context id belongs to an unknown extension
 */
export type DropReason = "slow-caller" | "slow-upstream" | "too-large" | "context";

export function createHttpMetrics(options: {
  registry: Registry;
  logger: Logger;
  upstreams: UpstreamMetrics;
  openExchanges: () => KindCounts;
  /** Number of responses that are complete in this process but unacknowledged by their callers' kernels. */
  undelivered: () => number;
  /** Upper bound for the unsent bytes of one connection in the kernel; Infinity: unbounded. */
  heldBytesMax: number;
  /** Time since the lease expired; ≤ 0 while fresh. Not finite if nothing may be permitted. */
  overdueMs: () => number;
  /** Monotonic time in ms. */
  now: () => number;
}): HttpMetrics {
  const { registry, logger } = options;
  const registers = [registry];
  const meters = new RouteMeters();
  new Gauge({
    name: "cardea_proxy_exchanges",
    help: "Open permitted exchanges.",
    labelNames: ["kind"],
    registers,
    collect() {
      for (const [kind, count] of Object.entries(options.openExchanges())) this.set({ kind }, count);
    },
  });
  new Gauge({
    name: "cardea_proxy_undelivered_responses",
    help: "Responses that are complete in this process but not yet acknowledged by the callers' kernels. A cut still reaches them.",
    registers,
    collect() {
      this.set(options.undelivered());
    },
  });
  new Gauge({
    name: "cardea_proxy_lease_overdue_seconds",
    help: "Time since the lease expired; negative while it is fresh, +Inf when nothing may be permitted.",
    registers,
    collect() {
      this.set(options.overdueMs() / 1_000);
    },
  });
  new Gauge({
    name: "cardea_proxy_kernel_unsent_bytes_max",
    help: "Most bytes that the kernel may hold unsent for one connection; +Inf when this node cannot bound them.",
    registers,
  }).set(options.heldBytesMax);
  const cuts = new Counter({
    name: "cardea_proxy_cuts_total",
    help: "Open exchanges cut, by reason.",
    labelNames: ["reason"],
    registers,
  });
  const redecisionFailures = new Counter({
    name: "cardea_proxy_redecision_failures_total",
    help: "Open exchanges whose re-decision failed and which were cut.",
    registers,
  });
  let failureLoggedAt = Number.NEGATIVE_INFINITY;
  const refused = new Counter({
    name: "cardea_proxy_refused_requests_total",
    help: "Requests refused before authorization, by reason.",
    labelNames: ["reason"],
    registers,
  });
  const retries = new Counter({
    name: "cardea_proxy_upstream_retries_total",
    help: "Requests retried because no connection could be made or the upstream refused them unprocessed.",
    registers,
  });
  const resends = new Counter({
    name: "cardea_proxy_upstream_resends_total",
    help: "Requests resent on a fresh connection because the upstream had closed a kept-alive one before it responded.",
    registers,
  });
  const dropped = new Counter({
    name: "cardea_proxy_datagrams_dropped_total",
    help: "UDP tunnel datagrams dropped, by reason.",
    labelNames: ["reason"],
    registers,
  });
  const lines = new Counter({
    name: "cardea_proxy_access_log_dropped_total",
    help: "Access log lines dropped because standard output was full or failing.",
    registers,
  });

  return {
    meters,
    requestEnded({ meter, status, failure, durationMs, upstreamMs, bytes, bytesReceived }) {
      meter.answered(status);
      if (failure !== null) meter.failed(failure);
      if (durationMs !== null) meter.observeDuration(durationMs);
      if (upstreamMs !== null) meter.observeUpstreamDuration(upstreamMs);
      meter.addBytes(bytes, bytesReceived);
      meter.leave();
    },
    cut: (reason) => cuts.inc({ reason }),
    redecisionFailed(error, requestId) {
      redecisionFailures.inc();
      const now = options.now();
      if (now - failureLoggedAt < 1_000) return;
      failureLoggedAt = now;
      logger.error(
        { requestId, error: error instanceof Error ? error.stack : String(error) },
        "could not re-decide an open exchange; cut it",
      );
    },
    refused: (reason) => refused.inc({ reason }),
    retried: () => retries.inc(),
    resent: () => resends.inc(),
    overflow: options.upstreams.countOverflow,
    datagramDropped: (reason) => dropped.inc({ reason }),
    lineDropped: () => lines.inc(),
    upstreamFailed: (routeId, code) => logger.warn({ routeId, code }, "upstream failed"),
  };
}
