/**
 * HTTP/1.1 upstream connection: one call at a time, and what becomes of the connection behind it.
 *
 * It goes back to its pool only when request and answer were complete and nothing came behind the answer; anything else ends it,
 * so that no answer is ever taken for that of another request. A call begins at the end of the turn in which it was asked for.
 */
import type { Socket } from "node:net";
import { closeSocket, guardSocket, unackedBytes } from "../enforce/send-queue-socket.ts";
import type { HeaderText } from "../message/header-lines.ts";
import { AnswerLines, LastLines } from "../message/received-lines.ts";
import {
  handshakeError,
  isConnectionError,
  UpstreamClosedError,
  UpstreamConnectTimeoutError,
  UpstreamIdleError,
  UpstreamProtocolError,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { onFailedWrite } from "./early-response.ts";
import { atTurnEnd, type Flush, type TurnEndTask } from "./flush-scheduler.ts";
import { DirectWriting } from "./handle-writer.ts";
import { KeptAnswer } from "./kept-answer.ts";
import { headText, KeptHead } from "./kept-head.ts";
import {
  type AfterHead,
  createParser,
  DirectReading,
  freeParser,
  type Http1Parser,
  listenForBegin,
  listenForBody,
  type ParseError,
  type RawLines,
} from "./parser.ts";
import { readBuffer } from "./read-buffer.ts";
import { type AnswerHead, readAnswerHead } from "./response-head.ts";
import type { Http1Call } from "./upstream-call.ts";
import type { Http1Pool } from "./upstream-pool.ts";

const answerHeadBytesMax = 65_536;
/** As of an upstream that speaks HTTP/2. */
const answerLinesMax = 2_000;
/** Never written to. */
const none: RawLines = [];
/** Longer heads are put together each time. */
const keptCharsMax = 8_192;

export class Http1UpstreamConnection implements TurnEndTask {
  readonly towards = "upstream";
  readonly #pool: Http1Pool;
  readonly #socket: Socket;
  readonly #secure: boolean;
  readonly #parser: Http1Parser;
  /** Undefined: bytes come as events of the socket. */
  #direct: DirectReading | undefined;
  #writing: DirectWriting | undefined;
  #call: Http1Call | undefined;
  #connected = false;
  #answered = 0;
  /** Bytes have moved since the last look. */
  #moved = true;
  /** At which look they last had. */
  #movedAt = 0;
  /** While idle, when it ends; before, for how long it will be kept. */
  #idleUntil = 0;
  #keepAlive = false;
  #chunked = false;
  /** For a call that has not begun. */
  #reserved = false;
  /** The final head has come. */
  #answering = false;
  #complete = false;
  /** Something came behind an answer. */
  #spoiled = false;
  #trailers: RawLines = none;
  /** Of a body whose length is known; undefined: where it ends is the parser's to tell. */
  #bytesLeft: number | undefined;
  readonly #lines = new LastLines(AnswerLines.receive);
  /** How much of the read buffer is being parsed, its first head not being read yet; 0: none. */
  #reading = 0;
  /** The answer stands in the read buffer, and nothing else. */
  #whole = false;
  /** Of an answer that was like the one before it. */
  #kept: KeptAnswer | undefined;
  #paused = false;
  #gone = false;
  #error: Error | undefined;
  /** It takes no more of the body; what it has said before is read. */
  #deaf = false;

  constructor(pool: Http1Pool, socket: Socket, ready: "connect" | "secureConnect", call: Http1Call) {
    this.#pool = pool;
    this.#socket = socket;
    this.#secure = ready === "secureConnect";
    this.#call = call;
    call.connection = this;
    this.#parser = createParser(
      "response",
      { bytesMax: answerHeadBytesMax, linesMax: answerLinesMax },
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
    socket.once(ready, () => {
      this.#connected = true;
      guardSocket(socket);
      if (ready === "secureConnect")
        this.#direct = DirectReading.begin(this.#parser, socket, (read) => this.#onRead(read));
      this.#writing = new DirectWriting(socket, () => {
        this.#moved = true;
      });
      const first = this.#call;
      if (first !== undefined && !first.over) this.begin(first);
      else this.#release();
    });
    socket.on("data", (bytes: Buffer) => this.#onBytes(bytes));
    socket.on("drain", () => {
      this.#moved = true;
      const { over = true, sent = true, handler } = this.#call ?? {};
      if (!over && !sent) handler?.onWritable();
    });
    socket.on("error", (error) => {
      this.#error = error;
    });
    onFailedWrite(socket, (error) => {
      if (this.#call?.over !== false || !this.#call.request.hasBody || this.#complete || this.#deaf) return false;
      this.#error = error;
      this.#moved = true;
      this.#deaf = true;
      return true;
    });
    socket.on("end", () => this.#onEnd());
    socket.on("close", () => this.#onClose());
  }

  get usable(): boolean {
    return !this.#gone && this.#socket.writable && this.#pool.now < this.#idleUntil;
  }

  /** Begins with a call at the end of this turn. */
  reserve(call: Http1Call): void {
    this.#call = call;
    call.connection = this;
    this.#moved = true;
    this.#reserved = true;
    atTurnEnd(this);
  }

  runAtTurnEnd(flush: Flush): void {
    const call = this.#call;
    this.#pool.now = flush.now;
    const { usable } = this;
    this.#reserved = false;
    if (usable && call !== undefined && !call.over) {
      this.begin(call);
      return;
    }
    this.#call = undefined;
    if (usable) this.#pool.free(this);
    else this.#socket.destroy(); // the upstream may be about to do so
    if (call !== undefined && !call.over) this.#pool.again(call);
  }

  /** Nothing of a call that has begun may be taken for another's, so its connection goes, with what the kernel holds of its body. */
  abandon(call: Http1Call): void {
    if (this.#call === call && this.#reserved) return; // given back at the end of the turn
    closeSocket(this.#socket);
  }

  /** Writes the head of a call. */
  begin(call: Http1Call): void {
    this.#call = call;
    call.connection = this;
    this.#moved = true;
    this.#answering = false;
    this.#complete = false;
    listenForBegin(this.#parser, null);
    if (!call.handler.mayBegin(call)) {
      call.finish();
      this.#call = undefined;
      this.#release();
      return;
    }
    const lines = this.#linesOf(call);
    if (lines === undefined) return;
    const { request } = call;
    if (!request.hasBody) {
      this.#chunked = false;
      this.#writeHead(request, lines);
      return;
    }
    this.#chunked = lines.length === undefined;
    const framing = this.#chunked ? "transfer-encoding: chunked\r\n" : "";
    this.#socket.cork();
    this.#socket.write(headText(request, lines, framing), "latin1");
    call.handler.onWritable();
    this.#socket.uncork();
  }

  /** @returns undefined when they cannot be written; then the call is over */
  #linesOf(call: Http1Call): HeaderText | undefined {
    try {
      return call.request.headers.text(this.#pool.writable);
    } catch (error) {
      this.#release();
      call.fail(error as Error, false);
      return undefined;
    }
  }

  /** Of a request without a body. */
  #writeHead(request: UpstreamRequest, lines: HeaderText): void {
    const { headers, requestId } = request;
    const kept = headers.head;
    if (kept?.isOf(request) && requestId !== null) {
      if (this.#writing?.writeBytes(kept.bytes(lines, requestId)) !== true) headers.head = undefined;
      return;
    }
    headers.head = request.path.length + lines.text.length > keptCharsMax ? undefined : new KeptHead(request);
    this.#writing?.write(headText(request, lines, ""));
  }

  write(chunk: Buffer): boolean {
    if (this.#deaf) return false;
    this.#moved = true;
    if (!this.#chunked) return this.#socket.write(chunk);
    this.#socket.cork();
    this.#socket.write(`${chunk.length.toString(16)}\r\n`, "latin1");
    this.#socket.write(chunk);
    const more = this.#socket.write("\r\n", "latin1");
    this.#socket.uncork();
    return more;
  }

  endBody(call: Http1Call, trailers: readonly string[]): void {
    call.sent = !this.#deaf;
    if (!this.#chunked || this.#deaf) return;
    let text = "0\r\n";
    for (let i = 0; i < trailers.length; i += 2) {
      const value = trailers[i + 1] ?? "";
      if (this.#pool.writable.has(value)) text += `${trailers[i]}: ${value}\r\n`;
    }
    this.#socket.write(`${text}\r\n`, "latin1");
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#moved = true;
    if (this.#direct === undefined) this.#socket.resume();
    else this.#direct.goOn();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  look(now: number): void {
    if (this.#moved) {
      this.#moved = false;
      this.#movedAt = now;
    }
    if (!this.#connected) {
      if (now - this.#movedAt > this.#pool.connectTimeoutMs)
        this.#fail(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
      return;
    }
    const call = this.#call;
    if (call === undefined) {
      if (now >= this.#idleUntil) this.#socket.destroy();
    } else if (this.#deaf && !this.#paused && now > this.#movedAt) this.#socket.destroy();
    else if (!this.#paused && now - this.#movedAt > call.idleMsMax)
      this.#fail(new UpstreamIdleError("the upstream fell silent"));
  }

  // --- what comes

  #onBytes(bytes: Buffer): void {
    if (this.#call === undefined || this.#reserved)
      this.#socket.destroy(); // nobody has asked for anything
    else this.#onRead(this.#parser.execute(bytes));
  }

  /** Of a plain socket. @param length how much of it stands in the read buffer @returns true */
  received(length: number): boolean {
    const call = this.#call;
    if (call === undefined || this.#reserved) {
      this.#socket.destroy(); // nobody has asked for anything
      return true;
    }
    const kept = this.#kept;
    // The parser stands between two answers.
    if (kept !== undefined && !call.sawByte && call.request.method !== "HEAD" && kept.isAll(length)) {
      call.sawByte = true;
      this.#begins(call, kept.head);
      this.#takeWhole(length);
      this.#complete = true;
      this.#onRead(length);
      return true;
    }
    this.#reading = length;
    const read = readBuffer.parse(this.#parser, length);
    this.#reading = 0;
    if (this.#whole) {
      this.#whole = false;
      listenForBody(this.#parser, this.#onBody);
      this.#takeWhole(length);
      this.#onComplete();
    }
    this.#onRead(read);
    return true;
  }

  #takeWhole(length: number): void {
    this.#passOn(readBuffer.lastOf(length, this.#bytesLeft ?? 0));
    this.#bytesLeft = 0;
  }

  /** The parser has looked at what came. */
  #onRead(read: number | ParseError): void {
    this.#moved = true;
    const call = this.#call;
    if (call === undefined || this.#reserved) {
      this.#socket.destroy();
      return;
    }
    call.sawByte = true;
    if (typeof read !== "number" && !this.#complete) {
      this.#fail(new UpstreamProtocolError(`the upstream's answer cannot be read: ${read.code}`, { cause: read }));
    } else if (this.#complete) {
      if (typeof read !== "number") this.#spoiled = true;
      this.#settle();
    } else call.reads++;
  }

  #onHead(status: number, raw: RawLines, keepAlive: boolean): AfterHead {
    const call = this.#call;
    if (call === undefined || this.#complete || this.#reserved) {
      this.#spoiled = true;
      return 1;
    }
    call.sawByte = true;
    const length = this.#reading;
    this.#reading = 0;
    if (status < 200) {
      if (status === 101 || status < 100) this.#fail(new UpstreamProtocolError(`a ${status} that nobody asked for`));
      else if (!call.over) call.handler.onHint(status, raw);
      return 1;
    }
    const lines = this.#lines.next(raw);
    const isLikeLast = lines.connection !== undefined;
    const { method } = call.request;
    const head = readAnswerHead(status, lines, keepAlive, method);
    this.#begins(call, head);
    if (head.bodyBytes === undefined) return method === "HEAD" ? 1 : 0;
    if (readBuffer.isWholeAnswer(length, head.bodyBytes)) {
      this.#whole = true;
      listenForBody(this.#parser, null);
      this.#kept = isLikeLast ? new KeptAnswer(head, length) : undefined;
    }
    return "end-known";
  }

  /** The final head has come. */
  #begins(call: Http1Call, { status, lines, keepAlive, idleMs, bodyBytes }: AnswerHead): void {
    this.#answering = true;
    this.#keepAlive = keepAlive;
    this.#trailers = none;
    this.#idleUntil = idleMs ?? this.#pool.idleMs;
    this.#bytesLeft = bodyBytes;
    if (!call.over) call.handler.onHead(status, lines);
  }

  readonly #onBody = (bytes: Buffer): void => {
    this.#passOn(bytes);
    if (this.#bytesLeft === undefined) return;
    this.#bytesLeft -= bytes.length;
    if (this.#bytesLeft === 0) this.#onComplete();
  };

  #passOn(bytes: Buffer | string): void {
    const call = this.#call;
    if (call === undefined || call.over || this.#complete || this.#reserved) return;
    if (call.handler.onData(bytes) || call.over) return;
    this.#paused = true;
    if (this.#direct === undefined) this.#socket.pause();
    else this.#direct.hold();
  }

  /** Something came behind the answer: its rest would be the beginning of the next. */
  readonly #onMore = (): void => {
    this.#spoiled = true;
  };

  #onComplete(): void {
    if (!this.#answering || this.#whole) return; // of what stands in the read buffer, nothing was passed on yet
    this.#complete = true;
    listenForBegin(this.#parser, this.#onMore);
  }

  /** Outside of the parser: the answer is complete. */
  #settle(): void {
    const call = this.#call;
    this.#call = undefined;
    if (call === undefined) return;
    const isSent =
      this.#writing?.isEmpty === true && (!call.request.hasBody || (unackedBytes(this.#socket) ?? 0) === 0);
    const reusable = this.#keepAlive && call.sent && !call.over && !this.#spoiled && isSent;
    this.#answered++;
    if (this.#paused) this.resume();
    if (reusable) {
      this.#idleUntil += this.#pool.now;
      this.#pool.free(this);
    } else this.#socket.destroy();
    if (call.finish()) call.handler.onEnd(this.#trailers);
  }

  #onEnd(): void {
    if (this.#call === undefined || this.#reserved) {
      this.#socket.destroy();
      return;
    }
    this.#call.reads++;
    const rest = this.#parser.finish();
    if (this.#complete) this.#settle();
    else if (rest !== undefined && typeof rest !== "number")
      this.#fail(new UpstreamClosedError("the upstream ended in the middle of its answer"));
    this.#socket.destroy();
  }

  #onClose(): void {
    this.#gone = true;
    this.#direct?.end();
    freeParser(this.#parser);
    this.#pool.gone(this);
    this.#fail(this.#error ?? new UpstreamClosedError("the upstream closed the connection"));
  }

  #fail(error: Error): void {
    this.#socket.destroy();
    if (this.#reserved) return; // nothing of the call was written: it goes elsewhere at the end of the turn
    const call = this.#call;
    this.#call = undefined;
    // In TLS 1.3 a server refuses a client's certificate after the client's handshake is complete.
    const isHandshake = !this.#connected || (this.#secure && this.#answered === 0 && call?.sawByte === false);
    if (isHandshake && !this.#pool.closed) call?.fail(handshakeError(error), false);
    else call?.fail(error, this.#answered > 0 && !call.sawByte && isConnectionError(error));
  }

  #release(): void {
    this.#call = undefined;
    this.#idleUntil = this.#pool.now + this.#pool.idleMs;
    if (this.#gone || !this.#socket.writable) this.#socket.destroy();
    else this.#pool.free(this);
  }
}
