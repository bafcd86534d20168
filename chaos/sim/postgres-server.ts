/**
 * Postgres server of the simulated world: a write-ahead log and the state folded from its visible part. It has sessions
 * that write under the lock on the head row, and replication to standbys. test/integration/fidelity compares it with a
 * real server.
 *
 * - A commit: record flushed here → shipped → flushed by enough standbys → visible → lock released → answered.
 * - A commit that waits for standbys keeps the lock and is invisible to every session.
 * - A cancelled wait makes the commit visible at once; a crash makes it visible after the restart (docs/protocol.md
 *   §3.3).
 * - A session whose client has gone completes its running statement.
 * - A kill keeps the disk: the flushed log, the role as a standby, and the settings. It loses all else.
 */
import { type Link, linkOf, type Position, sameLink } from "../../src/events/index.ts";
import type { StoreRun } from "../../src/replication/log/continuity.ts";
import type { ReplicationLook } from "../../src/replication/log/durability.ts";
import type { Report, SimFactOf } from "./facts.ts";
import type { Txn } from "./postgres-facts.ts";
import { RowLock } from "./postgres-lock.ts";
import { Receiver, type Sender } from "./postgres-replication.ts";
import type { Session } from "./postgres-session.ts";
import { PostgresState, type WalRecord, type Writing } from "./postgres-state.ts";
import type { Identity, SimProcess } from "./process.ts";
import type { Stream } from "./random.ts";
import type { World } from "./world.ts";

/** State and services shared by all servers of one model. */
export type PostgresCommon = Readonly<{
  world: World;
  random: Stream;
  report: Report;
  nextTxn: () => Txn;
  nextTimeline: () => number;
  /** The names of all servers. */
  names: () => readonly string[];
  /** Number of positions in one partition. Truncation drops whole partitions. */
  partitionSize: number;
  counts: PostgresCounts;
}>;

export type PostgresCounts = {
  committed: number;
  /** Commits that waited for a standby longer than a second, or forever. */
  hung: number;
  cancelled: number;
  /** Commits that waited when the server died and were visible after its restart. */
  visibleByCrash: number;
  refused: number;
  lockTimeouts: number;
  answersLost: number;
  promotions: number;
  /** Records that were missing on a promoted or restored server. */
  recordsLost: number;
};

/** A commit that waits for its standbys. */
type Waiting = Readonly<{
  /** Length of the log, its record included. */
  end: number;
  record: WalRecord;
  since: number;
  done: (how: "clean" | "warned") => void;
}>;

const identity: Identity = { role: "postgres", node: null, lessee: null, build: "postgres", unknownTypes: [] };
const hungAfterMs = 1_000;

export class PostgresServer {
  readonly name: string;
  readonly process: SimProcess;
  readonly common: PostgresCommon;
  // --- disk
  wal: WalRecord[] = [];
  timeline = 1;
  role: "primary" | "standby" = "standby";
  /** The server that a standby follows. */
  upstream: PostgresServer | undefined;
  /** Whether a standby requests the log from its upstream. */
  receives = true;
  /** Number of other servers required by `synchronous_standby_names`. Sessions read it with their next statement. */
  named = 1;
  /** Slowdown of the disk. 1: normal speed. */
  diskFactor = 1;
  // --- memory
  /** Number of other servers that must flush a commit; 0: none. The checkpointer sets it when it reads the file. */
  synchronous = 1;
  /** Notifies the model once the checkpointer has read the file. */
  onConfigured: () => void = () => {};
  #starts = 0;
  readonly lock: RowLock;
  readonly sessions = new Set<Session>();
  readonly senders = new Map<PostgresServer, Sender>();
  readonly receiver: Receiver;
  #state = new PostgresState();
  #folded = 0;
  #ready = false;
  #waiting: Waiting[] = [];
  #lastFlush = 0;
  #loseNext: "statement" | "answer" | undefined;
  #startsAs: SimFactOf<"promoted">["how"] = "initial";

