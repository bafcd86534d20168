/**
 * HTTP/1.1 upstream: a pool of kept connections to one origin, one call at a time on each.
 *
 * A connection goes back only when request and answer were complete and nothing came behind the answer; anything else ends it, so
 * that no answer is ever taken for that of another request. Idle connections end before the upstream would end them. Time
 * is the clock's, however seldom a busy process gets to look at it: ten times a second, and whenever a kept connection is to be used.
 * So a call costs no timer.
 */
import { connect as connectPlain, type NetConnectOpts } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { LinkedList } from "../enforce/intrusive-list.ts";
import { WritableValues } from "../message/header-values.ts";
import {
  type UpstreamCall,
  UpstreamClosedError,
  type UpstreamHandler,
  type UpstreamPool,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { readBuffer } from "./read-buffer.ts";
import { Http1Call, lookEveryMs } from "./upstream-call.ts";
import { Http1UpstreamConnection } from "./upstream-connection.ts";

export type UpstreamAddress = Readonly<{
  secure: boolean;
  /** Of a Unix domain socket, in place of host and port; null: there is none. */
  path: string | null;
  hostname: string;
  port: number;
  lookup: NonNullable<ConnectionOptions["lookup"]>;
  tls: ConnectionOptions;
}>;

/** Where to connect, as `node:net` and `node:tls` take it. */
export function placeOf({ path, hostname: host, port, lookup }: UpstreamAddress): ConnectionOptions & NetConnectOpts {
  return path === null ? { host, port, lookup } : { path };
}

export type PoolLimits = Readonly<{
  connectionsMax: number;
  connectTimeoutMs: number;
  /** How long an idle connection is kept when the upstream does not say. */
  idleMs: number;
}>;

export class Http1Pool implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #idle: Http1UpstreamConnection[] = [];
  readonly #all = new Set<Http1UpstreamConnection>();
  /** In the order in which they came. */
  readonly #waiting = new LinkedList<Http1Call>();
  #waitingCalls = 0;
  #calls = 0;
  #looking: NodeJS.Timeout | undefined;
  closed = false;
  #freeing = false;
  /** What the clock said when it was looked at last. */
  now = 0;
  readonly writable = new WritableValues();

  constructor(address: UpstreamAddress, limits: PoolLimits) {
    this.#address = address;
    this.#limits = limits;
  }

  get busy(): number {
    return this.#calls;
  }
  get waiting(): number {
    return this.#waitingCalls;
  }
  get isFull(): boolean {
    return this.#idle.length === 0 && this.#all.size >= this.#limits.connectionsMax;
  }

  /** HTTP/1.1 has no words for it. */
  get refusesUnread(): boolean {
    return false;
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall {
    const call = new Http1Call(this, request, handler);
    this.#calls++;
    if (failed === undefined) this.#place(call);
    else this.#placeOnFresh(call);
    return call;
  }

  /** Where one kept connection was closed, others may be: an idle one gives way where there may be no more of them. */
  #placeOnFresh(call: Http1Call): void {
    if (this.#all.size < this.#limits.connectionsMax) {
      this.#open(call);
      return;
    }
    this.#waiting.push(call);
    this.#waitingCalls++;
    this.#idle.shift()?.destroy();
  }

  #place(call: Http1Call): void {
    const kept = this.#takeIdle();
    if (kept !== undefined) kept.reserve(call);
    else if (this.#all.size < this.#limits.connectionsMax) this.#open(call);
    else {
      this.#waiting.push(call);
      this.#waitingCalls++;
    }
  }

  close(): void {
    this.closed = true;
    clearInterval(this.#looking);
    for (const call of this.#waiting.items()) call.fail(notUsed(), false);
    for (const connection of this.#all) connection.destroy();
  }

  #takeIdle(): Http1UpstreamConnection | undefined {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined || connection.usable) return connection;
    }
  }

  #open(call: Http1Call): void {
    const { secure, tls } = this.#address;
    const common = { ...placeOf(this.#address), noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
    const onread = { buffer: readBuffer.bytes, callback: (bytes: number) => connection.received(bytes) };
    const socket = secure ? connectTls({ ...common, ...tls }) : connectPlain({ ...common, onread });
    const connection: Http1UpstreamConnection = new Http1UpstreamConnection(
      this,
      socket,
      secure ? "secureConnect" : "connect",
      call,
    );
    this.#all.add(connection);
    if (this.#looking !== undefined) return;
    this.now = performance.now();
    // A look comes behind what has arrived: an answer that was there in time is not taken for one that never came.
    this.#looking = setInterval(() => setImmediate(this.#look), lookEveryMs).unref();
  }

  readonly #look = (): void => {
    this.now = performance.now();
    for (const connection of this.#all) connection.look(this.now);
    if (this.#all.size > 0) return;
    clearInterval(this.#looking);
    this.#looking = undefined;
  };

  get connectTimeoutMs(): number {
    return this.#limits.connectTimeoutMs;
  }
  get idleMs(): number {
    return this.#limits.idleMs;
  }

  // --- for connections and calls

  /** Its connection broke before anything of it was written: another one is as good, whatever it asks for. */
  again(call: Http1Call): void {
    if (this.closed) {
      call.fail(notUsed(), false);
      return;
    }
    call.connection = undefined;
    this.#place(call);
  }

  done(call: Http1Call): void {
    this.#calls--;
    if (call.connection === undefined) this.#leaveQueue(call);
  }

  /** A call that may not begin frees the connection at once; however many of them wait, each is over before the next one's turn. */
  free(connection: Http1UpstreamConnection): void {
    this.#idle.push(connection);
    if (this.#freeing || this.#waitingCalls === 0) return;
    this.#freeing = true;
    try {
      while (this.#idle.length > 0) {
        const next = this.#nextWaiting();
        if (next === undefined) break;
        this.#idle.pop()?.begin(next);
      }
    } finally {
      this.#freeing = false;
    }
  }

  gone(connection: Http1UpstreamConnection): void {
    this.#all.delete(connection);
    const at = this.#idle.lastIndexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.closed) return;
    const next = this.#nextWaiting();
    if (next !== undefined) this.#open(next);
  }

  #nextWaiting(): Http1Call | undefined {
    const call = this.#waiting.first;
    if (call !== undefined) this.#leaveQueue(call);
    return call;
  }

  #leaveQueue(call: Http1Call): void {
    this.#waiting.remove(call);
    this.#waitingCalls--;
  }
}

function notUsed(): UpstreamClosedError {
  return new UpstreamClosedError("the upstream is not used any more");
}
