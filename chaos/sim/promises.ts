/**
 * Promises: what a shell of the product awaits in one boot of a process of the world.
 *
 * - A promise waits while the process is paused, and never settles after the boot. So a shell can be cut off between
 *   every two of its steps.
 * - The world makes its next step only after everything that waited for a promise has run.
 */
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

export class Promises {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #boot: number;

  constructor(world: World, process: SimProcess) {
    this.#world = world;
    this.#process = process;
    this.#boot = process.boot;
  }

  /** @param ask gets a function that settles the promise; an `Error` rejects it */
  wait<T>(ask: (answered: (value: T | Error) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      ask((value) => {
        if (this.#process.boot !== this.#boot) return;
        this.#process.run(() => {
          this.#world.mustSettle();
          if (value instanceof Error) reject(value);
          else resolve(value);
        });
      });
    });
  }

  /** Resolves after `ms` of the machine's monotonic clock, or earlier if the signal aborts. */
  pass(ms: number, signal?: AbortSignal): Promise<void> {
    return this.wait<void>((answered) => {
      this.#process.after(ms, () => answered());
      signal?.addEventListener("abort", () => answered(), { once: true });
    });
  }

  /** Begins a function that awaits. An error that it throws ends the simulation. */
  begin<T>(work: () => Promise<T>, ended: (value: T) => void): void {
    this.#world.mustSettle();
    work().then(
      (value) => {
        if (this.#process.boot === this.#boot) this.#process.run(() => ended(value));
      },
      (error: unknown) => this.#world.fail(error),
    );
  }

  /** Its listeners settle promises. */
  abort(controller: AbortController): void {
    this.#world.mustSettle();
    controller.abort();
  }
}
