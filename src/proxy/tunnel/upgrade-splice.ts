/**
 * Upgrade: the handshake of one permitted WebSocket, or of a connection to another protocol, with its upstream.
 *
 * - The upstream is connected first, always over HTTP/1.1. Anything but a valid 101 is passed on as an ordinary
 *   response; a 2xx over HTTP/2 is not, because it would be the acceptance.
 * - A caller over HTTP/2 has sent an extended CONNECT without a key (RFC 8441), so the proxy makes one, and the caller
 *   gets 200 for the 101.
 * - byte-splice.ts carries what follows.
 */
import { createHash, randomBytes } from "node:crypto";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Permit } from "../../auth/index.ts";
import { CodedError } from "../../events/index.ts";
import { guardSocket } from "../enforce/send-queue-socket.ts";
import { buildDownstreamHeaders, type ResponseRules } from "../headers/downstream-headers.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { ByteSplice } from "./byte-splice.ts";
import { ConnectAttempt, type ConnectJob, occupyStream } from "./connect-attempt.ts";
import { type Abort, guardEmitter } from "./error-boundary.ts";
import { SpliceSocket } from "./splice-socket.ts";
import { StreamConnection } from "./stream-connection.ts";

export type UpgradeJob = ConnectJob &
  Readonly<{
    path: string;
    /** Alternating names and values, without the upgrade headers, which are added here. */
    headers: readonly string[];
    method: string;
    /** The value of the caller's `Upgrade`. */
    protocol: string;
    /** The caller's `Sec-WebSocket-Key`, or the proxy's own; null: another protocol. */
    key: string | null;
    rules: ResponseRules;
    requestId: string;
    /** The longest time until the upstream accepts. */
    handshakeTimeoutMs: number;
    /** The longest time without a byte in either direction; 0: no limit. */
    idleTimeoutMs: number;
    onAccepted: () => void;
    counted: { bytes: number; bytesReceived: number };
  }>;

/** A key for the upstream of a caller that has sent none (RFC 6455 §4.1). */
export function newWebSocketKey(): string {
  return randomBytes(16).toString("base64");
}

class UpgradeRefusedError extends CodedError<string> {
  override readonly code: string;
  constructor(code: string, problem: string) {
    super(problem);
    this.code = code;
  }
}

export function upgrade(_permit: Permit, job: UpgradeJob): void {
  const { exchange, target, downstream } = job;
  if (!occupyStream(job)) return;
  const request = requestUpgrade(job);
  const connection: Connection = { socket: undefined };
  const attempt = new ConnectAttempt(
    job,
    { abandon: () => void request.destroy(), destroy: destroying(connection, downstream) },
    {
      timeoutMs: job.handshakeTimeoutMs,
      lateError: () => new UpgradeRefusedError("ERR_PROXY_TIMEOUT", "no answer to the upgrade"),
    },
  );
  guardEmitter(request, attempt.abort);
  request.once("error", (error) => attempt.fail({ type: "error", error }));
  request.once("response", (response) => {
    if (wouldAccept(downstream, response)) {
      response.destroy();
      attempt.fail({ type: "error", error: new UpgradeRefusedError("ECONNRESET", "the upstream did not upgrade") });
      return;
    }
    if (!attempt.accept()) return void response.destroy();
    downstream.onClose(() => request.destroy());
    guardEmitter(response, attempt.abort);
    passResponse(job, request, response);
  });
  request.once("upgrade", (response, upstream, upstreamHead) => {
    if (!attempt.isPending || !exchange.mayCarry()) return void upstream.destroy();
    if (accepts(response, job)) {
      attempt.settle();
      join(job, attempt.abort, { response, upstream, upstreamHead });
      return;
    }
    upstream.destroy();
    const problem = "the upstream's 101 does not match the requested upgrade";
    attempt.fail({ type: "error", error: new UpgradeRefusedError("ECONNRESET", problem) });
  });
  // The lease is checked again once connected, since connecting may take longer than the lease lasts.
  request.once("socket", (socket) => {
    guardEmitter(socket, attempt.abort);
    connection.socket = socket;
    socket.once(target.connect.secure ? "secureConnect" : "connect", () => {
      guardSocket(socket);
      if (exchange.mayCarry()) request.end();
    });
  });
}

/** The upstream connection once there is one. It outlives the request that opened it. */
type Connection = { socket: Socket | undefined };

