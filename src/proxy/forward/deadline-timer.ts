/**
 * Deadline timers: time-outs that rarely fire, for very many requests at once.
 *
 * - One interval checks all of them ten times a second, so starting or clearing one costs a few assignments.
 * - Deadlines of the same length expire in the order in which they started, so a check visits only the expired ones.
 * - A busy or stopped process checks late. The deadline then fires at the first check after it, once pending input was
 *   read: a response that arrived in time does not time out.
 */
import { performance } from "node:perf_hooks";
import { type Linked, LinkedList } from "../enforce/intrusive-list.ts";

const checkEveryMs = 100;

let checking: NodeJS.Timeout | undefined;
/** Running deadlines by length in ms. */
const running = new Map<number, LinkedList<Deadline>>();

export class Deadline implements Linked<Deadline> {
  before: Deadline | undefined;
  after: Deadline | undefined;
  readonly #onDue: () => void;
  readonly #dueAt: number;
  #list: LinkedList<Deadline> | undefined;

  /** @param onDue called once, never early, at the first check after the deadline */
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

  /** Cancels the deadline. Has no effect if it has fired. */
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
