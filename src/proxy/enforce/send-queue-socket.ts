/**
 * Kernel send queue: the bytes of a TCP connection that its peer has not acknowledged, and how to discard them.
 *
 * - `guardSocket` bounds how much unsent data the kernel holds (TCP_NOTSENT_LOWAT). It also makes every close discard
 *   the rest (SO_LINGER with a time of 0): the kernel sends nothing more once the descriptor is closed.
 * - `unackedBytes` counts the bytes queued in this process and in the kernel (SIOCOUTQ).
 * - `resetSocket` discards both and closes with a RST.
 *
 * Node has no API for these options, so this file calls the C library through `node:ffi`
 * (docs/adr/0032-the-kernel-drops-what-is-cut.md). These calls are unavailable on other systems, with
 * `--no-experimental-ffi`, and in a sandbox that refuses one of the calls. The queue then has no bound and cannot be
 * read; `resetSocket` still works.
 */
import type { Socket } from "node:net";

/** The kernel accepts more bytes of a connection only while fewer than this are unsent. */
const unsentBytesMax = 16_384;
/** The kernel fills a segment buffer that it has allocated, so one may exceed the bound (GSO_MAX_SIZE of Linux). */
const segmentBytesMax = 65_536;

/** Constants from `asm-generic/socket.h`, `linux/tcp.h` and `linux/sockios.h`. */
const afInet = 2;
const afInet6 = 10;
const sockStream = 1;
const solSocket = 1;
const soLinger = 13;
const ipprotoTcp = 6;
const tcpInfo = 11;
const tcpNotsentLowat = 25;
/** TCP_CLOSE: the peer has reset the connection. TCP_CLOSE_WAIT: the peer has ended its side. */
const tcpClose = 7;
const tcpCloseWait = 8;
const siocoutq = 0x5411n;
const siocoutqnsd = 0x894bn;
/** `struct linger`: a close discards unsent bytes and resets, or the kernel sends them. */
const discard = [1, 0] as const;
const graceful = [0, 0] as const;
/** Linux architectures that use the numbers of `asm-generic`. */
const generic: ReadonlySet<string> = new Set(["x64", "arm64", "riscv64", "loong64", "s390x"]);

