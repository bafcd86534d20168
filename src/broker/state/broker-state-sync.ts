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
import type { RefreshedFor } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "./broker-state.ts";

type Task =
  | { readonly type: "refresh"; readonly for: RefreshedFor[]; restarted: boolean }
  /** `settleAt`: read again then; the log did not show the head yet. */
  | { readonly type: "reach"; readonly head: Link; readonly until: number; retryAt: number | null };

const pollMs = 250;
const pageEvents = 2_000;
const retryEveryMs = 20;
const loadMsMax = 60_000;
/** As far as is known, the log begins at its beginning: without a snapshot it is read from there. */
const wholeLog = 1 as Position;

export class BrokerStateSync {
  readonly #context: StepContext;
  readonly #state: BrokerState;
  readonly #counters: Counters;
  #current: Task | undefined;
  #next: Task[] = [];
  /** Infinity: somebody else feeds it. */
  #pollAt = Number.POSITIVE_INFINITY;
  #hasReachedHead = false;
  #loading: Readonly<{ id: number; first: Position; until: number }> | null = null;
  #loads = 0;
  #beginsFrom: "snapshot" | "log";
  /** Why it could not be read the last time; null: it could. */
  #problem: string | null = null;

  /** @param parts.beginsFrom `snapshot`: one is asked for before the log is read from its beginning */
  constructor(
    context: StepContext,
    parts: Readonly<{ state: BrokerState; counters: Counters; beginsFrom: "snapshot" | "log" }>,
  ) {
    this.#context = context;
    this.#state = parts.state;
    this.#counters = parts.counters;
    this.#beginsFrom = parts.beginsFrom;
  }

  /** True once the ledger has been at the log's head. */
  get hasReachedHead(): boolean {
    return this.#hasReachedHead;
  }

  /** Why it is not at the log's head, while it has never been. */
  get problem(): string {
    return this.#problem ?? "the ledger has not reached the head of the log yet";
  }

  /** Feeds it from now on, or leaves that to a leader. */
  setFeeder(by: "self" | "leader"): void {
    this.#pollAt = by === "self" ? this.#context.now : Number.POSITIVE_INFINITY;
  }

  /** There is something new in the log. */
  pollNow(): void {
    if (this.#pollAt !== Number.POSITIVE_INFINITY) this.#pollAt = this.#context.now;
  }

  /** A note says when the ledger has been at the head; a read that has not begun serves everybody who asks meanwhile. */
  refresh(reader: RefreshedFor): void {
    const last = this.#next.at(-1);
    if (last?.type === "refresh") last.for.push(reader);
    else this.#next.push({ type: "refresh", for: [reader], restarted: false });
    this.#startNext();
  }

  /** A note says whether the ledger stands at a head that a clean commit has proven, no further and no less. */
  reach(head: Link, ms: number): void {
    this.#next.push({ type: "reach", head, until: this.#context.now + ms, retryAt: null });
    this.#startNext();
  }

  get dueAt(): number {
    const retryAt = this.#current?.type === "reach" ? this.#current.retryAt : null;
    if (this.#current === undefined) return this.#pollAt;
    return Math.min(retryAt ?? Number.POSITIVE_INFINITY, this.#loading?.until ?? Number.POSITIVE_INFINITY);
  }

  tick(): void {
    const { now } = this.#context;
    if (this.#current?.type === "reach" && this.#current.retryAt !== null && this.#current.retryAt <= now) {
      this.#current.retryAt = null;
      this.#read();
    }
    if (this.#loading !== null && this.#loading.until <= now) this.snapshotFailed(this.#loading.id, "it took too long");
    if (this.#current !== undefined || this.#pollAt > now) return;
    this.refresh("poll");
  }

  readAnswered(outcome: LogAnswer): void {
    const task = this.#current;
    if (task === undefined) return;
    switch (outcome.type) {
      case "page": {
        if (outcome.page.entries.length === 0) return this.#atHead(task);
        try {
          this.#context.post({ type: "eventsFolded", events: this.#state.foldPage(outcome.page) });
        } catch (error) {
          return this.#failed(task, error);
        }
        return this.#isReached(task) ? this.#end(task, this.#state.unreadable === null) : this.#read();
      }
      case "forked":
        if (this.#state.applied.position === 0) return this.#failed(task, "the log contradicts itself");
        this.#state.reset();
        if (task.type === "refresh") task.restarted = true;
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
    this.#loading = { id: this.#loads, first, until: this.#context.now + loadMsMax };
    this.#context.emit({ type: "loadSnapshot", id: this.#loads, first });
  }

  snapshotLoaded(id: number, snapshot: LoadedSnapshot): void {
    const task = this.#current;
    if (this.#loading?.id !== id || task === undefined) return;
    const { first } = this.#loading;
    if (snapshot.link.position < first - 1) return this.snapshotFailed(id, "it ends before the log begins");
    this.#loading = null;
    this.#state.load(snapshot);
    this.#context.logger("info", "the ledger goes on from a snapshot", { position: snapshot.link.position });
    this.#context.post({ type: "eventsFolded", events: [] });
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

  #startNext(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#next.shift();
    if (this.#current === undefined) return;
    const wantsSnapshot = this.#beginsFrom === "snapshot" && this.#state.applied.position === 0;
    this.#beginsFrom = "log";
    if (wantsSnapshot) this.#loadSnapshot(wholeLog);
    else this.#read();
  }

  #read(): void {
    this.#context.callLog({ op: "read", after: this.#state.applied, limit: pageEvents }, { to: "state-sync" });
  }

  #isReached(task: Task): boolean {
    return task.type === "reach" && sameLink(this.#state.applied, task.head);
  }

  #atHead(task: Task): void {
    if (task.type === "refresh") {
      if (task.restarted) {
        this.#counters.ledgerRestarts += 1;
        const message = "this broker's ledger was not in the log and was folded again from the beginning";
        this.#context.logger("error", message);
      }
      this.#hasReachedHead = true;
      return this.#end(task, this.#state.unreadable === null);
    }
    if (this.#isReached(task)) return this.#end(task, this.#state.unreadable === null);
    const { now } = this.#context;
    // Somebody has opened a later epoch behind what we wrote: it is we who are late, and the ledger is right.
    if (this.#state.applied.epoch > task.head.epoch) return this.#failed(task, "the log is in a later epoch by now");
    if (this.#state.applied.position >= task.head.position) this.#state.reset();
    if (now >= task.until) return this.#failed(task, "the log does not show what was written to it");
    task.retryAt = now + retryEveryMs;
  }

  /** We may be the only ones who had read what was lost. */
  #reportLost(): void {
    const events = this.#state.takeLost();
    if (events.length === 0) return;
    this.#context.logger("error", "the log has lost revocations that this broker has read: they are handed back", {
      lost: events.length,
    });
    this.#context.post({ type: "denialsLost", events });
  }

  /** What goes on being so is said once, not several times a second. */
  #failed(task: Task, error: unknown): void {
    const problem = error instanceof Error ? error.message : String(error);
    if (problem !== this.#problem) this.#context.logger("warn", "the event log could not be read", { err: error });
    this.#problem = problem;
    this.#end(task, false);
  }

  #end(task: Task, ok: boolean): void {
    this.#current = undefined;
    if (ok) {
      this.#problem = null;
      this.#reportLost();
    }
    if (task.type === "reach") this.#context.post({ type: "headReached", ok });
    else for (const reader of task.for) this.#context.post({ type: "refreshed", for: reader, ok });
    if (this.#pollAt !== Number.POSITIVE_INFINITY) this.#pollAt = this.#context.now + pollMs;
    this.#startNext();
  }
}
