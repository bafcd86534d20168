/**
 * Change listeners: holders of open streams, notified synchronously of every change.
 *
 * A change is enforced once every promise they returned has resolved. A listener that throws or rejects fails the
 * change, because its streams may still be open. The listeners after it are notified anyway. Pure.
 */
import type { Change, ChangeListener } from "../replica.ts";

export class ChangeListeners {
  readonly #listeners = new Set<ChangeListener>();

  get count(): number {
    return this.#listeners.size;
  }

  add(listener: ChangeListener): () => void {
    const own: ChangeListener = (change) => listener(change);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** @param done called once for a change; if no listener returned a promise, before this returns */
  notify(
    change: Change,
    done: (outcome: Readonly<{ failed: false } | { failed: true; error: unknown }>) => void,
  ): void {
    let open = 1;
    let failed = false;
    const settle = (): void => {
      open -= 1;
      if (open === 0 && !failed) done({ failed: false });
    };
    const fail = (error: unknown): void => {
      if (!failed) done({ failed: true, error });
      failed = true;
    };
    for (const listener of [...this.#listeners]) {
      try {
        const settled = listener(change);
        if (!(settled instanceof Promise)) continue;
        open += 1;
        settled.then(settle, fail);
      } catch (error) {
        fail(error);
      }
    }
    settle();
  }
}
