/** Entry point of auth: authentication (who the caller is) and authorization (what policy decides). */

export { approverOf, checkRequestAccess, createRequestableRoutes } from "./access-requests.ts";
export {
  type AssertionClaims,
  type AssertionResult,
  type AssertionRules,
  type AssertionScope,
  type Assertions,
  createAssertions,
  deriveKey,
  type IdentityAssertion,
  type IdentityCarriers,
  type IdentityTooLarge,
  identityTooLarge,
  type OversizeIdentity,
  SigningKeyError,
} from "./assertion.ts";
export { accessUrlOf } from "./authenticate/access/requestable-routes.ts";
export { createAuthenticateHost } from "./authenticate/authenticate-server.ts";
export type {
  AuthDeps,
  AuthSettings,
  ReservedContext,
  ReservedPathHandler,
  SignInFor,
} from "./authenticate/context.ts";
export {
  type BearerResult,
  type BearerRules,
  type BearerTokens,
  bearerIdp,
  bearerToken,
  createBearerTokens,
} from "./authenticate/credentials/bearer-tokens.ts";
export {
  type Credential,
  type CredentialSource,
  cookieValue,
  readCredential,
} from "./authenticate/credentials/credentials.ts";
export {
  createHandleCodec,
  type HandleCodec,
  handleFits,
  handleFitsTunnels,
  type SessionHandle,
  tunnelAudience,
} from "./authenticate/credentials/handle.ts";
export { createTokenIssuers, type TokenIssuers } from "./authenticate/credentials/issuers.ts";
export { createGitHubClient } from "./authenticate/provider/github-client.ts";
export { createLocalFetch, createLocalLookup, type LocalFetch } from "./authenticate/provider/local-fetch.ts";
export { createOidcClient } from "./authenticate/provider/oidc-client.ts";
export { callbackPathOf, isProviderCallback } from "./authenticate/provider/provider-callback.ts";
export type { ProviderClient } from "./authenticate/provider/provider-client.ts";
export { ProviderError } from "./authenticate/provider/provider-error.ts";
export type { ProviderStatus } from "./authenticate/provider/provider-health.ts";
export { createRefresh } from "./authenticate/provider/refresh-duty.ts";
export { newRefreshMemory, type RefreshMemory, refreshResults } from "./authenticate/provider/refresh-memory.ts";
export { type TraceText, traceInTarget, traceText } from "./authenticate/provider/trace-text.ts";
export { createRouteHost } from "./authenticate/route-host-server.ts";
export { type ProvisionedFor, provisionedFor } from "./authenticate/scim/correlation.ts";
export { createScimServer } from "./authenticate/scim/scim-server.ts";
export { beginSignIn, NoRouteError, type SignInRedirect } from "./authenticate/sign-in/begin-sign-in.ts";
export { isTooLongForRedirect, scriptPath } from "./authenticate/sign-in/kept-address.ts";
export { portalPath } from "./authenticate/sign-in/route-list-endpoint.ts";
export { signInAgainUrl } from "./authenticate/sign-in/sign-in-again.ts";
export { createSignInGate, type SignInGate } from "./authenticate/sign-in/sign-in-gate.ts";
export { signInUrl } from "./authenticate/sign-in/sign-in-request.ts";
export { type SignInLoop, signInLoopOf, signInLoopPageOf } from "./authenticate/sign-in/sign-in-returns.ts";
export { existingSignInPath, signInUnavailable } from "./authenticate/sign-in/sign-in-unavailable.ts";
export {
  operatorSignIn,
  readLeasedSignInStatus,
  readSignInStatus,
  type SignInStatus,
} from "./authenticate/sign-in/signed-in.ts";
export { createValueCipher, type ValueCipher } from "./authenticate/sign-in/value-cipher.ts";
export { createPollDuty } from "./authenticate/signals/poll-duty.ts";
export {
  countPoll,
  countReceived,
  enforcementReportsOf,
  newSignalMemory,
  peopleWaiting,
  type SignalMemory,
} from "./authenticate/signals/signal-memory.ts";
export {
  createSignalOperations,
  type ManagedStream,
  type SignalOperations,
  type TransmitterDetails,
  type TransmitterOperations,
  type TransmitterView,
} from "./authenticate/signals/signal-operations.ts";
export { type SignalRecordsFor, signalRecordsFor, transmitterRulesOf } from "./authenticate/signals/signal-plan.ts";
export type { SignalTransmitter } from "./authenticate/signals/signal-receiver.ts";
export { createSignalServer, type SignalServer } from "./authenticate/signals/signal-server.ts";
export { createTransmitterClient, TransmitterError } from "./authenticate/signals/transmitter-client.ts";
export { createVerificationDuty } from "./authenticate/signals/verification-duty.ts";
export {
  createOperatorStreams,
  type OperatorStreams,
  type SignalStreamView,
} from "./authenticate/transmitter/operator-streams.ts";
export { createPushClient } from "./authenticate/transmitter/push-client.ts";
export { type RecordsOf, recordsOfAll } from "./authenticate/transmitter/restored-people.ts";
export { createEventSigner, type EventSigner } from "./authenticate/transmitter/signing-key.ts";
export { createTransmit, type TransmitSettings } from "./authenticate/transmitter/transmit-duty.ts";
export {
  deliveryResults,
  neededAfter,
  newTransmitMemory,
  type StreamReport,
  type TransmitMemory,
} from "./authenticate/transmitter/transmit-memory.ts";
export { registerTransmitter, transmitterDepsOf } from "./authenticate/transmitter/transmitter-server.ts";
export {
  type AnnotateDecision,
  AnyRecords,
  ambiguityOf,
  CallerCache,
  type CallerHandle,
  type CallerOptions,
  type CompiledConditional,
  type CompiledPolicies,
  type ConditionalRequirement,
  chainToAuthority,
  checkPolicies,
  compilePolicies,
  compilePolicy,
  createDecisionAnnotator,
  criterionDescriptor,
  criterionDescriptors,
  type DataRecord,
  type Decision,
  type DecisionRequest,
  type DecisionTrace,
  type DeviceCredential,
  decide,
  type Explanation,
  evaluateOutcomes,
  evaluatePartially,
  explain,
  type FactKey,
  type FactPositionOf,
  type FactsRead,
  type FactTrace,
  factPositionOf,
  isCertificate,
  type KnownCaller,
  matcherOfBlocks,
  noRecords,
  noRequest,
  type PartialAnswer,
  type PartialCondition,
  type Permit,
  type Policies,
  type PolicyContext,
  type Principal,
  parsePresentedKey,
  pathReadings,
  type RecordedSide,
  type RecordFetch,
  type RecordKey,
  type RecordLoader,
  RecordSet,
  type Records,
  type Requirement,
  type ResolvedCaller,
  type RoutePolicy,
  type RouteRequirements,
  type RuleSetOutcomes,
  type RuleTrace,
  readRecordsOnce,
  recordKeys,
  recordSetsOf,
  requirementsOf,
  resolveCaller,
  revokedByRegion,
  type SessionRef,
  type ShadowAnswer,
  type ShadowDirection,
  sessionIdle,
  startRecordLoader,
  streamsOf,
  type TextSubject,
  traceDecision,
} from "./authorize/index.ts";
export type { DecisionRecord, RecordDecision } from "./decision-record.ts";
export { createIdleDuty } from "./idle/idle-duty.ts";
export { createIdleGate, type IdleGate, type KnownUse } from "./idle/idle-gate.ts";
export { type ReportResult, SessionActivity, type UsedSession } from "./idle/session-activity.ts";
export { acceptsRedirect, bestMatch, isBrowser } from "./reply/accept-header.ts";
export {
  type AccessRequestPage,
  type AccountSession,
  type DetailRow,
  denialJson,
  type EndedSessions,
  type ErrorPage,
  handlerErrorJson,
  type KeepAddressPage,
  type Page,
  type PageReader,
  type PageUser,
  pageHeaders,
  type RenderedPage,
  type RenderPage,
  type RequestProblem,
  type ReturnPage,
  type RoutesPage,
  type SignedOutPage,
  type SignInErrorPage,
  type SignInLoopPage,
  type SignOutConfirmPage,
  type UserInfoPage,
} from "./reply/page.ts";
export type { PageCondition } from "./reply/page-condition.ts";
export { signInChallenge, signInHint } from "./reply/sign-in-hint.ts";
export {
  createRouteCatalog,
  type FoundRoute,
  type RefusedRoute,
  type RouteCatalog,
  type RouteKind,
  type RouteSearch,
} from "./route-catalog.ts";
export { createRouteProbe, type ListedRoute, type ListRoutesQuery } from "./route-list.ts";
export { parseSubject, type SignalName, signalNames, streamStatuses } from "./shared-signals/index.ts";
