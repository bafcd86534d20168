/** Signal metrics: security event tokens by transmitter and result, and polls. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { SignalMemory } from "../../auth/index.ts";

/** A process that no longer leads has read nothing for longer. */
const readMsMax = 120_000;

export function registerSignalCounts(registry: Registry, memory: SignalMemory, now: () => number = Date.now): void {
  const registers = [registry];
  const streams = () => [...memory.streams].filter(([, { readAt }]) => now() - readAt <= readMsMax);
  new Gauge({
    name: "cardea_signal_transmitter_stream",
    registers,
    labelNames: ["transmitter", "status"],
    help: "1 for the status of our stream at a transmitter of Shared Signals, as it last said; from the leading broker",
    collect() {
      this.reset();
      for (const [transmitter, { status }] of streams())
        for (const each of ["enabled", "paused", "disabled"] as const)
          this.set({ transmitter, status: each }, (status ?? "enabled") === each ? 1 : 0);
    },
  });
  new Gauge({
    name: "cardea_signal_verified_timestamp_seconds",
    registers,
    labelNames: ["transmitter"],
    help: "When a verification event of a transmitter last arrived, which the leading broker requests; 0: never",
    collect() {
      this.reset();
      for (const [transmitter, { verifiedAt }] of streams())
        if (verifiedAt !== null) this.set({ transmitter }, verifiedAt / 1_000);
    },
  });
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
