/** Entry point of authorization: the compiled policy language, the decision, and what explains it. */
export {
  type AnnotateDecision,
  createDecisionAnnotator,
  type DecisionAnnotations,
  factPositionOf,
  type ShadowAnswer,
  type ShadowDirection,
} from "./annotations.ts";
export {
  CallerCache,
  type CallerHandle,
  type CallerOptions,
  resolveCaller,
  streamsOf,
} from "./caller.ts";
export { chainToAuthority, isCertificate } from "./client-certificates/verify-certificate.ts";
export {
  type CompiledConditional,
  type CompiledPolicies,
  checkPolicies,
  compilePolicies,
  compilePolicy,
  type Policies,
  type RoutePolicy,
  requirementsOf,
} from "./compile.ts";
export { criterionDescriptor, criterionDescriptors } from "./criteria/criteria.ts";
export type {
  CriterionDescriptor,
  CriterionReasons,
  CriterionReplay,
  PolicyContext,
} from "./criteria/criterion-parts.ts";
export { parsePresentedKey } from "./criteria/eval-only/ssh-keys.ts";
export { type Decision, type DecisionSummary, decide, type KnownCaller, type Permit } from "./decide.ts";
export {
  type DecisionRequest,
  type DeviceCredential,
  type FactKey,
  type FactsRead,
  type Principal,
  type ResolvedCaller,
  type RuleSetOutcomes,
  revokedByRegion,
  sessionIdle,
} from "./decision.ts";
export {
  type DecisionTrace,
  type Explanation,
  explain,
  type FactPositionOf,
  type FactTrace,
  type RuleTrace,
  type SessionRef,
  traceDecision,
} from "./explain.ts";
export {
  evaluateOutcomes,
  evaluatePartially,
  noRequest,
  type PartialAnswer,
  type PartialCondition,
} from "./partial.ts";
export { ambiguityOf, pathReadings } from "./path-readings.ts";
export type { RecordedSide } from "./reasons.ts";
export { type RecordFetch, type RecordLoader, readRecordsOnce, startRecordLoader } from "./records/record-loader.ts";
export {
  AnyRecords,
  type DataRecord,
  noRecords,
  type RecordKey,
  RecordSet,
  type Records,
  recordKeys,
  recordSetsOf,
} from "./records/records.ts";
export type { ConditionalRequirement, Requirement, RouteRequirements, TextSubject } from "./requirements.ts";
export { matcherOfBlocks } from "./source-ip.ts";
