/**
 * Postgres lock: the lock on the head row of one server. One holder; the others wait in the order in which they came,
 * each as long as its lock timeout lets it. Held until the holder's commit is acknowledged, not only written
 * (docs/protocol.md §3.1).
 */
import type { SimProcess, Timer } from "./process.ts";

type Waiter = Readonly<{ owner: object; granted: () => void; timer: Timer }>;

export class RowLock {
  readonly #process: SimProcess;
  #holder: object | undefined;
  #waiting: Waiter[] = [];

  constructor(process: SimProcess) {
    this.#process = process;
  }

  get isHeld(): boolean {
    return this.#holder !== undefined;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  isHeldBy(owner: object): boolean {
    return this.#holder === owner;
  }

  take(owner: object, timeoutMs: number, then: Readonly<{ granted: () => void; timedOut: () => void }>): void {
    if (this.#holder === undefined || this.#holder === owner) {
      this.#holder = owner;
      then.granted();
      return;
    }
    const timer = this.#process.after(timeoutMs, () => {
      this.#waiting = this.#waiting.filter((one) => one !== waiter);
      then.timedOut();
    });
    const waiter: Waiter = { owner, granted: then.granted, timer };
    this.#waiting.push(waiter);
  }

  /** Nothing happens when somebody else holds it. */
  release(owner: object): void {
    if (this.#holder !== owner) return;
    const next = this.#waiting.shift();
    this.#holder = next?.owner;
    next?.timer.cancel();
    next?.granted();
  }

  /** The server has died, and every transaction with it. */
  clear(): void {
    for (const { timer } of this.#waiting) timer.cancel();
    this.#waiting = [];
    this.#holder = undefined;
  }
}
