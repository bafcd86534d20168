/**
 * Mutants: the protocol with one of its safety rules taken away, each to be caught by the simulator. Pure data.
 *
 * Each names the sentences of the product that keep the rule and what stands there without it. The product knows
 * nothing of this; when a sentence changes, the mutant refuses to run (test/chaos/sim/mutants). Files under chaos/sim
 * are named only where the rule lives in SQL, in cryptography or in the path of a request, whose model they are.
 *
 * `within`: caught in that many seeds, or the fault plan or a monitor has become too weak; a few times of what was
 * seen.
 * `holds`: taken alone the rule is a second line of defence, this is the first, and both are taken away together.
 */
import { absenceMutants } from "./absence-mutants.ts";
import { durabilityMutants } from "./durability-mutants.ts";
import { dutyMutants } from "./duty-mutants.ts";
import { leaseMutants } from "./lease-mutants.ts";
import { liveMutants } from "./live-mutants.ts";
import { logMutants } from "./log-mutants.ts";
import type { Mutant } from "./mutant.ts";
import { outsideMutants } from "./outside/outside-mutants.ts";
import { regionMutants } from "./region-mutants.ts";
import { retentionMutants } from "./retention-mutants.ts";
import { revocationMutants } from "./revocation-mutants.ts";

export const mutants: Readonly<Record<string, Mutant>> = {
  ...leaseMutants,
  ...logMutants,
  ...liveMutants,
  ...durabilityMutants,
  ...regionMutants,
  ...revocationMutants,
  ...absenceMutants,
  ...retentionMutants,
  ...dutyMutants,
  ...outsideMutants,
};

/** Those that are caught at once: what `npm test` has time for. */
export const cheapest = [
  "no-row",
  "publish-before-commit",
  "token-ignored",
  "cut-not-awaited",
  "fresh-at-receipt",
  "bytes-unchecked",
  "no-gap-detection",
  "capture-not-kept",
];
