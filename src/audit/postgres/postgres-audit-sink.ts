/**
 * Postgres audit sink: copies audit records into a table with one partition per day (UTC).
 *
 * - A batch is one COPY, so one transaction. A batch of which the server has a part, because an answer was lost, is
 *   completed without duplicates: a unique index refuses the copy, and only what is missing is copied again.
 * - Partitions are made two days ahead, and when a late record needs one. Whole partitions are dropped after the
 *   retention. Both every ten minutes, in the same session as the batches.
 * - What the server refuses for its content is rejected. Every other failure is for the caller to try again.
 */

import { hash } from "node:crypto";
import { HostOrder, type PostgresHost, parsePostgresHosts } from "../../replication/log/index.ts";
import { AuditRejectedError, type AuditSink } from "../audit-sink.ts";
import type { AuditBatch } from "../spool/index.ts";
import { AuditConnection, AuditDatabaseError, type ConnectionLimits, messageOf } from "./audit-connection.ts";
import { quoteName } from "./audit-schema.ts";
import { columns, dateOf, dayOf, encodeRows, type Row, rowsOf } from "./copy-rows.ts";
import { type AuditStore, openStore } from "./migrate.ts";

export type PostgresSinkOptions = AuditStore &
  Readonly<{
    /** URL or settings of one or more servers, of which one is the writable primary. */
    connectionString: string;
    /** Names the sessions at the server. */
    node: string;
    /** What does not stop the sink: partitions that could not be made or dropped, and a retention that differs. */
    onTrouble: (problem: string, error: unknown) => void;
    limits?: Partial<ConnectionLimits>;
    maintainEveryMs?: number;
  }>;

const limitsDefault: ConnectionLimits = { connectMs: 5_000, statementMs: 30_000 };
const maintainEveryMsDefault = 600_000;
/** Partitions that exist ahead of their day, so that midnight needs nothing. */
const daysAhead = 2;
/** Days whose partition is known to exist or not; beyond that they are looked up again. */
const knownDaysMax = 512;
const copyAttempts = 3;

const uniqueViolation = "23505";
/** No partition for the row, or another rule of the table. */
const checkViolation = "23514";
/**
 * What a value itself causes: a character that cannot be stored, a time out of range, an index entry that is too long.
 * Not a row that does not fit the table (22P03, 22P04): then no record would be stored.
 */
const refusedValue = /^(22(?!P03|P04)...|54000)$/;

export function createPostgresAuditSink(options: PostgresSinkOptions): AuditSink {
  return new PostgresAuditSink(options);
}

type Session = Readonly<{
  connection: AuditConnection;
  keepDays: number;
  /** The server's clock minus the monotonic clock, ms. */
  clockMs: number;
}>;

class PostgresAuditSink implements AuditSink {
  readonly name: string;
  readonly #options: PostgresSinkOptions;
  readonly #hosts: HostOrder;
  readonly #limits: ConnectionLimits;
  readonly #table: string;
  readonly #schema: string;
  #session: Session | null = null;
  /** Whether the day has a partition of its own. */
  readonly #days = new Map<number, boolean>();
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;
  readonly #timer: NodeJS.Timeout;

