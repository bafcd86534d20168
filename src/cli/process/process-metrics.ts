/** Process metrics: Prometheus metrics of the replica, the broker and the log output, with the defaults of Node. */
import { collectDefaultMetrics, Gauge, type Registry } from "prom-client";
import type { Broker } from "../../broker/index.ts";
import type { Position } from "../../events/index.ts";
import type { FanoutStatus } from "../../replication/fanout/index.ts";
import type { SnapshotPlace } from "../../replication/index.ts";
import type { ReplicaProcess } from "../../replication/node/index.ts";
import type { Output } from "../terminal/output.ts";
import { createMeasureGauges } from "./measure-gauges.ts";

/** @returns updates the gauges; call it before each read of the registry */
export function registerProcessMetrics(
  registry: Registry,
  parts: Readonly<{
    replica: ReplicaProcess | null;
    broker: Broker | null;
    output: Output;
    /** Newest first. */
    snapshots: () => readonly SnapshotPlace[];
    /** Null: this process keeps nothing of the past. */
    archived: () => Readonly<{ from: Position; upTo: Position; bytes: number }> | null;
    answersRefused: () => Readonly<Record<string, number>>;
    /** Null: the process has no fan-out. */
    fanout: () => FanoutStatus | null;
    /** Counts of the databroker API. */
    served: () => Readonly<Record<string, number>>;
  }>,
): () => void {
  collectDefaultMetrics({ register: registry });
  const replica = createMeasureGauges(registry, {
    prefix: "cardea_replica",
    help: "The process's copy of the log and its lease",
  });
  const refused = new Gauge({
    name: "cardea_replica_refused",
    help: "Messages that were refused, by reason",
    labelNames: ["reason"],
    registers: [registry],
  });
  const answers = new Gauge({
    name: "cardea_broker_answers_refused",
    help: "Answers that claimed to come from a broker and were refused, by reason",
    labelNames: ["reason"],
    registers: [registry],
  });
  const natsRefused = new Gauge({
    name: "cardea_nats_refused",
    help: "NATS messages that were dropped unread or found to be forged, by reason",
    labelNames: ["reason"],
    registers: [registry],
  });
  const natsFloods = new Gauge({
    name: "cardea_nats_floods",
    help: "Times that the process stopped listening to NATS for a while because of a flood",
    registers: [registry],
  });
  const overdue = new Gauge({
    name: "cardea_lease_overdue_seconds",
    help: "Time since the lease expired; negative while it is fresh",
    registers: [registry],
  });
  const broker = createMeasureGauges(registry, { prefix: "cardea_broker", help: "The broker" });
  const region = createMeasureGauges(registry, {
    prefix: "cardea_region",
    help: "How far each region is behind, as this broker knows it",
    labelNames: ["region"],
  });
  const snapshotPosition = new Gauge({
    name: "cardea_snapshot_position",
    help: "Position of the newest snapshot of this broker; 0: none",
    registers: [registry],
  });
  const snapshotAge = new Gauge({
    name: "cardea_snapshot_age_seconds",
    help: "Age of the newest snapshot of this broker; NaN: none",
    registers: [registry],
  });
  const archive = createMeasureGauges(registry, {
    prefix: "cardea_archive",
    help: "What this broker keeps of the log after retention: positions, and bytes on its disk",
  });
  const output = createMeasureGauges(registry, {
    prefix: "cardea_log_output",
    help: "Standard output, all logs together",
  });
  return () => {
    const { queuedBytes, droppedLines, leftOutLines, failure } = parts.output.stats();
    output.set("queuedBytes", queuedBytes);
    output.set("droppedLines", droppedLines);
    output.set("leftOutLines", leftOutLines);
    output.set("failing", failure === null ? 0 : 1);
    const [newest] = parts.snapshots();
    snapshotPosition.set(newest?.position ?? 0);
    snapshotAge.set(newest === undefined ? Number.NaN : (Date.now() - newest.takenAt) / 1_000);
    const archived = parts.archived();
    if (archived !== null) for (const [measure, value] of Object.entries(archived)) archive.set(measure, value);
    region.reset();
    for (const { region: name, lag, silentMs, cutOff, ...counts } of parts.broker?.regions() ?? []) {
      for (const [measure, value] of Object.entries(counts)) region.set(measure, value, { region: name });
      region.set("cutOff", cutOff ? 1 : 0, { region: name });
      if (lag !== null) region.set("lag", lag, { region: name });
      if (silentMs !== null) region.set("silentMs", silentMs, { region: name });
    }
    for (const [reason, value] of Object.entries(parts.answersRefused())) answers.set({ reason }, value);
    const fanout = parts.fanout();
    for (const [reason, value] of Object.entries(fanout?.refused ?? {})) natsRefused.set({ reason }, value);
    natsFloods.set(fanout?.floods ?? 0);
    for (const [measure, value] of Object.entries(parts.served())) broker.set(measure, value);
    const copy = parts.replica ?? parts.broker?.copy ?? null;
    if (copy !== null) {
      for (const [measure, value] of Object.entries(copy.metrics())) {
        if (typeof value === "number") replica.set(measure, value);
      }
      for (const [reason, value] of Object.entries(copy.metrics().refused)) refused.set({ reason }, value);
      overdue.set(copy.overdueMs(performance.now() as Parameters<ReplicaProcess["overdueMs"]>[0]) / 1_000);
    }
    if (parts.broker !== null) {
      // `cardea_broker_answers_refused` is what the whole process refused, by reason.
      const { answersRefused, ...measures } = parts.broker.metrics();
      if (answersRefused !== undefined) broker.set("leaderAnswersRefused", answersRefused);
      for (const [measure, value] of Object.entries(measures))
        if (typeof value === "number") broker.set(measure, value);
    }
  };
}
