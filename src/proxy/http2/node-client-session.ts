/**
 * HTTP/2 client session on `node:http2`, and its streams. Used where `http2_connections` is `node` (docs/adr/0086).
 *
 * - It keeps the rules of client-session.ts as far as Node allows. What waits for a window of the upstream leaves
 *   without another check of its permit, unless the call is aborted first.
 * - A response that its reader does not have yet ends with its connection.
 * - An upstream that has fallen silent gets no PING: Node does not say when it has read something.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import type { Socket } from "node:net";
import { queuedHere } from "../enforce/send-queue-socket.ts";
import type { RawLines } from "../message/header-lines.ts";
import { UpstreamIdleError, UpstreamProtocolError } from "../message/upstream-call.ts";
import { abortStream } from "./abort-stream.ts";
import type { SessionHooks, SessionWindows, UpstreamSession } from "./client-session.ts";
import type { StreamFailure, StreamHandler, StreamRequest, UpstreamStream } from "./client-stream.ts";
import { errorCode } from "./frame-types.ts";
import type { FieldList } from "./hpack/encoder.ts";
import { responseBytesMax } from "./response-fields.ts";

const linesMax = 2_000;
/** Streams that are cancelled while the upstream reads nothing, before the connection ends. */
const unreadCancelsMax = 1_000;
/** A caller may write two lines of a name that should occur once; Node would throw. */
const laxSingleValues: object = { strictSingleValueFields: false };

export class NodeClientSession implements UpstreamSession {
  readonly reads = Number.NaN; // the socket is Node's to read
  readonly #socket: Socket;
  readonly #windows: SessionWindows;
  readonly #hooks: SessionHooks;
  #session: ClientHttp2Session | undefined;
  #goAway: Readonly<{ code: number; lastStreamId: number }> | undefined;
  #unreadCancels = 0;
  /** Why the connection ended. */
  #error: Error | undefined;

  constructor(socket: Socket, windows: SessionWindows, hooks: SessionHooks) {
    this.#socket = socket;
    this.#windows = windows;
    this.#hooks = hooks;
  }

