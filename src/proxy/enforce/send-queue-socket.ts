/**
 * Kernel send queue: what the kernel holds of a TCP connection that its peer has not acknowledged, and how to discard
 * it.
 *
 * - `guardSocket` bounds how far the kernel takes data ahead of the network (TCP_NOTSENT_LOWAT), and makes every close
 *   discard what is left (SO_LINGER with a time of 0): the kernel never sends anything of a connection whose descriptor
 *   is closed.
 * - `unackedBytes` counts what is queued in this process and in the kernel (SIOCOUTQ).
 * - `resetSocket` discards both and closes with a RST.
 *
 * Node has no API for these options, so the C library is called through `node:ffi`
 * (docs/adr/0032-the-kernel-drops-what-is-cut.md). Without it, on another system, with `--no-experimental-ffi` or in a
 * sandbox that refuses one of the calls, the queue has no bound and cannot be read; `resetSocket` works.
 */
import type { Socket } from "node:net";

/** The kernel takes more of a connection only while less than this is unsent. */
const unsentBytesMax = 16_384;
/** A segment buffer is filled once it is allocated, so one may lie on top (GSO_MAX_SIZE of Linux). */
const segmentBytesMax = 65_536;

/** Of `asm-generic/socket.h`, `linux/tcp.h` and `linux/sockios.h`. */
const afInet = 2;
const afInet6 = 10;
const sockStream = 1;
const solSocket = 1;
const soLinger = 13;
const ipprotoTcp = 6;
const tcpInfo = 11;
const tcpNotsentLowat = 25;
/** The first byte of `struct tcp_info`. */
const tcpClose = 7;
const siocoutq = 0x5411n;
const siocoutqnsd = 0x894bn;
/** `struct linger`: a close discards what is unsent and resets, or leaves the rest to the kernel. */
const discard = [1, 0] as const;
const graceful = [0, 0] as const;
/** Architectures of Linux that number these as `asm-generic` does. */
const generic: ReadonlySet<string> = new Set(["x64", "arm64", "riscv64", "loong64", "s390x"]);

/** What `node:net` keeps of a connection; over TLS `_parent` is the handle underneath. */
type Handle = {
  readonly fd?: number;
  readonly bytesWritten?: number;
  readonly writeQueueSize?: number;
  readonly _parent?: Handle;
  close?: (done: () => void) => void;
  reset?: (done: () => void) => number;
};

type Kernel = Readonly<{
  library: object;
  setOption(fd: number, level: number, name: number, value: readonly number[]): boolean;
  /** @param request SIOCOUTQ: unacknowledged; SIOCOUTQNSD: unsent */
  queued(fd: number, request: bigint): number | undefined;
}>;

const kernel = openKernel();

