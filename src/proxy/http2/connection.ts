/**
 * HTTP/2 connection: the streams of one caller, each an exchange of its own.
 *
 * How much a caller may ask at once, how large its heads may be and how fast it may take back what it asked are bounded; who goes
 * past a bound loses the connection (GOAWAY). Time is bounded for requests that are slow in coming and for a connection on
 * which nothing is asked.
 */

import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { queuedHere, unackedBytes } from "../enforce/send-queue-socket.ts";
import { cutWithinMs, SocketOutlet, StreamCuts } from "../http1/outlet-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { Http2Downstream } from "./downstream.ts";

const streamsMax = 128;
const headListBytesMax = 131_072;
/** A window large enough for an upload over a long way, small enough that 128 of them fit. */
const windowBytes = 262_144;
/** For all streams of a connection together; HTTP/2 begins with 64 KiB, however large theirs are (RFC 9113 §6.9.2). */
const connectionWindowBytes = 1_048_576;
const endOfStream = 0x1;
/** How long a caller is waited for that has been told everything and does not end its side, as for HTTP/1 (http1/connection.ts). */
const lingerMs = 5_000;
/** How often it is looked at whether what was written has left this process. */
const checkEveryMs = 5;

export class Http2Connection {
  readonly caller: ConnectionPeer;
  readonly outlet: SocketOutlet;
  readonly #session: ServerHttp2Session;
  readonly #owner: ConnectionOwner;
  readonly #receiving = new Map<Http2Downstream, number>();
  readonly #socket: Socket;
  readonly #cuts: StreamCuts;
  #isPinging = false;
  #openStreams = 0;
  #idleSince: number;
  #isGoingAway = false;
  /** When a caller that does not end its side is let go of; Infinity: it need not yet. */
  #lingersUntil = Infinity;
  /** Wait for the last of what they wrote to be the system's. */
  #sentListeners: (() => void)[] = [];
  /** Answered in full, as far as this side is concerned; and since when. */
  readonly #endedAt = new Map<Http2Downstream, number>();
  /** What the system had not taken at the last sweep, and since when it is as much. */
  #stuck = { bytes: 0, since: 0 };

  constructor(socket: Socket, caller: ConnectionPeer, owner: ConnectionOwner) {
    this.#owner = owner;
    this.#socket = socket;
    this.outlet = new SocketOutlet(socket, () => owner.onRefused("undelivered"));
    this.#cuts = StreamCuts.ofDownstream(socket, () => this.#ping());
    this.caller = caller;
    this.#idleSince = owner.now();
    const session = performServerHandshake(socket as Duplex, {
      settings: {
        maxConcurrentStreams: streamsMax,
        maxHeaderListSize: headListBytesMax,
        initialWindowSize: windowBytes,
        enableConnectProtocol: false,
      },
      maxSendHeaderBlockLength: headListBytesMax,
      maxSessionMemory: 32,
      maxSessionInvalidFrames: 100,
      maxSessionRejectedStreams: 100,
      maxHeaderListPairs: 1_100, // more than the strict reading takes, so that it sees what it refuses
      strictFieldWhitespaceValidation: false, // else nghttp2 leaves such a line out without a word; the strict reading refuses it
      strictSingleValueFields: false, // else two lines of one name, which are an upstream's to write, would throw
      streamResetBurst: 200,
      streamResetRate: 20,
    });
    this.#session = session;
    if (!session.destroyed) session.setLocalWindowSize(connectionWindowBytes);
    session.on("stream", (stream: ServerHttp2Stream, _headers: object, flags: number, raw: string[]) =>
      this.#onStream(stream, flags, raw),
    );
    session.on("error", (error: Error & { code?: string }) => owner.onRefused(error.code ?? "ERR_HTTP2_ERROR"));
    session.on("frameError", () => session.destroy());
    socket.once("end", () => socket.destroy()); // whoever ends its side is taken to have left
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    const exchange = new Http2Downstream(this, stream, raw, (flags & endOfStream) !== 0);
    this.#openStreams++;
    if (!exchange.bodyComplete) this.#receiving.set(exchange, this.#owner.now() + this.#owner.readMs);
    exchange.onClose(() => {
      this.#openStreams--;
      this.#receiving.delete(exchange);
      this.#endedAt.delete(exchange);
      this.#idleSince = this.#owner.now();
    });
    this.#owner.onRequest(exchange);
  }

