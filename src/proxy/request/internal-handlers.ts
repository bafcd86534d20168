/**
 * Own handlers: what is not forwarded but answered by this process. Reserved paths on every host, and the whole authenticate host;
 * where a route names that host too, the authenticate service keeps only its own paths there (docs/pomerium-behaviour.md §2.1).
 *
 * Pure but for what it hands over.
 */
import { isLoopback } from "../../config/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { headerValue } from "../message/header-names.ts";
import { isReserved, isSignInPath, isVisitorPath } from "../message/reserved-paths.ts";
import { traceTextOf } from "../observe/traces.ts";
import type { Plans } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import type { ProxyPorts } from "./dependencies.ts";
import { type AnswerTools, answer, type Visit } from "./request-context.ts";

type Handler = ProxyPorts["reserved"];

export type OwnHandlers = Readonly<{
  /** Whether the proxy answers it itself. */
  has(request: CanonicalRequest): boolean;
  /** @returns false: it is for a route */
  take(visit: Visit, request: CanonicalRequest): boolean;
}>;

export function createOwnHandlers(
  parts: Readonly<{
    ports: ProxyPorts;
    plans: Plans;
    tools: AnswerTools;
    gateway: ProxyPorts["authenticateHost"];
    onHandedOver: (downstream: Downstream) => void;
  }>,
): OwnHandlers {
  const { ports, plans, tools } = parts;
  const { config } = ports;
  const authenticateHost = ports.authenticateHost ?? parts.gateway;
  const signInHost = config.authenticateServiceUrl.hostname;
  const isShared = config.routes.some(({ host, tunnel }) => host === signInHost && tunnel === null);

  /** Whether we are alive is asked of this node itself. */
  function handlerOf({ hostname, path }: CanonicalRequest): Handler | undefined {
    if (path === "/ping" || path === "/healthz") return ports.reserved;
    if (authenticateHost !== null && hostname === signInHost) {
      if (!isShared || (isSignInPath(path) && !isVisitorPath(path))) return authenticateHost;
      return isReserved(path) ? ports.reserved : undefined;
    }
    return isReserved(path) ? ports.reserved : undefined;
  }

  function handOver(visit: Visit, request: CanonicalRequest, handler: Handler): void {
    const { downstream } = visit;
    if (downstream.upgrade !== null) {
      answer(visit, { type: "upgrade-not-allowed" }, tools);
      return;
    }
    if (request.headers["expect"] !== undefined) downstream.writeContinue(); // whoever reads a body here takes it
    const { req, res } = downstream.asNode();
    req.url = request.rawPath + request.search; // the same bytes that were looked at here
    res.setHeader("x-request-id", visit.requestId);
    for (const [name, value] of Object.entries(config.setResponseHeaders)) res.setHeader(name, headerValue(value));
    if (tools.closing() && downstream.head.httpVersion !== "2") res.setHeader("connection", "close");
    parts.onHandedOver(downstream);
    downstream.onClose(() => {
      visit.bytes += Number(res.getHeader("content-length") ?? 0) || 0;
    });
    handler(req, res, {
      origin: originOf(request),
      hostname: request.hostname,
      requestId: visit.requestId,
      ip: visit.ip,
      trace: traceTextOf(visit.trace, request),
    });
  }

  /** The external scheme is that of the host's routes; plain HTTP otherwise only on this very machine. */
  function originOf(request: CanonicalRequest): string {
    if (request.hostname === signInHost) return config.authenticateServiceUrl.origin;
    const route = plans.routes.ofHost(request.hostname, request.port);
    const port = request.port === null ? "" : `:${request.port}`;
    // Where people sign in for a tunnel is an address of the web, whatever port the tunnel asks for.
    if (route !== undefined && route.tunnel !== null)
      return new URL(`${route.from.protocol}//${request.hostname}${port}`).origin;
    if (route !== undefined) return `${route.from.protocol}//${authorityOf(route, request)}`;
    const scheme = config.insecureServer && isLoopback(request.hostname) ? "http" : "https";
    return new URL(`${scheme}://${request.hostname}${port}`).origin;
  }

  return {
    has: (request) => handlerOf(request) !== undefined,
    take(visit, request) {
      const handler = handlerOf(request);
      if (handler === undefined) return false;
      handOver(visit, request, handler);
      return true;
    },
  };
}
