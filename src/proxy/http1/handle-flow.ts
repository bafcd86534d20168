/** Handle flow control: pauses and resumes a socket whose handle is read past the stream of `node:net`. */
import type { Socket } from "node:net";

/** What this uses of the handle behind a `Socket`. */
export type SocketHandle = { isStreamBase?: boolean; reading: boolean; readStart(): number; readStop(): number };

export class HandleFlowControl {
  readonly #socket: Socket;
  readonly #handle: SocketHandle;
  #isPaused = false;

  constructor(socket: Socket, handle: SocketHandle) {
    this.#socket = socket;
    this.#handle = handle;
  }

  pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#handle.reading = false;
    this.#handle.readStop();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.start();
  }

  start(): void {
    if (this.#handle.reading || this.#socket.destroyed) return;
    this.#handle.reading = true;
    this.#handle.readStart();
  }

  /** Later bytes are the socket's `data` events again; if it is paused, once the socket is resumed. */
  returnToStream(): void {
    if (!this.#isPaused) return;
    this.#socket.pause();
    this.start();
  }
}
