/**
 * Removal rule: whether a run may take anything away for being absent from what it read. Pure.
 *
 * - A partial run takes nothing away, whatever an operator has said.
 * - A suddenly empty run takes nothing away, unless an operator lets this run make every removal.
 * - How many people may lose something at once is not decided here: the leader holds mass changes, of directories as of
 *   every other source (docs/adr/0050-mass-changes-are-held.md).
 */
import type { RunPlan } from "./run-plan.ts";

export type RemovalDecision = Readonly<{
  removals: boolean;
  result: "complete" | "partial" | "withheld";
  problem: string | null;
}>;

export function decideRemovals(
  plan: Pick<RunPlan, "isSuddenlyEmpty">,
  run: Readonly<{
    problems: Readonly<{ count: number; first: readonly string[] }>;
    /** An operator lets this run make every removal. */
    areAllowed: boolean;
  }>,
): RemovalDecision {
  const { count, first } = run.problems;
  if (count > 0) {
    const problem = `${count} parts of the directory could not be read, so nothing is removed: ${first.join("; ")}`;
    return { removals: false, result: "partial", problem };
  }
  if (plan.isSuddenlyEmpty && !run.areAllowed) {
    const problem = "the directory is suddenly empty, so nothing is removed";
    return { removals: false, result: "withheld", problem };
  }
  return { removals: true, result: "complete", problem: null };
}
