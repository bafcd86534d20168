/**
 * Postgres migration: brings a schema to the version of this build, or refuses it.
 *
 * - Forward only, all steps in one transaction, one migrator at a time (an advisory lock held to the end of the
 *   transaction).
 * - It refuses a newer schema that does not declare compatibility with this build, a foreign schema, the log of another
 *   cluster, and a different log of the same cluster. It does so before any change, here and on every later connection.
 * - It creates a log only after it has checked every server in the connection string for an existing one.
 */
import { genesis } from "../../../events/index.ts";
import { LogRefusedError, LogUnavailableError } from "../log.ts";
import { isTooNew, type StoreVersion } from "../migrations/migration.ts";
import { postgresMigrations } from "../migrations/postgres-migrations.ts";
import { type ConnectOptions, messageOf, PostgresConnection, type PostgresRow, type Statement } from "./connection.ts";
import type { PostgresHost } from "./hosts.ts";

export type StoreIdentity = Readonly<{
  schema: string;
  cluster: string;
  /** Distinguishes this log from others of the same name by its first epoch; absent: not checked. */
  origin?: LogOrigin;
}>;

/**
 * Identity of the log that this process uses: the incarnation of its first epoch, drawn at random when the log was
 * created. It survives failovers and backups. A server whose log began with another is not a copy of this log, whatever
 * its name.
 */
export class LogOrigin {
  #known: string | undefined;

  /**
   * @param first undefined: nothing was ever written there; null: not recorded there, as in a log restored from a
   * snapshot
   */
  recognises(first: string | null | undefined): boolean {
    if (first === null) return true;
    if (this.#known === undefined) {
      this.#known = first;
      return true;
    }
    return first === this.#known;
  }
}

const lockTimeoutMs = 60_000;
/** SQLSTATE of a missing database. It is also an answer: the server has no log. */
const noSuchDatabase = "3D000";
const migrationTimeoutMs = 120_000;

/** @throws LogRefusedError, LogUnavailableError */
export async function migratePostgres(connection: PostgresConnection, store: StoreIdentity): Promise<void> {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(store.schema)) {
    throw new LogRefusedError("the schema's name is not of the form [a-z_][a-z0-9_]*, 63 characters at most");
  }
  await refuseStranger(connection, store);
  const steps = postgresMigrations(store.schema);
  // Without a change the migration does not need the right to make one.
  if (
    (await schemaVersion(connection, store)).version >= steps.length &&
    (await headCluster(connection, store)) !== undefined
  ) {
    return checkStore(connection, store);
  }
  const s = `"${store.schema}"`;
  const run = (text: string, values: readonly unknown[] = []) =>
    clean(connection, { text, values }, migrationTimeoutMs);
  await run("begin");
  try {
    await run("select set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)", [
      String(lockTimeoutMs),
      String(migrationTimeoutMs),
    ]);
    await run("select pg_advisory_xact_lock(hashtextextended($1, 0))", [`cardea migration of ${store.schema}`]);
    await refuseStranger(connection, store);
    await run(`create schema if not exists ${s}`);
    await run(`create table if not exists ${s}.schema_version
      (version integer primary key, applied_at timestamptz not null default clock_timestamp(), works_with integer)`);
    await run(`alter table ${s}.schema_version add column if not exists works_with integer`);
    const found = await schemaVersion(connection, store);
    refuseNewer(found, steps.length, connection, store);
    for (const [index, { sql, worksWith }] of steps.entries()) {
      if (index < found.version) continue;
      await run(sql);
      await run(`insert into ${s}.schema_version (version, works_with) values ($1, $2)`, [index + 1, worksWith]);
    }
    await run(
      `insert into ${s}.log_head (cluster, epoch, beat, pos, hash, durable_pos, durable_epoch, durable_hash)
       select $1, 0, 0, 0, $2::bytea, 0, 0, $2::bytea where not exists (select 1 from ${s}.log_head)`,
      [store.cluster, Buffer.from(genesis.hash, "hex")],
    );
    await checkStore(connection, store);
    await run("commit");
  } catch (error) {
    connection.destroy(); // and with it the transaction
    throw error;
  }
}

/**
 * Checks on every new connection that the server still has the opened log, in a known version.
 * @throws LogRefusedError, LogUnavailableError
 */
export async function checkStore(connection: PostgresConnection, store: StoreIdentity): Promise<void> {
  refuseNewer(await schemaVersion(connection, store), postgresMigrations(store.schema).length, connection, store);
  const cluster = await headCluster(connection, store);
  if (cluster !== store.cluster) {
    const owner = cluster === undefined ? "no cluster" : `cluster ${JSON.stringify(cluster)}`;
    throw new LogRefusedError(
      `schema ${store.schema} of Postgres at ${connection.host} holds the log of ${owner}, not of ${JSON.stringify(store.cluster)}: ` +
        "it is neither read nor written. Name the database of this cluster, or correct broker.cluster_name",
    );
  }
  await refuseOther(connection, store);
}

