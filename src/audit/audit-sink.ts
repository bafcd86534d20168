import type { AuditBatch } from "./record-buffer.ts";

export type AuditSink = Readonly<{
  name: string;
  /**
   * Resolves when the sink has taken responsibility for the records. If it rejects, the same batch is written again.
   * Calls do not overlap. The bytes are valid until the promise settles.
   */
  write(batch: AuditBatch): Promise<void>;
  close(): Promise<void>;
}>;

/** Resolves after this long. If the signal aborts, it settles early: it may resolve or reject. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;
