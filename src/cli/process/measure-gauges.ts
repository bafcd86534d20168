/**
 * Measure gauges: one Prometheus gauge per measure, so that no name mixes units. A gauge is created when it is first
 * set.
 */
import { Gauge, type Registry } from "prom-client";

export type MeasureGauges = Readonly<{
  /** @param measure as the code names it: `commitsWait`, or `silentMs`, which is exported in seconds */
  set(measure: string, value: number, labels?: Readonly<Record<string, string>>): void;
  /** Forgets every label value. */
  reset(): void;
}>;

export function createMeasureGauges(
  registry: Registry,
  { prefix, help, labelNames = [] }: Readonly<{ prefix: string; help: string; labelNames?: readonly string[] }>,
): MeasureGauges {
  const gauges = new Map<string, Gauge>();
  return {
    set(measure, value, labels = {}) {
      const name = `${prefix}_${measureName(measure)}`;
      let gauge = gauges.get(name);
      if (gauge === undefined) {
        gauge = new Gauge({ name, help: `${help}: ${measure}`, labelNames: [...labelNames], registers: [registry] });
        gauges.set(name, gauge);
      }
      gauge.set(labels, measure.endsWith("Ms") ? value / 1_000 : value);
    },
    reset() {
      for (const gauge of gauges.values()) gauge.reset();
    },
  };
}

/** `commitsWait` → `commits_wait`, `silentMs` → `silent_seconds` */
export function measureName(measure: string): string {
  return measure
    .replace(/([a-z])(\dxx)$/, "$1_$2")
    .replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    .replace(/_ms$/, "_seconds");
}
