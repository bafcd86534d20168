/**
 * Mutation hook: preloaded into a test's processes and worker threads; applies the changes in `CARDEA_MUTANT`.
 */
import { type Change, changeSources } from "./change-sources.ts";

const { name, changes } = JSON.parse(process.env["CARDEA_MUTANT"] ?? "null") as Readonly<{
  name: string;
  changes: readonly Change[];
}>;
changeSources(name, changes);
