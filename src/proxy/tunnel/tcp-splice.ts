/**
 * TCP splice: carries one permitted CONNECT by joining two streams of bytes.
 *
 * The upstream is connected first, and only then is the caller told yes. After that bytes are copied as they come, each side held
 * back when the other is slow, and the lease is compared on every chunk. A side that has said all it has to say (FIN) is passed on
 * as just that; a side that broke off breaks the other off, so that nobody takes half of something for the whole. A cut
 * breaks both off at once, however much waits to be read.
 */
import { connect, Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import type { Exchange } from "../enforce/exchanges.ts";
import { guardSocket, resetSocket } from "../enforce/send-queue-socket.ts";
import type { ForwardFailure } from "../forward/http-forwarder.ts";
import type { Downstream, DownstreamTunnel } from "../message/downstream-request.ts";
import { UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import type { Acceptance } from "../routing/tunnel-request.ts";
import type { UpstreamTarget } from "../upstream/connection-pools.ts";
import { contain, contained, endByFault } from "./error-boundary.ts";

export type TunnelJob = Readonly<{
  downstream: Downstream;
  exchange: Exchange;
  target: UpstreamTarget;
  acceptance: Acceptance;
  requestId: string;
  connectTimeoutMs: number;
  /** Without a byte in either direction; 0: no limit. */
  idleTimeoutMs: number;
  /** For the access log: to the caller, and from it. */
  counted: { bytes: number; bytesReceived: number };
  /** Nothing was answered yet: the caller of the tunnel answers. */
  onFailed: (failure: ForwardFailure) => void;
  /** Something of ours threw; the tunnel ends. */
  onFault: (error: unknown) => void;
}>;

export function tunnelTcp(_permit: Permit, job: TunnelJob): void {
  const { exchange, downstream } = job;
  if (!beginTunnel(job)) return;
  const { hostname: host, port, lookup } = job.target.connect;
  const common = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
  const upstream = connect({ host, port, lookup, allowHalfOpen: true, ...common });
  const end = endByFault(job.onFault, fail, () => {
    breakOff(upstream);
    downstream.destroy();
  });
  contain(upstream, end);
  let settled = false;
  const late = (): void => {
    fail({ type: "error", error: new UpstreamConnectTimeoutError("the upstream did not accept a connection in time") });
  };
  const timer = setTimeout(contained(late, end), job.connectTimeoutMs);

  function settle(): boolean {
    if (settled) return false;
    settled = true;
    clearTimeout(timer);
    return true;
  }
  function fail(failure: ForwardFailure): boolean {
    if (!settle()) return false;
    upstream.destroy();
    if (failure.type === "error") job.target.report?.({ type: "local" });
    job.onFailed(failure);
    return true;
  }
  exchange.attach((reason) => void fail({ type: "cut", reason }));
  downstream.onClose(() => {
    if (settle()) upstream.destroy();
  });
  upstream.on("error", (error) => fail({ type: "error", error }));
  upstream.once("connect", () => {
    if (settled || !exchange.mayCarry()) return; // a cut has failed it
    settle();
    guardSocket(upstream);
    job.target.report?.({ type: "answered", status: 200 });
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    contain(stream, end);
    new TcpSplice(job, stream, upstream).begin({ head });
  });
}

/** What every tunnel begins with. @returns false when it was answered already */
export function beginTunnel({ target, downstream, exchange, onFailed }: TunnelJob): boolean {
  if (target.upgrades.busy >= target.limits.streams) {
    onFailed({ type: "busy" });
    return false;
  }
  target.upgrades.busy++;
  downstream.onClose(() => {
    target.upgrades.busy--;
    exchange.close();
  });
  if (exchange.mayCarry()) return true;
  onFailed({ type: "cut", reason: exchange.cutReason ?? "stale" });
  return false;
}

export class TcpSplice {
  readonly #job: TunnelJob;
  readonly #client: DownstreamTunnel["stream"];
  readonly #upstream: Socket;

  constructor(job: TunnelJob, client: DownstreamTunnel["stream"], upstream: Socket) {
    this.#job = job;
    this.#client = client;
    this.#upstream = upstream;
  }

  /** @param early what either side has said already */
  begin({ head, upstreamHead }: Readonly<{ head: Buffer; upstreamHead?: Buffer }>): void {
    const { exchange, idleTimeoutMs, downstream } = this.#job;
    const client = this.#client;
    const upstream = this.#upstream;
    const breakOffClient = (): void => {
      if (client instanceof Socket) breakOff(client);
      else downstream.destroy();
    };
    exchange.attach((reason) => {
      breakOff(upstream);
      if (!(client instanceof Socket)) return downstream.cut(reason);
      breakOff(client);
    });
    if (exchange.cutReason !== undefined) return;
    downstream.bindExchange(exchange);

    client.on("error", ignore); // `close` follows
    client.once("close", () => leave(client, upstream, () => breakOff(upstream)));
    upstream.once("close", () => leave(upstream, client, breakOffClient));
    if (idleTimeoutMs > 0) client.setTimeout(idleTimeoutMs, breakOffClient);

    if (upstreamHead !== undefined && upstreamHead.length > 0) this.#toClient(upstreamHead);
    if (head.length > 0) this.#toUpstream(head);
    client.on("data", (chunk: Buffer) => this.#toUpstream(chunk));
    upstream.on("data", (chunk: Buffer) => this.#toClient(chunk));
    client.on("drain", () => upstream.resume());
    upstream.on("drain", () => client.resume());
    client.once("end", () => upstream.end());
    upstream.once("end", () => client.end());
    if (!upstream.writableNeedDrain) client.resume();
    if (!client.writableNeedDrain) upstream.resume();
  }

  #toClient(chunk: Buffer): void {
    if (!this.#job.exchange.mayCarry()) return;
    this.#job.counted.bytes += chunk.length;
    if (!this.#client.write(chunk)) this.#upstream.pause();
  }

  #toUpstream(chunk: Buffer): void {
    if (!this.#job.exchange.mayCarry()) return;
    this.#job.counted.bytesReceived += chunk.length;
    if (!this.#upstream.write(chunk)) this.#client.pause();
  }
}

/** One side is gone. What it had sent in full still reaches the other; what it can no longer hear is not waited for. */
function leave(gone: DownstreamTunnel["stream"], other: DownstreamTunnel["stream"], breakOffOther: () => void): void {
  if (!gone.readableEnded) breakOffOther();
  else if (!other.readableEnded) other.end(() => other.destroy());
}

/** With a reset: an end would look as if everything had been said, and what the kernel holds would still leave. */
export function breakOff(socket: Socket): void {
  resetSocket(socket);
}

function ignore(): void {}
