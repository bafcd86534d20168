/** The life of a request: listen, route, decide, forward, cut. Neighbours import the proxy through this door. */

export { type AuthorizeFacts, compileAuthorizeLine } from "./authorize-line.ts";
export { type AcmeServing, type Autocert, startAutocert } from "./autocert/autocert-timer.ts";
export { CapsuleReader, datagramCapsule } from "./capsules.ts";
export { CutFailedError, type CutReason } from "./exchanges.ts";
export { type HandlerListener, startHandlerListener } from "./handler-listener.ts";
export { ForwardTimeoutError } from "./http-forwarder.ts";
export { createTracing, type TracingClient } from "./opentelemetry-client.ts";
export type { ProxyPorts } from "./ports.ts";
export { type ProxyServer, type ProxyStats, startProxy } from "./proxy-server.ts";
export {
  type CertificateJudge,
  certificateJudge,
  judgeByAuthority,
  type Rehearsal,
  type RehearsedHead,
  rehearse,
} from "./rehearsal.ts";
export { createRequestIds } from "./request-ids.ts";
export { compileRoutes, type Routes } from "./routing.ts";
export type { DecisionPorts } from "./served/decision-point.ts";
export { type DecisionServer, startDecisionServer } from "./served/decision-server.ts";
export { createSessionTokens, type SessionTokens } from "./session-tokens.ts";
export { type RedirectListener, startRedirectListener } from "./tls/redirect-listener.ts";
