/**
 * The life of a request: read strictly, reserved paths, the authenticate host, route, decision, then forward or answer. One
 * order, for ordinary requests and upgrades alike.
 */
import { type Introduced, identityTooLarge, type Principal, pathReadings } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { momentOf } from "../../replication/index.ts";
import type { Exchanges } from "../enforce/exchanges.ts";
import type { Traffic } from "../enforce/in-flight.ts";
import { Sending, type SendingTools } from "../forward/forward-request.ts";
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
import { isAddressedTo, readTunnel, type TunnelAsked } from "../routing/tunnel-request.ts";
import { isCrossSite, isHandshake, takesUpgrade } from "../routing/upgrade-request.ts";
import { createTunnels } from "../tunnel/open-tunnel.ts";
import { leadsOnward } from "../tunnel/proxy-chain-splice.ts";
import { upgrade } from "../tunnel/upgrade-splice.ts";
import { createDecisionDesk, type DecisionDesk, type Permitted } from "./authorize.ts";
import type { ProxyPorts } from "./dependencies.ts";
import type { ReachedHandles } from "./identify-caller.ts";
import { createOwnHandlers } from "./internal-handlers.ts";
import { type AnswerTools, answer, conditionOfCut, leadTo, newVisit, record, type Visit } from "./request-context.ts";
import { tellEnds } from "./request-end.ts";

export type RequestListener = Readonly<{
  onRequest(downstream: Downstream): void;
  desk: DecisionDesk;
}>;

/** Everything under one configuration; `current` is the desk of the one in force. */
export type ListenerParts = Readonly<{
  ports: ProxyPorts;
  plans: Plans;
  exchanges: Exchanges;
  current: () => DecisionDesk;
  reached: ReachedHandles;
  metrics: HttpMetrics;
  /** Leads to the authenticate host where it runs elsewhere. */
  gateway: ProxyPorts["authenticateHost"];
  /** A reserved path's handler has been given a request. */
  onHandedOver: (downstream: Downstream) => void;
  traffic: Traffic;
}>;

/** An upgrade whose handshake says nothing for this long has failed; the exchange itself may last. */
const handshakeTimeoutMs = 30_000;

