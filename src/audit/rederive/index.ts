/** Entry point of re-derivation: recorded decisions, decided again. */
export {
  type PastConfiguration,
  type PastRoute,
  pastConfigurationOf,
  readStoredConfiguration,
  reviveRoute,
  type StoredRoute,
  withRoutePolicy,
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
export type { PastFacts } from "./recorded-caller.ts";
export type { ReadRecord, RecordedQuestion, RecordReaderOf } from "./recorded-question.ts";
export {
  type AnswerDifference,
  type DerivedAnswer,
  datedWithinMs,
  type PastDecision,
  type Rederivation,
  rederiveDecision,
  type UnknownCode,
  unknownCodes,
} from "./rederive.ts";
export { isUnchangedSince, type PresentFacts } from "./unchanged-facts.ts";
export {
  type CallerOf,
  callersNow,
  callersThen,
  decideOtherwise,
  type WhatIf,
  type WhatIfQuestion,
  whyNot,
} from "./what-if.ts";
export {
  digestOf,
  type WhatIfDifference,
  type WhatIfExample,
  WhatIfReport,
  type WhatIfSummary,
} from "./what-if-report.ts";
