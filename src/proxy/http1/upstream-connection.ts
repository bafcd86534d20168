/**
 * HTTP/1.1 upstream connection: carries one call at a time.
 *
 * - It returns to its pool only when request and response were complete and nothing followed the response. Anything
 *   else ends it, so that no response is ever taken for that of another request.
 * - A call starts at the end of the turn in which it was requested.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { closeSocket, guardSocket, queuedBelowTls, unackedBytes } from "../enforce/send-queue-socket.ts";
import type { HeaderText, RawLines } from "../message/header-lines.ts";
import {
  handshakeError,
  isConnectionError,
  UpstreamClosedError,
  UpstreamConnectTimeoutError,
  UpstreamIdleError,
  UpstreamProtocolError,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { type Flush, type FlushTask, scheduleFlush } from "./flush-scheduler.ts";
import { HandleWriter } from "./handle-writer.ts";
import {
  type AfterHead,
  createParser,
  freeParser,
  type Http1Parser,
  type ParseError,
  ParserSocketReader,
  setOnBody,
  setOnMessageBegin,
} from "./parser.ts";
import { readBuffer } from "./read-buffer.ts";
import { parseResponseHead, type ResponseHead } from "./response-head.ts";
import type { Http1UpstreamCall } from "./upstream-call.ts";
import type { Http1Pool } from "./upstream-pool.ts";

const responseHeadBytesMax = 65_536;
/** The same limit as for HTTP/2. */
const responseLinesMax = 2_000;
/** Never written to. */
const noLines: RawLines = [];

export class Http1UpstreamConnection implements FlushTask {
  readonly target = "upstream";
  readonly #pool: Http1Pool;
  readonly #socket: Socket;
  readonly #isSecure: boolean;
  readonly #parser: Http1Parser;
  /** Length of the last head that was written alone. */
  #headBytes = 0;
  /** Undefined: bytes arrive as events of the socket. */
  #socketReader: ParserSocketReader | undefined;
  #writer: HandleWriter | undefined;
  #call: Http1UpstreamCall | undefined;
  #isConnected = false;
  #responses = 0;
  /** Bytes have moved since the last check. */
  #hasMoved = true;
  /** Time of the last check at which they had. */
  #movedAt = 0;
  /** While idle: when it ends. Before: how long it may be idle, ms. */
  #idleUntil = 0;
  #keepAlive = false;
  #isChunked = false;
  /** Assigned to a call that has not started. */
  #isReserved = false;
  /** The final head has arrived. */
  #sawFinalHead = false;
  #isComplete = false;
  /** Bytes followed a complete response. */
  #sawExtraBytes = false;
  #trailers: RawLines = noLines;
  /** Bytes of the body that are left; undefined: the parser reports its end. */
  #bytesLeft: number | undefined;
  /** How much of the read buffer is being parsed, before its first head; 0: none. */
  #unparsedBytes = 0;
  /** The body, if the read buffer holds exactly one whole response. */
  #wholeBody: string | undefined;
  #isPaused = false;
  #isClosed = false;
  #error: Error | undefined;
  /** The upstream accepts no more of the body; what it sent before is still read. */
  #writeFailed = false;

