/**
 * Value type of health checks: Envoy's settings as Pomerium accepts them, read into a request and its expected
 * response.
 *
 * Pure. A check has exactly one kind of probe, a timeout, an interval and both thresholds. Envoy has no defaults for
 * them.
 */
import type { HealthCheckConfig, Probe, StatusRange } from "./upstream-settings.ts";
import { healthCheckShape, sectionList } from "./upstream-values.ts";
import { isRefused, type Refuse, type RefusedValue, type ValueType } from "./value-type.ts";

type Written = Readonly<Record<string, unknown>>;

export const healthChecks = (): ValueType<readonly HealthCheckConfig[]> =>
  sectionList("list of health checks", healthCheckShape, resolveHealthCheck);

const probeKeys = ["http_health_check", "tcp_health_check", "grpc_health_check"] as const;

function resolveHealthCheck(written: Written, refuse: Refuse): HealthCheckConfig | RefusedValue {
  const missing = (["timeout", "interval", "unhealthy_threshold", "healthy_threshold"] as const).find(
    (key) => written[key] === undefined,
  );
  if (missing !== undefined) return refuse(`${missing} is missing`, `write ${missing}`);
  const given = probeKeys.filter((way) => written[way] !== undefined);
  const [way] = given;
  if (way === undefined || given.length > 1)
    return refuse(
      `${given.length === 0 ? "none" : "more than one"} of ${probeKeys.join(", ")} is given`,
      "write exactly one",
    );
  const probe = probes[way](written[way] as Written, refuse);
  if (isRefused(probe)) return probe;
  const number = (key: string): number => written[key] as number; // by the shape, which gives numbers for these
  const orNull = (key: string): number | null => (written[key] as number | undefined) ?? null;
  return {
    timeoutMs: number("timeout"),
    intervalMs: number("interval"),
    initialJitterMs: number("initial_jitter"),
    intervalJitterMs: number("interval_jitter"),
    intervalJitterPercent: number("interval_jitter_percent"),
    noTrafficIntervalMs: number("no_traffic_interval"),
    noTrafficHealthyIntervalMs: orNull("no_traffic_healthy_interval"),
    unhealthyIntervalMs: orNull("unhealthy_interval"),
    unhealthyEdgeIntervalMs: orNull("unhealthy_edge_interval"),
    healthyEdgeIntervalMs: orNull("healthy_edge_interval"),
    unhealthyThreshold: number("unhealthy_threshold"),
    healthyThreshold: number("healthy_threshold"),
    reuseConnection: written["reuse_connection"] === true,
    probe,
  };
}

const hostPattern = /^[A-Za-z0-9._-]+(?::\d{1,5})?$/;

const probes: Readonly<Record<(typeof probeKeys)[number], (written: Written, refuse: Refuse) => Probe | RefusedValue>> =
  {
    http_health_check(written, refuse) {
      const host = written["host"] as string | undefined;
      if (host !== undefined && host !== "" && !hostPattern.test(host))
        return refuse("the host is not a host name", "write one such as app.internal", ["http_health_check", "host"]);
      if (written["path"] === undefined)
        return refuse("path is missing", "write one such as /healthz", ["http_health_check"]);
      return {
        type: "http",
        host: host === undefined || host === "" ? null : host,
        path: written["path"] as string,
        method: written["method"] as string,
        http2: written["codec_client_type"] === "HTTP2",
        expected: written["expected_statuses"] as readonly StatusRange[],
        retriable: written["retriable_statuses"] as readonly StatusRange[],
        receive: written["receive"] as readonly string[],
        bodyBytesMax: written["response_buffer_size"] as number,
        addHeaders: written["request_headers_to_add"] as readonly (readonly [string, string])[],
        removeHeaders: written["request_headers_to_remove"] as readonly string[],
      };
    },
    tcp_health_check: (written) => ({
      type: "tcp",
      send: (written["send"] as string | undefined) ?? null,
      receive: written["receive"] as readonly string[],
    }),
    grpc_health_check(written, refuse) {
      const authority = written["authority"] as string | undefined;
      if (authority !== undefined && !hostPattern.test(authority))
        return refuse("the authority is not a host name", "write a host", ["grpc_health_check", "authority"]);
      return { type: "grpc", service: written["service_name"] as string, authority: authority ?? null };
    },
  };
