/**
 * NATS pipe: one direction of a TCP connection in the NATS model.
 *
 * - Messages arrive in order, or the connection ends.
 * - A cut alone loses nothing: messages in flight wait and arrive late once the link heals, unless either side ends the
 *   connection first.
 * - The receiver decides how a paused process handles its messages.
 */
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

const pollEveryMs = 50;
const sentAgainMs = 200;

export class Pipe {
  readonly #world: World;
  readonly #from: SimProcess;
  readonly #to: SimProcess;
  readonly #queue: (() => void)[] = [];
  /** Number of queued messages that have had time to arrive. */
  #due = 0;
  #lastAt = 0;
  #looking = false;
  #heldSince: number | undefined;
  #broken = false;

  constructor(world: World, from: SimProcess, to: SimProcess) {
    this.#world = world;
    this.#from = from;
    this.#to = to;
  }

  /** Time since which a message waits for a cut to heal; undefined: none waits. */
  get heldSince(): number | undefined {
    return this.#heldSince;
  }

  send(run: () => void): void {
    if (this.#broken) return;
    const { network, now } = this.#world;
    const again = network.isLost(this.#from, this.#to) ? sentAgainMs : 0;
    const at = Math.max(this.#lastAt, now + network.delay(this.#from, this.#to) + again);
    this.#lastAt = at;
    this.#queue.push(run);
    this.#world.at(at, () => {
      this.#due += 1;
      this.#flush();
    });
  }

  /** Drops everything in flight. @returns the number of dropped messages */
  break(): number {
    const lost = this.#queue.length;
    this.#broken = true;
    this.#queue.length = 0;
    return lost;
  }

  /** Drops everything in flight and replaces the connection by a new one. */
  reset(): number {
    const lost = this.#queue.length;
    this.#queue.length = 0;
    this.#due -= lost; // offsets their timers, which still fire
    this.#heldSince = undefined;
    return lost;
  }

  #flush(): void {
    while (this.#due > 0 && this.#queue.length > 0 && !this.#broken) {
      if (this.#world.network.isCut(this.#from, this.#to)) {
        this.#heldSince ??= this.#world.now;
        this.#lookAgain();
        return;
      }
      this.#heldSince = undefined;
      this.#due -= 1;
      this.#queue.shift()?.();
    }
  }

  #lookAgain(): void {
    if (this.#looking) return;
    this.#looking = true;
    this.#world.after(pollEveryMs, () => {
      this.#looking = false;
      this.#flush();
    });
  }
}
