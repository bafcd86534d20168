/** Transmit metrics of the leading broker: what it delivers to the receivers of Shared Signals, and what waits. */
import { Counter, Gauge, type Registry } from "prom-client";
import { deliveryResults, type StreamReport, type TransmitMemory } from "../../auth/index.ts";

const statuses: readonly StreamReport["status"][] = ["enabled", "paused", "disabled", "none"];

export function registerTransmitCounts(registry: Registry, memory: TransmitMemory, now: () => number): void {
  const registers = [registry];
  new Counter({
    name: "cardea_signals_total",
    registers,
    labelNames: ["receiver", "result"],
    help: "Security events pushed to a receiver of signals, by result",
    collect() {
      this.reset();
      for (const [receiver, counts] of memory.counts)
        for (const result of deliveryResults) this.inc({ receiver, result }, counts[result]);
    },
  });
  const gauge = (name: string, help: string, measure: (report: StreamReport) => number): void => {
    new Gauge({
      name,
      registers,
      labelNames: ["receiver"],
      help,
      collect() {
        this.reset();
        for (const [receiver, report] of memory.reports) this.set({ receiver }, measure(report));
      },
    });
  };
  gauge(
    "cardea_signals_pending",
    "Security events that wait for a receiver; from 937 on there may be more in the log",
    (r) => r.pending,
  );
  gauge(
    "cardea_signals_lag_seconds",
    "Age of the oldest security event that waits for a receiver; 0: none waits",
    (r) => (r.oldestAt === null ? 0 : Math.max(0, (now() - r.oldestAt) / 1_000)),
  );
  gauge(
    "cardea_signals_gap_time_seconds",
    "When the log last lacked what a receiver had to get, as Unix time; 0: never",
    (r) => r.gapAt / 1_000,
  );
  gauge("cardea_signals_failing", "1 while the last delivery to a receiver failed", (r) => (r.failing ? 1 : 0));
  new Gauge({
    name: "cardea_signals_stream",
    registers,
    labelNames: ["receiver", "status"],
    help: "1 for the status of a receiver's stream",
    collect() {
      this.reset();
      for (const [receiver, report] of memory.reports)
        for (const status of statuses) this.set({ receiver, status }, report.status === status ? 1 : 0);
    },
  });
}
