/**
 * HTTP/1 connection: reads requests from one socket, strictly, and has them answered one at a time in the order in which they came.
 *
 * A request that comes before the one in front of it is answered waits, a few of them; then nothing more is read. Whatever takes
 * the whole connection (an upgrade, CONNECT) may not come behind an unanswered request. What cannot be read gets a bare 400
 * and the connection ends; what is in the middle of an answer is closed without a word, so that no second answer is ever written
 * into the first. Time is bounded for the head, for the whole request and between requests (`sweep`).
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { headerLinesMax } from "../message/canonical-request.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { WritableValues } from "../message/header-values.ts";
import type { Caller } from "../message/peer.ts";
import { LastLines, RequestLines } from "../message/received-lines.ts";
import { BodyEnd } from "./body-end.ts";
import { CallerReading } from "./caller-socket.ts";
import { Http1Exchange, type Http1Head } from "./downstream.ts";
import { SocketOutlet } from "./outlet-socket.ts";
import { type AfterHead, createParser, freeParser, type Http1Parser, methodOf, type RawLines } from "./parser.ts";
import { bodyLengthOf, isHttp2Preface, upgradeIn, versionOf } from "./request-head.ts";
import { RequestLineCheck } from "./request-line.ts";
import { WaitingRequests } from "./waiting-requests.ts";
import { AnswerWriter } from "./writer.ts";

/** The bytes are Pomerium's limit. */
const headLimits = { bytesMax: 131_072, linesMax: headerLinesMax };
/** Behind a handshake that is not answered yet. */
const earlyBytesMax = 65_536;
/** How long the rest of a request is thrown away after its answer, so that the caller gets to read the answer. */
const lingerMs = 5_000;

export class Http1Connection {
  readonly caller: Caller;
  readonly #socket: Socket;
  readonly #scheme: "http" | "https";
  readonly #owner: ConnectionOwner;
  readonly #onHttp2: (() => void) | null;
  #parser: Http1Parser | undefined;
  readonly #requestLine = new RequestLineCheck();
  /** Of the body that is being read. */
  #bodyEnd: BodyEnd | undefined;
  /** No request is read behind this one. */
  #isLast = false;
  /** Reads the socket from its second read on. */
  #direct: CallerReading | undefined;
  /** Being answered. */
  #current: Http1Exchange | undefined;
  /** Whose body is read. */
  #reading: Http1Exchange | undefined;
  readonly #waiting = new WaitingRequests<Http1Exchange>();
  /** What came behind an upgrade. */
  #early: Buffer[] | undefined;
  readonly #lines = new LastLines(RequestLines.receive);
  #earlyBytes = 0;
  #held = false;
  /** Nothing that comes is looked at any more. */
  #over = false;
  #lingering = false;
  readonly #writer: AnswerWriter;
  readonly outlet: SocketOutlet;
  /** The connection is somebody else's. */
  #taken = false;
  /** A request was answered, and nothing of the next has come. */
  #betweenRequests = false;
  /** When the connection is closed for being slow or idle; Infinity: not now. */
  #deadline: number;

