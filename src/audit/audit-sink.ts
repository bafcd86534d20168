import { CodedError } from "../events/index.ts";
import type { AuditBatch } from "./spool/index.ts";

/**
 * Where decision records go. test/audit/sink-contract.ts checks what every sink must keep.
 *
 * - A batch holds records of one boot of this node, which need not be the present one. Their numbers are dense. A gap
 *   record is alone in its batch.
 * - After a restart a sink may get records again that it has, with the same ids.
 */
export type AuditSink = Readonly<{
  /** Unique in the process, and the same from boot to boot: the sink's cursor is kept under it. */
  name: string;
  /** Absent: batches of what is durable, soon after it is. */
  batching?: SinkBatching;
  /**
   * Resolves when the sink has taken responsibility for the records. If it rejects, the same batch is written again,
   * unless it rejects with AuditRejectedError. Calls do not overlap. The bytes are valid until the promise settles.
   */
  write(batch: AuditBatch): Promise<void>;
  /**
   * Absent: a batch that was written is durable. Present: it is durable after the next `sync` that resolves, one for
   * many batches. If `sync` rejects, all batches since the last one that resolved are written again. Called after a
   * failed write, too. Not with `batching`.
   */
  sync?(): Promise<void>;
  close(): Promise<void>;
}>;

/**
 * How a sink wants its batches. Records wait for a batch in the spool, so a long `lingerMs` keeps them there.
 *
 * The bounds of a batch are stored before it is written. So a batch that is written again has the same records, also
 * after a crash, unless the spool was full meanwhile and dropped some of them: the sink may name it by its numbers.
 */
export type SinkBatching = Readonly<{
  /** A batch has at least one record, however large. */
  bytesMax: number;
  recordsMax: number;
  /** A smaller batch waits for more records for at most this long. */
  lingerMs: number;
}>;

/** The sink will never accept these records. They go to its dead-letter file, and the next ones are tried. */
export class AuditRejectedError extends CodedError<"ERR_AUDIT_REJECTED"> {
  override readonly code = "ERR_AUDIT_REJECTED";
  constructor(sink: string, why: string, options?: ErrorOptions) {
    super(`the sink ${sink} does not accept a record: ${why}`, options);
  }
}

/** The sink accepted the batch without some of its records, and does not say which. It must not be written again. */
export class AuditPartlyRejectedError extends CodedError<"ERR_AUDIT_PARTLY_REJECTED"> {
  override readonly code = "ERR_AUDIT_PARTLY_REJECTED";
  /** Records of the batch that were not accepted. */
  readonly rejected: number;
  constructor(sink: string, { rejected, why }: Readonly<{ rejected: number; why: string }>) {
    super(`the sink ${sink} did not accept ${rejected} records of a batch: ${why}`);
    this.rejected = rejected;
  }
}

/** The sink cannot accept records for now. The batch is written again, not before `retryAfterMs`. */
export class AuditSinkBusyError extends CodedError<"ERR_AUDIT_SINK_BUSY"> {
  override readonly code = "ERR_AUDIT_SINK_BUSY";
  readonly retryAfterMs: number;
  constructor(sink: string, options: ErrorOptions & Readonly<{ why: string; retryAfterMs: number }>) {
    super(`the sink ${sink} does not accept records for now: ${options.why}`, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}
