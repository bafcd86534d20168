/**
 * AuditRecord: a decision record with its place in its node's own dense sequence, or a gap that says what was lost.
 *
 * Numbers are dense per (node, boot): a missing one was lost, and a gap record says so in the stream itself. Pure.
 */
import type { DecisionRecord } from "../auth/index.ts";
import type { BootId, NodeId, UnixMs } from "../events/index.ts";

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
    }>;

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
