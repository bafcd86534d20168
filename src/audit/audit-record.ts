/**
 * AuditRecord: a decision record with its place in its node's own dense sequence, or a gap that says what was lost.
 *
 * Numbers are dense per (node, boot): a missing one was lost, and a gap record says so in the stream itself. Pure.
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
      /** Numbers `first`…`last` were decided but not kept; `seq` equals `last`. */
      first: number;
      last: number;
      why: string;
      /**
       * An earlier boot of the node that did not end in order. Its records above `written` are lost unless they are here; it had used
       * the numbers up to `used` about a second before its end, and none above `reserved`. Such a gap is the first record of its own boot
       * and stands for itself alone: `first`, `last` and `seq` are 1.
       */
      ended?: NumbersMark;
    }>;

/** The first record of a boot whose predecessor may have lost records. */
export function gapOfEndedBoot(
  ended: NumbersMark,
  { node, boot, at }: Readonly<{ node: NodeId; boot: BootId; at: UnixMs }>,
): AuditRecord {
  const why = `boot ${ended.boot} did not end in order: its records from ${ended.written + 1} on are lost unless they are here; it had used ${ended.used} numbers or more, and none above ${ended.reserved}`;
  return { kind: "gap", seq: 1, node, boot, at, first: 1, last: 1, why, ended };
}

export function toLine(record: AuditRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** Reads one line of an audit file or message; undefined when it is none. */
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
