/**
 * HTTP/2 upstream pool: calls as streams of a few connections to one origin, for gRPC and for routes that require it
 * (`h2c://`).
 *
 * A connection is opened when no open one has room, up to the limit; a call beyond that waits. Connections that are
 * going away count towards the limit, but one that takes calls may always exist.
 */

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
import { Http2UpstreamConnection, streamsMaxDefault } from "./upstream-connection.ts";

/** A connection has ids for 2^30. */
const callsPerConnectionMax = 2 ** 29;

export class Http2Pool implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #callsMax: number;
  readonly #connections = new Set<Http2UpstreamConnection>();
  /** In order of arrival. */
  readonly #waiting = new Set<Http2UpstreamCall>();
  /** The upstream's last limit of concurrent streams: the next connection starts with it. */
  #streamsMax = streamsMaxDefault;
  #isAssigning = false;
  #calls = 0;
  readonly #sent: SentFields = { names: new ResponseNames(), values: new HeaderValueCheck() };

  /** @param callsMax calls of one connection before another replaces it */
  constructor(address: UpstreamAddress, limits: PoolLimits, callsMax: number = callsPerConnectionMax) {
    this.#address = address;
    this.#limits = limits;
    this.#callsMax = callsMax;
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

  close(): void {
    for (const call of this.#waiting)
      call.fail(new UpstreamClosedError("the upstream is no longer in use"), notRetryable);
    for (const connection of this.#connections) connection.destroy();
  }

  get #mayOpen(): boolean {
    if (this.#connections.size < this.#limits.connectionsMax) return true;
    for (const each of this.#connections) if (each.isOpen) return false;
    return true;
  }

  /** The newest; older ones empty and end. */
  #connectionWithRoom(unlike?: Http2UpstreamConnection): Http2UpstreamConnection | undefined {
    let found: Http2UpstreamConnection | undefined;
    for (const each of this.#connections) if (each.hasRoom && each !== unlike) found = each;
    return found;
  }

  /** @param unlike used only if there can be no other */
  #connectionFor(unlike?: Http2UpstreamConnection): Http2UpstreamConnection | undefined {
    return this.#connectionWithRoom(unlike) ?? (this.#mayOpen ? this.#open() : this.#connectionWithRoom());
  }

  #open(): Http2UpstreamConnection {
    const connection = new Http2UpstreamConnection(
      this.#address,
      { ...this.#limits, callsMax: this.#callsMax, streamsMax: this.#streamsMax },
      {
        onChange: () => this.#assignWaiting(),
        onStreamsMax: (streams) => {
          this.#streamsMax = Math.max(1, streams);
        },
        onGone: () => {
          this.#connections.delete(connection);
          this.#assignWaiting();
        },
      },
    );
    this.#connections.add(connection);
    return connection;
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
