/**
 * Postgres connections: a small pool of connections to the primary, each lent to one borrower at a time.
 *
 * Unlike the pool of the driver it knows several hosts and lends only connections verified to lead to a writable
 * primary. It drops a connection as soon as its state is uncertain, so it recovers by itself from a failover or a
 * network cut.
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
    /** Checks the database of a new connection. The borrower receives its error. */
    check: (connection: PostgresConnection) => Promise<void>;
  }>;

/**
 * If finding that no server is reachable took this long, ms, borrowers get that error for the same time instead of each
 * waiting in turn.
 */
const slowFailureMs = 250;
/**
 * Maximum lifetime of a connection, ms. It bounds how long a connection stays with a server that is no longer right.
 */
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
   * Lends a connection. Errors of `work` are rethrown.
   * @throws LogUnavailableError before `work` begins: nothing was sent
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
        throw new LogUnavailableError("too many calls are waiting for Postgres", { cause: error });
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

  /** Connects to a primary with the database of this log. A wrong first server moves to the end of the order. */
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
