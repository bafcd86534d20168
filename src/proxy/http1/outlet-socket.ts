/**
 * Outlet: the answers that one connection has written and whose bytes its kernel may still hold.
 *
 * - An exchange stays registered until the caller's kernel has acknowledged its last byte (exchanges.ts), or until a later answer on the
 *   connection stands for it. The kernel is asked only when there is something to decide: by a change, by the sweep, and when answers of
 *   different callers or routes alternate on one connection.
 * - A cut is finished when the peer has what was written before it. After `cutWithinMs` the connection is reset instead: bytes of one
 *   answer cannot be taken out of a stream that carries several.
 */
import type { Socket } from "node:net";
import type { Exchange, Outlet } from "../enforce/exchanges.ts";
import {
  ackedMark,
  closeSocket,
  resetSocket,
  type SendMark,
  sendMark,
  unsentBytes,
} from "../enforce/send-queue-socket.ts";
import type { Delivery } from "../message/deliveries.ts";

/** From a cut to the reset of a connection that has not delivered what it was handed. */
export const cutWithinMs = 50;
/** How often a slow caller is looked at meanwhile. */
const checkEveryMs = 5;

/** Answers of one connection that its peer has not acknowledged, at most. More than a distant caller of small answers has under way. */
const undeliveredMax = 4_096;
/** Answers of one connection that cannot stand for each other, before the kernel is asked which of them have been acknowledged. */
const uncheckedMax = 8;
/** How old a look at the kernel's queue may be: a sweep asks for each of many answers of one connection. */
const checkedMsMax = 1;

export class SocketOutlet implements Outlet {
  readonly #socket: Socket;
  readonly #onFull: () => void;
  /** The oldest first, so by ascending marks. */
  readonly #pending: PendingResponse[] = [];
  /** Up to where the peer has everything, as of the last look. */
  #acked: SendMark = 0;
  #checkedAt = Number.NEGATIVE_INFINITY;

  /** @param onFull the peer takes nothing of too many answers; the connection is reset */
  constructor(socket: Socket, onFull: () => void) {
    this.#socket = socket;
    this.#onFull = onFull;
  }

