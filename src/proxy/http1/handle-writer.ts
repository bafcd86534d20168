/**
 * Handle writer: writes small pieces to a connection's handle, past the states and callbacks of its stream.
 *
 * Nearly always the kernel takes such a piece at once, and nothing need be remembered. What it does not take waits in
 * the handle. Until that has left, everything else goes through the stream, whose writes follow it in the handle's
 * own order. The handle is reached as `node:net` reaches it (docs/adr/0029). Over TLS, and in a runtime without these
 * internals, the stream writes.
 */
import type { Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { CodedError } from "../../events/index.ts";

/** Represents a write while it is in progress. `buffer` keeps its bytes alive, as `node:net` does. */
type WriteWrap = { oncomplete?: (status: number) => void; buffer?: Uint8Array };

/** What this uses of the handle behind a `Socket`. Returns 0, or a negative error of libuv. */
type WritableHandle = {
  writeLatin1String(wrap: WriteWrap, text: string): number;
  writeBuffer(wrap: WriteWrap, bytes: Uint8Array): number;
};

type Binding = Readonly<{
  WriteWrap: new () => WriteWrap;
  /** The state of the last write, at index `kLastWriteWasAsync`. */
  streamBaseState: Readonly<Record<number, number>>;
  kLastWriteWasAsync: number;
}>;

const binding = bindingOf(process);
/** Reused: a write that completes at once leaves nothing in it. */
let spareWrap: WriteWrap | undefined = binding && new binding.WriteWrap();
/** Up to this size, a string is the faster way into the kernel. */
const textBytesMax = 8_192;
/** As much as a read brings. */
const spareBytesMax = 65_536;
/** Reused as well: larger pieces are copied here, because what the kernel does not take must stay as it is. */
let spareBytes: Buffer | undefined;

function bindingOf(runtime: object): Binding | undefined {
  try {
    const { WriteWrap, streamBaseState, kLastWriteWasAsync } =
      (runtime as { binding?(name: string): Partial<Binding> }).binding?.("stream_wrap") ?? {};
    if (WriteWrap === undefined || streamBaseState === undefined || kLastWriteWasAsync === undefined) return undefined;
    return { WriteWrap, streamBaseState, kLastWriteWasAsync };
  } catch {
    return undefined; // a runtime may refuse it
  }
}

/** The kernel has taken a text; with an error, or once the socket is destroyed, it has not. */
export type OnTaken = (error?: Error | null) => void;

export class HandleWriter {
  readonly #socket: Socket;
  readonly #handle: WritableHandle | undefined;
  /** Called when everything that had to wait has left. */
  readonly #onSent: () => void;
  /** The kernel has not taken all of what was written directly. */
  hasPending = false;

  /** @param socket connected */
  constructor(socket: Socket, onSent: () => void) {
    this.#socket = socket;
    this.#onSent = onSent;
    this.#handle = binding === undefined || "encrypted" in socket ? undefined : handleOf(socket);
  }

  /** Everything has left. */
  get isEmpty(): boolean {
    return !this.hasPending && this.#socket.writableLength === 0;
  }

  /**
   * @param text latin1, of a few kilobytes
   * @param onTaken only a stream calls it
   * @returns whether it will be called
   */
  write(text: string, onTaken?: OnTaken): boolean {
    const handle = this.#freeHandle();
    if (handle === undefined || spareWrap === undefined) {
      this.#socket.write(text, "latin1", onTaken);
      return onTaken !== undefined;
    }
    this.#onWritten(spareWrap, handle.writeLatin1String(spareWrap, text));
    return false;
  }

  /** @param bytes may change as soon as this returns */
  writeBytes(bytes: Buffer): void {
    if (bytes.length <= textBytesMax) {
      this.write(bytes.toString("latin1"));
      return;
    }
    const handle = bytes.length > spareBytesMax ? undefined : this.#freeHandle();
    if (handle === undefined || spareWrap === undefined) {
      this.#socket.write(Buffer.from(bytes));
      return;
    }
    const copy = spareBytes ?? Buffer.allocUnsafeSlow(spareBytesMax);
    spareBytes = undefined;
    bytes.copy(copy);
    this.#onWritten(spareWrap, handle.writeBuffer(spareWrap, copy.subarray(0, bytes.length)), copy);
    if (!this.hasPending) spareBytes = copy;
  }

  /** Writers wait for `onSent`, or the `drain` of the socket. */
  get needsDrain(): boolean {
    return this.hasPending || this.#socket.writableNeedDrain;
  }

  /** @returns undefined: earlier writes are pending, or the socket is closing */
  #freeHandle(): WritableHandle | undefined {
    const socket = this.#socket;
    if (this.#handle === undefined || !this.isEmpty || !socket.writable || socket.writableCorked > 0) return undefined;
    return handleOf(socket) === this.#handle ? this.#handle : undefined;
  }

  /** @param bytes those that the kernel may still have to take */
  #onWritten(wrap: WriteWrap, error: number, bytes?: Uint8Array): void {
    if (error !== 0) {
      this.#socket.destroy(new WriteError(error));
      return;
    }
    if (binding === undefined || binding.streamBaseState[binding.kLastWriteWasAsync] === 0) return;
    spareWrap = new binding.WriteWrap();
    this.hasPending = true;
    if (bytes !== undefined) wrap.buffer = bytes;
    wrap.oncomplete = (status) => {
      this.hasPending = false;
      if (status < 0) this.#socket.destroy(new WriteError(status));
      else if (!this.#socket.destroyed) this.#onSent();
    };
  }
}

function handleOf(socket: Socket): WritableHandle | undefined {
  return (socket as unknown as { _handle: WritableHandle | null })._handle ?? undefined;
}

/** As a stream reports it: `code` is `EPIPE`, `ECONNRESET` and so on. */
class WriteError extends CodedError<string> {
  override readonly code: string;
  readonly syscall = "write";
  readonly errno: number;
  constructor(errno: number) {
    const code = getSystemErrorName(errno);
    super(`write ${code}`);
    this.errno = errno;
    this.code = code;
  }
}
