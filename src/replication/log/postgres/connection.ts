/**
 * Postgres connection: finds the writable primary among several hosts, and sends it one statement at a time with a
 * definite outcome.
 *
 * What the driver reports and what it means (docs/protocol.md §3.2):
 *   - a result, and no warning since the statement began: clean;
 *   - an error that the server raised before it committed: refused, certainly nothing was written;
 *   - anything else (a warning, by which the server reports a cancelled wait for a standby; a lost connection;
 *     silence): indeterminate. The connection is then destroyed.
 *
 * No failure of a connection may end the process.
 */
import type pg from "pg";
import { LogUnavailableError } from "../log.ts";
import { postgresDriver } from "./driver.ts";
import type { PostgresHost } from "./hosts.ts";

/** Structured logging in the form of pino. Never receives a connection string. */
export type LogSink = Readonly<{
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
}>;

export type ConnectOptions = Readonly<{
  hosts: readonly PostgresHost[];
  connectTimeoutMs: number;
  statementTimeoutMs: number;
  /** Whether to accept a session whose commits do not wait for standbys or for the disk. */
  asynchronousCommit: "refuse" | "accept";
  /** `accept`: a standby or a read-only server serves too, for readers. Default: `refuse`. */
  standby?: "refuse" | "accept";
  logger: LogSink | undefined;
}>;

export type Answered = Readonly<{ type: "clean"; rows: readonly PostgresRow[] }>;
export type Sent =
  | Answered
  | Readonly<{ type: "refused"; error: pg.DatabaseError }>
  | Readonly<{ type: "indeterminate"; cause: unknown }>;
export type PostgresRow = Readonly<Record<string, unknown>>;
export type Statement = Readonly<{ text: string; values?: readonly unknown[]; name?: string }>;

const keepAliveAfterMs = 5_000;
/** The server drops a client that has not acknowledged a packet for this long, ms, and releases its locks. */
const silentClientMs = 10_000;
/**
 * Longest idle time inside a transaction, ms. A transaction takes a few round trips. One that idles longer belongs to a
 * stopped process and holds the head row.
 */
const idleInTransactionMs = 1_000;

/**
 * SQLSTATE classes of errors that the server raises while a statement runs, before it commits. Omitted are classes that
 * may also be raised later or elsewhere: 08 connection, 57 operator intervention, 58 and XX failures of the server
 * itself.
 */
const rolledBack = /^(0A|21|22|23|25|28|2B|2D|34|3B|3D|3F|40|42|44|53|54|55|BL|P0)/;

const readOnlyTransaction = "25006";

export class PostgresConnection {
  readonly host: string;
  readonly #client: pg.Client;
  #lost = false;

  private constructor(host: string, client: pg.Client) {
    this.host = host;
    this.#client = client;
    client.on("error", () => this.destroy()); // the running or the next statement reports it
    client.on("end", () => {
      this.#lost = true;
    });
  }

  get lost(): boolean {
    return this.#lost;
  }

  /**
   * Connects to the first host that is a writable primary, or that may serve readers (`standby`).
   * @throws LogUnavailableError naming each host and its problem
   */
  static async toPrimary(options: ConnectOptions): Promise<PostgresConnection> {
    const problems: string[] = [];
    for (const host of options.hosts) {
      const found = await PostgresConnection.#toHost(host, options);
      if (found instanceof PostgresConnection) return found;
      problems.push(`${host.name}: ${found}`);
    }
    throw new LogUnavailableError(`no Postgres server accepts writes (${problems.join("; ")})`);
  }

