/**
 * Audit record: a decision record with its sequence number, or a gap record that states which numbers were lost. Pure.
 *
 * Numbers are dense per node and boot. So a missing number is a lost record, and a gap record declares it in the
 * stream.
 */
import type { DecisionRecord } from "../auth/index.ts";
import type { BootId, NodeId, UnixMs } from "../events/index.ts";
import type { NumbersMark } from "./record-numbers.ts";

export type AuditRecord =
  | (Readonly<{ kind: "decision"; seq: number }> & DecisionRecord)
  | Readonly<{
      kind: "gap";
      seq: number;
      node: NodeId;
      boot: BootId;
      at: UnixMs;
      /** The decisions `first`…`last` were recorded and lost; `seq` equals `last`. */
      first: number;
      last: number;
      why: string;
      /**
       * An earlier boot of the node that did not shut down cleanly. Its records above `written` are lost unless they
       * are in the stream. It had used numbers up to `used` about a second before its end, and none above `reserved`.
       * Such a gap is the first record of its own boot and covers no other number: `first`, `last` and `seq` are 1.
       */
      ended?: NumbersMark;
    }>;

/** The first record of a boot, if the boot before it may have lost records. */
export function gapOfEndedBoot(
  ended: NumbersMark,
  { node, boot, at }: Readonly<{ node: NodeId; boot: BootId; at: UnixMs }>,
): AuditRecord {
  const why = `boot ${ended.boot} did not shut down cleanly: its records from ${ended.written + 1} on are lost unless they appear here; it had used at least ${ended.used} numbers, and none above ${ended.reserved}`;
  return { kind: "gap", seq: 1, node, boot, at, first: 1, last: 1, why, ended };
}

export function toLine(record: AuditRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Parses one line of an audit file or message; undefined if it is not a record. */
export function parseLine(line: string): AuditRecord | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("seq" in value) || !("kind" in value)) return undefined;
    if (!Number.isSafeInteger(value.seq)) return undefined;
    return value.kind === "decision" || value.kind === "gap" ? (value as AuditRecord) : undefined;
  } catch {
    return undefined;
  }
}
