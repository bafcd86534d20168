/** Metrics of the audit stream that a process follows, and of the decision records that wait for its sinks. */
import { Gauge, type Registry } from "prom-client";
import { blindOf, type Recorder, type RecordVerifierCounts } from "../../audit/index.ts";

type SinkStats = ReturnType<Recorder["stats"]>["sinks"][number];

export function registerAuditMetrics(
  registry: Registry,
  audit: Readonly<{
    recorder: Recorder;
    /** Null: this process does not follow the audit stream. */
    verified: () => RecordVerifierCounts | null;
    /** The bound of the spool. */
    spoolBytesMax: number;
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
  const sinkGauge = (name: string, help: string, measured: (sink: SinkStats) => number): void => {
    const gauge: Gauge<"sink"> = new Gauge({
      name,
      help,
      labelNames: ["sink"],
      registers: [registry],
      collect() {
        for (const sink of audit.recorder.stats().sinks) gauge.set({ sink: sink.name }, measured(sink));
      },
    });
  };
  sinkGauge(
    "cardea_audit_sink_queued_records",
    "Decision records in the spool that the sink does not have",
    ({ queued }) => queued,
  );
  sinkGauge(
    "cardea_audit_sink_queued_bytes",
    "Bytes of the spool that the sink does not have",
    ({ queuedBytes }) => queuedBytes,
  );
  sinkGauge(
    "cardea_audit_sink_lag_seconds",
    "Age of the oldest record that the sink does not have",
    ({ lagMs }) => lagMs / 1_000,
  );
  sinkGauge(
    "cardea_audit_sink_written_records",
    "Decision records written to the sink since the start",
    ({ written }) => written,
  );
  sinkGauge(
    "cardea_audit_sink_lost_records",
    "Decision records that the sink never gets, declared since the start",
    ({ lost }) => lost,
  );
  sinkGauge(
    "cardea_audit_sink_dead_letters",
    "Decision records that the sink rejected since the start",
    (sink) => sink.deadLetters,
  );
  sinkGauge("cardea_audit_sink_failing", "1 while the sink is failing", ({ failing }) => (failing ? 1 : 0));
  sinkGauge(
    "cardea_audit_blind_records",
    "Decision records that the sink does not have: waiting in memory or in the spool, rejected, or lost",
    ({ name }) => blindOf(audit.recorder.stats(), name),
  );
  registerSpoolMetrics(registry, audit);
  registerSealMetrics(registry, audit.recorder);
  const missing: Gauge = new Gauge({
    name: "cardea_audit_missing",
    help: "Numbers of decision records that are neither in the audit stream nor declared lost",
    registers: [registry],
    collect() {
      missing.set(audit.verified()?.missing ?? 0);
    },
  });
}

function registerSpoolMetrics(
  registry: Registry,
  { recorder, spoolBytesMax }: Readonly<{ recorder: Recorder; spoolBytesMax: number }>,
): void {
  const spoolGauge = (name: string, help: string, measured: (stats: ReturnType<Recorder["stats"]>) => number): void => {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect: () => gauge.set(measured(recorder.stats())),
    });
  };
  spoolGauge("cardea_audit_recorded", "Decisions recorded since the start", ({ recorded }) => recorded);
  spoolGauge(
    "cardea_audit_dropped",
    "Decisions without a record, because memory or spool were full",
    ({ dropped }) => dropped,
  );
  spoolGauge(
    "cardea_audit_pending_records",
    "Decision records in memory that are not on disk yet",
    ({ pending }) => pending,
  );
  spoolGauge("cardea_audit_pending_bytes", "Bytes of these records", ({ pendingBytes }) => pendingBytes);
  spoolGauge("cardea_audit_spool_bytes", "Bytes of the spool", ({ spoolBytes }) => spoolBytes);
  spoolGauge("cardea_audit_spool_max_bytes", "Bound of the bytes of the spool", () => spoolBytesMax);
  spoolGauge(
    "cardea_audit_strict_refused",
    "1 while strict routes answer 503, because records cannot be stored",
    ({ refusal }) => (refusal === null ? 0 : 1),
  );
  spoolGauge(
    "cardea_audit_unreserved",
    "Decision records without a number reserved on disk: if this process is killed, their loss is not detected",
    ({ unreserved }) => unreserved,
  );
}

function registerSealMetrics(registry: Registry, recorder: Recorder): void {
  type Seals = NonNullable<ReturnType<Recorder["stats"]>["seal"]>;
  const sealGauge = (name: string, help: string, measured: (seals: Seals) => number): void => {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const { seal } = recorder.stats();
        gauge.set(seal === null ? 0 : measured(seal));
      },
    });
  };
  sealGauge("cardea_audit_unsealed_records", "Audit records that no seal covers yet", ({ unsealed }) => unsealed);
  sealGauge(
    "cardea_audit_seals_pending",
    "Seals of audit records that the log does not have yet",
    ({ pending }) => pending,
  );
  sealGauge("cardea_audit_sealed", "Seals of audit records in the log since the start", ({ sealed }) => sealed);
  sealGauge(
    "cardea_audit_seal_forks",
    "Boots of this node for which the log has another root than its spool: tampering, or a restored disk",
    ({ forks }) => forks,
  );
  sealGauge(
    "cardea_audit_unhashed_records",
    "Audit records since the start that no seal will cover: the spool was at its bound before they were hashed",
    ({ unhashed }) => unhashed,
  );
}
