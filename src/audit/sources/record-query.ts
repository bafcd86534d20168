/**
 * Record query: which stored records a question asks for: a filter, with requests, ids, and the end of the time. Pure.
 *
 * A gap says that unknown records are missing, so it passes every condition but those on the node, the ids and the time
 * that it covers.
 */
import type { AuditRecord } from "../audit-record.ts";
import { matchesFilter, type RecordFilter } from "../pull/index.ts";
import { parseRecordId, recordIdOf } from "../record-id.ts";

export type StoredRecordQuery = RecordFilter &
  Readonly<{
    requests?: readonly string[];
    /** Record ids, `<boot>:<number>`. */
    ids?: readonly string[];
    /** Before this time; milliseconds since 1970, by the clock of the record's node. */
    untilMs?: number;
  }>;

export function matchesQuery(record: AuditRecord, query: StoredRecordQuery): boolean {
  const { requests, ids, untilMs = Number.POSITIVE_INFINITY } = query;
  if (record.kind === "gap") return matchesGap(record, query);
  if (!(record.at < untilMs) || !matchesFilter(record, query)) return false;
  if (ids !== undefined && !ids.includes(recordIdOf(record))) return false;
  return requests === undefined || (record.kind === "decision" && requests.includes(record.requestId));
}

function matchesGap(gap: Extract<AuditRecord, { kind: "gap" }>, query: StoredRecordQuery): boolean {
  const { nodes, ids, sinceMs = Number.NEGATIVE_INFINITY, untilMs = Number.POSITIVE_INFINITY } = query;
  const { node, boot, first, last, at, fromMs = at, toMs = at } = gap;
  if (nodes !== undefined && !nodes.includes(node)) return false;
  if (Math.max(toMs, at) < sinceMs || fromMs >= untilMs) return false;
  return (
    ids === undefined ||
    ids.some((id) => {
      const named = parseRecordId(id);
      return named !== undefined && named.boot === boot && first <= named.seq && named.seq <= last;
    })
  );
}
