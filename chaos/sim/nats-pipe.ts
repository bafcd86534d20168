/**
 * NATS pipe: one direction of a TCP connection in the NATS model.
 *
 * What is sent arrives in order, or the connection ends. A cut loses nothing by itself: what is under way waits and
 * arrives late when the link heals, unless somebody ends the connection first. Who receives decides what a paused
 * process means.
 */
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

const lookEveryMs = 50;
const sentAgainMs = 200;

export class Pipe {
  readonly #world: World;
  readonly #from: SimProcess;
  readonly #to: SimProcess;
  readonly #queue: (() => void)[] = [];
  /** Of the queue, how many have had time to arrive. */
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

  /** Since when something waits for a cut to heal. */
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

  /** Everything under way is lost. @returns how much that was */
  break(): number {
    const lost = this.#queue.length;
    this.#broken = true;
    this.#queue.length = 0;
    return lost;
  }

  /** Everything under way is lost, and a new connection takes its place. */
  reset(): number {
    const lost = this.#queue.length;
    this.#queue.length = 0;
    this.#due -= lost; // their time is still to come, and means nothing then
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
    this.#world.after(lookEveryMs, () => {
      this.#looking = false;
      this.#flush();
    });
  }
}
