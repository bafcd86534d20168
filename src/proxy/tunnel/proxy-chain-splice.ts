/**
 * Proxy chain splice: carries one permitted CONNECT through another proxy, for routes with `to: https://…`.
 *
 * - The other proxy gets the target and the identity headers that any upstream gets, never the caller's credential.
 * - It connects to the target. Only after its 2xx does the caller get one; then bytes pass as in every tunnel.
 * - Any other response is passed on without a body: its status, and the headers that a caller can act on.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import { guardSocket } from "../enforce/send-queue-socket.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import { ConnectAttempt, occupyStream } from "./connect-attempt.ts";
import { guardEmitter } from "./error-boundary.ts";
import { TcpSplice, type TunnelJob } from "./tcp-splice.ts";

export type ProxyChainJob = TunnelJob &
  Readonly<{
    /** Host and port of the target, as the caller sent them. */
    authority: string;
    /** For the other proxy: alternating names and values, `host` first. */
    headers: readonly string[];
  }>;

/** The headers of a refusal that a caller can act on. */
const forwardedHeaders = ["location", "www-authenticate", "proxy-authenticate", "retry-after"] as const;

export function isProxyChain({ tunnel, to }: Pick<RouteConfig, "tunnel" | "to">): boolean {
  return tunnel?.kind === "tcp" && /^https?:$/.test(to[0]?.url.protocol ?? "");
}

export function tunnelThroughProxy(_permit: Permit, job: ProxyChainJob): void {
  const { exchange, downstream, target } = job;
  if (!occupyStream(job)) return;
  const request = requestTunnel(job);
  const destroy = (): void => {
    request.destroy();
    downstream.destroy();
  };
  const lateError = (): Error => new UpstreamConnectTimeoutError("the other proxy did not answer in time");
  const deadline = { timeoutMs: job.connectTimeoutMs, lateError };
  const attempt = new ConnectAttempt(job, { abandon: () => void request.destroy(), destroy }, deadline);
  guardEmitter(request, attempt.abort);
  request.on("error", (error) => attempt.fail({ type: "error", error }));
  // The lease is checked again once connected, since connecting may take longer than the lease lasts.
  request.once("socket", (connection) => {
    guardEmitter(connection, attempt.abort);
    connection.once(target.connect.secure ? "secureConnect" : "connect", () => {
      guardSocket(connection); // a cut discards what the kernel still holds of the head
      if (exchange.mayCarry()) request.end();
    });
  });
  request.once("response", (response) => refuse(response)); // a refused CONNECT on a connection that stays HTTP
  request.once("connect", (response, upstream: Socket, upstreamHead: Buffer) => {
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299) {
      upstream.destroy();
      refuse(response);
      return;
    }
    upstream.on("error", () => {}); // `close` follows
    if (!attempt.accept()) {
      upstream.destroy();
      return;
    }
    target.report?.({ type: "answered", status: statusCode });
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    guardEmitter(stream, attempt.abort);
    new TcpSplice(job, stream, upstream).begin({ head, upstreamHead });
  });

  function refuse(response: IncomingMessage): void {
    if (!attempt.accept()) return;
    request.destroy();
    const lines = ["content-length", "0"];
    for (const name of forwardedHeaders) {
      const value = response.headers[name];
      if (value !== undefined) lines.push(name, String(value));
    }
    const { statusCode = 0 } = response;
    target.report?.({ type: "answered", status: statusCode });
    const status = statusCode >= 300 && statusCode <= 599 ? statusCode : 502;
    exchange.attach((reason) => downstream.cut(reason));
    downstream.bindExchange(exchange);
    downstream.writeHead(status, new HeaderLines(lines), job.requestId);
    downstream.end();
  }
}

function requestTunnel({ target, authority, headers }: ProxyChainJob): ClientRequest {
  const { secure, hostname: host, port, lookup, tls } = target.connect;
  const sent: string[] = ["host", authority];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] ?? "";
    if (!/^(?:host|content-length)$/i.test(name)) sent.push(name, headers[i + 1] ?? "");
  }
  const options = {
    host,
    port,
    lookup,
    path: authority,
    method: "CONNECT",
    headers: sent,
    agent: false as const,
    setDefaultHeaders: false,
    allowHalfOpen: true,
    noDelay: true,
  };
  return secure ? httpsRequest({ ...options, ...tls }) : httpRequest(options);
}
