/**
 * Postgres source: audit records from the table of the Postgres sink.
 *
 * - Rows are read through cursors of the server, so memory is bounded. No transaction is longer than a day takes, or,
 *   without a query, a boot.
 * - With a query, records come day by day in the order of time, and the server sends little more than what matches.
 *   Without one they come boot by boot, in the order of its numbers.
 * - A standby serves too. The role needs the right to select.
 */

import { HostOrder, parsePostgresHosts } from "../../replication/log/index.ts";
import { otherDay } from "../postgres/audit-schema.ts";
import { dateOf, dayOf } from "../postgres/copy-rows.ts";
import { AuditConnection, AuditDatabaseError, quoteName } from "../postgres/index.ts";
import {
  bootsOfDay,
  laterGaps,
  numbersOfBoot,
  type SqlStatement,
  statementsOfDay,
} from "../postgres/record-statements.ts";
import type { StoredRecordQuery } from "./record-query.ts";
import type { ReadingProgress, RecordSource } from "./record-source.ts";

/** Rows in memory per cursor; a record has 512 KiB at most, and usually less than one. */
const rowsAtOnce = 100;
const limits = { connectMs: 5_000, statementMs: 600_000 };

export function createPostgresSource(
  options: Readonly<{
    connectionString: string;
    schema: string;
    query?: StoredRecordQuery;
    onProgress?: ReadingProgress;
  }>,
): RecordSource {
  const { schema, query, onProgress } = options;
  const table = `${quoteName(schema)}.records`;
  const hosts = new HostOrder(parsePostgresHosts(options.connectionString));
  const open = new Set<AuditConnection>();
  return {
    name: `postgres ${schema}`,
    async *lines({ fromMs, toMs, signal }) {
      const connection = await AuditConnection.open(hosts, { name: "cardea audit reader", access: "read", limits });
      open.add(connection);
      const stop = (): void => connection.destroy();
      signal?.addEventListener("abort", stop, { once: true });
      try {
        signal?.throwIfAborted();
        const days = await daysOf(connection, { schema, fromMs, toMs });
        const bounds = {
          ...(fromMs === undefined ? {} : { sinceMs: fromMs }),
          ...(toMs === undefined ? {} : { untilMs: toMs }),
        };
        const boots = query === undefined ? await bootsIn(connection, table, days) : new Map<string, BootDays>();
        for (const [boot, { first, last }] of boots) {
          onProgress?.(Math.max(0, days.indexOf(first)), days.length, "days");
          yield* readAll(connection, [numbersOfBoot(table, { boot, first, last }, bounds)]);
        }
        for (const [i, day] of query === undefined ? [] : days.entries()) {
          onProgress?.(i, days.length, "days");
          const { decisions, others } = statementsOfDay(table, day, { ...query, ...bounds });
          yield* readAll(connection, decisions === null ? [others] : [decisions, others]);
        }
        if (query !== undefined && toMs !== undefined)
          yield* readAll(connection, [laterGaps(table, { untilMs: toMs, nodes: query.nodes })]);
        onProgress?.(days.length, days.length, "days");
      } catch (error) {
        signal?.throwIfAborted();
        throw error;
      } finally {
        signal?.removeEventListener("abort", stop);
        open.delete(connection);
        await connection.end();
      }
    },
    async close() {
      for (const connection of open) connection.destroy();
    },
  };
}

/** The days of the time that have a partition, oldest first, behind what has no day. */
async function daysOf(
  connection: AuditConnection,
  { schema, fromMs, toMs }: Readonly<{ schema: string; fromMs: number | undefined; toMs: number | undefined }>,
): Promise<readonly string[]> {
  const partitions = await connection.query(
    `select c.relname as name from pg_inherits i
      join pg_class p on p.oid = i.inhparent join pg_namespace n on n.oid = p.relnamespace
      join pg_class c on c.oid = i.inhrelid
      where n.nspname = $1 and p.relname = 'records' order by 1`,
    [schema],
  );
  if (partitions.length === 0)
    throw new AuditDatabaseError(`${connection.host}: there are no audit records in the schema ${schema}`);
  const first = fromMs === undefined ? "" : dateOf(dayOf(fromMs));
  const last = toMs === undefined ? "9999-99-99" : dateOf(dayOf(toMs));
  const days = partitions.flatMap(({ name }) => {
    const [, year, month, day] = /^records_(\d{4})(\d{2})(\d{2})$/.exec(String(name)) ?? [];
    return year === undefined ? [] : [`${year}-${month}-${day}`];
  });
  return [otherDay, ...days.filter((day) => day >= first && day <= last)];
}

type BootDays = { first: string; last: string };

/** The boots with their days, in the order of the first; at the end those that have no plausible day alone. */
async function bootsIn(
  connection: AuditConnection,
  table: string,
  days: readonly string[],
): Promise<ReadonlyMap<string, BootDays>> {
  const boots = new Map<string, BootDays>();
  const plausible = days.filter((day) => day !== otherDay);
  for (const day of [...plausible, otherDay]) {
    const { text, values } = bootsOfDay(table, day);
    for (const { boot } of await connection.query(text, values)) {
      const known = boots.get(String(boot));
      if (known === undefined) boots.set(String(boot), { first: day, last: day });
      else if (day !== otherDay) known.last = day;
    }
  }
  return boots;
}

type StoredLine = Readonly<{ line: string; atMs: number }>;

/** Merges the results of the statements by time. */
async function* readAll(connection: AuditConnection, statements: readonly SqlStatement[]): AsyncGenerator<string> {
  await connection.query("begin transaction isolation level repeatable read read only");
  const cursors = statements.map((statement, i) => readCursor(connection, `audit_${i}`, statement));
  const heads = await Promise.all(cursors.map(() => undefined as StoredLine | undefined));
  for (const [i, cursor] of cursors.entries()) heads[i] = await nextOf(cursor);
  for (;;) {
    let next = -1;
    heads.forEach((head, i) => {
      if (head !== undefined && (next < 0 || head.atMs < (heads[next]?.atMs ?? 0))) next = i;
    });
    const head = heads[next];
    const cursor = cursors[next];
    if (head === undefined || cursor === undefined) break;
    yield head.line;
    heads[next] = await nextOf(cursor);
  }
  await connection.query("commit");
}

async function nextOf(cursor: AsyncGenerator<StoredLine>): Promise<StoredLine | undefined> {
  const { value, done } = await cursor.next();
  return done === true ? undefined : value;
}

async function* readCursor(
  connection: AuditConnection,
  name: string,
  { text, values }: SqlStatement,
): AsyncGenerator<StoredLine> {
  await connection.query(`declare ${name} no scroll cursor for ${text}`, values);
  for (;;) {
    const rows = await connection.query(`fetch ${rowsAtOnce} from ${name}`);
    for (const { line, at_ms: atMs } of rows)
      yield { line: String(line), atMs: atMs === null ? Number.NEGATIVE_INFINITY : Number(atMs) };
    if (rows.length < rowsAtOnce) return;
  }
}
