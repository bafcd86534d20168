/**
 * HTTP/2 upstream connection: calls as its streams.
 *
 * - After GOAWAY it takes no new call and ends with its last stream. The same holds after `callsMax` calls, long
 *   before its stream ids run out (RFC 9113 §5.1.1).
 * - A request that the upstream refused unread (REFUSED_STREAM, or a stream above GOAWAY's last) is `unprocessed`:
 *   the protocol guarantees that it had no effect (RFC 9113 §6.8, §8.7).
 */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { guardSocket } from "../enforce/send-queue-socket.ts";
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
import { Http2ClientSession } from "./client-session.ts";
import type { StreamFailure } from "./client-stream.ts";
import { errorCode } from "./frame-types.ts";
import { type Http2UpstreamCall, notRetryable } from "./upstream-call.ts";

/** Concurrent streams of one connection, unless the upstream allows fewer. */
export const streamsMaxDefault = 100;
const windowBytes = 1_048_576;
/** For all streams of a connection together; HTTP/2 begins with 64 KiB, however large theirs are (RFC 9113 §6.9.2). */
const connectionWindowBytes = 4 * windowBytes;
/** How long an upstream may take to end its side of a connection without streams. */
const lingerMs = 5_000;

/** Callbacks to the pool. */
export type Http2ConnectionHooks = Readonly<{
  /** It may have room for a call, or has stopped taking any. */
  onChange: () => void;
  /** The upstream has said how many streams it takes at once. */
  onStreamsMax: (streams: number) => void;
  onGone: () => void;
}>;

export class Http2UpstreamConnection {
  readonly #session: Http2ClientSession;
  readonly #socket: Socket;
  readonly #cuts: StreamCuts;
  readonly #isSecure: boolean;
  readonly #idleMs: number;
  readonly #callsMax: number;
  readonly #hooks: Http2ConnectionHooks;
  #streamsMax: number;
  readonly #waiting = new Set<Http2UpstreamCall>();
  readonly #connectTimer: NodeJS.Timeout;
  #idleTimer: NodeJS.Timeout | undefined;
  #lingerTimer: NodeJS.Timeout | undefined;
  #isReady = false;
  #isGoingAway = false;
  #isClosed = false;
  #streams = 0;
  #calls = 0;
  #responses = 0;
  #error: Error | undefined;

  /** @param limits `streamsMax`: at once, until the upstream says how many */
  constructor(
    address: UpstreamAddress,
    limits: Omit<PoolLimits, "connectionsMax"> & Readonly<{ callsMax: number; streamsMax: number }>,
    hooks: Http2ConnectionHooks,
  ) {
    const { secure, tls } = address;
    this.#isSecure = secure;
    this.#idleMs = limits.idleMs;
    this.#callsMax = limits.callsMax;
    this.#streamsMax = limits.streamsMax;
    this.#hooks = hooks;
    const common = { ...connectOptionsOf(address), noDelay: true, keepAlive: true };
    this.#socket = secure ? connectTls({ ...common, ...tls, ALPNProtocols: ["h2"] }) : connectPlain(common);
    this.#cuts = StreamCuts.ofUpstream(this.#socket);
    this.#session = new Http2ClientSession(
      this.#socket,
      { windowBytes, connectionWindowBytes },
      {
        onSettings: (streams = streamsMaxDefault) => this.#onSettings(streams),
        onGoAway: () => this.#onGoAway(),
        onPong() {},
        onStreamOver: () => this.#onStreamOver(),
        onFault: (error) => {
          this.#error ??= error;
        },
      },
    );
    this.#connectTimer = setTimeout(() => {
      this.#fail(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
    }, limits.connectTimeoutMs);
    this.#socket.once(secure ? "secureConnect" : "connect", () => this.#onConnected());
    this.#socket.on("error", (error) => {
      this.#error ??= error;
    });
    this.#socket.once("end", () => this.#socket.destroy()); // an upstream that ends its side answers nothing more
    this.#socket.once("close", () => this.#onClosed());
  }

  #onConnected(): void {
    clearTimeout(this.#connectTimer);
    this.#isReady = true;
    guardSocket(this.#socket);
    this.#session.begin();
    for (const call of this.#waiting) this.#startCall(call);
    this.#waiting.clear();
    if (this.#streams === 0) this.#startIdleTimer(); // all of them were aborted
    this.#hooks.onChange();
  }

  #onSettings(streams: number): void {
    this.#streamsMax = Math.min(streamsMaxDefault, streams);
    this.#hooks.onStreamsMax(this.#streamsMax);
    this.#hooks.onChange();
  }

  #onGoAway(): void {
    this.#isGoingAway = true;
    if (this.#streams === 0) this.#startIdleTimer();
    this.#hooks.onChange();
  }

  #onStreamOver(): void {
    this.#streams--;
    if (this.#streams === 0) this.#startIdleTimer();
    this.#hooks.onChange();
  }

  #onClosed(): void {
    this.#isGoingAway = true;
    this.#isClosed = true;
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#lingerTimer);
    this.#hooks.onGone();
    const closed = this.#error ?? new UpstreamClosedError("the upstream closed the connection");
    const error = this.#isReady ? closed : handshakeError(closed);
    this.#session.onSocketClosed(error);
    for (const call of this.#waiting) call.fail(error, notRetryable);
    this.#waiting.clear();
  }

  /** It accepts calls, now or when others have ended. */
  get isOpen(): boolean {
    return !this.#isGoingAway && this.#calls < this.#callsMax && !this.#session.isClosing && !this.#socket.destroyed;
  }

  get hasRoom(): boolean {
    return this.isOpen && this.#streams + this.#waiting.size < this.#streamsMax;
  }

  add(call: Http2UpstreamCall): void {
    call.connection = this;
    clearTimeout(this.#idleTimer);
    this.#calls++;
    if (!this.#isReady) {
      this.#waiting.add(call);
      return;
    }
    this.#startCall(call);
    if (this.#streams === 0) this.#startIdleTimer(); // it was aborted
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** @returns settles when nothing that was written of calls that were aborted can leave this machine */
  cutsFinished(): Promise<void> {
    return this.#cuts.finished();
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
    this.#session.open(stream);
  }

  #failureOf({ code, error, unprocessed }: StreamFailure, reused: boolean): CallFailure {
    const isLoss =
      error === undefined ? code === errorCode.none || code === errorCode.cancel : isConnectionError(error);
    return { staleConnection: (reused || this.#isGoingAway) && isLoss, unprocessed };
  }

  /** A response has begun. */
  onResponse(): void {
    this.#responses++;
  }

  /** No stream is left. */
  #startIdleTimer(): void {
    clearTimeout(this.#idleTimer);
    if (this.#isClosed) return;
    if (!this.isOpen) this.#closeGracefully();
    else this.#idleTimer = setTimeout(() => this.#closeGracefully(), this.#idleMs).unref();
  }

  /** This side ends, and waits for the upstream's end for a bounded time. */
  #closeGracefully(): void {
    this.#session.close();
    this.#lingerTimer ??= setTimeout(() => this.#socket.destroy(), lingerMs).unref();
  }
}
