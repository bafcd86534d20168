/**
 * Record filter: which records a reader gets. Pure.
 *
 * A condition with several values matches any of them; all conditions must match. A gap says that unknown records are
 * lost, so it passes every condition except those on what it states itself: the kind, the node and the time.
 */
import type { AuditRecord } from "../audit-record.ts";

export type RecordFilter = Readonly<{
  /** User ids: of decisions, and of acts that name or were made by the person. */
  users?: readonly string[];
  /** Ids or names of routes. */
  routes?: readonly string[];
  results?: readonly string[];
  regions?: readonly string[];
  nodes?: readonly string[];
  occasions?: readonly string[];
  kinds?: readonly string[];
  reasons?: readonly string[];
  sessions?: readonly string[];
  /** Milliseconds since 1970, by the clock of the record's node. */
  sinceMs?: number;
}>;

export function matchesFilter(record: AuditRecord, filter: RecordFilter): boolean {
  if (filter.sinceMs !== undefined && record.at < filter.sinceMs) return false;
  if (!isIn(record.kind, filter.kinds) || !isIn(record.node, filter.nodes)) return false;
  if (record.kind === "gap") return true;
  if (!isIn(record.region, filter.regions)) return false;
  if (record.kind === "decision")
    return (
      isIn(record.userId, filter.users) &&
      (isIn(record.routeId, filter.routes) || isIn(record.routeName ?? null, filter.routes)) &&
      isIn(record.result, filter.results) &&
      isIn(record.occasion, filter.occasions) &&
      isIn(record.sessionId, filter.sessions) &&
      (filter.reasons === undefined || [...record.reasons, causeOf(record)].some((one) => isIn(one, filter.reasons)))
    );
  const { routes, results, occasions, reasons } = filter;
  if ([routes, results, occasions, reasons].some((one) => one !== undefined)) return false;
  const named = new Set([record.actor, ...record.targets]);
  return isNamed("user", filter.users) && isNamed("session", filter.sessions);

  function isNamed(type: string, ids: readonly string[] | undefined): boolean {
    return ids === undefined || ids.some((id) => named.has(`${type}:${id}`));
  }
}

function isIn(value: string | null, values: readonly string[] | undefined): boolean {
  return values === undefined || (value !== null && values.includes(value));
}

function causeOf(record: Extract<AuditRecord, { kind: "decision" }>): string | null {
  return record.closed?.cause ?? null;
}
