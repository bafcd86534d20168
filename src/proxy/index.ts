/** Entry point of the proxy: listen, route, authorize, forward, cut. */

export { type AcmeServing, type Autocert, startAutocert } from "./autocert/autocert-timer.ts";
export { type DecisionServer, startDecisionServer } from "./decision-api/decision-server.ts";
export type { DecisionApiDeps } from "./decision-api/request-decider.ts";
export { CutFailedError, type CutReason } from "./enforce/exchanges.ts";
export { ForwardTimeoutError } from "./forward/forward-job.ts";
export { createProviderTokenSource, type ProviderTokenSource } from "./headers/provider-tokens.ts";
export { type HandlerListener, startHandlerListener } from "./listen/handler-listener.ts";
export { createRequestIds } from "./message/request-ids.ts";
export { type AuthorizeLogEntry, compileAuthorizeLine } from "./observe/authorize-line.ts";
export { createTracing, type TracingClient } from "./observe/opentelemetry-client.ts";
export { redacted } from "./observe/recorded-request.ts";
export { type ProxyServer, type ProxyStats, startProxy } from "./proxy-server.ts";
export type { ProxyDeps } from "./request/dependencies.ts";
export {
  type CertificateChecker,
  certificateCheckerFor,
  createCertificateChecker,
  type DryRun,
  type DryRunRequest,
  dryRunRequest,
} from "./request/dry-run.ts";
export { createRecordedRequestReader, recordedHead } from "./request/recorded-request-reader.ts";
export { compileRouteTable, type RouteTable } from "./routing/route-table.ts";
export { type RedirectListener, startRedirectListener } from "./tls/redirect-listener.ts";
export { CapsuleReader, datagramCapsule } from "./tunnel/datagram-capsules.ts";
