/**
 * UDP splice: carries one permitted CONNECT-UDP between a stream of capsules and a socket of its own.
 *
 * - The socket is connected, so the system delivers only datagrams of the upstream.
 * - Datagrams are forwarded or dropped, never queued. A drop because of a slow caller or a full send queue is counted.
 * - The lease is checked on every datagram.
 * - The tunnel ends with the caller's stream, or when bytes on it are not a capsule.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { type LookupFunction, Socket } from "node:net";
import type { Permit } from "../../auth/index.ts";
import { resetSocket } from "../enforce/send-queue-socket.ts";
import type { DownstreamTunnel } from "../message/downstream-request.ts";
import type { DropReason } from "../observe/http-metrics.ts";
import { ConnectAttempt, occupyStream } from "./connect-attempt.ts";
import { CapsuleReader, datagramCapsule } from "./datagram-capsules.ts";
import { guardCallback, guardEmitter } from "./error-boundary.ts";
import { connectDeadline, type TunnelJob } from "./tcp-splice.ts";

export type UdpTunnelJob = TunnelJob &
  Readonly<{ onDropped: (reason: DropReason) => void; onBroken: (reason: string) => void }>;

/** Datagrams that the process has passed to the socket and the system has not sent. */
const sendQueueBytesMax = 1_048_576;
/** The largest payload of an IPv4 packet. An IPv6 packet holds slightly more; the system reports an error beyond. */
const payloadBytesMax = 65_507;

export function tunnelUdp(_permit: Permit, job: UdpTunnelJob): void {
  const { downstream, target } = job;
  if (!occupyStream(job)) return;
  let upstream: UdpSocket | undefined;
  const destroy = (): void => {
    if (upstream !== undefined) closeSocket(upstream);
    downstream.destroy();
  };
  const attempt = new ConnectAttempt(job, { abandon: () => upstream?.close(), destroy }, connectDeadline(job));
  const onOpened: Opened = (error, socket) => {
    if (!attempt.isPending) {
      socket?.close();
      return;
    }
    if (socket === undefined) {
      attempt.fail({ type: "error", error });
      return;
    }
    upstream = socket;
    guardEmitter(socket, attempt.abort);
    if (!attempt.accept()) return;
    const { stream, head } = downstream.takeTunnel(job.acceptance.status, job.acceptance.lines);
    guardEmitter(stream, attempt.abort);
    splice(job, { stream, head }, socket);
  };
  openSocket(target.connect, guardCallback(onOpened, attempt.abort));
}

type Opened = (error: unknown, socket?: UdpSocket) => void;
type Address = Readonly<{ hostname: string; port: number; lookup: LookupFunction }>;

/** @param done receives a socket connected to the upstream, or the error */
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
      socket.on("error", ignore); // an unused port may be in use a moment later
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
    if (stream instanceof Socket) resetSocket(stream);
    else downstream.destroy();
  };
  exchange.attach((reason) => {
    close();
    if (!(stream instanceof Socket)) return downstream.cut(reason);
    resetSocket(stream);
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

/** Closing a closed socket throws; that is ignored. */
function closeSocket(socket: UdpSocket): void {
  try {
    socket.close();
  } catch {}
}

function ignore(): void {}
