/**
 * HTTP/1 downstream: one request of an HTTP/1 connection and the response to it.
 *
 * The connection (http1/connection.ts) reads and reports what arrives. This keeps the state of both directions and
 * writes the response. A head waits for what follows it in the same turn, so that a small response is one system
 * call.
 */
import { type IncomingMessage, ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { resetSocket } from "../enforce/send-queue-socket.ts";
import { headerLinesMax, type RequestHead } from "../message/canonical-request.ts";
import type {
  BodyReader,
  BoundExchange,
  Downstream,
  DownstreamTunnel,
  UpgradedConnection,
  UpgradeKind,
} from "../message/downstream-request.ts";
import type { HeaderLines } from "../message/header-lines.ts";
import type { PresentedCertificate } from "../message/peer.ts";
import type { Http1Connection } from "./connection.ts";
import type { Flush } from "./flush-scheduler.ts";
import { NodeRequest } from "./node-request.ts";

/** As text, head and body leave in one system call; beyond this the copy costs more than the call. */
const oneWriteMax = 16_384;

const statusLines: ReadonlyMap<number, string> = new Map(
  Object.entries(STATUS_CODES).map(([status, text]) => [Number(status), `HTTP/1.1 ${status} ${text}`]),
);

export type Http1Head = RequestHead &
  Readonly<{
    upgrade: UpgradeKind | null;
    hasBody: boolean;
    /** The caller allows another request after the response. */
    keepAlive: boolean;
  }>;

const none: readonly string[] = [];

/** What was read of a body before there was a reader. */
type EarlyBody = { chunks: Buffer[]; ended: boolean };

export class Http1Downstream implements Downstream {
  readonly head: Http1Head;
  readonly peer: string;
  readonly certificate: PresentedCertificate | null;
  readonly #connection: Http1Connection;
  readonly #socket: Socket;
  status = 0;
  ended = false;
  closed = false;
  bodyComplete = false;
  /** False: the connection ends after the response. */
  keepAlive: boolean;
  #reader: BodyReader | "discarded" | undefined;
  #earlyBody: EarlyBody | undefined;
  #isPaused = false;
  /** The reader received part of the body since the last check. */
  #hasMoved = false;
  #trailers: readonly string[] = none;
  #pendingHead: string | undefined;
  #exchange: BoundExchange | undefined;
  #isChunked = false;
  #hasNoBody = false;
  #sentContinue = false;
  #onDrain: (() => void) | undefined;
  #onClose: (() => void)[] = [];
  #nodeObjects: Readonly<{ req: IncomingMessage; res: ServerResponse }> | undefined;

  constructor(connection: Http1Connection, socket: Socket, head: Http1Head) {
    this.#connection = connection;
    this.#socket = socket;
    this.head = head;
    this.peer = connection.caller.address;
    this.certificate = connection.caller.certificate;
    this.keepAlive = head.keepAlive;
    this.bodyComplete = !head.hasBody;
  }

  get upgrade(): UpgradeKind | null {
    return this.head.upgrade;
  }
  get hasBody(): boolean {
    return this.head.hasBody;
  }
  get needsDrain(): boolean {
    return this.#connection.needsDrain;
  }
  /** Part of the response was sent. */
  get hasStarted(): boolean {
    return this.status !== 0 || this.#sentContinue;
  }

  get isResponding(): boolean {
    return this.status !== 0 && !this.ended;
  }

  // --- the request's body, as the connection reads it

  onBodyChunk(chunk: Buffer): void {
    if (this.#reader === "discarded") return;
    if (this.#reader === undefined || this.#isPaused) {
      this.#earlyBody ??= { chunks: [], ended: false };
      this.#earlyBody.chunks.push(chunk);
      this.#connection.pauseReading();
      return;
    }
    this.#hasMoved = true;
    if (!this.#reader.onChunk(chunk)) this.#pauseBody();
  }

  /**
   * @returns whether a reader with its own time-outs received part of the body since the last call, or there is no
   *   reader yet
   */
  hasBodyProgress(): boolean {
    if (this.#reader === undefined) return this.status === 0; // the caller waits
    const moved = this.#hasMoved && this.#reader !== "discarded" && this.#reader.onTimeout !== undefined;
    this.#hasMoved = false;
    return moved;
  }

  /** The body takes too long. @returns false when nothing here can respond to that */
  timeOutBody(): boolean {
    const reader = this.#reader;
    if (typeof reader !== "object" || reader.onTimeout === undefined || this.status !== 0) return false;
    this.keepAlive = false;
    reader.onTimeout(this.#isPaused ? "upstream" : "caller");
    return true;
  }

  /** @returns false when there are too many */
  onBodyTrailers(lines: string[]): boolean {
    this.#trailers = this.#trailers.concat(lines);
    return this.#trailers.length <= headerLinesMax * 2;
  }

  onBodyEnd(): void {
    this.bodyComplete = true;
    if (this.#earlyBody !== undefined) this.#earlyBody.ended = true;
    else if (this.#reader !== undefined && this.#reader !== "discarded") this.#reader.onBodyEnd(this.#trailers);
    else if (this.#reader === undefined) this.#earlyBody = { chunks: [], ended: true };
  }

  /** The body cannot be parsed, or will not be complete. */
  onBodyAborted(): void {
    const reader = this.#reader;
    this.#reader = "discarded";
    this.#earlyBody = undefined;
    this.keepAlive = false;
    if (reader !== undefined && reader !== "discarded" && !this.bodyComplete) reader.onAbort();
  }

  readBody(reader: BodyReader): void {
    if (!this.head.hasBody || this.#reader !== undefined) return;
    this.#reader = reader;
    this.#deliverEarlyBody();
  }

  resumeBody(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#deliverEarlyBody();
  }

  discardBody(): void {
    if (this.#reader === "discarded") return;
    this.#reader = "discarded";
    this.#earlyBody = undefined;
    this.#isPaused = false;
    this.#connection.resumeReading();
  }

  #deliverEarlyBody(): void {
    const early = this.#earlyBody;
    const reader = this.#reader;
    if (reader === undefined || reader === "discarded") return;
    if (early !== undefined) {
      while (early.chunks.length > 0) {
        const chunk = early.chunks.shift() as Buffer;
        this.#hasMoved = true;
        if (!reader.onChunk(chunk)) {
          this.#pauseBody();
          return;
        }
      }
      this.#earlyBody = undefined;
      if (early.ended) reader.onBodyEnd(this.#trailers);
    }
    this.#connection.resumeReading();
  }

  #pauseBody(): void {
    this.#isPaused = true;
    this.#connection.pauseReading();
  }

  // --- the response

  writeContinue(): void {
    // HTTP/1.0 has no interim responses (RFC 9110 §10.1.1).
    if (this.status !== 0 || this.closed || this.#sentContinue || this.head.httpVersion === "1.0") return;
    this.#sentContinue = true;
    this.#connection.sendNow("HTTP/1.1 100 Continue\r\n\r\n");
  }

  writeEarlyHints(links: readonly string[]): void {
    if (this.status !== 0 || this.closed || this.head.httpVersion === "1.0") return;
    let text = "HTTP/1.1 103 Early Hints\r\n";
    for (const link of links) text += `Link: ${requireWritable(link)}\r\n`;
    this.#connection.sendNow(`${text}\r\n`);
  }

  bindExchange(exchange: BoundExchange): void {
    this.#exchange = exchange;
    exchange.setOutlet(this.#connection.outlet);
  }

  /** Called by the connection: whether what was collected of the response may still leave. */
  mayFlush(flush: Flush): boolean {
    return this.#exchange?.mayFlush(flush) ?? true;
  }

  writeHead(status: number, lines: HeaderLines, requestId: string | null): void {
    if (this.status !== 0 || this.closed) return;
    let head = lines.text(this.#connection.headerValues);
    // A 204 has no length, whatever its upstream says (RFC 9110 §8.6).
    if (status === 204 && head.length !== undefined)
      head = lines.without("content-length").text(this.#connection.headerValues);
    const { length } = head;
    if (head.closesConnection) this.keepAlive = false;
    let text = `${statusLines.get(status) ?? `HTTP/1.1 ${status} Unknown`}${head.text}\r\n`;
    if (requestId !== null) text += `X-Request-Id: ${requestId}\r\n`;
    if (!head.hasDate) text += `Date: ${this.#connection.httpDate()}\r\n`;
    const withoutBody = status === 204 || status === 304;
    this.#hasNoBody = withoutBody || this.head.method === "HEAD";
    const isHttp10 = this.head.httpVersion === "1.0";
    if (length === undefined && !withoutBody) {
      if (isHttp10)
        this.keepAlive = false; // the end of the connection is its end
      else {
        if (this.head.method !== "HEAD") this.#isChunked = true;
        text += "Transfer-Encoding: chunked\r\n";
      }
    }
    if (!this.#connection.mayKeepAlive(this)) this.keepAlive = false;
    if (!this.keepAlive) text += "Connection: close\r\n";
    else if (isHttp10) text += "Connection: keep-alive\r\n";
    this.status = status;
    this.#pendingHead = `${text}\r\n`;
    // The head of a stream leaves at once, although its first chunk may take long.
    if (length === undefined) queueMicrotask(() => this.#flushHead());
  }

  #flushHead(): void {
    const head = this.#pendingHead;
    if (head === undefined || this.closed) return;
    this.#pendingHead = undefined;
    this.#connection.send(head);
  }

  write(chunk: Buffer | string): boolean {
    if (this.closed || this.ended) return false;
    if (this.#hasNoBody || chunk.length === 0) return true;
    const head = this.#pendingHead ?? "";
    this.#pendingHead = undefined;
    const before = this.#isChunked ? `${head}${chunk.length.toString(16)}\r\n` : head;
    const after = this.#isChunked ? "\r\n" : "";
    if (typeof chunk === "string") this.#connection.send(`${before}${chunk}${after}`);
    else if (chunk.length <= oneWriteMax) this.#connection.send(`${before}${chunk.toString("latin1")}${after}`);
    else this.#connection.sendAround(before, chunk, after);
    return !this.#connection.needsDrain;
  }

  end(chunk?: Buffer | string, trailers?: readonly string[]): void {
    if (this.closed || this.ended) return;
    const bytes = typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk;
    if (bytes !== undefined) this.write(bytes);
    let text = this.#pendingHead ?? "";
    this.#pendingHead = undefined;
    if (this.#isChunked) {
      text += "0\r\n";
      if (trailers !== undefined && trailers.length > 0 && this.#acceptsTrailers())
        for (let i = 0; i < trailers.length; i += 2)
          text += `${trailers[i]}: ${requireWritable(trailers[i + 1] ?? "")}\r\n`;
      text += "\r\n";
    }
    this.ended = true;
    this.#connection.sendLast(text);
  }

  #acceptsTrailers(): boolean {
    const raw = this.head.rawHeaders;
    for (let i = 0; i < raw.length; i += 2)
      if (raw[i]?.length === 2 && raw[i]?.toLowerCase() === "te") return /\btrailers\b/i.test(raw[i + 1] ?? "");
    return false;
  }

  /** Resets the connection, which discards what the kernel holds of half a response. */
  destroy(): void {
    if (!this.closed) resetSocket(this.#socket);
  }

  cut(): void {
    this.destroy();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  onDrained(): void {
    this.#onDrain?.();
  }

  onClose(listener: () => void): void {
    if (this.closed) listener();
    else this.#onClose.push(listener);
  }

  /** Called by the connection, which responds in its place: the request cannot be parsed. */
  refuse(status: number): void {
    if (this.status === 0) this.status = status;
    this.ended = true;
    this.close();
  }

  /** Called by the connection: its last byte has left, or the connection is gone. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#pendingHead = undefined;
    const listeners = this.#onClose;
    this.#onClose = [];
    for (const listener of listeners) listener();
  }

  // --- for upgrades and tunnels, which take the connection

  takeUpgrade(protocol: string, lines: readonly string[]): UpgradedConnection {
    const { stream, head } = this.takeTunnel(101, ["Connection", "Upgrade", "Upgrade", protocol, ...lines]);
    return { type: "socket", socket: stream, head };
  }

  takeTunnel(status: number, lines: readonly string[]): DownstreamTunnel & Readonly<{ stream: Socket }> {
    const head = this.#connection.detachSocket(this);
    const socket = this.#socket;
    let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n`;
    for (let i = 0; i < lines.length; i += 2) text += `${lines[i]}: ${requireWritable(lines[i + 1] ?? "")}\r\n`;
    this.status = status;
    socket.write(`${text}\r\n`, "latin1");
    return { stream: socket, head };
  }

  asNode(): Readonly<{ req: IncomingMessage; res: ServerResponse }> {
    this.#nodeObjects ??= this.#createNodeObjects();
    return this.#nodeObjects;
  }

  #createNodeObjects(): Readonly<{ req: IncomingMessage; res: ServerResponse }> {
    const { method, url, httpVersion, rawHeaders } = this.head;
    const socket = this.#socket;
    const req = new NodeRequest(socket, () => this.resumeBody());
    req.method = method;
    req.url = url;
    req.httpVersion = httpVersion;
    req.httpVersionMajor = 1;
    req.httpVersionMinor = httpVersion === "1.0" ? 0 : 1;
    req.takeHeaders(rawHeaders);
    const res = new ServerResponse(req);
    res.on("error", () => {}); // the caller is gone; `close` says so
    res.shouldKeepAlive = this.keepAlive && this.#connection.mayKeepAlive(this);
    res.assignSocket(socket);
    this.#onDrain = () => emitDrain(res);
    res.once("finish", () => {
      res.detachSocket(socket);
      this.status = res.statusCode;
      this.ended = true;
      if (!res.shouldKeepAlive || res.hasHeader("connection")) this.keepAlive = false;
      this.#connection.sendLast("");
      res.emit("close");
    });
    this.onClose(() => {
      if (this.status === 0 && res.headersSent) this.status = res.statusCode;
      if (!req.complete) req.destroy();
    });
    if (this.hasBody) {
      this.readBody({
        onChunk: (chunk) => req.push(chunk),
        onBodyEnd: () => req.finish(),
        onAbort: () => req.destroy(),
      });
    } else req.finish();
    return { req, res };
  }
}

/** `node:http` does this where it owns the socket: notifies writers that wait for `drain`. */
function emitDrain(res: ServerResponse): void {
  const flag = Object.getOwnPropertySymbols(res).find(({ description }) => description === "kNeedDrain");
  if (flag !== undefined) (res as unknown as Record<symbol, boolean>)[flag] = false;
  res.emit("drain");
}

const unwritable = /[^\t\u0020-\u007e\u0080-\u00ff]/;

/** @throws TypeError for a value that would end its line */
function requireWritable(value: string): string {
  if (unwritable.test(value)) throw new TypeError("a header's value has a character that cannot be sent");
  return value;
}
