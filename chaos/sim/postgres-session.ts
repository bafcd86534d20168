/**
 * Postgres session: the server's side of one connection.
 *
 * - It answers one statement at a time.
 * - It ends a transaction that is idle too long or whose client hangs up, so that none holds the head row forever.
 * - A running statement completes even if its client goes. Only a transaction that waits for its next statement is
 *   rolled back.
 */
import type { Link } from "../../src/events/index.ts";
import type { StoreRun } from "../../src/replication/log/continuity.ts";
import type { ReplicationLook } from "../../src/replication/log/durability.ts";
import type { Connection } from "./connection.ts";
import type { SimFactOf } from "./facts.ts";
import type { PostgresServer } from "./postgres-server.ts";
import type { PostgresState, Writing } from "./postgres-state.ts";
import type { Timer } from "./process.ts";

/** The server's answer to a statement. The client's driver handles silence and broken connections. */
export type ServerResponse<T> =
  | Readonly<{ type: "rows"; value: T }>
  /**
   * An error raised before the commit: nothing was written. `refusal`: set if one of the log's own functions raised it.
   */
  | Readonly<{ type: "error"; message: string; refusal: object | undefined }>
  /** The wait for standbys was cancelled. */
  | Readonly<{ type: "warned"; message: string }>;

type Reply<T> = (response: ServerResponse<T>) => void;
type Op = SimFactOf<"log-answered">["op"];

const idleInTransactionMs = 1_000;

export class Session {
  readonly #server: PostgresServer;
  readonly #connection: Connection;
  #inTransaction = false;
  #running = false;
  #closed = false;
  #resting: Timer | undefined;
  #prepared: Writing | undefined;

  constructor(server: PostgresServer, connection: Connection) {
    this.#server = server;
    this.#connection = connection;
    server.sessions.add(this);
    connection.onClosed("server", () => {
      this.#closed = true;
      server.sessions.delete(this);
      if (!this.#running) this.#rollBack();
    });
  }

  /** The server's wall clock. */
  get wall(): number {
    return this.#server.process.clock.wall();
  }

  /** The first query of every connection. */
  introduce(reply: Reply<"a primary" | "a standby" | "starting up">): void {
    const server = this.#server;
    this.#begin();
    const value = !server.isReady ? "starting up" : server.role === "primary" ? "a primary" : "a standby";
    this.#end(() => reply({ type: "rows", value }));
  }

  /** A read-only statement. */
  query<T>(look: (state: PostgresState, run: StoreRun) => T, reply: Reply<T>): void {
    this.#begin();
    this.#end(() => reply({ type: "rows", value: look(this.#server.visible, this.#server.run) }));
  }

  /** A read-only statement that includes the replication state. */
  look(link: Link, reply: Reply<ReplicationLook>): void {
    this.#begin();
    this.#end(() => reply({ type: "rows", value: this.#server.look(link) }));
  }

  /**
   * One statement, one transaction, one commit.
   * @param decide runs under the lock on the visible state; it returns the record to write, or the reason for none
   */
  write<T>(
    how: Readonly<{ op: Op; writer: string; lockTimeoutMs: number }>,
    decide: (state: PostgresState) => Readonly<{ write: Writing; value: T }> | Readonly<{ refusal: { type: string } }>,
    reply: Reply<T>,
  ): void {
    const server = this.#server;
    if (server.loses("statement")) {
      this.#connection.reset();
      return;
    }
    this.#begin();
    server.lock.take(this, how.lockTimeoutMs, {
      timedOut: () => this.#lockTimedOut(how, reply),
      granted: () => {
        const decided = decide(server.visible);
        if ("refusal" in decided) {
          server.common.counts.refused += 1;
          server.lock.release(this);
          this.#answered(how, null, decided.refusal.type);
          this.#end(() => reply({ type: "error", message: decided.refusal.type, refusal: decided.refusal }));
          return;
        }
        server.commit(decided.write, how.writer, (ended, txn) => {
          server.lock.release(this);
          const { op } = decided.write;
          const outcome = op === "append" ? "appended" : op === "beat" ? "beaten" : op;
          this.#answered(how, txn, ended === "clean" ? outcome : "indeterminate");
          if (server.loses("answer")) this.#connection.reset();
          this.#end(() =>
            reply(ended === "clean" ? { type: "rows", value: decided.value } : { type: "warned", message: "warned" }),
          );
        });
      },
    });
  }

