/**
 * HTTP/1 writer: gathers what is answered on one connection within a turn of the event loop, writes it at once, and says when the
 * last of an answer has left. What it gathers is asked about once more when it leaves: the turn may have been long.
 */
import type { Socket } from "node:net";
import { resetSocket } from "../enforce/send-queue-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import { Flush, type FlushTask, scheduleFlush } from "./flush-scheduler.ts";
import { HandleWriter } from "./handle-writer.ts";

/** What is gathered before it is sent. */
const oneWriteMax = 16_384;

/** Whose it is that is gathered. */
type ResponseHooks = Readonly<{
  /** @returns false: no byte of it */
  mayFlush(flush: Flush): boolean;
  /** @param now as its owner counts */
  onLastSent(now: number): void;
  /** What had to wait has left. */
  onDrain(): void;
}>;

export class ResponseWriter implements FlushTask {
  readonly target = "caller";
  readonly #socket: Socket;
  readonly #handleWriter: HandleWriter;
  readonly #owner: Pick<ConnectionOwner, "now" | "idleMs">;
  readonly #hooks: ResponseHooks;
  /** Written, and not yet sent. */
  #pendingText = "";
  #isScheduled = false;
  #hasLast = false;
  /** A caller that takes nothing of the last of its answer is idle, too: until when that is waited for. */
  unreadUntil = Infinity;

  constructor(socket: Socket, owner: Pick<ConnectionOwner, "now" | "idleMs">, answer: ResponseHooks) {
    this.#socket = socket;
    this.#owner = owner;
    this.#hooks = answer;
    this.#handleWriter = new HandleWriter(socket, () => answer.onDrain());
  }

  /** Whoever streams waits for the drain. */
  get needsDrain(): boolean {
    return this.#handleWriter.hasPending || this.#socket.writableNeedDrain;
  }

  /** Everything that was written has left, whoever wrote it. */
  get isEmpty(): boolean {
    return this.#handleWriter.isEmpty;
  }

  /** Small: it leaves with whatever else this turn brings. */
  send(text: string): void {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      scheduleFlush(this);
    }
    this.#pendingText += text;
    if (this.#pendingText.length > oneWriteMax) this.#write();
  }

  /** Large: it is not copied. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    const socket = this.#socket;
    socket.cork();
    this.#pendingText += before;
    this.#write();
    socket.write(chunk);
    if (after !== "") socket.write(after, "latin1");
    socket.uncork();
  }

  /** The last of an answer. */
  sendLast(text: string): void {
    this.#hasLast = true;
    this.send(text);
  }

  runFlush(flush: Flush): void {
    this.#isScheduled = false;
    this.#flushText(flush);
    if (!this.#hasLast) return;
    this.#hasLast = false;
    if (this.#socket.destroyed) return; // its close is soon told of
    if (this.#handleWriter.isEmpty) {
      this.#hooks.onLastSent(flush.now);
      return;
    }
    this.unreadUntil = this.#owner.now() + this.#owner.idleMs;
    if (!this.#socket.writable) return; // it closes when the rest has left
    this.#socket.write("", () => {
      this.unreadUntil = Infinity;
      // A destroyed socket says of what never left that it is over, too.
      if (!this.#socket.destroyed) this.#hooks.onLastSent(this.#owner.now());
    });
  }

  /** Before the end of the turn. */
  flush(): void {
    this.#flushText(new Flush());
  }

  #flushText(flush: Flush): void {
    if (this.#pendingText === "") return;
    if (this.#hooks.mayFlush(flush)) {
      this.#write();
      return;
    }
    // It has begun, here or with the caller, and nobody may take what left of it for the whole.
    this.drop();
    resetSocket(this.#socket);
  }

  #write(): void {
    const text = this.#pendingText;
    if (text === "") return;
    this.#pendingText = "";
    if (!this.#socket.destroyed) this.#handleWriter.write(text);
  }

  /** The connection is gone. */
  drop(): void {
    this.#pendingText = "";
    this.#hasLast = false;
  }
}
