/**
 * Upgrade splice: carries one permitted WebSocket, or a connection to another protocol, by joining two sockets.
 *
 * - The upstream is connected first. Anything but a valid 101 is passed on as an ordinary response.
 * - Bytes are copied as they arrive. A slow side pauses the other. The lease is checked on every chunk.
 * - Only the frame headers towards the caller are parsed, so that a cut can put its close frame between two frames.
 * - A cut always ends in a reset, which discards what the kernel holds. It is immediate if the caller has unread bytes
 *   or if the protocol is not WebSocket; otherwise it follows the caller's close or the time limit.
 */
import { createHash } from "node:crypto";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Permit } from "../../auth/index.ts";
import { CodedError } from "../../events/index.ts";
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import { closeSocket, guardSocket, resetSocket, unsentBytes } from "../enforce/send-queue-socket.ts";
import { buildDownstreamHeaders, type ResponseRules } from "../headers/downstream-headers.ts";
import { cutWithinMs } from "../http1/outlet-socket.ts";
import { closeCodes } from "../message/close-codes.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { ConnectAttempt, type ConnectJob, occupyStream } from "./connect-attempt.ts";
import { type Abort, guardEmitter } from "./error-boundary.ts";
import { closeFrame, FrameBoundaries } from "./websocket-frames.ts";

export type UpgradeJob = ConnectJob &
  Readonly<{
    path: string;
    /** Alternating names and values, without the upgrade headers, which are added here. */
    headers: readonly string[];
    method: string;
    /** The value of the caller's `Upgrade`. */
    protocol: string;
    /** The caller's `Sec-WebSocket-Key`; null: another protocol. */
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

/** From the end of the caller's side of a WebSocket until both sides are closed. */
const leavingMs = 1_000;

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
  const { socket: client, head } = job.downstream.takeSocket();
  guardEmitter(client, abort);
  const lines = [...buildDownstreamHeaders(job.rules, response.rawHeaders), "X-Request-Id", job.requestId];
  const { exchange, counted, idleTimeoutMs, key } = job;
  new Splice({ exchange, counted, client, upstream, webSocket: key !== null }).begin({
    acceptance: acceptance(response.headers.upgrade ?? "", lines),
    idleTimeoutMs,
    upstreamHead,
    head,
  });
}

