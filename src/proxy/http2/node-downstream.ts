/**
 * HTTP/2 downstream on `node:http2`: one stream of an HTTP/2 connection, as a request and the response to it.
 *
 * nghttp2 has read the frames and refused what RFC 9113 forbids. The head has the same form as that of an HTTP/1
 * request, so the same code reads, decides and forwards both. Cookies that were sent as several lines are joined
 * again.
 */

import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { constants, Http2ServerRequest, Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import { isPadded, type RequestHead } from "../message/canonical-request.ts";
import type { CutReason } from "../message/close-codes.ts";
import type { BodyReader, BoundExchange, Downstream, DownstreamTunnel } from "../message/downstream-request.ts";
import type { HeaderLines } from "../message/header-lines.ts";
import type { PresentedCertificate } from "../message/peer.ts";
import { abortStream } from "./abort-stream.ts";
import { grpcStatusOfCut } from "./grpc-status.ts";
import type { NodeHttp2Connection } from "./node-connection.ts";

export class NodeHttp2Downstream implements Downstream {
  readonly head: RequestHead;
  readonly peer: string;
  readonly certificate: PresentedCertificate | null;
  readonly upgrade: "connect" | null;
  readonly hasBody: boolean;
  bodyComplete: boolean;
  status = 0;
  ended = false;
  closed = false;
  readonly #connection: NodeHttp2Connection;
  readonly #stream: ServerHttp2Stream;
  readonly #raw: readonly string[];
  #reader: BodyReader | "discarded" | undefined;
  /** The reader received part of the body since the last check. */
  #hasMoved = false;
  #requestTrailers: readonly string[] = [];
  #trailers: readonly string[] | undefined;
  #acceptsTrailers = false;
  #hasNoBody = false;
  #isGrpc = false;
  #onDrain: (() => void) | undefined;
  #onClose: (() => void)[] = [];
  #nodeObjects: Readonly<{ req: IncomingMessage; res: ServerResponse }> | undefined;

  constructor(
    connection: NodeHttp2Connection,
    stream: ServerHttp2Stream,
    raw: readonly string[],
    endOfStream: boolean,
  ) {
    this.#connection = connection;
    this.#stream = stream;
    this.#raw = raw;
    this.peer = connection.caller.address;
    this.certificate = connection.caller.certificate;
    this.head = headOf(raw);
    this.upgrade = this.head.method === "CONNECT" ? "connect" : null;
    this.hasBody = !endOfStream;
    this.bodyComplete = endOfStream;
    stream.on("error", ignore); // `close` follows
    stream.on("trailers", (_headers: object, _flags: number, lines: string[]) => {
      this.#requestTrailers = lines;
    });
    stream.on("aborted", () => this.#onBodyAborted());
    stream.on("close", () => {
      this.#onBodyAborted();
      connection.whenSent(() => this.#close());
    });
    stream.on("drain", () => this.#onDrain?.());
  }

  /** Nothing more can be written; `close` has been emitted or is about to be. */
  get #isUnwritable(): boolean {
    return this.closed || this.#stream.destroyed || this.#stream.closed;
  }

  get needsDrain(): boolean {
    return this.#stream.writableNeedDrain;
  }

  // --- the request's body

  readBody(reader: BodyReader): void {
    if (!this.hasBody || this.#reader !== undefined) return;
    this.#reader = reader;
    const stream = this.#stream;
    stream.on("data", (chunk: Buffer) => {
      if (this.#reader !== reader) return;
      this.#hasMoved = true;
      if (!reader.onChunk(chunk)) stream.pause();
    });
    stream.once("end", () => {
      this.bodyComplete = true;
      if (this.#reader === reader) reader.onBodyEnd(this.#requestTrailers);
    });
  }

  resumeBody(): void {
    this.#stream.resume();
  }

  /**
   * @returns whether a reader with its own time-outs received part of the body since the last call, or there is no
   *   reader yet
   */
  hasBodyProgress(): boolean {
    if (this.#reader === undefined) return this.status === 0 && this.#nodeObjects === undefined; // the caller waits
    const moved = this.#hasMoved && this.#reader !== "discarded" && this.#reader.onTimeout !== undefined;
    this.#hasMoved = false;
    return moved;
  }

  /** The body takes too long. @returns false when nothing here can respond to that */
  timeOutBody(): boolean {
    const reader = this.#reader;
    if (typeof reader !== "object" || reader.onTimeout === undefined || this.status !== 0) return false;
    reader.onTimeout(this.#stream.isPaused() ? "upstream" : "caller");
    return true;
  }

  /** Tells the caller to stop sending. The response is not affected. */
  discardBody(): void {
    this.#reader = "discarded";
    if (this.ended) this.#stream.resume();
  }

  #onBodyAborted(): void {
    const reader = this.#reader;
    this.#reader = "discarded";
    if (reader !== undefined && reader !== "discarded" && !this.bodyComplete) reader.onAbort();
  }

  // --- the response

  writeContinue(): void {
    if (this.status === 0 && !this.#isUnwritable) this.#stream.additionalHeaders({ ":status": 100 });
  }

  writeEarlyHints(links: readonly string[]): void {
    if (this.status === 0 && !this.#isUnwritable) this.#stream.additionalHeaders({ ":status": 103, link: [...links] });
  }

  /** Nothing is held back here: Node owns the frames once `write` returns. */
  bindExchange(exchange: BoundExchange): void {
    exchange.setOutlet(this.#connection.outlet);
  }

  writeHead(given: number, { list: lines, endsStream }: HeaderLines, requestId: string | null): void {
    if (this.status !== 0 || this.#isUnwritable) return;
    // Node writes no status above 599, and a status beyond 5xx counts as one (RFC 9110 §15).
    const status = given > 599 ? 500 : given;
    const withoutContent = status === 204 || status === 205 || status === 304;
    const raw: string[] = [":status", String(status)];
    let hasDate = false;
    let isEmpty = endsStream;
    for (let i = 0; i < lines.length; i += 2) {
      const name = (lines[i] ?? "").toLowerCase();
      if (name === "connection" || name === "transfer-encoding" || name === "keep-alive") continue;
      // A length without a body makes the stream malformed (RFC 9113 §8.1.1).
      if (name === "content-length" && withoutContent && status !== 304) continue;
      if (name === "date") hasDate = true;
      if (name === "content-length" && lines[i + 1] === "0") isEmpty = true;
      if (name === "content-type") this.#isGrpc = (lines[i + 1] ?? "").startsWith("application/grpc");
      raw.push(name, lines[i + 1] ?? "");
    }
    if (requestId !== null) raw.push("x-request-id", requestId);
    if (!hasDate) raw.push("date", this.#connection.httpDate());
    // A response with an empty body ends with its head. gRPC's Trailers-Only responses require that.
    this.#hasNoBody = this.head.method === "HEAD" || withoutContent || isEmpty;
    this.#acceptsTrailers = !this.#hasNoBody && (this.#isGrpc || this.#wantsTrailers());
    if (this.#acceptsTrailers) this.#stream.once("wantTrailers", () => this.#sendTrailers());
    // As a list, so that lines of one name stay lines; it has a date, so Node adds none.
    const lineList = raw as unknown as OutgoingHttpHeaders;
    this.#stream.respond(lineList, { endStream: this.#hasNoBody, waitForTrailers: this.#acceptsTrailers });
    this.status = status;
  }

  #wantsTrailers(): boolean {
    for (let i = 0; i < this.#raw.length; i += 2) if (this.#raw[i] === "te") return this.#raw[i + 1] === "trailers";
    return false;
  }

  write(chunk: Buffer | string): boolean {
    if (this.#isUnwritable || this.ended) return false;
    return this.#hasNoBody || this.#stream.write(typeof chunk === "string" ? Buffer.from(chunk, "latin1") : chunk);
  }

  end(chunk?: Buffer | string, trailers?: readonly string[]): void {
    if (this.#isUnwritable || this.ended) return;
    this.ended = true;
    this.#connection.trackEnd(this);
    this.#trailers = trailers;
    if (!this.#hasNoBody) this.#stream.end(chunk);
    if (this.#acceptsTrailers) return;
    // Without a body it may have left long before `end`.
    if (this.#stream.writableFinished) this.#stopRequestBody();
    else this.#stream.once("finish", () => this.#stopRequestBody());
  }

  /** After the whole response: tells a caller that is still sending to stop (RFC 9113 §8.1). */
  #stopRequestBody(): void {
    if (!this.bodyComplete) setImmediate(() => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  #sendTrailers(): void {
    if (this.#stream.destroyed) return;
    const trailers: Record<string, string | string[]> = Object.create(null);
    const all = this.#trailers ?? [];
    for (let i = 0; i < all.length; i += 2) {
      const name = (all[i] ?? "").toLowerCase();
      const before = trailers[name];
      const value = all[i + 1] ?? "";
      trailers[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value];
    }
    try {
      this.#stream.sendTrailers(trailers); // also without any: it ends the stream
    } catch {
      this.#stream.sendTrailers({}); // trailers that cannot be written are left out as a whole
    }
    this.#stopRequestBody();
  }

  cut(reason: CutReason): void | Promise<void> {
    if (this.closed) return;
    const isDelivered = this.#stream.writableLength === 0 && this.#connection.hasDeliveredAll;
    if (this.#isGrpc && this.#acceptsTrailers && !this.ended && this.#stream.writableLength === 0) {
      this.end(undefined, ["grpc-status", String(grpcStatusOfCut[reason]), "grpc-message", reason]);
    } else this.#reset(constants.NGHTTP2_CANCEL);
    if (!isDelivered) return this.#connection.cutsFinished();
  }

  destroy(): void {
    if (!this.closed) this.#reset(constants.NGHTTP2_INTERNAL_ERROR);
  }

  #reset(code: number): void {
    abortStream(this.#stream, code);
    this.#stream.destroy();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  onClose(listener: () => void): void {
    if (this.closed) listener();
    else this.#onClose.push(listener);
  }

  #close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.#nodeObjects !== undefined && this.status === 0) this.status = this.#nodeObjects.res.statusCode;
    if (this.#nodeObjects?.res.writableEnded === true) this.ended = true;
    const listeners = this.#onClose;
    this.#onClose = [];
    for (const listener of listeners) listener();
  }

  takeUpgrade(): never {
    throw new TypeError("this HTTP/2 connection has announced no extended CONNECT");
  }

  takeTunnel(status: number, lines: readonly string[]): DownstreamTunnel {
    this.#reader = "discarded"; // the stream belongs to the tunnel
    this.bodyComplete = true;
    this.status = status;
    const raw = [":status", String(status), ...lines.map((line, i) => (i % 2 === 0 ? line.toLowerCase() : line))];
    this.#stream.respond([...raw, "date", this.#connection.httpDate()] as unknown as OutgoingHttpHeaders);
    return { stream: this.#stream, head: Buffer.alloc(0) };
  }

  asNode(): Readonly<{ req: IncomingMessage; res: ServerResponse }> {
    this.#nodeObjects ??= this.#createNodeObjects();
    return this.#nodeObjects;
  }

  /** Node's own compatibility objects, which behave as those of `node:http` do for what handlers use. */
  #createNodeObjects(): Readonly<{ req: IncomingMessage; res: ServerResponse }> {
    const headers: Record<string, string | string[]> = {};
    for (let i = 0; i < this.#raw.length; i += 2) {
      const name = this.#raw[i] ?? "";
      const value = this.#raw[i + 1] ?? "";
      const before = headers[name];
      if (before === undefined) headers[name] = value;
      else if (name === "set-cookie") headers[name] = [...(Array.isArray(before) ? before : [before]), value];
      else headers[name] = `${String(before)}${name === "cookie" ? "; " : ", "}${value}`;
    }
    headers["host"] ??= String(headers[":authority"] ?? "");
    this.#reader = "discarded"; // the compatibility object reads it
    const req = new Http2ServerRequest(this.#stream, headers, {}, [...this.#raw]);
    const res = new Http2ServerResponse(this.#stream as never);
    res.on("error", ignore);
    return { req: req as unknown as IncomingMessage, res: res as unknown as ServerResponse };
  }
}

function ignore(): void {}

/** The head in the form of HTTP/1: the authority is its Host. A request with both must have the same value in both. */
function headOf(raw: readonly string[]): RequestHead {
  let [method, url, authority] = ["", "", undefined as string | undefined];
  let cookies: string | undefined;
  const rawHeaders: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    const value = raw[i + 1] ?? "";
    if (name === ":method") method = value;
    else if (name === ":path") url = value;
    else if (name === ":authority") authority = value;
    else if (name === "cookie" && !isPadded(value)) cookies = cookies === undefined ? value : `${cookies}; ${value}`;
    else if (!name.startsWith(":") && !(name === "host" && value === authority)) rawHeaders.push(name, value);
  }
  if (method === "CONNECT" && url === "") url = authority ?? ""; // RFC 9113 §8.5
  if (cookies !== undefined) rawHeaders.push("cookie", cookies);
  if (authority !== undefined) rawHeaders.unshift("host", authority);
  return { method, url, httpVersion: "2", rawHeaders };
}
