/** Test mutant: one rule that a test holds and that can be removed. Pure data; see test-mutants.ts. */
import type { Change } from "./change-sources.ts";

export type TestMutant = Readonly<{
  /** The section of docs/architecture.md that states the rule. */
  section: 3 | 4 | 5 | 6 | 7;
  /** What happens without the rule. */
  meaning: string;
  test: string;
  changes: readonly Change[];
}>;
