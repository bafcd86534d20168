/**
 * Notifier: a condition variable. It means "check again", not "this happened", so a spurious notify costs one check and
 * a missed one costs the time-out.
 */

/** The longest delay that a Node timer accepts. */
const timerMsMax = 2_147_483_647;

export class Notifier {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  /** Read it before the check and pass it to `wait`: then no notify in between is missed. */
  get count(): number {
    return this.#count;
  }

  notify(): void {
    this.#count += 1;
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the first notify since `seen`, after `ms`, or when the signal aborts. */
  wait(seen: number, ms: number, signal?: AbortSignal): Promise<void> {
    if (this.#count !== seen || signal?.aborted === true || ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.min(ms, timerMsMax));
      this.#waiting.add(done);
      signal?.addEventListener("abort", done, { once: true });
    });
  }
}

/** Resolves after `ms`, or at once when the signal aborts. */
export function waitFor(ms: number, signal?: AbortSignal): Promise<void> {
  return new Notifier().wait(0, ms, signal);
}

export type Alarm = Readonly<{
  /** Calls back once after this time, immediately if it is not positive; replaces an earlier call. */
  set: (ms: number) => void;
  off: () => void;
}>;

/** Calls back from the event loop, never from within `set`. */
export function createWakeTimer(ring: () => void): Alarm {
  let timer: NodeJS.Timeout | undefined;
  let soon: NodeJS.Immediate | undefined;
  const off = (): void => {
    clearTimeout(timer);
    if (soon !== undefined) clearImmediate(soon);
  };
  return {
    set(ms) {
      off();
      if (ms <= 0) soon = setImmediate(ring);
      else timer = setTimeout(ring, Math.min(Math.ceil(ms), timerMsMax));
    },
    off,
  };
}
