/**
 * Region copy file: the store of a region's copy of the log (region-copy.ts), a SQLite file on the disk of its broker.
 *
 * If the file is lost, the broker reads the log again, so SQLite does not sync it to the disk with every event.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Link, parseEpoch, parseHash, parsePosition, parseUserId, type WrappedKey } from "../../events/index.ts";
import { CopyNotWrittenError, type CopyStore, RegionCopy } from "./region-copy.ts";

const schema = `
  create table if not exists event (position integer primary key, epoch integer not null, hash text not null, bytes blob not null) strict;
  create table if not exists person_key (user_id text primary key, key_id blob not null, wrapped blob not null) strict;
  create table if not exists base (id integer primary key check (id = 1), epoch integer not null, position integer not null, hash text not null) strict;
`;

/**
 * Opens the copy that is in a file.
 * @param options.cluster a file of another cluster is emptied
 * @param options.onDamage called with the reason when the file was damaged and an empty one has replaced it
 * @throws when the file cannot be opened
 */
export function openRegionCopy(
  options: Readonly<{ path: string; cluster: string; onDamage?: (problem: string) => void }>,
): RegionCopy {
  const { path, cluster, onDamage } = options;
  const database = openOrBeginAnew(path, onDamage ?? (() => {}));
  if (database.prepare("select name from cluster").get()?.["name"] !== cluster) {
    database.exec("delete from event; delete from person_key; delete from base; delete from cluster");
    database.prepare("insert into cluster values (?)").run(cluster);
  }
  return new RegionCopy(storeOf(database));
}

function storeOf(database: DatabaseSync): CopyStore {
  const eventAt = database.prepare("select epoch, position, hash from event where position = ?");
  const insertEvent = database.prepare("insert into event (position, epoch, hash, bytes) values (?, ?, ?, ?)");
  const eventsBehind = database.prepare(
    "select epoch, position, hash, bytes from event where position > ? order by position limit ?",
  );
  const key = database.prepare("select user_id, key_id, wrapped from person_key where user_id = ?");
  const insertKey = database.prepare("insert or replace into person_key (user_id, key_id, wrapped) values (?, ?, ?)");
  const keysBehind = database.prepare(
    "select user_id, key_id, wrapped from person_key where user_id > ? order by user_id limit ?",
  );
  return {
    base: () => linkIn(database.prepare("select epoch, position, hash from base").get()),
    last: () =>
      linkIn(database.prepare("select epoch, position, hash from event order by position desc limit 1").get()),
    linkAt: (position) => linkIn(eventAt.get(position)),
    *eventsAfter(position, limit) {
      for (const row of eventsBehind.all(position, limit)) {
        const link = linkIn(row);
        if (link !== undefined) yield { link, bytes: bytesOf(row["bytes"]) };
      }
    },
    keyOf: (user) => keyIn(key.get(user)),
    keysAfter: (user, limit) => keysBehind.all(user ?? "", limit).flatMap((row) => keyIn(row) ?? []),
    insert({ epoch, position, hash }, bytes) {
      insertEvent.run(position, epoch, hash, bytes);
    },
    dropFrom(position) {
      database.prepare("delete from event where position >= ?").run(position);
    },
    dropUpTo(position) {
      database.prepare("delete from event where position <= ?").run(position);
    },
    dropAll() {
      database.exec("delete from event");
    },
    keepBase({ epoch, position, hash }) {
      const insert = "insert or replace into base (id, epoch, position, hash) values (1, ?, ?, ?)";
      database.prepare(insert).run(epoch, position, hash);
    },
    keepKey({ userId, keyId, wrapped }) {
      insertKey.run(userId, keyId, wrapped);
    },
    dropKey(user) {
      database.prepare("delete from person_key where user_id = ?").run(user);
    },
    atOnce: (change) => changeAtOnce(database, change),
    close: () => database.close(),
  };
}

function changeAtOnce(database: DatabaseSync, change: () => void): void {
  try {
    database.exec("begin");
    change();
    database.exec("commit");
  } catch (error) {
    if (database.isTransaction) database.exec("rollback"); // SQLite does this itself when the disk is full
    const isFromSqlite = error instanceof Error && "errcode" in error;
    throw isFromSqlite ? new CopyNotWrittenError(error.message, { cause: error }) : error;
  }
}

function openOrBeginAnew(path: string, onDamage: (problem: string) => void): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return openFile(path);
  } catch (error) {
    if (!(error instanceof Error) || !isDamage(error)) throw error;
    onDamage(`${path} is damaged (${error.message}); discarding it and refilling it from the home region`);
    for (const end of ["", "-wal", "-shm", "-journal"]) rmSync(`${path}${end}`, { force: true });
    return openFile(path);
  }
}

function openFile(path: string): DatabaseSync {
  if (existsSync(path)) chmodSync(path, 0o600);
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  try {
    database.exec("pragma journal_mode = wal; pragma synchronous = normal; pragma secure_delete = on");
    database.exec(schema);
    database.exec("create table if not exists cluster (name text primary key) strict");
    // SQLite detects a missing page only when it reads it. While another process has the file open, pages may be in the
    // WAL.
    const alone = database.prepare("pragma wal_checkpoint(truncate)").get()?.["busy"] === 0;
    const sizes = "select page_count * page_size as bytes from pragma_page_count, pragma_page_size";
    const [bytes, has] = [Number(database.prepare(sizes).get()?.["bytes"]), statSync(path).size];
    if (alone && has < bytes) throw new CopyTruncatedError(`the file has ${has} of ${bytes} bytes`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class CopyTruncatedError extends Error {}

/** SQLITE_CORRUPT, SQLITE_NOTADB; @see sqlite.org/rescode.html */
function isDamage(error: Error): boolean {
  if (error instanceof CopyTruncatedError) return true;
  return "errcode" in error && [11, 26].includes(Number(error.errcode) & 0xff);
}

type Row = Readonly<Record<string, unknown>> | undefined;

function linkIn(row: Row): Link | undefined {
  if (row === undefined) return undefined;
  return {
    epoch: parseEpoch(row["epoch"]),
    position: parsePosition(row["position"]),
    hash: parseHash(row["hash"]),
  };
}

function keyIn(row: Row): WrappedKey | undefined {
  if (row === undefined) return undefined;
  return { userId: parseUserId(row["user_id"]), keyId: bytesOf(row["key_id"]), wrapped: bytesOf(row["wrapped"]) };
}

function bytesOf(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError("expected bytes in the region's copy of the log");
}