/** A function of its own, so that nothing else of the handshake stays with the open connection. */
function destroying(connection: Connection, downstream: Pick<Downstream, "destroy">): () => void {
  return () => {
    connection.socket?.destroy();
    downstream.destroy();
  };
}

type Upgraded = Readonly<{ response: IncomingMessage; upstream: Duplex; upstreamHead: Buffer }>;

function join(job: UpgradeJob, abort: Abort, { response, upstream, upstreamHead }: Upgraded): void {
  job.target.report?.({ type: "answered", status: 101 });
  job.onAccepted();
  if (!(upstream instanceof Socket)) throw new TypeError("an upgrade without a socket");
  const lines = [...buildDownstreamHeaders(job.rules, response.rawHeaders), "X-Request-Id", job.requestId];
  const taken = job.downstream.takeUpgrade(response.headers.upgrade ?? "", lines);
  const { exchange, counted, idleTimeoutMs, key } = job;
  let head: Buffer | undefined;
  if (taken.type === "socket") {
    guardEmitter(taken.socket, abort);
    head = taken.head;
  } else taken.stream.bindExchange(exchange);
  const caller =
    taken.type === "socket" ? new SpliceSocket(taken.socket, abort) : new StreamConnection(taken.stream, abort);
  const splice = new ByteSplice({
    exchange,
    counted,
    caller,
    upstream: new SpliceSocket(upstream, abort),
    isWebSocket: key !== null,
  });
  splice.begin({ idleTimeoutMs, upstreamHead, head, abort });
}

function requestUpgrade({ target, method, path, headers, protocol }: UpgradeJob): ClientRequest {
  const { secure, path: socketPath, hostname, port, lookup, tls } = target.connect;
  const options = {
    ...(socketPath === null ? { host: hostname, port } : { socketPath }),
    path,
    method,
    lookup,
    agent: false as const,
    setDefaultHeaders: false,
    headers: [...headers, "connection", "Upgrade", "upgrade", protocol],
  };
  return secure ? httpsRequest({ ...options, ...tls }) : httpRequest(options);
}

function accepts(response: IncomingMessage, { key, protocol }: UpgradeJob): boolean {
  if (key !== null) return acceptsUpgrade(response, key);
  return response.statusCode === 101 && response.headers.upgrade?.toLowerCase() === protocol.toLowerCase();
}

/** Checks the proof that the upstream speaks WebSocket and answers this request (RFC 6455 §4.2.2). */
export function acceptsUpgrade(answer: IncomingMessage, key: string): boolean {
  const expected = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  return (
    answer.statusCode === 101 &&
    answer.headers.upgrade?.toLowerCase() === "websocket" &&
    answer.headers["sec-websocket-accept"] === expected
  );
}

/** Whether the caller would take an ordinary response for the acceptance, as any 2xx over HTTP/2 (RFC 8441 §5). */
function wouldAccept({ head }: Downstream, { statusCode = 502 }: IncomingMessage): boolean {
  return head.httpVersion === "2" && statusCode >= 200 && statusCode < 300;
}

/** Passes on an ordinary response of the upstream instead of the upgrade. A cut ends both sides. */
function passResponse(job: UpgradeJob, request: ClientRequest, response: IncomingMessage): void {
  const { downstream, exchange, target } = job;
  exchange.attach((reason) => {
    request.destroy();
    return downstream.cut(reason);
  });
  target.report?.({ type: "answered", status: response.statusCode ?? 502 });
  const lines = new HeaderLines(buildDownstreamHeaders(job.rules, response.rawHeaders));
  downstream.bindExchange(exchange);
  downstream.writeHead(response.statusCode ?? 502, lines, job.requestId);
  response.on("data", (chunk: Buffer) => {
    if (!exchange.mayCarry()) return;
    job.counted.bytes += chunk.length;
    if (!downstream.write(chunk)) response.pause();
  });
  downstream.onDrain(() => response.resume());
  response.once("end", () => {
    if (exchange.mayCarry()) downstream.end();
  });
  response.once("error", () => downstream.destroy());
  request.on("error", () => downstream.destroy());
  // Nothing moves if the upstream is silent or the caller does not read.
  if (job.idleTimeoutMs > 0) request.setTimeout(job.idleTimeoutMs, () => downstream.destroy());
}
