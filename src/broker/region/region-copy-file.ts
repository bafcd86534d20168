/**
 * Region copy: a region's own copy of the log, on the disk of its broker, in a SQLite file.
 *
 * It holds events as they came, behind a base, and the wrapped keys of the people in them; what it hands out can be checked like
 * any page. It is never the truth: where a page of the home region contradicts it, the page is right and what contradicts it goes.
 * Losing the file costs reading the log again, so it is not forced to the disk with every event.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import {
  decodeEvents,
  genesis,
  type Link,
  linkOf,
  type Position,
  parseEpoch,
  parseHash,
  parsePosition,
  parseUserId,
  type Recorded,
  sameLink,
  type UserId,
  type WrappedKey,
} from "../../events/index.ts";
import type { KeyedPage } from "../../replication/index.ts";
import { peopleIn } from "../ledger/people-in.ts";

/** What is behind a link: a page (empty at the head), or why there is none. */
export type CopyOutcome =
  | Readonly<{ type: "page"; page: KeyedPage }>
  /** The link is beyond this copy. */
  | Readonly<{ type: "ahead" }>
  /** This copy holds another event at the link's place. */
  | Readonly<{ type: "foreign"; link: Link }>
  | Readonly<{ type: "truncated"; first: Position }>;

export type Stretch = Readonly<Pick<KeyedPage, "previous" | "entries" | "last" | "keys">>;

const pageBytesMax = 1_000_000;
const schema = `
  create table if not exists event (position integer primary key, epoch integer not null, hash text not null, bytes blob not null) strict;
  create table if not exists person_key (user_id text primary key, key_id blob not null, wrapped blob not null) strict;
  create table if not exists base (id integer primary key check (id = 1), epoch integer not null, position integer not null, hash text not null) strict;
`;

export class RegionCopy {
  readonly #database: DatabaseSync;
  readonly #event: StatementSync;
  readonly #insert: StatementSync;
  readonly #behind: StatementSync;
  readonly #key: StatementSync;
  readonly #keepKey: StatementSync;
  #base: Link;
  #head: Link;

