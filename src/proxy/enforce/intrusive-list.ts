/**
 * Linked list: through its items themselves, for what comes and goes with each request.
 *
 * A `Set` or `Map` that items pass through all the time is built anew every few dozen of them, and each table that was
 * left behind keeps what it held from the garbage collector's short round. Here an item that has left leaves nothing
 * behind. Pure.
 */
export interface Linked<T> {
  before: T | undefined;
  after: T | undefined;
}

export class LinkedList<T extends Linked<T>> {
  first: T | undefined;
  last: T | undefined;

  push(item: T): void {
    item.before = this.last;
    if (this.last === undefined) this.first = item;
    else this.last.after = item;
    this.last = item;
  }

  /** @param item of this list */
  remove(item: T): void {
    const { before, after } = item;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    item.before = undefined;
    item.after = undefined;
  }

  /** A copy: items may leave while it is gone through. */
  items(): T[] {
    const items: T[] = [];
    for (let item = this.first; item !== undefined; item = item.after) items.push(item);
    return items;
  }
}
