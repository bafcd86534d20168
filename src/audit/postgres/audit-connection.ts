/**
 * Audit connection: one session with the writable primary among the servers of audit records.
 *
 * - A statement that the server refuses leaves the session usable. After anything else (a lost connection, silence, a
 *   warning about a commit that standbys do not have) its outcome is unknown, and the session is closed.
 * - No failure of a session may end the process. Errors hold what the server says, never the address with its password,
 *   and never the content of a row.
 */
import { createRequire } from "node:module";
import type pg from "pg";
import { CodedError } from "../../events/index.ts";
import { type HostOrder, type PostgresHost, postgresDriver } from "../../replication/log/index.ts";

const require = createRequire(import.meta.url);

export class AuditDatabaseError extends CodedError<"ERR_AUDIT_DATABASE"> {
  override readonly code = "ERR_AUDIT_DATABASE";
  /** SQLSTATE, if the server refused a statement; else null, and the outcome is unknown. */
  readonly state: string | null;
  constructor(problem: string, { state = null, ...options }: ErrorOptions & { state?: string | null } = {}) {
    super(`audit records cannot be stored in Postgres: ${problem}`, options);
    this.state = state;
  }
}

export type ConnectionLimits = Readonly<{
  connectMs: number;
  /** Longest time of one statement, by the server. The client waits two seconds longer. */
  statementMs: number;
}>;

const keepAliveAfterMs = 5_000;
const silentClientMs = 10_000;
const lockMs = 5_000;
const graceMs = 2_000;
const oldestVersion = 150_000;

/** `write`: only a writable primary; `read`: a standby serves too. */
type Access = "write" | "read";

export class AuditConnection {
  readonly host: string;
  readonly #client: pg.Client;
  readonly #limits: ConnectionLimits;
  #lost = false;
  #warning: string | null = null;

  private constructor(host: string, client: pg.Client, limits: ConnectionLimits) {
    this.host = host;
    this.#client = client;
    this.#limits = limits;
    client.on("error", () => this.destroy()); // the running or the next statement reports it
    client.on("end", () => {
      this.#lost = true;
    });
    client.on("notice", ({ message }) => {
      this.#warning = message ?? "a warning";
    });
  }

  get lost(): boolean {
    return this.#lost;
  }

  /** Connects to the first server that fits. @throws AuditDatabaseError naming each server and its problem */
  static async open(
    hosts: HostOrder,
    options: Readonly<{ name: string; access: Access; limits: ConnectionLimits }>,
  ): Promise<AuditConnection> {
    const problems: string[] = [];
    for (const host of hosts.hosts) {
      try {
        const connection = await AuditConnection.#to(host, options);
        hosts.right(host.name);
        return connection;
      } catch (error) {
        problems.push(`${host.name}: ${messageOf(error)}`);
      }
    }
    throw new AuditDatabaseError(problems.join("; "));
  }

  static async #to(
    host: PostgresHost,
    options: Readonly<{ name: string; access: Access; limits: ConnectionLimits }>,
  ): Promise<AuditConnection> {
    const { name, access, limits } = options;
    const client = new (postgresDriver().Client)({
      connectionString: host.connectionString,
      application_name: name,
      keepAlive: true,
      keepAliveInitialDelayMillis: keepAliveAfterMs,
      connectionTimeoutMillis: limits.connectMs,
    });
    const connection = new AuditConnection(host.name, client, limits);
    try {
      await client.connect();
      const [server = {}] = await connection.query(preamble, sessionSettings(limits));
      const problem = unfitness(server, access);
      if (problem !== null) throw new Error(problem);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  query(text: string, values: readonly unknown[] = []): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#run(async () => (await this.#client.query({ text, values: [...values] })).rows);
  }

  /** @param statement `copy … from stdin` @param bytes in the form that the statement names */
  copy(statement: string, bytes: Uint8Array): Promise<void> {
    return this.#run(() => {
      const { from } = require("pg-copy-streams") as typeof import("pg-copy-streams");
      const copying = from(statement);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      copying.once("finish", resolve);
      copying.on("error", reject);
      this.#client.query(copying);
      copying.end(bytes);
      return promise;
    });
  }

  async #run<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#warning = null;
    let timer: NodeJS.Timeout | undefined;
    const limitMs = this.#limits.statementMs + graceMs;
    try {
      if (this.#lost) throw new Error("the connection is lost");
      const answer = work();
      answer.catch(() => undefined); // it also fails later, when the connection is closed
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`the server did not answer within ${limitMs} ms`)), limitMs);
      });
      const ended = Promise.withResolvers<never>();
      const onEnd = (): void => ended.reject(new Error("the connection was closed"));
      this.#client.once("end", onEnd);
      ended.promise.catch(() => undefined);
      try {
        const result = await Promise.race([answer, silence, ended.promise]);
        if (this.#warning !== null) throw new Error(`the server warned: ${this.#warning}`);
        return result;
      } finally {
        this.#client.removeListener("end", onEnd);
      }
    } catch (cause) {
      const state = stateOf(cause);
      // A server that became a standby, or is shutting down, is of no more use.
      if (state === null || state === "25006" || /^(08|57|58|XX)/.test(state)) this.destroy();
      throw new AuditDatabaseError(`${this.host}: ${messageOf(cause)}`, { cause, state });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Closes the connection at once, whatever it is doing. */
  destroy(): void {
    this.#lost = true;
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }

  /** Closes the connection in the regular way, within a second. */
  async end(): Promise<void> {
    this.#lost = true;
    const timer = setTimeout(() => this.destroy(), 1_000);
    await this.#client.end().catch(() => undefined);
    clearTimeout(timer);
  }
}

export function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}

/** SQLSTATE of an error that the server reported; null: of another error. */
function stateOf(error: unknown): string | null {
  return error instanceof postgresDriver().DatabaseError ? (error.code ?? null) : null;
}

// A record is accepted once it would survive a crash: synchronous_commit is never off.
const preamble = `
select
  set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
  set_config('idle_in_transaction_session_timeout', $3, false),
  set_config('tcp_user_timeout', $4, false), set_config('tcp_keepalives_idle', $5, false),
  set_config('client_min_messages', 'warning', false), set_config('search_path', 'pg_catalog', false),
  set_config('default_transaction_isolation', 'read committed', false),
  set_config('timezone', 'UTC', false), set_config('datestyle', 'ISO', false),
  set_config('synchronous_commit',
    case current_setting('synchronous_commit') when 'off' then 'on' else current_setting('synchronous_commit') end, false),
  pg_is_in_recovery() as recovery, current_setting('transaction_read_only') as read_only,
  current_setting('server_encoding') as encoding, current_setting('server_version_num')::integer as version`;

function sessionSettings({ statementMs }: ConnectionLimits): string[] {
  const idleMs = statementMs + graceMs;
  return [statementMs, Math.min(lockMs, statementMs), idleMs, silentClientMs, keepAliveAfterMs / 1_000].map(String);
}

function unfitness(server: Readonly<Record<string, unknown>>, access: Access): string | null {
  if (access === "write" && server["recovery"] === true) return "a standby";
  if (access === "write" && server["read_only"] !== "off") return "read-only";
  if (Number(server["version"]) < oldestVersion) return "older than PostgreSQL 15";
  if (server["encoding"] !== "UTF8") return `the database has the encoding ${server["encoding"]}; create one with UTF8`;
  return null;
}
