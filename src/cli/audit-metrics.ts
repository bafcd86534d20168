/** Metrics of the audit stream that a process follows, and of the decision records that wait for its sinks. */
import { Gauge, type Registry } from "prom-client";
import type { AuditParts } from "./audit-parts.ts";

export function registerAuditMetrics(
  registry: Registry,
  audit: Pick<AuditParts, "verified" | "recorder" | "unreserved">,
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
  const sinks: Gauge<"sink" | "what"> = new Gauge({
    name: "cardea_audit_sink",
    help: "Decision records by sink: queued_records and queued_bytes now; written_records and lost_records since the start",
    labelNames: ["sink", "what"],
    registers: [registry],
    collect() {
      for (const { name: sink, queued, queuedBytes, written, lost } of audit.recorder.stats().sinks) {
        sinks.set({ sink, what: "queued_records" }, queued);
        sinks.set({ sink, what: "queued_bytes" }, queuedBytes);
        sinks.set({ sink, what: "written_records" }, written);
        sinks.set({ sink, what: "lost_records" }, lost);
      }
    },
  });
  const unreserved: Gauge = new Gauge({
    name: "cardea_audit_unreserved",
    help: "Decision records whose number was not reserved on disk first: if this process is killed, their loss does not show",
    registers: [registry],
    collect() {
      unreserved.set(audit.unreserved());
    },
  });
  const missing: Gauge = new Gauge({
    name: "cardea_audit_missing",
    help: "Numbers of decision records that neither came in the audit stream nor were declared lost",
    registers: [registry],
    collect() {
      missing.set(audit.verified()?.missing ?? 0);
    },
  });
}
