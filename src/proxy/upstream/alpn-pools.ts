/**
 * ALPN pools: connections to one upstream that may speak HTTP/2 or HTTP/1.1, over TLS. The upstream chooses (RFC 7301).
 *
 * - Until its choice is known, all calls wait for one connection. Later ones are opened by the pool of the protocol
 *   that was chosen last. Each of them offers both again, so a choice may change, for example with a restart.
 * - A call that nothing was sent of moves to the other pool when its connection has chosen the other protocol. Moved to
 *   HTTP/1.1, it gets a connection that offers nothing else, so no call moves more than twice.
 * - An upstream that requires HTTP/1.1 for one request (HTTP_1_1_REQUIRED) gets no other from then on.
 */
import { connect as connectTls, type TLSSocket } from "node:tls";
import { connectOptionsOf, Http1Pool, type PoolLimits, type UpstreamAddress } from "../http1/upstream-pool.ts";
import { isGrpc } from "../http2/upstream-call.ts";
import { Http2Pool } from "../http2/upstream-pool.ts";
import type { SocketDelivery } from "../message/deliveries.ts";
import {
  type CallFailure,
  handshakeError,
  type UpstreamCall,
  UpstreamClosedError,
  UpstreamConnectTimeoutError,
  type UpstreamHandler,
  type UpstreamPool,
  type UpstreamRequest,
} from "../message/upstream-call.ts";

type Protocol = "http1" | "http2";

const notRetryable: CallFailure = { staleConnection: false, unprocessed: false };

