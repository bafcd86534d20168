/**
 * Upgrade: carries one permitted WebSocket, or a connection to another protocol, by splicing two sockets.
 *
 * The upstream is connected first; whatever it answers instead of a good 101 is passed on as an ordinary answer. Only then is
 * the caller's upgrade accepted. After that bytes are copied as they come, each side held back when the other is slow, and
 * the lease is compared on every chunk. Nothing is parsed but the frame headers towards the caller, so that a cut can put
 * its close frame between two frames; when no boundary comes in time, or the caller does not read, the socket is destroyed. Of
 * other protocols nothing is known, and a cut destroys the socket.
 */
import { createHash } from "node:crypto";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Permit } from "../auth/index.ts";
import { closeCodes } from "./close-codes.ts";
import type { Downstream } from "./downstream.ts";
import { buildDownstreamHeaders, type ResponseRules } from "./downstream-headers.ts";
import type { CutReason, Exchange } from "./exchanges.ts";
import type { ForwardFailure } from "./http-forwarder.ts";
import type { UpstreamTarget } from "./http-upstreams.ts";
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
}>;

/** From the cut to the end of the socket. */
export const cutWithinMs = 50;

class UpgradeRefusedError extends Error {
  readonly code: string;
  constructor(code: string, problem: string) {
    super(problem);
    this.name = "UpgradeRefusedError";
    this.code = code;
  }
}

export function upgrade(_permit: Permit, job: UpgradeJob): void {
  const { exchange, target, downstream } = job;
  if (target.upgrades.busy >= target.limits.streams) {
    job.onFailed({ type: "busy" });
    return;
  }
  target.upgrades.busy++;
  downstream.onClose(() => {
    target.upgrades.busy--;
    exchange.close();
  });
  if (!exchange.mayCarry()) {
    job.onFailed({ type: "cut", reason: exchange.cutReason ?? "stale" });
    return;
  }
  const upstream = openUpstream(job);
  let settled: "no" | "answered" | "spliced" = "no";
  const timer = setTimeout(() => {
    fail({ type: "error", error: new UpgradeRefusedError("ERR_PROXY_TIMEOUT", "no answer to the upgrade") });
  }, job.handshakeTimeoutMs);

  function settle(how: "answered" | "spliced"): boolean {
    if (settled !== "no") return false;
    settled = how;
    clearTimeout(timer);
    return true;
  }
  function fail(failure: ForwardFailure): void {
    if (!settle("answered")) return;
    upstream.destroy();
    job.onFailed(failure);
  }

  exchange.attach((reason) => {
    upstream.destroy();
    if (settled === "no") fail({ type: "cut", reason });
    else downstream.destroy();
  });
  downstream.onClose(() => {
    settle("answered");
    if (settled !== "spliced") upstream.destroy();
  });
  upstream.once("error", (error) => fail({ type: "error", error }));
  upstream.once("response", (answer) => {
    if (settled !== "no" || !exchange.mayCarry()) return void answer.destroy();
    settle("answered");
    passAnswer(job, upstream, answer);
  });
  upstream.once("upgrade", (answer, upstreamSocket, upstreamHead) => {
    if (settled !== "no" || !exchange.mayCarry()) return void upstreamSocket.destroy();
    if (!accepts(answer, job)) {
      upstreamSocket.destroy();
      fail({
        type: "error",
        error: new UpgradeRefusedError("ECONNRESET", "the upstream's 101 answers something else"),
      });
      return;
    }
    settle("spliced");
    job.onAccepted();
    const { socket, head } = downstream.takeSocket();
    new Splice(job, socket, upstreamSocket).begin(answer, upstreamHead, head);
  });
  // Connecting may take longer than the lease lasts, so nothing leaves before it is asked again.
  upstream.once("socket", (connecting) => {
    connecting.once(target.connect.secure ? "secureConnect" : "connect", () => {
      if (exchange.mayCarry()) upstream.end();
    });
  });
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
  const { downstream, exchange } = job;
  const lines = buildDownstreamHeaders(job.rules, answer.rawHeaders, job.requestId);
  downstream.writeHead(answer.statusCode ?? 502, lines);
  answer.on("data", (chunk: Buffer) => {
    if (!exchange.mayCarry()) return;
    job.counted.bytes += chunk.length;
    if (!downstream.write(chunk)) answer.pause();
  });
  downstream.onDrain(() => answer.resume());
  answer.once("end", () => downstream.end());
  answer.once("error", () => downstream.destroy());
  upstream.on("error", () => downstream.destroy());
}

