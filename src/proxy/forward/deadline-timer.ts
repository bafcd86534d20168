/**
 * Deadlines: time-outs that nearly never come, for a great many things at a time.
 *
 * One timer looks at them all, ten times a second, so that beginning and calling off cost a few assignments. Of one length, the first to
 * begin is the first to end, so that a look sees those alone that are due. Time itself is the clock's: looks that come late, because
 * the process is busy or was stopped, make no deadline longer than the first look that does come. That one lets what has
 * arrived meanwhile be read first: an answer that was there in time is not taken for one that never came.
 */
import { type Linked, LinkedList } from "../enforce/intrusive-list.ts";

const checkEveryMs = 100;

let checking: NodeJS.Timeout | undefined;
/** By their length. */
const running = new Map<number, LinkedList<Deadline>>();

export class Deadline implements Linked<Deadline> {
  before: Deadline | undefined;
  after: Deadline | undefined;
  readonly #onDue: () => void;
  readonly #dueAt: number;
  #list: LinkedList<Deadline> | undefined;

  /** @param onDue once, never early, and no later than the first look behind it */
  constructor(ms: number, onDue: () => void) {
    let list = running.get(ms);
    if (list === undefined) {
      list = new LinkedList<Deadline>();
      running.set(ms, list);
    }
    this.#onDue = onDue;
    this.#dueAt = performance.now() + ms;
    list.push(this);
    this.#list = list;
    checking ??= setInterval(() => setImmediate(Deadline.check), checkEveryMs).unref();
  }

  /** It will not come, or has come. */
  clear(): void {
    this.#list?.remove(this);
    this.#list = undefined;
  }

  static check(this: void): void {
    const now = performance.now();
    for (const [length, list] of running) {
      for (let { first } = list; first !== undefined && first.#dueAt <= now; { first } = list) {
        first.clear();
        first.#onDue();
      }
      if (list.first === undefined) running.delete(length);
    }
    if (running.size > 0) return;
    clearInterval(checking);
    checking = undefined;
  }
}
