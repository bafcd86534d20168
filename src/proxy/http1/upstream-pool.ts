/**
 * HTTP/1.1 upstream pool: kept connections to one origin, one call at a time on each.
 *
 * - A connection returns to the pool only when request and response were complete and nothing followed the response.
 * - Idle connections end before the upstream would end them.
 * - Time-outs are checked ten times a second, and whenever a kept connection is about to be used, so a call needs no
 *   timer.
 */
import { connect as connectPlain, type NetConnectOpts } from "node:net";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { LinkedList } from "../enforce/intrusive-list.ts";
import { HeaderValueCheck } from "../message/header-values.ts";
import {
  type UpstreamCall,
  UpstreamClosedError,
  type UpstreamHandler,
  type UpstreamPool,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { readBuffer } from "./read-buffer.ts";
import { checkEveryMs, Http1UpstreamCall } from "./upstream-call.ts";
import { Http1UpstreamConnection } from "./upstream-connection.ts";

export type UpstreamAddress = Readonly<{
  secure: boolean;
  /** Path of a Unix domain socket, instead of host and port; null: TCP. */
  path: string | null;
  hostname: string;
  port: number;
  lookup: NonNullable<ConnectionOptions["lookup"]>;
  tls: ConnectionOptions;
  /** What speaks HTTP/2 with it: `cardea` if undefined. */
  http2Connections?: "cardea" | "node";
}>;

/** The address as options of `node:net` and `node:tls`. */
export function connectOptionsOf({
  path,
  hostname: host,
  port,
  lookup,
}: UpstreamAddress): ConnectionOptions & NetConnectOpts {
  return path === null ? { host, port, lookup } : { path };
}

export type PoolLimits = Readonly<{
  connectionsMax: number;
  connectTimeoutMs: number;
  /** How long an idle connection is kept if the upstream does not say. */
  idleMs: number;
}>;

/** Receives the calls of a pool when a new connection of it has chosen HTTP/2 by ALPN. */
export type OnHttp2Chosen = (calls: readonly Http1UpstreamCall[]) => void;

export class Http1Pool implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #onHttp2Chosen: OnHttp2Chosen | undefined;
  readonly #idle: Http1UpstreamConnection[] = [];
  readonly #connections = new Set<Http1UpstreamConnection>();
  /** In order of arrival. */
  readonly #waiting = new LinkedList<Http1UpstreamCall>();
  #waitingCalls = 0;
  #calls = 0;
  #checkTimer: NodeJS.Timeout | undefined;
  isClosed = false;
  /** The last reading of the clock, monotonic ms. */
  now = 0;
  readonly headerValues = new HeaderValueCheck();

  /** @param onHttp2Chosen undefined: the address does not offer HTTP/2 */
  constructor(address: UpstreamAddress, limits: PoolLimits, onHttp2Chosen?: OnHttp2Chosen) {
    this.#address = address;
    this.#limits = limits;
    this.#onHttp2Chosen = onHttp2Chosen;
  }

  get busy(): number {
    return this.#calls;
  }
  get waiting(): number {
    return this.#waitingCalls;
  }
  get isFull(): boolean {
    return this.#idle.length === 0 && this.#connections.size >= this.#limits.connectionsMax;
  }

  /** HTTP/1.1 cannot express it. */
  get reportsUnprocessed(): boolean {
    return false;
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall {
    const call = new Http1UpstreamCall(this, request, handler);
    this.#calls++;
    if (failed === undefined) this.#assign(call);
    else this.#assignFresh(call);
    return call;
  }

  /** Sends a call over a connection that has just been opened and has chosen HTTP/1.1. */
  callOn(socket: TLSSocket, request: UpstreamRequest, handler: UpstreamHandler): UpstreamCall {
    const call = new Http1UpstreamCall(this, request, handler);
    this.#calls++;
    this.#add(new Http1UpstreamConnection(this, socket, "begin", call)).begin();
    return call;
  }

  /** Sends a call over a connection that offers HTTP/1.1 alone. */
  callWithoutHttp2(request: UpstreamRequest, handler: UpstreamHandler): UpstreamCall {
    const call = new Http1UpstreamCall(this, request, handler);
    call.refusesHttp2 = true;
    this.#calls++;
    this.#assign(call);
    return call;
  }

  /** If one kept connection was closed, others may be: an idle one is closed for a new one at the limit. */
  #assignFresh(call: Http1UpstreamCall): void {
    if (this.#connections.size < this.#limits.connectionsMax) {
      this.#open(call);
      return;
    }
    this.#waiting.push(call);
    this.#waitingCalls++;
    this.#idle.shift()?.destroy();
  }

  #assign(call: Http1UpstreamCall): void {
    const kept = this.#takeIdle();
    if (kept !== undefined) kept.reserve(call);
    else if (this.#connections.size < this.#limits.connectionsMax) this.#open(call);
    else {
      this.#waiting.push(call);
      this.#waitingCalls++;
    }
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.#checkTimer);
    for (const call of this.#waiting.items()) call.fail(poolClosedError(), false);
    for (const connection of this.#connections) connection.destroy();
  }

  #takeIdle(): Http1UpstreamConnection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.isUsable) return connection;
    }
  }

  #open(call: Http1UpstreamCall): void {
    const { secure } = this.#address;
    const tls = call.refusesHttp2 ? { ...this.#address.tls, ALPNProtocols: ["http/1.1"] } : this.#address.tls;
    const common = {
      ...connectOptionsOf(this.#address),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    };
    const onread = { buffer: readBuffer.bytes, callback: (bytes: number) => connection.onReadBuffer(bytes) };
    const socket = secure ? connectTls({ ...common, ...tls }) : connectPlain({ ...common, onread });
    const connection: Http1UpstreamConnection = new Http1UpstreamConnection(
      this,
      socket,
      secure ? "secureConnect" : "connect",
      call,
    );
    this.#add(connection);
  }

  #add(connection: Http1UpstreamConnection): Http1UpstreamConnection {
    this.#connections.add(connection);
    if (this.#checkTimer !== undefined) return connection;
    this.now = performance.now();
    // Checks run after what has arrived was read: a response that is here in time does not count as missing.
    this.#checkTimer = setInterval(() => setImmediate(this.#checkAll), checkEveryMs).unref();
    return connection;
  }

  readonly #checkAll = (): void => {
    this.now = performance.now();
    for (const connection of this.#connections) connection.check(this.now);
    if (this.#connections.size > 0) return;
    clearInterval(this.#checkTimer);
    this.#checkTimer = undefined;
  };

  get connectTimeoutMs(): number {
    return this.#limits.connectTimeoutMs;
  }
  get idleMs(): number {
    return this.#limits.idleMs;
  }

  // --- for connections and calls

  /** A new connection has chosen HTTP/2, so the calls that wait for one leave with its call. */
  onHttp2Chosen(call: Http1UpstreamCall | undefined): void {
    const calls = [...this.#waiting.items()];
    this.#onHttp2Chosen?.(call === undefined ? calls : [call, ...calls]);
  }

  /** Its connection broke before anything of it was written, so any other connection will do. */
  reassign(call: Http1UpstreamCall): void {
    if (this.isClosed) {
      call.fail(poolClosedError(), false);
      return;
    }
    call.connection = undefined;
    this.#assign(call);
  }

  onCallDone(call: Http1UpstreamCall): void {
    this.#calls--;
    if (call.connection === undefined) this.#dequeue(call);
  }

  /**
   * The next call starts at the end of the turn: by then it is known whether the upstream closed the connection right
   * behind its response.
   */
  onConnectionIdle(connection: Http1UpstreamConnection): void {
    this.#idle.push(connection);
    while (this.#waitingCalls > 0) {
      const kept = this.#takeIdle();
      const next = kept === undefined ? undefined : this.#nextWaiting();
      if (kept === undefined || next === undefined) return;
      kept.reserve(next);
    }
  }

  onConnectionClosed(connection: Http1UpstreamConnection): void {
    this.#connections.delete(connection);
    const at = this.#idle.lastIndexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.isClosed) return;
    const next = this.#nextWaiting();
    if (next !== undefined) this.#open(next);
  }

  #nextWaiting(): Http1UpstreamCall | undefined {
    const call = this.#waiting.first;
    if (call !== undefined) this.#dequeue(call);
    return call;
  }

  #dequeue(call: Http1UpstreamCall): void {
    this.#waiting.remove(call);
    this.#waitingCalls--;
  }
}

function poolClosedError(): UpstreamClosedError {
  return new UpstreamClosedError("the upstream is no longer in use");
}
