/**
 * Write queue: bounds how many calls run at once and how many wait, in order of arrival.
 *
 * Pure. A full queue refuses a call at once, so that a stalled store cannot accumulate callers without bound.
 */
import { CodedError } from "../../events/index.ts";

export class NoTurnError extends CodedError<"ERR_REPLICATION_NO_TURN"> {
  override readonly code = "ERR_REPLICATION_NO_TURN";
  constructor(waitingMax: number) {
    super(`${waitingMax} callers are already waiting`);
  }
}

export class Turns {
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(options: Readonly<{ atOnce: number; waitingMax: number }>) {
    this.#free = options.atOnce;
    this.#waitingMax = options.waitingMax;
  }

  /** @throws NoTurnError when too many calls already wait */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else if (this.#waiting.length >= this.#waitingMax) throw new NoTurnError(this.#waitingMax);
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next(); // the turn passes directly to the next caller
    }
  }
}
