/**
 * Onward: a permitted CONNECT whose route leads to another proxy (`to: https://…`) is asked of that one.
 *
 * That proxy is told the target, and by headers who asks, as any upstream is; never the caller's credential for us. It connects, and only
 * when it says yes (2xx) is the caller told so; then bytes pass as through every tunnel. What it says instead is passed on:
 * its status and where it sends the caller to, without a body.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import { guardSocket } from "../enforce/send-queue-socket.ts";
import type { ForwardFailure } from "../forward/http-forwarder.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import { contain, contained, endByFault } from "./error-boundary.ts";
import { beginTunnel, TcpSplice, type TunnelJob } from "./tcp-splice.ts";

export type OnwardJob = TunnelJob &
  Readonly<{
    /** Host and port, as the caller asked for them. */
    authority: string;
    /** For the other proxy; names and values in turn, `host` first. */
    headers: readonly string[];
  }>;

/** Of an answer that is no yes: what a caller can act on. */
const toldOn = ["location", "www-authenticate", "proxy-authenticate", "retry-after"] as const;

export function leadsOnward({ tunnel, to }: Pick<RouteConfig, "tunnel" | "to">): boolean {
  return tunnel?.kind === "tcp" && /^https?:$/.test(to[0]?.url.protocol ?? "");
}

export function tunnelOnward(_permit: Permit, job: OnwardJob): void {
  const { exchange, downstream } = job;
  if (!beginTunnel(job)) return;
  const asking = openOnward(job);
  const end = endByFault(job.onFault, fail, () => {
    asking.destroy();
    downstream.destroy();
  });
  contain(asking, end);
  let settled = false;
  const late = (): void => {
    fail({ type: "error", error: new UpstreamConnectTimeoutError("the other proxy did not answer in time") });
  };
  const timer = setTimeout(contained(late, end), job.connectTimeoutMs);

  function settle(): boolean {
    if (settled) return false;
    settled = true;
    clearTimeout(timer);
    return true;
  }
  function fail(failure: ForwardFailure): boolean {
    if (!settle()) return false;
    asking.destroy();
    if (failure.type === "error") job.target.report?.({ type: "local" });
    job.onFailed(failure);
    return true;
  }
  exchange.attach((reason) => void fail({ type: "cut", reason }));
  downstream.onClose(() => {
    if (settle()) asking.destroy();
  });
  asking.on("error", (error) => fail({ type: "error", error }));
  // Connecting may take longer than the lease lasts, so nothing leaves before it is asked again.
  asking.once("socket", (connecting) => {
    contain(connecting, end);
    connecting.once(job.target.connect.secure ? "secureConnect" : "connect", () => {
      if (exchange.mayCarry()) asking.end();
    });
  });
  asking.once("response", (answer) => refuse(answer)); // of a proxy that says no to a CONNECT without ending its protocol
  asking.once("connect", (answer, upstream: Socket, upstreamHead: Buffer) => {
    const { statusCode = 0 } = answer;
    if (statusCode < 200 || statusCode > 299) {
      upstream.destroy();
      refuse(answer);
      return;
    }
    upstream.on("error", () => {}); // `close` follows
    if (settled || !exchange.mayCarry()) {
      upstream.destroy(); // a cut has failed it
      return;
    }
    settle();
    guardSocket(upstream);
    job.target.report?.({ type: "answered", status: statusCode });
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    contain(stream, end);
    new TcpSplice(job, stream, upstream).begin({ head, upstreamHead });
  });

  function refuse(answer: IncomingMessage): void {
    if (!exchange.mayCarry() || !settle()) return;
    asking.destroy();
    const lines = ["content-length", "0"];
    for (const name of toldOn) {
      const value = answer.headers[name];
      if (value !== undefined) lines.push(name, String(value));
    }
    const { statusCode = 0 } = answer;
    job.target.report?.({ type: "answered", status: statusCode });
    const status = statusCode >= 300 && statusCode <= 599 ? statusCode : 502;
    downstream.bindExchange(exchange);
    downstream.writeHead(status, new HeaderLines(lines), job.requestId);
    downstream.end();
  }
}

function openOnward({ target, authority, headers }: OnwardJob): ClientRequest {
  const { secure, hostname: host, port, lookup, tls } = target.connect;
  const sent: string[] = ["host", authority];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] ?? "";
    if (!/^(?:host|content-length)$/i.test(name)) sent.push(name, headers[i + 1] ?? "");
  }
  const options = {
    ...{ host, port, lookup, path: authority, method: "CONNECT", headers: sent },
    ...{ agent: false as const, setDefaultHeaders: false, allowHalfOpen: true, noDelay: true },
  };
  return secure ? httpsRequest({ ...options, ...tls }) : httpRequest(options);
}
