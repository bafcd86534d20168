/** How a route spreads its requests over its upstreams, and how it learns which of them to leave alone. Only types. */

export type BalancingConfig = Readonly<{
  policy: "round_robin" | "least_request" | "random" | "ring_hash" | "maglev";
  /** Of `least_request`: how many are compared, and how much requests under way count where weights differ. */
  choiceCount: number;
  activeRequestBias: number;
  /** Points on the ring of `ring_hash`. */
  ringSizeMin: number;
  ringSizeMax: number;
  /** Of `maglev`; a prime. */
  tableSize: number;
  /** Per cent: when fewer upstreams than this are healthy, all are used as if they were. 0: never. */
  panicThreshold: number;
}>;

/** `from` inclusive, `to` exclusive. */
export type StatusRange = Readonly<{ from: number; to: number }>;

export type Probe =
  | Readonly<{
      type: "http";
      /** Null: that of the upstream. */
      host: string | null;
      path: string;
      method: string;
      http2: boolean;
      expected: readonly StatusRange[];
      /** Failures that count towards the threshold; other statuses make an upstream unhealthy at once. */
      retriable: readonly StatusRange[];
      /** What the body must hold, in this order, within `bodyBytesMax`; hexadecimal. */
      receive: readonly string[];
      bodyBytesMax: number;
      addHeaders: readonly (readonly [name: string, value: string])[];
      removeHeaders: readonly string[];
    }>
  /** Bytes in hexadecimal. Nothing to receive: that it connects is enough. */
  | Readonly<{ type: "tcp"; send: string | null; receive: readonly string[] }>
  | Readonly<{ type: "grpc"; service: string; authority: string | null }>;

/** Milliseconds; null: `intervalMs`. */
export type HealthCheckConfig = Readonly<{
  timeoutMs: number;
  intervalMs: number;
  initialJitterMs: number;
  intervalJitterMs: number;
  intervalJitterPercent: number;
  /** While no request has ever been sent to the route's upstreams. */
  noTrafficIntervalMs: number;
  noTrafficHealthyIntervalMs: number | null;
  unhealthyIntervalMs: number | null;
  /** After the check that made it unhealthy, or healthy. */
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
  /** Failures that no upstream answered are counted by themselves. */
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
  /** An active health check that passes ends an ejection. */
  healthCheckEndsEjection: boolean;
}>;

/** For each upstream. */
export type BreakerConfig = Readonly<{
  connections: number;
  pending: number;
  requests: number;
  retries: number;
  /** Upgrades and tunnels, which last: as many as `requests` where that is written. */
  streams: number;
}>;
