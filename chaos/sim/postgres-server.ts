/**
 * Postgres server of the simulated world: a write-ahead log, the state folded from the visible part of it, sessions
 * that write under the lock on the head row, and replication to standbys. What it says of a real server is held against
 * one in test/integration/fidelity.
 *
 * A commit goes: record flushed here → shipped → flushed by enough standbys → visible → lock released → answered.
 * Whoever is waiting for standbys keeps the lock and is seen by nobody. A wait that is cancelled makes it visible at
 * once, and a crash makes it visible after the restart (docs/protocol.md §3.3). A session whose client has gone goes on
 * with what it was told to do.
 *
 * On the disk, and so kept over a kill: the flushed log, whether this is a standby, and its settings. All else is
 * memory.
 */
import { type Link, linkOf, type Position, sameLink } from "../../src/events/index.ts";
import type { StoreRun } from "../../src/replication/log/continuity.ts";
import type { ReplicationLook } from "../../src/replication/log/durability.ts";
import type { Report, SimFactOf, Txn } from "./facts.ts";
import { RowLock } from "./postgres-lock.ts";
import { Receiver, type Sender } from "./postgres-replication.ts";
import type { Session } from "./postgres-session.ts";
import { PostgresState, type WalRecord, type Writing } from "./postgres-state.ts";
import type { Identity, SimProcess } from "./process.ts";
import type { Stream } from "./random.ts";
import type { World } from "./world.ts";

/** What all servers of one model share. */
export type PostgresCommon = Readonly<{
  world: World;
  random: Stream;
  report: Report;
  nextTxn: () => Txn;
  nextTimeline: () => number;
  /** Of all servers. */
  names: () => readonly string[];
  /** Positions in one partition; truncation drops whole ones. */
  partitionSize: number;
  counts: PostgresCounts;
}>;

export type PostgresCounts = {
  committed: number;
  /** Waited for a standby longer than a second, or for ever. */
  hung: number;
  cancelled: number;
  /** Were waiting when the server died, and visible after. */
  visibleByCrash: number;
  refused: number;
  lockTimeouts: number;
  answersLost: number;
  promotions: number;
  /** Records that a promoted or restored server no longer had. */
  recordsLost: number;
};

/** A commit that waits for its standbys. */
type Waiting = Readonly<{
  /** Length of the log with its record. */
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
  /** Whom a standby follows. */
  upstream: PostgresServer | undefined;
  /** Whether a standby asks anybody for the log. */
  receives = true;
  /** How many of the other servers `synchronous_standby_names` asks for. Sessions read it with their next statement. */
  named = 1;
  /** How slow the disk is; 1: as it should be. */
  diskFactor = 1;
  // --- memory
  /**
   * How many of the other servers must have flushed a commit; 0: none. The checkpointer sets it, when it reads the
   * file.
   */
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

  constructor(common: PostgresCommon, place: Readonly<{ name: string; region: string }>) {
    this.common = common;
    this.name = place.name;
    this.process = common.world.addProcess({ ...place, identity, start: () => this.#boot() });
    this.lock = new RowLock(this.process);
    this.receiver = new Receiver(this);
  }

  /** Takes connections: it is up, and has replayed its log. */
  get isReady(): boolean {
    return this.#ready && this.process.isUp;
  }

  get isPrimary(): boolean {
    return this.isReady && this.role === "primary";
  }

  /** Which run of which server this is, as a session can tell. */
  get run(): StoreRun {
    return { server: "pg", timeline: String(this.timeline), start: `${this.name} ${this.#starts}` };
  }

  /** What sessions here see. */
  get visible(): PostgresState {
    return this.#state;
  }

  /** Commits that wait for standbys now. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** How long the oldest of them has waited. */
  get waitingMs(): number {
    const oldest = this.#waiting[0];
    return oldest === undefined ? 0 : this.common.world.now - oldest.since;
  }

  /** The head of everything in its log, visible or not. */
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
      this.#tellPromoted(this.#startsAs);
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

  /** Its log is another's from now on: a base backup, or pg_rewind. Only while it is down. */
  restoreFrom(wal: readonly WalRecord[], timeline: number): void {
    if (this.process.isUp) throw new Error(`${this.name} is up: its log cannot be replaced`);
    this.wal = [...wal];
    this.timeline = timeline;
    this.#state = new PostgresState();
    this.#folded = 0;
    this.tellFlushed();
  }

  /**
   * A backup is in its place now. Said when it is put there: another may be promoted before this one has begun on it.
   */
  tellRestored(): void {
    this.common.report({ type: "promoted", ...this.here(), how: "restored", head: this.flushedHead });
  }

  /** A standby that takes writes from now on. */
  promote(how: SimFactOf<"promoted">["how"], stopped?: Readonly<{ count: number; of: number }>): void {
    this.receiver.stop();
    this.synchronous = this.named;
    this.role = "primary";
    this.upstream = undefined;
    this.timeline = this.common.nextTimeline();
    this.#foldTo(this.wal.length);
    this.common.counts.promotions += 1;
    this.#startsAs = "restarted";
    this.#tellPromoted(how, stopped);
  }

  #tellPromoted(how: SimFactOf<"promoted">["how"], stopped?: Readonly<{ count: number; of: number }>): void {
    this.note(`takes writes (${how}), timeline ${this.timeline}, head ${this.#state.head.position}`);
    const standbys = this.synchronous;
    const compared = stopped === undefined ? {} : { stopped };
    this.common.report({ type: "promoted", ...this.here(), how, head: this.#state.head, standbys, ...compared });
  }

  /**
   * The names are in the file, and signalled; the checkpointer reads them so much later. A server that is down reads
   * them when it starts.
   */
  configure(standbys: number, checkpointerMs: number): void {
    this.named = standbys;
    if (!this.process.isUp) return;
    if (checkpointerMs <= 0) this.#readNames();
    else this.process.after(checkpointerMs, () => this.#readNames());
  }

  /** The checkpointer takes the file as it is by now. */
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

  /** What a session is shown: the event, the end of the log, and how far each standby says that it has flushed. */
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

  /** A standby's log has grown on its disk, or was replaced. */
  tellFlushed(): void {
    this.common.report({ type: "standby-flushed", ...this.here(), head: this.flushedHead });
  }

  // --- writing

  /** Writes a commit record; the owner's lock is released by `done`, not here. */
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

  /** Answers the commits that enough standbys have flushed. */
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

  /** Somebody cancels the oldest wait (pg_cancel_backend): visible at once, and answered with a warning. */
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

  /** The connection that carries the next statement, or the next answer of a commit, is cut on the way. */
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
