/**
 * Deadlines: time-outs that nearly never come, for a great many things at a time.
 *
 * Time is counted in ticks, so that beginning and calling off cost a few assignments; a deadline is exceeded by no more than two of
 * them. Of one length, the first to begin is the first to end, so that a tick looks at those alone that are due.
 */
import { type Linked, LinkedList } from "./linked-list.ts";

const tickMs = 100;

let ticks = 0;
let ticking: NodeJS.Timeout | undefined;
/** By their length in ticks. */
const running = new Map<number, LinkedList<Deadline>>();

export class Deadline implements Linked<Deadline> {
  before: Deadline | undefined;
  after: Deadline | undefined;
  readonly #onDue: () => void;
  readonly #dueAt: number;
  #list: LinkedList<Deadline> | undefined;

  constructor(ms: number, onDue: () => void) {
    const length = Math.ceil(ms / tickMs) + 1; // the tick under way counts for nothing
    this.#onDue = onDue;
    this.#dueAt = ticks + length;
    const list = running.get(length) ?? new LinkedList<Deadline>();
    running.set(length, list);
    list.push(this);
    this.#list = list;
    ticking ??= setInterval(Deadline.tick, tickMs).unref();
  }

  /** It will not come, or has come. */
  clear(): void {
    this.#list?.remove(this);
    this.#list = undefined;
  }

  static tick(this: void): void {
    ticks++;
    for (const [length, list] of running) {
      for (let { first } = list; first !== undefined && first.#dueAt <= ticks; { first } = list) {
        first.clear();
        first.#onDue();
      }
      if (list.first === undefined) running.delete(length);
    }
    if (running.size > 0) return;
    clearInterval(ticking);
    ticking = undefined;
  }
}
