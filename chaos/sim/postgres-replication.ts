/**
 * Postgres replication of the model: a standby's receiver and its upstream's sender.
 *
 * - The receiver requests the log after its own end; the sender ships the part that the upstream has flushed.
 * - A commit that waits counts the records that the standby has flushed.
 * - The upstream refuses a log that is not a prefix of its own. Such a standby needs a rebuild.
 * - A stopped receiver keeps the records that it has received.
 */
import { sameLink } from "../../src/events/index.ts";
import type { Connection } from "./connection.ts";
import type { PostgresServer } from "./postgres-server.ts";
import type { WalRecord } from "./postgres-state.ts";

const retryMs = 500;
const connectTimeoutMs = 2_000;

/** One standby, from its upstream's point of view. */
export class Sender {
  readonly standby: PostgresServer;
  readonly connection: Connection;
  /** Length of the log that the standby reported as flushed. */
  flushed: number;
  readonly #server: PostgresServer;
  readonly #deliver: (records: readonly WalRecord[], from: number) => void;
  #sent: number;

  constructor(
    server: PostgresServer,
    options: Readonly<{
      standby: PostgresServer;
      connection: Connection;
      from: number;
      deliver: (records: readonly WalRecord[], from: number) => void;
    }>,
  ) {
    this.#server = server;
    this.standby = options.standby;
    this.connection = options.connection;
    this.flushed = options.from;
    this.#sent = options.from;
    this.#deliver = options.deliver;
  }

  ship(): void {
    const { wal } = this.#server;
    if (this.#sent >= wal.length) return;
    const from = this.#sent;
    const records = wal.slice(from);
    this.#sent = wal.length;
    this.connection.send("server", () => this.#deliver(records, from));
  }

  hasFlushed(length: number): void {
    if (this.#server.senders.get(this.standby) !== this) return;
    this.flushed = Math.max(this.flushed, length);
    this.#server.settle();
  }
}

export class Receiver {
  /** True if its log is not a prefix of its upstream's. */
  diverged = false;
  readonly #standby: PostgresServer;
  #connection: Connection | undefined;
  /** Records received but not yet flushed. A crash loses them; a stop of the receiver keeps them. */
  #unflushed: WalRecord[] = [];
  #lastFlush = 0;
  /** Number of the current attempt. The receiver ignores results of older ones. */
  #attempt = 0;

  constructor(standby: PostgresServer) {
    this.#standby = standby;
  }

  get isStreaming(): boolean {
    return this.#connection?.isOpen("client") === true;
  }

  /** Starts, or restarts with another upstream. */
  start(): void {
    this.stop();
    this.diverged = false;
    this.#try();
  }

  stop(): void {
    this.#attempt += 1;
    this.#connection?.close("client");
    this.#connection = undefined;
    this.#flush();
  }

  /** Drops everything in memory: the standby died. */
  clear(): void {
    this.#attempt += 1;
    this.#connection = undefined;
    this.#unflushed = [];
    this.#lastFlush = 0;
  }

  #try(): void {
    const standby = this.#standby;
    const { upstream } = standby;
    const attempt = this.#attempt;
    if (!standby.isReady || standby.role !== "standby" || !standby.receives || upstream === undefined) return;
    const again = (): void => {
      if (attempt !== this.#attempt) return;
      this.#connection = undefined;
      standby.process.after(retryMs, () => attempt === this.#attempt && this.#try());
    };
    standby.common.world.network.connect(standby.process, upstream.process, {
      timeoutMs: connectTimeoutMs,
      failed: again,
      opened: (connection) => {
        if (attempt !== this.#attempt) return connection.close("client");
        this.#connection = connection;
        connection.onClosed("client", again);
        const from = standby.wal.length;
        const last = standby.wal[from - 1];
        connection.send("client", () => this.#ask(upstream, { connection, from, last, attempt }));
      },
    });
  }

  /** Runs at the upstream. */
  #ask(
    upstream: PostgresServer,
    asked: Readonly<{ connection: Connection; from: number; last: WalRecord | undefined; attempt: number }>,
  ): void {
    const { connection, from, last, attempt } = asked;
    if (!upstream.isPrimary) {
      connection.close("server");
      return;
    }
    if (from > upstream.wal.length || upstream.wal[from - 1] !== last) {
      connection.send("server", () => {
        if (attempt !== this.#attempt) return;
        this.#standby.note(`cannot follow ${upstream.name}: its log has gone another way`);
        this.diverged = true;
        this.stop();
      });
      return;
    }
    const { timeline } = upstream;
    const sender = new Sender(upstream, {
      standby: this.#standby,
      connection,
      from,
      deliver: (records, at) => attempt === this.#attempt && this.#received(records, at, { sender, timeline }),
    });
    upstream.senders.get(this.#standby)?.connection.close("server");
    upstream.senders.set(this.#standby, sender);
    connection.onClosed("server", () => {
      if (upstream.senders.get(this.#standby) === sender) upstream.senders.delete(this.#standby);
    });
    sender.ship();
    upstream.settle();
  }

  #received(records: readonly WalRecord[], from: number, by: Readonly<{ sender: Sender; timeline: number }>): void {
    const standby = this.#standby;
    const end = standby.wal.length + this.#unflushed.length;
    if (from !== end) throw new Error(`${standby.name} has ${end} records and was sent those behind ${from}`);
    standby.timeline = by.timeline;
    this.#unflushed.push(...records);
    const { now } = standby.common.world;
    this.#lastFlush = Math.max(this.#lastFlush, now + standby.fsyncMs());
    const attempt = this.#attempt;
    const length = end + records.length;
    standby.process.after(this.#lastFlush - now, () => {
      if (attempt !== this.#attempt) return;
      this.#flush(length);
      this.#connection?.send("client", () => by.sender.hasFlushed(length));
    });
  }

  #flush(upTo = Number.POSITIVE_INFINITY): void {
    const count = Math.min(this.#unflushed.length, upTo - this.#standby.wal.length);
    if (count <= 0) return;
    const before = this.#standby.flushedHead;
    this.#standby.wal.push(...this.#unflushed.splice(0, count));
    if (!sameLink(before, this.#standby.flushedHead)) this.#standby.reportFlushed();
  }
}
