/** Entry point of re-derivation: recorded decisions, decided again. */
export {
  type PastConfiguration,
  type PastRoute,
  pastConfigurationOf,
  readStoredConfiguration,
} from "./past-configuration.ts";
export {
  createRecheck,
  type DifferentDecision,
  type Recheck,
  type RecheckCounts,
  type RecheckDeps,
  type SkipReason,
  skipReasons,
} from "./recheck.ts";
export type { ReadRecord, RecordedQuestion, RecordReaderOf } from "./recorded-question.ts";
export {
  type AnswerDifference,
  type DerivedAnswer,
  datedWithinMs,
  type PastDecision,
  type PastFacts,
  type Rederivation,
  rederiveDecision,
  type UnknownCode,
  unknownCodes,
} from "./rederive.ts";
export { isUnchangedSince, type PresentFacts } from "./unchanged-facts.ts";
