/** Signal metrics: security event tokens by transmitter and result, and polls. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { SignalMemory } from "../../auth/index.ts";

export function registerSignalCounts(registry: Registry, memory: SignalMemory): void {
  const registers = [registry];
  new Counter({
    name: "cardea_signals_received_total",
    registers,
    labelNames: ["transmitter", "event", "result"],
    help: "Security event tokens of transmitters of Shared Signals, by event and result: accepted, unavailable, or the code of the refusal",
    collect() {
      this.reset();
      for (const { transmitter, event, result, count } of memory.received.values())
        this.inc({ transmitter, event, result }, count);
    },
  });
  new Counter({
    name: "cardea_signal_polls_total",
    registers,
    labelNames: ["transmitter", "result"],
    help: "Polls of transmitters of Shared Signals by the leading broker, by result",
    collect() {
      this.reset();
      for (const [transmitter, { answered, failed }] of memory.polls) {
        this.inc({ transmitter, result: "answered" }, answered);
        this.inc({ transmitter, result: "failed" }, failed);
      }
    },
  });
  new Counter({
    name: "cardea_signal_enforcements_total",
    registers,
    labelNames: ["transmitter", "result"],
    help: "Attempts of this process to end the sessions of a person that a signal denies, by result",
    collect() {
      this.reset();
      for (const [transmitter, { results }] of memory.enforcement)
        for (const [result, count] of Object.entries(results)) this.inc({ transmitter, result }, count);
    },
  });
  new Gauge({
    name: "cardea_signal_people_not_ended",
    registers,
    labelNames: ["transmitter"],
    help: "People whose sessions a signal denies, and that this process could not end yet",
    collect() {
      this.reset();
      for (const [transmitter, { people }] of memory.enforcement) this.set({ transmitter }, people);
    },
  });
  new Gauge({
    name: "cardea_signal_poll_answered_timestamp_seconds",
    registers,
    labelNames: ["transmitter"],
    help: "When this process last got an answer to a poll from a transmitter of Shared Signals",
    collect() {
      this.reset();
      for (const [transmitter, { answeredAt }] of memory.polls)
        if (answeredAt > 0) this.set({ transmitter }, answeredAt / 1_000);
    },
  });
}