  constructor(common: PostgresCommon, machine: Readonly<{ name: string; region: string }>) {
    this.common = common;
    this.name = machine.name;
    this.process = common.world.addProcess({ ...machine, identity, start: () => this.#boot() });
    this.lock = new RowLock(this.process);
    this.receiver = new Receiver(this);
  }

  /** Accepts connections: it is up and has replayed its log. */
  get isReady(): boolean {
    return this.#ready && this.process.isUp;
  }

  get isPrimary(): boolean {
    return this.isReady && this.role === "primary";
  }

  /** The identity of this server and of its run, as a session can read it. */
  get run(): StoreRun {
    return { server: "pg", timeline: String(this.timeline), start: `${this.name} ${this.#starts}` };
  }

  /** The state that sessions of this server see. */
  get visible(): PostgresState {
    return this.#state;
  }

  /** Number of commits that wait for standbys. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Wait (ms) of the oldest waiting commit. */
  get waitingMs(): number {
    const oldest = this.#waiting[0];
    return oldest === undefined ? 0 : this.common.world.now - oldest.since;
  }

  /** The head of its whole log, visible or not. */
  get flushedHead(): Link {
    for (let i = this.wal.length - 1; i >= 0; i -= 1) {
      const record = this.wal[i];
      if (record !== undefined) return record.head;
    }
    return this.#state.head;
  }

  note(text: string): void {
    this.common.world.note(this.name, text);
  }

  here(): Readonly<{ at: number; process: string }> {
    return { at: this.common.world.now, process: this.name };
  }

  // --- life

  #boot(): void {
    this.#ready = false;
    this.#starts += 1;
    this.process.onKill(() => this.#died());
    const { random } = this.common;
    this.process.after(random.within(50, 400), () => {
      this.#ready = true;
      this.synchronous = this.named;
      this.onConfigured();
      if (this.role === "standby") {
        this.receiver.start();
        return;
      }
      this.#foldTo(this.wal.length);
      this.#reportPromoted(this.#startsAs);
      this.#startsAs = "restarted";
    });
  }

  #died(): void {
    if (this.#ready && this.role === "primary") this.common.report({ type: "demoted", ...this.here() });
    this.common.counts.visibleByCrash += this.#waiting.length;
    if (this.#waiting.length > 0) this.note("dies with a commit waiting: it will be visible after a restart");
    this.#ready = false;
    this.#waiting = [];
    this.#lastFlush = 0;
    this.lock.clear();
    this.sessions.clear();
    this.senders.clear();
    this.receiver.clear();
  }

  /** Replaces its log by another server's: a base backup or pg_rewind. Allowed only while it is down. */
  restoreFrom(wal: readonly WalRecord[], timeline: number): void {
    if (this.process.isUp) throw new Error(`${this.name} is up: its log cannot be replaced`);
    this.wal = [...wal];
    this.timeline = timeline;
    this.#state = new PostgresState();
    this.#folded = 0;
    this.reportFlushed();
  }

  /**
   * Reports that a backup replaced its log. It does so at once, as another server may be promoted before this one
   * starts.
   */
  reportRestored(): void {
    this.common.report({ type: "promoted", ...this.here(), how: "restored", head: this.flushedHead });
  }

  /** Turns a standby into a primary. */
  promote(how: SimFactOf<"promoted">["how"], stopped?: Readonly<{ count: number; of: number }>): void {
    this.receiver.stop();
    this.synchronous = this.named;
    this.role = "primary";
    this.upstream = undefined;
    this.timeline = this.common.nextTimeline();
    this.#foldTo(this.wal.length);
    this.common.counts.promotions += 1;
    this.#startsAs = "restarted";
    this.#reportPromoted(how, stopped);
  }

  #reportPromoted(how: SimFactOf<"promoted">["how"], stopped?: Readonly<{ count: number; of: number }>): void {
    this.note(`takes writes (${how}), timeline ${this.timeline}, head ${this.#state.head.position}`);
    const standbys = this.synchronous;
    const compared = stopped === undefined ? {} : { stopped };
    this.common.report({ type: "promoted", ...this.here(), how, head: this.#state.head, standbys, ...compared });
  }

  /**
   * Writes the names to the file and signals the checkpointer, which reads them after `checkpointerMs`. A server that
   * is down reads them when it starts.
   */
  configure(standbys: number, checkpointerMs: number): void {
    this.named = standbys;
    if (!this.process.isUp) return;
    if (checkpointerMs <= 0) this.#readNames();
    else this.process.after(checkpointerMs, () => this.#readNames());
  }

  /** The checkpointer reads the current content of the file. */
  #readNames(): void {
    const standbys = this.named;
    if (this.#ready && this.synchronous !== standbys) {
      this.synchronous = standbys;
      if (this.isPrimary) {
        this.note(standbys === 0 ? "does not wait for standbys any more" : `waits for ${standbys} standbys`);
        const released = standbys === 0 ? this.#waiting.length : 0;
        this.common.report({ type: "synchronous-set", ...this.here(), standbys, released });
        this.settle();
      }
    }
    this.onConfigured();
  }

  /**
   * The replication state that a session reads: the event, the end of the log, the flushed position of each standby.
   */
  look(link: Link): ReplicationLook {
    const others = this.common.names().filter((name) => name !== this.name);
    const names = this.named === 0 ? "" : `ANY ${this.named} (${others.join(", ")})`;
    const state = this.named === 0 ? "async" : "quorum";
    const standbys = [...this.senders].map(([{ name }, { flushed }]) => ({
      ...{ name, address: "", state, flushed: BigInt(flushed) },
    }));
    const found = this.#state.linkAt(link.position);
    const holds = found !== undefined && sameLink(found, link);
    return { holds, end: BigInt(this.wal.length), names, commit: "on", standbys };
  }

  /** Reports that a standby's log on disk has grown or was replaced. */
  reportFlushed(): void {
    this.common.report({ type: "standby-flushed", ...this.here(), head: this.flushedHead });
  }

  // --- writing

  /** Writes a commit record. `done` releases the owner's lock; this method does not. */
  commit(writing: Writing, writer: string, done: (how: "clean" | "warned", txn: Txn) => void): void {
    const { common } = this;
    const txn = common.nextTxn();
    const flushed = Math.max(this.#lastFlush, common.world.now + this.fsyncMs());
    this.#lastFlush = flushed;
    this.process.after(flushed - common.world.now, () => {
      const previous = this.flushedHead;
      const head = headAfter(writing, previous);
      const record: WalRecord = { txn, at: this.process.clock.wall(), writer, writing, previous, head };
      this.wal.push(record);
      this.#reportWrote(record);
      this.#waiting.push({ end: this.wal.length, record, since: common.world.now, done: (how) => done(how, txn) });
      for (const sender of this.senders.values()) sender.ship();
      this.settle();
    });
  }

  /** Answers the waiting commits that enough standbys have flushed. */
  settle(): void {
    while (true) {
      const first = this.#waiting[0];
      if (first === undefined || !this.#isReplicated(first.end)) return;
      this.#waiting.shift();
      this.#foldTo(first.end);
      const { world, counts, report } = this.common;
      counts.committed += 1;
      if (world.now - first.since > hungAfterMs) counts.hung += 1;
      const { writing, head, txn } = first.record;
      const epoch = writing.op === "sweep" || writing.op === "retain" ? this.#state.epoch : head.epoch;
      if (writing.op !== "sweep" && writing.op !== "retain")
        report({ type: "committed-cleanly", ...this.here(), txn, epoch, head });
      first.done("clean");
    }
  }

  /** Cancels the oldest wait (pg_cancel_backend): its commit becomes visible at once and is answered with a warning. */
  cancelWait(): boolean {
    const first = this.#waiting.shift();
    if (first === undefined) return false;
    this.note(`a wait for standbys is cancelled: ${first.record.writing.op} at ${first.record.head.position}`);
    this.common.counts.cancelled += 1;
    this.#foldTo(first.end);
    first.done("warned");
    return true;
  }

  #isReplicated(end: number): boolean {
    if (this.synchronous === 0) return true;
    let flushed = 0;
    for (const sender of this.senders.values()) if (sender.flushed >= end) flushed += 1;
    return flushed >= this.synchronous;
  }

  fsyncMs(): number {
    return (0.1 + this.common.random.exponential(0.4)) * this.diskFactor;
  }

  // --- sessions

  /** Cuts the connection that carries the next statement, or the next answer to a commit. */
  loseNext(what: "statement" | "answer"): void {
    this.#loseNext = what;
  }

  loses(what: "statement" | "answer"): boolean {
    if (this.#loseNext !== what) return false;
    this.#loseNext = undefined;
    this.common.counts.answersLost += 1;
    this.note(`the connection with the next ${what} breaks`);
    return true;
  }

  #foldTo(end: number): void {
    for (; this.#folded < end; this.#folded += 1) this.#state.fold(this.wal[this.#folded] as WalRecord);
  }

  #reportWrote(record: WalRecord): void {
    const { writing, txn, writer, previous, head } = record;
    const { report, world } = this.common;
    if (writing.op === "sweep") return;
    if (writing.op === "retain") {
      if (writing.base.position > this.#state.base.position)
        report({ type: "truncated", ...this.here(), first: (writing.base.position + 1) as Position, writer });
      return;
    }
    const same = { type: "wrote", ...this.here(), txn, writer, previous, head, op: writing.op } as const;
    const none = { entries: [], commands: [], lessees: [], left: [], brokerId: null } as const;
    if (writing.op === "append") {
      const { epoch, incarnation, entries, commands } = writing.batch;
      report({ ...same, ...none, epoch, incarnation, entries, commands });
    } else if (writing.op === "beat") {
      const { epoch, incarnation, lessees, left } = writing.request;
      report({ ...same, ...none, epoch, incarnation, lessees, left });
    } else {
      const { incarnation, brokerId } = writing.request;
      report({ ...same, ...none, epoch: head.epoch, incarnation, brokerId, entries: [writing.entry] });
    }
    if (world.trace.keeps) this.note(`flushes ${writing.op} of ${writer}: head ${head.epoch}:${head.position}`);
  }
}

function headAfter(writing: Writing, previous: Link): Link {
  if (writing.op === "append") return writing.batch.last;
  if (writing.op === "open-epoch") return linkOf(writing.entry.recorded);
  return previous;
}
