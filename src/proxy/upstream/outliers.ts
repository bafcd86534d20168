/**
 * Outlier detection: stops using an upstream for a while when it responds with errors, as Envoy does.
 *
 * Pure; clock and random source are arguments. Members are numbers, 0 to n - 1. What is due by time (rates are
 * compared, ejections end) is done at the next call, so no timer runs for upstreams without traffic.
 */
import type { OutlierConfig } from "../../config/index.ts";

export type EjectionCause =
  | "consecutive_5xx"
  | "consecutive_gateway_failure"
  | "consecutive_local_origin_failure"
  | "success_rate"
  | "success_rate_local_origin"
  | "failure_percentage"
  | "failure_percentage_local_origin";

/** `answered`: a status arrived. `local`: none did; the upstream was unreachable, broke off, or took too long. */
export type UpstreamOutcome = Readonly<{ type: "answered"; status: number }> | Readonly<{ type: "local" }>;

type RequestTally = { requests: number; failures: number };
type MemberState = {
  in5xx: number;
  inGateway: number;
  inLocal: number;
  /** Since rates were last compared. */
  external: RequestTally;
  local: RequestTally;
  /** When the ejection ends; undefined: it is not ejected. */
  until: number | undefined;
  /** Number of ejections, less the intervals without one. */
  ejections: number;
};

export class Outliers {
  readonly #config: OutlierConfig;
  readonly #hosts: readonly MemberState[];
  readonly #random: () => number;
  readonly #onChange: (member: number, ejected: EjectionCause | null) => void;
  #comparedAt: number;

