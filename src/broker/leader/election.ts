/**
 * Election: one broker's part in having exactly one leader, most of the time. Pure.
 *
 *   following --the seat is vacant--> opening --opened, ledger at the head--> leading --fenced--> following
 *                                     opening --overtaken--> following        leading --unclear--> opening
 *
 * It opens epochs and never decides who may write: `openEpoch` does, by comparing the head row, and every write after it.
 * A leader that stops cleanly opens one more epoch to say so, so that the next one need not wait for silence.
 */
import { type BrokerId, type Epoch, type Incarnation, uuidFromBytes } from "../../events/index.ts";
import { lostHistory, type Observation } from "../../replication/index.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { LeadershipState, StepContext } from "../core/step-context.ts";
import type { LeaderEnd, OpenedEpoch } from "./epoch.ts";
import { isResigned, type LeaderLiveness, resignation, watchSeat } from "./leader-liveness.ts";

export type ElectionOptions = Readonly<{
  brokerId: BrokerId;
  /** Where other brokers reach this one; null in a single process. */
  brokerUrl: string | null;
  /** Nobody else can write this log. */
  exclusive: boolean;
  /** A leader that falls silent is followed by another within this. */
  takeoverMs: number;
  /** The longest window in ms that is granted to a node of another process; 0: none is. */
  windowMaxMs: number;
  /** The newest epoch that this process led, if it still knows every boot that it granted a lease to. */
  led: () => Incarnation | null;
  /** The cluster's, as far as the ledger knows. */
  level: () => number;
  random: (bytes: number) => Uint8Array;
}>;

/**
 * Shares of `takeoverMs`, so that with what is seen late at either end, and the opening of the epoch, a takeover stays
 * within it. Even the slowest beat, that of a leader with nobody to grant to, is missed three times before.
 */
const silenceShare = 5 / 8;
const lookShare = 1 / 16;
const jitterShare = 1 / 16;
const retryMs = 200;
/** Between two epochs of ours, doubled as long as they end at once. */
const reopenMs = { first: 50, max: 2_000, short: 1_000 };
const resignMsMax = 1_000;
const ownMax = 64;

type Phase =
  /** `lookAt`: when the seat is looked at again; null: a look is under way. */
  | { type: "watching"; watch: LeaderLiveness | null; lookAt: number | null; lookAgain: "yes" | "no"; silentMs: number }
  /** The ledger is being brought up to the head. */
  | { type: "preparing"; seen: Observation }
  | { type: "opening"; incarnation: Incarnation }
  | { type: "leading" }
  | { type: "pausing"; until: number }
  | { type: "resigning"; incarnation: Incarnation; until: number }
  | { type: "over" };

export class Election {
  readonly #work: StepContext;
  readonly #options: ElectionOptions;
  /** Incarnations that this process has drawn: when the head row holds one, nobody else does. */
  readonly #own = new Set<Incarnation>();
  #phase: Phase = { type: "pausing", until: Number.POSITIVE_INFINITY };
  #standing: LeadershipState = "following";
  #observed: Observation | null = null;
  #highest = 0 as Epoch;
  #answering = true;
  #stopping: "yes" | "no" = "no";
  #reopenAfterMs = reopenMs.first;
  #contendedAt = 0;

  constructor(work: StepContext, options: ElectionOptions) {
    this.#work = work;
    this.#options = options;
  }

  get standing(): LeadershipState {
    return this.#standing;
  }
  /** What the head row last said; null: nothing yet. */
  get observed(): Observation | null {
    return this.#observed;
  }
  /** False while the store does not answer our questions. */
  get storeAnswers(): boolean {
    return this.#answering;
  }

  /** It contends no more, and nothing of it is under way. */
  get over(): boolean {
    return this.#phase.type === "over";
  }

  start(): void {
    this.#watch();
  }