  deliver(exchange: Exchange): Delivery | undefined {
    if (this.#socket.destroyed) return undefined;
    const answer = new PendingResponse(this, this.#socket, exchange);
    const last = this.#pending.at(-1);
    if (last !== undefined && answer.replaceOlder(last)) {
      this.#pending[this.#pending.length - 1] = answer;
      return answer;
    }
    if (this.#pending.length >= uncheckedMax) this.#releaseDelivered();
    if (this.#pending.length >= undeliveredMax) {
      this.#onFull();
      resetSocket(this.#socket);
      return undefined;
    }
    this.#pending.push(answer);
    return answer;
  }

  /** @returns whether the peer has everything up to a mark; unknown counts as yes (send-queue-socket.ts says where) */
  hasDelivered(mark: SendMark): boolean {
    if (this.#socket.destroyed || mark <= this.#acked) return true;
    const now = performance.now();
    if (now - this.#checkedAt < checkedMsMax) return false;
    this.#checkedAt = now;
    const written = sendMark(this.#socket);
    this.#acked = Math.min(written, ackedMark(this.#socket) ?? written);
    return mark <= this.#acked;
  }

  /** Closes the connection at once: with a FIN if the caller has everything, otherwise with a reset. */
  close(): void {
    closeSocket(this.#socket);
  }

  /** The next question looks at the kernel's queue, however recent the last look. */
  forgetCheck(): void {
    this.#checkedAt = Number.NEGATIVE_INFINITY;
  }

  #releaseDelivered(): void {
    for (;;) {
      const first = this.#pending[0];
      if (first === undefined || !this.hasDelivered(first.mark)) return;
      this.#pending.shift();
      first.release();
    }
  }
}

class PendingResponse implements Delivery {
  readonly mark: SendMark;
  readonly #outlet: SocketOutlet;
  readonly #socket: Socket;
  /** Until it is delivered. */
  #exchange: Exchange | undefined;
  /** The end of the last answer that this one stands for. */
  #olderMark: SendMark = 0;

  constructor(outlet: SocketOutlet, socket: Socket, exchange: Exchange) {
    this.mark = sendMark(socket);
    this.#outlet = outlet;
    this.#socket = socket;
    this.#exchange = exchange;
  }

  /** @returns whether `last` needs no place of its own any more */
  replaceOlder(last: PendingResponse): boolean {
    const older = last.#exchange;
    if (older === undefined) return true;
    if (this.#exchange?.standInFor(older) !== true) return false;
    this.#olderMark = last.mark;
    last.release();
    return true;
  }

  hasUndeliveredOlder(): boolean {
    this.#outlet.forgetCheck();
    return !this.#outlet.hasDelivered(this.#olderMark);
  }

  release(): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.leaveIfDelivered();
  }

  isDone(): boolean {
    if (this.#exchange !== undefined && this.#outlet.hasDelivered(this.mark)) this.#exchange = undefined;
    return this.#exchange === undefined;
  }

  waitBriefly(): Promise<void> {
    return waitUntilDone(() => this.isDone());
  }

  reset(): void {
    this.#outlet.forgetCheck();
    if (!this.isDone()) resetSocket(this.#socket);
  }
}

/**
 * What a connection to an upstream was handed and has not sent. Callers share the connection, so it is reset only for what has not been
 * sent at all. It sends in order and each of these ends in a frame of its own, so a full queue bounds their number.
 * @returns undefined when it has sent everything
 */
export function unsentDelivery(socket: Socket): Delivery | undefined {
  const mark = sendMark(socket);
  const isDone = (): boolean => hasSent(socket, mark);
  if (isDone()) return undefined;
  return {
    isDone,
    waitBriefly: () => waitUntilDone(isDone),
    reset() {
      if (!isDone()) resetSocket(socket);
    },
    hasUndeliveredOlder: () => false,
  };
}

function hasSent(socket: Socket, mark: SendMark): boolean {
  if (socket.destroyed) return true;
  const unsent = unsentBytes(socket);
  return unsent === 0 || sendMark(socket) - unsent >= mark;
}

/** Settles when it is done, or after `cutWithinMs`. */
async function waitUntilDone(isDone: () => boolean): Promise<void> {
  const until = performance.now() + cutWithinMs;
  while (!isDone() && performance.now() < until) await nextCheck();
}

/** Unknown counts as delivered: send-queue-socket.ts says where that is so. */
function hasDelivered(socket: Socket, mark: SendMark): boolean {
  return socket.destroyed || (ackedMark(socket) ?? mark) >= mark;
}

function nextCheck(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, checkEveryMs);
  });
}

async function doneOrReset(socket: Socket, isDone: () => boolean): Promise<void> {
  const until = performance.now() + cutWithinMs;
  while (!socket.destroyed && !isDone()) {
    if (performance.now() >= until) resetSocket(socket);
    else await nextCheck();
  }
}

/** Cuts of streams on an HTTP/2 connection that are not finished yet. */
export class StreamCuts {
  readonly #socket: Socket;
  readonly #isDone: (mark: SendMark) => boolean;
  #finishing: Promise<void> | undefined;
  /** A stream was cut since the last look. */
  #hasNewCut = false;

  private constructor(socket: Socket, isDone: (mark: SendMark) => boolean) {
    this.#socket = socket;
    this.#isDone = isDone;
  }

  /** @param onWait elicits an acknowledgement, which TCP may delay */
  static ofDownstream(socket: Socket, onWait: () => void): StreamCuts {
    return new StreamCuts(socket, (mark) => {
      if (hasDelivered(socket, mark)) return true;
      onWait();
      return false;
    });
  }

  /** Callers share the connection, so it is reset only for what has not been sent at all. */
  static ofUpstream(socket: Socket): StreamCuts {
    return new StreamCuts(socket, (mark) => hasSent(socket, mark));
  }

  /** @returns settles when no byte that was written before can leave this machine */
  finished(): Promise<void> {
    this.#hasNewCut = true;
    this.#finishing ??= this.#finish().finally(() => {
      this.#finishing = undefined;
    });
    return this.#finishing;
  }

  async #finish(): Promise<void> {
    while (this.#hasNewCut && !this.#socket.destroyed) {
      this.#hasNewCut = false;
      await new Promise((resolve) => setImmediate(resolve)); // what a cut writes, it writes within that
      const mark = sendMark(this.#socket);
      await doneOrReset(this.#socket, () => this.#isDone(mark));
    }
  }
}
