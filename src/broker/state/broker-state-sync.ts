/**
 * Broker state sync: feeds the broker state while another broker writes, and brings it to the head of our own epoch.
 *
 * Pure. Reads are made one after the other, whoever asked for them; a leader folds its own commits and is not fed. The log lets
 * nobody read above the durable horizon, so a standby's ledger holds nothing that could be lost. A ledger that is not in the
 * log (a lost suffix after a failover) is folded again from the beginning.
 */
import { type Link, type Position, sameLink } from "../../events/index.ts";
import type { LoadedSnapshot } from "../../replication/index.ts";
import type { Counters } from "../core/counters.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "./broker-state.ts";

/** Who wanted the ledger at the head: the election, nobody in particular, or a reader. */
export type RefreshedFor = "contending" | "poll" | number;

type Task =
  | { readonly type: "refresh"; readonly for: RefreshedFor[]; restarted: "yes" | "no" }
  /** `settleAt`: read again then; the log did not show the head yet. */
  | { readonly type: "reach"; readonly head: Link; readonly until: number; settleAt: number | null };

const pollMs = 250;
const pageEvents = 2_000;
const settleEveryMs = 20;
const loadMsMax = 60_000;
/** As far as is known, the log begins at its beginning: without a snapshot it is read from there. */
const wholeLog = 1 as Position;

export class BrokerStateSync {
  readonly #work: StepContext;
  readonly #ledger: BrokerState;
  readonly #counters: Counters;
  #current: Task | undefined;
  #next: Task[] = [];
  /** Infinity: somebody else feeds it. */
  #pollAt = Number.POSITIVE_INFINITY;
  #caughtUp = false;
  #loading: Readonly<{ id: number; first: Position; until: number }> | null = null;
  #loads = 0;
  #begins: "snapshot" | "log";
  /** Why it could not be read the last time; null: it could. */
  #problem: string | null = null;

  /** @param parts.beginsFrom `snapshot`: one is asked for before the log is read from its beginning */
  constructor(
    work: StepContext,
    parts: Readonly<{ ledger: BrokerState; counters: Counters; beginsFrom: "snapshot" | "log" }>,
  ) {
    this.#work = work;
    this.#ledger = parts.ledger;
    this.#counters = parts.counters;
    this.#begins = parts.beginsFrom;
  }

  /** True once the ledger has been at the log's head. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Why it is not at the log's head, while it has never been. */
  get problem(): string {
    return this.#problem ?? "the ledger has not reached the head of the log yet";
  }

  /** Feeds it from now on, or leaves that to a leader. */
  feed(by: "us" | "the leader"): void {
    this.#pollAt = by === "us" ? this.#work.now : Number.POSITIVE_INFINITY;
  }

