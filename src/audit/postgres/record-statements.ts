/**
 * Record statements: the SQL that reads audit records of one day. Pure.
 *
 * The conditions only narrow down what the server sends, by the columns. They let everything pass that the whole record
 * might match, because columns are cut, and absent for some kinds.
 */
import { parseRecordId } from "../record-id.ts";
import type { StoredRecordQuery } from "../sources/record-query.ts";
import { otherDay } from "./audit-schema.ts";
import { dateOf, dayOf, textIn } from "./copy-rows.ts";

export type SqlStatement = Readonly<{ text: string; values: readonly unknown[] }>;

/** Reasons of this length may be cut. */
const reasonsCharsCut = 1_024;

/** Decisions of a day, and everything else of it, each in the order of time. */
export function statementsOfDay(
  table: string,
  day: string,
  query: StoredRecordQuery,
): Readonly<{ decisions: SqlStatement | null; others: SqlStatement }> {
  const { kinds } = query;
  // Rows without a time are nowhere else. The index of the time has nulls last, so without them it needs no sort.
  const from = { table, day, order: `at${day === otherDay ? " nulls first" : ""}, node, boot, seq` };
  const hasDecisions = kinds === undefined || kinds.includes("decision");
  return {
    decisions: hasDecisions ? select(from, (where) => decisionConditions(where, { ...query, day })) : null,
    others: select(from, (where) => otherConditions(where, { ...query, day })),
  };
}

/** Gaps of later days that began before the end of the time. */
export function laterGaps(
  table: string,
  { untilMs, nodes }: Readonly<{ untilMs: number; nodes: StoredRecordQuery["nodes"] }>,
): SqlStatement {
  const values: unknown[] = [dateOf(dayOf(untilMs)), new Date(untilMs).toISOString()];
  const node = nodes === undefined ? "" : ` and node = any($${values.push(nodes.map((each) => textIn(each)))})`;
  const text = `select line, extract(epoch from at) * 1000 as at_ms from ${table}
    where day > $1::date and kind = 'gap' and from_at < $2::timestamptz${node} order by at, node, boot, seq`;
  return { text, values };
}

/** The boots of a day, by an index of it alone. */
export function bootsOfDay(table: string, day: string): SqlStatement {
  const next = (after: string): string =>
    `(select r.boot from ${table} r where r.day = $1::date${after} order by r.boot limit 1)`;
  const text = `with recursive found (boot) as (select ${next("")}
    union all select ${next(" and r.boot > found.boot")} from found where found.boot is not null)
    select boot from found where boot is not null`;
  return { text, values: [day] };
}

/**
 * All of a boot, in the order of its numbers, with what of it has no plausible day. Days do not follow the numbers:
 * a record may be a little older than the one before, over midnight, and clocks are set back.
 */
export function numbersOfBoot(
  table: string,
  { boot, first, last }: Readonly<{ boot: string; first: string; last: string }>,
  { sinceMs, untilMs }: Pick<StoredRecordQuery, "sinceMs" | "untilMs">,
): SqlStatement {
  const values: unknown[] = [boot, first, last, otherDay];
  const bound = (column: string, sign: string, ms: number | undefined): string =>
    ms === undefined ? "" : ` and (day = $4::date or ${column} ${sign} $${values.push(timeOf(ms))}::timestamptz)`;
  const times = bound("at", ">=", sinceMs) + bound("coalesce(from_at, at)", "<", untilMs);
  const text = `select line, extract(epoch from at) * 1000 as at_ms from ${table}
    where boot = $1 and (day between $2::date and $3::date or day = $4::date)${times} order by seq, day`;
  return { text, values };
}

type Where = (condition: string, ...values: readonly unknown[]) => void;

function select(
  { table, day, order }: Readonly<{ table: string; day: string; order: string }>,
  conditions: (where: Where) => void,
): SqlStatement {
  const values: unknown[] = [day];
  const texts = ["day = $1::date"];
  /** Each `?` stands for the next value. */
  const where: Where = (condition, ...more) => {
    let next = values.length;
    texts.push(condition.replaceAll("?", () => `$${++next}`));
    values.push(...more);
  };
  conditions(where);
  const text = `select line, extract(epoch from at) * 1000 as at_ms from ${table} where ${texts.join(" and ")} order by ${order}`;
  return { text, values };
}

const keysOf = (values: readonly string[]): readonly (string | null)[] => values.map((value) => textIn(value));

type DayQuery = StoredRecordQuery & Readonly<{ day: string }>;

function decisionConditions(where: Where, query: DayQuery): void {
  where("kind = 'decision'");
  timeConditions(where, query, "at");
  const columns = {
    node: query.nodes,
    region: query.regions,
    user_id: query.users,
    result: query.results,
    occasion: query.occasions,
    session_id: query.sessions,
    request_id: query.requests,
  };
  for (const [column, values] of Object.entries(columns))
    if (values !== undefined) where(`${column} = any(?)`, keysOf(values));
  const { routes, reasons } = query;
  if (routes !== undefined)
    where(
      "(route_id = any(?) or exists (select from unnest(?::text[]) as n where strpos(line, n) > 0))",
      keysOf(routes),
      routes.map((name) => `"routeName":${JSON.stringify(name)}`),
    );
  if (reasons !== undefined)
    where(
      `(string_to_array(reasons, ' ') && ?::text[] or length(reasons) >= ${reasonsCharsCut} or occasion = 'closed')`,
      reasons,
    );
  if (query.ids !== undefined) where(isOneOf, ...idArrays(query.ids));
}

function otherConditions(where: Where, query: DayQuery): void {
  const { nodes, kinds, ids, routes, results, occasions, reasons, requests } = query;
  where("kind <> 'decision'");
  if ([routes, results, occasions, reasons, requests].some((each) => each !== undefined))
    where("kind in ('gap', 'unreadable')");
  if (ids !== undefined) where(`(kind = 'gap' and boot = any(?) or ${isOneOf})`, idArrays(ids)[0], ...idArrays(ids));
  timeConditions(where, query, "coalesce(from_at, at)");
  if (nodes !== undefined) where("(node = any(?) or kind = 'unreadable')", keysOf(nodes));
  if (kinds !== undefined) where("(kind = any(?) or kind in ('gap', 'unreadable'))", keysOf(kinds));
}

/**
 * Rows without a time match any. On a day of its own there are none, and no such condition that keeps the server from
 * using the index.
 */
function timeConditions(
  where: Where,
  { day, sinceMs, untilMs }: Pick<StoredRecordQuery, "sinceMs" | "untilMs"> & Readonly<{ day: string }>,
  begin: "at" | "coalesce(from_at, at)",
): void {
  const orNone = day === otherDay ? " or at is null" : "";
  if (sinceMs !== undefined) where(`(at >= ?::timestamptz${orNone})`, timeOf(sinceMs));
  if (untilMs !== undefined) where(`(${begin} < ?::timestamptz${orNone})`, timeOf(untilMs));
}

const isOneOf = "(boot, seq) in (select * from unnest(?::text[], ?::bigint[]))";

function idArrays(ids: readonly string[]): readonly [readonly (string | null)[], readonly number[]] {
  const parsed = ids.flatMap((id) => parseRecordId(id) ?? []);
  return [keysOf(parsed.map(({ boot }) => boot)), parsed.map(({ seq }) => seq)];
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString();
}
