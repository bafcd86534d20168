/**
 * Broker state sync: reads the log into the broker state while another broker leads, and brings it to the head of our
 * own epoch. Pure.
 *
 * - Reads run one after the other, whatever they are for. A leader folds its own commits, so this sync then does not
 *   poll.
 * - The log shows nothing above the durable horizon, so a standby's state has nothing that could be lost.
 * - A state that is not in the log (a lost suffix after a failover) is folded again from the beginning.
 */
import { firstPosition, type Link, type Position, sameLink } from "../../events/index.ts";
import type { LoadedSnapshot } from "../../replication/node/index.ts";
import type { Counters } from "../core/counters.ts";
import type { RefreshedFor } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "./broker-state.ts";

type Task =
  | { readonly type: "refresh"; readonly for: RefreshedFor[]; restarted: boolean }
  /** `retryAt`: read again then; the log did not show the head yet. */
  | { readonly type: "reach"; readonly head: Link; readonly until: number; retryAt: number | null };

const pollMs = 250;
const pageEvents = 2_000;
const retryEveryMs = 20;
const loadMsMax = 60_000;
/** The first position of a whole log: without a snapshot, the log is read from there. */
const wholeLog = firstPosition;

export class BrokerStateSync {
  readonly #context: StepContext;
  readonly #state: BrokerState;
  readonly #counters: Counters;
  #current: Task | undefined;
  #next: Task[] = [];
  /** Infinity: a leader folds its own commits. */
  #pollAt = Number.POSITIVE_INFINITY;
  #hasReachedHead = false;
  #loading: Readonly<{ id: number; first: Position; until: number }> | null = null;
  #loads = 0;
  #beginsFrom: "snapshot" | "log";
  /** Why the last read failed; null: it did not. */
  #problem: string | null = null;

  /** @param parts.beginsFrom `snapshot`: request a snapshot before the log is read from its beginning */
  constructor(
    context: StepContext,
    parts: Readonly<{ state: BrokerState; counters: Counters; beginsFrom: "snapshot" | "log" }>,
  ) {
    this.#context = context;
    this.#state = parts.state;
    this.#counters = parts.counters;
    this.#beginsFrom = parts.beginsFrom;
  }

  /** True once the state has been at the log's head. */
  get hasReachedHead(): boolean {
    return this.#hasReachedHead;
  }

  /** Why the state has not reached the log's head yet. */
  get problem(): string {
    return this.#problem ?? "the log has not been read to its head yet";
  }

  /** Polls the log from now on, or leaves folding to the leader. */
  setFeeder(by: "self" | "leader"): void {
    this.#pollAt = by === "self" ? this.#context.now : Number.POSITIVE_INFINITY;
  }

  /** The log may have something new. */
  pollNow(): void {
    if (this.#pollAt !== Number.POSITIVE_INFINITY) this.#pollAt = this.#context.now;
  }

  /**
   * Posts `refreshed` once the state has been at the head. A read that has not started serves all requests until then.
   */
  refresh(reader: RefreshedFor): void {
    const last = this.#next.at(-1);
    if (last?.type === "refresh") last.for.push(reader);
    else this.#next.push({ type: "refresh", for: [reader], restarted: false });
    this.#startNext();
  }

  /** Posts `headReached` once the state is exactly at a head that a clean commit has proven. */
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
        if (outcome.page.entries.length === 0) {
          this.#atHead(task);
          return;
        }
        try {
          this.#context.post({ type: "eventsFolded", events: this.#state.foldPage(outcome.page) });
        } catch (error) {
          this.#failed(task, error);
          return;
        }
        if (this.#isReached(task)) this.#end(task, this.#state.unreadable === null);
        else this.#read();
        return;
      }
      case "forked":
        if (this.#state.applied.position === 0) {
          this.#failed(task, "the log contradicts itself");
          return;
        }
        this.#state.reset();
        if (task.type === "refresh") task.restarted = true;
        this.#read();
        return;
      case "truncated":
        this.#loadSnapshot(outcome.first);
        return;
      case "failed":
        this.#failed(task, outcome.cause);
        return;
      default:
        this.#failed(task, `an answer of another kind: ${outcome.type}`);
    }
  }

  /** The log now begins after our position: only a snapshot helps. The old projection stays until one arrives. */
  #loadSnapshot(first: Position): void {
    this.#loads += 1;
    this.#loading = { id: this.#loads, first, until: this.#context.now + loadMsMax };
    this.#context.emit({ type: "loadSnapshot", id: this.#loads, first });
  }

  snapshotLoaded(id: number, snapshot: LoadedSnapshot): void {
    const task = this.#current;
    if (this.#loading?.id !== id || task === undefined) return;
    const { first } = this.#loading;
    if (snapshot.link.position < first - 1) {
      this.snapshotFailed(id, "it ends before the log begins");
      return;
    }
    this.#loading = null;
    this.#state.load(snapshot);
    this.#context.logger("info", "continuing from a snapshot", { position: snapshot.link.position });
    this.#context.post({ type: "eventsFolded", events: [] });
    if (this.#isReached(task)) this.#end(task, true);
    else this.#read();
  }

  snapshotFailed(id: number, reason: string): void {
    const task = this.#current;
    if (this.#loading?.id !== id || task === undefined) return;
    const { first } = this.#loading;
    this.#loading = null;
    if (first === wholeLog) {
      this.#read();
      return;
    }
    const missing = `the event log begins at ${first}, and no snapshot reaches it: ${reason}`;
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
        const message = "this broker's state did not match the log; rebuilt it from the beginning";
        this.#context.logger("error", message);
      }
      this.#hasReachedHead = true;
      this.#end(task, this.#state.unreadable === null);
      return;
    }
    if (this.#isReached(task)) {
      this.#end(task, this.#state.unreadable === null);
      return;
    }
    const { now } = this.#context;
    // Another broker has opened a later epoch after our commit: we are late, and the state is right.
    if (this.#state.applied.epoch > task.head.epoch) {
      this.#failed(task, "the log has moved on to a later epoch");
      return;
    }
    if (this.#state.applied.position >= task.head.position) this.#state.reset();
    if (now >= task.until) this.#failed(task, "the log does not show what was written to it");
    else task.retryAt = now + retryEveryMs;
  }

  /** This broker may be the only one that had read what was lost. */
  #reportLost(): void {
    const events = this.#state.takeLost();
    if (events.length === 0) return;
    this.#context.logger(
      "error",
      "the log has lost revocations that this broker has read; reporting them to the leader",
      {
        lost: events.length,
      },
    );
    this.#context.post({ type: "denialsLost", events });
  }

  /** A lasting problem is logged once, not several times a second. */
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
