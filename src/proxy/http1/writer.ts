/**
 * Response writer: collects what is written on one HTTP/1 connection within a turn of the event loop, sends it at
 * once, and reports when the last of a response has left.
 *
 * What was collected is checked once more when it leaves, because the turn may have been long.
 */
import type { Socket } from "node:net";
import { resetSocket } from "../enforce/send-queue-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import { Flush, type FlushTask, scheduleFlush } from "./flush-scheduler.ts";
import { HandleWriter, type OnTaken } from "./handle-writer.ts";

/** Text collected before it is sent. */
const oneWriteMax = 16_384;

/** The owner of what is written. */
type ResponseHooks = Readonly<{
  /** @returns false: no byte may leave */
  mayFlush(flush: Flush): boolean;
  /** @param now on the connection owner's clock */
  onLastSent(now: number): void;
  /** What had to wait has left; more may be written. */
  onDrain(): void;
}>;

export class ResponseWriter implements FlushTask {
  readonly target = "caller";
  readonly #socket: Socket;
  readonly #handleWriter: HandleWriter;
  readonly #owner: Pick<ConnectionOwner, "now" | "idleMs">;
  readonly #hooks: ResponseHooks;
  /** Written and not yet sent. */
  #pendingText = "";
  #isScheduled = false;
  #hasLast = false;
  /** A caller that does not read the last of its response is idle: when that ends. Infinity: no deadline. */
  unreadUntil = Infinity;

  constructor(socket: Socket, owner: Pick<ConnectionOwner, "now" | "idleMs">, answer: ResponseHooks) {
    this.#socket = socket;
    this.#owner = owner;
    this.#hooks = answer;
    this.#handleWriter = new HandleWriter(socket, () => answer.onDrain());
  }

  /** Streaming writers wait for the drain. */
  get needsDrain(): boolean {
    return this.#handleWriter.hasPending || this.#socket.writableNeedDrain;
  }

  /** Everything that was written has left. */
  get isEmpty(): boolean {
    return this.#handleWriter.isEmpty;
  }

  /** Sends a small text together with whatever else this turn writes. */
  send(text: string): void {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      scheduleFlush(this);
    }
    this.#pendingText += text;
    if (this.#pendingText.length > oneWriteMax) this.#write();
  }

  /** Sends a large chunk without copying it. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    const socket = this.#socket;
    socket.cork();
    this.#pendingText += before;
    this.#write();
    socket.write(chunk);
    if (after !== "") socket.write(after, "latin1");
    socket.uncork();
  }

  /** Sends the last of a response. */
  sendLast(text: string): void {
    this.#hasLast = true;
    this.send(text);
  }

  runFlush(flush: Flush): void {
    this.#isScheduled = false;
    const isAwaited = this.#flushText(flush, this.#hasLast && this.#socket.writable ? this.#onLastTaken : undefined);
    if (!this.#hasLast) return;
    this.#hasLast = false;
    if (this.#socket.destroyed) return; // its close is reported soon
    if (!isAwaited && this.#handleWriter.isEmpty) {
      this.#hooks.onLastSent(flush.now);
      return;
    }
    this.unreadUntil = this.#owner.now() + this.#owner.idleMs;
    if (isAwaited || !this.#socket.writable) return; // not writable: it closes when the rest has left
    this.#socket.write("", this.#onLastTaken);
  }

  readonly #onLastTaken = (error?: Error | null): void => {
    this.unreadUntil = Infinity;
    // A socket that fails or is destroyed also calls back, for what never left.
    if (!error && !this.#socket.destroyed) this.#hooks.onLastSent(this.#owner.now());
  };

  /** Sends before the end of the turn. */
  flush(): void {
    this.#flushText(new Flush());
  }

  /** @param onTaken as for `HandleWriter.write` @returns whether it will be called */
  #flushText(flush: Flush, onTaken?: OnTaken): boolean {
    if (this.#pendingText === "") return false;
    if (this.#hooks.mayFlush(flush)) return this.#write(onTaken);
    // The response has begun, and no caller may take the part that left for the whole.
    this.drop();
    resetSocket(this.#socket);
    return false;
  }

  #write(onTaken?: OnTaken): boolean {
    const text = this.#pendingText;
    if (text === "") return false;
    this.#pendingText = "";
    return !this.#socket.destroyed && this.#handleWriter.write(text, onTaken);
  }

  /** The connection is gone. */
  drop(): void {
    this.#pendingText = "";
    this.#hasLast = false;
  }
}