  constructor(options: PostgresSinkOptions) {
    const { schema, connectionString, maintainEveryMs = maintainEveryMsDefault } = options;
    this.#options = options;
    this.#hosts = new HostOrder(parseHosts(connectionString));
    this.#limits = { ...limitsDefault, ...options.limits };
    this.#schema = quoteName(schema);
    this.#table = `${this.#schema}.records`;
    this.name = `postgres ${databaseIn(this.#hosts)} ${schema}`;
    const maintain = (): void => {
      this.#inTurn(() => this.#maintain()).catch((error: unknown) =>
        this.#trouble("cannot keep its partitions", error),
      );
    };
    this.#timer = setInterval(maintain, maintainEveryMs);
    this.#timer.unref();
    maintain();
  }

  write(batch: AuditBatch): Promise<void> {
    return this.#inTurn(() => this.#write(batch));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    const idle = this.#turn.catch(() => undefined);
    const timeUp = Promise.withResolvers<void>();
    const timer = setTimeout(timeUp.resolve, 1_000);
    await Promise.race([idle, timeUp.promise]);
    clearTimeout(timer);
    const session = this.#session;
    this.#session = null;
    await session?.connection.end();
  }

  /** One use of the session after the other. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #write(batch: AuditBatch): Promise<void> {
    const rows = rowsOf(batch);
    if (rows === null) throw new AuditRejectedError(this.name, "it is not text in UTF-8 without zero bytes");
    if (rows.length === 0) return;
    const session = await this.#connected();
    // The end of a killed boot may be declared again with other bytes, on another day.
    const isGap = rows[0]?.record?.kind === "gap";
    let missing = isGap ? await this.#missing(session, batch, rows) : rows;
    for (let attempt = 1; ; attempt++) {
      try {
        if (missing.length === 0) return await this.#awaitStandbys(session);
        await this.#ensureDays(session, missing);
        return await this.#copy(session, batch, missing);
      } catch (error) {
        const state = error instanceof AuditDatabaseError ? error.state : null;
        if (state !== null && refusedValue.test(state)) throw this.#rejectionOf(error);
        const mayRetry = attempt < copyAttempts && !session.connection.lost;
        if (state === checkViolation && mayRetry)
          this.#days.clear(); // the partition was there, and is gone
        else if (state === uniqueViolation && mayRetry) missing = await this.#missing(session, batch, rows);
        else throw error;
      }
    }
  }

  #rejectionOf(cause: unknown): AuditRejectedError {
    return new AuditRejectedError(this.name, messageOf(cause), { cause });
  }

  async #copy({ connection }: Session, { boot }: AuditBatch, rows: readonly Row[]): Promise<void> {
    const storedDay = ({ atMs }: Row): number => {
      const day = atMs === null ? 0 : dayOf(atMs);
      return this.#days.get(day) === true ? day : 0;
    };
    const bytes = encodeRows(rows, { boot, storedDay });
    await connection.copy(`copy ${this.#table} (${columns.join(", ")}) from stdin with (format binary)`, bytes);
  }

  /**
   * The rows that the server does not have. A gap is superfluous if it has the gap's last number, be it of a record:
   * records come in order.
   * @throws AuditRejectedError if it has another record under an id: a forged row must not hide this one
   */
  async #missing({ connection }: Session, { boot }: AuditBatch, rows: readonly Row[]): Promise<readonly Row[]> {
    const numbers = rows.map(({ seq }) => seq);
    const stored = await connection.query(
      `select node, seq, kind = 'gap' as gap, encode(sha256(convert_to(line, 'UTF8')), 'hex') as digest
        from ${this.#table} where boot = $1 and seq between $2 and $3`,
      [boot, Math.min(...numbers), Math.max(...numbers)],
    );
    const known = new Set(stored.map(({ node, seq }) => `${seq} ${node}`));
    const records = stored.filter(({ gap }) => gap !== true);
    const digests = new Map(records.map(({ node, seq, digest }) => [`${seq} ${node}`, digest]));
    return rows.filter(({ node, seq, line, record }) => {
      if (record?.kind === "gap") return !known.has(`${seq} ${node}`);
      const digest = digests.get(`${seq} ${node}`);
      if (digest !== undefined && digest !== hash("sha256", line, "hex"))
        throw new AuditRejectedError(this.name, `the table has another record under the id ${boot}:${seq}`);
      return digest === undefined;
    });
  }

  /**
   * What an earlier attempt stored may not have reached the disk and the standbys yet. A commit that writes something
   * waits for everything before it.
   */
  async #awaitStandbys({ connection }: Session): Promise<void> {
    await connection.query("select pg_logical_emit_message(true, 'cardea', '')");
  }

  async #connected(): Promise<Session> {
    if (this.#closed) throw new AuditDatabaseError("the sink is closed");
    if (this.#session?.connection.lost === false) return this.#session;
    if (this.#session !== null) this.#hosts.doubtful(this.#session.connection.host);
    this.#session = null;
    this.#days.clear();
    const name = `cardea audit ${this.#options.node}`;
    const connection = await AuditConnection.open(this.#hosts, { name, access: "write", limits: this.#limits });
    try {
      const { keepDays, retentionDiffers } = await openStore(connection, this.#options);
      if (retentionDiffers)
        this.#trouble("has another retention than the configuration, and its role may not change it", null);
      const session = { connection, keepDays, clockMs: await clockOf(connection) };
      if (this.#closed) throw new AuditDatabaseError("the sink is closed");
      this.#session = session;
      await this.#makeDays(session, daysFrom(today(session)));
      return session;
    } catch (error) {
      this.#session = null;
      connection.destroy();
      throw error;
    }
  }

  async #ensureDays(session: Session, rows: readonly Row[]): Promise<void> {
    const days = new Set(rows.flatMap(({ atMs }) => (atMs === null ? [] : [dayOf(atMs)])));
    const unknown = [...days].filter((day) => !this.#days.has(day));
    if (unknown.length > 0) await this.#makeDays(session, unknown);
  }

  /** Days beyond the retention or far ahead get no partition: their records go to `records_other`. */
  async #makeDays(session: Session, days: readonly number[]): Promise<void> {
    if (this.#days.size + days.length > knownDaysMax) this.#days.clear();
    const now = today(session);
    const plausible = days.filter((day) => day >= now - session.keepDays && day <= now + daysAhead);
    const made = await session.connection.query(
      `select to_char(one, 'YYYY-MM-DD') as day from ${this.#schema}.ensure_days($1::date[]) as one`,
      [plausible.map(dateOf)],
    );
    const open = new Set(made.map(({ day }) => day));
    for (const day of days) this.#days.set(day, open.has(dateOf(day)));
  }

  async #maintain(): Promise<void> {
    if (this.#closed) return;
    const connected = await this.#connected();
    const { connection } = connected;
    const session = { ...connected, clockMs: await clockOf(connection) };
    this.#session = session;
    this.#days.clear();
    await this.#makeDays(session, daysFrom(today(session)));
    await connection.query(`select ${this.#schema}.drop_expired($1::timestamptz)`, [new Date().toISOString()]);
  }

  #trouble(problem: string, error: unknown): void {
    if (!this.#closed) this.#options.onTrouble(problem, error);
  }
}

/** @throws AuditDatabaseError */
function parseHosts(connectionString: string): readonly PostgresHost[] {
  try {
    return parsePostgresHosts(connectionString);
  } catch (cause) {
    throw new AuditDatabaseError(`audit.sinks: ${messageOf(cause)}`, { cause });
  }
}

const daysFrom = (first: number): readonly number[] => Array.from({ length: daysAhead + 1 }, (_, i) => first + i);

function today({ clockMs }: Session): number {
  return dayOf(performance.now() + clockMs);
}

/** The server's clock decides which day is today: nodes may disagree. */
async function clockOf(connection: AuditConnection): Promise<number> {
  const [row] = await connection.query("select extract(epoch from clock_timestamp()) * 1000 as ms");
  return Number(row?.["ms"]) - performance.now();
}

/** The name of the database, which may be repeated, unlike the address, which changes with each failover server. */
function databaseIn(hosts: HostOrder): string {
  const url = hosts.hosts[0]?.connectionString ?? "";
  return decodeURIComponent(/^[a-z]+:\/\/[^/?#]*\/([^?#]*)/.exec(url)?.[1] ?? "");
}
