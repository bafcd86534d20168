/**
 * Postgres link: a simulated broker's client of the Postgres model. It finds a writable primary and sends it
 * statements.
 *
 * It mirrors postgres/connections.ts, postgres/connection.ts and write-queue.ts: the same host order, the same
 * timeouts, the same three outcomes.
 *
 * - clean: a result without a warning
 * - refused: an error raised before the commit
 * - indeterminate: a warning, silence or a broken connection; the link closes the connection
 */
import { LogUnavailableError } from "../../src/replication/log/log.ts";
import type { HostOrder } from "../../src/replication/log/postgres/hosts.ts";
import type { Connection } from "./connection.ts";
import type { PostgresModel } from "./postgres-model.ts";
import { type ServerResponse, Session } from "./postgres-session.ts";
import type { SimProcess } from "./process.ts";

export type Sent<T> =
  | Readonly<{ type: "clean"; value: T }>
  | Readonly<{ type: "refused"; message: string; refusal: object | undefined }>
  | Readonly<{ type: "indeterminate"; cause: Error }>;

/** Both sides of one statement: the server runs it with the session and answers through `reply`. */
export type Statement<T> = (session: Session, reply: (response: ServerResponse<T>) => void) => void;

export type LinkTerms = Readonly<{
  connectTimeoutMs: number;
  /** Maximum number of concurrent statements, each on its own connection. */
  atOnce: number;
  waitingMax: number;
}>;

const slowFailureMs = 250;
const lifetimeMs = 10 * 60_000;

/** One connection to a server that reported itself as a writable primary. */
export class Lent {
  readonly host: string;
  lost = false;
  readonly until: number;
  readonly #process: SimProcess;
  readonly #connection: Connection;
  readonly #session: Session;
  #pending: ((cause: Error) => void) | undefined;

  constructor(
    process: SimProcess,
    to: Readonly<{ host: string; connection: Connection; session: Session; until: number }>,
  ) {
    this.#process = process;
    this.host = to.host;
    this.until = to.until;
    this.#connection = to.connection;
    this.#session = to.session;
    to.connection.onClosed("client", () => this.#end(new Error("Connection terminated unexpectedly")));
  }

  /** Sends one statement. The caller waits for the answer before the next call. */
  ask<T>(statement: Statement<T>, timeoutMs: number, answered: (sent: Sent<T>) => void): void {
    if (this.lost) {
      answered({ type: "indeterminate", cause: new Error("the connection is closed") });
      return;
    }
    let open = true;
    const settle = (sent: Sent<T>): void => {
      if (!open) return;
      open = false;
      timer.cancel();
      this.#pending = undefined;
      if (sent.type === "indeterminate") this.destroy();
      answered(sent);
    };
    const timer = this.#process.after(timeoutMs, () =>
      settle({ type: "indeterminate", cause: new Error(`the server did not answer within ${timeoutMs} ms`) }),
    );
    this.#pending = (cause) => settle({ type: "indeterminate", cause });
    const session = this.#session;
    const connection = this.#connection;
    connection.send("client", () =>
      statement(session, (response) => connection.send("server", () => settle(sentOf(response)))),
    );
  }

  destroy(): void {
    this.lost = true;
    this.#connection.close("client");
  }

  #end(cause: Error): void {
    this.lost = true;
    this.#pending?.(cause);
  }
}

function sentOf<T>(response: ServerResponse<T>): Sent<T> {
  if (response.type === "rows") return { type: "clean", value: response.value };
  if (response.type === "error") return { type: "refused", message: response.message, refusal: response.refusal };
  return { type: "indeterminate", cause: new Error(`the server warned: ${response.message}`) };
}

type Work = Readonly<{
  run: (lent: Lent, release: () => void) => void;
  /** Called if no connection is available; nothing was sent. */
  unavailable: (error: LogUnavailableError) => void;
}>;

/** A small connection pool. It lends each connection to one borrower at a time. */
export class Lender {
  readonly #process: SimProcess;
  readonly #model: PostgresModel;
  readonly #hosts: HostOrder;
  readonly #terms: LinkTerms;
  readonly #idle: Lent[] = [];
  readonly #waiting: Work[] = [];
  #free: number;
  #failure: Readonly<{ error: LogUnavailableError; until: number }> | undefined;
  #closed = false;