  httpDate(): string {
    return this.#owner.httpDate();
  }

  /** Our side has ended in good order, and the caller's has not: a reset would take from it what it has not read. */
  get lingering(): boolean {
    return this.#session.closed && this.#openStreams === 0 && !this.#socket.destroyed;
  }

  /** Looks at what is slow or idle. */
  sweep(now: number): void {
    if (this.lingering) {
      if (this.#lingersUntil === Infinity) this.#lingersUntil = now + lingerMs;
      else if (this.#lingersUntil <= now) this.#socket.destroy();
      return;
    }
    for (const [exchange, until] of this.#receiving) {
      // As soon as it is being answered both sides talk for as long as they like, within the route's own bounds.
      if (exchange.bodyComplete || exchange.status !== 0) this.#receiving.delete(exchange);
      else if (this.#owner.readLimit === "silence" && exchange.hasBodyProgress())
        this.#receiving.set(exchange, now + this.#owner.readMs);
      else if (until <= now) {
        this.#receiving.delete(exchange);
        if (exchange.timeOutBody()) continue;
        this.#owner.onRefused("ERR_HTTP_REQUEST_TIMEOUT");
        exchange.destroy();
      }
    }
    this.#sweepUnread(now);
    if (this.#openStreams === 0 && now - this.#idleSince >= this.#owner.idleMs) this.goAway();
  }

  /** A caller that takes nothing is idle, however much there is for it. */
  #sweepUnread(now: number): void {
    const { idleMs } = this.#owner;
    for (const [exchange, since] of this.#endedAt) if (now - since >= idleMs) exchange.destroy();
    const bytes = queuedHere(this.#socket);
    if (bytes === 0 || bytes !== this.#stuck.bytes) this.#stuck = { bytes, since: now };
    else if (now - this.#stuck.since >= idleMs) this.#socket.destroy();
  }

  /** The end of an answer was written. */
  trackEnd(exchange: Http2Downstream): void {
    this.#endedAt.set(exchange, this.#owner.now());
  }

  /** Now, or when everything that was written has left this process, or the connection is gone. */
  whenSent(listener: () => void): void {
    if (this.#socket.destroyed || queuedHere(this.#socket) === 0) {
      listener();
      return;
    }
    this.#sentListeners.push(listener);
    if (this.#sentListeners.length === 1) this.#checkLater();
  }

  #checkLater(): void {
    setTimeout(() => {
      if (!this.#socket.destroyed && queuedHere(this.#socket) > 0) {
        this.#checkLater();
        return;
      }
      const waiting = this.#sentListeners;
      this.#sentListeners = [];
      for (const listener of waiting) listener();
    }, checkEveryMs);
  }

  /** Nothing of any stream is queued here or in the kernel. */
  get hasDeliveredAll(): boolean {
    return (this.#session.state.outboundQueueSize ?? 0) === 0 && unackedBytes(this.#socket) === 0;
  }

  /**
   * After a stream was cut: nothing takes back what the connection was handed of it. Either the caller's kernel acknowledges all of
   * that within a moment, or the connection is reset, and with it the caller's other streams.
   * @returns settles when no byte that was written before can leave this machine
   */
  cutsFinished(): Promise<void> {
    return this.#cuts.finished();
  }

  #ping(): void {
    if (this.#isPinging || this.#session.destroyed) return;
    this.#isPinging = this.#session.ping(() => {
      this.#isPinging = false;
    });
  }

  /** Nothing new is taken; it ends behind its last stream. */
  goAway(): void {
    if (this.#isGoingAway || this.#session.destroyed) return;
    this.#isGoingAway = true;
    this.#session.close();
  }

  closeIdle(): void {
    this.goAway();
  }

  destroyUnlessTaken(): void {
    this.#session.destroy(undefined, constants.NGHTTP2_NO_ERROR);
    // Node leaves the socket of a session that was closing to the caller; `destroy` waits for a caller that takes nothing.
    setTimeout(() => this.outlet.close(), cutWithinMs);
  }
}
