/** Balancing settings of a route: load balancing, outlier detection, circuit breakers and protocol. Pure. */
import type { RouteConfig } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { BreakerConfig, OutlierConfig } from "../values/upstream-settings.ts";
import type { RouteContext } from "./route-context.ts";

type Balancing = Pick<RouteConfig, "balancing" | "outlierDetection" | "circuitBreakers" | "upstreamCodecType">;

/** Default limit of concurrent upgrades and tunnels per upstream. */
const streamsMax = 65_536;

export function resolveBalancing({ route, report, present, globals }: RouteContext): Balancing {
  const { ring_hash_lb_config: ring, least_request_lb_config: least, maglev_lb_config: maglev } = route;
  const policy = route.load_balancing_policy;
  for (const [key, of] of [
    ["least_request_lb_config", "least_request"],
    ["ring_hash_lb_config", "ring_hash"],
    ["maglev_lb_config", "maglev"],
  ] as const) {
    if (present.has(key) && policy !== of)
      report.warn([key], `has no effect with load_balancing_policy: ${policy}`, "remove it", "key");
  }
  if (ring.minimum_ring_size > ring.maximum_ring_size)
    report.error(["ring_hash_lb_config", "minimum_ring_size"], "is larger than maximum_ring_size", "make it smaller");
  if (present.has("healthy_panic_threshold") && route.health_checks.length === 0 && !present.has("outlier_detection"))
    report.warn(
      ["healthy_panic_threshold"],
      "has no effect without health_checks or outlier_detection",
      "write one of them, or remove it",
      "key",
    );
  if (route.upstream_codec_type !== undefined && route.to?.every(({ url }) => !url.protocol.startsWith("https")))
    report.warn(["upstream_codec_type"], "has no effect without an https upstream", "remove it", "key");
  return {
    balancing: {
      policy,
      choiceCount: least.choice_count,
      activeRequestBias: least.active_request_bias,
      ringSizeMin: ring.minimum_ring_size,
      ringSizeMax: ring.maximum_ring_size,
      tableSize: maglev.table_size,
      panicThreshold: route.healthy_panic_threshold,
    },
    outlierDetection: present.has("outlier_detection") ? resolveOutliers(route.outlier_detection) : null,
    circuitBreakers: resolveBreakers(route.circuit_breaker_thresholds, globals),
    upstreamCodecType: route.upstream_codec_type ?? globals.upstream_codec_type,
  };
}

function resolveBreakers(
  own: Globals["circuit_breaker_thresholds"],
  { circuit_breaker_thresholds: global }: Globals,
): BreakerConfig {
  const requests = own.max_requests ?? global.max_requests;
  return {
    connections: own.max_connections ?? global.max_connections ?? 1_024,
    pending: own.max_pending_requests ?? global.max_pending_requests ?? 1_024,
    requests: requests ?? 1_024,
    retries: own.max_retries ?? global.max_retries ?? 3,
    streams: requests ?? streamsMax,
  };
}

function resolveOutliers(written: Parameters<typeof resolveBalancing>[0]["route"]["outlier_detection"]): OutlierConfig {
  return {
    intervalMs: written.interval,
    baseEjectionMs: written.base_ejection_time,
    maxEjectionMs: written.max_ejection_time,
    maxEjectionJitterMs: written.max_ejection_time_jitter,
    // The ejected share is compared before each ejection, so the smallest share above 0 allows exactly one ejection.
    maxEjectionPercent: Math.max(written.max_ejection_percent, written.always_eject_one_host ? 0.001 : 0),
    consecutive5xx: written.consecutive_5xx,
    enforcingConsecutive5xx: written.enforcing_consecutive_5xx,
    consecutiveGatewayFailure: written.consecutive_gateway_failure,
    enforcingConsecutiveGatewayFailure: written.enforcing_consecutive_gateway_failure,
    splitLocalErrors: written.split_external_local_origin_errors,
    consecutiveLocalFailure: written.consecutive_local_origin_failure,
    enforcingConsecutiveLocalFailure: written.enforcing_consecutive_local_origin_failure,
    successRateMinimumHosts: written.success_rate_minimum_hosts,
    successRateRequestVolume: written.success_rate_request_volume,
    successRateStdevFactor: written.success_rate_stdev_factor,
    enforcingSuccessRate: written.enforcing_success_rate,
    enforcingLocalSuccessRate: written.enforcing_local_origin_success_rate,
    failurePercentageThreshold: written.failure_percentage_threshold,
    failurePercentageMinimumHosts: written.failure_percentage_minimum_hosts,
    failurePercentageRequestVolume: written.failure_percentage_request_volume,
    enforcingFailurePercentage: written.enforcing_failure_percentage,
    enforcingFailurePercentageLocal: written.enforcing_failure_percentage_local_origin,
    healthCheckEndsEjection: written.successful_active_health_check_uneject_host,
  };
}
