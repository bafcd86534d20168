/**
 * HTTP/1 connection: parses the requests of one socket strictly and has them answered one at a time, in order.
 *
 * - A request that arrives before the previous response is complete waits. A few may wait; then nothing more is read.
 * - What takes the whole connection (an upgrade, CONNECT) must not follow a request without a response.
 * - A request that cannot be parsed gets a bare 400 and the connection ends. In the middle of a response the
 *   connection is closed instead, so that no second response is ever written into the first.
 * - Time is bounded for the head, for the whole request and between requests (`sweep`).
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { headerLinesMax } from "../message/canonical-request.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { RawLines } from "../message/header-lines.ts";
import type { HeaderValueCheck } from "../message/header-values.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { BodyEnd } from "./body-end.ts";
import { DownstreamSocketReader } from "./caller-socket.ts";
import { Http1Downstream, type Http1Head } from "./downstream.ts";
import { SocketOutlet } from "./outlet-socket.ts";
import { type AfterHead, createParser, freeParser, type Http1Parser, methodOf } from "./parser.ts";
import { bodyLengthOf, isHttp2Preface, upgradeOf, versionOf } from "./request-head.ts";
import { RequestLineCheck } from "./request-line.ts";
import { WaitingRequests } from "./waiting-requests.ts";
import { ResponseWriter } from "./writer.ts";

/** `bytesMax` is Pomerium's limit. */
const headLimits = { bytesMax: 131_072, linesMax: headerLinesMax };
/** Bytes after an upgrade request that has no response yet. */
const upgradeBytesMax = 65_536;
/** How long the rest of a request is discarded after its response, so that the caller can read the response. */
const lingerMs = 5_000;

export class Http1Connection {
  readonly caller: ConnectionPeer;
  readonly #socket: Socket;
  readonly #scheme: "http" | "https";
  readonly #owner: ConnectionOwner;
  readonly #onHttp2: (() => void) | null;
  #parser: Http1Parser | undefined;
  readonly #requestLine = new RequestLineCheck();
  /** Finds the end of the body that is being read. */
  #bodyEnd: BodyEnd | undefined;
  /** No request is read after this one. */
  #isLast = false;
  /** Reads the socket from its second read on. */
  #socketReader: DownstreamSocketReader | undefined;
  /** The request whose response is being written. */
  #current: Http1Downstream | undefined;
  /** The request whose body is being read. */
  #receiving: Http1Downstream | undefined;
  readonly #waiting = new WaitingRequests<Http1Downstream>();
  /** What arrived after an upgrade request. */
  #bytesAfterUpgrade: Buffer[] | undefined;
  #upgradeBytes = 0;
  #isPaused = false;
  /** Further bytes are ignored. */
  #isStopped = false;
  #lingering = false;
  readonly #writer: ResponseWriter;
  readonly outlet: SocketOutlet;
  /** An upgrade or tunnel has taken the connection. */
  #isDetached = false;
  /** The response is complete, and nothing of the next request has arrived. */
  #betweenRequests = false;
  /** When the connection is closed for being slow or idle; Infinity: no deadline. */
  #deadline: number;

