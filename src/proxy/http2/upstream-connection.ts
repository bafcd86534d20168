/**
 * HTTP/2 upstream connection: calls as its streams.
 *
 * - After GOAWAY it takes no new call and ends with its last stream. The same holds after `callsMax` calls, long
 *   before its stream ids run out (RFC 9113 §5.1.1).
 * - A request that the upstream refused unread (REFUSED_STREAM, or a stream above GOAWAY's last) is `unprocessed`:
 *   the protocol guarantees that it had no effect (RFC 9113 §6.8, §8.7). So is one that the upstream wants over
 *   HTTP/1.1 (HTTP_1_1_REQUIRED).
 * - Until the upstream has stated its limit of streams, only a few calls are sent: it would refuse more.
 * - A call that was given up in silence makes the connection suspect. It takes no new call until a PING is answered,
 *   and is closed if none is.
 */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import { closeSocket, guardSocket } from "../enforce/send-queue-socket.ts";
import { StreamCuts, unsentDelivery } from "../http1/outlet-socket.ts";
import { connectOptionsOf, type PoolLimits, type UpstreamAddress } from "../http1/upstream-pool.ts";
import type { SocketDelivery } from "../message/deliveries.ts";
import {
  type CallFailure,
  handshakeError,
  isConnectionError,
  UpstreamClosedError,
  UpstreamConnectTimeoutError,
} from "../message/upstream-call.ts";
import { Http2ClientSession, type SessionHooks, type UpstreamSession } from "./client-session.ts";
import type { StreamFailure } from "./client-stream.ts";
import { errorCode } from "./frame-types.ts";
import { NodeClientSession } from "./node-client-session.ts";
import { type Http2UpstreamCall, notRetryable } from "./upstream-call.ts";

/** Concurrent streams of one connection, unless the upstream allows fewer. */
export const streamsMaxDefault = 100;
/** Calls sent before an upstream has ever stated its limit of streams. The usual limits are 100 and more. */
const streamsMaxUnknown = 16;
/** What an upstream may send on one stream before its caller reads. */
const windowBytes = 262_144;
/** For all streams together: callers that do not read their responses leave the others their windows. */
const connectionWindowBytes = streamsMaxDefault * windowBytes;
/** How long an upstream may take to end its side of a connection without streams. */
const lingerMs = 5_000;
/** A call that is given up after this time makes a connection suspect that was silent all the while. */
const silentMs = 1_000;
/** How long a suspect connection may take to answer a PING. */
const pongMs = 5_000;
/** PINGs without a response in between. gRPC servers close a connection after three. */
const pingsMax = 2;

/** Callbacks to the pool. */
export type Http2ConnectionHooks = Readonly<{
  /** It may have room for a call, or has stopped taking any. */
  onChange: () => void;
  /** The upstream has said how many streams it takes at once. */
  onStreamsMax: (streams: number) => void;
  /** Calls that it cannot send after all. Nothing of them was sent. */
  onReturned: (calls: readonly Http2UpstreamCall[]) => void;
  /** The upstream has chosen another protocol: calls that nothing was sent of. Undefined: it was offered none. */
  onHttp1Chosen: ((calls: readonly Http2UpstreamCall[]) => void) | undefined;
  onHttp1Required: () => void;
  onGone: () => void;
}>;

export type Http2ConnectionLimits = Omit<PoolLimits, "connectionsMax"> &
  Readonly<{
    callsMax: number;
    /** Streams at once, until the upstream says how many; null: it has never said. */
    streamsMax: number | null;
  }>;

/** When a call was sent, and how much its connection had read then. */
export type CallStart = Readonly<{ at: number; reads: number }>;

export class Http2UpstreamConnection {
  readonly #session: UpstreamSession;
  readonly #socket: Socket;
  readonly #cuts: StreamCuts;
  readonly #isSecure: boolean;
  readonly #limits: Http2ConnectionLimits;
  readonly #hooks: Http2ConnectionHooks;
  #streamsMax: number;
  /** How many calls may be sent now. */
  #sentMax: number;
  readonly #waiting = new Set<Http2UpstreamCall>();
  readonly #connectTimer: NodeJS.Timeout;
  #idleTimer: NodeJS.Timeout | undefined;
  #lingerTimer: NodeJS.Timeout | undefined;
  #pongTimer: NodeJS.Timeout | undefined;
  #isReady = false;
  /** The upstream's first frame has arrived. */
  #sawSettings = false;
  #isGoingAway = false;
  #isClosed = false;
  #streams = 0;
  #calls = 0;
  #responses = 0;
  /** PINGs since the last response. */
  #pings = 0;
  #error: Error | undefined;