export class AlpnPools implements UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #limits: PoolLimits;
  readonly #http1: Http1Pool;
  readonly #http2: Http2Pool;
  readonly #grpc: Http2Pool;
  /** The upstream's last choice. */
  #chosen: Protocol | undefined;
  /** HTTP/2 is not offered any more. */
  #requiresHttp1 = false;
  /** The connection that will show the choice; undefined: none is being opened. */
  #attempt: TLSSocket | undefined;
  /** Calls that wait for it, in order of arrival. */
  readonly #undecided = new Set<UndecidedCall>();
  /** gRPC over this upstream's connections, or over its own where the upstream has not chosen HTTP/2. */
  readonly grpcPool: UpstreamPool;

  constructor(address: UpstreamAddress, limits: PoolLimits) {
    this.#address = { ...address, tls: { ...address.tls, ALPNProtocols: ["h2", "http/1.1"] } };
    this.#limits = limits;
    this.#http1 = new Http1Pool(this.#address, limits, (calls) => {
      this.#choose("http2");
      for (const call of calls) call.moveTo(this.#http2);
    });
    this.#http2 = new Http2Pool(this.#address, limits, {
      onHttp1Chosen: (calls) => {
        this.#choose("http1");
        for (const call of calls)
          call.moveTo((request, handler) =>
            isGrpc(request.headers.list)
              ? this.#grpc.call(request, handler)
              : this.#http1.callWithoutHttp2(request, handler),
          );
      },
      onHttp1Required: () => {
        this.#requiresHttp1 = true;
        this.#choose("http1");
      },
    });
    this.#grpc = new Http2Pool({ ...address, tls: { ...address.tls, ALPNProtocols: ["h2"] } }, limits);
    this.grpcPool = new GrpcPool(this, () => (this.#chosen === "http2" ? this.#http2 : this.#grpc));
  }

  get busy(): number {
    return this.#http1.busy + this.#http2.busy + this.#grpc.busy + this.#undecided.size;
  }
  get waiting(): number {
    const undecided = Math.max(0, this.#undecided.size - this.#limits.connectionsMax);
    return this.#http1.waiting + this.#http2.waiting + undecided;
  }
  get isFull(): boolean {
    if (this.#chosen === undefined) return this.#undecided.size >= this.#limits.connectionsMax;
    return this.#poolOf(this.#chosen).isFull;
  }
  get reportsUnprocessed(): boolean {
    return this.#chosen !== "http1";
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall {
    if (this.#requiresHttp1) return this.#http1.callWithoutHttp2(request, handler);
    if (this.#chosen !== undefined) return this.#poolOf(this.#chosen).call(request, handler, failed);
    const call = new UndecidedCall(request, handler, () => this.#undecided.delete(call));
    this.#undecided.add(call);
    if (this.#attempt === undefined) this.#open();
    return call;
  }

  close(): void {
    this.#attempt?.destroy();
    this.#failUndecided(new UpstreamClosedError("the upstream is no longer in use"));
    for (const pool of [this.#http1, this.#http2, this.#grpc]) pool.close();
  }

  #poolOf(protocol: Protocol): Http1Pool | Http2Pool {
    return protocol === "http1" ? this.#http1 : this.#http2;
  }

  #choose(protocol: Protocol): void {
    this.#chosen = this.#requiresHttp1 ? "http1" : protocol;
  }

  /** Opens the connection that shows what the upstream chooses. */
  #open(): void {
    const common = {
      ...connectOptionsOf(this.#address),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    };
    const socket = connectTls({ ...common, ...this.#address.tls });
    this.#attempt = socket;
    let failure: Error | undefined;
    const timer = setTimeout(() => {
      failure = new UpstreamConnectTimeoutError("the upstream took too long to connect");
      socket.destroy();
    }, this.#limits.connectTimeoutMs);
    const onError = (error: Error): void => {
      failure ??= error;
    };
    const onClose = (): void => {
      clearTimeout(timer);
      this.#attempt = undefined;
      this.#failUndecided(handshakeError(failure ?? new UpstreamClosedError("the upstream closed the connection")));
    };
    socket.on("error", onError);
    socket.on("close", onClose);
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      this.#attempt = undefined;
      this.#choose(socket.alpnProtocol === "h2" ? "http2" : "http1");
      this.#assignUndecided(socket);
      socket.off("error", onError);
      socket.off("close", onClose);
    });
  }

  /** The first call over HTTP/1.1 gets the connection; over HTTP/2 they share it. */
  #assignUndecided(socket: TLSSocket): void {
    const calls = [...this.#undecided];
    const [first] = calls;
    if (socket.alpnProtocol === "h2") this.#http2.adopt(socket);
    else if (first === undefined) socket.destroy(); // its calls were aborted
    for (const call of calls)
      call.moveTo((request, handler) =>
        call === first && socket.alpnProtocol !== "h2"
          ? this.#http1.callOn(socket, request, handler)
          : this.#poolOf(this.#chosen ?? "http1").call(request, handler),
      );
  }

  #failUndecided(error: Error): void {
    for (const call of [...this.#undecided]) call.fail(error);
  }
}

/** A call that waits until the protocol of its upstream is known. Nothing of it was sent. */
class UndecidedCall implements UpstreamCall {
  readonly reads = Number.NaN;
  readonly #request: UpstreamRequest;
  readonly #handler: UpstreamHandler;
  readonly #done: () => void;
  #isEnded = false;
  /** The call that replaces it. */
  #moved: UpstreamCall | undefined;

  constructor(request: UpstreamRequest, handler: UpstreamHandler, done: () => void) {
    this.#request = request;
    this.#handler = handler;
    this.#done = done;
  }

  moveTo(start: (request: UpstreamRequest, handler: UpstreamHandler) => UpstreamCall): void {
    if (this.#finish()) this.#moved = start(this.#request, this.#handler);
  }

  fail(error: Error): void {
    if (this.#finish()) this.#handler.onError(error, notRetryable);
  }

  abort(): void {
    if (this.#moved !== undefined) this.#moved.abort();
    else this.#finish();
  }

  // Its handler gets the call that replaces it before it may write (`maySend`).
  write(): boolean {
    return true;
  }
  end(): void {}
  resume(): void {}
  unsent(): SocketDelivery | undefined {
    return this.#moved?.unsent();
  }
  discardUnsent(): Promise<void> | undefined {
    return this.#moved?.discardUnsent();
  }

  #finish(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    this.#done();
    return true;
  }
}

/** gRPC calls, which are HTTP/2 or nothing. */
class GrpcPool implements UpstreamPool {
  readonly #all: Pick<UpstreamPool, "busy">;
  readonly #pool: () => Http2Pool;

  /** @param pool returns the pool for the next call */
  constructor(all: Pick<UpstreamPool, "busy">, pool: () => Http2Pool) {
    this.#all = all;
    this.#pool = pool;
  }

  get busy(): number {
    return this.#all.busy;
  }
  get waiting(): number {
    return this.#pool().waiting;
  }
  get isFull(): boolean {
    return this.#pool().isFull;
  }
  get reportsUnprocessed(): boolean {
    return true;
  }

  call(request: UpstreamRequest, handler: UpstreamHandler, failed?: UpstreamCall): UpstreamCall {
    return this.#pool().call(request, handler, failed);
  }

  close(): void {}
}