export function createRequestListener(parts: ListenerParts): RequestListener {
  const { ports, plans, exchanges, metrics, traffic, current, reached } = parts;
  const closing = (): boolean => traffic.draining;
  const { config, clock } = ports;
  const tools: AnswerTools = { ports, routes: plans.routes, closing };
  const own = createOwnHandlers({ ...parts, tools });
  const common = { ports, plans, exchanges, tools, current, reached };
  const ended = tellEnds({ ports, metrics });
  const tunnels = createTunnels({ metrics, now: clock.monotonic, notForwarded, onFault });
  const sendingTools: SendingTools = {
    clock,
    metrics,
    notForwarded: (failure, { visit, permit }) => notForwarded(visit, failure, permit.principal),
  };
  const desk = createDecisionDesk({ ...common, takeOver, onPermit: act, onFailed: failed });

  // --- from the head to the route

  function begin(visit: Visit): void {
    const canonical = canonicalise(visit.downstream.head, "keep");
    if (canonical.type === "refused") {
      metrics.refused(canonical.reason);
      const status = answer(visit, { type: "bad-request", status: canonical.status }, tools);
      record(visit, { result: "bad_request", status, reasons: [canonical.reason] }, null, ports);
      return;
    }
    const { request } = canonical;
    visit.request = request;
    visit.requestId = trustedRequestId(request, config.xffNumTrustedHops) ?? visit.requestId;
    visit.ip = callerAddress(request.headers["x-forwarded-for"], visit.peer, config.xffNumTrustedHops);
    if (ports.tracing !== null) visit.trace ??= beginTrace(visit, request, ports.tracing);
    const expectation = request.headers["expect"];
    if (expectation !== undefined && expectation.toLowerCase() !== "100-continue") {
      metrics.refused("expectation");
      const status = answer(visit, { type: "bad-request", status: 417 }, tools);
      record(visit, { result: "bad_request", status, reasons: ["expectation"] }, null, ports);
      return;
    }
    const asked = readTunnel(visit.downstream.upgrade, request, visit.downstream.head);
    if (asked !== undefined) {
      beginTunnel(visit, request, asked);
      return;
    }
    // No route may answer for the sign-in host, nor below a reserved path, whatever it allows.
    if (hasEncodedSlash(request) && readingsOf(request).some((path) => own.has({ ...request, path }))) {
      refuseUnread(visit, "encoded-separator");
      return;
    }
    if (own.take(visit, request)) return;
    const route = plans.routes.match(request);
    if (route === undefined) {
      const refusal = plans.routes.refusalOf(request);
      if (refusal !== undefined) refuseUnread(visit, refusal);
      else notFound(visit);
      return;
    }
    const plan = plans.planOf(route);
    leadTo(visit, plan, metrics.meters);
    const { upgrade: kind } = visit.downstream;
    if (kind !== null && !isHandshake(kind, request, visit.downstream.head)) {
      refuseUnread(visit, kind === "websocket" ? "websocket-handshake" : "upgrade-handshake");
      return;
    }
    if (kind === "websocket" && isCrossSite(request, { ports, routes: plans.routes })) {
      metrics.refused("websocket-origin");
      const reasons = ["websocket-origin"];
      const status = answer(visit, { type: "no-right", status: 403, reasons }, tools);
      record(visit, { result: "deny", status, reasons }, null, ports);
      return;
    }
    desk.consider({ visit, plan, request });
  }

  /** The request could be read in more than one way. */
  function refuseUnread(visit: Visit, reason: string): void {
    metrics.refused(reason);
    const status = answer(visit, { type: "bad-request", status: 400 }, tools);
    record(visit, { result: "bad_request", status, reasons: [reason] }, null, ports);
  }

  /** Nothing of it was read or answered but its head. */
  function takeOver(visit: Visit): void {
    visit.plan = null;
    visit.tunnel = null;
    try {
      begin(visit);
    } catch (error) {
      failed(visit, error);
    }
  }

  function notFound(visit: Visit): void {
    const status = answer(visit, { type: "no-route" }, tools);
    record(visit, { result: "not_found", status, reasons: ["route-not-found"] }, null, ports);
  }

  /** Only what a route names is ever connected to, and only at the address that the route gives for it. */
  function beginTunnel(visit: Visit, request: CanonicalRequest, asked: TunnelAsked | null): void {
    if (asked === null || (asked.kind === "tcp" && !plans.routes.hasTunnels("tcp"))) {
      const reason = asked === null ? "tunnel-request" : "method";
      metrics.refused(reason);
      const status = answer(visit, { type: "bad-request", status: asked === null ? 400 : 405 }, tools);
      record(visit, { result: "bad_request", status, reasons: [reason] }, null, ports);
      return;
    }
    const route = plans.routes.matchTunnel(asked.kind, asked.at);
    if (route === undefined || !isAddressedTo(route, asked, request)) {
      notFound(visit);
      return;
    }
    const plan = plans.planOf(route);
    leadTo(visit, plan, metrics.meters);
    visit.tunnel = asked;
    desk.consider({ visit, plan, request });
  }

  // --- what follows from a permit

  function act(permitted: Permitted): void {
    const { visit, plan, request, permit } = permitted;
    if (visit.tunnel !== null && !leadsOnward(plan.route)) {
      tunnels.open(permitted, visit.tunnel);
      return;
    }
    if (
      visit.tunnel === null &&
      visit.downstream.upgrade !== null &&
      (plan.nextUpstream === undefined || !takesUpgrade(plan.route, request))
    ) {
      answer(visit, { type: "upgrade-not-allowed" }, tools);
      return;
    }
    if (plan.answer !== undefined) {
      permitted.exchange.attach((reason) => visit.downstream.cut(reason));
      visit.downstream.bindExchange(permitted.exchange);
      const search = stripSessionQuery(request.search); // a redirect to another host is no place for a handle either
      const made = plan.answer({ ...request, scheme: plan.scheme, search });
      const headers = { ...plan.route.setResponseHeaders, ...made.headers, "x-request-id": visit.requestId };
      const length = ["content-length", String(Buffer.byteLength(made.body))];
      const sent = Object.entries(headers).flatMap(([name, value]) => [name, headerValue(value)]);
      const lines = new HeaderLines([...sent, ...length]);
      visit.downstream.writeHead(made.status, lines, null);
      visit.downstream.end(made.body);
      visit.bytes += Buffer.byteLength(made.body);
      return;
    }
    if (!plan.headerRules.wantsTokens || permit.principal === null) introduce(permitted, null);
    else withTokens(permitted, permit.principal);
  }

  /** Nothing is sent on without what the route says of the provider's tokens: an empty one would look like an answer. */
  function withTokens(permitted: Permitted, principal: Principal): void {
    const { visit } = permitted;
    const unknown = (error: unknown): void => {
      ports.logger.warn({ requestId: visit.requestId, error: codeOf(error) }, "a session's tokens could not be had");
      const status = answer(visit, { type: "unknown", why: "provider" }, tools, principal);
      record(visit, { result: "unavailable", status, reasons: ["provider"] }, principal, ports);
    };
    try {
      const found = ports.providerTokens.of(principal.session);
      if (!(found instanceof Promise)) introduce(permitted, found);
      else
        found
          .then((tokens) => {
            visit.asOf = momentOf(clock);
            introduce(permitted, tokens);
          }, unknown)
          .catch((error: unknown) => failed(visit, error));
    } catch (error) {
      unknown(error);
    }
  }

  function introduce(permitted: Permitted, tokens: ForwardedTokens | null): void {
    const { visit, plan, request, permit } = permitted;
    if (plan.headerRules.wantsIdentity === "nothing") {
      send(permitted, null, tokens);
      return;
    }
    const { hostname } = request;
    const scope = { hostname, mode: plan.route.assertion, rules: plan.assertionRules, now: visit.asOf.wall };
    const introduced = ports.assertions.introduce(permit.principal, scope);
    if (!(introduced instanceof Promise)) sendIntroduced(permitted, introduced, tokens);
    else
      introduced
        .then((made) => sendIntroduced(permitted, made, tokens))
        .catch((error: unknown) => failed(visit, error));
  }

  function sendIntroduced(permitted: Permitted, made: Introduced, tokens: ForwardedTokens | null): void {
    if (made.assertion !== null) {
      send(permitted, made, tokens);
      return;
    }
    const { visit, permit } = permitted;
    const reasons = [identityTooLarge.reason];
    const status = answer(visit, { type: "no-right", status: 403, reasons }, tools, permit.principal);
    record(visit, { result: "deny", status, reasons }, permit.principal, ports);
  }

  function send(permitted: Permitted, identity: UpstreamIdentity | null, tokens: ForwardedTokens | null): void {
    const { visit, plan, request, exchange, permit } = permitted;
    const { downstream } = visit;
    if (downstream.closed || plan.nextUpstream === undefined) return;
    if (exchange.cutReason !== undefined) {
      answer(visit, conditionOfCut(exchange.cutReason), tools, permit.principal);
      return;
    }
    if (plan.headerRules.kubernetes !== null && !mayImpersonate(identity)) {
      const reasons = ["kubernetes-nobody"];
      const status = answer(visit, { type: "no-right", status: 403, reasons }, tools, permit.principal);
      record(visit, { result: "deny", status, reasons }, permit.principal, ports);
      return;
    }
    const bodyBytesMax = plan.route.maxRequestBodyBytes;
    if (bodyBytesMax > 0 && Number(request.headers["content-length"] ?? 0) > bodyBytesMax) {
      notForwarded(visit, { type: "too-large" }, permit.principal);
      return;
    }
    const rewritten = visit.tunnel === null ? plan.rewrite(request.rawPath) : "";
    if (rewritten === undefined) {
      metrics.refused("rewrite");
      answer(visit, { type: "bad-request", status: 400 }, tools, permit.principal);
      return;
    }
    const { nextUpstream: next } = plan;
    const asking = { sessionId: permit.principal?.session.sessionId ?? null, ip: visit.ip };
    const target = next(asking);
    if (target === undefined) {
      notForwarded(visit, { type: "unhealthy" }, permit.principal);
      return;
    }
    visit.sentAt = visit.asOf.monotonic;
    const sending = new Sending(sendingTools, permitted, { identity, tokens }, { target, next, asking, rewritten });
    if (visit.tunnel !== null) {
      const headers = sending.headerList(sending.authority());
      tunnels.openOnward(permitted, visit.tunnel, { target, headers });
    } else if (downstream.upgrade === null) forward(permit, sending);
    else sendUpgrade(permitted, sending);
  }

  function sendUpgrade({ visit, request, permit }: Permitted, sending: Sending): void {
    const { downstream, exchange, target, path, method, rules, requestId, idleTimeoutMs } = sending;
    const protocol = request.headers["upgrade"] ?? "";
    // Its key proves that the other side speaks WebSocket; other protocols have no such proof.
    const key = downstream.upgrade === "websocket" ? (request.headers["sec-websocket-key"] ?? "") : null;
    const onAccepted = (): void => {
      visit.switched = true;
      visit.answeredAt = clock.monotonic();
    };
    const onFailed = (failure: ForwardFailure): void => notForwarded(visit, failure, permit.principal);
    const told = { headers: sending.headerList(), rules, requestId, method, protocol, key };
    const common = { downstream, exchange, target, path, idleTimeoutMs, counted: visit };
    const ended = { onFailed, onFault: (error: unknown) => onFault(visit, error) };
    upgrade(permit, { ...common, ...told, ...ended, handshakeTimeoutMs, onAccepted });
  }

  function onFault({ requestId }: Visit, error: unknown): void {
    ports.logger.error({ requestId, error: describe(error) }, "an upgrade or a tunnel could not be carried on");
  }

  function notForwarded(visit: Visit, failure: ForwardFailure, principal: Principal | null): void {
    switch (failure.type) {
      case "cut":
        answer(visit, conditionOfCut(failure.reason), tools, principal);
        return;
      case "too-large":
        metrics.refused("body-too-large");
        answer(visit, { type: "bad-request", status: 413 }, tools);
        return;
      case "too-slow":
        metrics.refused("ERR_HTTP_REQUEST_TIMEOUT");
        answer(visit, { type: "request-timeout" }, tools);
        return;
      case "busy":
        answer(visit, { type: "unknown", why: "busy" }, tools);
        return;
      case "unhealthy":
        answer(visit, { type: "unknown", why: "unhealthy" }, tools);
        return;
      case "error": {
        metrics.upstreamFailed(visit.plan?.route.id ?? "none", codeOf(failure.error));
        if (visit.tunnel === null) failed(visit, failure.error);
        else answer(visit, { type: "tunnel-unreachable" }, tools);
        return;
      }
      default:
        unreachable(failure);
    }
  }

  function failed(visit: Visit, error: unknown): void {
    const condition = conditionOf(error);
    if (condition.type === "internal") {
      ports.logger.error({ requestId: visit.requestId, error: describe(error) }, "a request could not be handled");
    }
    try {
      answer(visit, condition, tools);
    } catch (worse) {
      ports.logger.error({ requestId: visit.requestId, code: codeOf(worse) }, "a request could not be answered");
      visit.downstream.destroy();
    }
  }

  function start(visit: Visit): void {
    const { downstream } = visit;
    visit.meter.enter();
    traffic.begun(downstream);
    downstream.onClose(() => {
      traffic.done(downstream);
      visit.exchange?.close();
      ended(visit);
    });
    try {
      begin(visit);
    } catch (error) {
      failed(visit, error);
    }
  }

  return {
    desk,
    onRequest: (downstream) =>
      start(newVisit(downstream, { requestId: ports.requestId(), asOf: momentOf(clock), meter: metrics.meters.none })),
  };
}

function describe(error: unknown): Readonly<{ name?: string; code?: string; stack?: string | undefined }> {
  return error instanceof Error ? { name: error.name, code: codeOf(error), stack: error.stack } : {};
}

/** The path as it is matched, and as servers may read it. */
function readingsOf(request: CanonicalRequest): readonly string[] {
  return [request.path].concat(pathReadings(request));
}
