/**
 * Upgrade: carries one permitted WebSocket, or a connection to another protocol, by splicing two sockets.
 *
 * The upstream is connected first; whatever it answers instead of a good 101 is passed on as an ordinary answer. Only then is
 * the caller's upgrade accepted. After that bytes are copied as they come, each side held back when the other is slow, and
 * the lease is compared on every chunk. Nothing is parsed but the frame headers towards the caller, so that a cut can put
 * its close frame between two frames. A cut always ends in a reset, which discards what the kernel holds: at once if the caller has not
 * received everything that came before, or if the protocol is not WebSocket; otherwise when the caller closes or the time is over.
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
import type { ForwardFailure } from "../forward/http-forwarder.ts";
import { buildDownstreamHeaders, type ResponseRules } from "../headers/downstream-headers.ts";
import { cutWithinMs } from "../http1/outlet-socket.ts";
import { closeCodes } from "../message/close-codes.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { HeaderLines } from "../message/header-lines.ts";
import type { UpstreamTarget } from "../upstream/connection-pools.ts";
import { contain, contained, type EndByFault, endByFault } from "./error-boundary.ts";
import { closeFrame, FrameBoundaries } from "./websocket-frames.ts";

export type UpgradeJob = Readonly<{
  downstream: Downstream;
  exchange: Exchange;
  target: UpstreamTarget;
  path: string;
  /** Names and values in turn; the upgrade lines are added here. */
  headers: readonly string[];
  method: string;
  /** As the caller's `Upgrade` has it. */
  protocol: string;
  /** The caller's `Sec-WebSocket-Key`; null: another protocol. */
  key: string | null;
  rules: ResponseRules;
  requestId: string;
  /** Until the upstream has accepted. */
  handshakeTimeoutMs: number;
  /** Without a byte in either direction; 0: no limit. */
  idleTimeoutMs: number;
  onAccepted: () => void;
  counted: { bytes: number; bytesReceived: number };
  /** Nothing was answered yet: the caller of `upgrade` answers. */
  onFailed: (failure: ForwardFailure) => void;
  /** Something of ours threw; the upgrade ends. */
  onFault: (error: unknown) => void;
}>;

/** From the end of a caller's side of a WebSocket to the end of the whole. */
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
  if (target.upgrades.busy >= target.limits.streams) {
    job.onFailed({ type: "busy" });
    return;
  }
  occupy(downstream, target, exchange);
  if (!exchange.mayCarry()) {
    job.onFailed({ type: "cut", reason: exchange.cutReason ?? "stale" });
    return;
  }
  new Handshake(job);
}

function occupy(
  downstream: Pick<Downstream, "onClose">,
  { upgrades }: Pick<UpstreamTarget, "upgrades">,
  exchange: Pick<Exchange, "close">,
): void {
  upgrades.busy++;
  downstream.onClose(() => {
    upgrades.busy--;
    exchange.close();
  });
}

/** What is under way: all that a handshake needs and an open connection does not. */
type Attempt = Readonly<{ job: UpgradeJob; upstream: ClientRequest; timer: NodeJS.Timeout }>;

/** One handshake. Afterwards it holds nothing, for it stays as long as its connection: ten thousand of them may be open. */
class Handshake {
  #attempt: Attempt | undefined;
  /** The connection, once there is one, which the request is not: that goes with the attempt. */
  #upstream: Socket | undefined;

  constructor(job: UpgradeJob) {
    const { exchange, target, downstream } = job;
    const upstream = openUpstream(job);
    const end = this.#endOf(job.onFault, downstream);
    contain(upstream, end);
    const late = (): void => {
      this.#fail({ type: "error", error: new UpgradeRefusedError("ERR_PROXY_TIMEOUT", "no answer to the upgrade") });
    };
    const timer = setTimeout(contained(late, end), job.handshakeTimeoutMs);
    this.#attempt = { job, upstream, timer };

    exchange.attach((reason) => {
      if (this.#attempt !== undefined) this.#fail({ type: "cut", reason });
      else {
        upstream.destroy();
        downstream.destroy(); // an ordinary answer that is being passed on
      }
    });
    onceClosed(downstream, this);
    upstream.once("error", (error) => this.#fail({ type: "error", error }));
    upstream.once("response", (answer) => {
      if (!exchange.mayCarry() || this.#settle() === undefined) return void answer.destroy();
      downstream.onClose(() => upstream.destroy());
      contain(answer, end);
      passAnswer(job, upstream, answer);
    });
    upstream.once("upgrade", (...upgraded) => this.#upgraded(end, ...upgraded));
    // Connecting may take longer than the lease lasts, so nothing leaves before it is asked again.
    upstream.once("socket", (connecting) => {
      contain(connecting, end);
      this.#upstream = connecting;
      connecting.once(target.connect.secure ? "secureConnect" : "connect", () => {
        guardSocket(connecting);
        if (exchange.mayCarry()) upstream.end();
      });
    });
  }

  /** In a method of its own, so that nothing else stays with the sockets. */
  #endOf(onFault: UpgradeJob["onFault"], downstream: Downstream): EndByFault {
    const fail = (failure: ForwardFailure): boolean => this.#fail(failure);
    return endByFault(onFault, fail, () => {
      this.#upstream?.destroy();
      downstream.destroy();
    });
  }

  /** The caller is gone. */
  close(): void {
    this.#settle()?.upstream.destroy();
  }

  #settle(): Attempt | undefined {
    const attempt = this.#attempt;
    this.#attempt = undefined;
    clearTimeout(attempt?.timer);
    return attempt;
  }

  /** @returns false: it was settled before */
  #fail(failure: ForwardFailure): boolean {
    const attempt = this.#settle();
    if (attempt === undefined) return false;
    attempt.upstream.destroy();
    if (failure.type === "error") attempt.job.target.report?.({ type: "local" });
    attempt.job.onFailed(failure);
    return true;
  }

  #upgraded(end: EndByFault, answer: IncomingMessage, upstream: Duplex, upstreamHead: Buffer): void {
    const { job } = this.#attempt ?? {};
    if (job === undefined || !job.exchange.mayCarry()) return void upstream.destroy();
    if (!accepts(answer, job)) {
      upstream.destroy();
      const problem = "the upstream's 101 answers something else";
      this.#fail({ type: "error", error: new UpgradeRefusedError("ECONNRESET", problem) });
      return;
    }
    this.#settle();
    job.target.report?.({ type: "answered", status: 101 });
    job.onAccepted();
    const { socket: client, head } = job.downstream.takeSocket();
    contain(client, end);
    const lines = [...buildDownstreamHeaders(job.rules, answer.rawHeaders), "X-Request-Id", job.requestId];
    const { exchange, counted, idleTimeoutMs, key } = job;
    new Splice({ exchange, counted, client, upstream, webSocket: key !== null }).begin({
      acceptance: acceptance(answer.headers.upgrade ?? "", lines),
      idleTimeoutMs,
      upstreamHead,
      head,
    });
  }
}