  /** @param ready event of the socket before the first call; `begin`: the owner calls it, and the socket has TLS */
  constructor(pool: Http1Pool, socket: Socket, ready: "connect" | "secureConnect" | "begin", call: Http1UpstreamCall) {
    this.#pool = pool;
    this.#socket = socket;
    this.#isSecure = ready !== "connect";
    this.#call = call;
    call.connection = this;
    this.#parser = createParser(
      "response",
      { bytesMax: responseHeadBytesMax, linesMax: responseLinesMax },
      {
        onHead: (_major, _minor, lines, _method, _url, status, _text, _upgrade, keepAlive) =>
          this.#onHead(status ?? 0, lines ?? [], keepAlive),
        onBody: this.#onBody,
        onComplete: () => this.#onComplete(),
        onTrailers: (lines) => {
          this.#trailers = this.#trailers.concat(lines);
        },
        onTooManyLines: (error) => this.#onRead(error),
      },
    );
    if (ready !== "begin") socket.once(ready, () => this.begin());
    socket.on("data", (bytes: Buffer) => this.#onBytes(bytes));
    socket.on("drain", () => {
      this.#hasMoved = true;
      const { isEnded = true, requestSent = true, handler } = this.#call ?? {};
      if (!isEnded && !requestSent) handler?.onWritable();
    });
    socket.on("error", (error) => {
      this.#error = error;
    });
    interceptWriteErrors(socket, (error) => {
      if (this.#call?.isEnded !== false || !this.#call.request.hasBody || this.#isComplete) return false;
      if (this.#writeFailed) return true; // another write of the same turn
      this.#error = error;
      this.#hasMoved = true;
      this.#writeFailed = true;
      return true;
    });
    socket.on("end", () => this.#onEnd());
    socket.on("close", () => this.#onClose());
  }

  /** Starts its first call; the socket is connected. */
  begin(): void {
    const socket = this.#socket;
    const first = this.#call;
    if (socket instanceof TLSSocket && socket.alpnProtocol === "h2") {
      this.#call = undefined;
      socket.destroy();
      this.#pool.onHttp2Chosen(first);
      return;
    }
    this.#isConnected = true;
    guardSocket(socket);
    if (this.#isSecure)
      this.#socketReader = ParserSocketReader.begin(this.#parser, socket, (read) => this.#onRead(read));
    this.#writer = new HandleWriter(socket, () => {
      this.#hasMoved = true;
    });
    if (first !== undefined && !first.isEnded) this.#startCall(first);
    else this.#release();
  }

  get isUsable(): boolean {
    return !this.#isClosed && this.#socket.writable && this.#pool.now < this.#idleUntil;
  }

  /** Starts a call at the end of this turn. */
  reserve(call: Http1UpstreamCall): void {
    this.#call = call;
    call.connection = this;
    this.#hasMoved = true;
    this.#isReserved = true;
    scheduleFlush(this);
  }

  runFlush(flush: Flush): void {
    const call = this.#call;
    this.#pool.now = flush.now;
    const { isUsable } = this;
    this.#isReserved = false;
    if (isUsable && call !== undefined && !call.isEnded) {
      this.#startCall(call);
      return;
    }
    this.#call = undefined;
    if (isUsable) this.#pool.onConnectionIdle(this);
    else this.#socket.destroy(); // the upstream may be about to close it
    if (call !== undefined && !call.isEnded) this.#pool.reassign(call);
  }

  /**
   * No byte of a call that has started may reach another, so its connection is closed, with what the kernel holds of
   * its body.
   */
  abortCall(call: Http1UpstreamCall): void {
    if (this.#call === call && this.#isReserved) return; // released at the end of the turn
    closeSocket(this.#socket);
  }

  /** Writes the head of a call. */
  #startCall(call: Http1UpstreamCall): void {
    this.#call = call;
    call.connection = this;
    this.#hasMoved = true;
    this.#sawFinalHead = false;
    this.#isComplete = false;
    setOnMessageBegin(this.#parser, null);
    if (!call.handler.maySend(call)) {
      call.finish();
      this.#call = undefined;
      this.#release();
      return;
    }
    const lines = this.#headerTextOf(call);
    if (lines === undefined) return;
    const { request } = call;
    if (!request.hasBody) {
      this.#isChunked = false;
      const text = headText(request, lines, "");
      this.#headBytes = text.length;
      this.#writer?.write(text);
      return;
    }
    this.#isChunked = lines.length === undefined;
    const framing = this.#isChunked ? "transfer-encoding: chunked\r\n" : "";
    this.#socket.cork();
    this.#socket.write(headText(request, lines, framing), "latin1");
    call.isStarted = true;
    call.handler.onWritable();
    this.#socket.uncork();
  }

  /** @returns undefined: a value cannot be sent, and the call has failed */
  #headerTextOf(call: Http1UpstreamCall): HeaderText | undefined {
    try {
      return call.request.headers.text(this.#pool.headerValues);
    } catch (error) {
      this.#release();
      call.fail(error as Error, false);
      return undefined;
    }
  }

  write(chunk: Buffer): boolean {
    if (this.#writeFailed) return false;
    this.#hasMoved = true;
    if (!this.#isChunked) return this.#socket.write(chunk);
    this.#socket.cork();
    this.#socket.write(`${chunk.length.toString(16)}\r\n`, "latin1");
    this.#socket.write(chunk);
    const more = this.#socket.write("\r\n", "latin1");
    this.#socket.uncork();
    return more;
  }

  endBody(call: Http1UpstreamCall, trailers: readonly string[]): void {
    call.requestSent = !this.#writeFailed;
    if (!this.#isChunked || this.#writeFailed) return;
    let text = "0\r\n";
    for (let i = 0; i < trailers.length; i += 2) {
      const value = trailers[i + 1] ?? "";
      if (this.#pool.headerValues.isWritable(value)) text += `${trailers[i]}: ${value}\r\n`;
    }
    this.#socket.write(`${text}\r\n`, "latin1");
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#hasMoved = true;
    if (this.#socketReader === undefined) this.#socket.resume();
    else this.#socketReader.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  check(now: number): void {
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#movedAt = now;
    }
    if (!this.#isConnected) {
      if (now - this.#movedAt > this.#pool.connectTimeoutMs)
        this.#fail(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
      return;
    }
    const call = this.#call;
    if (call === undefined) {
      if (now >= this.#idleUntil) this.#socket.destroy();
    } else if (this.#writeFailed && !this.#isPaused && now > this.#movedAt) this.#socket.destroy();
    else if (!this.#isPaused && now - this.#movedAt > call.idleMsMax)
      this.#fail(new UpstreamIdleError("the upstream fell silent"));
  }

  // --- reading

  #onBytes(bytes: Buffer): void {
    if (this.#call === undefined || this.#isReserved)
      this.#socket.destroy(); // no call is in progress
    else this.#onRead(this.#parser.execute(bytes));
  }

  /** A read of a plain socket. @param length bytes in the read buffer @returns true: continue reading */
  onReadBuffer(length: number): boolean {
    const call = this.#call;
    if (call === undefined || this.#isReserved) {
      this.#socket.destroy(); // no call is in progress
      return true;
    }
    this.#unparsedBytes = length;
    const read = readBuffer.parse(this.#parser, length);
    this.#unparsedBytes = 0;
    const body = this.#wholeBody;
    if (body !== undefined) {
      this.#wholeBody = undefined;
      setOnBody(this.#parser, this.#onBody);
      this.#deliver(body);
      this.#bytesLeft = 0;
      this.#onComplete();
    }
    this.#onRead(read);
    return true;
  }

  /** The parser has processed a read. */
  #onRead(read: number | ParseError): void {
    this.#hasMoved = true;
    const call = this.#call;
    if (call === undefined || this.#isReserved) {
      this.#socket.destroy();
      return;
    }
    call.sawResponseByte = true;
    if (typeof read !== "number" && !this.#isComplete) {
      this.#fail(new UpstreamProtocolError(`cannot parse the upstream's response: ${read.code}`, { cause: read }));
    } else if (this.#isComplete) {
      if (typeof read !== "number") this.#sawExtraBytes = true;
      this.#finishCall();
    } else call.reads++;
  }

  #onHead(status: number, raw: RawLines, keepAlive: boolean): AfterHead {
    const call = this.#call;
    if (call === undefined || this.#isComplete || this.#isReserved) {
      this.#sawExtraBytes = true;
      return 1;
    }
    call.sawResponseByte = true;
    const length = this.#unparsedBytes;
    this.#unparsedBytes = 0;
    if (status < 200) {
      if (status === 101 || status < 100)
        this.#fail(new UpstreamProtocolError(`the upstream sent an unexpected ${status}`));
      else if (!call.isEnded) call.handler.onInformational(status, raw);
      return 1;
    }
    const { method } = call.request;
    const head = parseResponseHead(status, { raw, endsStream: false }, keepAlive, method);
    this.#onFinalHead(call, head);
    if (head.bodyBytes === undefined) return method === "HEAD" ? 1 : 0;
    this.#wholeBody = readBuffer.wholeBody(length, head.bodyBytes);
    if (this.#wholeBody !== undefined) setOnBody(this.#parser, null);
    return "end-known";
  }

  /** The final head has arrived. */
  #onFinalHead(call: Http1UpstreamCall, { status, lines, keepAlive, idleMs, bodyBytes }: ResponseHead): void {
    this.#sawFinalHead = true;
    this.#keepAlive = keepAlive;
    this.#trailers = noLines;
    this.#idleUntil = idleMs ?? this.#pool.idleMs;
    this.#bytesLeft = bodyBytes;
    if (!call.isEnded) call.handler.onHead(status, lines);
  }

  readonly #onBody = (bytes: Buffer): void => {
    this.#deliver(bytes);
    if (this.#bytesLeft === undefined) return;
    this.#bytesLeft -= bytes.length;
    if (this.#bytesLeft === 0) this.#onComplete();
  };

  #deliver(bytes: Buffer | string): void {
    const call = this.#call;
    if (call === undefined || call.isEnded || this.#isComplete || this.#isReserved) return;
    if (call.handler.onData(bytes) || call.isEnded) return;
    this.#isPaused = true;
    if (this.#socketReader === undefined) this.#socket.pause();
    else this.#socketReader.pause();
  }

  /** Bytes followed the response: they would be taken for the beginning of the next. */
  readonly #onExtraBytes = (): void => {
    this.#sawExtraBytes = true;
  };

  #onComplete(): void {
    if (!this.#sawFinalHead || this.#wholeBody !== undefined) return; // nothing of the read buffer was delivered yet
    this.#isComplete = true;
    setOnMessageBegin(this.#parser, this.#onExtraBytes);
  }

  /** Called outside of the parser, when the response is complete. */
  #finishCall(): void {
    const call = this.#call;
    this.#call = undefined;
    if (call === undefined) return;
    const isComplete = this.#keepAlive && call.requestSent && !call.isEnded && !this.#sawExtraBytes;
    this.#responses++;
    if (this.#isPaused) this.resume();
    if (!isComplete) this.#socket.destroy();
    else if (this.#isSecure && call.request.hasBody && this.#writer?.isEmpty === false)
      setImmediate(() => this.#keepIfSent(call));
    else this.#keepIfSent(call);
    if (call.finish()) call.handler.onEnd(this.#trailers);
  }

  /** Keeps the connection if all of the request was sent. */
  #keepIfSent({ request: { hasBody } }: Http1UpstreamCall): void {
    if (this.#isClosed) return;
    const hasWritten = this.#writer?.isEmpty === true || (!hasBody && this.#isHeadEncrypted);
    if (hasWritten && (!hasBody || (unackedBytes(this.#socket) ?? 0) === 0)) {
      this.#idleUntil += this.#pool.now;
      this.#pool.onConnectionIdle(this);
    } else this.#socket.destroy();
  }

  /**
   * Over TLS, Node reports a write as finished in the next turn at the earliest, and the response may be here before
   * that. The kernel has the head if nothing else is in the stream and nothing waits below TLS, which encrypts a head
   * at once.
   */
  get #isHeadEncrypted(): boolean {
    return this.#isSecure && this.#socket.writableLength <= this.#headBytes && queuedBelowTls(this.#socket) === 0;
  }

  #onEnd(): void {
    if (this.#call === undefined || this.#isReserved) {
      this.#socket.destroy();
      return;
    }
    this.#call.reads++;
    const rest = this.#parser.finish();
    if (this.#isComplete) this.#finishCall();
    else if (rest !== undefined && typeof rest !== "number")
      this.#fail(new UpstreamClosedError("the upstream closed the connection in the middle of its response"));
    this.#socket.destroy();
  }

  #onClose(): void {
    this.#isClosed = true;
    this.#socketReader?.release();
    freeParser(this.#parser);
    this.#pool.onConnectionClosed(this);
    this.#fail(this.#error ?? new UpstreamClosedError("the upstream closed the connection"));
  }

  #fail(error: Error): void {
    this.#socket.destroy();
    if (this.#isReserved) return; // nothing of the call was written: it gets another connection at the end of the turn
    const call = this.#call;
    this.#call = undefined;
    // In TLS 1.3 a server refuses a client's certificate after the client's handshake is complete.
    const isHandshake =
      !this.#isConnected || (this.#isSecure && this.#responses === 0 && call?.sawResponseByte === false);
    if (isHandshake && !this.#pool.isClosed) call?.fail(handshakeError(error), false);
    else call?.fail(error, this.#responses > 0 && !call.sawResponseByte && isConnectionError(error));
  }

  #release(): void {
    this.#call = undefined;
    this.#idleUntil = this.#pool.now + this.#pool.idleMs;
    if (this.#isClosed || !this.#socket.writable) this.#socket.destroy();
    else this.#pool.onConnectionIdle(this);
  }
}

/** @param framing lines of how the body is framed */
function headText(
  { method, path, requestId, acceptsTrailers, expectsContinue }: UpstreamRequest,
  lines: HeaderText,
  framing: string,
): string {
  const id = requestId === null ? "" : `x-request-id: ${requestId}\r\n`;
  const te = acceptsTrailers === true ? "te: trailers\r\nconnection: te\r\n" : "";
  const expect = expectsContinue === true ? "expect: 100-continue\r\n" : "";
  return `${method} ${path} HTTP/1.1${lines.text}\r\n${framing}${te}${expect}${id}\r\n`;
}

/**
 * Keeps what an upstream sent before it closed while a request body was still on its way to it.
 *
 * A server that refuses a body answers and closes, often without reading the rest. The next write then fails while the
 * response has arrived unread, and Node discards both. Here a failed write leaves the socket open if `mayKeepOpen`
 * returns true; its owner then destroys it.
 */
function interceptWriteErrors(socket: Socket, mayKeepOpen: (error: Error) => boolean): void {
  const destroy = socket.destroy.bind(socket);
  socket.destroy = (error) => (isWriteError(error) && mayKeepOpen(error) ? socket : destroy(error));
}

function isWriteError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error && error.syscall === "write";
}
