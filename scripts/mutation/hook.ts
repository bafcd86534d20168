/**
 * Mutation hook: preloaded into a test's processes and worker threads; makes the changes that `CARDEA_MUTANT` holds.
 */
import { type Change, changeSources } from "./change-sources.ts";

const { name, changes } = JSON.parse(process.env["CARDEA_MUTANT"] ?? "null") as Readonly<{
  name: string;
  changes: readonly Change[];
}>;
changeSources(name, changes);
