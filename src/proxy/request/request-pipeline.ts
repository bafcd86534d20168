/**
 * Request pipeline: processes a request from its head to its upstream. The steps and their order are the same for
 * requests, upgrades and tunnels.
 *
 *   canonicalise → assign route → identify caller → authorize → record → (reply or tunnel here) → attach tokens,
 *   identity → send
 *
 * - A step returns "next" or "ended". "ended": the request has its reply, is sent, or was moved to another
 *   configuration.
 * - A step that has to wait returns a promise. A request that does not wait is sent in the turn in which its head was
 *   read.
 * - The lease is compared before any lookup, and again after every wait. A node whose state is behind answers 503 and
 *   never sends a caller to sign in.
 * - The clocks are read when the head was read (`RequestContext.asOf`), again after each wait, and once more before the
 *   first byte leaves. The caller sent the head before the first of these, so the time compared with a lease is never
 *   earlier than the request.
 * - There is one pipeline per configuration, and only the one in force authorizes. A request that waited during a
 *   change of configuration restarts in the new pipeline.
 */
import { type AssertionResult, pathReadings } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { momentOf } from "../../replication/runtime/index.ts";
import type { Exchanges, ReauthorizeOutcome } from "../enforce/exchanges.ts";
import type { InFlight } from "../enforce/in-flight.ts";
import { callerAddress, trustedRequestId } from "../headers/upstream-headers.ts";
import { type CanonicalRequest, canonicaliseRequest, hasEncodedSlash } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { describeError } from "../observe/log-text.ts";
import { beginTrace } from "../observe/traces.ts";
import { codeOf } from "../reply/write-reply.ts";
import type { CompiledRoute, CompiledRoutes } from "../routing/compiled-route.ts";
import { isAddressedTo, readTunnel, type TunnelRequest } from "../routing/tunnel-request.ts";
import { isCrossSite, isHandshake } from "../routing/upgrade-request.ts";
import { createAdmission, type OpenRequest } from "./admission.ts";
import { createAuthorizer } from "./authorize.ts";
import type { ProxyDeps } from "./dependencies.ts";
import { createCallerIdentifier, type Identification, type ReachedHandles } from "./identify-caller.ts";
import { createInternalHandlers } from "./internal-handlers.ts";
import {
  badRequest,
  createRefusalWriter,
  crossSite,
  identityExceedsHeaders,
  invalidBearer,
  noRoute,
  twoCredentials,
  unavailableRefusal,
} from "./refuse.ts";
import {
  conditionOfCut,
  countUnderRoute,
  createRequestContext,
  decisionRecordOf,
  type Next,
  type PermittedRequest,
  type ReplyTools,
  type RequestContext,
  recordDecision,
  requireEarlierStep,
  sendLocalReply,
  showDecision,
} from "./request-context.ts";
import { createRequestEndRecorder } from "./request-end.ts";
import { createRequestForwarder } from "./request-forwarder.ts";

export type RequestPipeline = Readonly<{
  onRequest(downstream: Downstream): void;
  /**
   * Restarts a request that arrived under another configuration. Only its head has been read, and nothing was replied.
   */
  rerouteInCurrentConfig(context: RequestContext): void;
  /** Re-decides an open exchange by the current projection and clock. */
  reauthorize(open: OpenRequest<RequestContext>): ReauthorizeOutcome;
}>;

export type PipelineParts = Readonly<{
  deps: ProxyDeps;
  plans: CompiledRoutes;
  exchanges: Exchanges;
  /** The pipeline of the configuration in force. */
  current: () => RequestPipeline;
  reached: ReachedHandles;
  metrics: HttpMetrics;
  /** Handles requests to an authenticate host that runs elsewhere. */
  gateway: ProxyDeps["authenticateHost"];
  /** Called for each request that an internal handler gets. */
  onInternalRequest: (downstream: Downstream) => void;
  inFlight: InFlight;
}>;

type Step = (context: RequestContext) => Next | Promise<Next>;

