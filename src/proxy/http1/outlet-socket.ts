/**
 * Outlet: the responses that one connection has written and whose bytes its kernel may still hold.
 *
 * - An exchange stays registered until the caller's kernel has acknowledged its last byte (enforce/exchanges.ts), or
 *   until a later response on the connection replaces it. The kernel is queried only when there is something to
 *   decide: by a change, by the sweep, and when responses of different callers or routes alternate on one connection.
 * - A cut is finished when the peer has what was written before it. After `cutWithinMs` the connection is reset
 *   instead: bytes of one response cannot be taken out of a stream that carries several.
 */
import type { Socket } from "node:net";
import {
  ackedMark,
  closeSocket,
  resetSocket,
  type SendMark,
  sendMark,
  unsentBytes,
} from "../enforce/send-queue-socket.ts";
import type { ExchangeHandle, Outlet, SocketDelivery } from "../message/deliveries.ts";

/** From a cut to the reset of a connection that has not delivered what was written to it. */
export const cutWithinMs = 50;
/** How often the queue of a slow caller is checked meanwhile. */
const checkEveryMs = 5;

/**
 * Responses of one connection that its peer has not acknowledged. More than a distant caller of small responses
 * needs.
 */
const undeliveredMax = 4_096;
/** Responses of one connection that cannot replace each other, before the kernel is queried for acknowledgements. */
const uncheckedMax = 8;
/** How old a query of the kernel's queue may be: a sweep needs one for each of many responses of a connection. */
const checkedMsMax = 1;

export class SocketOutlet implements Outlet {
  readonly #socket: Socket;
  readonly #onFull: () => void;
  /** Oldest first, so by ascending marks. */
  readonly #pending: PendingResponse[] = [];
  /** The peer has everything up to here, by the last query. */
  #acked: SendMark = 0;
  #checkedAt = Number.NEGATIVE_INFINITY;

  /** @param onFull too many responses are unacknowledged; the connection is reset */
  constructor(socket: Socket, onFull: () => void) {
    this.#socket = socket;
    this.#onFull = onFull;
  }

  deliver(exchange: ExchangeHandle): SocketDelivery | undefined {
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

  /** @returns whether the peer has everything up to a mark; unknown counts as yes (send-queue-socket.ts says when) */
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

  /** The next check queries the kernel again. */
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

class PendingResponse implements SocketDelivery {
  readonly mark: SendMark;
  readonly #outlet: SocketOutlet;
  readonly #socket: Socket;
  /** Undefined once it is delivered. */
  #exchange: ExchangeHandle | undefined;
  /** The end of the last response that this one replaced. */
  #olderMark: SendMark = 0;

  constructor(outlet: SocketOutlet, socket: Socket, exchange: ExchangeHandle) {
    this.mark = sendMark(socket);
    this.#outlet = outlet;
    this.#socket = socket;
    this.#exchange = exchange;
  }

  /** @returns whether `last` need not be tracked by itself any more */
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
 * What was written to an upstream's connection and not sent. Callers share the connection, so it is reset only for
 * what has not been sent at all. It sends in order and each of these ends in a frame of its own, so a full queue
 * bounds their number.
 * @returns undefined when it has sent everything
 */
export function unsentDelivery(socket: Socket): SocketDelivery | undefined {
  const mark = sendMark(socket);
  return deliveryOf(socket, () => hasSent(socket, mark));
}

/**
 * What is left of the bytes of a caller that has an upstream's connection to itself and has left.
 * @param isWritten all of it was written to the connection
 * @returns undefined when it has sent everything
 */
export function unsentUpload(socket: Socket, isWritten: () => boolean): SocketDelivery | undefined {
  return deliveryOf(socket, () => socket.destroyed || (isWritten() && unsentBytes(socket) === 0));
}

function deliveryOf(socket: Socket, isDone: () => boolean): SocketDelivery | undefined {
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

/** Resolves when it is done, or after `cutWithinMs`. */
async function waitUntilDone(isDone: () => boolean): Promise<void> {
  const until = performance.now() + cutWithinMs;
  while (!isDone() && performance.now() < until) await nextCheck();
}

/** Unknown counts as delivered; send-queue-socket.ts says when that happens. */
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
  /** A stream was cut since the last check. */
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
