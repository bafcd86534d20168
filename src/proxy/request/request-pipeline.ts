/**
 * The life of a request: read strictly, reserved paths, the authenticate host, route, decision, then forward or answer. One
 * order, for ordinary requests and upgrades alike.
 */
import { type AssertionResult, identityTooLarge, type Principal, pathReadings } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { momentOf } from "../../replication/index.ts";
import type { Exchanges } from "../enforce/exchanges.ts";
import type { InFlight } from "../enforce/in-flight.ts";
import { ForwardRequest, type ForwardTools } from "../forward/forward-request.ts";
import { type ForwardFailure, forward } from "../forward/http-forwarder.ts";
import { mayImpersonate } from "../headers/kubernetes.ts";
import type { ForwardedTokens } from "../headers/provider-tokens.ts";
import {
  callerAddress,
  stripSessionQuery,
  trustedRequestId,
  type UpstreamIdentity,
} from "../headers/upstream-headers.ts";
import { type CanonicalRequest, canonicalise, hasEncodedSlash } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { headerValue } from "../message/header-names.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { beginTrace } from "../observe/traces.ts";
import { codeOf, conditionOf } from "../reply/write-reply.ts";
import type { Plans } from "../routing/compiled-route.ts";
import { isAddressedTo, readTunnel, type TunnelRequest } from "../routing/tunnel-request.ts";
import { isCrossSite, isHandshake, takesUpgrade } from "../routing/upgrade-request.ts";
import { createTunnels } from "../tunnel/open-tunnel.ts";
import { isProxyChain } from "../tunnel/proxy-chain-splice.ts";
import { upgrade } from "../tunnel/upgrade-splice.ts";
import { type Authorizer, createAuthorizer, type PermittedRequest } from "./authorize.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { ReachedHandles } from "./identify-caller.ts";
import { createInternalHandlers } from "./internal-handlers.ts";
import {
  assignRoute,
  conditionOfCut,
  createRequestContext,
  type ReplyTools,
  type RequestContext,
  recordDecision,
  sendLocalReply,
} from "./request-context.ts";
import { createRequestEndRecorder } from "./request-end.ts";

export type RequestPipeline = Readonly<{
  onRequest(downstream: Downstream): void;
  authorizer: Authorizer;
}>;

/** Everything under one configuration; `current` is the authorizer of the one in force. */
export type PipelineParts = Readonly<{
  deps: ProxyDeps;
  plans: Plans;
  exchanges: Exchanges;
  current: () => Authorizer;
  reached: ReachedHandles;
  metrics: HttpMetrics;
  /** Leads to the authenticate host where it runs elsewhere. */
  gateway: ProxyDeps["authenticateHost"];
  /** A reserved path's handler has been given a request. */
  onInternalRequest: (downstream: Downstream) => void;
  inFlight: InFlight;
}>;

/** An upgrade whose handshake says nothing for this long has failed; the exchange itself may last. */
const handshakeTimeoutMs = 30_000;