  /** Connects to any server, to query it without trusting its answers. @throws the errors of the driver */
  static async toAny(
    host: PostgresHost,
    options: Pick<ConnectOptions, "connectTimeoutMs">,
  ): Promise<PostgresConnection> {
    const client = new (postgresDriver().Client)({
      connectionString: host.connectionString,
      application_name: "cardea",
      keepAlive: true,
      keepAliveInitialDelayMillis: keepAliveAfterMs,
      connectionTimeoutMillis: options.connectTimeoutMs,
    });
    const connection = new PostgresConnection(host.name, client);
    try {
      await client.connect();
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  static async #toHost(host: PostgresHost, options: ConnectOptions): Promise<PostgresConnection | string> {
    let connection: PostgresConnection | undefined;
    try {
      connection = await PostgresConnection.toAny(host, options);
      const sent = await connection.ask({ text: preamble, values: sessionSettings(options) }, options.connectTimeoutMs);
      const problem = sent.type === "clean" ? unfitness(sent.rows[0] ?? {}, options) : messageOf(causeOf(sent));
      if (problem === undefined) {
        warnOfWeakness(host.name, sent.type === "clean" ? (sent.rows[0] ?? {}) : {}, options.logger);
        return connection;
      }
      connection.destroy();
      return problem;
    } catch (error) {
      connection?.destroy();
      return messageOf(error);
    }
  }

  /** Sends one statement, and destroys the connection unless the outcome is certain. Never throws. */
  async ask(statement: Statement, timeoutMs: number): Promise<Sent> {
    const warnings: string[] = [];
    // The server sends no message below a warning (client_min_messages), and names severities in its own language.
    const notice = ({ message }: Readonly<{ message: string | undefined }>): void => {
      warnings.push(message ?? "");
    };
    this.#client.on("notice", notice);
    try {
      const result = await withinMs(
        timeoutMs,
        this.#client.query({ ...statement, values: [...(statement.values ?? [])] }),
      );
      if (warnings.length === 0) return { type: "clean", rows: result.rows };
      this.destroy();
      return { type: "indeterminate", cause: new Error(`the server warned: ${warnings.join("; ")}`) };
    } catch (error) {
      if (warnings.length === 0 && isRolledBack(error)) {
        if (error.code === readOnlyTransaction) this.destroy(); // demoted: the next connection finds the new primary
        return { type: "refused", error };
      }
      this.destroy();
      return { type: "indeterminate", cause: error };
    } finally {
      this.#client.removeListener("notice", notice);
    }
  }

  /** Closes the connection at once, whatever it is doing: an abandoned client still holds the unanswered statement. */
  destroy(): void {
    this.#lost = true;
    this.#client.end().catch(() => {});
    this.#client.connection.stream.destroy();
  }

  /** Closes the connection in the regular way. */
  async end(): Promise<void> {
    this.#lost = true;
    await withinMs(1_000, this.#client.end()).catch(() => this.destroy());
  }
}

function isRolledBack(error: unknown): error is pg.DatabaseError {
  return error instanceof postgresDriver().DatabaseError && rolledBack.test(error.code ?? "");
}

export function causeOf(sent: Exclude<Sent, Answered>): unknown {
  return sent.type === "refused" ? sent.error : sent.cause;
}

export function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : "unknown";
}

async function withinMs<T>(ms: number, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the server did not answer within ${ms} ms`)), ms);
  });
  answer.catch(() => {}); // it also fails later, when the connection is destroyed
  try {
    return await Promise.race([answer, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** Sets the session settings and queries the state of the server, in one round trip. */
const preamble = `
select
  set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
  set_config('idle_in_transaction_session_timeout', $3, false),
  set_config('tcp_user_timeout', $4, false), set_config('tcp_keepalives_idle', $5, false),
  set_config('client_min_messages', 'warning', false), set_config('search_path', 'pg_catalog', false),
  set_config('default_transaction_isolation', 'read committed', false),
  -- each lookup of a few hundred keys goes by the index, whatever the planner's statistics say of a table that has just grown
  set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
  set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false),
  pg_is_in_recovery() as recovery,
  current_setting('transaction_read_only') as read_only,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('synchronous_standby_names') as standbys,
  pg_has_role('pg_read_all_stats', 'usage') as sees_standbys,
  current_setting('fsync') as fsync,
  current_setting('full_page_writes') as full_page_writes,
  current_setting('server_version_num')::integer as version`;

const oldestVersion = 150_000;

function sessionSettings({ statementTimeoutMs }: ConnectOptions): string[] {
  // A wait for the head row ends before the statement times out, so that the outcome is a certain refusal.
  const lockTimeoutMs = Math.max(1, Math.floor(statementTimeoutMs * 0.6));
  return [
    statementTimeoutMs,
    lockTimeoutMs,
    idleInTransactionMs,
    silentClientMs,
    Math.ceil(keepAliveAfterMs / 1_000),
  ].map(String);
}

function unfitness(server: PostgresRow, { asynchronousCommit, standby }: ConnectOptions): string | undefined {
  if (standby !== "accept" && server["recovery"] === true) return "a standby";
  if (standby !== "accept" && server["read_only"] !== "off") return "read-only";
  if (Number(server["version"]) < oldestVersion) return "older than PostgreSQL 15";
  const commit = String(server["synchronous_commit"]);
  if (asynchronousCommit === "refuse" && commit !== "on" && commit !== "remote_apply") {
    return `synchronous_commit is ${commit}: acknowledged events may be lost; set it to on`;
  }
  return undefined;
}

function warnOfWeakness(host: string, server: PostgresRow, logger: LogSink | undefined): void {
  if (server["fsync"] !== "on" || server["full_page_writes"] !== "on") {
    logger?.warn({ host }, "Postgres runs with fsync or full_page_writes off: a power cut may lose or corrupt the log");
  }
  if (server["standbys"] === "") {
    logger?.info({ host }, "Postgres has no synchronous standby: a failover may lose acknowledged events");
  } else if (server["sees_standbys"] !== true) {
    logger?.warn(
      { host },
      "the role may not see the progress of the standbys, so no receipt will say synchronous; grant pg_read_all_stats to it",
    );
  }
}
