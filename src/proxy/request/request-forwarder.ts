/**
 * Request forwarder: the last step of the pipeline. It sends a permitted request to its upstream as HTTP, as an
 * upgraded connection or through a tunnel, or sends the route's own reply.
 *
 * Nothing is sent without a permit, and nothing after the exchange was cut.
 */
import type { Principal } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import type { ForwardFailure } from "../forward/forward-job.ts";
import { ForwardRequest, type ForwardTools } from "../forward/forward-request.ts";
import { forwardRequest } from "../forward/http-forwarder.ts";
import { mayImpersonate } from "../headers/kubernetes.ts";
import { stripSessionQuery } from "../headers/upstream-headers.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { headerValue } from "../message/header-names.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { describeError } from "../observe/log-text.ts";
import { codeOf } from "../reply/write-reply.ts";
import { takesUpgrade } from "../routing/upgrade-request.ts";
import { createTunnels } from "../tunnel/open-tunnel.ts";
import { isProxyChain } from "../tunnel/proxy-chain-splice.ts";
import { newWebSocketKey, upgrade } from "../tunnel/upgrade-splice.ts";
import { impersonatesNothing, type RefusalWriter } from "./refuse.ts";
import {
  conditionOfCut,
  type Next,
  type PermittedRequest,
  type ReplyTools,
  type RequestContext,
  requireEarlierStep,
  sendLocalReply,
} from "./request-context.ts";

/** An upgrade handshake fails after this time without a response. It does not limit the exchange. */
const handshakeTimeoutMs = 30_000;

export type RequestForwarder = Readonly<{
  /**
   * Handles requests that need no HTTP upstream: a tunnel to the service itself, a reply of the route, and an upgrade
   * that the route does not allow.
   */
  openWithoutUpstream(context: RequestContext): Next;
  /** Sends the request to an upstream of the route. */
  send(context: RequestContext): Next;
}>;

export function createRequestForwarder(
  parts: Readonly<{ tools: ReplyTools; metrics: HttpMetrics; refusals: Pick<RefusalWriter, "refuse" | "fail"> }>,
): RequestForwarder {
  const { tools, metrics, refusals } = parts;
  const { clock, logger } = tools.deps;
  const tunnels = createTunnels<PermittedRequest>({ metrics, now: clock.monotonic, notForwarded, onFault });
  const forwardTools: ForwardTools<PermittedRequest> = {
    clock,
    metrics,
    notForwarded: (failure, { context, permit }) => notForwarded(context, failure, permit.principal),
  };

  function openWithoutUpstream(context: RequestContext): Next {
    const permitted = requireEarlierStep(context.permitted);
    const { plan, request } = permitted;
    if (context.tunnel !== null && !isProxyChain(plan.route)) {
      tunnels.open(permitted, context.tunnel);
      return "ended";
    }
    if (
      context.tunnel === null &&
      context.downstream.upgrade !== null &&
      (plan.nextUpstream === undefined || !takesUpgrade(plan.route, request))
    ) {
      sendLocalReply(context, { type: "upgrade-not-allowed" }, tools);
      return "ended";
    }
    if (plan.answer === undefined) return "next";
    replyFromRoute(permitted, plan.answer);
    return "ended";
  }

  function replyFromRoute(
    { context, plan, request, exchange }: PermittedRequest,
    answer: NonNullable<PermittedRequest["plan"]["answer"]>,
  ): void {
    const { downstream } = context;
    exchange.attach((reason) => downstream.cut(reason));
    downstream.bindExchange(exchange);
    const search = stripSessionQuery(request.search); // a redirect to another host carries no session handle either
    const made = answer({ ...request, scheme: plan.scheme, search });
    const headers = { ...plan.route.setResponseHeaders, ...made.headers, "x-request-id": context.requestId };
    const length = ["content-length", String(Buffer.byteLength(made.body))];
    const sent = Object.entries(headers).flatMap(([name, value]) => [name, headerValue(value)]);
    downstream.writeHead(made.status, new HeaderLines([...sent, ...length]), null);
    downstream.end(made.body);
    context.bytes += Buffer.byteLength(made.body);
  }

  function send(context: RequestContext): Next {
    const permitted = requireEarlierStep(context.permitted);
    const { plan, request, exchange, permit } = permitted;
    const { downstream, identity, tokens } = context;
    if (downstream.closed || plan.nextUpstream === undefined) return "ended";
    if (exchange.cutReason !== undefined) {
      sendLocalReply(context, conditionOfCut(exchange.cutReason), tools, permit.principal);
      return "ended";
    }
    if (plan.headerRules.kubernetes !== null && !mayImpersonate(identity))
      return refusals.refuse(context, impersonatesNothing, permit.principal);
    const bodyBytesMax = plan.route.maxRequestBodyBytes;
    if (bodyBytesMax > 0 && Number(request.headers["content-length"] ?? 0) > bodyBytesMax) {
      notForwarded(context, { type: "too-large" }, permit.principal);
      return "ended";
    }
    const rewritten = context.tunnel === null ? plan.rewrite(request.rawPath) : "";
    if (rewritten === undefined) {
      metrics.refused("rewrite");
      sendLocalReply(context, { type: "bad-request", status: 400 }, tools, permit.principal);
      return "ended";
    }
    const { nextUpstream: next } = plan;
    const asking = { sessionId: permit.principal?.session.sessionId ?? null, ip: context.ip };
    const target = next(asking);
    if (target === undefined) {
      notForwarded(context, { type: "unhealthy" }, permit.principal);
      return "ended";
    }
    context.sentAt = context.asOf.monotonic;
    const forwarded = new ForwardRequest(
      forwardTools,
      permitted,
      { identity, tokens },
      { target, next, asking, rewritten },
    );
    if (context.tunnel !== null) {
      const headers = forwarded.headerList(forwarded.authority);
      tunnels.openOnward(permitted, context.tunnel, { target, headers });
    } else if (downstream.upgrade === null) forwardRequest(permit, forwarded);
    else sendUpgrade(permitted, forwarded);
    return "ended";
  }

  function sendUpgrade(
    { context, request, permit }: PermittedRequest,
    forwarded: ForwardRequest<PermittedRequest>,
  ): void {
    const { downstream, exchange, target, path, method, rules, requestId, idleTimeoutMs } = forwarded;
    const isWebSocket = downstream.upgrade === "websocket";
    const sentKey = request.headers["sec-websocket-key"];
    const key = sentKey ?? newWebSocketKey();
    const headers = forwarded.headerList();
    upgrade(permit, {
      downstream,
      exchange,
      target,
      path,
      idleTimeoutMs,
      counted: context,
      headers: isWebSocket && sentKey === undefined ? [...headers, "sec-websocket-key", key] : headers,
      rules,
      requestId,
      method,
      protocol: request.headers["upgrade"] ?? "",
      // Its key proves that the other side speaks WebSocket; other protocols have no such proof.
      key: isWebSocket ? key : null,
      handshakeTimeoutMs,
      onAccepted() {
        context.upgraded = true;
        context.answeredAt = clock.monotonic();
      },
      onFailed: (failure) => notForwarded(context, failure, permit.principal),
      onFault: (error) => onFault(context, error),
    });
  }

  function onFault({ requestId }: RequestContext, error: unknown): void {
    logger.error({ requestId, error: describeError(error) }, "could not continue an upgraded connection or tunnel");
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
        if (context.tunnel === null) refusals.fail(context, failure.error);
        else sendLocalReply(context, { type: "tunnel-unreachable" }, tools);
        return;
      }
      default:
        unreachable(failure);
    }
  }

  return { openWithoutUpstream, send };
}
