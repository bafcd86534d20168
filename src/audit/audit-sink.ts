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
  /**
   * Resolves when the sink has taken responsibility for the records. If it rejects, the same batch is written again,
   * unless it rejects with AuditRejectedError. Calls do not overlap. The bytes are valid until the promise settles.
   */
  write(batch: AuditBatch): Promise<void>;
  close(): Promise<void>;
}>;

/** The sink will never accept these records. They go to its dead-letter file, and the next ones are tried. */
export class AuditRejectedError extends CodedError<"ERR_AUDIT_REJECTED"> {
  override readonly code = "ERR_AUDIT_REJECTED";
  constructor(sink: string, why: string, options?: ErrorOptions) {
    super(`the sink ${sink} does not accept a record: ${why}`, options);
  }
}