  /**
   * @param onHttp2 the caller uses HTTP/2 with prior knowledge (RFC 9113 §3.3): the socket is detached, unread; null:
   *   HTTP/2 is not available here
   */
  constructor(socket: Socket, caller: ConnectionPeer, owner: ConnectionOwner, onHttp2: (() => void) | null) {
    this.#onHttp2 = onHttp2;
    this.#socket = socket;
    this.#scheme = socket instanceof TLSSocket ? "https" : "http";
    this.#owner = owner;
    this.caller = caller;
    this.outlet = new SocketOutlet(socket, () => owner.onRefused("undelivered"));
    this.#deadline = owner.now() + owner.readMs;
    this.#writer = new ResponseWriter(socket, owner, {
      mayFlush: (flush) => this.#current?.mayFlush(flush) ?? true,
      onLastSent: (now) => this.#onLastLeft(now),
      onDrain: this.#onDrain,
    });
    this.#parser = createParser("request", headLimits, {
      onHead: (major, minor, lines, method, url, _status, _text, upgrade, keepAlive) =>
        this.#onHead(versionOf(major, minor), lines ?? [], methodOf(method), url ?? "", upgrade, keepAlive),
      onBody: (bytes) => this.#receiving?.onBodyChunk(bytes),
      onComplete: () => this.#onComplete(),
      onTrailers: (lines) => {
        if (this.#receiving?.onBodyTrailers(lines) === false) this.#refuse("trailers", 431);
      },
      onTooManyLines: ({ code }) => this.#refuse(code, 431),
    });
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
  }

  httpDate(): string {
    return this.#owner.httpDate();
  }

  get headerValues(): HeaderValueCheck {
    return this.#owner.headerValues;
  }

  /** Whether the connection may carry another request after this response. */
  mayKeepAlive(_exchange: Http1Downstream): boolean {
    return !this.#isStopped && !this.#owner.isDraining();
  }

  /** Ends it unless a request has no response yet. */
  closeIdle(): void {
    if (this.#betweenRequests || this.#bytesRead === 0) this.#socket.destroySoon();
    else if (this.#current?.closed === true) this.#linger(); // does not wait for the rest of its body
  }

  /** Every response is written, and the caller has not received all of it or has not ended its side. */
  get lingering(): boolean {
    return (this.#socket.writableEnded || this.#current?.ended === true) && !this.#socket.destroyed;
  }

  destroyUnlessTaken(): void {
    if (!this.#isDetached) this.outlet.close();
  }

  /**
   * Nothing is read, so the end of the caller's side goes unnoticed. In a tunnel that end does not mean that the
   * caller left.
   */
  get readPaused(): boolean {
    return !this.#socket.destroyed && (this.#isDetached ? this.#socket.isPaused() : this.#isPaused);
  }
  destroyIfPeerEnded(ended: (socket: Socket) => boolean): void {
    const leaves =
      this.readPaused && (!this.#isDetached || this.#current?.upgrade === "websocket") && ended(this.#socket);
    if (!leaves) return;
    if (this.#isDetached || this.#current?.ended !== true) this.#socket.destroy();
    else if (!this.#socket.writableEnded) this.#onEnd(); // a complete response still leaves
  }

  sweep(now: number): void {
    // An empty write detects a reset. So does a write that is pending, after which empty ones would pile up.
    if (this.readPaused && this.#socket.writable && this.#writer.isEmpty) this.#socket.write("");
    if (this.#writer.unreadUntil <= now) this.#socket.destroy();
    const { readLimit, readMs } = this.#owner;
    if (readLimit === "silence" && this.#receiving?.hasBodyProgress() === true) this.#deadline = now + readMs;
    if (this.#deadline > now) return;
    this.#deadline = Infinity;
    // Both sides are sending, within the route's own bounds.
    if (this.#current?.isResponding === true && this.#receiving === this.#current) return;
    if (this.#receiving === this.#current && this.#current?.timeOutBody() === true) return;
    if (this.#betweenRequests) this.#socket.destroySoon();
    else if (this.#isStopped || this.#current?.ended === true) this.#socket.destroy();
    else this.#refuse("ERR_HTTP_REQUEST_TIMEOUT", 408);
  }

  // --- reading

  readonly #onData = (bytes: Buffer): void => {
    if (this.#lingering) return;
    if (this.#bytesAfterUpgrade !== undefined) {
      this.#keepUpgradeBytes(bytes);
      return;
    }
    if (this.#isStopped || this.#parser === undefined) return;
    const isFirst = this.#bytesRead === bytes.length;
    if (isFirst && this.#onHttp2 !== null && isHttp2Preface(bytes)) this.#handOffToHttp2(bytes, this.#onHttp2);
    else this.#parse(bytes);
    if (this.#isStopped || this.#bytesAfterUpgrade !== undefined || this.#isPaused || this.#parser === undefined)
      return;
    this.#socketReader ??= DownstreamSocketReader.begin(this.#socket, this.#onRead, this.#onClose);
  };

  /** @param bytes in the buffer that all connections share: nothing may keep them */
  readonly #onRead = (bytes: Buffer): void => {
    if (!this.#lingering && !this.#isStopped) this.#parse(bytes);
  };

  #onBytesReceived(): void {
    if (!this.#betweenRequests) return;
    this.#betweenRequests = false;
    this.#deadline = this.#owner.now() + this.#owner.readMs;
  }

  #stopSocketReader(): void {
    this.#socketReader?.release();
    this.#socketReader = undefined;
  }

  /** Parses in segments, none of which extends past the end of a head or of a body. */
  #parse(bytes: Buffer): void {
    this.#onBytesReceived();
    for (let at = 0; at < bytes.length && !this.#isStopped && this.#parser !== undefined; ) {
      const end = this.#endOfSegment(bytes, at);
      if (end <= at) return;
      const read = this.#execute(this.#parser, end - at === bytes.length ? bytes : bytes.subarray(at, end));
      at += read;
      if (this.#bytesAfterUpgrade !== undefined) {
        this.#stopSocketReader(); // what follows is not HTTP
        if (at < bytes.length) this.#keepUpgradeBytes(Buffer.from(bytes.subarray(at)));
        return;
      }
      if (read === 0) return;
    }
  }

  /** @returns `from` or less: parse nothing more */
  #endOfSegment(bytes: Buffer, from: number): number {
    if (this.#bodyEnd !== undefined) return this.#bodyEnd.find(bytes, from);
    if (this.#isLast && this.#receiving === undefined) return from;
    const end = this.#requestLine.endOfSegment(bytes, from);
    if (end < 0) this.#refuse("request-line", 400);
    return end;
  }

  /**
   * The parser stops after a request for an upgrade, even if that is refused and HTTP continues.
   * @returns bytes read
   */
  #execute(parser: Http1Parser, segment: Buffer): number {
    const read = parser.execute(segment);
    if (typeof read === "number") {
      if (read === 0 && this.#bytesAfterUpgrade === undefined) this.#refuse("HPE_PAUSED_UPGRADE", 400);
      else if (this.#bodyEnd?.isFound === true) this.#refuse("body-end", 400);
      return read;
    }
    // What follows the last request of a connection is ignored; that request still gets its response.
    const status = read.code === "HPE_HEADER_OVERFLOW" ? 431 : 400;
    if (read.code !== "HPE_CLOSED_CONNECTION") this.#refuse(read.code, status);
    return 0;
  }

  get #bytesRead(): number {
    return this.#socket.bytesRead - this.caller.skippedBytes;
  }

  #handOffToHttp2(bytes: Buffer, onHttp2: () => void): void {
    const socket = this.#socket;
    this.#isStopped = true;
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
    if (this.#isStopped) return 1;
    this.#onBytesReceived();
    if (!this.#requestLine.accepts(method, url)) {
      this.#refuse("request-line", 400);
      return 1;
    }
    this.#isLast = !keepAlive;
    const kind = method === "CONNECT" ? "connect" : upgrade ? upgradeOf(rawHeaders, this.#owner) : null;
    const bodyLength = kind === null ? bodyLengthOf(rawHeaders) : undefined;
    const head: Http1Head = {
      method,
      url,
      httpVersion,
      rawHeaders,
      scheme: this.#scheme,
      upgrade: kind,
      hasBody: bodyLength !== undefined,
      keepAlive: kind === null && keepAlive,
    };
    const exchange = new Http1Downstream(this, this.#socket, head);
    this.#receiving = exchange;
    this.#bodyEnd = bodyLength === undefined ? undefined : new BodyEnd(bodyLength);
    if (kind !== null) {
      if (this.#current !== undefined) {
        this.#owner.onRefused("pipelined");
        this.#isStopped = true;
        this.#socket.destroy();
        return 2;
      }
      this.#bytesAfterUpgrade = [];
      return 2;
    }
    if (head.hasBody) this.#enqueue(exchange);
    if (head.hasBody || upgrade) return 0;
    this.#onComplete(); // the whole request is here
    return "end-known";
  }

  #onComplete(): void {
    if (this.#bodyEnd?.isFound === false) this.#refuse("body-end", 400);
    this.#bodyEnd = undefined;
    const exchange = this.#receiving;
    this.#receiving = undefined;
    if (exchange === undefined || this.#isStopped) return;
    if (this.#current === undefined || this.#current === exchange) this.#deadline = Infinity;
    if (!exchange.head.hasBody) this.#enqueue(exchange);
    else {
      exchange.onBodyEnd();
      if (exchange.closed) this.#startNext(exchange, this.#owner.now());
    }
  }

  #enqueue(exchange: Http1Downstream): void {
    if (this.#current === undefined) this.#startRequest(exchange);
    else if (!this.#waiting.add(exchange)) {
      // Up to the bound the connection is still read: only a reader notices that a caller has left.
      this.#owner.onRefused("pipelined");
      this.#isStopped = true;
      this.#socket.destroy();
    }
  }

  #startRequest(exchange: Http1Downstream): void {
    this.#current = exchange;
    if (!exchange.bodyComplete && this.#deadline === Infinity) this.#deadline = this.#owner.now() + this.#owner.readMs;
    this.#owner.onRequest(exchange);
  }

  /** Refuses the request that is being read. Those before it are answered first, or not at all. */
  #refuse(code: string, status: number): void {
    if (this.#isStopped) return;
    const broken = this.#receiving;
    const current = this.#current;
    this.#isStopped = true;
    this.#owner.onRefused(code);
    this.#waiting.clear();
    if (current?.ended === true) {
      // Its response is complete but has not left. The end of this turn sends it and ends the connection.
      if (current === broken) broken.onBodyAborted();
      else if (current.keepAlive) this.send(this.#owner.malformedRequestReply(status));
      return;
    }
    if (current !== undefined && (current !== broken || current.hasStarted)) {
      this.#socket.destroy();
      return;
    }
    // The body's reader is released first, so that it never responds as well.
    broken?.onBodyAborted();
    current?.refuse(status);
    this.#socket.write(this.#owner.malformedRequestReply(status), "latin1");
    this.#linger();
  }

  #keepUpgradeBytes(bytes: Buffer): void {
    this.#bytesAfterUpgrade?.push(bytes);
    this.#upgradeBytes += bytes.length;
    if (this.#upgradeBytes > upgradeBytesMax) this.pauseReading();
  }

  readonly #onEnd = (): void => {
    // A caller that ends its side counts as gone, as for Node and nginx.
    this.#writer.flush();
    if (this.#lingering || this.#betweenRequests || this.#current?.ended === true) this.#socket.destroySoon();
    else this.#socket.destroy();
  };

  readonly #onDrain = (): void => this.#current?.onDrained();

  readonly #onClose = (): void => {
    this.#isStopped = true;
    this.#writer.drop();
    this.#deadline = Infinity;
    this.#waiting.clear();
    this.#receiving?.onBodyAborted();
    this.#receiving = undefined;
    const current = this.#current;
    this.#current = undefined;
    current?.onBodyAborted();
    current?.close();
    this.#freeParser();
  };

  #freeParser(): void {
    if (this.#parser === undefined) return;
    this.#stopSocketReader();
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

  // --- for its downstreams

  pauseReading(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#owner.onReadPaused(this);
    if (this.#socketReader === undefined) this.#socket.pause();
    else this.#socketReader.pause();
  }

  resumeReading(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#socketReader === undefined) this.#socket.resume();
    else this.#socketReader.resume();
  }

  get needsDrain(): boolean {
    return this.#writer.needsDrain;
  }

  /** Sends a small text together with whatever else this turn writes. */
  send(text: string): void {
    this.#writer.send(text);
  }

  /** Sends without waiting for the end of the turn. */
  sendNow(text: string): void {
    this.#writer.send(text);
    this.#writer.flush();
  }

  /** Sends a large chunk without copying it. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    this.#writer.sendAround(before, chunk, after);
  }

  /** Sends the last of the response. The exchange ends when that has left. */
  sendLast(text: string): void {
    this.#writer.sendLast(text);
  }

  #onLastLeft(now: number): void {
    if (this.#current !== undefined) this.#onResponseSent(this.#current, now);
  }

  #onResponseSent(exchange: Http1Downstream, now: number): void {
    exchange.close();
    if (!exchange.keepAlive || this.#isStopped) {
      this.#waiting.clear();
      this.#linger();
      return;
    }
    if (exchange.bodyComplete && this.#receiving !== exchange) {
      this.#startNext(exchange, now);
      return;
    }
    // The rest of a body is read and discarded, for a limited time.
    exchange.discardBody();
    this.#deadline = Math.min(this.#deadline, now + lingerMs);
  }

  #startNext(exchange: Http1Downstream, now: number): void {
    if (this.#current !== exchange) return;
    this.#current = undefined;
    const next = this.#waiting.shift();
    if (next !== undefined) {
      this.#startRequest(next);
      return;
    }
    this.resumeReading();
    if (this.#receiving === undefined) {
      this.#betweenRequests = true;
      this.#deadline = now + this.#owner.idleMs;
    }
  }

  /**
   * Ends this side and keeps reading for a moment: a reset would take the response from a caller that is still
   * sending.
   */
  #linger(): void {
    if (this.#lingering) return;
    this.#lingering = true;
    this.#isStopped = true;
    const socket = this.#socket;
    this.#isPaused = false;
    if (this.#socketReader === undefined) socket.resume();
    else this.#socketReader.discard(() => socket.destroySoon());
    this.#socketReader = undefined;
    this.#freeParser();
    socket.end();
    this.#deadline = this.#owner.now() + lingerMs;
  }

  /** Gives up the connection. @returns what arrived after the head */
  detachSocket(exchange: Http1Downstream): Buffer {
    if (this.#current !== exchange || this.#bytesAfterUpgrade === undefined)
      throw new TypeError("this exchange's connection cannot be detached");
    const socket = this.#socket;
    this.#isStopped = true;
    this.#isDetached = true;
    this.#deadline = Infinity;
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("drain", this.#onDrain);
    socket.pause();
    this.#freeParser();
    return Buffer.concat(this.#bytesAfterUpgrade);
  }
}