/** In a function of its own, so that nothing else of the handshake stays with the listener. */
function onceClosed(downstream: Pick<Downstream, "onClose">, handshake: Handshake): void {
  downstream.onClose(() => handshake.close());
}

function acceptance(protocol: string, lines: readonly string[]): string {
  let text = `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
  for (let i = 0; i < lines.length; i += 2) text += `${lines[i]}: ${lines[i + 1]}\r\n`;
  return `${text}\r\n`;
}

function openUpstream({ target, method, path, headers, protocol }: UpgradeJob): ClientRequest {
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

function accepts(answer: IncomingMessage, { key, protocol }: UpgradeJob): boolean {
  if (key !== null) return acceptsUpgrade(answer, key);
  return answer.statusCode === 101 && answer.headers.upgrade?.toLowerCase() === protocol.toLowerCase();
}

/** The proof that the other side speaks WebSocket and read this very request (RFC 6455 §4.2.2). */
export function acceptsUpgrade(answer: IncomingMessage, key: string): boolean {
  const expected = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  return (
    answer.statusCode === 101 &&
    answer.headers.upgrade?.toLowerCase() === "websocket" &&
    answer.headers["sec-websocket-accept"] === expected
  );
}

/** The upstream said something else than yes: the caller hears exactly that. */
function passAnswer(job: UpgradeJob, upstream: ClientRequest, answer: IncomingMessage): void {
  const { downstream, exchange, target } = job;
  target.report?.({ type: "answered", status: answer.statusCode ?? 502 });
  const lines = new HeaderLines(buildDownstreamHeaders(job.rules, answer.rawHeaders));
  downstream.bindExchange(exchange);
  downstream.writeHead(answer.statusCode ?? 502, lines, job.requestId);
  answer.on("data", (chunk: Buffer) => {
    if (!exchange.mayCarry()) return;
    job.counted.bytes += chunk.length;
    if (!downstream.write(chunk)) answer.pause();
  });
  downstream.onDrain(() => answer.resume());
  answer.once("end", () => {
    if (exchange.mayCarry()) downstream.end();
  });
  answer.once("error", () => downstream.destroy());
  upstream.on("error", () => downstream.destroy());
  // Whether the upstream falls silent or the caller does not read: then nothing moves.
  if (job.idleTimeoutMs > 0) upstream.setTimeout(job.idleTimeoutMs, () => downstream.destroy());
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
  /** Null: no frames are known of another protocol. */
  readonly #frames: FrameBoundaries | null;
  /** Why it is being cut. */
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

  /** In a method of its own, so that nothing of the beginning stays with the listeners. */
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
      // A WebSocket is closed by both or by nobody: whoever ends its side has left, and no upstream has long to notice (RFC 6455 §7.1.1).
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
   * Nothing of the caller's goes up any more; towards the caller only the rest of the frame that has begun. Without a lease
   * not even that: whoever fenced this node off has not waited for it.
   */
  #cut(reason: CutReason): void | Promise<void> {
    this.#closing = reason;
    const client = this.#client;
    // A close frame that has to wait behind other bytes comes too late, and those must not leave at all.
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
      else if (this.#frames?.atBoundary === true) this.#sayGoodbye();
      else this.#upstream.resume();
    });
  }

  /** What the kernel holds for the upstream is discarded. */
  #leaveUpstream(): void {
    if (this.#upstream instanceof Socket) closeSocket(this.#upstream);
    else this.#upstream.destroy();
  }

  #finishFrame(frames: FrameBoundaries, chunk: Buffer): void {
    if (this.#client.writableEnded || this.#client.destroyed) return;
    const length = frames.takeToBoundary(chunk);
    this.#client.write(length === chunk.length ? chunk : chunk.subarray(0, length));
    if (frames.atBoundary) this.#sayGoodbye();
  }

  #sayGoodbye(): void {
    const { code, reason } = closeCodes[this.#closing ?? "draining"];
    this.#leaveUpstream();
    // What the caller still sends is thrown away, so that no reset overtakes the frame.
    this.#client.end(closeFrame(code, reason));
    this.#client.resume();
  }
}
