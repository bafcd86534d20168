/**
 * Caller socket: reads an accepted connection into one buffer of the process, past the stream of `node:net`.
 *
 * - `node:net` documents such a buffer (`onread`) for connections that a process opens, and none for those that it accepts, so the handle
 *   is set up here as `node:net` does it (docs/adr/0029). A runtime whose handles lack what this needs reads by events.
 * - A reader looks at the bytes before it returns and keeps copies only: the next read of any connection overwrites them.
 * - The socket still reports its end, its errors and its close.
 */
import type { Socket } from "node:net";
import { HandleFlowControl, type SocketHandle } from "./handle-flow.ts";

/** What `node:net` keeps of a connection. */
type ReadableHandle = SocketHandle & {
  readonly bytesRead: number;
  onread: (this: ReadableHandle, bytes: ArrayBuffer | undefined) => unknown;
  useUserBuffer?(bytes: Buffer): number;
};

/** As much as Node itself reads at once. */
const sharedBuffer = Buffer.allocUnsafeSlow(65_536);
/** Most reads have one of a few lengths: the beginnings of the buffer that were needed before. */
const prefixes: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);
/** A reader is looking at the shared buffer. */
let activeReader: DownstreamSocketReader | undefined;

function prefixOf(length: number): Buffer {
  const cached = prefixes[length];
  if (cached !== undefined) return cached;
  const prefix = sharedBuffer.subarray(0, length);
  if (length < prefixes.length) prefixes[length] = prefix;
  return prefix;
}

export class DownstreamSocketReader {
  readonly #socket: Socket;
  readonly #flow: HandleFlowControl;
  readonly #onBytes: (bytes: Buffer) => void;
  readonly #onOverwritten: () => void;
  #bytesRead: number;
  #isReleased = false;

  /**
   * @param onOverwritten what `onBytes` looks at is no longer what this socket has read; the socket is destroyed
   * @returns undefined: this socket cannot be read that way
   */
  static begin(
    socket: Socket,
    onBytes: (bytes: Buffer) => void,
    onOverwritten: () => void,
  ): DownstreamSocketReader | undefined {
    const handle = (socket as unknown as { _handle: ReadableHandle | null })._handle;
    if (handle?.isStreamBase !== true || handle.useUserBuffer === undefined) return undefined;
    if (handle.useUserBuffer(sharedBuffer) !== 0) return undefined;
    return new DownstreamSocketReader(socket, handle, { onBytes, onOverwritten });
  }

  private constructor(
    socket: Socket,
    handle: ReadableHandle,
    { onBytes, onOverwritten }: Readonly<{ onBytes: (bytes: Buffer) => void; onOverwritten: () => void }>,
  ) {
    this.#socket = socket;
    this.#flow = new HandleFlowControl(socket, handle);
    this.#onBytes = onBytes;
    this.#onOverwritten = onOverwritten;
    this.#bytesRead = handle.bytesRead;
    const { onread } = handle; // what it does with bytes, an end and an error is the stream's
    const onRead = (): void => {
      const length = handle.bytesRead - this.#bytesRead;
      this.#bytesRead += length;
      if (length === 0) onread.call(handle, undefined);
      else if (this.#isReleased) onread.call(handle, copyOf(length));
      else this.#read(length);
    };
    handle.onread = onRead;
    this.#flow.start();
  }

  /** TLS could read while another connection is being read, if it wrote nothing at all; neither reading could be trusted then. */
  #read(length: number): void {
    if (activeReader !== undefined) {
      for (const one of [activeReader, this]) {
        one.#onOverwritten();
        one.#socket.destroy();
      }
      return;
    }
    activeReader = this;
    try {
      this.#onBytes(prefixOf(length));
    } finally {
      activeReader = undefined;
    }
  }

  pause(): void {
    this.#flow.pause();
  }

  resume(): void {
    this.#flow.resume();
  }

  /** What comes from now on is the socket's `data` again, unless it is held: then when the socket is resumed. */
  release(): void {
    this.#isReleased = true;
    this.#flow.returnToStream();
  }
}

/** The stream keeps what it gets, so it gets bytes of its own, as Node's handles allocate them. */
function copyOf(length: number): ArrayBuffer {
  const bytes = new ArrayBuffer(length);
  sharedBuffer.copy(new Uint8Array(bytes), 0, 0, length);
  return bytes;
}
