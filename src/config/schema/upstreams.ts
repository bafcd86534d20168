/** Schema of how a route uses several upstreams: balancing, health checks, outlier detection, circuit breakers. */
import * as z from "zod";
import { healthChecks } from "../values/health-check-values.ts";
import { duration } from "../values/network-values.ts";
import { percent } from "../values/upstream-values.ts";
import {
  booleanValue,
  enumValue,
  formatValue,
  integer,
  scalarText,
  type ValueType,
  valueType,
} from "../values/value-type.ts";
import { pomerium } from "./keys.ts";

const count = (max = 4_294_967_295): ValueType<number> => integer({ min: 0, max });
const whole = (): ValueType<number> => integer({ min: 0, max: 100 });

export const upstreamCodecTypes = ["auto", "http1"] as const;

const policies = ["round_robin", "least_request", "random", "ring_hash", "maglev"] as const;
const otherNames = Object.fromEntries(
  policies.flatMap((policy) => [
    [`lb_policy_${policy}`, policy],
    [`load_balancing_policy_${policy}`, policy],
  ]),
);

const tablePrime = (): ValueType<number> =>
  valueType({ label: "prime number", json: { type: "integer" } }, (value, refuse) => {
    const number = Number(value);
    const prime = Number.isInteger(number) && number >= 2 && number <= 5_000_011 && isPrime(number);
    return prime
      ? number
      : refuse(`${formatValue(value)} is not a prime number up to 5000011`, "write one such as 65537");
  });

function isPrime(number: number): boolean {
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}

const bias = (): ValueType<number> =>
  valueType({ label: "number", json: { type: "number" } }, (value, refuse) => {
    const number =
      typeof value === "object" && value !== null && "default_value" in value ? value.default_value : value;
    const word = scalarText(number) ?? "";
    const parsed = /^\d{1,3}(?:\.\d{1,9})?$/.test(word) ? Number(word) : Number.NaN;
    return parsed <= 100 ? parsed : refuse(`${formatValue(value)} is not a bias`, "write a number from 0");
  });

/** Keys of a route, and also of the whole process as defaults for routes without them. */
export const breakerKeys = {
  max_connections: pomerium(count().optional(), "Concurrent connections. Absent: 1024."),
  max_pending_requests: pomerium(count().optional(), "Requests that may wait for a connection. Absent: 1024."),
  max_requests: pomerium(
    count().optional(),
    "Concurrent requests. Absent: 1024; upgrades and tunnels count only if the key is set.",
  ),
  max_retries: pomerium(count().optional(), "Concurrent retries without a response yet. Absent: 3."),
  max_connection_pools: pomerium(count().optional(), "Has no effect: there is one pool for each upstream."),
};

