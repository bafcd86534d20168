/**
 * HTTP/2 upstream pool: calls as streams of a few connections to one origin.
 *
 * A call gets the connection with the fewest streams. One is opened when none has room, up to the limit; a call beyond
 * that waits. Connections that are going away count towards the limit, but one that takes calls may always exist.
 */

import type { TLSSocket } from "node:tls";
import type { PoolLimits, UpstreamAddress } from "../http1/upstream-pool.ts";
import { HeaderValueCheck } from "../message/header-values.ts";
import {
  type UpstreamCall,
  UpstreamClosedError,
  type UpstreamHandler,
  type UpstreamPool,
  type UpstreamRequest,
} from "../message/upstream-call.ts";
import { ResponseNames } from "./hpack/response-names.ts";
import { Http2UpstreamCall, notRetryable, type SentFields } from "./upstream-call.ts";
import { Http2UpstreamConnection } from "./upstream-connection.ts";

/** A connection has ids for 2^30. */
const callsPerConnectionMax = 2 ** 29;

export type Http2PoolOptions = Readonly<{
  /** Calls of one connection before another replaces it. */
  callsMax?: number;
  /**
   * Receives the calls of the pool when a new connection of it has chosen another protocol than HTTP/2. Undefined: the
   * address offers no other.
   */
  onHttp1Chosen?: (calls: readonly Http2UpstreamCall[]) => void;
  /** The upstream wants a request over HTTP/1.1 (HTTP_1_1_REQUIRED). */
  onHttp1Required?: () => void;
}>;

export class Http2Pool implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #options: Http2PoolOptions;
  readonly #connections = new Set<Http2UpstreamConnection>();
  /** In order of arrival. */
  readonly #waiting = new Set<Http2UpstreamCall>();
  /** The upstream's last limit of concurrent streams: the next connection starts with it. Null: none was stated. */
  #streamsMax: number | null = null;
  #isAssigning = false;
  #calls = 0;
  readonly #sent: SentFields = { names: new ResponseNames(), values: new HeaderValueCheck() };

  constructor(address: UpstreamAddress, limits: PoolLimits, options: Http2PoolOptions = {}) {
    this.#address = address;
    this.#limits = limits;
    this.#options = options;
  }

  get busy(): number {
    return this.#calls;
  }
  get waiting(): number {
    return this.#waiting.size;
  }
  get isFull(): boolean {
    return !this.#mayOpen && this.#connectionWithRoom() === undefined;
  }
  get reportsUnprocessed(): boolean {
    return true;
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall {
    const call = new Http2UpstreamCall(request, handler, this.#sent, () => {
      this.#calls--;
      this.#waiting.delete(call);
    });
    this.#calls++;
    const connection = this.#connectionFor(failed instanceof Http2UpstreamCall ? failed.connection : undefined);
    if (connection === undefined) this.#waiting.add(call);
    else connection.add(call);
    return call;
  }

  /** Uses a connection that has just been opened and has chosen HTTP/2; closes it if no more may be open. */
  adopt(socket: TLSSocket): void {
    if (this.#mayOpen) this.#open(socket);
    else socket.destroy();
  }

  close(): void {
    for (const call of this.#waiting)
      call.fail(new UpstreamClosedError("the upstream is no longer in use"), notRetryable);
    for (const connection of this.#connections) connection.destroy();
  }

  get #mayOpen(): boolean {
    for (const each of this.#connections) if (each.acceptsNone) return false;
    if (this.#connections.size < this.#limits.connectionsMax) return true;
    for (const each of this.#connections) if (each.isOpen) return false;
    return true;
  }

  /** The one with the fewest streams, and of those the oldest. */
  #connectionWithRoom(unlike?: Http2UpstreamConnection): Http2UpstreamConnection | undefined {
    let found: Http2UpstreamConnection | undefined;
    for (const each of this.#connections)
      if (each !== unlike && each.hasRoom && (found === undefined || each.load < found.load)) found = each;
    return found;
  }

  /** @param unlike used only if there can be no other */
  #connectionFor(unlike?: Http2UpstreamConnection): Http2UpstreamConnection | undefined {
    return this.#connectionWithRoom(unlike) ?? (this.#mayOpen ? this.#open() : this.#connectionWithRoom());
  }

  #open(socket?: TLSSocket): Http2UpstreamConnection {
    const { callsMax = callsPerConnectionMax, onHttp1Chosen, onHttp1Required } = this.#options;
    const connection: Http2UpstreamConnection = new Http2UpstreamConnection(
      this.#address,
      { ...this.#limits, callsMax, streamsMax: this.#streamsMax },
      {
        onChange: () => this.#assignWaiting(),
        onStreamsMax: (streams) => {
          this.#streamsMax = Math.max(1, streams);
        },
        onReturned: (calls) => this.#queueFirst(calls),
        onHttp1Chosen:
          onHttp1Chosen === undefined
            ? undefined
            : (calls) => {
                this.#connections.delete(connection);
                onHttp1Chosen([...calls, ...this.#waiting]);
              },
        onHttp1Required: () => onHttp1Required?.(),
        onGone: () => {
          this.#connections.delete(connection);
          this.#assignWaiting();
        },
      },
      socket,
    );
    this.#connections.add(connection);
    return connection;
  }

  /** They were before the calls that wait here. */
  #queueFirst(calls: readonly Http2UpstreamCall[]): void {
    const later = [...this.#waiting];
    this.#waiting.clear();
    for (const call of [...calls, ...later]) {
      call.connection = undefined;
      this.#waiting.add(call);
    }
    this.#assignWaiting();
  }

  /** A call that is assigned may itself make room. */
  #assignWaiting(): void {
    if (this.#isAssigning) return;
    this.#isAssigning = true;
    try {
      for (const call of this.#waiting) {
        const connection = this.#connectionFor();
        if (connection === undefined) break;
        this.#waiting.delete(call);
        connection.add(call);
      }
    } finally {
      this.#isAssigning = false;
    }
  }
}