export function createRequestPipeline(parts: PipelineParts): RequestPipeline {
  const { deps, plans, exchanges, metrics, inFlight, current, reached } = parts;
  const closing = (): boolean => inFlight.draining;
  const { config, clock } = deps;
  const tools: ReplyTools = { deps, routes: plans.routes, closing };
  const internal = createInternalHandlers({ ...parts, tools });
  const common = { deps, plans, exchanges, tools, current, reached };
  const recordRequestEnd = createRequestEndRecorder({ deps, metrics });
  const tunnels = createTunnels({ metrics, now: clock.monotonic, notForwarded, onFault });
  const forwardTools: ForwardTools = {
    clock,
    metrics,
    notForwarded: (failure, { context, permit }) => notForwarded(context, failure, permit.principal),
  };
  const authorizer = createAuthorizer({ ...common, reroute, onPermit: dispatch, onFailed: failed });

  // --- from the head to the route

  function readHead(context: RequestContext): void {
    const canonical = canonicalise(context.downstream.head, "keep");
    if (canonical.type === "refused") {
      metrics.refused(canonical.reason);
      const status = sendLocalReply(context, { type: "bad-request", status: canonical.status }, tools);
      recordDecision(context, { result: "bad_request", status, reasons: [canonical.reason] }, null, deps);
      return;
    }
    const { request } = canonical;
    context.request = request;
    context.requestId = trustedRequestId(request, config.xffNumTrustedHops) ?? context.requestId;
    context.ip = callerAddress(request.headers["x-forwarded-for"], context.peer, config.xffNumTrustedHops);
    if (deps.tracing !== null) context.trace ??= beginTrace(context, request, deps.tracing);
    const expectation = request.headers["expect"];
    if (expectation !== undefined && expectation.toLowerCase() !== "100-continue") {
      metrics.refused("expectation");
      const status = sendLocalReply(context, { type: "bad-request", status: 417 }, tools);
      recordDecision(context, { result: "bad_request", status, reasons: ["expectation"] }, null, deps);
      return;
    }
    const asked = readTunnel(context.downstream.upgrade, request, context.downstream.head);
    if (asked !== undefined) {
      beginTunnel(context, request, asked);
      return;
    }
    // No route may answer for the sign-in host, nor below a reserved path, whatever it allows.
    if (hasEncodedSlash(request) && readingsOf(request).some((path) => internal.isInternal({ ...request, path }))) {
      refuseUnread(context, "encoded-separator");
      return;
    }
    if (internal.handle(context, request)) return;
    const route = plans.routes.match(request);
    if (route === undefined) {
      const refusal = plans.routes.refusalOf(request);
      if (refusal !== undefined) refuseUnread(context, refusal);
      else notFound(context);
      return;
    }
    const plan = plans.planOf(route);
    assignRoute(context, plan, metrics.meters);
    const { upgrade: kind } = context.downstream;
    if (kind !== null && !isHandshake(kind, request, context.downstream.head)) {
      refuseUnread(context, kind === "websocket" ? "websocket-handshake" : "upgrade-handshake");
      return;
    }
    if (kind === "websocket" && isCrossSite(request, { deps, routes: plans.routes })) {
      metrics.refused("websocket-origin");
      const reasons = ["websocket-origin"];
      const status = sendLocalReply(context, { type: "no-right", status: 403, reasons }, tools);
      recordDecision(context, { result: "deny", status, reasons }, null, deps);
      return;
    }
    authorizer.authorize({ context, plan, request });
  }

  /** The request could be read in more than one way. */
  function refuseUnread(context: RequestContext, reason: string): void {
    metrics.refused(reason);
    const status = sendLocalReply(context, { type: "bad-request", status: 400 }, tools);
    recordDecision(context, { result: "bad_request", status, reasons: [reason] }, null, deps);
  }

  /** Nothing of it was read or answered but its head. */
  function reroute(context: RequestContext): void {
    context.plan = null;
    context.tunnel = null;
    try {
      readHead(context);
    } catch (error) {
      failed(context, error);
    }
  }

  function notFound(context: RequestContext): void {
    const status = sendLocalReply(context, { type: "no-route" }, tools);
    recordDecision(context, { result: "not_found", status, reasons: ["route-not-found"] }, null, deps);
  }

  /** Only what a route names is ever connected to, and only at the address that the route gives for it. */
  function beginTunnel(context: RequestContext, request: CanonicalRequest, asked: TunnelRequest | null): void {
    if (asked === null || (asked.kind === "tcp" && !plans.routes.hasTunnels("tcp"))) {
      const reason = asked === null ? "tunnel-request" : "method";
      metrics.refused(reason);
      const status = sendLocalReply(context, { type: "bad-request", status: asked === null ? 400 : 405 }, tools);
      recordDecision(context, { result: "bad_request", status, reasons: [reason] }, null, deps);
      return;
    }
    const route = plans.routes.matchTunnel(asked.kind, asked.at);
    if (route === undefined || !isAddressedTo(route, asked, request)) {
      notFound(context);
      return;
    }
    const plan = plans.planOf(route);
    assignRoute(context, plan, metrics.meters);
    context.tunnel = asked;
    authorizer.authorize({ context, plan, request });
  }

  // --- what follows from a permit

  function dispatch(permitted: PermittedRequest): void {
    const { context, plan, request, permit } = permitted;
    if (context.tunnel !== null && !isProxyChain(plan.route)) {
      tunnels.open(permitted, context.tunnel);
      return;
    }
    if (
      context.tunnel === null &&
      context.downstream.upgrade !== null &&
      (plan.nextUpstream === undefined || !takesUpgrade(plan.route, request))
    ) {
      sendLocalReply(context, { type: "upgrade-not-allowed" }, tools);
      return;
    }
    if (plan.answer !== undefined) {
      permitted.exchange.attach((reason) => context.downstream.cut(reason));
      context.downstream.bindExchange(permitted.exchange);
      const search = stripSessionQuery(request.search); // a redirect to another host is no place for a handle either
      const made = plan.answer({ ...request, scheme: plan.scheme, search });
      const headers = { ...plan.route.setResponseHeaders, ...made.headers, "x-request-id": context.requestId };
      const length = ["content-length", String(Buffer.byteLength(made.body))];
      const sent = Object.entries(headers).flatMap(([name, value]) => [name, headerValue(value)]);
      const lines = new HeaderLines([...sent, ...length]);
      context.downstream.writeHead(made.status, lines, null);
      context.downstream.end(made.body);
      context.bytes += Buffer.byteLength(made.body);
      return;
    }
    if (!plan.headerRules.wantsTokens || permit.principal === null) attachIdentity(permitted, null);
    else withTokens(permitted, permit.principal);
  }

  /** Nothing is sent on without what the route says of the provider's tokens: an empty one would look like an answer. */
  function withTokens(permitted: PermittedRequest, principal: Principal): void {
    const { context } = permitted;
    const unknown = (error: unknown): void => {
      deps.logger.warn({ requestId: context.requestId, error: codeOf(error) }, "a session's tokens could not be had");
      const status = sendLocalReply(context, { type: "unknown", why: "provider" }, tools, principal);
      recordDecision(context, { result: "unavailable", status, reasons: ["provider"] }, principal, deps);
    };
    try {
      const found = deps.providerTokens.of(principal.session);
      if (!(found instanceof Promise)) attachIdentity(permitted, found);
      else
        found
          .then((tokens) => {
            context.asOf = momentOf(clock);
            attachIdentity(permitted, tokens);
          }, unknown)
          .catch((error: unknown) => failed(context, error));
    } catch (error) {
      unknown(error);
    }
  }

  function attachIdentity(permitted: PermittedRequest, tokens: ForwardedTokens | null): void {
    const { context, plan, request, permit } = permitted;
    if (plan.headerRules.wantsIdentity === "nothing") {
      send(permitted, null, tokens);
      return;
    }
    const { hostname } = request;
    const scope = { hostname, mode: plan.route.assertion, rules: plan.assertionRules, now: context.asOf.wall };
    const introduced = deps.assertions.issue(permit.principal, scope);
    if (!(introduced instanceof Promise)) sendWithIdentity(permitted, introduced, tokens);
    else
      introduced
        .then((made) => sendWithIdentity(permitted, made, tokens))
        .catch((error: unknown) => failed(context, error));
  }

  function sendWithIdentity(permitted: PermittedRequest, made: AssertionResult, tokens: ForwardedTokens | null): void {
    if (made.assertion !== null) {
      send(permitted, made, tokens);
      return;
    }
    const { context, permit } = permitted;
    const reasons = [identityTooLarge.reason];
    const status = sendLocalReply(context, { type: "no-right", status: 403, reasons }, tools, permit.principal);
    recordDecision(context, { result: "deny", status, reasons }, permit.principal, deps);
  }

  function send(permitted: PermittedRequest, identity: UpstreamIdentity | null, tokens: ForwardedTokens | null): void {
    const { context, plan, request, exchange, permit } = permitted;
    const { downstream } = context;
    if (downstream.closed || plan.nextUpstream === undefined) return;
    if (exchange.cutReason !== undefined) {
      sendLocalReply(context, conditionOfCut(exchange.cutReason), tools, permit.principal);
      return;
    }
    if (plan.headerRules.kubernetes !== null && !mayImpersonate(identity)) {
      const reasons = ["kubernetes-nobody"];
      const status = sendLocalReply(context, { type: "no-right", status: 403, reasons }, tools, permit.principal);
      recordDecision(context, { result: "deny", status, reasons }, permit.principal, deps);
      return;
    }
    const bodyBytesMax = plan.route.maxRequestBodyBytes;
    if (bodyBytesMax > 0 && Number(request.headers["content-length"] ?? 0) > bodyBytesMax) {
      notForwarded(context, { type: "too-large" }, permit.principal);
      return;
    }
    const rewritten = context.tunnel === null ? plan.rewrite(request.rawPath) : "";
    if (rewritten === undefined) {
      metrics.refused("rewrite");
      sendLocalReply(context, { type: "bad-request", status: 400 }, tools, permit.principal);
      return;
    }
    const { nextUpstream: next } = plan;
    const asking = { sessionId: permit.principal?.session.sessionId ?? null, ip: context.ip };
    const target = next(asking);
    if (target === undefined) {
      notForwarded(context, { type: "unhealthy" }, permit.principal);
      return;
    }
    context.sentAt = context.asOf.monotonic;
    const forwardRequest = new ForwardRequest(
      forwardTools,
      permitted,
      { identity, tokens },
      { target, next, asking, rewritten },
    );
    if (context.tunnel !== null) {
      const headers = forwardRequest.headerList(forwardRequest.authority);
      tunnels.openOnward(permitted, context.tunnel, { target, headers });
    } else if (downstream.upgrade === null) forward(permit, forwardRequest);
    else sendUpgrade(permitted, forwardRequest);
  }

  function sendUpgrade({ context, request, permit }: PermittedRequest, forwardRequest: ForwardRequest): void {
    const { downstream, exchange, target, path, method, rules, requestId, idleTimeoutMs } = forwardRequest;
    const protocol = request.headers["upgrade"] ?? "";
    // Its key proves that the other side speaks WebSocket; other protocols have no such proof.
    const key = downstream.upgrade === "websocket" ? (request.headers["sec-websocket-key"] ?? "") : null;
    const onAccepted = (): void => {
      context.upgraded = true;
      context.answeredAt = clock.monotonic();
    };
    const onFailed = (failure: ForwardFailure): void => notForwarded(context, failure, permit.principal);
    const told = { headers: forwardRequest.headerList(), rules, requestId, method, protocol, key };
    const common = { downstream, exchange, target, path, idleTimeoutMs, counted: context };
    const ended = { onFailed, onFault: (error: unknown) => onFault(context, error) };
    upgrade(permit, { ...common, ...told, ...ended, handshakeTimeoutMs, onAccepted });
  }

  function onFault({ requestId }: RequestContext, error: unknown): void {
    deps.logger.error({ requestId, error: describe(error) }, "an upgrade or a tunnel could not be carried on");
  }

  function notForwarded(context: RequestContext, failure: ForwardFailure, principal: Principal | null): void {
    switch (failure.type) {
      case "cut":
        sendLocalReply(context, conditionOfCut(failure.reason), tools, principal);
        return;
      case "too-large":
        metrics.refused("body-too-large");
        sendLocalReply(context, { type: "bad-request", status: 413 }, tools);
        return;
      case "too-slow":
        metrics.refused("ERR_HTTP_REQUEST_TIMEOUT");
        sendLocalReply(context, { type: "request-timeout" }, tools);
        return;
      case "busy":
        sendLocalReply(context, { type: "unknown", why: "busy" }, tools);
        return;
      case "unhealthy":
        sendLocalReply(context, { type: "unknown", why: "unhealthy" }, tools);
        return;
      case "error": {
        metrics.upstreamFailed(context.plan?.route.id ?? "none", codeOf(failure.error));
        if (context.tunnel === null) failed(context, failure.error);
        else sendLocalReply(context, { type: "tunnel-unreachable" }, tools);
        return;
      }
      default:
        unreachable(failure);
    }
  }

  function failed(context: RequestContext, error: unknown): void {
    const condition = conditionOf(error);
    if (condition.type === "internal") {
      deps.logger.error({ requestId: context.requestId, error: describe(error) }, "a request could not be handled");
    }
    try {
      sendLocalReply(context, condition, tools);
    } catch (worse) {
      deps.logger.error({ requestId: context.requestId, code: codeOf(worse) }, "a request could not be answered");
      context.downstream.destroy();
    }
  }

  function start(context: RequestContext): void {
    const { downstream } = context;
    context.meter.enter();
    inFlight.begin(downstream);
    downstream.onClose(() => {
      inFlight.end(downstream);
      context.exchange?.close();
      recordRequestEnd(context);
    });
    try {
      readHead(context);
    } catch (error) {
      failed(context, error);
    }
  }

  return {
    authorizer: authorizer,
    onRequest: (downstream) =>
      start(
        createRequestContext(downstream, {
          requestId: deps.requestId(),
          asOf: momentOf(clock),
          meter: metrics.meters.none,
        }),
      ),
  };
}

function describe(error: unknown): Readonly<{ name?: string; code?: string; stack?: string | undefined }> {
  return error instanceof Error ? { name: error.name, code: codeOf(error), stack: error.stack } : {};
}

/** The path as it is matched, and as servers may read it. */
function readingsOf(request: CanonicalRequest): readonly string[] {
  return [request.path].concat(pathReadings(request));
}