/** @throws LogRefusedError when the log there began with another epoch than the log of this process */
async function refuseOther(connection: PostgresConnection, { schema, origin }: StoreIdentity): Promise<void> {
  if (origin === undefined) return;
  const [first] = await clean(connection, {
    text: `select incarnation, start_pos = 1 as begins from "${schema}".log_epoch order by epoch limit 1`,
  });
  const incarnation = first === undefined ? undefined : first["begins"] === true ? String(first["incarnation"]) : null;
  if (origin.recognises(incarnation)) return;
  throw new LogRefusedError(
    `Postgres at ${connection.host} holds ${first === undefined ? "an empty log" : "another log"} of the same name in schema ${schema}: ` +
      "it is not a copy of the log that this broker has used, so it is neither read nor written. Remove this server from the connection " +
      "string, or restart the brokers if its log is meant to replace the other",
  );
}

/** @throws LogRefusedError when the schema exists and Cardea did not create its content */
async function refuseStranger(connection: PostgresConnection, { schema }: StoreIdentity): Promise<void> {
  const [found] = await clean(connection, {
    text: `select
        (select array_agg(relname::text order by relname) from pg_class where relnamespace = to_regnamespace($1)::oid
          and relkind in ('r', 'p', 'v', 'm', 'f')) as tables,
        (select array_agg(attname::text order by attname) from pg_attribute
          where attrelid = to_regclass($2) and attnum > 0 and not attisdropped) as columns`,
    values: [`"${schema}"`, `"${schema}".schema_version`],
  });
  const tables = (found?.["tables"] ?? []) as string[];
  if (tables.length === 0) return;
  const columns = (found?.["columns"] ?? []) as string[];
  const isOurs = columns.filter((name) => name !== "works_with").join() === "applied_at,version";
  if (isOurs && tables.includes("log_head")) return;
  throw new LogRefusedError(
    `schema ${schema} of Postgres at ${connection.host} was not created by Cardea (it has the table ${JSON.stringify(tables[0])}): ` +
      "nothing in it was changed. Name another database, or move its tables to another schema",
  );
}

/**
 * Checks, before a log is created, that no other server has one. Otherwise an empty server mistaken for the primary
 * would begin a second log.
 * @throws LogUnavailableError
 */
export async function askOthers(
  empty: PostgresConnection,
  others: readonly PostgresHost[],
  options: StoreIdentity & Pick<ConnectOptions, "connectTimeoutMs">,
): Promise<void> {
  for (const host of others) {
    if (host.name === empty.host) continue;
    const other = await PostgresConnection.toAny(host, options).catch((cause: unknown) => {
      if (cause instanceof Error && "code" in cause && cause.code === noSuchDatabase) return undefined;
      throw new LogUnavailableError(
        `Postgres at ${empty.host} has no log yet, and ${host.name} did not answer whether it has one (${messageOf(cause)}): ` +
          "a log is created only after every server in the connection string has answered",
        { cause },
      );
    });
    if (other === undefined) continue;
    try {
      if (await isWithoutLog(other, options)) continue;
      throw new LogUnavailableError(
        `Postgres at ${empty.host} has no log in schema ${options.schema}, but ${host.name} has one: refusing to create a second log`,
      );
    } finally {
      await other.end();
    }
  }
}

/** True when the server has no log in this schema, so that using another server loses nothing. */
export async function isWithoutLog(connection: PostgresConnection, store: StoreIdentity): Promise<boolean> {
  const [found] = await clean(connection, {
    text: "select to_regclass($1) is null as without",
    values: [`"${store.schema}".log_head`],
  });
  return found?.["without"] === true;
}

function refuseNewer(
  found: StoreVersion,
  known: number,
  { host }: Pick<PostgresConnection, "host">,
  { schema }: StoreIdentity,
): void {
  if (!isTooNew(found, known)) return;
  throw new LogRefusedError(
    `schema ${schema} of Postgres at ${host} has version ${found.version}, and this build knows versions up to ${known}: ` +
      "it was migrated by a newer build and cannot be used by an older one. Run the newer build",
  );
}

async function schemaVersion(connection: PostgresConnection, { schema }: StoreIdentity): Promise<StoreVersion> {
  const exists = await clean(connection, {
    text: "select to_regclass($1) as it",
    values: [`"${schema}".schema_version`],
  });
  if (exists[0]?.["it"] === null) return { version: 0, worksWith: 0 };
  // Through JSON, because the column may not exist yet.
  const [row] = await clean(connection, {
    text: `select coalesce(max(version), 0) as version,
        coalesce(max(coalesce((to_jsonb(v) ->> 'works_with')::integer, version)), 0) as works_with
      from "${schema}".schema_version v`,
  });
  return { version: Number(row?.["version"]), worksWith: Number(row?.["works_with"]) };
}

async function headCluster(connection: PostgresConnection, { schema }: StoreIdentity): Promise<string | undefined> {
  const exists = await clean(connection, { text: "select to_regclass($1) as it", values: [`"${schema}".log_head`] });
  if (exists[0]?.["it"] === null) return undefined;
  const rows = await clean(connection, { text: `select cluster from "${schema}".log_head` });
  return rows[0]?.["cluster"] as string | undefined;
}

async function clean(
  connection: PostgresConnection,
  statement: Statement,
  timeoutMs = 10_000,
): Promise<readonly PostgresRow[]> {
  const sent = await connection.ask(statement, timeoutMs);
  if (sent.type === "clean") return sent.rows;
  const cause = sent.type === "refused" ? sent.error : sent.cause;
  throw new LogUnavailableError(`Postgres at ${connection.host}: ${messageOf(cause)}`, { cause });
}
