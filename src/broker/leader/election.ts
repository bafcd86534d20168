/**
 * Election: one broker's part in having exactly one leader, most of the time. Pure.
 *
 *   following --leader silent--> opening --opened, state at the head--> leading --fenced--> following
 *                                opening --overtaken--> following       leading --unclear--> opening
 *
 * It opens epochs and never decides who may write: `openEpoch` compares the head row, and so does every write after it.
 * A leader that stops cleanly opens one more epoch to resign, so that the next leader need not wait for its silence.
 */
import {
  type BrokerId,
  type Epoch,
  type Incarnation,
  nextEpoch,
  noEpoch,
  parseIncarnation,
  uuidFromBytes,
} from "../../events/index.ts";
import { lostHistory, type Observation } from "../../replication/log/index.ts";
import type { LeaderEnd, LeadershipState, OpenedEpoch } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import { isResigned, type LeaderWatch, observeLiveness, resignedIncarnation } from "./leader-liveness.ts";

export type ElectionOptions = Readonly<{
  brokerId: BrokerId;
  /** Where other brokers reach this one; null in a single process. */
  brokerUrl: string | null;
  /** No other process can write this log. */
  exclusive: boolean;
  /** Another broker replaces a silent leader within this time. */
  takeoverMs: number;
  /** A leader that is known to be replaced: its silence is not waited for. */
  replaced: Incarnation | null;
  /** The longest window in ms granted to a node of another process; 0: no such node. */
  windowMaxMs: number;
  /** The newest epoch that this process led, if it still knows all its lessees; null otherwise. */
  lastLed: () => Incarnation | null;
  /** The cluster's level, as the broker state knows it. */
  level: () => number;
  random: (bytes: number) => Uint8Array;
}>;

/**
 * Shares of `takeoverMs`: with late observations at both ends and the opening of the epoch, a takeover stays within it.
 * Even the slowest beat, that of a leader without lessees, must be missed three times.
 */
const silenceShare = 5 / 8;
const observeShare = 1 / 16;
const jitterShare = 1 / 16;
const retryMs = 200;
/** The pause between two epochs of this process, doubled while they end immediately. */
const reopenMs = { first: 50, max: 2_000, short: 1_000 };
const resignMsMax = 1_000;
const ownIncarnationsMax = 64;

type Phase =
  /** `observeAt`: when the head row is read again; null: a read is in flight. */
  | {
      type: "watching";
      leaderWatch: LeaderWatch | null;
      observeAt: number | null;
      observeAgain: boolean;
      silentMs: number;
    }
  /** The broker state is being brought to the head. */
  | { type: "preparing"; seen: Observation }
  | { type: "opening"; incarnation: Incarnation }
  | { type: "leading" }
  | { type: "pausing"; until: number }
  | { type: "resigning"; incarnation: Incarnation; until: number }
  | { type: "ended" };

export class Election {
  readonly #context: StepContext;
  readonly #options: ElectionOptions;
  /** Incarnations of this process, and a replaced one: if the head row holds one, no other broker leads. */
  readonly #ownIncarnations = new Set<Incarnation>();
  #phase: Phase = { type: "pausing", until: Number.POSITIVE_INFINITY };
  #leadershipState: LeadershipState = "following";
  #observed: Observation | null = null;
  #highestEpoch = noEpoch;
  #storeAnswers = true;
  #stopping = false;
  #reopenAfterMs = reopenMs.first;
  #contendedAt = 0;

  constructor(context: StepContext, options: ElectionOptions) {
    this.#context = context;
    this.#options = options;
    if (options.replaced !== null) this.#ownIncarnations.add(options.replaced);
  }

  get leadershipState(): LeadershipState {
    return this.#leadershipState;
  }
  /** The head row as last read; null: not read yet. */
  get observed(): Observation | null {
    return this.#observed;
  }
  /** False while the store does not answer. */
  get storeAnswers(): boolean {
    return this.#storeAnswers;
  }

  /** True once it has stopped contending and has no call in flight. */
  get hasEnded(): boolean {
    return this.#phase.type === "ended";
  }

  start(): void {
    this.#watch();
  }

