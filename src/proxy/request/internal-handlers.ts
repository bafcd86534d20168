/**
 * Internal handlers: requests that this process answers itself.
 *
 * - These are the reserved paths on every host, and the whole authenticate host. If a route names that host too, the
 *   authenticate service keeps only its own paths (docs/pomerium-behaviour.md §2.1).
 * - Pure except for the handlers that it calls.
 */
import { isLoopback } from "../../config/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { headerValue } from "../message/header-names.ts";
import { isProbePath, isReserved, isSignInPath, isVisitorPath } from "../message/reserved-paths.ts";
import { traceTextOf } from "../observe/traces.ts";
import type { CompiledRoutes } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import type { ProxyDeps } from "./dependencies.ts";
import { type ReplyTools, type RequestContext, sendLocalReply } from "./request-context.ts";

type Handler = ProxyDeps["reserved"];

export type InternalHandlers = Readonly<{
  /** Whether the proxy answers the request itself. */
  isInternal(request: CanonicalRequest): boolean;
  /** @returns false if the request is for a route */
  handle(context: RequestContext, request: CanonicalRequest): boolean;
}>;

export function createInternalHandlers(
  parts: Readonly<{
    deps: ProxyDeps;
    plans: CompiledRoutes;
    tools: ReplyTools;
    gateway: ProxyDeps["authenticateHost"];
    onInternalRequest: (downstream: Downstream) => void;
  }>,
): InternalHandlers {
  const { deps, plans, tools } = parts;
  const { config } = deps;
  const authenticateHost = deps.authenticateHost ?? parts.gateway;
  const signInHost = config.authenticateServiceUrl.hostname;
  const isShared = config.routes.some(({ host, tunnel }) => host === signInHost && tunnel === null);

  /** Health checks are always answered by this node. */
  function handlerOf({ hostname, path }: CanonicalRequest): Handler | undefined {
    if (isProbePath(path)) return deps.reserved;
    if (authenticateHost !== null && hostname === signInHost) {
      if (!isShared || (isSignInPath(path) && !isVisitorPath(path))) return authenticateHost;
      return isReserved(path) ? deps.reserved : undefined;
    }
    return isReserved(path) ? deps.reserved : undefined;
  }

  function callHandler(context: RequestContext, request: CanonicalRequest, handler: Handler): void {
    const { downstream } = context;
    if (downstream.upgrade !== null) {
      sendLocalReply(context, { type: "upgrade-not-allowed" }, tools);
      return;
    }
    if (request.headers["expect"] !== undefined) downstream.writeContinue(); // the handler reads the body
    const { req, res } = downstream.asNode();
    req.url = request.rawPath + request.search; // the same bytes that were looked at here
    res.setHeader("x-request-id", context.requestId);
    for (const [name, value] of Object.entries(config.setResponseHeaders)) res.setHeader(name, headerValue(value));
    if (tools.closing() && downstream.head.httpVersion !== "2") res.setHeader("connection", "close");
    parts.onInternalRequest(downstream);
    downstream.onClose(() => {
      context.bytes += Number(res.getHeader("content-length") ?? 0) || 0;
    });
    handler(req, res, {
      origin: originOf(request),
      hostname: request.hostname,
      requestId: context.requestId,
      ip: context.ip,
      trace: traceTextOf(context.trace, request),
    });
  }

  /** The external scheme is that of the host's routes. Without routes, plain HTTP only on a loopback host. */
  function originOf(request: CanonicalRequest): string {
    if (request.hostname === signInHost) return config.authenticateServiceUrl.origin;
    const route = plans.routes.ofHost(request.hostname, request.port);
    const port = request.port === null ? "" : `:${request.port}`;
    // Sign-in for a tunnel happens on the web address of the host, whatever port the tunnel requests.
    if (route !== undefined && route.tunnel !== null)
      return new URL(`${route.from.protocol}//${request.hostname}${port}`).origin;
    if (route !== undefined) return `${route.from.protocol}//${authorityOf(route, request)}`;
    const scheme = config.insecureServer && isLoopback(request.hostname) ? "http" : "https";
    return new URL(`${scheme}://${request.hostname}${port}`).origin;
  }

  return {
    isInternal: (request) => handlerOf(request) !== undefined,
    handle(context, request) {
      const handler = handlerOf(request);
      if (handler === undefined) return false;
      callHandler(context, request, handler);
      return true;
    },
  };
}