  /** An authenticated sender spoke of this epoch: the next one we open stands above it. */
  noteEpoch(epoch: Epoch): void {
    if (epoch > this.#highest) this.#highest = epoch;
  }

  /** Look at the seat now. */
  look(): void {
    if (this.#phase.type !== "watching") return;
    if (this.#phase.lookAt === null) this.#phase.lookAgain = "yes";
    else this.#phase.lookAt = this.#work.now;
  }

  /** Contends no more. A leader of ours ends first, and tells. */
  stop(): void {
    this.#stopping = "yes";
    if (this.#phase.type === "watching" || this.#phase.type === "pausing") this.#end();
  }

  get dueAt(): number {
    const phase = this.#phase;
    if (phase.type === "watching") return phase.lookAt ?? Number.POSITIVE_INFINITY;
    return phase.type === "pausing" || phase.type === "resigning" ? phase.until : Number.POSITIVE_INFINITY;
  }

  tick(): void {
    if (this.dueAt > this.#work.now) return;
    const phase = this.#phase;
    if (phase.type === "watching") this.#observe(phase);
    else if (phase.type === "pausing") this.#watch();
    else if (phase.type === "resigning") this.#resigned(null);
  }

  // --- the seat

  #watch(): void {
    if (this.#stopping === "yes") return this.#end();
    const jitter = ((this.#options.random(1)[0] ?? 0) / 255) * jitterShare;
    const silentMs = (silenceShare + jitter) * this.#options.takeoverMs;
    const phase = { type: "watching", watch: null, lookAt: null, lookAgain: "no", silentMs } as const;
    this.#phase = phase;
    this.#observe(this.#phase);
  }

  #observe(phase: Extract<Phase, { type: "watching" }>): void {
    phase.lookAt = null;
    this.#work.callLog({ op: "observe" }, { to: "election", of: "observe" });
  }

  observedAs(outcome: LogAnswer): void {
    const phase = this.#phase;
    this.#answering = outcome.type === "observed";
    if (outcome.type === "observed") this.#observed = outcome.seen;
    else this.#work.logger("warn", "the event log could not be observed", { err: causeOf(outcome) });
    if (phase.type !== "watching") return;
    if (outcome.type === "observed") {
      const { seen } = outcome;
      const { silentMs } = phase;
      const [watch, seat] = watchSeat(phase.watch, { seen, at: this.#work.now, silentMs, own: this.#own });
      if (seat === "vacant" || this.#options.exclusive) return this.#contend(seen);
      phase.watch = watch;
      this.#become("following");
    } else {
      phase.watch = null; // silence of the store is not silence of the leader
    }
    const again = phase.lookAgain === "yes" ? 0 : this.#options.takeoverMs * lookShare;
    phase.lookAt = this.#work.now + again;
    phase.lookAgain = "no";
  }

  #contend(seen: Observation): void {
    this.noteEpoch(seen.epoch);
    this.#contendedAt = this.#work.now;
    this.#phase = { type: "preparing", seen };
    this.#work.post({ type: "contending" });
  }

  /** The ledger is at the head, or is not fit to lead with. */
  prepared(ok: boolean): void {
    const phase = this.#phase;
    if (phase.type !== "preparing") return;
    if (!ok || this.#stopping === "yes") return this.#pause(retryMs / 4);
    this.#become("opening");
    const incarnation = Buffer.from(this.#options.random(16)).toString("hex") as Incarnation;
    this.#phase = { type: "opening", incarnation };
    this.#open(phase.seen.epoch, { incarnation, brokerUrl: this.#options.brokerUrl, of: "open" });
  }

  #open(
    expected: Epoch,
    as: Readonly<{ incarnation: Incarnation; brokerUrl: string | null; of: "open" | "resign" }>,
  ): void {
    const { incarnation, brokerUrl } = as;
    const { brokerId, random, windowMaxMs } = this.#options;
    this.#own.add(incarnation);
    if (this.#own.size > ownMax) this.#own.delete(this.#own.values().next().value ?? incarnation);
    const request = {
      ...{ brokerId, incarnation, brokerUrl, expected, windowMaxMs },
      led: this.#options.led(),
      atLeast: (this.#highest + 1) as Epoch,
      keySeed: random(32),
      eventId: uuidFromBytes(random(16)),
      recordedAt: this.#work.at.wall,
      level: this.#options.level(),
    };
    this.#work.callLog({ op: "openEpoch", request }, { to: "election", of: as.of });
  }

  opened(outcome: LogAnswer): void {
    const phase = this.#phase;
    if (phase.type !== "opening") return;
    if (outcome.type === "opened") {
      const opened = this.#openedOf(outcome, phase.incarnation);
      this.#work.logger("info", "opened an epoch", { epoch: opened.epoch, position: opened.head.position });
      this.#warnOfLoss(outcome);
      this.#phase = { type: "leading" };
      this.#work.post({ type: "opened", opened });
      return;
    }
    if (outcome.type === "overtaken") {
      this.#become("following");
      return this.#pause(retryMs / 4);
    }
    this.#answering = false;
    const fields = { err: causeOf(outcome), outcome: outcome.type };
    this.#work.logger("warn", "the epoch could not be opened", fields);
    this.#pause(retryMs);
  }

  #openedOf(outcome: Extract<LogAnswer, { type: "opened" }>, incarnation: Incarnation): OpenedEpoch {
    const { epoch, previous, head, entry, lessees } = outcome;
    this.noteEpoch(epoch);
    return { epoch, incarnation, previous, head, entry, lessees, openedAt: this.#work.now };
  }

  #warnOfLoss({ epoch, beatsLost: reason, lessees }: Extract<LogAnswer, { type: "opened" }>): void {
    const held = lessees.find(({ boot }) => boot === lostHistory(epoch, 0).boot);
    if (reason === null || held === undefined) return;
    const message = "leases of earlier epochs may be missing from the store; receipts wait for the longest window";
    this.#work.logger("warn", message, { epoch, reason, windowMs: held.windowMs });
  }

  /** The leader of the epoch that we opened leads now: the ledger is at the head. */
  leads(): void {
    this.#become("leading");
  }

  /** It writes, grants and answers nothing more. */
  ended(end: LeaderEnd): void {
    const short = this.#work.now - this.#contendedAt < reopenMs.short;
    this.#reopenAfterMs =
      end.type === "reopen" && short ? Math.min(reopenMs.max, this.#reopenAfterMs * 2) : reopenMs.first;
    switch (end.type) {
      case "reopen":
        this.#work.logger("warn", "the epoch is opened again", { reason: end.reason });
        if (end.atLeast > 0) this.noteEpoch((end.atLeast - 1) as Epoch);
        this.#become("opening");
        return this.#pause(this.#reopenAfterMs); // a store in trouble is not asked in a tight loop
      case "fenced":
        this.#work.logger("warn", "stepped down: another broker leads");
        this.#become("following");
        return this.#watch();
      case "stopped":
        return this.#resign();
    }
  }

  #resign(): void {
    if (this.#options.exclusive) return this.#end(); // there is nobody to tell
    const incarnation = resignation(Buffer.from(this.#options.random(16)).toString("hex")) as Incarnation;
    this.#become("opening");
    this.#phase = { type: "resigning", incarnation, until: this.#work.now + resignMsMax };
    this.#open(this.#highest, { incarnation, brokerUrl: null, of: "resign" });
  }

  resigned(outcome: LogAnswer): void {
    if (this.#phase.type !== "resigning") return;
    this.#resigned(outcome.type === "opened" ? this.#openedOf(outcome, this.#phase.incarnation) : null);
  }

  #resigned(opened: OpenedEpoch | null): void {
    if (opened !== null) this.#work.logger("info", "resigned", { epoch: opened.epoch });
    this.#work.post({ type: "resigned", opened });
    this.#end();
  }

  #pause(ms: number): void {
    this.#phase = { type: "pausing", until: this.#work.now + ms };
    if (this.#stopping === "yes") this.#end();
  }

  #end(): void {
    if (this.#phase.type === "over") return;
    this.#phase = { type: "over" };
    this.#become("following");
    this.#work.post({ type: "over" });
  }

  #become(standing: LeadershipState): void {
    if (this.#standing === standing) return;
    this.#standing = standing;
    this.#work.post({ type: "standing", standing });
  }
}

/** The leader that an observation names; null when it names nobody who leads. */
export function leaderIn(seen: Observation | null): Observation | null {
  return seen === null || seen.epoch === 0 || isResigned(seen.incarnation) ? null : seen;
}

function causeOf(outcome: LogAnswer): unknown {
  return "cause" in outcome ? outcome.cause : outcome.type;
}
