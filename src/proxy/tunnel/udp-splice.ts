/**
 * UDP splice: carries one permitted CONNECT-UDP between a stream of capsules and a socket of its own.
 *
 * The socket is connected, so that nobody but the upstream is heard. Datagrams are passed on or dropped, never kept: when the caller
 * does not read, or the system does not send, what comes is dropped and counted. The lease is compared on every datagram. The tunnel
 * ends with the caller's stream, or when what comes on it is no capsules.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { type LookupFunction, Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import type { ForwardFailure } from "../forward/http-forwarder.ts";
import type { DownstreamTunnel } from "../message/downstream-request.ts";
import { UpstreamConnectTimeoutError } from "../message/upstream-call.ts";
import type { DropReason } from "../observe/http-metrics.ts";
import { CapsuleReader, datagramCapsule } from "./datagram-capsules.ts";
import { contain, contained, endByFault } from "./error-boundary.ts";
import { beginTunnel, breakOff, type TunnelJob } from "./tcp-splice.ts";

export type UdpTunnelJob = TunnelJob &
  Readonly<{ onDropped: (reason: DropReason) => void; onBroken: (reason: string) => void }>;

/** Waiting in the process for the system to take them. */
const sendQueueBytesMax = 1_048_576;
/** What fits an IPv4 packet; IPv6 takes a little more, and the system says so. */
const payloadBytesMax = 65_507;

export function tunnelUdp(_permit: Permit, job: UdpTunnelJob): void {
  const { exchange, downstream } = job;
  if (!beginTunnel(job)) return;
  let upstream: UdpSocket | undefined;
  let settled = false;
  const end = endByFault(job.onFault, fail, () => {
    if (upstream !== undefined) closeSocket(upstream);
    downstream.destroy();
  });
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
    upstream?.close();
    if (failure.type === "error") job.target.report?.({ type: "local" });
    job.onFailed(failure);
    return true;
  }
  exchange.attach((reason) => void fail({ type: "cut", reason }));
  downstream.onClose(() => {
    if (settle()) upstream?.close();
  });
  const opened: Opened = (error, socket) => {
    if (settled) {
      socket?.close();
      return;
    }
    if (socket === undefined) {
      fail({ type: "error", error });
      return;
    }
    upstream = socket;
    contain(socket, end);
    if (!exchange.mayCarry()) return; // a cut has failed it
    settle();
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    contain(stream, end);
    splice(job, { stream, head }, socket);
  };
  openSocket(job.target.connect, contained(opened, end));
}

type Opened = (error: unknown, socket?: UdpSocket) => void;
type Address = Readonly<{ hostname: string; port: number; lookup: LookupFunction }>;

/** @param done with a socket that hears nobody but the upstream, or with what went wrong */
function openSocket({ hostname, port, lookup }: Address, done: Opened): void {
  lookup(hostname, { all: false }, (error, address, family) => {
    if (error !== null || typeof address !== "string") {
      done(error);
      return;
    }
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    socket.once("error", done);
    socket.once("connect", () => {
      socket.off("error", done);
      socket.on("error", ignore); // a port that nobody listens on may be listened on in a moment
      done(null, socket);
    });
    socket.connect(port, address);
  });
}

function splice(job: UdpTunnelJob, { stream, head }: DownstreamTunnel, upstream: UdpSocket): void {
  const { exchange, downstream, counted, idleTimeoutMs } = job;
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    closeSocket(upstream);
  };
  const giveUp = (): void => {
    close();
    if (stream instanceof Socket) breakOff(stream);
    else downstream.destroy();
  };
  exchange.attach((reason) => {
    close();
    if (!(stream instanceof Socket)) return downstream.cut(reason);
    breakOff(stream);
  });
  if (exchange.cutReason !== undefined) return;
  downstream.bindExchange(exchange);

  const capsules = new CapsuleReader((payload) => {
    if (!open || !exchange.mayCarry()) return;
    if (payload.length > payloadBytesMax) job.onDropped("too-large");
    else if (upstream.getSendQueueSize() > sendQueueBytesMax) job.onDropped("slow-upstream");
    else {
      counted.bytesReceived += payload.length;
      upstream.send(payload, ignore);
    }
  });
  const take = (bytes: Buffer): void => {
    if (!open || !exchange.mayCarry()) return;
    const read = capsules.take(bytes);
    if (read.type === "broken") {
      job.onBroken(read.reason);
      giveUp();
      return;
    }
    for (let i = 0; i < read.foreign; i++) job.onDropped("context");
  };
  upstream.on("message", (payload) => {
    if (!open || !exchange.mayCarry()) return;
    if (stream.writableNeedDrain) {
      job.onDropped("slow-caller");
      return;
    }
    counted.bytes += payload.length;
    stream.write(datagramCapsule(payload));
  });
  stream.on("error", ignore); // `close` follows
  stream.once("close", close);
  stream.once("end", () => {
    close();
    stream.end();
  });
  if (idleTimeoutMs > 0) stream.setTimeout(idleTimeoutMs, giveUp);
  stream.on("data", take);
  if (head.length > 0) take(head);
  stream.resume();
}

/** One that is closed already says so by throwing. */
function closeSocket(socket: UdpSocket): void {
  try {
    socket.close();
  } catch {}
}

function ignore(): void {}
