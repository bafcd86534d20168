/**
 * Downstream socket reader: reads accepted connections, and both ends of a splice, into one buffer of the process, past
 * the stream of `node:net`.
 *
 * - `node:net` documents such a buffer (`onread`) for connections that a process opens, not for those that it
 *   accepts. The handle is therefore set up here as `node:net` does it (docs/adr/0029). Where the runtime's handles
 *   lack what this needs, connections are read by events.
 * - A reader uses the bytes before it returns and keeps only copies: the next read of any connection overwrites them.
 * - The socket still reports its end, its errors and its close.
 */
import type { Socket } from "node:net";
import { HandleFlowControl, type SocketHandle } from "./handle-flow.ts";

/** On the handle: how `node:net` reads it. A `WeakMap` costs each connection time of the collector. */
const streamReadKey = Symbol("streamRead");

/** What this uses of the handle behind a `Socket`. */
type ReadableHandle = SocketHandle & {
  [streamReadKey]?: ReadableHandle["onread"];
  readonly bytesRead: number;
  onread: (this: ReadableHandle, bytes: ArrayBuffer | undefined) => unknown;
  useUserBuffer?(bytes: Buffer): number;
};

type ReadState = Readonly<{ streamBaseState: Readonly<Record<number, number>>; kReadBytesOrError: number }>;
const readState = readStateOf(process);

function readStateOf(runtime: object): Partial<ReadState> {
  try {
    return (runtime as { binding?(name: string): Partial<ReadState> }).binding?.("stream_wrap") ?? {};
  } catch {
    return {}; // a runtime may refuse it
  }
}

/** The last read of any handle ended or failed. False: it brought bytes or found nothing, or that is unknown. */
function hasReadEnded(): boolean {
  const { streamBaseState, kReadBytesOrError } = readState;
  return kReadBytesOrError !== undefined && (streamBaseState?.[kReadBytesOrError] ?? 0) < 0;
}

/** As much as Node reads at once. */
const sharedBuffer = Buffer.allocUnsafeSlow(65_536);
/** Views of the first bytes, by length: most reads have one of a few lengths. */
const prefixes: (Buffer | undefined)[] = new Array<undefined>(4_097).fill(undefined);
/** The reader that is using the shared buffer; undefined: none. */
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
  /** Bytes are discarded. Called at the end. */
  #onEnd: (() => void) | undefined;

  /**
   * @param onOverwritten the bytes that `onBytes` is using were overwritten; the socket is destroyed
   * @returns undefined: this socket cannot be read this way
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
    handle[streamReadKey] ??= handle.onread;
    const onread = handle[streamReadKey]; // passes bytes, the end and errors to the stream
    const onRead = (): void => {
      const length = handle.bytesRead - this.#bytesRead;
      this.#bytesRead += length;
      if (length > 0 && activeReader !== undefined) {
        this.#read(length); // ends both
        return;
      }
      if (this.#onEnd !== undefined && length > 0) return;
      if (this.#onEnd !== undefined && hasReadEnded()) this.#onEnd();
      else if (length === 0) onread.call(handle, undefined);
      else if (this.#isReleased) onread.call(handle, copyOf(length));
      else this.#read(length);
    };
    handle.onread = onRead;
    this.#flow.start();
  }

  /** TLS can read while another connection is being read if it writes nothing. Neither result could be trusted then. */
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

  /**
   * Discards all later bytes. @param onEnd the peer has ended its side or reset the connection. The socket reports
   * neither: an error with its stack takes 20 µs
   */
  discard(onEnd: () => void): void {
    this.#onEnd = onEnd;
    this.resume();
  }

  /** Later bytes are the socket's `data` events again; if it is paused, once the socket is resumed. */
  release(): void {
    this.#isReleased = true;
    this.#flow.returnToStream();
  }
}

/** The stream keeps its bytes, so it gets a copy, allocated as Node's handles do. */
function copyOf(length: number): ArrayBuffer {
  const bytes = new ArrayBuffer(length);
  sharedBuffer.copy(new Uint8Array(bytes), 0, 0, length);
  return bytes;
}