  /**
   * @param onHttp2 the caller speaks HTTP/2 with prior knowledge (RFC 9113 §3.3): the socket is given up, unread; null: HTTP/2
   * is not spoken here
   */
  constructor(socket: Socket, caller: Caller, owner: ConnectionOwner, onHttp2: (() => void) | null) {
    this.#onHttp2 = onHttp2;
    this.#socket = socket;
    this.#scheme = socket instanceof TLSSocket ? "https" : "http";
    this.#owner = owner;
    this.caller = caller;
    this.outlet = new SocketOutlet(socket, () => owner.onRefused("undelivered"));
    this.#deadline = owner.now() + owner.readMs;
    this.#writer = new AnswerWriter(socket, owner, {
      mayLeave: (flush) => this.#current?.mayLeave(flush) ?? true,
      onLastLeft: (now) => this.#onLastLeft(now),
      onDrain: this.#onDrain,
    });
    this.#parser = createParser("request", headLimits, {
      onHead: (major, minor, lines, method, url, _status, _text, upgrade, keepAlive) =>
        this.#onHead(versionOf(major, minor), lines ?? [], methodOf(method), url ?? "", upgrade, keepAlive),
      onBody: (bytes) => this.#reading?.bodyChunk(bytes),
      onComplete: () => this.#onComplete(),
      onTrailers: (lines) => {
        if (this.#reading?.bodyTrailers(lines) === false) this.#refuse("trailers", 431);
      },
      onTooManyLines: ({ code }) => this.#refuse(code, 431),
    });
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
  }

  date(): string {
    return this.#owner.date();
  }

  get writable(): WritableValues {
    return this.#owner.writable;
  }

  /** Whether the connection may carry another request behind this answer. */
  mayGoOn(_exchange: Http1Exchange): boolean {
    return !this.#over && !this.#owner.draining();
  }

  /** Ends it unless something was asked that is not answered. */
  closeIdle(): void {
    if (this.#betweenRequests || this.#bytesRead === 0) this.#socket.destroySoon();
    else if (this.#current?.closed === true) this.#linger(); // the rest of its body is not waited for
  }

  /** Every answer is written, and the caller has not received all of it, or has not ended its side. */
  get lingering(): boolean {
    return (this.#socket.writableEnded || this.#current?.ended === true) && !this.#socket.destroyed;
  }

  destroyUnlessTaken(): void {
    if (!this.#taken) this.outlet.close();
  }

  /** Nothing is read from it, so that the end of its caller's side is not heard; which in a tunnel is no leaving. */
  get deaf(): boolean {
    return this.#taken ? this.#socket.isPaused() : this.#held;
  }
  leaveIf(ended: (socket: Socket) => boolean): void {
    const leaves = this.deaf && (!this.#taken || this.#current?.upgrade === "websocket") && ended(this.#socket);
    if (leaves) this.#socket.destroy();
  }

  sweep(now: number): void {
    // A write of nothing finds out that the connection was reset; as does one that waits, behind which these would pile up.
    if (this.deaf && this.#socket.writable && this.#writer.isEmpty) this.#socket.write("");
    if (this.#betweenRequests) this.#lines.forget(); // whoever waits for long should not cost much
    if (this.#writer.unreadUntil <= now) this.#socket.destroy();
    const { readLimit, readMs } = this.#owner;
    if (readLimit === "silence" && this.#reading?.moves() === true) this.#deadline = now + readMs;
    if (this.#deadline > now) return;
    this.#deadline = Infinity;
    if (this.#current?.answering === true && this.#reading === this.#current) return; // both sides talk, within the route's own bounds
    if (this.#reading === this.#current && this.#current?.timeOut() === true) return;
    if (this.#betweenRequests) this.#socket.destroySoon();
    else if (this.#over || this.#current?.ended === true) this.#socket.destroy();
    else this.#refuse("ERR_HTTP_REQUEST_TIMEOUT", 408);
  }

  // --- what comes

  readonly #onData = (bytes: Buffer): void => {
    if (this.#lingering) return;
    if (this.#early !== undefined) {
      this.#keepEarly(bytes);
      return;
    }
    if (this.#over || this.#parser === undefined) return;
    const isFirst = this.#bytesRead === bytes.length;
    if (isFirst && this.#onHttp2 !== null && isHttp2Preface(bytes)) this.#giveAway(bytes, this.#onHttp2);
    else this.#parse(bytes);
    if (this.#over || this.#early !== undefined || this.#held || this.#parser === undefined) return;
    this.#direct ??= CallerReading.begin(this.#socket, this.#onRead, this.#onClose);
  };

  /** @param bytes of the buffer that all callers are read into: nothing may keep them */
  readonly #onRead = (bytes: Buffer): void => {
    if (!this.#lingering && !this.#over) this.#parse(bytes);
  };

  #somethingCame(): void {
    if (!this.#betweenRequests) return;
    this.#betweenRequests = false;
    this.#deadline = this.#owner.now() + this.#owner.readMs;
  }

  #readByEvents(): void {
    this.#direct?.end();
    this.#direct = undefined;
  }

  /** In segments, of which none reaches beyond the end of a head or of a body. */
  #parse(bytes: Buffer): void {
    this.#somethingCame();
    for (let at = 0; at < bytes.length && !this.#over && this.#parser !== undefined; ) {
      const end = this.#endOfSegment(bytes, at);
      if (end <= at) return;
      const read = this.#execute(this.#parser, end - at === bytes.length ? bytes : bytes.subarray(at, end));
      at += read;
      if (this.#early !== undefined) {
        this.#readByEvents(); // what comes now is no HTTP
        if (at < bytes.length) this.#keepEarly(Buffer.from(bytes.subarray(at)));
        return;
      }
      if (read === 0) return;
    }
  }

  /** @returns `from` or less: nothing more is looked at */
  #endOfSegment(bytes: Buffer, from: number): number {
    if (this.#bodyEnd !== undefined) return this.#bodyEnd.find(bytes, from);
    if (this.#isLast && this.#reading === undefined) return from;
    const end = this.#requestLine.endOfSegment(bytes, from);
    if (end < 0) this.#refuse("request-line", 400);
    return end;
  }

  /** The parser stops behind a request that asks for an upgrade, also where that is refused by going on as before. @returns bytes read */
  #execute(parser: Http1Parser, segment: Buffer): number {
    const read = parser.execute(segment);
    if (typeof read === "number") {
      if (read === 0 && this.#early === undefined) this.#refuse("HPE_PAUSED_UPGRADE", 400);
      else if (this.#bodyEnd?.isFound === true) this.#refuse("body-end", 400);
      return read;
    }
    // Nothing behind the last request of a connection is looked at; that one is answered all the same.
    const status = read.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    if (read.code !== "HPE_CLOSED_CONNECTION") this.#refuse(read.code, status);
    return 0;
  }

  get #bytesRead(): number {
    return this.#socket.bytesRead - this.caller.skippedBytes;
  }

  #giveAway(bytes: Buffer, onHttp2: () => void): void {
    const socket = this.#socket;
    this.#over = true;
    this.#deadline = Infinity;
    for (const [event, listener] of this.#listeners) socket.off(event, listener);
    this.#freeParser();
    socket.pause();
    socket.unshift(bytes);
    onHttp2();
  }

  #onHead(
    httpVersion: string,
    rawHeaders: RawLines,
    method: string,
    url: string,
    upgrade: boolean,
    keepAlive: boolean,
  ): AfterHead {
    if (this.#over) return 1;
    this.#somethingCame();
    if (!this.#requestLine.accepts(method, url)) {
      this.#refuse("request-line", 400);
      return 1;
    }
    this.#isLast = !keepAlive;
    const kind = method === "CONNECT" ? "connect" : upgrade ? upgradeIn(rawHeaders, this.#owner) : null;
    const bodyLength = kind === null ? bodyLengthOf(rawHeaders) : undefined;
    const lines = this.#lines.next(rawHeaders);
    const head: Http1Head = {
      method,
      url,
      httpVersion,
      rawHeaders: lines.raw,
      lines,
      scheme: this.#scheme,
      upgrade: kind,
      hasBody: bodyLength !== undefined,
      keepAlive: kind === null && keepAlive,
    };
    const exchange = new Http1Exchange(this, this.#socket, head);
    this.#reading = exchange;
    this.#bodyEnd = bodyLength === undefined ? undefined : new BodyEnd(bodyLength);
    if (kind !== null) {
      if (this.#current !== undefined) {
        this.#owner.onRefused("pipelined");
        this.#over = true;
        this.#socket.destroy();
        return 2;
      }
      this.#early = [];
      return 2;
    }
    if (head.hasBody) this.#take(exchange);
    if (head.hasBody || upgrade) return 0;
    this.#onComplete(); // it is all there
    return "end-known";
  }

  #onComplete(): void {
    if (this.#bodyEnd?.isFound === false) this.#refuse("body-end", 400);
    this.#bodyEnd = undefined;
    const exchange = this.#reading;
    this.#reading = undefined;
    if (exchange === undefined || this.#over) return;
    if (this.#current === undefined || this.#current === exchange) this.#deadline = Infinity;
    if (!exchange.head.hasBody) this.#take(exchange);
    else {
      exchange.bodyEnd();
      if (exchange.closed) this.#next(exchange, this.#owner.now());
    }
  }

  #take(exchange: Http1Exchange): void {
    if (this.#current === undefined) this.#begin(exchange);
    else if (!this.#waiting.add(exchange)) {
      // Within bounds it is still read on: only who reads notices that a caller has left.
      this.#owner.onRefused("pipelined");
      this.#over = true;
      this.#socket.destroy();
    }
  }

  #begin(exchange: Http1Exchange): void {
    this.#current = exchange;
    if (!exchange.bodyComplete && this.#deadline === Infinity) this.#deadline = this.#owner.now() + this.#owner.readMs;
    this.#owner.onRequest(exchange);
  }

  /** Of the request that is being read; those before it are answered first, or not at all. */
  #refuse(code: string, status: number): void {
    if (this.#over) return;
    const broken = this.#reading;
    const current = this.#current;
    this.#over = true;
    this.#owner.onRefused(code);
    this.#waiting.clear();
    if (current?.ended === true) {
      // It is answered, though not all of that has left: the end of this turn sees to it, and to the end of the connection.
      if (current === broken) broken.bodyAborted();
      else if (current.keepAlive) this.send(this.#owner.bareAnswer(status));
      return;
    }
    if (current !== undefined && (current !== broken || current.begun)) {
      this.#socket.destroy();
      return;
    }
    // Whoever carries the request lets go of it first, so that it never answers as well.
    broken?.bodyAborted();
    current?.refuse(status);
    this.#socket.write(this.#owner.bareAnswer(status), "latin1");
    this.#linger();
  }

  #keepEarly(bytes: Buffer): void {
    this.#early?.push(bytes);
    this.#earlyBytes += bytes.length;
    if (this.#earlyBytes > earlyBytesMax) this.holdReading();
  }

  readonly #onEnd = (): void => {
    // Whoever ends its side is taken to have left, as Node and nginx take it.
    this.#writer.flush();
    if (this.#lingering || this.#betweenRequests || this.#current?.ended === true) this.#socket.destroySoon();
    else this.#socket.destroy();
  };

  readonly #onDrain = (): void => this.#current?.drained();

  readonly #onClose = (): void => {
    this.#over = true;
    this.#writer.drop();
    this.#deadline = Infinity;
    this.#waiting.clear();
    this.#reading?.bodyAborted();
    this.#reading = undefined;
    const current = this.#current;
    this.#current = undefined;
    current?.bodyAborted();
    current?.close();
    this.#freeParser();
  };

  #freeParser(): void {
    if (this.#parser === undefined) return;
    this.#readByEvents();
    freeParser(this.#parser);
    this.#parser = undefined;
  }

  readonly #listeners: readonly (readonly [string, (bytes: Buffer) => void])[] = [
    ["data", this.#onData],
    ["end", this.#onEnd],
    ["close", this.#onClose],
    ["drain", this.#onDrain],
    ["error", () => {}], // `close` follows
  ];

  // --- for its exchanges

  holdReading(): void {
    if (this.#held) return;
    this.#held = true;
    if (this.#direct === undefined) this.#socket.pause();
    else this.#direct.hold();
  }

  goOnReading(): void {
    if (!this.#held) return;
    this.#held = false;
    if (this.#direct === undefined) this.#socket.resume();
    else this.#direct.goOn();
  }

  get needsDrain(): boolean {
    return this.#writer.needsDrain;
  }

  /** Small: it leaves with whatever else this turn brings. */
  send(text: string): void {
    this.#writer.send(text);
  }

  /** It does not wait for what comes. */
  sendAtOnce(text: string): void {
    this.#writer.send(text);
    this.#writer.flush();
  }

  /** Large: it is not copied. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    this.#writer.sendAround(before, chunk, after);
  }

  /** The last of the answer under way. It is over when that has left. */
  written(text: string): void {
    this.#writer.sendLast(text);
  }

  #onLastLeft(now: number): void {
    if (this.#current !== undefined) this.#answered(this.#current, now);
  }

  #answered(exchange: Http1Exchange, now: number): void {
    exchange.close();
    if (!exchange.keepAlive || this.#over) {
      this.#waiting.clear();
      this.#linger();
      return;
    }
    if (exchange.bodyComplete && this.#reading !== exchange) {
      this.#next(exchange, now);
      return;
    }
    // The rest of a body is read and thrown away; a caller that sends for long is not waited for.
    exchange.discardBody();
    this.#deadline = Math.min(this.#deadline, now + lingerMs);
  }

  #next(exchange: Http1Exchange, now: number): void {
    if (this.#current !== exchange) return;
    this.#current = undefined;
    const next = this.#waiting.next();
    if (next !== undefined) {
      this.#begin(next);
      return;
    }
    this.goOnReading();
    if (this.#reading === undefined) {
      this.#betweenRequests = true;
      this.#deadline = now + this.#owner.idleMs;
    }
  }

  /** Ends our side, and reads on for a moment: a reset would take the answer from a caller that is still sending. */
  #linger(): void {
    if (this.#lingering) return;
    this.#lingering = true;
    this.#over = true;
    this.#freeParser();
    const socket = this.#socket;
    this.#held = false;
    socket.resume();
    socket.end();
    this.#deadline = this.#owner.now() + lingerMs;
  }

  /** From now on the connection is somebody else's. @returns what came behind the head */
  letGo(exchange: Http1Exchange): Buffer {
    if (this.#current !== exchange || this.#early === undefined) throw new TypeError("this exchange cannot be taken");
    const socket = this.#socket;
    this.#over = true;
    this.#taken = true;
    this.#lines.forget();
    exchange.head.lines?.forgetSent(); // the connection may last for days
    this.#deadline = Infinity;
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("drain", this.#onDrain);
    socket.pause();
    this.#freeParser();
    return Buffer.concat(this.#early);
  }
}
