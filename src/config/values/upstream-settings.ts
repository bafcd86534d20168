/**
 * Upstream settings: the types of load balancing, health checks, outlier detection and circuit breakers. Only types.
 */

export type BalancingConfig = Readonly<{
  policy: "round_robin" | "least_request" | "random" | "ring_hash" | "maglev";
  /** For `least_request`: the number of upstreams compared, and the influence of active requests if weights differ. */
  choiceCount: number;
  activeRequestBias: number;
  /** For `ring_hash`: the bounds of the number of points on the ring. */
  ringSizeMin: number;
  ringSizeMax: number;
  /** For `maglev`: the table size, a prime. */
  tableSize: number;
  /** Percentage of healthy upstreams below which all are used as if they were healthy. 0: never. */
  panicThreshold: number;
}>;

/** `from` inclusive, `to` exclusive. */
export type StatusRange = Readonly<{ from: number; to: number }>;

export type Probe =
  | Readonly<{
      type: "http";
      /** Null: the upstream's host. */
      host: string | null;
      path: string;
      method: string;
      http2: boolean;
      expected: readonly StatusRange[];
      /** Failures that count towards the threshold; other statuses make an upstream unhealthy at once. */
      retriable: readonly StatusRange[];
      /** Parts that the body must contain, in this order, within `bodyBytesMax`; hexadecimal. */
      receive: readonly string[];
      bodyBytesMax: number;
      addHeaders: readonly (readonly [name: string, value: string])[];
      removeHeaders: readonly string[];
    }>
  /** Bytes in hexadecimal. Empty `receive`: a connection is enough. */
  | Readonly<{ type: "tcp"; send: string | null; receive: readonly string[] }>
  | Readonly<{ type: "grpc"; service: string; authority: string | null }>;

/** Intervals in milliseconds; null: the same as `intervalMs`. */
export type HealthCheckConfig = Readonly<{
  timeoutMs: number;
  intervalMs: number;
  initialJitterMs: number;
  intervalJitterMs: number;
  intervalJitterPercent: number;
  /** The interval until the first request is sent to the route's upstreams. */
  noTrafficIntervalMs: number;
  noTrafficHealthyIntervalMs: number | null;
  unhealthyIntervalMs: number | null;
  /** The interval after the check that made an upstream unhealthy, or healthy. */
  unhealthyEdgeIntervalMs: number | null;
  healthyEdgeIntervalMs: number | null;
  unhealthyThreshold: number;
  healthyThreshold: number;
  reuseConnection: boolean;
  probe: Probe;
}>;

/** Envoy's names and meanings. Percentages are 0 to 100. */
export type OutlierConfig = Readonly<{
  intervalMs: number;
  baseEjectionMs: number;
  maxEjectionMs: number;
  maxEjectionJitterMs: number;
  maxEjectionPercent: number;
  consecutive5xx: number;
  enforcingConsecutive5xx: number;
  consecutiveGatewayFailure: number;
  enforcingConsecutiveGatewayFailure: number;
  /** Whether failures without a response from an upstream are counted separately. */
  splitLocalErrors: boolean;
  consecutiveLocalFailure: number;
  enforcingConsecutiveLocalFailure: number;
  successRateMinimumHosts: number;
  successRateRequestVolume: number;
  /** Thousandths of a standard deviation. */
  successRateStdevFactor: number;
  enforcingSuccessRate: number;
  enforcingLocalSuccessRate: number;
  failurePercentageThreshold: number;
  failurePercentageMinimumHosts: number;
  failurePercentageRequestVolume: number;
  enforcingFailurePercentage: number;
  enforcingFailurePercentageLocal: number;
  /** Whether a passing active health check ends an ejection. */
  healthCheckEndsEjection: boolean;
}>;

/** Limits per upstream. */
export type BreakerConfig = Readonly<{
  connections: number;
  pending: number;
  requests: number;
  retries: number;
  /** The limit of upgrades and tunnels, which last long. It equals `requests` if that is configured. */
  streams: number;
}>;