/** Internal handle of `node:net` for a connection; with TLS, `_parent` is the TCP handle. */
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
  /** @returns as in the first byte of `struct tcp_info`; undefined: unknown */
  tcpState(fd: number): number | undefined;
  /** A sandbox may refuse that alone. */
  readsTcpState: boolean;
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
    const opened: Kernel = {
      library: library.lib, // early releases of Node 26 unload a library that nothing refers to
      setOption(fd, level, name, value) {
        words.set(value);
        return setsockopt(fd, level, name, pointer, value.length * words.BYTES_PER_ELEMENT) === 0;
      },
      queued(fd, request) {
        return ioctl(fd, request, pointer) === 0 ? (words[0] ?? 0) : undefined;
      },
      tcpState(fd) {
        words[1] = 1; // the length of what is read
        const length = pointer + BigInt(words.BYTES_PER_ELEMENT);
        return getsockopt(fd, ipprotoTcp, tcpInfo, pointer, length) === 0 ? firstByte[0] : undefined;
      },
      readsTcpState: true,
    };
    const fd = [afInet, afInet6].map((family) => socket(family, sockStream, 0)).find((one) => one >= 0) ?? -1;
    const isPermitted = fd >= 0 && permitsAll(opened, fd);
    const readsTcpState = fd >= 0 && opened.tcpState(fd) !== undefined;
    close(fd);
    return isPermitted ? { ...opened, readsTcpState } : undefined;
  } catch {
    return undefined; // this runtime has no such module, or may not use it; `heldBytesMax` says so
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** A sandbox may refuse some calls (seccomp) or not support an option (gVisor). */
function permitsAll({ setOption, queued }: Kernel, fd: number): boolean {
  return (
    setOption(fd, ipprotoTcp, tcpNotsentLowat, [unsentBytesMax]) &&
    setOption(fd, solSocket, soLinger, discard) &&
    [siocoutq, siocoutqnsd].every((request) => queued(fd, request) === 0) &&
    setOption(fd, solSocket, soLinger, graceful)
  );
}

/**
 * Upper bound for the unsent bytes of one connection in the kernel. Infinity: this process can neither bound nor read
 * them.
 */
export const heldBytesMax = kernel === undefined ? Number.POSITIVE_INFINITY : unsentBytesMax + segmentBytesMax;

function handleOf(socket: Socket): Handle | undefined {
  return (socket as unknown as { _handle: Handle | null })._handle ?? undefined;
}

/** The TCP handle, below TLS. */
function lowestHandleOf(socket: Socket): Handle | undefined {
  let handle = handleOf(socket);
  while (handle?._parent !== undefined) handle = handle._parent;
  return handle;
}

function descriptorOf(handle: Handle | undefined): number {
  return handle?.fd ?? -1;
}

/** Bytes written to the connection that are not yet in the kernel's queue. */
export function queuedHere(socket: Socket): number {
  const handle = handleOf(socket);
  return (handle?.writeQueueSize ?? 0) + (handle?._parent?.writeQueueSize ?? 0);
}

/** Bytes that the kernel has not accepted yet, without those that TLS has not encrypted. */
export function queuedBelowTls(socket: Socket): number {
  return lowestHandleOf(socket)?.writeQueueSize ?? 0;
}

/**
 * @returns unacknowledged bytes, in this process and in the kernel; undefined: unknown. 0 once the socket is closed
 */
export function unackedBytes(socket: Socket): number | undefined {
  const fd = descriptorOf(lowestHandleOf(socket));
  if (fd < 0) return 0;
  const queued = kernel?.queued(fd, siocoutq);
  return queued === undefined ? undefined : orNoneIfClosed(fd, queued + queuedHere(socket) + queuedInStream(socket));
}

/** After a reset nothing can leave, though bytes are still counted here and in the kernel. */
function orNoneIfClosed(fd: number, bytes: number): number {
  return bytes > 0 && kernel?.tcpState(fd) === tcpClose ? 0 : bytes;
}

/** `hasPeerEnded` can tell. */
export const readsTcpState = kernel?.readsTcpState === true;

/** @returns whether the peer has ended its side or reset the connection, even behind unread bytes; false: or unknown */
export function hasPeerEnded(socket: Socket): boolean {
  const fd = descriptorOf(lowestHandleOf(socket));
  const state = fd < 0 ? undefined : kernel?.tcpState(fd);
  return state === tcpClose || state === tcpCloseWait;
}

/** @returns bytes that have not left this machine yet; counts those in the kernel only if it can be read */
export function unsentBytes(socket: Socket): number {
  const fd = descriptorOf(lowestHandleOf(socket));
  if (fd < 0) return 0;
  return orNoneIfClosed(fd, queuedHere(socket) + queuedInStream(socket) + (kernel?.queued(fd, siocoutqnsd) ?? 0));
}

/** An offset, in bytes, in the data written to a connection. */
export type SendMark = number;

/** The offset after all data written so far. */
export function sendMark(socket: Socket): SendMark {
  const handle = handleOf(socket);
  if (handle === undefined) return 0;
  const { _parent: parent } = handle;
  const given =
    parent === undefined ? (handle.bytesWritten ?? 0) : (parent.bytesWritten ?? 0) + (handle.writeQueueSize ?? 0);
  return given + queuedInStream(socket);
}

/**
 * Bytes that wait in the stream of the socket while an earlier write is in progress. Over TLS it is an upper bound of
 * what they will be when encrypted: a record of 16 KB has less than 64 bytes besides them.
 */
function queuedInStream(socket: Socket): number {
  if (socket.writableLength === 0) return 0;
  const handle = handleOf(socket);
  const waiting = Math.max(0, socket.bytesWritten - (handle?.bytesWritten ?? 0));
  return handle?._parent === undefined || waiting === 0 ? waiting : waiting + 64 * Math.ceil(1 + waiting / 16_384);
}

/**
 * @returns the offset up to which the peer's kernel has acknowledged. Infinity: the queue is empty or discarded.
 * Undefined: unknown
 */
export function ackedMark(socket: Socket): SendMark | undefined {
  const unacked = unackedBytes(socket);
  if (unacked === undefined) return undefined;
  return unacked === 0 ? Number.POSITIVE_INFINITY : sendMark(socket) - unacked;
}

/** Discards the bytes of a connection in this process and in the kernel, and closes it with a RST. */
export function resetSocket(socket: Socket): void {
  if (socket.destroyed) return;
  const handle = lowestHandleOf(socket);
  const fd = descriptorOf(handle);
  if (fd >= 0 && kernel?.setOption(fd, solSocket, soLinger, discard) !== true) resetByHandle(socket, handle);
  destroyAtOnce(socket);
}

/** Closes a connection at once: with a FIN if its peer has acknowledged everything, otherwise with a reset. */
export function closeSocket(socket: Socket): void {
  if (hasReceivedAll(socket, unackedBytes(socket))) socket.destroy();
  else resetSocket(socket);
}

/** Whether the peer has every byte. Our FIN counts as one byte and may still be unacknowledged. */
function hasReceivedAll(socket: Socket, unacked: number | undefined): boolean {
  return unacked === 0 || (unacked === 1 && socket.writableFinished);
}

/** Like `resetAndDestroy`, which refuses TLS. During a shutdown libuv cannot reset, so the close is a plain one. */
function resetByHandle(socket: Socket, handle: Handle | undefined): void {
  if (handle?.reset === undefined || socket.writableEnded) return;
  const reset = handle.reset.bind(handle);
  handle.close = (done) => void reset(done);
}

/** Calls the original `destroy`, bypassing the replacements that `guardSocket` and others have installed. */
function destroyAtOnce(socket: Socket): void {
  (Object.getPrototypeOf(socket) as Socket).destroy.call(socket);
}

/** Interval between checks of an ended connection: the first, and the longest. */
const lookMsMin = 10;
const lookMsMax = 250;
/** How long an ended connection stays open while its peer acknowledges nothing. */
const stuckMsMax = 30_000;

/**
 * Bounds the unsent bytes that the kernel holds of a connection. The kernel sends nothing once the descriptor is
 * closed, whether by `destroy`, a protocol error, or the end of this process.
 *
 * - `destroy` resets a connection whose peer has not received everything.
 * - The close is graceful if the peer has everything, or if our side was ended before. In the second case the
 *   descriptor stays open until the peer has the rest, or acknowledges nothing for too long.
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
    // After a reset by the peer the kernel holds nothing. Behind the end of our side no one reads that error.
    if (isReset(error)) return socket.writableEnded ? destroy() : destroy(error);
    if (hasReceivedAll(socket, unackedBytes(socket) ?? 0)) allowUnsent(socket);
    else if ((error === undefined || error === null) && socket.writableEnded) {
      waits = true;
      destroyWhenDelivered(socket, () => void destroy());
      return socket;
    }
    return destroy(error);
  };
}

function isReset(error: Error | null | undefined): boolean {
  return (error as NodeJS.ErrnoException | null | undefined)?.code === "ECONNRESET";
}

/** No byte is left to discard, so the connection may close with a FIN. */
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
