/** May they: the policy language, compiled, and the decision. */
export {
  type Answered,
  type Beside,
  type DescribeDecision,
  describeDecisions,
  placeIn,
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
  type Compiled,
  type CompiledConditional,
  checkPolicies,
  compilePolicies,
  compilePolicy,
  describePolicy,
  type Policies,
  type RoutePolicy,
} from "./compile.ts";
export type { Surroundings } from "./criteria/criterion-parts.ts";
export { parsePresentedKey } from "./criteria/eval-only/ssh-keys.ts";
export {
  decide,
  type KnownCaller,
  type Permit,
} from "./decide.ts";
export type {
  Caller,
  Decision,
  DecisionRequest,
  DeviceCredential,
  FactKey,
  FactsRead,
  Principal,
  Sides,
} from "./decision.ts";
export {
  type DecisionTrace,
  type Explanation,
  explain,
  type FactTrace,
  type PlaceOf,
  type RuleTrace,
  type Somebody,
  traceDecision,
} from "./explain.ts";
export { ambiguityOf, pathReadings } from "./path-readings.ts";
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
export { matcherOfBlocks } from "./source-ip.ts";
