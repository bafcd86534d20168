/** Splice end: one of the two byte streams that a splice joins. Only types. */
import type { CutReason } from "../message/close-codes.ts";
import type { PendingCut } from "../message/deliveries.ts";

export type SpliceEvents = Readonly<{
  /** @param bytes valid until this returns */
  onBytes(bytes: Buffer): void;
  /** The peer has ended its side. */
  onEnd(): void;
  /** What was written has left; more may be written. */
  onDrain(): void;
  /** The connection broke; `onClose` follows. */
  onError(): void;
  /** Nothing is read or written any more. */
  onClose(): void;
}>;

export interface SpliceEnd {
  /** Starts reading. Called once. */
  begin(events: SpliceEvents): void;
  readonly isClosed: boolean;
  /** @returns false: the writer waits for `onDrain` */
  write(bytes: Buffer): boolean;
  /** Ends this side. The peer may still send. */
  end(): void;
  /** Ends both sides once what was written has left. */
  close(): void;
  /** Ends both sides at once. */
  destroy(): void;
  pause(): void;
  resume(): void;
}

/** The caller's end, which a cut ends in order where it can. */
export interface CallerEnd extends SpliceEnd {
  /** Our side was ended. */
  readonly isEnded: boolean;
  /** Bytes were written that have not left this machine; where streams share a connection: this process. */
  readonly hasUnsent: boolean;
  /** What is written from now on belongs to the cut. @returns as `Downstream.cut`, for what was written before */
  beginCut(): PendingCut | undefined;
  /** Discards what has not left. @returns as `Downstream.cut` */
  // biome-ignore lint/suspicious/noConfusingVoidType: as `Downstream.cut`.
  abort(reason: CutReason): void | PendingCut;
}
