/**
 * Epoch claims: nodes that speak of a later epoch than the one led here.
 *
 * A node's word alone deposes no leader. The head row is read first: where another broker leads, this one steps down. Where it does not, the
 * node has been in a history that this store does not hold (a restore, a failover that lost its tail), and the epoch is opened again above
 * the claim, or the node would never accept a grant.
 *
 * - One look at a time, and at most `looksMax` in a row, then one every `everyMs`: a node that lies cannot keep the leader from leading.
 * - A claim raises the epoch by `epochJumpMax` at most. With the rate that is 10^5 a second: 2,800 years to the largest number.
 *
 * Pure. The budget outlives the epochs of this process.
 */
import { type Epoch, parseEpoch } from "../../events/index.ts";
import type { Counters } from "../core/counters.ts";
import type { LogAnswer, NodeSender } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { Leader } from "./leader.ts";

/** No message makes a broker open an epoch further above its own. */
export const epochJumpMax = 1_000_000;
const looksMax = 10;
const everyMs = 10_000;

export type EpochClaim = Readonly<{ epoch: number; by: Pick<NodeSender, "name" | "boot"> }>;

export class EpochClaims {
  readonly #work: StepContext;
  readonly #counters: Counters;
  /** The highest claim whose look is under way; null: none is. */
  #looking: (EpochClaim & Readonly<{ term: number }>) | null = null;
  #looks = looksMax;
  #countedAt = 0;

  constructor(work: StepContext, counters: Counters) {
    this.#work = work;
    this.#counters = counters;
  }

  claimed(claim: EpochClaim, leader: Pick<Leader, "opened" | "term">): void {
    const ours = leader.opened.epoch;
    if (claim.epoch <= ours) return;
    if (claim.epoch > ours + epochJumpMax) return this.#refuse(claim, ours);
    if (this.#looking !== null && this.#looking.term === leader.term) {
      if (claim.epoch > this.#looking.epoch) this.#looking = { ...claim, term: leader.term };
      return;
    }
    if (!this.#hasLook()) return this.#refuse(claim, ours);
    this.#looking = { ...claim, term: leader.term };
    this.#counters.epochClaims += 1;
    this.#work.callLog({ op: "observe" }, { to: "claims", term: leader.term });
  }

  /** The head row as it is now. @param leader of the epoch that was asked for; null: it has ended */
  looked(outcome: LogAnswer, leader: Leader | null): void {
    const claim = this.#looking;
    this.#looking = null;
    if (claim === null || leader === null || claim.term !== leader.term) return;
    if (outcome.type !== "observed") return; // without the store nothing is granted, and the node claims it again
    const { seen } = outcome;
    const { epoch, incarnation } = leader.opened;
    const fields = { node: claim.by.name, boot: claim.by.boot, claimed: claim.epoch, stored: seen.epoch };
    if (seen.epoch > epoch || seen.incarnation !== incarnation) {
      this.#work.logger("warn", "a node speaks of a later epoch, and the store has another leader", fields);
      return leader.finish({ type: "fenced" });
    }
    const message = "a node speaks of a later epoch that the store does not hold; an epoch above it is opened";
    this.#work.logger("warn", message, fields);
    leader.noticeEpoch(parseEpoch(claim.epoch));
  }

  #hasLook(): boolean {
    const earned = Math.floor((this.#work.now - this.#countedAt) / everyMs);
    if (earned > 0) {
      this.#looks = Math.min(looksMax, this.#looks + earned);
      this.#countedAt += earned * everyMs;
    }
    if (this.#looks === 0) return false;
    this.#looks -= 1;
    return true;
  }

  #refuse({ epoch, by }: EpochClaim, ours: Epoch): void {
    const { epochClaimsRefused } = this.#counters;
    this.#counters.epochClaimsRefused += 1;
    if (!Number.isInteger(Math.log2(epochClaimsRefused + 1))) return;
    const fields = { node: by.name, boot: by.boot, claimed: epoch, ours, refused: epochClaimsRefused + 1 };
    this.#work.logger("warn", "a node's claim of a later epoch is ignored: too far ahead, or too many claims", fields);
  }
}
