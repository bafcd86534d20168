/**
 * SQLite file: opens the file of a file log, or reports why it cannot.
 *
 * - The file has mode 0600 in a folder with mode 0700.
 * - It belongs to one cluster and to one process at a time.
 * - It never returns to an older schema. A file that a newer build made incompatible with this one is refused.
 */
import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { genesis } from "../../../events/index.ts";
import { LogRefusedError, LogUnavailableError } from "../log.ts";
import { isTooNew } from "../migrations/migration.ts";
import { sqliteMigrations } from "../migrations/sqlite-migrations.ts";

export type SqliteFileOptions = Readonly<{ path: string; cluster: string; lockTimeoutMs: number }>;

/** "CRDA", in the header field by which SQLite identifies the application of a file. */
const applicationId = 0x43524441;
const sqliteBusy = 5;
const sqliteDamaged = 11;
const sqliteFull = 13;
const sqliteNotADatabase = 26;

/** @throws LogUnavailableError, LogRefusedError */
export function openSqliteFile(options: SqliteFileOptions, wallMs: () => number): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    prepareFile(options.path);
    db = new DatabaseSync(options.path, { timeout: options.lockTimeoutMs });
    // The order matters: exclusive before the first access to the WAL, so that no other process can ever map it.
    db.exec("pragma locking_mode = exclusive");
    db.exec("pragma journal_mode = wal");
    db.exec("pragma synchronous = full");
    db.exec("pragma fullfsync = on");
    db.exec("pragma checkpoint_fullfsync = on");
    db.exec("pragma secure_delete = on");
    db.exec("pragma journal_size_limit = 67108864");
    migrate(db, options, wallMs());
    db.exec("pragma wal_checkpoint(truncate)");
    refuseTruncated(db, options.path);
    return db;
  } catch (error) {
    db?.close();
    const problem = explain(error, options.path);
    if (problem instanceof LogRefusedError || problem instanceof LogUnavailableError) throw problem;
    throw new LogUnavailableError(`${options.path} cannot be opened: ${problem.message}`, { cause: error });
  }
}

function prepareFile(path: string): void {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (existsSync(path)) {
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
    return;
  }
  // SQLite gives its WAL the mode of the file itself.
  closeSync(openSync(path, "a", 0o600));
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle); // the file's name must outlive a power cut too
  } finally {
    closeSync(handle);
  }
}

function migrate(db: DatabaseSync, { path, cluster }: SqliteFileOptions, now: number): void {
  db.exec("begin immediate");
  try {
    const empty = number(db, "select count(*) as value from sqlite_schema") === 0;
    if (!empty && number(db, "select application_id as value from pragma_application_id") !== applicationId) {
      throw new LogRefusedError(`${path} is a SQLite database, but not a Cardea log`);
    }
    if (empty) {
      db.exec(`pragma application_id = ${applicationId}`);
      db.exec("create table schema_version (version integer primary key, applied_at integer not null) strict");
    }
    const columns = number(
      db,
      "select count(*) as value from pragma_table_info('schema_version') where name = 'works_with'",
    );
    if (columns === 0) db.exec("alter table schema_version add column works_with integer");
    const version = number(db, "select coalesce(max(version), 0) as value from schema_version");
    const worksWith = number(db, "select coalesce(max(coalesce(works_with, version)), 0) as value from schema_version");
    if (isTooNew({ version, worksWith }, sqliteMigrations.length)) {
      throw new LogRefusedError(
        `${path} has schema version ${version}, and this build knows versions up to ${sqliteMigrations.length}: ` +
          "it was written by a newer build and cannot be opened by an older one",
      );
    }
    for (const [index, step] of sqliteMigrations.entries()) {
      if (index < version) continue;
      db.exec(step.sql);
      db.prepare("insert into schema_version (version, applied_at, works_with) values (?, ?, ?)").run(
        index + 1,
        now,
        step.worksWith,
      );
    }
    db.prepare(
      `insert into log_head (one, cluster, epoch, beat, pos, hash) select 1, ?, 0, 0, 0, ?
       where not exists (select 1 from log_head)`,
    ).run(cluster, Buffer.from(genesis.hash, "hex"));
    const owner = db.prepare("select cluster from log_head").get()?.["cluster"];
    if (owner !== cluster) {
      throw new LogRefusedError(
        `${path} is the log of cluster ${JSON.stringify(owner)}, not of ${JSON.stringify(cluster)}`,
      );
    }
    db.exec("commit");
  } catch (error) {
    if (db.isTransaction) db.exec("rollback");
    throw error;
  }
}

/**
 * Refuses a truncated file. SQLite notices a missing page only when it needs it; by then events would have been read
 * and written around the hole.
 */
function refuseTruncated(db: DatabaseSync, path: string): void {
  const size = number(db, "select page_count * page_size as value from pragma_page_count, pragma_page_size");
  const has = statSync(path).size;
  if (has < size) throw new LogRefusedError(damaged(path, `the file has ${has} of ${size} bytes`));
}

function damaged(path: string, how: string): string {
  return (
    `${path} is damaged (${how}), so it is neither read nor changed. Keep a copy, and replace it with a backup or a restored ` +
    "snapshot (docs/backup.md)"
  );
}

/** The error of SQLite, with the file and what to do. */
export function explain(error: unknown, path: string): Error {
  if (!(error instanceof Error)) return new LogUnavailableError(`${path}: ${String(error)}`);
  const code = "errcode" in error ? Number(error.errcode) & 0xff : undefined;
  switch (code) {
    case undefined: // not SQLite's
      return error;
    case sqliteBusy:
      return new LogUnavailableError(`${path} is in use: another process has it open`, { cause: error });
    case sqliteNotADatabase:
      return new LogRefusedError(`${path} is not a Cardea log`, { cause: error });
    case sqliteDamaged:
      return new LogRefusedError(damaged(path, error.message), { cause: error });
    case sqliteFull:
      return new LogUnavailableError(
        `${path} cannot grow: the disk is full. Free some space; nothing is lost meanwhile`,
        {
          cause: error,
        },
      );
    default:
      return new LogUnavailableError(`${path} cannot be used: ${error.message}`, { cause: error });
  }
}

function number(db: DatabaseSync, sql: string): number {
  return Number(db.prepare(sql).get()?.["value"]);
}
