/**
 * Audit migration: brings the schema of audit records to the version of this build, or refuses it.
 *
 * - All steps in one transaction, one migrator at a time (an advisory lock).
 * - A role without the right to create the schema gets an error that says how an administrator creates it.
 * - The schema belongs to one cluster: a copied configuration does not write into another cluster's records.
 */
import { type AuditConnection, AuditDatabaseError } from "./audit-connection.ts";
import {
  daysBackMax,
  lockOf,
  migrationSteps,
  quoteName,
  schemaVersion,
  settingsInsert,
  versionTable,
} from "./audit-schema.ts";

export type AuditStore = Readonly<{
  schema: string;
  cluster: string;
  /** Null: kept forever. */
  retentionDays: number | null;
}>;

export type StoreState = Readonly<{
  /** The days that the database keeps records. */
  keepDays: number;
  /** The retention of the database differs from the configured one, and this role may not change it. */
  retentionDiffers: boolean;
}>;

/** @throws AuditDatabaseError */
export async function openStore(connection: AuditConnection, store: AuditStore): Promise<StoreState> {
  const { schema, cluster, retentionDays } = store;
  const s = quoteName(schema);
  if ((await versionOf(connection, schema)).version < schemaVersion) await migrate(connection, store);
  const { version, worksWith } = await versionOf(connection, schema);
  if (worksWith > schemaVersion)
    throw new AuditDatabaseError(
      `the schema ${schema} has version ${version} of a later build, and this one knows versions up to ${schemaVersion}: run the later build`,
    );
  const [found] = await connection.query(
    `select cluster, retention_days, has_table_privilege($1, 'update') as may from ${s}.settings`,
    [`${s}.settings`],
  );
  if (found?.["cluster"] !== cluster)
    throw new AuditDatabaseError(
      `the schema ${schema} holds the records of the cluster ${JSON.stringify(found?.["cluster"] ?? null)}, not of ${JSON.stringify(cluster)}: name another schema or database`,
    );
  const kept = found["retention_days"] as number | null;
  const mayChange = found["may"] === true;
  if (kept !== retentionDays && mayChange)
    await connection.query(`update ${s}.settings set retention_days = $1`, [retentionDays]);
  const keepDays = (mayChange ? retentionDays : kept) ?? daysBackMax;
  return { keepDays, retentionDiffers: kept !== retentionDays && !mayChange };
}

async function migrate(connection: AuditConnection, store: AuditStore): Promise<void> {
  const { schema } = store;
  await connection.query("begin");
  try {
    await connection.query("select set_config('lock_timeout', '30s', true)");
    await connection.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [lockOf(schema)]);
    for (const statement of await pendingStatements(connection, store)) await connection.query(statement);
    await connection.query("commit");
  } catch (error) {
    connection.destroy(); // and with it the transaction
    if (!(error instanceof AuditDatabaseError && error.state === "42501")) throw error;
    throw new AuditDatabaseError(
      `the role may not create the schema ${schema} (${error.message}): an administrator creates it with the output of cardea audit schema`,
      { cause: error, state: error.state },
    );
  }
}

/** Another node may have finished meanwhile. */
async function pendingStatements(connection: AuditConnection, store: AuditStore): Promise<readonly string[]> {
  const { schema, cluster, retentionDays } = store;
  const { version } = await versionOf(connection, schema);
  if (version >= schemaVersion) return [];
  const [namespace] = await connection.query("select from pg_namespace where nspname = $1", [schema]);
  const [createSchema = "", createTable = ""] = versionTable(schema);
  return [
    ...(namespace === undefined ? [createSchema] : []), // its owner need not have the right to create schemas
    createTable,
    ...migrationSteps(schema, version),
    ...(version === 0 ? [settingsInsert(schema, { cluster, retentionDays })] : []),
  ];
}

async function versionOf(
  connection: AuditConnection,
  schema: string,
): Promise<Readonly<{ version: number; worksWith: number }>> {
  const s = quoteName(schema);
  // Not to_regclass: it may answer from what the session knew before it waited for the lock.
  const [table] = await connection.query(
    `select from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1 and c.relname = 'schema_version'`,
    [schema],
  );
  if (table === undefined) return { version: 0, worksWith: 0 };
  const [row] = await connection.query(
    `select coalesce(max(version), 0) as version, coalesce(max(works_with), 0) as works_with from ${s}.schema_version`,
  );
  return { version: Number(row?.["version"]), worksWith: Number(row?.["works_with"]) };
}
