/** HTTP/1.1 upstream call: one request on its way through a pool, whichever connection it gets. */
import type { Linked } from "../enforce/intrusive-list.ts";
import type { SocketDelivery } from "../message/deliveries.ts";
import type { UpstreamCall, UpstreamHandler, UpstreamPool, UpstreamRequest } from "../message/upstream-call.ts";
import type { Http1UpstreamConnection } from "./upstream-connection.ts";
import type { Http1Pool } from "./upstream-pool.ts";

/** Time-outs are exceeded by at most two of these, or two intervals of a process that is slower. */
export const checkEveryMs = 100;

export class Http1UpstreamCall implements UpstreamCall, Linked<Http1UpstreamCall> {
  /** Links of the pool's list of waiting calls. */
  before: Http1UpstreamCall | undefined;
  after: Http1UpstreamCall | undefined;
  readonly request: UpstreamRequest;
  readonly handler: UpstreamHandler;
  readonly #pool: Http1Pool;
  connection: Http1UpstreamConnection | undefined;
  isEnded = false;
  /** Its head was written. Bytes before that would be taken for a request of their own. */
  isStarted = false;
  requestSent = false;
  sawResponseByte = false;
  reads = 0;
  /** A connection opened for it offers HTTP/1.1 alone. */
  refusesHttp2 = false;
  /** The call of another pool that replaces it. */
  #moved: UpstreamCall | undefined;
  readonly idleMsMax: number;

  constructor(pool: Http1Pool, request: UpstreamRequest, handler: UpstreamHandler) {
    this.#pool = pool;
    this.request = request;
    this.handler = handler;
    this.requestSent = !request.hasBody;
    this.idleMsMax = request.idleTimeoutMs > 0 ? request.idleTimeoutMs : Infinity;
  }

  write(chunk: Buffer): boolean {
    if (!this.isStarted) return false;
    return this.isEnded || this.connection === undefined ? true : this.connection.write(chunk);
  }

  end(trailers: readonly string[] = []): void {
    if (this.isStarted && !this.isEnded && !this.requestSent) this.connection?.endBody(this, trailers);
  }

  resume(): void {
    if (!this.isEnded) this.connection?.resume();
  }

  abort(): void {
    if (this.#moved !== undefined) this.#moved.abort();
    else if (this.finish()) this.connection?.abortCall(this);
  }

  /** Continues in a pool of another protocol. Nothing of it was sent. */
  moveTo(pool: UpstreamPool): void {
    if (this.finish()) this.#moved = pool.call(this.request, this.handler);
  }

  /** A connection whose request was not received in full is reset when the call ends. */
  unsent(): SocketDelivery | undefined {
    return this.#moved?.unsent();
  }

  discardUnsent(): Promise<void> | undefined {
    return this.#moved?.discardUnsent();
  }

  /** @returns false: it had ended already */
  finish(): boolean {
    if (this.isEnded) return false;
    this.isEnded = true;
    this.#pool.onCallDone(this);
    return true;
  }

  fail(error: Error, staleConnection: boolean): void {
    if (this.finish()) this.handler.onError(error, { staleConnection, unprocessed: false });
  }
}
