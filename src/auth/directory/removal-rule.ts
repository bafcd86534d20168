/**
 * Removal rule: what of a plan a run may take away. Pure.
 *
 * - A partial or suddenly empty run takes nothing away, whatever an operator has said of an earlier one.
 * - A run that would take something from too many people at once waits for an operator.
 * - That people are explicitly not active is applied by a partial run too, unless it concerns too many.
 */
import type { RunPlan } from "./run-plan.ts";

/** Fewer people than this are never too many. */
const peopleMin = 10;
/** Above this share of the directory's people, a run waits. */
const shareMax = 0.2;

export type RemovalDecision = Readonly<{
  removals: boolean;
  ends: boolean;
  result: "complete" | "partial" | "withheld";
  problem: string | null;
}>;

export function decideRemovals(
  plan: Pick<RunPlan, "counts" | "isSuddenlyEmpty">,
  run: Readonly<{
    problems: Readonly<{ count: number; first: readonly string[] }>;
    /** An operator lets this run make every removal. */
    areAllowed: boolean;
  }>,
): RemovalDecision {
  const { losing, known } = plan.counts;
  const isMany = losing > peopleMin && losing > known * shareMax;
  const ends = run.areAllowed || !isMany;
  const { count, first } = run.problems;
  if (count > 0) {
    const problem = `${count} parts of the directory could not be read, so nothing is removed: ${first.join("; ")}`;
    return { removals: false, ends, result: "partial", problem };
  }
  if (run.areAllowed) return { removals: true, ends, result: "complete", problem: null };
  if (plan.isSuddenlyEmpty) {
    const problem = "the directory is suddenly empty, so nothing is removed";
    return { removals: false, ends, result: "withheld", problem };
  }
  if (!isMany) return { removals: true, ends, result: "complete", problem: null };
  const problem = `${losing} of ${known} people would lose access or a group, so nothing is removed`;
  return { removals: false, ends, result: "withheld", problem };
}
