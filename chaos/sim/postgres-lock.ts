/**
 * Postgres lock: the lock on the head row of one server.
 *
 * - At most one owner holds it. Others wait in FIFO order, each up to its lock timeout.
 * - The holder keeps it until its commit is acknowledged, not only written (docs/protocol.md §3.1).
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

  /** Does nothing if another owner holds the lock. */
  release(owner: object): void {
    if (this.#holder !== owner) return;
    const next = this.#waiting.shift();
    this.#holder = next?.owner;
    next?.timer.cancel();
    next?.granted();
  }

  /** Drops the holder and all waiters: the server died, and its transactions with it. */
  clear(): void {
    for (const { timer } of this.#waiting) timer.cancel();
    this.#waiting = [];
    this.#holder = undefined;
  }
}