  /**
   * @param cluster another cluster's file is emptied
   * @param onDamage told in words when the file was damaged, and an empty one stands in its place
   * @throws when the file cannot be opened
   */
  constructor(options: Readonly<{ path: string; cluster: string; onDamage?: (problem: string) => void }>) {
    const { path, cluster, onDamage } = options;
    const database = openOrBeginAnew(path, onDamage ?? (() => {}));
    this.#database = database;
    if (database.prepare("select name from cluster").get()?.["name"] !== cluster) {
      database.exec("delete from event; delete from person_key; delete from base; delete from cluster");
      database.prepare("insert into cluster values (?)").run(cluster);
    }
    this.#event = database.prepare("select epoch, position, hash from event where position = ?");
    this.#insert = database.prepare("insert into event (position, epoch, hash, bytes) values (?, ?, ?, ?)");
    this.#behind = database.prepare(
      "select epoch, position, hash, bytes from event where position > ? order by position limit ?",
    );
    this.#key = database.prepare("select user_id, key_id, wrapped from person_key where user_id = ?");
    this.#keepKey = database.prepare("insert or replace into person_key (user_id, key_id, wrapped) values (?, ?, ?)");
    this.#base = linkIn(database.prepare("select epoch, position, hash from base").get()) ?? genesis;
    const last = database.prepare("select epoch, position, hash from event order by position desc limit 1").get();
    this.#head = linkIn(last) ?? this.#base;
  }

  /** What stands before the first event here. */
  get base(): Link {
    return this.#base;
  }
  get head(): Link {
    return this.#head;
  }

  /** Undefined where this copy holds nothing. */
  linkAt(position: Position): Link | undefined {
    if (position === this.#base.position) return this.#base;
    return position > this.#base.position ? linkIn(this.#event.get(position)) : undefined;
  }

  /**
   * Takes a page of the home region, which is right whatever stands here: one that contradicts it is where the copy begins anew.
   * @returns false for a page that begins beyond what is here: what is between is still wanted by whoever reads here, and must come first
   * @throws MalformedEventError when it does not chain; nothing has changed then
   */
  take(page: Stretch): boolean {
    const { previous } = page;
    const at = this.linkAt(previous.position);
    if (at === undefined || !sameLink(at, previous)) {
      if (this.#head.position > 0 && previous.position > this.#head.position) return false;
      this.beginAt(previous);
    }
    this.#append(page);
    return true;
  }

  /** Takes events that stand right behind the head. @returns whether they do @throws MalformedEventError */
  follow(stretch: Stretch): boolean {
    if (stretch.last.position <= this.#head.position) return true;
    const at = this.linkAt(stretch.previous.position);
    if (at === undefined || !sameLink(at, stretch.previous)) return false;
    this.#append(stretch);
    return true;
  }

  read(after: Link, limit: number): CopyOutcome {
    if (after.position > this.#head.position) {
      // Beyond us, but of an epoch that had ended before: its place was taken by a newer one.
      return after.epoch < this.#head.epoch ? { type: "foreign", link: this.#head } : { type: "ahead" };
    }
    if (after.position < this.#base.position)
      return { type: "truncated", first: parsePosition(this.#base.position + 1) };
    const here = this.linkAt(after.position);
    if (here === undefined || !sameLink(here, after)) return { type: "foreign", link: here ?? this.#head };
    const entries: Uint8Array[] = [];
    let bytes = 0;
    let last = after;
    for (const row of this.#behind.all(after.position, Math.max(1, limit))) {
      const entry = bytesOf(row["bytes"]);
      bytes += entry.length;
      if (bytes > pageBytesMax && entries.length > 0) break;
      entries.push(entry);
      last = linkIn(row) ?? last;
    }
    const keys = peopleIn(entries).flatMap((userId) => keyIn(this.#key.get(userId)) ?? []);
    return { type: "page", page: { previous: after, entries, last, head: this.#head, keys } };
  }

  /** In the order of their user ids. */
  keysAfter(user: UserId | null, limit: number): readonly WrappedKey[] {
    const query = "select user_id, key_id, wrapped from person_key where user_id > ? order by user_id limit ?";
    return this.#database
      .prepare(query)
      .all(user ?? "", limit)
      .flatMap((row) => keyIn(row) ?? []);
  }

  /** Keys of people in a snapshot, whose events are not here. */
  keepKeys(keys: readonly WrappedKey[]): void {
    for (const { userId, keyId, wrapped } of keys) this.#keepKey.run(userId, keyId, wrapped);
  }

  /** Events up to a place are in a snapshot, and nobody here will ask for them. */
  forgetUpTo(link: Link): void {
    if (link.position <= this.#base.position || link.position > this.#head.position) return;
    const here = this.linkAt(link.position);
    if (here === undefined || !sameLink(here, link)) return;
    this.#atOnce(() => {
      this.#database.prepare("delete from event where position <= ?").run(link.position);
      this.#keepBase(link);
    });
  }

  /** Nothing of it is in the log (any more). */
  clear(): void {
    this.beginAt(genesis);
  }

  /** Nothing of it is of use: what comes next stands behind this link. */
  beginAt(link: Link): void {
    this.#atOnce(() => {
      this.#database.exec("delete from event");
      this.#keepBase(link);
      this.#head = link;
    });
  }

  close(): void {
    this.#database.close();
  }

  #append({ previous, entries, keys }: Stretch): void {
    const events = decodeEvents(entries, previous);
    this.#atOnce(() => {
      for (const [index, recorded] of events.entries()) this.#put(recorded, entries[index] ?? new Uint8Array());
      this.keepKeys(keys);
      for (const { event } of events)
        if (event.type === "UserErased")
          this.#database.prepare("delete from person_key where user_id = ?").run(event.userId);
    });
  }

  #put(recorded: Recorded, bytes: Uint8Array): void {
    const link = linkOf(recorded);
    const here = link.position <= this.#head.position ? this.linkAt(link.position) : undefined;
    if (here !== undefined && sameLink(here, link)) return;
    if (here !== undefined) this.#database.prepare("delete from event where position >= ?").run(link.position);
    this.#insert.run(link.position, link.epoch, link.hash, bytes);
    this.#head = link;
  }

  #keepBase({ epoch, position, hash }: Link): void {
    this.#database
      .prepare("insert or replace into base (id, epoch, position, hash) values (1, ?, ?, ?)")
      .run(epoch, position, hash);
    this.#base = { epoch, position, hash };
  }

  /** All of it or, where the disk takes no more, nothing. */
  #atOnce(act: () => void): void {
    const [base, head] = [this.#base, this.#head];
    this.#database.exec("begin");
    try {
      act();
      this.#database.exec("commit");
    } catch (error) {
      [this.#base, this.#head] = [base, head];
      if (this.#database.isTransaction) this.#database.exec("rollback"); // a full disk has done so already
      throw error;
    }
  }
}

function openOrBeginAnew(path: string, onDamage: (problem: string) => void): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return openFile(path);
  } catch (error) {
    if (!(error instanceof Error) || !isDamage(error)) throw error;
    onDamage(
      `${path} is damaged (${error.message}): nothing in it is believed. It is begun anew, and filled from the home region`,
    );
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
    // SQLite notices a missing page when it wants it. While another has the file open, what it lacks may be in the WAL.
    const alone = database.prepare("pragma wal_checkpoint(truncate)").get()?.["busy"] === 0;
    const sizes = "select page_count * page_size as bytes from pragma_page_count, pragma_page_size";
    const [bytes, has] = [Number(database.prepare(sizes).get()?.["bytes"]), statSync(path).size];
    if (alone && has < bytes) throw new CopyTruncatedError(`${has} bytes are there of ${bytes}`);
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
  throw new TypeError("bytes are expected in the region's copy of the log");
}
