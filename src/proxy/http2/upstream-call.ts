/** HTTP/2 upstream call: one request as a stream, whichever connection it gets, and its response. */
import { type ClientHttp2Stream, constants, type OutgoingHttpHeaders } from "node:http2";
import type { SocketDelivery } from "../message/deliveries.ts";
import type { RawLines } from "../message/header-lines.ts";
import {
  type CallFailure,
  type UpstreamCall,
  UpstreamClosedError,
  type UpstreamHandler,
  UpstreamIdleError,
  UpstreamProtocolError,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { abortStream } from "./reset.ts";
import type { Http2UpstreamConnection } from "./upstream-connection.ts";

/** Names that belong to one connection, or are implied (RFC 9113 §8.2.2). */
const omittedNames: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "keep-alive",
  "transfer-encoding",
  "upgrade",
  "te",
]);

/** Nothing is known that would allow a retry. */
export const notRetryable: CallFailure = { staleConnection: false, unprocessed: false };

export class Http2UpstreamCall implements UpstreamCall {
  readonly reads = Number.NaN; // its connection's socket is Node's to read
  readonly request: UpstreamRequest;
  readonly #handler: UpstreamHandler;
  readonly #done: () => void;
  #stream: ClientHttp2Stream | undefined;
  /** The connection of its stream; undefined: it waits for one with room. */
  connection: Http2UpstreamConnection | undefined;
  isEnded = false;

  constructor(request: UpstreamRequest, handler: UpstreamHandler, done: () => void) {
    this.request = request;
    this.#handler = handler;
    this.#done = done;
  }

  maySend(): boolean {
    return this.#handler.maySend(this);
  }

  /** @param failureOf why a stream ended without a byte of a response */
  begin(stream: ClientHttp2Stream, failureOf: (error: Error | undefined) => CallFailure): void {
    this.#stream = stream;
    const handler = this.#handler;
    let trailers: RawLines = [];
    let sawHint = false;
    let sawHead = false;
    let ended = false;
    /** END_STREAM of the response has arrived. A reset after it changes nothing. */
    let complete = false;
    let error: Error | undefined;
    const { idleTimeoutMs } = this.request;
    if (idleTimeoutMs > 0)
      stream.setTimeout(idleTimeoutMs, () => {
        error ??= new UpstreamIdleError("the upstream fell silent");
        abortStream(stream, constants.NGHTTP2_CANCEL);
      });
    stream.on("headers", (_headers: object, _flags: number, raw: RawLines) => {
      sawHint = true;
      const [status, lines] = readHead(raw);
      if (!this.isEnded) handler.onInformational(status, lines);
    });
    stream.on("response", (_headers: object, flags: number, raw: RawLines) => {
      sawHead = true;
      const [status, lines] = readHead(raw);
      const endsStream = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      if (!this.isEnded) handler.onHead(status, { raw: lines, endsStream });
    });
    stream.on("data", (chunk: Buffer) => {
      if (!this.isEnded && !handler.onData(chunk)) stream.pause();
    });
    stream.on("trailers", (_headers: object, _flags: number, raw: RawLines) => {
      trailers = raw;
    });
    stream.on("drain", () => {
      if (!this.isEnded) handler.onWritable();
    });
    stream.on("end", () => {
      ended = true;
      if (stream.closed || !sawHead) return; // reset, or complete on both sides: `close` follows
      // The response is complete. Node would keep the stream open until the request is complete, too.
      complete = true;
      // Not from within a read: Node puts such a reset off, and ends the process (an assertion in
      // `Http2Stream::OnTrailers`) when nghttp2 looks for more of the request's body before it is sent.
      if (!stream.writableFinished) setImmediate(abortStream, stream, constants.NGHTTP2_CANCEL);
    });
    stream.on("error", (reason) => {
      error ??= reason;
    });
    stream.on("close", () => {
      if (this.isEnded) return;
      if (complete || (ended && sawHead && stream.rstCode === constants.NGHTTP2_NO_ERROR)) {
        this.finish();
        handler.onEnd(trailers);
        return;
      }
      const failure = sawHint || sawHead ? notRetryable : failureOf(error);
      this.fail(error ?? new UpstreamClosedError(`the upstream reset the stream (${stream.rstCode})`), failure);
    });
    if (this.request.hasBody) handler.onWritable();
  }

  write(chunk: Buffer): boolean {
    return this.isEnded || this.#stream === undefined ? true : this.#stream.write(chunk);
  }

  end(trailers: readonly string[] = []): void {
    const stream = this.#stream;
    if (this.isEnded || stream === undefined) return;
    stream.once("wantTrailers", () => {
      if (!stream.destroyed) sendTrailers(stream, trailers);
    });
    stream.end();
  }

  resume(): void {
    if (!this.isEnded) this.#stream?.resume();
  }

  abort(): void | Promise<void> {
    const stream = this.#stream;
    if (!this.finish() || stream === undefined) return;
    abortStream(stream, constants.NGHTTP2_CANCEL);
    if (this.request.hasBody) return this.connection?.cutsFinished();
  }

  unsent(): SocketDelivery | undefined {
    return this.request.hasBody ? this.connection?.unsent() : undefined;
  }

  finish(): boolean {
    if (this.isEnded) return false;
    this.isEnded = true;
    this.#done();
    return true;
  }

  fail(error: Error, failure: CallFailure): void {
    if (!this.finish()) return;
    const code = "code" in error ? String(error.code) : "";
    const known = !code.startsWith("ERR_HTTP2") ? error : new UpstreamProtocolError(error.message, { cause: error });
    this.#handler.onError(known, failure);
  }
}

export function headerListOf(
  { method, path, headers: { list: headers }, requestId }: UpstreamRequest,
  secure: boolean,
): OutgoingHttpHeaders {
  const authority = headers[0] === "host" ? (headers[1] ?? "") : "";
  const lines = [":method", method, ":path", path, ":authority", authority, ":scheme", secure ? "https" : "http"];
  let trailers = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    if (name === "content-type" && headers[i + 1]?.startsWith("application/grpc") === true) trailers = true;
    if (!omittedNames.has(name)) lines.push(name, headers[i + 1] ?? "");
  }
  if (requestId !== null) lines.push("x-request-id", requestId);
  if (trailers) lines.push("te", "trailers"); // gRPC servers insist on it
  return lines as unknown as OutgoingHttpHeaders; // a list, so that lines of one name stay lines
}

/** By lowercase name; lines of one name stay lines. */
function groupByName(lines: readonly string[]): OutgoingHttpHeaders {
  const values: Record<string, string[]> = Object.create(null);
  for (let i = 0; i < lines.length; i += 2) {
    const name = (lines[i] ?? "").toLowerCase();
    values[name] = [...(values[name] ?? []), lines[i + 1] ?? ""];
  }
  return values;
}

/** Trailers that cannot be written are left out as a whole: a caller's line must not end more than its own request. */
function sendTrailers(stream: ClientHttp2Stream, lines: readonly string[]): void {
  try {
    stream.sendTrailers(groupByName(lines));
  } catch {
    stream.sendTrailers({});
  }
}

export function isGrpc(headers: readonly string[]): boolean {
  for (let i = 0; i < headers.length; i += 2)
    if (headers[i]?.toLowerCase() === "content-type") return headers[i + 1]?.startsWith("application/grpc") === true;
  return false;
}

function readHead(raw: RawLines): [status: number, lines: RawLines] {
  const lines: RawLines = [];
  let status = 0;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i] === ":status") status = Number(raw[i + 1]);
    else lines.push(raw[i] ?? "", raw[i + 1] ?? "");
  }
  return [status, lines];
}