export function createRequestPipeline(parts: PipelineParts): RequestPipeline {
  const { deps, plans, exchanges, metrics, inFlight, current } = parts;
  const { config, clock, recorder } = deps;
  const tools: ReplyTools = { deps, routes: plans.routes, closing: () => inFlight.draining };
  const refusals = createRefusalWriter(tools, metrics);
  const { refuse, refuseByPolicy, fail } = refusals;
  const internal = createInternalHandlers({ ...parts, tools });
  const callers = createCallerIdentifier(deps, parts.reached);
  const admission = createAdmission<RequestContext>({
    authorizer: createAuthorizer(deps, callers.resolve),
    clock,
    lifetimeMsMax: config.timeouts.writeMs,
    plans,
    exchanges,
    idle: deps.idle,
    current,
    record: (context, outcome, permittedTo) => recordDecision(context, outcome, permittedTo, deps),
  });
  const forwarder = createRequestForwarder({ tools, metrics, refusals });
  const recordRequestEnd = createRequestEndRecorder({ deps, metrics });

  const steps: readonly Step[] = [
    canonicaliseHead,
    assignRoute,
    identifyCaller,
    authorize,
    recordDurably,
    forwarder.openWithoutUpstream,
    attachProviderTokens,
    attachIdentity,
    forwarder.send,
  ];

  function run(context: RequestContext, from: number): void {
    try {
      for (let i = from; ; i++) {
        const next = steps[i]?.(context) ?? "ended";
        if (next === "ended") return;
        if (next === "next") continue;
        next
          .then((later) => {
            if (later === "next") run(context, i + 1);
          })
          .catch((error: unknown) => fail(context, error));
        return;
      }
    } catch (error) {
      fail(context, error);
    }
  }

  function canonicaliseHead(context: RequestContext): Next {
    const canonical = canonicaliseRequest(context.downstream.head, "keep");
    if (canonical.type === "refused") return refuse(context, badRequest(canonical.reason, canonical.status));
    const { request } = canonical;
    context.request = request;
    context.requestId = trustedRequestId(request, config.xffNumTrustedHops) ?? context.requestId;
    context.ip = callerAddress(request.headers["x-forwarded-for"], context.peer, config.xffNumTrustedHops);
    if (deps.tracing !== null) context.trace ??= beginTrace(context, request, deps.tracing);
    const expectation = request.headers["expect"];
    if (expectation !== undefined && expectation.toLowerCase() !== "100-continue")
      return refuse(context, badRequest("expectation", 417));
    return "next";
  }

  // --- the route

  function assignRoute(context: RequestContext): Next {
    const request = requireEarlierStep(context.request);
    const tunnel = readTunnel(context.downstream.upgrade, request, context.downstream.head);
    if (tunnel !== undefined) return assignTunnelRoute(context, request, tunnel);
    // No route may serve the sign-in host or a reserved path, even if it allows encoded slashes.
    if (hasEncodedSlash(request) && readingsOf(request).some((path) => internal.isInternal({ ...request, path })))
      return refuse(context, badRequest("encoded-separator"));
    if (internal.handle(context, request)) return "ended";
    const route = plans.routes.match(request);
    if (route === undefined) {
      const reason = plans.routes.refusalOf(request);
      return refuse(context, reason === undefined ? noRoute : badRequest(reason));
    }
    const plan = plans.compiledRouteOf(route);
    countUnderRoute(context, plan, metrics.meters);
    const { upgrade: kind } = context.downstream;
    if (kind !== null && !isHandshake(kind, request, context.downstream.head))
      return refuse(context, badRequest(kind === "websocket" ? "websocket-handshake" : "upgrade-handshake"));
    if (kind === "websocket" && isCrossSite(request, { deps, routes: plans.routes })) return refuse(context, crossSite);
    return routeTo(context, plan, request);
  }

  /** A tunnel connects only to a target that a route names, at the address that the route gives. */
  function assignTunnelRoute(context: RequestContext, request: CanonicalRequest, tunnel: TunnelRequest | null): Next {
    if (tunnel === null) return refuse(context, badRequest("tunnel-request"));
    if (tunnel.kind === "tcp" && !plans.routes.hasTunnels("tcp")) return refuse(context, badRequest("method", 405));
    const route = plans.routes.matchTunnel(tunnel.kind, tunnel.at);
    if (route === undefined || !isAddressedTo(route, tunnel, request)) return refuse(context, noRoute);
    const plan = plans.compiledRouteOf(route);
    countUnderRoute(context, plan, metrics.meters);
    context.tunnel = tunnel;
    return routeTo(context, plan, request);
  }

  function routeTo(context: RequestContext, plan: CompiledRoute, request: CanonicalRequest): "next" {
    context.routed = { context, plan, request };
    return "next";
  }

  // --- the caller

  function identifyCaller(context: RequestContext): Next | Promise<Next> {
    const routed = requireEarlierStep(context.routed);
    if (admission.isStale(routed)) return refuse(context, unavailableRefusal("lease"));
    const identification = callers.identify(routed.request, routed.plan.route, context.ip);
    if (identification instanceof Promise) return identification.then((known) => identifyAfterWait(context, known));
    context.identification = identification;
    return "next";
  }

  /** The lease may have expired while the caller was looked up. */
  function identifyAfterWait(context: RequestContext, identification: Identification): Next {
    context.asOf = momentOf(clock);
    if (context.downstream.closed) return "ended";
    if (current() === pipeline && admission.isStale(requireEarlierStep(context.routed)))
      return refuse(context, unavailableRefusal("lease"));
    context.identification = identification;
    return "next";
  }

  // --- the decision

  /** Decides and registers a permitted exchange in one turn. */
  function authorize(context: RequestContext): Next {
    if (context.downstream.closed) return "ended";
    if (current() !== pipeline) {
      current().rerouteInCurrentConfig(context); // this configuration has permitted its last
      return "ended";
    }
    const holder = requireEarlierStep(context.identification);
    if (holder === "refused") return refuse(context, invalidBearer);
    if (holder === "two-credentials") return refuse(context, twoCredentials);
    if (holder === "behind" || holder === "provider") return refuse(context, unavailableRefusal(holder));
    const outcome = admission.admit(requireEarlierStep(context.routed), holder);
    switch (outcome.type) {
      case "behind":
        return refuse(context, unavailableRefusal("behind"));
      case "refused":
        return refuseByPolicy(context, outcome);
      case "permitted":
        return keepPermit(context, outcome);
      default:
        return unreachable(outcome);
    }
  }

  function keepPermit(
    context: RequestContext,
    {
      exchange,
      permit,
      reasons,
      sides,
      annotations: { trace, shadow, rule },
    }: Extract<ReturnType<typeof admission.admit>, { type: "permitted" }>,
  ): "next" {
    const { plan, request } = requireEarlierStep(context.routed);
    context.exchange = exchange;
    const outcome = { result: "permit", status: 200, reasons, sides, trace, shadow, rule } as const;
    context.permitted = { context, plan, request, exchange, permit, outcome };
    return "next";
  }

  /** Records the permit. With strict audit nothing is sent before the record is durable. */
  function recordDurably(context: RequestContext): Next | Promise<Next> {
    const permitted = requireEarlierStep(context.permitted);
    const { plan, permit, outcome } = permitted;
    if (plan.route.audit !== "strict" || recorder.recordDurably === null) {
      recordDecision(context, outcome, permit.principal, deps, context.asOf);
      return "next";
    }
    const { principal } = permit;
    const complete = decisionRecordOf(context, outcome, principal, deps, context.asOf);
    return recorder.recordDurably(complete).then(
      () => {
        showDecision(context, { decided: outcome, complete, principal }, deps);
        return continueIfPermitted(permitted);
      },
      (error: unknown) => {
        const facts = { requestId: context.requestId, error: describeError(error) };
        deps.logger.error(facts, "could not record a decision durably; refused the request");
        return refuse(context, unavailableRefusal("audit"));
      },
    );
  }

  /** Checks the permit again, because it may have been revoked before its record was durable. */
  function continueIfPermitted({ context, exchange, permit }: PermittedRequest): Next {
    context.asOf = momentOf(clock);
    if (exchange.mayCarry()) return "next";
    sendLocalReply(context, conditionOfCut(exchange.cutReason ?? "stale"), tools, permit.principal);
    return "ended";
  }

  // --- the caller's identity for the upstream

  /** A route that forwards tokens sends no request without them: an empty token could be mistaken for a valid one. */
  function attachProviderTokens(context: RequestContext): Next | Promise<Next> {
    const { plan, permit } = requireEarlierStep(context.permitted);
    if (!plan.headerRules.wantsTokens || permit.principal === null) return "next";
    const refuseUnknown = (error: unknown): Next => {
      deps.logger.warn(
        { requestId: context.requestId, error: codeOf(error) },
        "could not get a session's tokens from the identity provider; refused the request",
      );
      return refuse(context, unavailableRefusal("provider"), permit.principal);
    };
    try {
      const tokens = deps.providerTokens.of(permit.principal.session);
      if (tokens instanceof Promise)
        return tokens.then((later) => {
          context.asOf = momentOf(clock);
          context.tokens = later;
          return "next";
        }, refuseUnknown);
      context.tokens = tokens;
      return "next";
    } catch (error) {
      return refuseUnknown(error);
    }
  }

  function attachIdentity(context: RequestContext): Next | Promise<Next> {
    const { plan, request, permit } = requireEarlierStep(context.permitted);
    if (plan.headerRules.wantsIdentity === "nothing") return "next";
    const { hostname } = request;
    const scope = { hostname, mode: plan.route.assertion, rules: plan.assertionRules, now: context.asOf.wall };
    const introduced = deps.assertions.issue(permit.principal, scope);
    if (introduced instanceof Promise) return introduced.then((later) => keepIdentity(context, later));
    return keepIdentity(context, introduced);
  }

  function keepIdentity(context: RequestContext, introduced: AssertionResult): Next {
    const { permit } = requireEarlierStep(context.permitted);
    if (introduced.assertion === null) return refuse(context, identityExceedsHeaders, permit.principal);
    context.identity = introduced;
    return "next";
  }

  function rerouteInCurrentConfig(context: RequestContext): void {
    context.plan = null;
    context.tunnel = null;
    context.routed = null;
    context.identification = null;
    run(context, 0);
  }

  function onRequest(downstream: Downstream): void {
    const context = createRequestContext(downstream, {
      requestId: deps.requestId(),
      asOf: momentOf(clock),
      meter: metrics.meters.none,
    });
    context.meter.enter();
    inFlight.begin(downstream);
    downstream.onClose(() => {
      inFlight.end(downstream);
      context.exchange?.close();
      recordRequestEnd(context);
    });
    run(context, 0);
  }

  const pipeline: RequestPipeline = { onRequest, rerouteInCurrentConfig, reauthorize: admission.reauthorize };
  return pipeline;
}

/** The path as routes match it, and as servers may interpret it. */
function readingsOf(request: CanonicalRequest): readonly string[] {
  return [request.path].concat(pathReadings(request));
}