export const upstreamKeys = {
  load_balancing_policy: pomerium(
    enumValue(policies, otherNames).prefault("round_robin"),
    "How requests are distributed over `to`: in turn by weight, to the less busy of two, or at random. With `ring_hash` and `maglev` a session (or an address without one) stays with one upstream. See docs/upstreams.md.",
  ),
  least_request_lb_config: pomerium(
    z.strictObject({
      choice_count: pomerium(integer({ min: 2, max: 1_000 }).prefault(2), "How many upstreams are drawn and compared."),
      active_request_bias: pomerium(bias().prefault(1), "How much requests in progress count if weights differ."),
    }),
    "Settings of `least_request`.",
  ),
  ring_hash_lb_config: pomerium(
    z.strictObject({
      minimum_ring_size: pomerium(
        integer({ min: 1, max: 1_048_576 }).prefault(1_024),
        "The smallest number of points on the ring.",
      ),
      maximum_ring_size: pomerium(
        integer({ min: 1, max: 8_388_608 }).prefault(1_048_576),
        "The largest number of points on the ring.",
      ),
      hash_function: pomerium(
        enumValue(["XX_HASH", "MURMUR_HASH_2"]).optional(),
        "Has no effect: SHA-256 gives the positions on the ring, the same on every node.",
      ),
    }),
    "Settings of `ring_hash`.",
  ),
  maglev_lb_config: pomerium(
    z.strictObject({ table_size: pomerium(tablePrime().prefault(65_537), "Entries of the table; a prime number.") }),
    "Settings of `maglev`.",
  ),
  health_checks: pomerium(
    healthChecks().prefault([]),
    "Check the upstreams' health by HTTP, TCP or gRPC; unhealthy ones get no requests. See docs/upstreams.md.",
    {
      secretParts: ["healthChecks.*.probe.addHeaders.*.1", "healthChecks.*.probe.send", "healthChecks.*.probe.path?"],
      inConfig: "value",
    },
  ),
  healthy_panic_threshold: pomerium(
    percent().prefault(50),
    "If a smaller percentage of the upstreams is healthy, all are used as if they were; `0`: never.",
  ),
  outlier_detection: pomerium(
    z.strictObject({
      interval: pomerium(duration({ min: "1ms" }).prefault("10s"), "How often rates are compared and ejections end."),
      base_ejection_time: pomerium(
        duration({ min: "1ms" }).prefault("30s"),
        "The duration of the first ejection; the n-th lasts n times as long.",
      ),
      max_ejection_time: pomerium(duration({ min: "1ms" }).prefault("300s"), "The longest ejection."),
      max_ejection_time_jitter: pomerium(duration().prefault("0s"), "A random addition of up to this much."),
      always_eject_one_host: pomerium(
        booleanValue().prefault(false),
        "One upstream may be ejected even with `max_ejection_percent: 0`.",
      ),
      max_ejection_percent: pomerium(
        whole().prefault(10),
        "The largest share of the upstreams that may be ejected. Unless it is 0, one may always be ejected.",
      ),
      consecutive_5xx: pomerium(
        count().prefault(5),
        "Consecutive responses of 500 and above, or failures to answer, that eject.",
      ),
      enforcing_consecutive_5xx: pomerium(whole().prefault(100), "Chance that they eject, in percent."),
      consecutive_gateway_failure: pomerium(
        count().prefault(5),
        "Consecutive responses of 502, 503 or 504, or failures to answer, that eject.",
      ),
      enforcing_consecutive_gateway_failure: pomerium(whole().prefault(0), "Chance that they eject, in percent."),
      split_external_local_origin_errors: pomerium(
        booleanValue().prefault(false),
        "Count failures to answer separately.",
      ),
      consecutive_local_origin_failure: pomerium(
        count().prefault(5),
        "Consecutive failures to answer that eject, if they are counted separately.",
      ),
      enforcing_consecutive_local_origin_failure: pomerium(
        whole().prefault(100),
        "Chance that they eject, in percent.",
      ),
      success_rate_minimum_hosts: pomerium(
        count().prefault(5),
        "How many upstreams need enough requests before rates are compared.",
      ),
      success_rate_request_volume: pomerium(count().prefault(100), "How many requests in an interval are enough."),
      success_rate_stdev_factor: pomerium(
        count().prefault(1_900),
        "How far below the mean a success rate ejects, in thousandths of the standard deviation.",
      ),
      enforcing_success_rate: pomerium(whole().prefault(100), "Chance that they eject, in percent."),
      enforcing_local_origin_success_rate: pomerium(whole().prefault(100), "The same for failures to answer."),
      failure_percentage_threshold: pomerium(whole().prefault(85), "The percentage of failures that ejects."),
      failure_percentage_minimum_hosts: pomerium(
        count().prefault(5),
        "How many upstreams need enough requests for that.",
      ),
      failure_percentage_request_volume: pomerium(count().prefault(50), "How many requests in an interval are enough."),
      enforcing_failure_percentage: pomerium(whole().prefault(0), "Chance that they eject, in percent."),
      enforcing_failure_percentage_local_origin: pomerium(whole().prefault(0), "The same for failures to answer."),
      successful_active_health_check_uneject_host: pomerium(
        booleanValue().prefault(true),
        "A health check that passes ends an ejection.",
      ),
    }),
    "Stop using an upstream for a while when it answers with errors. `{}` switches it on with these defaults.",
  ),
  circuit_breaker_thresholds: pomerium(
    z.strictObject(breakerKeys),
    "Bounds for each upstream; a request beyond them gets 503. Absent: the global ones.",
  ),
};
