/**
 * Duty holder: what exactly one broker does for the cluster, the leader. Pure.
 *
 * A duty runs only in an epoch of ours, never twice at once, and is told to stop when the epoch ends. What it wants changed
 * it asks for by commands that name its epoch: they are written in that epoch's transactions or not at all, so a duty that was
 * overtaken by another leader's cannot do harm with what it still has in hand.
 *
 * Two duties are done here: the sweep of expired sessions (nothing leaves a projection by a clock), and that of old command ids.
 */
import { type CommandId, uuidFromBytes } from "../../events/index.ts";
import type { Counters } from "../core/counters.ts";
import type { BrokerInput, CommandAnswer, DutyRun, Leadership, LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { callerAt, epochIsOver, type PendingCommands } from "./pending-commands.ts";

type Held = {
  readonly name: string;
  readonly everyMs: number;
  dueAt: number;
  running: DutyRun | null;
};

export type DutyTimes = Readonly<{ name: string; everyMs: number }>;

const expiry = "expiry sweep";
const commandIds = "command sweep";
const sweptAtOnce = 1_000;
const sweepsMax = 200;

export class DutyHolder {
  readonly #work: StepContext;
  readonly #parts: Readonly<{
    ledger: BrokerState;
    inbox: PendingCommands;
    counters: Counters;
    random: (bytes: number) => Uint8Array;
  }>;
  readonly #held: readonly Held[];
  #lead: Leadership | null = null;
  #runs = 0;
  #sweeps = 0;
  #swept = 0;

  constructor(
    work: StepContext,
    parts: Readonly<{
      ledger: BrokerState;
      inbox: PendingCommands;
      counters: Counters;
      random: (bytes: number) => Uint8Array;
    }>,
    duties: Readonly<{ others: readonly DutyTimes[]; expirySweepMs: number; commandSweepMs: number }>,
  ) {
    this.#work = work;
    this.#parts = parts;
    const all = [
      ...duties.others,
      { name: expiry, everyMs: duties.expirySweepMs },
      { name: commandIds, everyMs: duties.commandSweepMs },
    ];
    this.#held = all.map(({ name, everyMs }) => ({ name, everyMs, dueAt: 0, running: null }));
  }

  get running(): number {
    return this.#held.filter(({ running }) => running !== null).length;
  }

  begin(leadership: Leadership): void {
    this.#lead = leadership;
    for (const held of this.#held) held.dueAt = this.#work.now;
  }

  /** What a duty asks for is carried out in the epoch of its run, or not at all. */
  submit({ run, id, request }: Extract<BrokerInput, { type: "dutySubmitted" }>): void {
    if (!this.isCurrent(run)) {
      return this.#work.emit({ type: "commandAnswered", id, answer: epochIsOver(request.commandId) });
    }
    const waiter = callerAt(this.#work.now, { id, waitMs: Number.POSITIVE_INFINITY, duty: true });
    const { epoch, incarnation } = run;
    this.#parts.inbox.submit(request, waiter, { epoch, incarnation });
  }

  end(): void {
    if (this.#lead === null) return;
    this.#lead = null;
    for (const held of this.#held) {
      if (held.running === null) continue;
      if (isOurs(held.name)) held.running = null;
      else this.#work.emit({ type: "endDuty", run: held.running });
    }
  }

  /** True while this run is the newest of its duty, in the epoch that is open. */
  isCurrent({ name, epoch, incarnation, run }: DutyRun): boolean {
    if (this.#lead?.epoch !== epoch || this.#lead.incarnation !== incarnation) return false;
    return this.#held.some((held) => held.name === name && held.running?.run === run);
  }

  get dueAt(): number {
    if (this.#lead === null) return Number.POSITIVE_INFINITY;
    let due = Number.POSITIVE_INFINITY;
    for (const held of this.#held) if (held.running === null) due = Math.min(due, held.dueAt);
    return due;
  }

  tick(): void {
    if (this.#lead === null || this.dueAt > this.#work.now) return;
    for (const held of this.#held) {
      if (held.running !== null || held.dueAt > this.#work.now) continue;
      this.#runs += 1;
      this.#parts.counters.dutyRuns += 1;
      held.running = { name: held.name, run: this.#runs, ...this.#lead };
      if (held.name === expiry) this.#beginSweep();
      else if (held.name === commandIds) this.#beginCommandSweep();
      else this.#work.emit({ type: "runDuty", run: held.running });
    }
  }

  ended(run: DutyRun, outcome: "done" | "failed"): void {
    const held = this.#held.find(({ name, running }) => name === run.name && running?.run === run.run);
    if (held === undefined) return;
    held.running = null;
    if (outcome === "failed") this.#parts.counters.dutyFailures += 1;
    held.dueAt = isSame(run, this.#lead) ? this.#work.now + held.everyMs : this.#work.now;
  }

  // --- the sweep of expired sessions

  #beginSweep(): void {
    this.#sweeps = 0;
    this.#sweep();
  }

  #sweep(): void {
    const { ledger, inbox, random } = this.#parts;
    const sessionIds = this.#sweeps < sweepsMax ? ledger.projection.expired(this.#work.at.wall, sweptAtOnce) : [];
    if (sessionIds.length === 0) return this.#over(expiry);
    this.#sweeps += 1;
    this.#swept = sessionIds.length;
    const commandId = uuidFromBytes(random(16)) as string as CommandId;
    const request = { commandId, actor: "system", command: { type: "expireSessions", sessionIds } } as const;
    inbox.submit(request, { type: "sweep" }, this.#lead);
  }

  sweepAnswered(answer: CommandAnswer): void {
    if (this.#lead === null) return;
    if (answer.type === "done" && answer.changed && this.#swept >= sweptAtOnce) this.#sweep();
    else this.#over(expiry);
  }

  // --- the sweep of old command ids: kept for a day, so that a late retry is known, and not for ever

  #beginCommandSweep(): void {
    this.#sweepsOfCommands = 0;
    this.#work.callLog({ op: "sweepCommands" }, { to: "duties" });
  }

  #sweepsOfCommands = 0;

  commandsSwept(outcome: LogAnswer): void {
    this.#sweepsOfCommands += 1;
    const more = outcome.type === "swept" && outcome.count > 0 && this.#sweepsOfCommands < sweepsMax;
    if (more && this.#lead !== null) return this.#work.callLog({ op: "sweepCommands" }, { to: "duties" });
    this.#over(commandIds);
  }

  #over(name: string): void {
    const held = this.#held.find((one) => one.name === name);
    if (held?.running != null) this.ended(held.running, "done");
  }
}

function isOurs(name: string): boolean {
  return name === expiry || name === commandIds;
}

function isSame(run: DutyRun, lead: Leadership | null): boolean {
  return lead !== null && run.epoch === lead.epoch && run.incarnation === lead.incarnation;
}
