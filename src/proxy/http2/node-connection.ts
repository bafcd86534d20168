/**
 * HTTP/2 connection on `node:http2`: the streams of one caller, each a downstream of its own. Used where
 * `http2_connections` is `node`.
 *
 * - Bounded: concurrent requests, the size of heads, and the rate at which a caller cancels requests. A caller that
 *   exceeds a bound loses the connection (GOAWAY).
 * - Time is bounded for requests that arrive slowly and for a connection without requests.
 */

import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { queuedHere, unackedBytes } from "../enforce/send-queue-socket.ts";
import { cutWithinMs, SocketOutlet, StreamCuts } from "../http1/outlet-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import type { ConnectionPeer } from "../message/peer.ts";
import { NodeHttp2Downstream } from "./node-downstream.ts";

const streamsMax = 128;
const headListBytesMax = 131_072;
/** A window large enough for an upload over a long way, small enough that 128 of them fit. */
const windowBytes = 262_144;
/** For all streams of a connection together; HTTP/2 begins with 64 KiB, however large theirs are (RFC 9113 §6.9.2). */
const connectionWindowBytes = 1_048_576;
const endOfStream = 0x1;
/** How long a caller that has received everything may take to end its side, as for HTTP/1 (http1/connection.ts). */
const lingerMs = 5_000;
/** How often the queue is checked for what has not left this process. */
const checkEveryMs = 5;

export class NodeHttp2Connection {
  readonly caller: ConnectionPeer;
  readonly outlet: SocketOutlet;
  readonly #session: ServerHttp2Session;
  readonly #owner: ConnectionOwner;
  readonly #receiving = new Map<NodeHttp2Downstream, number>();
  readonly #socket: Socket;
  readonly #cuts: StreamCuts;
  #isPinging = false;
  #openStreams = 0;
  #idleSince: number;
  #isGoingAway = false;
  /** When a caller that does not end its side is disconnected; Infinity: no deadline. */
  #lingersUntil = Infinity;
  /** Called when everything that was written has left this process. */
  #sentListeners: (() => void)[] = [];
  /** Responses that are complete on this side, and since when. */
  readonly #endedAt = new Map<NodeHttp2Downstream, number>();
  /** Bytes that the system had not taken at the last sweep, and since when their number is unchanged. */
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
      maxHeaderListPairs: 1_100, // more than `canonicalise` accepts, so that it sees what it refuses
      strictFieldWhitespaceValidation: false, // otherwise nghttp2 silently drops such a line; `canonicalise` refuses it
      strictSingleValueFields: false, // otherwise two lines of one name, which an upstream may write, would throw
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
    socket.once("end", () => socket.destroy()); // a caller that ends its side counts as gone
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    const exchange = new NodeHttp2Downstream(this, stream, raw, (flags & endOfStream) !== 0);
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

  /** This side has ended in order, the caller's has not: a reset would take from it what it has not read. */
  get lingering(): boolean {
    return this.#session.closed && this.#openStreams === 0 && !this.#socket.destroyed;
  }

  /** Ends what is slow or idle. */
  sweep(now: number): void {
    if (this.lingering) {
      if (this.#lingersUntil === Infinity) this.#lingersUntil = now + lingerMs;
      else if (this.#lingersUntil <= now) this.#socket.destroy();
      return;
    }
    for (const [exchange, until] of this.#receiving) {
      // Once a response has begun both sides may send within the route's own bounds.
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

  /** A caller that reads nothing is idle, however much is queued for it. */
  #sweepUnread(now: number): void {
    const { idleMs } = this.#owner;
    for (const [exchange, since] of this.#endedAt) if (now - since >= idleMs) exchange.destroy();
    const bytes = queuedHere(this.#socket);
    if (bytes === 0 || bytes !== this.#stuck.bytes) this.#stuck = { bytes, since: now };
    else if (now - this.#stuck.since >= idleMs) this.#socket.destroy();
  }

  /** The end of a response was written. */
  trackEnd(exchange: NodeHttp2Downstream): void {
    this.#endedAt.set(exchange, this.#owner.now());
  }

  /** Calls the listener when everything that was written has left this process, or the connection is gone. */
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
   * After a stream was cut: what was written of it cannot be taken back. Either the caller's kernel acknowledges all
   * of that shortly, or the connection is reset, and with it the caller's other streams.
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

  /** Accepts no new stream; ends after the last one. */
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
    // Node leaves the socket of a session that was closing to the caller; `destroy` waits for a caller that takes
    // nothing.
    setTimeout(() => this.outlet.close(), cutWithinMs);
  }
}
