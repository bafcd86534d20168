/** Decision query: the start, the filter and the bounds of a read of decisions, from its parameters. */
import type { FastifyRequest } from "fastify";
import {
  type AuditRecord,
  matchesFilter,
  parseCursor,
  type RecordCursor,
  type RecordFilter,
} from "../../../audit/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { findUsersNamed } from "../operator-views.ts";
import type { RouteScope } from "../roles/operator-roles.ts";
import { decisionsSchema } from "./decision-schemas.ts";
import { scopeOfRecords } from "./decision-scope.ts";

export type RecordQuery = Readonly<{
  /** Where to begin: after a cursor, at a time, or with so many of the newest. */
  from: Readonly<{ after: RecordCursor } | { sinceMs: number } | { newest: number }>;
  matches: (record: AuditRecord) => boolean;
  /** The people that the filter names. */
  users: readonly string[];
  names: boolean;
  limit: number;
  waitMs: number;
  /** The search ends with records that are later; null: it has no end. */
  untilMs: number | null;
}>;

export type QueryProblem = Readonly<{ status: 400 | 404; error: string }>;

/** Names per condition. */
const valuesMax = 50;

export function parseDecisionQuery(
  request: FastifyRequest,
  deps: Pick<OperatorApiDeps, "replica" | "routePolicies">,
  scope: RouteScope,
): RecordQuery | QueryProblem {
  const { replica } = deps;
  const parsed = decisionsSchema.safeParse(request.query);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return { status: 400, error: `${issue?.path.join(".") ?? "the query"}: ${issue?.message ?? "is not valid"}` };
  }
  const { user, route, result, region, node, occasion, kind, reason, session, since, until, after, last } = parsed.data;
  const header = request.headers["last-event-id"];
  const cursorText = typeof header === "string" && header !== "" ? header : after;
  const cursor = cursorText === undefined || cursorText === "" ? null : parseCursor(cursorText);
  if (cursor === undefined) return { status: 400, error: `after: ${JSON.stringify(cursorText)} is not a cursor` };
  const lists = { route, result, region, node, occasion, kind, reason, session, user };
  const long = Object.entries(lists).find(([, text]) => (valuesIn(text)?.length ?? 0) > valuesMax);
  if (long !== undefined) return { status: 400, error: `${long[0]}: at most ${valuesMax} values are permitted` };
  const users: string[] = [];
  for (const [name, found] of findUsersNamed(replica, valuesIn(user) ?? [], "any")) {
    // Whether a person exists is nothing that a caller learns who sees some routes alone.
    if (found.length === 0 && scope === null)
      return { status: 404, error: `no user matches ${JSON.stringify(name)} (user id, subject or e-mail)` };
    users.push(...found);
  }
  const filter = {
    ...conditionOf("routes", valuesIn(route)),
    ...conditionOf("results", valuesIn(result)),
    ...conditionOf("regions", valuesIn(region)),
    ...conditionOf("nodes", valuesIn(node)),
    ...conditionOf("occasions", valuesIn(occasion)),
    ...conditionOf("kinds", valuesIn(kind)),
    ...conditionOf("reasons", valuesIn(reason)),
    ...conditionOf("sessions", valuesIn(session)),
    ...conditionOf("users", user === undefined ? undefined : users),
    ...(since === undefined ? {} : { sinceMs: since }),
  };
  const isVisible = scopeOfRecords(deps, scope);
  const isNoOne = user !== undefined && users.length === 0;
  const { names, limit, wait } = parsed.data;
  return {
    from: cursor !== null ? { after: cursor } : since === undefined ? { newest: last } : { sinceMs: since },
    matches: (record) =>
      isVisible(record) &&
      (until === undefined || record.at <= until) &&
      !(isNoOne && record.kind !== "gap") &&
      matchesFilter(record, filter),
    users,
    names,
    limit,
    waitMs: wait * 1_000,
    untilMs: until ?? null,
  };
}

function valuesIn(text: string | undefined): readonly string[] | undefined {
  return text?.split(",").filter((value) => value !== "");
}

function conditionOf(name: keyof RecordFilter, values: readonly string[] | undefined): RecordFilter {
  return values === undefined || values.length === 0 ? {} : { [name]: values };
}