function openKernel(): Kernel | undefined {
  if (process.platform !== "linux" || !generic.has(process.arch)) return undefined;
  const { emitWarning } = process;
  try {
    process.emitWarning = () => {}; // that `node:ffi` is experimental is this file's concern, and not the operator's
    const ffi = process.getBuiltinModule("node:ffi");
    const library = ffi.dlopen(null, {
      setsockopt: { arguments: ["i32", "i32", "i32", "pointer", "u32"], return: "i32" },
      getsockopt: { arguments: ["i32", "i32", "i32", "pointer", "pointer"], return: "i32" },
      ioctl: { arguments: ["i32", "u64", "pointer"], return: "i32" },
      socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
      close: { arguments: ["i32"], return: "i32" },
    });
    const { setsockopt, getsockopt, ioctl, socket, close } = library.functions;
    const words = new Int32Array(new ArrayBuffer(8)); // outside of the collector's heap, so it never moves
    const firstByte = new Uint8Array(words.buffer, 0, 1);
    const pointer = ffi.getRawPointer(words.buffer);
    /** A connection that its peer has reset holds nothing, though the kernel goes on counting. */
    const isClosed = (fd: number): boolean => {
      words[1] = 1; // the length of what is read
      const length = pointer + BigInt(words.BYTES_PER_ELEMENT);
      return getsockopt(fd, ipprotoTcp, tcpInfo, pointer, length) === 0 && firstByte[0] === tcpClose;
    };
    const opened: Kernel = {
      library: library.lib, // early releases of Node 26 unload a library that nothing refers to
      setOption(fd, level, name, value) {
        words.set(value);
        return setsockopt(fd, level, name, pointer, value.length * words.BYTES_PER_ELEMENT) === 0;
      },
      queued(fd, request) {
        if (ioctl(fd, request, pointer) !== 0) return undefined;
        const bytes = words[0] ?? 0;
        return bytes > 0 && isClosed(fd) ? 0 : bytes;
      },
    };
    const fd = [afInet, afInet6].map((family) => socket(family, sockStream, 0)).find((one) => one >= 0) ?? -1;
    const isPermitted = fd >= 0 && permitsAll(opened, fd);
    close(fd);
    return isPermitted ? opened : undefined;
  } catch {
    return undefined; // this runtime has no such module, or may not use it; `heldBytesMax` says so
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** A sandbox may refuse some of the calls (seccomp) or not know an option (gVisor). */
function permitsAll({ setOption, queued }: Kernel, fd: number): boolean {
  return (
    setOption(fd, ipprotoTcp, tcpNotsentLowat, [unsentBytesMax]) &&
    setOption(fd, solSocket, soLinger, discard) &&
    [siocoutq, siocoutqnsd].every((request) => queued(fd, request) === 0) &&
    setOption(fd, solSocket, soLinger, graceful)
  );
}

/**
 * What the kernel holds of one connection and has not sent, at most. Infinity: this process can neither bound nor read
 * it.
 */
export const heldBytesMax = kernel === undefined ? Number.POSITIVE_INFINITY : unsentBytesMax + segmentBytesMax;

function handleOf(socket: Socket): Handle | undefined {
  return (socket as unknown as { _handle: Handle | null })._handle ?? undefined;
}

/** The handle of the connection itself. */
function lowestHandleOf(socket: Socket): Handle | undefined {
  let handle = handleOf(socket);
  while (handle?._parent !== undefined) handle = handle._parent;
  return handle;
}

function descriptorOf(handle: Handle | undefined): number {
  return handle?.fd ?? -1;
}

/** Written to the connection and not in its kernel's queue yet. */
export function queuedHere(socket: Socket): number {
  const handle = handleOf(socket);
  return (handle?.writeQueueSize ?? 0) + (handle?._parent?.writeQueueSize ?? 0);
}

/**
 * @returns what the peer has not acknowledged, here and in the kernel; undefined: unknown. 0 once the socket is closed
 */
export function unackedBytes(socket: Socket): number | undefined {
  const fd = descriptorOf(lowestHandleOf(socket));
  if (fd < 0) return 0;
  const queued = kernel?.queued(fd, siocoutq);
  return queued === undefined ? undefined : queued + queuedHere(socket);
}

/** @returns what has not left this machine yet, as far as that is known */
export function unsentBytes(socket: Socket): number {
  const fd = descriptorOf(lowestHandleOf(socket));
  return fd < 0 ? 0 : queuedHere(socket) + (kernel?.queued(fd, siocoutqnsd) ?? 0);
}

/** A position in what was written to a connection. */
export type SendMark = number;

/** Everything that was written so far, as the connection counts it. */
export function sendMark(socket: Socket): SendMark {
  const handle = handleOf(socket);
  if (handle === undefined) return 0;
  const { _parent: parent } = handle;
  return parent === undefined ? (handle.bytesWritten ?? 0) : (parent.bytesWritten ?? 0) + (handle.writeQueueSize ?? 0);
}

/**
 * @returns up to where the peer's kernel has everything; Infinity: the queue is empty or discarded. Undefined: unknown
 */
export function ackedMark(socket: Socket): SendMark | undefined {
  const unacked = unackedBytes(socket);
  if (unacked === undefined) return undefined;
  return unacked === 0 ? Number.POSITIVE_INFINITY : sendMark(socket) - unacked;
}

/** Discards what this process and the kernel hold of a connection, and closes it with a RST. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  const handle = lowestHandleOf(socket);
  const fd = descriptorOf(handle);
  if (fd >= 0 && kernel?.setOption(fd, solSocket, soLinger, discard) !== true) resetByHandle(socket, handle);
  destroyAtOnce(socket);
}

/** Closes a connection at once: with a FIN if its peer has everything, otherwise with a reset. */
export function closeSocket(socket: Socket): void {
  if (hasReceivedAll(socket, unackedBytes(socket))) socket.destroy();
  else resetSocket(socket);
}

/** The peer has every byte; our FIN, which counts as one, may still be on its way. */
function hasReceivedAll(socket: Socket, unacked: number | undefined): boolean {
  return unacked === 0 || (unacked === 1 && socket.writableFinished);
}

/** As `resetAndDestroy`, which refuses TLS. While a shutdown is under way libuv cannot: then it is a plain close. */
function resetByHandle(socket: Socket, handle: Handle | undefined): void {
  if (handle?.reset === undefined || socket.writableEnded) return;
  const reset = handle.reset.bind(handle);
  handle.close = (done) => void reset(done);
}

/** Past what `guardSocket` and others have put in the place of `destroy`. */
function destroyAtOnce(socket: Socket): void {
  (Object.getPrototypeOf(socket) as Socket).destroy.call(socket);
}

/** How often a connection that was ended is looked at: at first, and at most. */
const lookMsMin = 10;
const lookMsMax = 250;
/** How long it may stay without its peer taking anything. */
const stuckMsMax = 30_000;

/**
 * Bounds what the kernel takes of a connection, and keeps the kernel from sending anything once its descriptor is
 * closed, by whatever means: `destroy`, a broken protocol, or the death of this process.
 *
 * `destroy` then resets a connection whose peer has not received everything. Two cases stay graceful: the peer has
 * everything, or our side was ended before. Then the descriptor stays open until the peer has the rest, or takes
 * nothing of it for too long.
 * @param socket connected
 */
export function guardSocket(socket: Socket): void {
  const fd = descriptorOf(lowestHandleOf(socket));
  if (kernel === undefined || fd < 0) return;
  kernel.setOption(fd, ipprotoTcp, tcpNotsentLowat, [unsentBytesMax]);
  kernel.setOption(fd, solSocket, soLinger, discard);
  const destroy = socket.destroy.bind(socket);
  let waits = false;
  socket.destroy = (error) => {
    if (socket.destroyed || waits) return error === undefined || error === null ? socket : destroy(error);
    if (hasReceivedAll(socket, unackedBytes(socket) ?? 0)) allowUnsent(socket);
    else if ((error === undefined || error === null) && socket.writableEnded) {
      waits = true;
      destroyWhenDelivered(socket, () => void destroy());
      return socket;
    }
    return destroy(error);
  };
}

/** No byte is left to discard: the connection may close with a FIN. */
function allowUnsent(socket: Socket): void {
  const fd = descriptorOf(lowestHandleOf(socket));
  if (fd >= 0) kernel?.setOption(fd, solSocket, soLinger, graceful);
}

function destroyWhenDelivered(socket: Socket, destroy: () => void): void {
  let left = Number.POSITIVE_INFINITY;
  let movedAt = performance.now();
  const look = (afterMs: number): void => {
    if (socket.destroyed) return;
    const unacked = unackedBytes(socket) ?? 0;
    const now = performance.now();
    if (unacked < left) movedAt = now;
    left = unacked;
    if (hasReceivedAll(socket, unacked)) {
      allowUnsent(socket);
      destroy();
    } else if (now - movedAt > stuckMsMax) destroyAtOnce(socket);
    else setTimeout(look, afterMs, Math.min(afterMs * 2, lookMsMax));
  };
  look(lookMsMin);
}
