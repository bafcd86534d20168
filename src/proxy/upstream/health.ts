/**
 * Health state: what the checks of an upstream have shown, and when the next one is due.
 *
 * Pure. As in Envoy, the first result decides at once; later changes need as many results in a row as the thresholds
 * say. An upstream counts as healthy until its first check.
 */
import type { HealthCheckConfig } from "../../config/index.ts";

/** `hard`: a definite failure, for which no threshold applies (a status that is neither expected nor retriable). */
export type CheckResult = "pass" | "fail" | "hard";

export class HealthState {
  readonly #config: HealthCheckConfig;
  #healthy: boolean | undefined;
  #opposing = 0;
  #hasJustChanged = false;

  constructor(config: HealthCheckConfig) {
    this.#config = config;
  }

  get healthy(): boolean {
    return this.#healthy !== false;
  }

  record(result: CheckResult): void {
    const passed = result === "pass";
    this.#hasJustChanged = false;
    if (passed === this.#healthy) {
      this.#opposing = 0;
      return;
    }
    const { healthyThreshold, unhealthyThreshold } = this.#config;
    const enough = passed ? healthyThreshold : unhealthyThreshold;
    if (this.#healthy !== undefined && result !== "hard" && ++this.#opposing < enough) return;
    this.#healthy = passed;
    this.#opposing = 0;
    this.#hasJustChanged = true;
  }

  /** Milliseconds until the next check. @param hasTraffic a request was sent to the route's upstreams */
  nextIn(hasTraffic: boolean, random: () => number): number {
    const config = this.#config;
    const { intervalJitterMs, intervalJitterPercent } = config;
    const interval = this.#interval(hasTraffic);
    return interval + random() * intervalJitterMs + (random() * intervalJitterPercent * interval) / 100;
  }

  #interval(hasTraffic: boolean): number {
    const config = this.#config;
    const { intervalMs } = config;
    if (!hasTraffic) {
      const { noTrafficIntervalMs, noTrafficHealthyIntervalMs } = config;
      return this.#healthy === true ? (noTrafficHealthyIntervalMs ?? noTrafficIntervalMs) : noTrafficIntervalMs;
    }
    if (this.#healthy === true) return (this.#hasJustChanged ? config.healthyEdgeIntervalMs : null) ?? intervalMs;
    const ill = config.unhealthyIntervalMs ?? intervalMs;
    return (this.#hasJustChanged ? config.unhealthyEdgeIntervalMs : null) ?? ill;
  }
}
