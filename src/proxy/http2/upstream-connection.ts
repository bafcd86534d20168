/**
 * HTTP/2 upstream connection: calls as its streams.
 *
 * - After GOAWAY it takes no new call and ends with its last stream. The same holds after `callsMax` calls, long
 *   before its stream ids run out (RFC 9113 §5.1.1).
 * - A request that the upstream refused unread (REFUSED_STREAM, or a stream above GOAWAY's last) is `unprocessed`:
 *   the protocol guarantees that it had no effect (RFC 9113 §6.8, §8.7).
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { guardSocket } from "../enforce/send-queue-socket.ts";
import { StreamCuts, unsentDelivery } from "../http1/outlet-socket.ts";
import { connectOptionsOf, type PoolLimits, type UpstreamAddress } from "../http1/upstream-pool.ts";
import type { SocketDelivery } from "../message/deliveries.ts";
import { handshakeError, UpstreamClosedError, UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import { type Http2UpstreamCall, headerListOf, isGrpc, notRetryable } from "./upstream-call.ts";

/** Concurrent streams of one connection, unless the upstream allows fewer. */
export const streamsMaxDefault = 100;
const windowBytes = 1_048_576;
/** For all streams of a connection together; HTTP/2 begins with 64 KiB, however large theirs are (RFC 9113 §6.9.2). */
const connectionWindowBytes = 4 * windowBytes;
/** How long an upstream may take to end its side of a connection without streams. */
const lingerMs = 5_000;

/**
 * A caller may write two lines of a name that should occur once; Node would throw. (Its types know this option for
 * servers only.)
 */
const laxSingleValues: object = { strictSingleValueFields: false };

/** Callbacks to the pool. */
export type Http2ConnectionHooks = Readonly<{
  /** It may have room for a call, or has stopped taking any. */
  onChange: () => void;
  /** The upstream has said how many streams it takes at once. */
  onStreamsMax: (streams: number) => void;
  onGone: () => void;
}>;

export class Http2UpstreamConnection {
  readonly #session: ClientHttp2Session;
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
  #goaway: Readonly<{ code: number; lastStreamId: number }> | undefined;
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
    const { secure, hostname: host, port, tls } = address;
    this.#isSecure = secure;
    this.#idleMs = limits.idleMs;
    this.#callsMax = limits.callsMax;
    this.#streamsMax = limits.streamsMax;
    this.#hooks = hooks;
    const authority = `${secure ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
    const common = { ...connectOptionsOf(address), noDelay: true, keepAlive: true };
    this.#socket = secure ? connectTls({ ...common, ...tls, ALPNProtocols: ["h2"] }) : connectPlain(common);
    this.#cuts = StreamCuts.ofUpstream(this.#socket);
    this.#session = connect(authority, {
      createConnection: () => this.#socket,
      settings: { enablePush: false, initialWindowSize: windowBytes },
      maxHeaderListPairs: 2_000,
      ...laxSingleValues,
      peerMaxConcurrentStreams: limits.streamsMax,
    });
    this.#connectTimer = setTimeout(() => {
      this.#fail(new UpstreamConnectTimeoutError("the upstream took too long to connect"));
    }, limits.connectTimeoutMs);
    this.#session.on("connect", () => {
      clearTimeout(this.#connectTimer);
      this.#isReady = true;
      guardSocket(this.#socket);
      this.#session.setLocalWindowSize(connectionWindowBytes);
      for (const call of this.#waiting) this.#startCall(call);
      this.#waiting.clear();
      if (this.#streams === 0) this.#startIdleTimer(); // all of them were aborted
      hooks.onChange();
    });
    this.#session.on("remoteSettings", ({ maxConcurrentStreams = streamsMaxDefault }) => {
      this.#streamsMax = Math.min(streamsMaxDefault, maxConcurrentStreams);
      hooks.onStreamsMax(this.#streamsMax);
      hooks.onChange();
    });
    this.#session.on("goaway", (code, lastStreamId) => {
      this.#isGoingAway = true;
      this.#goaway = { code, lastStreamId };
      if (this.#streams === 0) this.#startIdleTimer();
      hooks.onChange();
    });
    this.#session.on("error", (error) => {
      this.#error = error;
    });
    this.#session.on("close", () => {
      this.#isGoingAway = true;
      clearTimeout(this.#connectTimer);
      clearTimeout(this.#idleTimer);
      clearTimeout(this.#lingerTimer);
      hooks.onGone();
      const closed = this.#error ?? new UpstreamClosedError("the upstream closed the connection");
      const error = this.#isReady ? closed : handshakeError(closed);
      for (const call of this.#waiting) call.fail(error, notRetryable);
      this.#waiting.clear();
    });
  }

  /** It accepts calls, now or when others have ended. */
  get isOpen(): boolean {
    return !this.#isGoingAway && this.#calls < this.#callsMax && !this.#session.closed && !this.#session.destroyed;
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
    this.#session.destroy();
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
    this.#session.destroy();
  }

  #startCall(call: Http2UpstreamCall): void {
    if (call.isEnded) return;
    if (!call.maySend()) {
      call.finish();
      return;
    }
    let stream: ClientHttp2Stream;
    const { hasBody } = call.request;
    // An end without trailers is then a frame of its own. gRPC has no trailers in requests and does not need it.
    const waitForTrailers = hasBody && !isGrpc(call.request.headers.list);
    try {
      stream = this.#session.request(headerListOf(call.request, this.#isSecure), {
        endStream: !hasBody,
        waitForTrailers,
      });
    } catch (error) {
      call.fail(error as Error, notRetryable);
      return;
    }
    this.#streams++;
    const reused = this.#responses > 0;
    stream.once("response", () => {
      this.#responses++;
    });
    stream.once("close", () => {
      this.#streams--;
      if (this.#streams === 0) this.#startIdleTimer();
      this.#hooks.onChange();
    });
    call.begin(stream, (error) => ({
      staleConnection: (reused || this.#isGoingAway) && isConnectionLoss(error),
      unprocessed: this.#isUnprocessed(stream),
    }));
  }

  /** No stream is left. */
  #startIdleTimer(): void {
    clearTimeout(this.#idleTimer);
    if (!this.isOpen) this.#closeGracefully();
    else this.#idleTimer = setTimeout(() => this.#closeGracefully(), this.#idleMs).unref();
  }

  /** Node ends its side and waits for the upstream's without a bound. */
  #closeGracefully(): void {
    this.#session.close();
    this.#lingerTimer ??= setTimeout(() => this.#socket.destroy(), lingerMs).unref();
  }

  /**
   * A connection's error becomes the code of all its streams, also of those that were processed: GOAWAY's last stream
   * decides.
   */
  #isUnprocessed({ id = Infinity, rstCode }: ClientHttp2Stream): boolean {
    if (this.#goaway === undefined) return rstCode === constants.NGHTTP2_REFUSED_STREAM;
    const { code, lastStreamId } = this.#goaway;
    if (id > lastStreamId) return true;
    return code === constants.NGHTTP2_NO_ERROR && rstCode === constants.NGHTTP2_REFUSED_STREAM;
  }
}

function isConnectionLoss(error: Error | undefined): boolean {
  const code = error !== undefined && "code" in error ? error.code : undefined;
  return code === undefined || code === "ECONNRESET" || code === "EPIPE" || code === "ERR_HTTP2_SESSION_ERROR";
}
