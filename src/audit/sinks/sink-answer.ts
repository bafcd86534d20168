/**
 * Sink answer: what the HTTP status of an answer means for the batch that was sent. Pure.
 *
 * - 400, 413 and 422 are about the records: they are never accepted. Delivery halves the batch to find them.
 * - Everything else may be repaired at the receiver or in the configuration, so records wait: also 401, 403 and 404.
 * - Messages have the status, never the answer's text or the address: both may hold secrets.
 */
import { AuditRejectedError, AuditSinkBusyError } from "../audit-sink.ts";

export type SinkAnswer = Readonly<{ status: number; retryAfter: string | null }>;

const neverAccepted: ReadonlySet<number> = new Set([400, 413, 422]);

const remedies: Readonly<Record<number, string>> = {
  401: "; check its credential in audit.sinks",
  403: "; check the rights of its credential in audit.sinks",
  404: "; check its address in audit.sinks",
  405: "; check its address in audit.sinks",
};

/** @throws AuditRejectedError, AuditSinkBusyError unless the batch was accepted */
export function checkAnswer(sink: string, { status, retryAfter }: SinkAnswer, nowMs: number): void {
  if (status >= 200 && status < 300) return;
  if (neverAccepted.has(status)) throw new AuditRejectedError(sink, `its receiver answers with the status ${status}`);
  const isRedirect = status >= 300 && status < 400;
  const remedy = isRedirect
    ? ", which is not followed; write the new address in audit.sinks"
    : (remedies[status] ?? "");
  throw new AuditSinkBusyError(sink, {
    why: `its receiver answers with the status ${status}${remedy}`,
    retryAfterMs: retryAfter === null ? 0 : retryAfterMsOf(retryAfter, nowMs),
  });
}

/** RFC 9110 §10.2.3: seconds, or a date. Anything else is as if it were absent. */
export function retryAfterMsOf(text: string, nowMs: number): number {
  const written = text.trim();
  const ms = /^\d{1,9}$/.test(written) ? Number(written) * 1_000 : Date.parse(written) - nowMs;
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}