  /** An authenticated sender named this epoch: the next one we open is above it. */
  noteEpoch(epoch: Epoch): void {
    if (epoch > this.#highestEpoch) this.#highestEpoch = epoch;
  }

  /** Reads the head row now. */
  observeNow(): void {
    if (this.#phase.type !== "watching") return;
    if (this.#phase.observeAt === null) this.#phase.observeAgain = true;
    else this.#phase.observeAt = this.#context.now;
  }

  /** Stops contending. A leader of this process ends first. */
  stop(): void {
    this.#stopping = true;
    if (this.#phase.type === "watching" || this.#phase.type === "pausing") this.#end();
  }

  get dueAt(): number {
    const phase = this.#phase;
    if (phase.type === "watching") return phase.observeAt ?? Number.POSITIVE_INFINITY;
    return phase.type === "pausing" || phase.type === "resigning" ? phase.until : Number.POSITIVE_INFINITY;
  }

  tick(): void {
    if (this.dueAt > this.#context.now) return;
    const phase = this.#phase;
    if (phase.type === "watching") this.#observe(phase);
    else if (phase.type === "pausing") this.#watch();
    else if (phase.type === "resigning") this.#resigned(null);
  }

  // --- the head row

  #watch(): void {
    if (this.#stopping) {
      this.#end();
      return;
    }
    const jitter = ((this.#options.random(1)[0] ?? 0) / 255) * jitterShare;
    const silentMs = (silenceShare + jitter) * this.#options.takeoverMs;
    const phase = { type: "watching", leaderWatch: null, observeAt: null, observeAgain: false, silentMs } as const;
    this.#phase = phase;
    this.#observe(this.#phase);
  }

  #observe(phase: Extract<Phase, { type: "watching" }>): void {
    phase.observeAt = null;
    this.#context.callLog({ op: "observe" }, { to: "election", of: "observe" });
  }

  headObserved(outcome: LogAnswer): void {
    const phase = this.#phase;
    this.#storeAnswers = outcome.type === "observed";
    if (outcome.type === "observed") this.#observed = outcome.seen;
    else this.#context.logger("warn", "could not read the head of the event log", { err: causeOf(outcome) });
    if (phase.type !== "watching") return;
    if (outcome.type === "observed") {
      const { seen } = outcome;
      const { silentMs } = phase;
      const [leaderWatch, liveness] = observeLiveness(phase.leaderWatch, {
        seen,
        at: this.#context.now,
        silentMs,
        ownIncarnations: this.#ownIncarnations,
      });
      if (liveness === "silent" || this.#options.exclusive) {
        this.#contend(seen);
        return;
      }
      phase.leaderWatch = leaderWatch;
      this.#setState("following");
    } else {
      phase.leaderWatch = null; // a silent store does not mean a silent leader
    }
    const waitMs = phase.observeAgain ? 0 : this.#options.takeoverMs * observeShare;
    phase.observeAt = this.#context.now + waitMs;
    phase.observeAgain = false;
  }

  #contend(seen: Observation): void {
    this.noteEpoch(seen.epoch);
    this.#contendedAt = this.#context.now;
    this.#phase = { type: "preparing", seen };
    this.#context.post({ type: "contending" });
  }

  /** @param ok the broker state is at the head, and this build can read all of it */
  stateReady(ok: boolean): void {
    const phase = this.#phase;
    if (phase.type !== "preparing") return;
    if (!ok || this.#stopping) {
      this.#pause(retryMs / 4);
      return;
    }
    this.#setState("opening");
    const incarnation = parseIncarnation(Buffer.from(this.#options.random(16)).toString("hex"));
    this.#phase = { type: "opening", incarnation };
    this.#open(phase.seen.epoch, { incarnation, brokerUrl: this.#options.brokerUrl, of: "open" });
  }

  #open(
    expected: Epoch,
    opening: Readonly<{ incarnation: Incarnation; brokerUrl: string | null; of: "open" | "resign" }>,
  ): void {
    const { incarnation, brokerUrl } = opening;
    const { brokerId, random, windowMaxMs } = this.#options;
    this.#ownIncarnations.add(incarnation);
    if (this.#ownIncarnations.size > ownIncarnationsMax)
      this.#ownIncarnations.delete(this.#ownIncarnations.values().next().value ?? incarnation);
    const request = {
      brokerId,
      incarnation,
      brokerUrl,
      expected,
      windowMaxMs,
      led: this.#options.lastLed(),
      atLeast: nextEpoch(this.#highestEpoch),
      keySeed: random(32),
      eventId: uuidFromBytes(random(16)),
      recordedAt: this.#context.at.wall,
      level: this.#options.level(),
    };
    this.#context.callLog({ op: "openEpoch", request }, { to: "election", of: opening.of });
  }

  opened(outcome: LogAnswer): void {
    const phase = this.#phase;
    if (phase.type !== "opening") return;
    if (outcome.type === "opened") {
      const opened = this.#openedOf(outcome, phase.incarnation);
      this.#context.logger("info", "opened an epoch", { epoch: opened.epoch, position: opened.head.position });
      this.#warnOfLoss(outcome);
      this.#phase = { type: "leading" };
      this.#context.post({ type: "opened", opened });
      return;
    }
    if (outcome.type === "overtaken") {
      this.#setState("following");
      this.#pause(retryMs / 4);
      return;
    }
    this.#storeAnswers = false;
    const fields = { err: causeOf(outcome), outcome: outcome.type };
    this.#context.logger("warn", "could not open an epoch", fields);
    this.#pause(retryMs);
  }

  #openedOf(outcome: Extract<LogAnswer, { type: "opened" }>, incarnation: Incarnation): OpenedEpoch {
    const { epoch, previous, head, entry, lessees, admitted } = outcome;
    this.noteEpoch(epoch);
    return { epoch, incarnation, previous, head, entry, lessees, admitted, openedAt: this.#context.now };
  }

  #warnOfLoss({ epoch, beatsLost: reason, lessees }: Extract<LogAnswer, { type: "opened" }>): void {
    const lostHistoryRow = lessees.find(({ boot }) => boot === lostHistory(epoch, 0).boot);
    if (reason === null || lostHistoryRow === undefined) return;
    const message = "leases of earlier epochs may be missing from the store; receipts wait for the longest window";
    this.#context.logger("warn", message, { epoch, reason, windowMs: lostHistoryRow.windowMs });
  }

  /** The leader of our epoch leads now: the broker state is at the head. */
  nowLeading(): void {
    this.#setState("leading");
  }

  /** Our leader has ended: it writes, grants and answers nothing more. */
  leadershipEnded(end: LeaderEnd): void {
    const short = this.#context.now - this.#contendedAt < reopenMs.short;
    this.#reopenAfterMs =
      end.type === "reopen" && short ? Math.min(reopenMs.max, this.#reopenAfterMs * 2) : reopenMs.first;
    switch (end.type) {
      case "reopen":
        this.#context.logger("warn", "opening the epoch again", { reason: end.reason });
        if (end.atLeast > 0) this.noteEpoch((end.atLeast - 1) as Epoch);
        this.#setState("opening");
        this.#pause(this.#reopenAfterMs); // do not call a store in trouble in a tight loop
        return;
      case "fenced":
        this.#context.logger("warn", "stepped down: another broker leads");
        this.#setState("following");
        this.#watch();
        return;
      case "stopped":
        this.#resign();
    }
  }

  #resign(): void {
    if (this.#options.exclusive) {
      this.#end(); // no other broker exists
      return;
    }
    const incarnation = parseIncarnation(resignedIncarnation(Buffer.from(this.#options.random(16)).toString("hex")));
    this.#setState("opening");
    this.#phase = { type: "resigning", incarnation, until: this.#context.now + resignMsMax };
    this.#open(this.#highestEpoch, { incarnation, brokerUrl: null, of: "resign" });
  }

  resigned(outcome: LogAnswer): void {
    if (this.#phase.type !== "resigning") return;
    this.#resigned(outcome.type === "opened" ? this.#openedOf(outcome, this.#phase.incarnation) : null);
  }

  #resigned(opened: OpenedEpoch | null): void {
    if (opened !== null) this.#context.logger("info", "resigned", { epoch: opened.epoch });
    this.#context.post({ type: "resigned", opened });
    this.#end();
  }

  #pause(ms: number): void {
    this.#phase = { type: "pausing", until: this.#context.now + ms };
    if (this.#stopping) this.#end();
  }

  #end(): void {
    if (this.#phase.type === "ended") return;
    this.#phase = { type: "ended" };
    this.#setState("following");
    this.#context.post({ type: "electionEnded" });
  }

  #setState(leadershipState: LeadershipState): void {
    if (this.#leadershipState === leadershipState) return;
    this.#leadershipState = leadershipState;
    this.#context.post({ type: "leadershipChanged", leadershipState });
  }
}

/** The leader that an observation names; null: none. */
export function leaderIn(seen: Observation | null): Observation | null {
  return seen === null || seen.epoch === 0 || isResigned(seen.incarnation) ? null : seen;
}

function causeOf(outcome: LogAnswer): unknown {
  return "cause" in outcome ? outcome.cause : outcome.type;
}
