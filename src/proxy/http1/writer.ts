/**
 * HTTP/1 writer: gathers what is answered on one connection within a turn of the event loop, writes it at once, and says when the
 * last of an answer has left. What it gathers is asked about once more when it leaves: the turn may have been long.
 */
import type { Socket } from "node:net";
import { resetSocket } from "../enforce/send-queue-socket.ts";
import type { ConnectionOwner } from "../message/connection-owner.ts";
import { atTurnEnd, Flush, type TurnEndTask } from "./flush-scheduler.ts";
import { DirectWriting } from "./handle-writer.ts";

/** What is gathered before it is sent. */
const oneWriteMax = 16_384;

/** Whose it is that is gathered. */
type Answering = Readonly<{
  /** @returns false: no byte of it */
  mayLeave(flush: Flush): boolean;
  /** @param now as its owner counts */
  onLastLeft(now: number): void;
  /** What had to wait has left. */
  onDrain(): void;
}>;

export class AnswerWriter implements TurnEndTask {
  readonly towards = "caller";
  readonly #socket: Socket;
  readonly #direct: DirectWriting;
  readonly #owner: Pick<ConnectionOwner, "now" | "idleMs">;
  readonly #answer: Answering;
  /** Written, and not yet sent. */
  #out = "";
  #scheduled = false;
  #lastWritten = false;
  /** A caller that takes nothing of the last of its answer is idle, too: until when that is waited for. */
  unreadUntil = Infinity;

  constructor(socket: Socket, owner: Pick<ConnectionOwner, "now" | "idleMs">, answer: Answering) {
    this.#socket = socket;
    this.#owner = owner;
    this.#answer = answer;
    this.#direct = new DirectWriting(socket, () => answer.onDrain());
  }

  /** Whoever streams waits for the drain. */
  get needsDrain(): boolean {
    return this.#direct.waits || this.#socket.writableNeedDrain;
  }

  /** Everything that was written has left, whoever wrote it. */
  get isEmpty(): boolean {
    return this.#direct.isEmpty;
  }

  /** Small: it leaves with whatever else this turn brings. */
  send(text: string): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      atTurnEnd(this);
    }
    this.#out += text;
    if (this.#out.length > oneWriteMax) this.#write();
  }

  /** Large: it is not copied. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    const socket = this.#socket;
    socket.cork();
    this.#out += before;
    this.#write();
    socket.write(chunk);
    if (after !== "") socket.write(after, "latin1");
    socket.uncork();
  }

  /** The last of an answer. */
  sendLast(text: string): void {
    this.#lastWritten = true;
    this.send(text);
  }

  runAtTurnEnd(flush: Flush): void {
    this.#scheduled = false;
    this.#leave(flush);
    if (!this.#lastWritten) return;
    this.#lastWritten = false;
    if (this.#socket.destroyed) return; // its close is soon told of
    if (this.#direct.isEmpty) {
      this.#answer.onLastLeft(flush.now);
      return;
    }
    this.unreadUntil = this.#owner.now() + this.#owner.idleMs;
    if (!this.#socket.writable) return; // it closes when the rest has left
    this.#socket.write("", () => {
      this.unreadUntil = Infinity;
      // A destroyed socket says of what never left that it is over, too.
      if (!this.#socket.destroyed) this.#answer.onLastLeft(this.#owner.now());
    });
  }

  /** Before the end of the turn. */
  flush(): void {
    this.#leave(new Flush());
  }

  #leave(flush: Flush): void {
    if (this.#out === "") return;
    if (this.#answer.mayLeave(flush)) {
      this.#write();
      return;
    }
    // It has begun, here or with the caller, and nobody may take what left of it for the whole.
    this.drop();
    resetSocket(this.#socket);
  }

  #write(): void {
    const text = this.#out;
    if (text === "") return;
    this.#out = "";
    if (!this.#socket.destroyed) this.#direct.write(text);
  }

  /** The connection is gone. */
  drop(): void {
    this.#out = "";
    this.#lastWritten = false;
  }
}