  begin(): void {
    const { windowBytes, connectionWindowBytes } = this.#windows;
    const session = connect("http://upstream", {
      createConnection: () => this.#socket,
      settings: { enablePush: false, initialWindowSize: windowBytes, maxHeaderListSize: responseBytesMax },
      maxHeaderListPairs: linesMax,
      ...laxSingleValues,
    });
    this.#session = session;
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(connectionWindowBytes);
    });
    session.on("remoteSettings", ({ maxConcurrentStreams }) => this.#hooks.onSettings(maxConcurrentStreams));
    session.on("goaway", (code, lastStreamId) => {
      this.#goAway = { code, lastStreamId };
      this.#hooks.onGoAway();
    });
    session.on("error", (error: Error) => {
      this.#error ??= isOfNode(error) ? protocolError(error) : error;
      this.#hooks.onFault(this.#error);
    });
  }

  createStream(request: StreamRequest, handler: StreamHandler): UpstreamStream {
    return new NodeClientStream(this, request, handler);
  }

  /** @throws if Node refuses to send the fields, or the session is over */
  request(fields: FieldList, options: Readonly<{ endStream: boolean; waitForTrailers: boolean }>): ClientHttp2Stream {
    if (this.#session === undefined) throw new Error("the connection has not begun");
    return this.#session.request(linesOf(fields) as never, options); // a list, so that lines of one name stay lines
  }

  onStreamOver(): void {
    this.#hooks.onStreamOver();
  }

  /** Node and nghttp2 keep what they know of such a stream until the upstream reads. */
  onCancelled(): void {
    if (queuedHere(this.#socket) === 0) this.#unreadCancels = 0;
    else if (++this.#unreadCancels > unreadCancelsMax) this.#socket.destroy();
  }

  /** @param error of the stream, if any */
  failureOf({ id = Infinity, rstCode }: ClientHttp2Stream, error: Error | undefined): StreamFailure {
    const unprocessed = this.#isUnprocessed(id, rstCode);
    if (error instanceof UpstreamIdleError) return { code: rstCode, error, unprocessed: false };
    const goAway = this.#goAway?.code;
    if (unprocessed && goAway === errorCode.none) return { code: goAway, error: undefined, unprocessed };
    if (this.#error !== undefined) return { code: undefined, error: this.#error, unprocessed };
    const isReset = error === undefined || ("code" in error && error.code === "ERR_HTTP2_STREAM_ERROR");
    if (isReset) return { code: rstCode, error: undefined, unprocessed };
    return { code: rstCode, error: isOfNode(error) ? protocolError(error) : error, unprocessed };
  }

  /** The error of a connection becomes the code of all its streams, so the last stream of GOAWAY decides. */
  #isUnprocessed(id: number, rstCode: number): boolean {
    if (this.#goAway === undefined) return rstCode === errorCode.refusedStream;
    const { code, lastStreamId } = this.#goAway;
    return id > lastStreamId || (code === errorCode.none && rstCode === errorCode.refusedStream);
  }

  ping(payload: string): void {
    this.#session?.ping(Buffer.from(payload, "latin1"), (error) => {
      if (error === null) this.#hooks.onPong();
    });
  }

  get isClosing(): boolean {
    const session = this.#session;
    return session !== undefined && (session.closed || session.destroyed || this.#error !== undefined);
  }

  close(): void {
    this.#session?.close();
  }

  /** Node ends the streams. */
  onSocketClosed(error: Error): void {
    this.#error ??= error;
    this.#session?.destroy();
  }
}

class NodeClientStream implements UpstreamStream {
  readonly #session: NodeClientSession;
  readonly #request: StreamRequest;
  readonly #handler: StreamHandler;
  #stream: ClientHttp2Stream | undefined;
  #isOver = false;
  #trailers: RawLines = [];
  #sawHead = false;
  /** END_STREAM has arrived. */
  #hasArrived = false;
  /** The reader has the whole response. */
  #isComplete = false;
  #error: Error | undefined;

  constructor(session: NodeClientSession, request: StreamRequest, handler: StreamHandler) {
    this.#session = session;
    this.#request = request;
    this.#handler = handler;
  }

  get id(): number {
    return this.#stream?.id ?? 0;
  }

  begin(): void {
    const { fields, hasBody, idleMsMax } = this.#request;
    if (this.#isOver || !this.#handler.mayWrite()) {
      this.#end();
      return;
    }
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.request(fields, { endStream: !hasBody, waitForTrailers: hasBody });
    } catch (error) {
      this.#fail({ code: undefined, error: error as Error, unprocessed: true });
      return;
    }
    this.#stream = stream;
    if (idleMsMax < Infinity) {
      stream.setTimeout(idleMsMax); // a callback here would be called once only
      stream.on("timeout", () => this.#onTimeout(stream, idleMsMax));
    }
    this.#listen(stream);
    if (hasBody) this.#handler.onWritable();
  }

  #onTimeout(stream: ClientHttp2Stream, idleMsMax: number): void {
    if (stream.isPaused()) {
      stream.setTimeout(idleMsMax); // its reader's own bound applies
      return;
    }
    this.#error ??= new UpstreamIdleError("the upstream fell silent");
    abortStream(stream, constants.NGHTTP2_CANCEL);
  }

  #listen(stream: ClientHttp2Stream): void {
    const handler = this.#handler;
    stream.on("headers", (_headers: object, _flags: number, raw: RawLines) => {
      const [status, lines] = readHead(raw);
      if (!this.#isOver) handler.onInformational(status, lines);
    });
    stream.on("response", (_headers: object, flags: number, raw: RawLines) => {
      this.#sawHead = true;
      const [status, lines] = readHead(raw);
      if (!this.#isOver) handler.onHead(status, lines, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    });
    stream.on("data", (chunk: Buffer) => {
      if (!this.#isOver && !handler.onData(chunk)) stream.pause();
    });
    stream.on("trailers", (_headers: object, _flags: number, raw: RawLines) => {
      this.#trailers = raw;
    });
    stream.on("drain", () => {
      if (!this.#isOver) handler.onWritable();
    });
    // Node reports a reset with NO_ERROR as the end of the response. By then the stream is closed.
    const push = stream.push.bind(stream);
    stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      if (chunk === null && !stream.closed) this.#hasArrived = true;
      return push(chunk, encoding);
    };
    stream.on("end", () => this.#onEnd(stream));
    stream.on("error", (error: Error) => {
      this.#error ??= error;
    });
    stream.on("close", () => this.#onClose(stream));
  }

  #onEnd(stream: ClientHttp2Stream): void {
    if (!this.#hasArrived || !this.#sawHead || this.#error !== undefined) return;
    this.#isComplete = true;
    // Not from within a read: Node puts such a reset off, and ends the process (an assertion in
    // `Http2Stream::OnTrailers`) when nghttp2 looks for more of the request's body before it is sent.
    if (!stream.writableFinished) setImmediate(abortStream, stream, constants.NGHTTP2_CANCEL);
  }

  #onClose(stream: ClientHttp2Stream): void {
    if (this.#isOver) {
      this.#session.onStreamOver();
      return;
    }
    if (!this.#isComplete) this.#fail(this.#session.failureOf(stream, this.#error));
    else if (this.#end()) this.#handler.onEnd(this.#trailers);
  }

  write(chunk: Buffer): boolean {
    return this.#isOver || this.#stream === undefined || this.#stream.write(chunk);
  }

  end(trailers: FieldList | undefined): void {
    const stream = this.#stream;
    if (this.#isOver || stream === undefined) return;
    stream.once("wantTrailers", () => {
      if (stream.destroyed) return;
      try {
        stream.sendTrailers(trailers === undefined ? {} : groupByName(trailers));
      } catch {
        abortStream(stream, constants.NGHTTP2_INTERNAL_ERROR); // what Node refuses to send must not end the process
      }
    });
    stream.end();
  }

  resume(): void {
    if (!this.#isOver) this.#stream?.resume();
  }

  cancel(): void {
    const stream = this.#stream;
    if (stream === undefined) this.#end();
    else {
      this.#isOver = true; // `close` of the stream reports it
      abortStream(stream, constants.NGHTTP2_CANCEL);
      this.#session.onCancelled();
    }
  }

  #fail(failure: StreamFailure): void {
    if (this.#end()) this.#handler.onFailed(failure);
  }

  #end(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#session.onStreamOver();
    return true;
  }
}

function isOfNode(error: Error): boolean {
  return "code" in error && String(error.code).startsWith("ERR_HTTP2");
}

function protocolError(cause: Error): Error {
  return new UpstreamProtocolError(`the upstream broke the rules of HTTP/2: ${cause.message}`, { cause });
}

function linesOf({ names, values }: FieldList): readonly string[] {
  return names.flatMap(({ lower }, i) => [lower, values[i] ?? ""]);
}

/** Lines of one name stay lines. */
function groupByName({ names, values }: FieldList): Record<string, string[]> {
  const grouped: Record<string, string[]> = Object.create(null);
  for (const [i, { lower }] of names.entries()) grouped[lower] = [...(grouped[lower] ?? []), values[i] ?? ""];
  return grouped;
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
