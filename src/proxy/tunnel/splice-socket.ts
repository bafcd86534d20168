/**
 * Splice socket: a connection as one end of a splice, read and written past the streams of `node:net`
 * (docs/adr/0029).
 *
 * - Reads go to the buffer that all connections share, once the stream of the socket holds nothing. What is read is
 *   written to the other end before the read returns.
 * - A paused reader also pauses the stream: the connection's sweep recognises by it that nothing is read
 *   (http1/connection.ts).
 */
import type { Socket } from "node:net";
import { closeSocket, resetSocket, unsentBytes } from "../enforce/send-queue-socket.ts";
import { DownstreamSocketReader } from "../http1/caller-socket.ts";
import { HandleWriter } from "../http1/handle-writer.ts";
import { unsentUpload } from "../http1/outlet-socket.ts";
import type { SocketDelivery } from "../message/deliveries.ts";
import { type Abort, guardCallback } from "./error-boundary.ts";
import type { CallerEnd, SpliceEvents } from "./splice-end.ts";

export class SpliceSocket implements CallerEnd {
  readonly #socket: Socket;
  readonly #abort: Abort;
  #writer: HandleWriter | undefined;
  #reader: DownstreamSocketReader | undefined;
  #events: SpliceEvents | undefined;
  #isPaused = false;

  /** @param abort ends the exchange after a throw in one of its events */
  constructor(socket: Socket, abort: Abort) {
    this.#socket = socket;
    this.#abort = abort;
  }

  begin(events: SpliceEvents): void {
    const socket = this.#socket;
    this.#events = events;
    socket.setNoDelay(true);
    // The emitter is guarded (error-boundary.ts); what bypasses it is guarded in #startReader and #writerOf.
    socket.on("error", () => events.onError());
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
    socket.on("drain", () => events.onDrain());
    socket.once("end", () => events.onEnd());
    socket.once("close", () => events.onClose());
    if (!this.#isPaused) socket.resume();
  }

  #onData(bytes: Buffer): void {
    this.#events?.onBytes(bytes);
    const socket = this.#socket;
    if (this.#reader === undefined && !socket.destroyed && !this.#isPaused && socket.readableLength === 0)
      this.#startReader();
  }

  /** An idle connection has no reader of its own. */
  #startReader(): void {
    const onBytes = guardCallback((bytes: Buffer) => this.#events?.onBytes(bytes), this.#abort);
    this.#reader = DownstreamSocketReader.begin(this.#socket, onBytes, ignore);
  }

  #writerOf(): HandleWriter {
    const onSent = guardCallback(() => this.#events?.onDrain(), this.#abort);
    this.#writer ??= new HandleWriter(this.#socket, onSent);
    return this.#writer;
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }
  get isEnded(): boolean {
    return this.#socket.writableEnded;
  }
  get hasUnsent(): boolean {
    return unsentBytes(this.#socket) > 0;
  }

  write(bytes: Buffer): boolean {
    if (bytes.length === 0) return true; // over TLS an empty write reads
    const writer = this.#writer ?? this.#writerOf();
    writer.writeBytes(bytes);
    return !writer.needsDrain;
  }

  end(): void {
    this.#socket.end();
  }

  close(): void {
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Ends it at once; discards what the kernel holds. */
  discard(): void {
    closeSocket(this.#socket);
  }

  /** @returns what may still leave for this end when the other has closed; undefined: nothing */
  unsent(): SocketDelivery | undefined {
    return unsentUpload(this.#socket, () => true);
  }

  pause(): void {
    this.#isPaused = true;
    this.#reader?.pause();
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
    this.#reader?.resume();
  }

  beginCut(): undefined {
    return undefined;
  }

  abort(): void {
    resetSocket(this.#socket);
  }
}

function ignore(): void {}
