/**
 * TCP splice: carries one permitted CONNECT by joining two byte streams.
 *
 * - The upstream is connected first. Only then does the caller get a 2xx response.
 * - Bytes are copied as they arrive. A slow side pauses the other. The lease is checked on every chunk.
 * - An end (FIN) is passed on as an end. A reset is passed on as a reset, so no side takes a part for the whole.
 * - A cut resets both sides at once, whatever is still unread.
 */
import { connect, Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import { guardSocket, resetSocket } from "../enforce/send-queue-socket.ts";
import { unsentUpload } from "../http1/outlet-socket.ts";
import type { DownstreamTunnel } from "../message/downstream-request.ts";
import { UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import type { Acceptance } from "../routing/tunnel-request.ts";
import { ConnectAttempt, type ConnectDeadline, type ConnectJob, occupyStream } from "./connect-attempt.ts";
import { guardEmitter } from "./error-boundary.ts";

export type TunnelJob = ConnectJob &
  Readonly<{
    acceptance: Acceptance;
    requestId: string;
    connectTimeoutMs: number;
    /** The longest time without a byte in either direction; 0: no limit. */
    idleTimeoutMs: number;
    /** Bytes for the access log: sent to the caller, and received from it. */
    counted: { bytes: number; bytesReceived: number };
  }>;

/** How long what one side has left behind may wait for the other without progress. */
const leftBehindMsMax = 30_000;

export function tunnelTcp(_permit: Permit, job: TunnelJob): void {
  const { downstream, target } = job;
  if (!occupyStream(job)) return;
  const { hostname: host, port, lookup } = target.connect;
  const common = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
  const upstream = connect({ host, port, lookup, allowHalfOpen: true, ...common });
  const destroy = (): void => {
    resetSocket(upstream);
    downstream.destroy();
  };
  const attempt = new ConnectAttempt(job, { abandon: () => void upstream.destroy(), destroy }, connectDeadline(job));
  guardEmitter(upstream, attempt.abort);
  upstream.on("error", (error) => attempt.fail({ type: "error", error }));
  upstream.once("connect", () => {
    if (!attempt.accept()) return;
    guardSocket(upstream);
    target.report?.({ type: "answered", status: 200 });
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    guardEmitter(stream, attempt.abort);
    new TcpSplice(job, stream, upstream).begin({ head });
  });
}

export function connectDeadline({ connectTimeoutMs }: Pick<TunnelJob, "connectTimeoutMs">): ConnectDeadline {
  const lateError = (): Error => new UpstreamConnectTimeoutError("the upstream did not accept a connection in time");
  return { timeoutMs: connectTimeoutMs, lateError };
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

  /** @param heads bytes that either side sent before the tunnel was open */
  begin(heads: Readonly<{ head: Buffer; upstreamHead?: Buffer }>): void {
    const { head, upstreamHead } = heads;
    const { exchange, idleTimeoutMs, downstream } = this.#job;
    const client = this.#client;
    const upstream = this.#upstream;
    const resetClient = (): void => {
      if (client instanceof Socket) resetSocket(client);
      else downstream.destroy();
    };
    exchange.attach(
      (reason) => {
        exchange.afterCuts(() => resetSocket(upstream));
        if (!(client instanceof Socket)) return downstream.cut(reason);
        resetSocket(client);
      },
      () => this.#keepUnsent(),
    );
    if (exchange.cutReason !== undefined) return;
    downstream.bindExchange(exchange);

    client.on("error", ignore); // `close` follows
    client.once("close", () => leave(client, upstream, () => resetSocket(upstream)));
    upstream.once("close", () => leave(upstream, client, resetClient));
    if (idleTimeoutMs > 0) client.setTimeout(idleTimeoutMs, resetClient);

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

  /** The caller's last bytes may still leave for the upstream when the caller has left. */
  #keepUnsent(): void {
    const unsent = unsentUpload(this.#upstream, () => this.#client.readableEnded);
    if (unsent !== undefined) this.#job.exchange.addUnsent(unsent);
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

/**
 * Passes on that one side has closed. If it had sent everything, the rest is still written to the other side.
 * A side that was cut short resets the other: an end would look like the end of the data.
 */
function leave(gone: DownstreamTunnel["stream"], other: DownstreamTunnel["stream"], resetOther: () => void): void {
  if (!gone.readableEnded) {
    resetOther();
    return;
  }
  if (!other.readableEnded) other.end(() => other.destroy());
  if (other instanceof Socket) other.setTimeout(leftBehindMsMax, resetOther); // it may read nothing
}

function ignore(): void {}