  /** There is something new in the log. */
  heard(): void {
    if (this.#pollAt !== Number.POSITIVE_INFINITY) this.#pollAt = this.#work.now;
  }

  /** A note says when the ledger has been at the head; a read that has not begun serves everybody who asks meanwhile. */
  refresh(whom: RefreshedFor): void {
    const last = this.#next.at(-1);
    if (last?.type === "refresh") last.for.push(whom);
    else this.#next.push({ type: "refresh", for: [whom], restarted: "no" });
    this.#begin();
  }

  /** A note says whether the ledger stands at a head that a clean commit has proven, no further and no less. */
  reach(head: Link, ms: number): void {
    this.#next.push({ type: "reach", head, until: this.#work.now + ms, settleAt: null });
    this.#begin();
  }

  get dueAt(): number {
    const settleAt = this.#current?.type === "reach" ? this.#current.settleAt : null;
    if (this.#current === undefined) return this.#pollAt;
    return Math.min(settleAt ?? Number.POSITIVE_INFINITY, this.#loading?.until ?? Number.POSITIVE_INFINITY);
  }

  tick(): void {
    const { now } = this.#work;
    if (this.#current?.type === "reach" && this.#current.settleAt !== null && this.#current.settleAt <= now) {
      this.#current.settleAt = null;
      this.#read();
    }
    if (this.#loading !== null && this.#loading.until <= now) this.snapshotFailed(this.#loading.id, "it took too long");
    if (this.#current !== undefined || this.#pollAt > now) return;
    this.refresh("poll");
  }

  answered(outcome: LogAnswer): void {
    const task = this.#current;
    if (task === undefined) return;
    switch (outcome.type) {
      case "page": {
        if (outcome.page.entries.length === 0) return this.#atHead(task);
        try {
          this.#work.post({ type: "folded", events: this.#ledger.foldPage(outcome.page) });
        } catch (error) {
          return this.#failed(task, error);
        }
        return this.#isReached(task) ? this.#end(task, this.#ledger.unreadable === null) : this.#read();
      }
      case "forked":
        if (this.#ledger.applied.position === 0) return this.#failed(task, "the log contradicts itself");
        this.#ledger.reset();
        if (task.type === "refresh") task.restarted = "yes";
        return this.#read();
      case "truncated":
        return this.#loadSnapshot(outcome.first);
      case "failed":
        return this.#failed(task, outcome.cause);
      default:
        return this.#failed(task, `an answer of another kind: ${outcome.type}`);
    }
  }

  /** The log begins behind our place: only a snapshot leads on. The old projection is kept until there is one. */
  #loadSnapshot(first: Position): void {
    this.#loads += 1;
    this.#loading = { id: this.#loads, first, until: this.#work.now + loadMsMax };
    this.#work.emit({ type: "loadSnapshot", id: this.#loads, first });
  }

  snapshotLoaded(id: number, snapshot: LoadedSnapshot): void {
    const task = this.#current;
    if (this.#loading?.id !== id || task === undefined) return;
    const { first } = this.#loading;
    if (snapshot.link.position < first - 1) return this.snapshotFailed(id, "it ends before the log begins");
    this.#loading = null;
    this.#ledger.load(snapshot);
    this.#work.logger("info", "the ledger goes on from a snapshot", { position: snapshot.link.position });
    this.#work.post({ type: "folded", events: [] });
    return this.#isReached(task) ? this.#end(task, true) : this.#read();
  }

  snapshotFailed(id: number, reason: string): void {
    const task = this.#current;
    if (this.#loading?.id !== id || task === undefined) return;
    const { first } = this.#loading;
    this.#loading = null;
    if (first === wholeLog) return this.#read();
    const missing = `the event log begins at ${first}, and no snapshot leads there: ${reason}`;
    this.#failed(task, `${missing}. Copy the snapshots of another data folder here, or restore a backup of the log`);
  }

  #begin(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#next.shift();
    if (this.#current === undefined) return;
    const fresh = this.#begins === "snapshot" && this.#ledger.applied.position === 0;
    this.#begins = "log";
    if (fresh) this.#loadSnapshot(wholeLog);
    else this.#read();
  }

  #read(): void {
    this.#work.callLog({ op: "read", after: this.#ledger.applied, limit: pageEvents }, { to: "keeper" });
  }

  #isReached(task: Task): boolean {
    return task.type === "reach" && sameLink(this.#ledger.applied, task.head);
  }

  #atHead(task: Task): void {
    if (task.type === "refresh") {
      if (task.restarted === "yes") {
        this.#counters.ledgerRestarts += 1;
        const message = "this broker's ledger was not in the log and was folded again from the beginning";
        this.#work.logger("error", message);
      }
      this.#caughtUp = true;
      return this.#end(task, this.#ledger.unreadable === null);
    }
    if (this.#isReached(task)) return this.#end(task, this.#ledger.unreadable === null);
    const { now } = this.#work;
    // Somebody has opened a later epoch behind what we wrote: it is we who are late, and the ledger is right.
    if (this.#ledger.applied.epoch > task.head.epoch) return this.#failed(task, "the log is in a later epoch by now");
    if (this.#ledger.applied.position >= task.head.position) this.#ledger.reset();
    if (now >= task.until) return this.#failed(task, "the log does not show what was written to it");
    task.settleAt = now + settleEveryMs;
  }

  /** We may be the only ones who had read what was lost. */
  #handBack(): void {
    const events = this.#ledger.settleLost();
    if (events.length === 0) return;
    this.#work.logger("error", "the log has lost revocations that this broker has read: they are handed back", {
      lost: events.length,
    });
    this.#work.post({ type: "lost", events });
  }

  /** What goes on being so is said once, not several times a second. */
  #failed(task: Task, error: unknown): void {
    const problem = error instanceof Error ? error.message : String(error);
    if (problem !== this.#problem) this.#work.logger("warn", "the event log could not be read", { err: error });
    this.#problem = problem;
    this.#end(task, false);
  }

  #end(task: Task, ok: boolean): void {
    this.#current = undefined;
    if (ok) {
      this.#problem = null;
      this.#handBack();
    }
    if (task.type === "reach") this.#work.post({ type: "reached", ok });
    else for (const whom of task.for) this.#work.post({ type: "refreshed", for: whom, ok });
    if (this.#pollAt !== Number.POSITIVE_INFINITY) this.#pollAt = this.#work.now + pollMs;
    this.#begin();
  }
}
