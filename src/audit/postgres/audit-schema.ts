/**
 * Audit schema: the tables of audit records in Postgres, as SQL for the sink and for a database administrator. Pure.
 *
 * - One partition per day (UTC). `records_other` holds what has no plausible day: records whose time is older than the
 *   retention or far ahead, and lines that no version can read. So a wrong clock makes no partition.
 * - Partitions are made and dropped by two functions that run with the rights of their owner. A role that may only
 *   insert and select can therefore keep them in order, and can drop nothing before its time.
 * - Forward only. A version states the oldest build that works with it.
 */

/** A role of Postgres that the SQL grants rights to. */
export type SchemaRoles = Readonly<{ writer?: string | undefined; reader?: string | undefined }>;

export const schemaName = /^[a-z_][a-z0-9_]{0,62}$/;

/** The day of what has no plausible day. */
export const otherDay = "1970-01-01";

/** Days ahead for which `ensure_days` makes partitions at most; a node's clock and the database's may differ. */
export const daysAheadMax = 8;
/** Days back, where records are kept forever. */
export const daysBackMax = 3_650;

/** One more step for each later version; a step is never changed once released. */
const steps: readonly Readonly<{ sql: (s: string) => string; worksWith: number }>[] = [
  { sql: firstStep, worksWith: 1 },
];

export const schemaVersion = steps.length;

/** @param from the version that the database has; 0: nothing */
export function migrationSteps(schema: string, from: number): readonly string[] {
  const s = quoteName(schema);
  return steps.flatMap(({ sql, worksWith }, i) =>
    i < from ? [] : [sql(s), `insert into ${s}.schema_version (version, works_with) values (${i + 1}, ${worksWith})`],
  );
}

export function versionTable(schema: string): readonly string[] {
  const s = quoteName(schema);
  return [
    `create schema if not exists ${s}`,
    `create table if not exists ${s}.schema_version (
  version integer primary key,
  applied_at timestamptz not null default clock_timestamp(),
  works_with integer not null
)`,
  ];
}

/** Key of the advisory lock under which the schema and its partitions change. */
export const lockOf = (schema: string): string => `cardea audit ${schema}`;

/** The whole schema as a script, for an administrator who creates it. */
export function schemaScript(
  options: Readonly<{ schema: string; cluster: string; retentionDays: number | null; roles: SchemaRoles }>,
): string {
  const { schema, cluster, retentionDays, roles } = options;
  const statements = [
    "begin",
    `select pg_advisory_xact_lock(hashtextextended(${quoteText(lockOf(schema))}, 0))`,
    ...versionTable(schema),
    ...migrationSteps(schema, 0),
    settingsInsert(schema, { cluster, retentionDays }),
    ...grantStatements(schema, roles),
    "commit",
  ];
  return `${statements.join(";\n\n")};\n`;
}

export function settingsInsert(
  schema: string,
  { cluster, retentionDays }: Readonly<{ cluster: string; retentionDays: number | null }>,
): string {
  return `insert into ${quoteName(schema)}.settings (cluster, retention_days) values (${quoteText(cluster)}, ${retentionDays ?? "null"})`;
}

