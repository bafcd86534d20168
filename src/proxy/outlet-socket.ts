/**
 * Outlet: the answers that one connection has written and whose bytes its kernel may still hold.
 *
 * - An exchange stays registered until the caller's kernel has acknowledged its last byte (exchanges.ts).
 * - A cut is finished when the peer has what was written before it. After `cutWithinMs` the connection is reset instead: bytes of one
 *   answer cannot be taken out of a stream that carries several.
 */
import type { Socket } from "node:net";
import type { Delivery, Exchange, Outlet } from "./exchanges.ts";
import { ackedMark, resetSocket, type SendMark, sendMark, unsentBytes } from "./send-queue-socket.ts";

/** From a cut to the reset of a connection that has not delivered what it was handed. */
export const cutWithinMs = 50;
/** How often a slow caller is looked at meanwhile. */
const lookEveryMs = 5;

export class SocketOutlet implements Outlet {
  readonly #socket: Socket;
  /** The oldest first, so by ascending marks. Bounded by what the kernel holds. */
  readonly #pending: PendingAnswer[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  deliver(exchange: Exchange): Delivery | undefined {
    if (this.#socket.destroyed) return undefined;
    const answer = new PendingAnswer(this.#socket, exchange);
    this.#releaseDelivered();
    this.#pending.push(answer);
    return answer;
  }

  #releaseDelivered(): void {
    if (this.#pending.length === 0) return;
    const acked = ackedMark(this.#socket) ?? Number.POSITIVE_INFINITY;
    for (let first = this.#pending[0]; first !== undefined && first.mark <= acked; first = this.#pending[0]) {
      this.#pending.shift();
      first.release();
    }
  }
}

class PendingAnswer implements Delivery {
  readonly mark: SendMark;
  readonly #socket: Socket;
  /** Until it is delivered. */
  #exchange: Exchange | undefined;

  constructor(socket: Socket, exchange: Exchange) {
    this.mark = sendMark(socket);
    this.#socket = socket;
    this.#exchange = exchange;
  }

  release(): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.leaveIfDelivered();
  }

  isDone(): boolean {
    if (this.#exchange !== undefined && hasDelivered(this.#socket, this.mark)) this.#exchange = undefined;
    return this.#exchange === undefined;
  }

  async soon(): Promise<void> {
    const until = performance.now() + cutWithinMs;
    while (!this.isDone() && performance.now() < until) await later();
  }

  reset(): void {
    if (!this.isDone()) resetSocket(this.#socket);
  }
}

/** Unknown counts as delivered: send-queue-socket.ts says where that is so. */
function hasDelivered(socket: Socket, mark: SendMark): boolean {
  return socket.destroyed || (ackedMark(socket) ?? mark) >= mark;
}

function later(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, lookEveryMs);
  });
}

async function doneOrReset(socket: Socket, isDone: () => boolean): Promise<void> {
  const until = performance.now() + cutWithinMs;
  while (!socket.destroyed && !isDone()) {
    if (performance.now() >= until) resetSocket(socket);
    else await later();
  }
}

/** Cuts of streams on an HTTP/2 connection that are not finished yet. */
export class StreamCuts {
  readonly #socket: Socket;
  readonly #isDone: (mark: SendMark) => boolean;
  #finishing: Promise<void> | undefined;
  /** A stream was cut since the last look. */
  #cutAgain = false;

  private constructor(socket: Socket, isDone: (mark: SendMark) => boolean) {
    this.#socket = socket;
    this.#isDone = isDone;
  }

  /** @param onWait elicits an acknowledgement, which TCP may delay */
  static ofCaller(socket: Socket, onWait: () => void): StreamCuts {
    return new StreamCuts(socket, (mark) => {
      if (hasDelivered(socket, mark)) return true;
      onWait();
      return false;
    });
  }

  /** Callers share the connection, so it is reset only for what has not been sent at all. */
  static ofUpstream(socket: Socket): StreamCuts {
    return new StreamCuts(
      socket,
      (mark) => sendMark(socket) - unsentBytes(socket) >= mark || unsentBytes(socket) === 0,
    );
  }

  /** @returns settles when no byte that was written before can leave this machine */
  finished(): Promise<void> {
    this.#cutAgain = true;
    this.#finishing ??= this.#finish().finally(() => {
      this.#finishing = undefined;
    });
    return this.#finishing;
  }

  async #finish(): Promise<void> {
    while (this.#cutAgain && !this.#socket.destroyed) {
      this.#cutAgain = false;
      await new Promise((resolve) => setImmediate(resolve)); // what a cut writes, it writes within that
      const mark = sendMark(this.#socket);
      await doneOrReset(this.#socket, () => this.#isDone(mark));
    }
  }
}