function acceptance(protocol: string, lines: readonly string[]): string {
  let text = `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
  for (let i = 0; i < lines.length; i += 2) text += `${lines[i]}: ${lines[i + 1]}\r\n`;
  return `${text}\r\n`;
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

/** Passes on an ordinary response of the upstream instead of the upgrade. A cut ends both sides. */
function passResponse(job: UpgradeJob, request: ClientRequest, response: IncomingMessage): void {
  const { downstream, exchange, target } = job;
  exchange.attach(() => {
    request.destroy();
    downstream.destroy();
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

type Spliced = Readonly<{
  exchange: Exchange;
  counted: UpgradeJob["counted"];
  client: Socket;
  upstream: Duplex;
  webSocket: boolean;
}>;

class Splice {
  readonly #exchange: Exchange;
  readonly #counted: UpgradeJob["counted"];
  readonly #client: Socket;
  readonly #upstream: Duplex;
  /** Null: the protocol is not WebSocket. */
  readonly #frames: FrameBoundaries | null;
  /** Why the exchange is being cut; undefined: it is not. */
  #closing: CutReason | undefined;

  constructor({ exchange, counted, client, upstream, webSocket }: Spliced) {
    this.#exchange = exchange;
    this.#counted = counted;
    this.#client = client;
    this.#upstream = upstream;
    this.#frames = webSocket ? new FrameBoundaries() : null;
  }

  begin({
    acceptance,
    idleTimeoutMs,
    upstreamHead,
    head,
  }: Readonly<{ acceptance: string; idleTimeoutMs: number; upstreamHead: Buffer; head: Buffer }>): void {
    this.#exchange.attach((reason) => this.#cut(reason));
    if (this.#exchange.cutReason !== undefined) return;
    if (idleTimeoutMs > 0) this.#client.setTimeout(idleTimeoutMs, () => this.#client.destroy());
    this.#client.setNoDelay(true);
    this.#client.write(acceptance, "latin1");
    if (upstreamHead.length > 0) this.#toClient(upstreamHead);
    if (head.length > 0) this.#toUpstream(head);
    this.#listen();
    this.#client.resume();
  }

  /** A method of its own, so that the listeners keep nothing else alive. */
  #listen(): void {
    const client = this.#client;
    const upstream = this.#upstream;
    client.on("error", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    client.once("close", () => upstream.destroy());
    upstream.once("close", () => {
      if (this.#closing === undefined) client.destroySoon();
    });
    upstream.on("data", (chunk: Buffer) => this.#toClient(chunk));
    client.on("data", (chunk: Buffer) => this.#toUpstream(chunk));
    client.on("drain", () => upstream.resume());
    upstream.on("drain", () => client.resume());
    upstream.once("end", () => this.#closing === undefined && client.end());
    client.once("end", () => {
      upstream.end();
      // Both ends close a WebSocket (RFC 6455 §7.1.1). A caller that ends its side has left; the upstream gets a moment
      // to notice.
      if (this.#frames === null) return;
      const leaving = setTimeout(() => client.destroy(), leavingMs);
      client.once("close", () => clearTimeout(leaving));
    });
  }

  #toClient(chunk: Buffer): void {
    if (this.#closing !== undefined || !this.#exchange.mayCarry()) {
      if (this.#frames !== null) this.#finishFrame(this.#frames, chunk);
      return;
    }
    this.#frames?.take(chunk);
    this.#counted.bytes += chunk.length;
    if (!this.#client.write(chunk)) this.#upstream.pause();
  }

  #toUpstream(chunk: Buffer): void {
    if (this.#closing !== undefined || !this.#exchange.mayCarry()) return;
    this.#counted.bytesReceived += chunk.length;
    if (!this.#upstream.write(chunk)) this.#client.pause();
  }

  /**
   * Sends nothing more upstream, and to the caller only the rest of the frame that has begun. Without a lease it sends
   * not even that: the cluster that fenced this node off does not wait for it.
   */
  #cut(reason: CutReason): void | Promise<void> {
    this.#closing = reason;
    const client = this.#client;
    // A close frame behind unsent bytes would be late, and those bytes must not be sent.
    const waits = client.writableEnded || unsentBytes(client) > 0;
    if (this.#frames === null || waits || (reason === "stale" && !this.#frames.atBoundary)) {
      resetSocket(client);
      this.#leaveUpstream();
      return;
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => resetSocket(client), cutWithinMs);
      client.once("close", () => {
        clearTimeout(timer);
        this.#leaveUpstream();
        resolve();
      });
      if (client.destroyed) resolve();
      else if (this.#frames?.atBoundary === true) this.#sendClose();
      else this.#upstream.resume();
    });
  }

  /** Discards what the kernel holds for the upstream. */
  #leaveUpstream(): void {
    if (this.#upstream instanceof Socket) closeSocket(this.#upstream);
    else this.#upstream.destroy();
  }

  #finishFrame(frames: FrameBoundaries, chunk: Buffer): void {
    if (this.#client.writableEnded || this.#client.destroyed) return;
    const length = frames.takeToBoundary(chunk);
    this.#client.write(length === chunk.length ? chunk : chunk.subarray(0, length));
    if (frames.atBoundary) this.#sendClose();
  }

  #sendClose(): void {
    const { code, reason } = closeCodes[this.#closing ?? "draining"];
    this.#leaveUpstream();
    // Bytes that still arrive from the caller are discarded, so that no reset overtakes the close frame.
    this.#client.end(closeFrame(code, reason));
    this.#client.resume();
  }
}