/** Least rights: the writer inserts and reads, and the reader reads. */
export function grantStatements(schema: string, { writer, reader }: SchemaRoles): readonly string[] {
  const s = quoteName(schema);
  const readable = `${s}.records, ${s}.settings, ${s}.schema_version`;
  const statements: string[] = [];
  for (const role of [writer, reader]) {
    if (role === undefined) continue;
    statements.push(`grant usage on schema ${s} to ${quoteName(role)}`);
    statements.push(`grant select on ${readable} to ${quoteName(role)}`);
  }
  if (writer === undefined) return statements;
  const functions = `${s}.ensure_days(date[]), ${s}.drop_expired(timestamptz)`;
  return [
    ...statements,
    `grant insert on ${s}.records to ${quoteName(writer)}`,
    `grant execute on function ${functions} to ${quoteName(writer)}`,
  ];
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function firstStep(s: string): string {
  const lock = quoteText(lockOf(s.slice(1, -1)));
  return `create table ${s}.settings (
  only_row boolean primary key default true check (only_row),
  cluster text not null,
  -- whole days that records are kept; null: forever
  retention_days integer check (retention_days > 0)
);

create table ${s}.records (
  -- day of "at" in UTC; ${otherDay}: no plausible day
  day date not null,
  at timestamptz,
  -- of a gap: when it began
  from_at timestamptz,
  node text not null,
  boot text not null,
  seq bigint not null,
  kind text not null,
  occasion text,
  region text,
  request_id text,
  route_id text,
  user_id text,
  session_id text,
  result text,
  status integer,
  -- separated by spaces
  reasons text,
  -- of a gap: how many records are missing
  missing_least bigint,
  missing_most bigint,
  stored_at timestamptz not null default clock_timestamp(),
  -- the record, exactly as it was made
  line text not null
) partition by range (day);

create table ${s}.records_other partition of ${s}.records for values from (minvalue) to ('1970-01-02');

create unique index records_id on ${s}.records (boot, seq, node, kind, day);
create index records_at on ${s}.records (at);
create index records_request on ${s}.records (request_id) where request_id is not null;
create index records_user on ${s}.records (user_id, at) where user_id is not null;
create index records_refused on ${s}.records (at) where kind = 'decision' and result <> 'permit';
create index records_acts on ${s}.records (at) where kind <> 'decision';

-- Makes the partitions of these days, and returns the days that have one.
create function ${s}.ensure_days(days date[]) returns setof date
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $body$
declare
  one date;
  partition text;
  keep integer := (select retention_days from ${s}.settings);
  today date := (clock_timestamp() at time zone 'utc')::date;
begin
  for one in select distinct d from unnest(days) as d where d is not null order by d loop
    continue when one < today - coalesce(keep, ${daysBackMax}) or one > today + ${daysAheadMax};
    partition := 'records_' || to_char(one, 'YYYYMMDD');
    if not exists (select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where i.inhparent = ${quoteText(`${s}.records`)}::regclass and c.relname = partition) then
      perform pg_advisory_xact_lock(hashtextextended(${lock}, 0));
      if not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = ${quoteText(s.slice(1, -1))} and c.relname = partition) then
        begin
          execute format('create table %s.%I (like %s.records including defaults)', ${quoteText(s)}, partition, ${quoteText(s)});
          -- attaching, unlike creating it as a partition, lets other sessions insert meanwhile
          execute format('alter table %s.records attach partition %s.%I for values from (%L) to (%L)',
            ${quoteText(s)}, ${quoteText(s)}, partition, one, one + 1);
        exception when invalid_object_definition then
          -- an administrator's own partition has the day
          return next one;
          continue;
        end;
      end if;
      continue when not exists (select from pg_class c join pg_inherits i on i.inhrelid = c.oid
        where i.inhparent = ${quoteText(`${s}.records`)}::regclass and c.relname = partition);
    end if;
    return next one;
  end loop;
end
$body$;

-- Drops the partitions of days before the retention, and returns how many. A caller whose clock is behind that of the
-- server keeps more, never less.
create function ${s}.drop_expired(as_of timestamptz) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $body$
declare
  one text;
  dropped integer := 0;
  keep integer := (select retention_days from ${s}.settings);
  now_is timestamptz := least(clock_timestamp(), as_of);
begin
  if keep is null or now_is is null then
    return 0;
  end if;
  perform pg_advisory_xact_lock(hashtextextended(${lock}, 0));
  for one in select c.relname from pg_class c join pg_inherits i on i.inhrelid = c.oid
      where i.inhparent = ${quoteText(`${s}.records`)}::regclass and c.relname ~ '^records_[0-9]{8}$'
        and to_date(substr(c.relname, 9), 'YYYYMMDD') < (now_is at time zone 'utc')::date - keep
      order by 1 limit 10 loop
    execute format('drop table %s.%I', ${quoteText(s)}, one);
    dropped := dropped + 1;
  end loop;
  delete from ${s}.records_other where stored_at < now_is - make_interval(days => keep);
  return dropped;
end
$body$;

revoke execute on function ${s}.ensure_days(date[]), ${s}.drop_expired(timestamptz) from public`;
}
