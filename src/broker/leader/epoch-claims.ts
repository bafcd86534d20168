/**
 * Epoch claims: handles nodes that name a later epoch than the one led here. Pure.
 *
 * - A node's word alone deposes no leader: the head row is read first. If another broker leads, this one steps down.
 *   If not, the node was in a history that this store does not have (after a restore, or a failover that lost events).
 *   Then the epoch is reopened above the claim, or the node would never accept a grant.
 * - At most one read at a time and `budgetMax` in a row, then one every `everyMs`: a lying node cannot keep the
 *   leader from leading.
 * - A claim raises the epoch by `epochJumpMax` at most. With the rate that is 10^5 a second: 2,800 years to the
 *   largest number.
 * - The budget outlives the epochs of this process.
 */
import { type Epoch, parseEpoch } from "../../events/index.ts";
import type { Counters } from "../core/counters.ts";
import type { EpochClaim } from "../core/internal-messages.ts";
import type { LogAnswer } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { Leader } from "./leader.ts";

/** No message makes a broker open an epoch further above its own than this. */
export const epochJumpMax = 1_000_000;
const budgetMax = 10;
const everyMs = 10_000;

export class EpochClaims {
  readonly #context: StepContext;
  readonly #counters: Counters;
  /** The highest claim while the head row is being read; null: no read. */
  #pending: (EpochClaim & Readonly<{ leadershipNo: number }>) | null = null;
  #budget = budgetMax;
  #countedAt = 0;

  constructor(context: StepContext, counters: Counters) {
    this.#context = context;
    this.#counters = counters;
  }

  claimed(claim: EpochClaim, leader: Pick<Leader, "opened" | "leadershipNo">): void {
    const ownEpoch = leader.opened.epoch;
    if (claim.epoch <= ownEpoch) return;
    if (claim.epoch > ownEpoch + epochJumpMax) {
      this.#refuse(claim, ownEpoch);
      return;
    }
    if (this.#pending !== null && this.#pending.leadershipNo === leader.leadershipNo) {
      if (claim.epoch > this.#pending.epoch) this.#pending = { ...claim, leadershipNo: leader.leadershipNo };
      return;
    }
    if (!this.#spendBudget()) {
      this.#refuse(claim, ownEpoch);
      return;
    }
    this.#pending = { ...claim, leadershipNo: leader.leadershipNo };
    this.#counters.epochClaims += 1;
    this.#context.callLog({ op: "observe" }, { to: "claims", leadershipNo: leader.leadershipNo });
  }

  /** The head row as it is now. @param leader of the claim's epoch; null: it has ended */
  headObserved(outcome: LogAnswer, leader: Leader | null): void {
    const claim = this.#pending;
    this.#pending = null;
    if (claim === null || leader === null || claim.leadershipNo !== leader.leadershipNo) return;
    if (outcome.type !== "observed") return; // without the store nothing is granted, and the node repeats its claim
    const { seen } = outcome;
    const { epoch, incarnation } = leader.opened;
    const fields = { node: claim.by.name, boot: claim.by.boot, claimed: claim.epoch, stored: seen.epoch };
    if (seen.epoch > epoch || seen.incarnation !== incarnation) {
      this.#context.logger("warn", "a node names a later epoch, and another broker leads; stepping down", fields);
      leader.finish({ type: "fenced" });
      return;
    }
    const message = "a node names a later epoch that the store does not have; opening an epoch above it";
    this.#context.logger("warn", message, fields);
    leader.noticeEpoch(parseEpoch(claim.epoch));
  }

  #spendBudget(): boolean {
    const earned = Math.floor((this.#context.now - this.#countedAt) / everyMs);
    if (earned > 0) {
      this.#budget = Math.min(budgetMax, this.#budget + earned);
      this.#countedAt += earned * everyMs;
    }
    if (this.#budget === 0) return false;
    this.#budget -= 1;
    return true;
  }

  #refuse({ epoch, by }: EpochClaim, ownEpoch: Epoch): void {
    const { epochClaimsRefused } = this.#counters;
    this.#counters.epochClaimsRefused += 1;
    if (!Number.isInteger(Math.log2(epochClaimsRefused + 1))) return;
    const fields = { node: by.name, boot: by.boot, claimed: epoch, ownEpoch, refused: epochClaimsRefused + 1 };
    this.#context.logger("warn", "ignoring a node's claim of a later epoch: too far ahead, or too many claims", fields);
  }
}