  constructor(process: SimProcess, model: PostgresModel, hosts: HostOrder, terms: LinkTerms) {
    this.#process = process;
    this.#model = model;
    this.#hosts = hosts;
    this.#terms = terms;
    this.#free = terms.atOnce;
  }

  use(work: Work): void {
    if (this.#free > 0) {
      this.#free -= 1;
      this.#begin(work);
    } else if (this.#waiting.length >= this.#terms.waitingMax) {
      work.unavailable(new LogUnavailableError("too many calls are waiting for Postgres"));
    } else this.#waiting.push(work);
  }

  close(): void {
    this.#closed = true;
    for (const lent of this.#idle.splice(0)) lent.destroy();
  }

  #begin(work: Work): void {
    const idle = this.#takeIdle();
    if (idle !== undefined) {
      this.#lend(idle, work);
      return;
    }
    this.#connect(
      (lent) => this.#lend(lent, work),
      (error) => {
        work.unavailable(error);
        this.#turn();
      },
    );
  }

  #lend(lent: Lent, work: Work): void {
    let released = false;
    work.run(lent, () => {
      if (released) return;
      released = true;
      if (this.#closed) lent.destroy();
      else if (lent.lost) this.#hosts.doubtful(lent.host);
      else this.#idle.push(lent);
      this.#turn();
    });
  }

  #turn(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else this.#process.run(() => this.#begin(next), "later");
  }

  #takeIdle(): Lent | undefined {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.lost) continue;
      const now = this.#process.clock.monotonic();
      if (!this.#closed && this.#hosts.isFirst(idle.host) && idle.until > now) return idle;
      idle.destroy();
    }
    return undefined;
  }

  #connect(connected: (lent: Lent) => void, failed: (error: LogUnavailableError) => void): void {
    if (this.#closed) {
      failed(new LogUnavailableError("the log is closed"));
      return;
    }
    const from = this.#process.clock.monotonic();
    if (this.#failure !== undefined && from < this.#failure.until) {
      failed(this.#failure.error);
      return;
    }
    const hosts = this.#hosts.hosts;
    const problems: string[] = [];
    const next = (i: number): void => {
      const host = hosts[i];
      if (host !== undefined) {
        this.#tryHost(host.name, {
          found: (lent) => {
            this.#failure = undefined;
            this.#hosts.right(lent.host);
            connected(lent);
          },
          unfit: (problem) => {
            problems.push(`${host.name}: ${problem}`);
            next(i + 1);
          },
        });
        return;
      }
      const error = new LogUnavailableError(`no Postgres server accepts writes (${problems.join("; ")})`);
      const now = this.#process.clock.monotonic();
      if (now - from >= slowFailureMs) this.#failure = { error, until: now + slowFailureMs };
      failed(error);
    };
    next(0);
  }

  #tryHost(host: string, then: Readonly<{ found: (lent: Lent) => void; unfit: (problem: string) => void }>): void {
    const { connectTimeoutMs } = this.#terms;
    const server = this.#model.server(host);
    this.#model.network.connect(this.#process, server.process, {
      timeoutMs: connectTimeoutMs,
      failed: then.unfit,
      opened: (connection) => {
        const session = new Session(server, connection);
        const until = this.#process.clock.monotonic() + lifetimeMs;
        const lent = new Lent(this.#process, { host, connection, session, until });
        // Two queries: the first applies the session's settings and reads the server's role, the second checks its
        // database.
        lent.ask<string>(
          (at, reply) => at.introduce(reply),
          connectTimeoutMs,
          (sent) => {
            const problem =
              sent.type === "clean" ? sent.value : sent.type === "refused" ? sent.message : sent.cause.message;
            if (problem !== "a primary") {
              lent.destroy();
              then.unfit(problem);
              return;
            }
            lent.ask(
              (at, reply) => at.query(() => undefined, reply),
              connectTimeoutMs,
              (checked) => {
                if (checked.type === "clean") return then.found(lent);
                lent.destroy();
                then.unfit(checked.type === "refused" ? checked.message : checked.cause.message);
              },
            );
          },
        );
      },
    });
  }
}