class Splice {
  readonly #job: UpgradeJob;
  readonly #client: Socket;
  readonly #upstream: Duplex;
  readonly #frames = new FrameBoundaries();
  #closing: Readonly<{ reason: CutReason; done: () => void }> | undefined;

  constructor(job: UpgradeJob, client: Socket, upstream: Duplex) {
    this.#job = job;
    this.#client = client;
    this.#upstream = upstream;
  }

  begin(answer: IncomingMessage, upstreamHead: Buffer, head: Buffer): void {
    const { exchange, idleTimeoutMs } = this.#job;
    const client = this.#client;
    const upstream = this.#upstream;
    exchange.attach((reason) => this.#cut(reason));
    if (exchange.cutReason !== undefined) return;

    client.on("error", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    client.once("close", () => upstream.destroy());
    upstream.once("close", () => {
      if (this.#closing === undefined) client.destroySoon();
    });
    if (idleTimeoutMs > 0) client.setTimeout(idleTimeoutMs, () => client.destroy());
    client.setNoDelay(true);

    const lines = buildDownstreamHeaders(this.#job.rules, answer.rawHeaders, this.#job.requestId);
    let accept = `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${answer.headers.upgrade}\r\n`;
    for (let i = 0; i < lines.length; i += 2) accept += `${lines[i]}: ${lines[i + 1]}\r\n`;
    client.write(`${accept}\r\n`, "latin1");

    if (upstreamHead.length > 0) this.#toClient(upstreamHead);
    if (head.length > 0) this.#toUpstream(head);
    upstream.on("data", (chunk: Buffer) => this.#toClient(chunk));
    client.on("data", (chunk: Buffer) => this.#toUpstream(chunk));
    client.on("drain", () => upstream.resume());
    upstream.on("drain", () => client.resume());
    upstream.once("end", () => this.#closing === undefined && client.end());
    client.once("end", () => upstream.end());
    client.resume();
  }

  #toClient(chunk: Buffer): void {
    if (this.#closing !== undefined || !this.#job.exchange.mayCarry()) {
      if (this.#job.key !== null) this.#finishFrame(chunk);
      return;
    }
    if (this.#job.key !== null) this.#frames.take(chunk);
    this.#job.counted.bytes += chunk.length;
    if (!this.#client.write(chunk)) this.#upstream.pause();
  }

  #toUpstream(chunk: Buffer): void {
    if (this.#closing !== undefined || !this.#job.exchange.mayCarry()) return;
    this.#job.counted.bytesReceived += chunk.length;
    if (!this.#upstream.write(chunk)) this.#client.pause();
  }

  /**
   * Nothing of the caller's goes up any more; towards the caller only the rest of the frame that has begun. Without a lease
   * not even that: whoever fenced this node off has not waited for it.
   */
  #cut(reason: CutReason): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#client.destroy(), cutWithinMs);
      this.#client.once("close", () => {
        clearTimeout(timer);
        resolve();
      });
      this.#closing = { reason, done: resolve };
      if (this.#client.destroyed) resolve();
      else if (this.#job.key === null) this.#client.destroy();
      else if (this.#frames.atBoundary) this.#sayGoodbye();
      else if (reason === "stale") this.#client.destroy();
      else this.#upstream.resume();
    });
  }

  #finishFrame(chunk: Buffer): void {
    if (this.#client.writableEnded || this.#client.destroyed) return;
    const length = this.#frames.takeToBoundary(chunk);
    this.#client.write(length === chunk.length ? chunk : chunk.subarray(0, length));
    if (this.#frames.atBoundary) this.#sayGoodbye();
  }

  #sayGoodbye(): void {
    const { code, reason } = closeCodes[this.#closing?.reason ?? "draining"];
    this.#upstream.destroy();
    // Once this has left, nothing can follow it; what the caller still sends is thrown away, so that no reset overtakes it.
    this.#client.once("finish", () => this.#closing?.done());
    this.#client.end(closeFrame(code, reason));
    this.#client.resume();
  }
}
