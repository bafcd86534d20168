/** Who is asking, and may they. Neighbours import auth through this door. */

export {
  type AssertionClaims,
  type AssertionRules,
  type AssertionScope,
  type Assertions,
  createAssertions,
  derivedKey,
  type IdentityCarriers,
  type IdentityTooLarge,
  type Introduced,
  type Introduction,
  identityTooLarge,
  type Oversize,
  SigningKeyError,
} from "./assertion.ts";
export { createAuthenticateHost } from "./authenticate/authenticate-server.ts";
export type { AuthDeps, AuthSettings, Handler, ReservedContext, SignInFor } from "./authenticate/context.ts";
export {
  type BearerAnswer,
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
  type Handle,
  type HandleCodec,
  handleFits,
  handleFitsTunnels,
  tunnelAudience,
} from "./authenticate/credentials/handle.ts";
export { createTokenIssuers, type TokenIssuers } from "./authenticate/credentials/issuers.ts";
export { createLocalFetch, createLocalLookup, type LocalFetch } from "./authenticate/provider/local-fetch.ts";
export { createOidcClient, type OidcClient } from "./authenticate/provider/oidc-client.ts";
export { ProviderError } from "./authenticate/provider/provider-error.ts";
export { createRefresh } from "./authenticate/provider/refresh-duty.ts";
export { newRefreshMemory, type RefreshMemory, refreshResults } from "./authenticate/provider/refresh-memory.ts";
export { type TraceText, traceInTarget, traceText } from "./authenticate/provider/trace-text.ts";
export { createRouteHost } from "./authenticate/route-host-server.ts";
export { beginSignIn, NoRouteError, type SignInRedirect } from "./authenticate/sign-in/begin-sign-in.ts";
export { isTooLongToCarry, scriptPath } from "./authenticate/sign-in/kept-address.ts";
export { type SignInLoop, signInLoopOf, signInLoopPageOf } from "./authenticate/sign-in/sign-in-returns.ts";
export { type SignedIn, whoIsSignedIn, whoIsSignedInUnderLease } from "./authenticate/sign-in/signed-in.ts";
export { type Box, createBox } from "./authenticate/sign-in/value-cipher.ts";
export {
  AnyRecords,
  ambiguityOf,
  type Caller,
  CallerCache,
  type CallerHandle,
  type CallerOptions,
  type Compiled,
  type CompiledConditional,
  chainToAuthority,
  checkPolicies,
  compilePolicies,
  compilePolicy,
  type DataRecord,
  type Decision,
  type DecisionRequest,
  type DecisionTrace,
  type DescribeDecision,
  type DeviceCredential,
  decide,
  describeDecisions,
  describePolicy,
  type Explanation,
  explain,
  type FactKey,
  type FactsRead,
  type FactTrace,
  isCertificate,
  type KnownCaller,
  matcherOfBlocks,
  noRecords,
  type Permit,
  type PlaceOf,
  type Policies,
  type Principal,
  parsePresentedKey,
  pathReadings,
  placeIn,
  type RecordFetch,
  type RecordKey,
  type RecordLoader,
  RecordSet,
  type Records,
  type RoutePolicy,
  type RuleTrace,
  readRecordsOnce,
  recordKeys,
  recordSetsOf,
  resolveCaller,
  type ShadowAnswer,
  type ShadowDirection,
  type Sides,
  type Somebody,
  type Surroundings,
  startRecordLoader,
  streamsOf,
  traceDecision,
} from "./authorize/index.ts";
export type { DecisionRecord, RecordDecision } from "./decision-record.ts";
export { acceptsRedirect, bestMatch, isBrowser } from "./reply/accept-header.ts";
export {
  denialJson,
  type ErrorPage,
  handlerErrorJson,
  type KeepAddressPage,
  type Page,
  type PageUser,
  pageHeaders,
  type Render,
  type ReturnPage,
  type SignedOutPage,
  type SignInErrorPage,
  type SignInLoopPage,
  type SignOutConfirmPage,
  scriptedPageHeaders,
  type UserInfoPage,
} from "./reply/page.ts";
export { signInChallenge, signInHint } from "./reply/sign-in-hint.ts";
export { type ListAsked, type ListedRoute, listRoutes } from "./route-list.ts";