  /** @param socket connected, with HTTP/2 chosen; undefined: a new one */
  constructor(
    address: UpstreamAddress,
    limits: Http2ConnectionLimits,
    hooks: Http2ConnectionHooks,
    socket: TLSSocket | undefined,
  ) {
    this.#isSecure = address.secure;
    this.#limits = limits;
    this.#streamsMax = limits.streamsMax ?? streamsMaxDefault;
    this.#sentMax = limits.streamsMax ?? streamsMaxUnknown;
    this.#hooks = hooks;
    this.#socket = socket ?? openSocket(address);
    this.#cuts = StreamCuts.ofUpstream(this.#socket);
    const sessionHooks: SessionHooks = {
      onSettings: (streams = streamsMaxDefault) => this.#onSettings(streams),
      onGoAway: () => this.#onGoAway(),
      onPong: () => this.#onPong(),
      onStreamOver: () => this.#onStreamOver(),
      onFault: (error) => {
        this.#error ??= error;
      },
    };
    const Session = address.http2Connections === "node" ? NodeClientSession : Http2ClientSession;
    this.#session = new Session(this.#socket, { windowBytes, connectionWindowBytes }, sessionHooks);
    this.#connectTimer = setTimeout(() => {
      this.#fail(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
    }, limits.connectTimeoutMs);
    this.#socket.on("error", (error) => {
      this.#error ??= error;
    });
    // An upstream that ends its side answers nothing more, and reads nothing more that an orderly close would wait for.
    this.#socket.once("end", () => closeSocket(this.#socket));
    this.#socket.once("close", () => this.#onClosed());
    if (socket === undefined)
      this.#socket.once(address.secure ? "secureConnect" : "connect", () => this.#onConnected());
    else this.#onConnected();
  }

  #onConnected(): void {
    clearTimeout(this.#connectTimer);
    const { onHttp1Chosen } = this.#hooks;
    if (onHttp1Chosen !== undefined && this.#socket instanceof TLSSocket && this.#socket.alpnProtocol !== "h2") {
      const calls = this.#takeWaiting();
      this.#isGoingAway = true;
      this.#socket.destroy();
      onHttp1Chosen(calls);
      return;
    }
    this.#isReady = true;
    guardSocket(this.#socket);
    this.#session.begin();
    this.#startWaiting();
    if (this.load === 0) this.#startIdleTimer(); // all of them were aborted
    this.#hooks.onChange();
  }

  #onSettings(streams: number): void {
    this.#sawSettings = true;
    this.#streamsMax = Math.min(streamsMaxDefault, streams);
    this.#sentMax = this.#streamsMax;
    this.#hooks.onStreamsMax(this.#streamsMax);
    this.#startWaiting();
    this.#returnWaiting();
    if (this.load === 0 && this.#idleTimer === undefined) this.#startIdleTimer(); // it has returned all of its calls
    this.#hooks.onChange();
  }

  #onGoAway(): void {
    this.#isGoingAway = true;
    this.#returnWaiting();
    if (this.#streams === 0) this.#startIdleTimer();
    this.#hooks.onChange();
  }

  #onStreamOver(): void {
    this.#streams--;
    this.#startWaiting();
    if (this.load === 0) this.#startIdleTimer();
    this.#hooks.onChange();
  }

  #onClosed(): void {
    this.#isGoingAway = true;
    this.#isClosed = true;
    for (const timer of [this.#connectTimer, this.#idleTimer, this.#lingerTimer, this.#pongTimer]) clearTimeout(timer);
    const waiting = this.#takeWaiting();
    this.#hooks.onGone();
    const closed = this.#error ?? new UpstreamClosedError("the upstream closed the connection");
    // In TLS 1.3 a server refuses a client's certificate after the client's handshake is complete.
    const error = this.#sawSettings ? closed : handshakeError(closed);
    this.#session.onSocketClosed(error);
    for (const call of waiting) call.fail(error, notRetryable);
  }

  /** It accepts calls, now or when others have ended. */
  get isOpen(): boolean {
    const isUsable = !this.#isGoingAway && !this.#session.isClosing && !this.#socket.destroyed;
    return isUsable && this.#calls < this.#limits.callsMax && !this.#isSuspect;
  }

  get hasRoom(): boolean {
    return this.isOpen && this.load < this.#streamsMax;
  }

  /** Idle, and the upstream accepts nothing for a moment: a limit of 0 (RFC 9113 §6.5.2). It ends if that stays. */
  get acceptsNone(): boolean {
    return this.isOpen && this.#streamsMax === 0 && this.load === 0;
  }

  /** Streams, and calls that wait for it. */
  get load(): number {
    return this.#streams + this.#waiting.size;
  }

  get #isSuspect(): boolean {
    return this.#pongTimer !== undefined;
  }

  add(call: Http2UpstreamCall): void {
    call.connection = this;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    this.#calls++;
    if (!this.#isReady || this.#streams >= this.#sentMax) {
      this.#waiting.add(call);
      return;
    }
    this.#startCall(call);
    if (this.load === 0) this.#startIdleTimer(); // it was aborted
  }

  /** A call that waits for it has ended. */
  remove(call: Http2UpstreamCall): void {
    if (this.#waiting.delete(call) && this.#isReady && this.load === 0) this.#startIdleTimer();
  }

  /** A call was given up without a response. */
  onGivenUp(start: CallStart): void {
    if (this.#isSuspect || this.#isClosed || !this.#isReady) return;
    if (this.#session.reads !== start.reads || performance.now() - start.at < silentMs) return;
    if (this.#pings >= pingsMax) {
      this.#isGoingAway = true; // another connection serves the next call
      return;
    }
    this.#pings++;
    this.#pongTimer = setTimeout(() => {
      this.#fail(new UpstreamClosedError("the upstream did not answer a PING"));
    }, pongMs).unref();
    this.#session.ping("liveness");
  }

  #onPong(): void {
    clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
    if (this.load === 0) this.#startIdleTimer();
    this.#hooks.onChange();
  }

  #startWaiting(): void {
    if (!this.#isReady) return;
    for (const call of this.#waiting) {
      if (this.#streams >= this.#sentMax) return;
      this.#waiting.delete(call);
      this.#startCall(call);
    }
  }

  #takeWaiting(): readonly Http2UpstreamCall[] {
    const calls = [...this.#waiting];
    this.#waiting.clear();
    return calls;
  }

  #returnWaiting(): void {
    const calls = this.#takeWaiting();
    if (calls.length > 0) this.#hooks.onReturned(calls);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * After calls were cut. What was written of them cannot be taken back: it leaves shortly, or the connection is reset.
   * @returns settles when nothing of it can leave this machine; undefined: nothing can
   */
  discardUnsent(): Promise<void> | undefined {
    return this.unsent() === undefined ? undefined : this.#cuts.finished();
  }

  /** @returns what was written so far and has not left this machine; undefined: all of it has */
  unsent(): SocketDelivery | undefined {
    return unsentDelivery(this.#socket);
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#socket.destroy();
  }

  #startCall(call: Http2UpstreamCall): void {
    if (call.isEnded) return;
    const reused = this.#responses > 0;
    const scheme = this.#isSecure ? "https" : "http";
    const stream = call.createStream(this.#session, scheme, (failure) => this.#failureOf(failure, reused));
    if (stream === undefined) return;
    this.#streams++;
    stream.begin();
  }

  #failureOf({ code, error, unprocessed }: StreamFailure, reused: boolean): CallFailure {
    const requiresHttp1 = error === undefined && code === errorCode.http11Required;
    if (requiresHttp1) this.#hooks.onHttp1Required();
    const isLoss =
      error === undefined ? code === errorCode.none || code === errorCode.cancel : isConnectionError(error);
    return { staleConnection: (reused || this.#isGoingAway) && isLoss, unprocessed: unprocessed || requiresHttp1 };
  }

  /** A response has begun. */
  onResponse(): void {
    this.#responses++;
    this.#pings = 0;
  }

  /** No stream is left. */
  #startIdleTimer(): void {
    clearTimeout(this.#idleTimer);
    if (this.#isClosed) return;
    if (!this.isOpen) this.#closeGracefully();
    else this.#idleTimer = setTimeout(() => this.#closeGracefully(), this.#limits.idleMs).unref();
  }

  /** This side ends, and waits for the upstream's end for a bounded time. */
  #closeGracefully(): void {
    if (this.#isSuspect) return; // its PING decides
    this.#session.close();
    this.#lingerTimer ??= setTimeout(() => this.#socket.destroy(), lingerMs).unref();
  }
}

function openSocket(address: UpstreamAddress): Socket {
  const common = { ...connectOptionsOf(address), noDelay: true, keepAlive: true };
  return address.secure ? connectTls({ ...common, ...address.tls }) : connectPlain(common);
}
