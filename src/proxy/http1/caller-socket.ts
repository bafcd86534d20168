/**
 * Caller socket: reads an accepted connection into one buffer of the process, past the stream of `node:net`.
 *
 * - `node:net` documents such a buffer (`onread`) for connections that a process opens, and none for those that it accepts, so the handle
 *   is set up here as `node:net` does it (docs/adr/0029). A runtime whose handles lack what this needs reads by events.
 * - A reader looks at the bytes before it returns and keeps copies only: the next read of any connection overwrites them.
 * - The socket still reports its end, its errors and its close.
 */
import type { Socket } from "node:net";
import { HandleFlow, type SocketHandle } from "./handle-flow.ts";

/** What `node:net` keeps of a connection. */
type Handle = SocketHandle & {
  readonly bytesRead: number;
  onread: (this: Handle, bytes: ArrayBuffer | undefined) => unknown;
  useUserBuffer?(bytes: Buffer): number;
};

/** As much as Node itself reads at once. */
const shared = Buffer.allocUnsafeSlow(65_536);
/** Most reads have one of a few lengths: the beginnings of the buffer that were needed before. */
const beginnings: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);
/** A reader is looking at the shared buffer. */
let reader: CallerReading | undefined;

function beginningOf(length: number): Buffer {
  const known = beginnings[length];
  if (known !== undefined) return known;
  const beginning = shared.subarray(0, length);
  if (length < beginnings.length) beginnings[length] = beginning;
  return beginning;
}

export class CallerReading {
  readonly #socket: Socket;
  readonly #flow: HandleFlow;
  readonly #onBytes: (bytes: Buffer) => void;
  readonly #onOverwritten: () => void;
  #bytesRead: number;
  #ended = false;

  /**
   * @param onOverwritten what `onBytes` looks at is no longer what this socket has read; the socket is destroyed
   * @returns undefined: this socket cannot be read that way
   */
  static begin(socket: Socket, onBytes: (bytes: Buffer) => void, onOverwritten: () => void): CallerReading | undefined {
    const handle = (socket as unknown as { _handle: Handle | null })._handle;
    if (handle?.isStreamBase !== true || handle.useUserBuffer === undefined) return undefined;
    if (handle.useUserBuffer(shared) !== 0) return undefined;
    return new CallerReading(socket, handle, { onBytes, onOverwritten });
  }

  private constructor(
    socket: Socket,
    handle: Handle,
    { onBytes, onOverwritten }: Readonly<{ onBytes: (bytes: Buffer) => void; onOverwritten: () => void }>,
  ) {
    this.#socket = socket;
    this.#flow = new HandleFlow(socket, handle);
    this.#onBytes = onBytes;
    this.#onOverwritten = onOverwritten;
    this.#bytesRead = handle.bytesRead;
    const { onread } = handle; // what it does with bytes, an end and an error is the stream's
    const own = (): void => {
      const length = handle.bytesRead - this.#bytesRead;
      this.#bytesRead += length;
      if (length === 0) onread.call(handle, undefined);
      else if (this.#ended) onread.call(handle, copyOf(length));
      else this.#read(length);
    };
    handle.onread = own;
    this.#flow.start();
  }

  /** TLS could read while another connection is being read, if it wrote nothing at all; neither reading could be trusted then. */
  #read(length: number): void {
    if (reader !== undefined) {
      for (const one of [reader, this]) {
        one.#onOverwritten();
        one.#socket.destroy();
      }
      return;
    }
    reader = this;
    try {
      this.#onBytes(beginningOf(length));
    } finally {
      reader = undefined;
    }
  }

  hold(): void {
    this.#flow.hold();
  }

  goOn(): void {
    this.#flow.resume();
  }

  /** What comes from now on is the socket's `data` again, unless it is held: then when the socket is resumed. */
  end(): void {
    this.#ended = true;
    this.#flow.giveBack();
  }
}

/** The stream keeps what it gets, so it gets bytes of its own, as Node's handles allocate them. */
function copyOf(length: number): ArrayBuffer {
  const bytes = new ArrayBuffer(length);
  shared.copy(new Uint8Array(bytes), 0, 0, length);
  return bytes;
}