  /** @param onChange null: the ejection has ended */
  constructor(
    config: OutlierConfig,
    members: number,
    world: Readonly<{
      now: number;
      random: () => number;
      onChange: (member: number, ejected: EjectionCause | null) => void;
    }>,
  ) {
    this.#config = config;
    this.#hosts = Array.from({ length: members }, () => ({
      in5xx: 0,
      inGateway: 0,
      inLocal: 0,
      until: undefined,
      ejections: 0,
      external: { requests: 0, failures: 0 },
      local: { requests: 0, failures: 0 },
    }));
    this.#random = world.random;
    this.#onChange = world.onChange;
    this.#comparedAt = world.now;
  }

  isEjected(member: number): boolean {
    return this.#hosts[member]?.until !== undefined;
  }

  /** Records the outcome of a request. */
  report(member: number, outcome: UpstreamOutcome, now: number): void {
    const host = this.#hosts[member];
    if (host === undefined) return;
    this.tick(now);
    const split = this.#config.splitLocalErrors;
    if (split) this.#countLocal(member, host, outcome.type === "local", now);
    if (outcome.type === "answered") this.#countStatus(member, host, outcome.status, now);
    else if (!split) this.#countStatus(member, host, 503, now);
  }

  /** A health check of the member has passed. */
  unejectByHealth(member: number): void {
    const host = this.#hosts[member];
    if (host?.until !== undefined && this.#config.healthCheckEndsEjection) this.#uneject(member, host);
  }

  /** Does what is due. */
  tick(now: number): void {
    const { intervalMs } = this.#config;
    const intervals = Math.floor((now - this.#comparedAt) / intervalMs);
    if (intervals < 1) return;
    this.#comparedAt = now;
    for (const [member, host] of this.#hosts.entries()) {
      if (host.until === undefined) host.ejections = Math.max(0, host.ejections - intervals);
      else if (host.until <= now) this.#uneject(member, host);
    }
    const { enforcingSuccessRate, enforcingLocalSuccessRate, splitLocalErrors } = this.#config;
    this.#compare("external", { rate: enforcingSuccessRate, failures: this.#config.enforcingFailurePercentage, now });
    if (splitLocalErrors)
      this.#compare("local", {
        rate: enforcingLocalSuccessRate,
        failures: this.#config.enforcingFailurePercentageLocal,
        now,
      });
    for (const host of this.#hosts) {
      host.external = { requests: 0, failures: 0 };
      host.local = { requests: 0, failures: 0 };
    }
  }

  #countLocal(member: number, host: MemberState, failed: boolean, now: number): void {
    host.local.requests++;
    if (!failed) {
      host.inLocal = 0;
      return;
    }
    host.local.failures++;
    if (++host.inLocal < this.#config.consecutiveLocalFailure) return;
    host.inLocal = 0;
    this.#eject(member, "consecutive_local_origin_failure", {
      chance: this.#config.enforcingConsecutiveLocalFailure,
      now,
    });
  }

  #countStatus(member: number, host: MemberState, status: number, now: number): void {
    host.external.requests++;
    if (status < 500) {
      host.in5xx = 0;
      host.inGateway = 0;
      return;
    }
    host.external.failures++;
    host.inGateway = status >= 502 && status <= 504 ? host.inGateway + 1 : 0;
    const { consecutiveGatewayFailure, consecutive5xx } = this.#config;
    if (host.inGateway > 0 && host.inGateway >= consecutiveGatewayFailure) {
      host.inGateway = 0;
      this.#eject(member, "consecutive_gateway_failure", {
        chance: this.#config.enforcingConsecutiveGatewayFailure,
        now,
      });
    }
    if (++host.in5xx < consecutive5xx) return;
    host.in5xx = 0;
    this.#eject(member, "consecutive_5xx", { chance: this.#config.enforcingConsecutive5xx, now });
  }

  /** Ejects members that do much worse than the others. */
  #compare(of: "external" | "local", how: Readonly<{ rate: number; failures: number; now: number }>): void {
    const config = this.#config;
    const suffix = of === "local" ? "_local_origin" : "";
    const rated = this.#ratesOf(of, config.successRateRequestVolume);
    if (rated.length >= Math.max(1, config.successRateMinimumHosts)) {
      const mean = rated.reduce((sum, { rate }) => sum + rate, 0) / rated.length;
      const variance = rated.reduce((sum, { rate }) => sum + (rate - mean) ** 2, 0) / rated.length;
      const least = mean - Math.sqrt(variance) * (config.successRateStdevFactor / 1_000);
      for (const { member, rate } of rated)
        if (rate < least) this.#eject(member, `success_rate${suffix}`, { chance: how.rate, now: how.now });
    }
    const counted = this.#ratesOf(of, config.failurePercentageRequestVolume);
    if (counted.length < Math.max(1, config.failurePercentageMinimumHosts)) return;
    for (const { member, rate } of counted)
      if (100 - rate >= config.failurePercentageThreshold)
        this.#eject(member, `failure_percentage${suffix}`, { chance: how.failures, now: how.now });
  }

  /** Success rates in per cent of members that had enough requests and are not ejected. */
  #ratesOf(of: "external" | "local", volume: number): readonly Readonly<{ member: number; rate: number }>[] {
    return this.#hosts.flatMap((host, member) => {
      const { requests, failures } = host[of];
      const enough = host.until === undefined && requests > 0 && requests >= volume;
      return enough ? [{ member, rate: (100 * (requests - failures)) / requests }] : [];
    });
  }

  #eject(member: number, cause: EjectionCause, { chance, now }: Readonly<{ chance: number; now: number }>): void {
    const host = this.#hosts[member];
    if (host === undefined || host.until !== undefined || this.#random() * 100 >= chance) return;
    const { maxEjectionPercent, baseEjectionMs, maxEjectionMs, maxEjectionJitterMs } = this.#config;
    const ejected = this.#hosts.filter(({ until }) => until !== undefined).length;
    // One may always be ejected, or a small number of upstreams could never lose any.
    if ((100 * ejected) / this.#hosts.length >= maxEjectionPercent) return;
    host.ejections++;
    const lasts = Math.min(baseEjectionMs * host.ejections, Math.max(maxEjectionMs, baseEjectionMs));
    host.until = now + lasts + this.#random() * maxEjectionJitterMs;
    this.#onChange(member, cause);
  }

  #uneject(member: number, host: MemberState): void {
    host.until = undefined;
    host.in5xx = 0;
    host.inGateway = 0;
    host.inLocal = 0;
    this.#onChange(member, null);
  }
}