  /** A write without the head row's lock. It waits for its standbys like any other write. */
  writeBeside<T>(writer: string, writing: Writing, value: T, reply: Reply<T>): void {
    this.#begin();
    this.#server.commit(writing, writer, (ended) =>
      this.#end(() => reply(ended === "clean" ? { type: "rows", value } : { type: "warned", message: "warned" })),
    );
  }

  begin(reply: Reply<undefined>): void {
    this.#begin();
    this.#inTransaction = true;
    this.#end(() => reply({ type: "rows", value: undefined }));
  }

  lockHead<T>(
    how: Readonly<{ op: Op; writer: string; lockTimeoutMs: number }>,
    look: (state: PostgresState) => T,
    reply: Reply<T>,
  ): void {
    const server = this.#server;
    this.#begin();
    if (!this.#inTransaction) {
      this.#aborted(reply);
      return;
    }
    server.lock.take(this, how.lockTimeoutMs, {
      timedOut: () => this.#lockTimedOut(how, reply),
      granted: () => this.#end(() => reply({ type: "rows", value: look(server.visible) })),
    });
  }

  /** Deferred until the transaction commits; no other session can see the difference. */
  prepare(writing: Writing, reply: Reply<undefined>): void {
    this.#begin();
    if (!this.#inTransaction) {
      this.#aborted(reply);
      return;
    }
    this.#prepared = writing;
    this.#end(() => reply({ type: "rows", value: undefined }));
  }

  commit(how: Readonly<{ op: Op; writer: string }>, reply: Reply<undefined>): void {
    const server = this.#server;
    const writing = this.#prepared;
    if (server.loses("statement")) {
      this.#connection.reset();
      return;
    }
    this.#begin();
    if (!this.#inTransaction || writing === undefined) {
      this.#aborted(reply);
      return;
    }
    server.commit(writing, how.writer, (ended, txn) => {
      this.#inTransaction = false;
      this.#prepared = undefined;
      server.lock.release(this);
      this.#answered(how, txn, ended === "clean" ? "opened" : "indeterminate");
      if (server.loses("answer")) this.#connection.reset();
      this.#end(() =>
        reply(ended === "clean" ? { type: "rows", value: undefined } : { type: "warned", message: "warned" }),
      );
    });
  }

  rollBack(reply: Reply<undefined>): void {
    this.#begin();
    this.#rollBack();
    this.#end(() => reply({ type: "rows", value: undefined }));
  }

  #begin(): void {
    this.#resting?.cancel();
    this.#running = true;
  }

  /** Ends the statement. The session now notices a client that has gone. */
  #end(reply: () => void): void {
    this.#running = false;
    if (this.#closed) {
      this.#rollBack();
      return;
    }
    if (this.#inTransaction) {
      this.#resting = this.#server.process.after(idleInTransactionMs, () => {
        this.#server.note("ends a transaction that rests");
        this.#rollBack();
        this.#connection.close("server");
        this.#server.sessions.delete(this);
      });
    }
    reply();
  }

  #rollBack(): void {
    this.#resting?.cancel();
    this.#inTransaction = false;
    this.#prepared = undefined;
    this.#server.lock.release(this);
  }

  #lockTimedOut(how: Readonly<{ op: Op; writer: string }>, reply: Reply<never>): void {
    this.#server.common.counts.lockTimeouts += 1;
    this.#answered(how, null, "unavailable");
    this.#end(() => reply({ type: "error", message: "canceling statement due to lock timeout", refusal: undefined }));
  }

  #aborted(reply: Reply<never>): void {
    this.#end(() => reply({ type: "error", message: "there is no transaction in progress", refusal: undefined }));
  }

  #answered(how: Readonly<{ op: Op; writer: string }>, txn: number | null, outcome: string): void {
    const { report } = this.#server.common;
    report({ type: "log-answered", ...this.#server.here(), txn, to: how.writer, op: how.op, outcome });
  }
}
