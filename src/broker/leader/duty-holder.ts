/**
 * Duty holder: starts and ends the duties, which exactly one broker does for the cluster, the leader. Pure.
 *
 * A duty runs only in an epoch of this process, never twice at once, and is aborted when the epoch ends. It changes the
 * log by commands that name its epoch: they are written in transactions of that epoch or not at all. So a duty that
 * another leader's duty has overtaken can do no harm.
 *
 * Three duties run here: the sweep of expired sessions, that of memberships and suspensions that have ended (no clock
 * removes anything from a projection), and that of old command ids.
 */
import { type Command, commandIdFromBytes, type Projection, type UnixMs } from "../../events/index.ts";
import type { Counters } from "../core/counters.ts";
import type { BrokerInput, CommandAnswer, DutyRun, Leadership, LogAnswer } from "../core/messages.ts";
import type { DutyTimes } from "../core/options.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { callerAt, epochEnded, type PendingCommands } from "./pending-commands.ts";

type HeldDuty = {
  readonly name: string;
  readonly everyMs: number;
  dueAt: number;
  running: DutyRun | null;
};

const expirySweep = "expiry sweep";
const endSweep = "end sweep";
const commandSweep = "command sweep";
const expiredAtOnce = 1_000;
/** Each is an event of its own. */
const suspensionsAtOnce = 200;
const requestsAtOnce = 200;
/** How often ends are looked for. A look costs nothing before the earliest end. */
const endSweepMs = 1_000;
const sweepsMax = 200;

/** A sweep that submits one command after another until nothing is left. */
type Sweep = "sessions" | "ends";

