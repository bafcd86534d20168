/** Mutant: one safety rule of the protocol that a test run removes. Pure data; see mutants.ts. */
import type { Change } from "../../scripts/mutation/change-sources.ts";
import type { FaultClass, OutsideNews } from "./swarm.ts";

export type { Change };

export type Mutant = Readonly<{
  /** The behavior without the rule. */
  meaning: string;
  changes: readonly Change[];
  /**
   * Changes also made in the baseline run that the mutant is compared with. They break nothing; they exercise the rule.
   */
  beside?: readonly Change[];
  within: number;
  /**
   * Only seeds with this class of faults, or with this news from outside, can detect the mutant; "regional": only seeds
   * whose region has its own broker.
   */
  where?: FaultClass | keyof OutsideNews | "regional";
  holds?: string;
}>;
