/** Metrics of the audit stream that a process follows, and of the decision records that wait for its sinks. */
import { Gauge, type Registry } from "prom-client";
import type { Recorder, RecordVerifierCounts } from "../../audit/index.ts";

type SinkStats = ReturnType<Recorder["stats"]>["sinks"][number];

export function registerAuditMetrics(
  registry: Registry,
  audit: Readonly<{
    recorder: Recorder;
    /** Null: this process does not follow the audit stream. */
    verified: () => RecordVerifierCounts | null;
    unreserved: () => number;
  }>,
): void {
  const refused = new Gauge({
    name: "cardea_audit_refused",
    help: "Messages in the audit stream that were not shown, by reason: forged, changed, foreign, repeated or far ahead",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      for (const [reason, count] of Object.entries(audit.verified()?.refused ?? {})) refused.set({ reason }, count);
    },
  });
  const sinkGauge = (what: string, help: string, measured: (sink: SinkStats) => number): void => {
    const gauge: Gauge<"sink"> = new Gauge({
      name: `cardea_audit_sink_${what}`,
      help,
      labelNames: ["sink"],
      registers: [registry],
      collect() {
        for (const sink of audit.recorder.stats().sinks) gauge.set({ sink: sink.name }, measured(sink));
      },
    });
  };
  sinkGauge("queued_records", "Decision records that wait for the sink", ({ queued }) => queued);
  sinkGauge("queued_bytes", "Bytes of decision records that wait for the sink", ({ queuedBytes }) => queuedBytes);
  sinkGauge("written_records", "Decision records written to the sink since the start", ({ written }) => written);
  sinkGauge("lost_records", "Decision records lost before the sink since the start", ({ lost }) => lost);
  const unreserved: Gauge = new Gauge({
    name: "cardea_audit_unreserved",
    help: "Decision records without a number reserved on disk: if this process is killed, their loss is not detected",
    registers: [registry],
    collect() {
      unreserved.set(audit.unreserved());
    },
  });
  const missing: Gauge = new Gauge({
    name: "cardea_audit_missing",
    help: "Numbers of decision records that are neither in the audit stream nor declared lost",
    registers: [registry],
    collect() {
      missing.set(audit.verified()?.missing ?? 0);
    },
  });
}
