/**
 * Event queue: a binary min-heap of pending callbacks, ordered by due time and then by insertion order.
 *
 * Pure. A cancelled entry stays in the heap until its due time and is then skipped, so cancelling is cheap.
 */
export type Due = {
  readonly at: number;
  readonly order: number;
  /** Undefined once the entry has run or was cancelled. */
  run: (() => void) | undefined;
};

export class Heap {
  readonly #due: Due[] = [];
  #order = 0;

  get size(): number {
    return this.#due.length;
  }

  push(at: number, run: () => void): Due {
    this.#order += 1;
    const due: Due = { at, order: this.#order, run };
    const heap = this.#due;
    let i = heap.length;
    heap.push(due);
    while (i > 0) {
      const parentAt = (i - 1) >> 2;
      const parent = heap[parentAt] as Due;
      if (parent.at < at || (parent.at === at && parent.order < due.order)) break;
      heap[i] = parent;
      i = parentAt;
    }
    heap[i] = due;
    return due;
  }

  /** The earliest entry that is not cancelled; the heap keeps it. */
  peek(): Due | undefined {
    while (this.#due.length > 0) {
      const first = this.#due[0] as Due;
      if (first.run !== undefined) return first;
      this.#removeFirst();
    }
    return undefined;
  }

  /** @returns undefined if no entry is due at or before `until` */
  pop(until: number): Due | undefined {
    const first = this.peek();
    if (first === undefined || first.at > until) return undefined;
    this.#removeFirst();
    return first;
  }

  #removeFirst(): void {
    const heap = this.#due;
    const last = heap.pop() as Due;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    while (true) {
      const firstChild = 4 * i + 1;
      if (firstChild >= size) break;
      let least = firstChild;
      let leastDue = heap[firstChild] as Due;
      const end = Math.min(firstChild + 4, size);
      for (let c = firstChild + 1; c < end; c += 1) {
        const child = heap[c] as Due;
        if (child.at < leastDue.at || (child.at === leastDue.at && child.order < leastDue.order)) {
          least = c;
          leastDue = child;
        }
      }
      if (last.at < leastDue.at || (last.at === leastDue.at && last.order < leastDue.order)) break;
      heap[i] = leastDue;
      i = least;
    }
    heap[i] = last;
  }
}
