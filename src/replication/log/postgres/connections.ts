/**
 * Postgres connections: a few connections to the primary, lent to one borrower at a time.
 *
 * Unlike the driver's pool it knows several hosts, lends out no connection that was not checked to lead to a writable
 * primary, and forgets a connection as soon as anything about it is uncertain, so that it recovers by itself from a
 * failover or a cut.
 */
import { LogUnavailableError } from "../log.ts";
import { NoTurnError, Turns } from "../write-queue.ts";
import { type ConnectOptions, PostgresConnection } from "./connection.ts";
import type { HostOrder } from "./hosts.ts";

export type ConnectionsOptions = Omit<ConnectOptions, "hosts"> &
  Readonly<{
    hosts: HostOrder;
    atOnce: number;
    waitingMax: number;
    /** Checks a new connection's database. Its error is the borrower's. */
    check: (connection: PostgresConnection) => Promise<void>;
  }>;

/**
 * Where it took this long to find out that no server can be reached, borrowers are told so for as long, instead of each
 * waiting in turn.
 */
const slowFailureMs = 250;
/** So that a connection does not stay for ever with a server that has become the wrong one. */
const lifetimeMs = 10 * 60_000;

export class PostgresConnections {
  readonly #options: ConnectionsOptions;
  readonly #turns: Turns;
  readonly #idle: Readonly<{ connection: PostgresConnection; until: number }>[] = [];
  #failure: Readonly<{ error: unknown; until: number }> | undefined;
  #closed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#turns = new Turns(options);
  }

  /**
   * Lends a connection. What `work` throws is passed on.
   * @throws LogUnavailableError before `work` is begun: nothing was sent
   */
  async use<T>(work: (connection: PostgresConnection) => Promise<T>): Promise<T> {
    try {
      return await this.#turns.take(async () => {
        const lent = this.#takeIdle() ?? (await this.#connect());
        try {
          return await work(lent.connection);
        } finally {
          if (this.#closed) void lent.connection.end();
          else if (lent.connection.lost) this.#options.hosts.doubtful(lent.connection.host);
          else this.#idle.push(lent);
        }
      });
    } catch (error) {
      if (error instanceof NoTurnError)
        throw new LogUnavailableError("too many are waiting for Postgres", { cause: error });
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#idle.splice(0).map(({ connection }) => connection.end()));
  }

  #takeIdle(): Readonly<{ connection: PostgresConnection; until: number }> | undefined {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.connection.lost) continue;
      const stillRight = this.#options.hosts.isFirst(idle.connection.host);
      if (!this.#closed && stillRight && idle.until > performance.now()) return idle;
      void idle.connection.end();
    }
    return undefined;
  }

  async #connect(): Promise<Readonly<{ connection: PostgresConnection; until: number }>> {
    if (this.#closed) throw new LogUnavailableError("the log is closed");
    const from = performance.now();
    if (this.#failure !== undefined && from < this.#failure.until) throw this.#failure.error;
    try {
      const connection = await this.#checked();
      this.#failure = undefined;
      this.#options.hosts.right(connection.host);
      return { connection, until: performance.now() + lifetimeMs };
    } catch (error) {
      const now = performance.now();
      if (now - from >= slowFailureMs) this.#failure = { error, until: now + slowFailureMs };
      throw error;
    }
  }

  /** A primary whose database is ours. Whoever is first and is not, is not the last that is asked. */
  async #checked(): Promise<PostgresConnection> {
    const { hosts, check } = this.#options;
    const refused = new Map<string, unknown>();
    for (;;) {
      const left = hosts.hosts.filter((host) => !refused.has(host.name));
      const [problem] = refused.values();
      const connection = await PostgresConnection.toPrimary({ ...this.#options, hosts: left }).catch(
        (error: unknown) => {
          throw problem ?? error;
        },
      );
      try {
        await check(connection);
        return connection;
      } catch (error) {
        connection.destroy();
        hosts.doubtful(connection.host);
        refused.set(connection.host, error);
        if (refused.size >= hosts.hosts.length) throw problem ?? error;
      }
    }
  }
}