export class DutyHolder {
  readonly #context: StepContext;
  readonly #parts: Readonly<{
    state: BrokerState;
    pendingCommands: PendingCommands;
    counters: Counters;
    random: (bytes: number) => Uint8Array;
  }>;
  readonly #duties: readonly HeldDuty[];
  #leadership: Leadership | null = null;
  #runs = 0;
  /** Commands of the running sweeps. */
  readonly #swept: Record<Sweep, number> = { sessions: 0, ends: 0 };
  #lastSweepCount = 0;

  constructor(
    context: StepContext,
    parts: Readonly<{
      state: BrokerState;
      pendingCommands: PendingCommands;
      counters: Counters;
      random: (bytes: number) => Uint8Array;
    }>,
    duties: Readonly<{ others: readonly DutyTimes[]; expirySweepMs: number; commandSweepMs: number }>,
  ) {
    this.#context = context;
    this.#parts = parts;
    const all = [
      ...duties.others,
      { name: expirySweep, everyMs: duties.expirySweepMs },
      { name: endSweep, everyMs: endSweepMs },
      { name: commandSweep, everyMs: duties.commandSweepMs },
    ];
    this.#duties = all.map(({ name, everyMs }) => ({ name, everyMs, dueAt: 0, running: null }));
  }

  get running(): number {
    return this.#duties.filter(({ running }) => running !== null).length;
  }

  begin(leadership: Leadership): void {
    this.#leadership = leadership;
    for (const duty of this.#duties) duty.dueAt = this.#context.now;
  }

  /** A command of a duty is performed in the epoch of its run, or not at all. */
  submit({ run, id, request }: Extract<BrokerInput, { type: "dutySubmitted" }>): void {
    if (!this.isCurrent(run)) {
      this.#context.emit({ type: "commandAnswered", id, answer: epochEnded(request.commandId) });
      return;
    }
    const waiter = callerAt(this.#context.now, { id, waitMs: Number.POSITIVE_INFINITY, duty: true });
    const { epoch, incarnation } = run;
    this.#parts.pendingCommands.submit(request, waiter, { epoch, incarnation });
  }

  end(): void {
    if (this.#leadership === null) return;
    this.#leadership = null;
    for (const duty of this.#duties) {
      if (duty.running === null) continue;
      if (isOwnDuty(duty.name)) duty.running = null;
      else this.#context.emit({ type: "endDuty", run: duty.running });
    }
  }

  /** True while this run is the newest of its duty, in the open epoch. */
  isCurrent({ name, epoch, incarnation, run }: DutyRun): boolean {
    if (this.#leadership?.epoch !== epoch || this.#leadership.incarnation !== incarnation) return false;
    return this.#duties.some((duty) => duty.name === name && duty.running?.run === run);
  }

  get dueAt(): number {
    if (this.#leadership === null) return Number.POSITIVE_INFINITY;
    let due = Number.POSITIVE_INFINITY;
    for (const duty of this.#duties) if (duty.running === null) due = Math.min(due, duty.dueAt);
    return due;
  }

  tick(): void {
    if (this.#leadership === null || this.dueAt > this.#context.now) return;
    for (const duty of this.#duties) {
      if (duty.running !== null || duty.dueAt > this.#context.now) continue;
      this.#runs += 1;
      if (duty.name !== endSweep) this.#parts.counters.dutyRuns += 1;
      duty.running = { name: duty.name, run: this.#runs, ...this.#leadership };
      if (duty.name === expirySweep) this.#beginSweep("sessions");
      else if (duty.name === endSweep) this.#beginSweep("ends");
      else if (duty.name === commandSweep) this.#beginCommandSweep();
      else this.#context.emit({ type: "runDuty", run: duty.running });
    }
  }

  runEnded(run: DutyRun, outcome: "done" | "failed"): void {
    const duty = this.#duties.find(({ name, running }) => name === run.name && running?.run === run.run);
    if (duty === undefined) return;
    duty.running = null;
    if (outcome === "failed") this.#parts.counters.dutyFailures += 1;
    duty.dueAt = isInEpoch(run, this.#leadership) ? this.#context.now + duty.everyMs : this.#context.now;
  }

  // --- the sweeps of what has expired

  #beginSweep(sweep: Sweep): void {
    this.#swept[sweep] = 0;
    this.#sweep(sweep);
  }

  #sweep(sweep: Sweep): void {
    const { state, pendingCommands, random } = this.#parts;
    const { wall } = this.#context.at;
    const command = this.#swept[sweep] < sweepsMax ? this.#nextOf(sweep, state.projection, wall) : null;
    if (command === null) {
      this.#endOwn(dutyOf[sweep]);
      return;
    }
    this.#swept[sweep] += 1;
    const request = { commandId: commandIdFromBytes(random(16)), actor: "system", command };
    pendingCommands.submit(request, { type: "sweep", sweep }, this.#leadership);
  }

  #nextOf(sweep: Sweep, projection: Projection, now: UnixMs): Command | null {
    if (sweep === "ends") return nextEnds(projection, now);
    const sessionIds = projection.expired(now, expiredAtOnce);
    this.#lastSweepCount = sessionIds.length;
    return sessionIds.length === 0 ? null : { type: "expireSessions", sessionIds };
  }

  sweepAnswered(sweep: Sweep, answer: CommandAnswer): void {
    if (this.#leadership === null) return;
    const mayBeMore = sweep === "ends" || this.#lastSweepCount >= expiredAtOnce;
    if (answer.type === "done" && answer.changed && mayBeMore) this.#sweep(sweep);
    else this.#endOwn(dutyOf[sweep]);
  }

  // --- the sweep of old command ids, which are kept for a day so that a late retry is recognized

  #beginCommandSweep(): void {
    this.#commandSweeps = 0;
    this.#context.callLog({ op: "sweepCommands" }, { to: "duties" });
  }

  #commandSweeps = 0;

  commandsSwept(outcome: LogAnswer): void {
    this.#commandSweeps += 1;
    const more = outcome.type === "swept" && outcome.count > 0 && this.#commandSweeps < sweepsMax;
    if (more && this.#leadership !== null) this.#context.callLog({ op: "sweepCommands" }, { to: "duties" });
    else this.#endOwn(commandSweep);
  }

  #endOwn(name: string): void {
    const duty = this.#duties.find((one) => one.name === name);
    if (duty?.running != null) this.runEnded(duty.running, "done");
  }
}

const dutyOf: Readonly<Record<Sweep, string>> = { sessions: expirySweep, ends: endSweep };

function isOwnDuty(name: string): boolean {
  return name === expirySweep || name === endSweep || name === commandSweep;
}

/** Memberships of one group, suspensions, held changes or access requests whose ends have come. Null: none. */
function nextEnds(projection: Projection, now: UnixMs): Command | null {
  const memberships = projection.expiredMemberships(now, expiredAtOnce);
  if (memberships !== null) return { type: "expireMemberships", ...memberships };
  const userIds = projection.expiredSuspensions(now, suspensionsAtOnce);
  if (userIds.length > 0) return { type: "expireSuspensions", userIds };
  const heldIds = projection.massChanges.expired(now);
  if (heldIds.length > 0) return { type: "expireHeldChanges", heldIds };
  const requestIds = projection.accessRequests.expired(now, requestsAtOnce);
  return requestIds.length === 0 ? null : { type: "expireAccessRequests", requestIds };
}

function isInEpoch(run: DutyRun, leadership: Leadership | null): boolean {
  return leadership !== null && run.epoch === leadership.epoch && run.incarnation === leadership.incarnation;
}
