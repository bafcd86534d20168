/** Mutant: one safety rule of the protocol that can be taken away. Pure data; see mutants.ts. */
import type { Change } from "../../scripts/mutation/change-sources.ts";
import type { FaultClass } from "./swarm.ts";

export type { Change };

export type Mutant = Readonly<{
  /** What is done without the rule. */
  meaning: string;
  changes: readonly Change[];
  /**
   * Made as well, also in the run that the mutant is compared with: they break nothing, and bring the rule into play.
   */
  beside?: readonly Change[];
  within: number;
  /**
   * Only seeds in which this class of faults is switched on can tell, or those in which a region has a broker of its
   * own.
   */
  where?: FaultClass | "regional";
  holds?: string;
}>;
