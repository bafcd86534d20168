/**
 * HTTP/1 writer: gathers what is answered on one connection within a turn of the event loop, writes it at once, and says when the
 * last of an answer has left.
 */
import type { Socket } from "node:net";
import type { ConnectionOwner } from "./connection-owner.ts";
import { atTurnEnd, type TurnEndTask } from "./turn-end-timer.ts";

/** What is gathered before it is sent. */
const oneWriteMax = 16_384;

export class AnswerWriter implements TurnEndTask {
  readonly towards = "caller";
  readonly #socket: Socket;
  readonly #owner: Pick<ConnectionOwner, "now" | "idleMs">;
  readonly #onLastLeft: () => void;
  /** Written, and not yet sent. */
  #out = "";
  #scheduled = false;
  #lastWritten = false;
  /** A caller that takes nothing of the last of its answer is idle, too: until when that is waited for. */
  unreadUntil = Infinity;

  constructor(socket: Socket, owner: Pick<ConnectionOwner, "now" | "idleMs">, onLastLeft: () => void) {
    this.#socket = socket;
    this.#owner = owner;
    this.#onLastLeft = onLastLeft;
  }

  /** Small: it leaves with whatever else this turn brings. */
  send(text: string): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      atTurnEnd(this);
    }
    this.#out += text;
    if (this.#out.length > oneWriteMax) this.flush();
  }

  /** Large: it is not copied. */
  sendAround(before: string, chunk: Buffer, after: string): void {
    const socket = this.#socket;
    socket.cork();
    this.#out += before;
    this.flush();
    socket.write(chunk);
    if (after !== "") socket.write(after, "latin1");
    socket.uncork();
  }

  /** The last of an answer. */
  sendLast(text: string): void {
    this.#lastWritten = true;
    this.send(text);
  }

  runAtTurnEnd(): void {
    this.#scheduled = false;
    this.flush();
    if (!this.#lastWritten) return;
    this.#lastWritten = false;
    if (this.#socket.writableLength === 0) {
      this.#onLastLeft();
      return;
    }
    this.unreadUntil = this.#owner.now() + this.#owner.idleMs;
    this.#socket.write("", () => {
      this.unreadUntil = Infinity;
      this.#onLastLeft();
    });
  }

  flush(): void {
    const text = this.#out;
    if (text === "") return;
    this.#out = "";
    if (!this.#socket.destroyed) this.#socket.write(text, "latin1");
  }

  /** The connection is gone. */
  drop(): void {
    this.#out = "";
  }
}
