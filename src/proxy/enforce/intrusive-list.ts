/**
 * Intrusive list: a doubly linked list whose items hold the links, for items that live as long as a request. Pure.
 *
 * A `Set` or `Map` with constant turnover is rehashed every few dozen items. Each abandoned table keeps its items alive
 * through minor garbage collections. Here a removed item leaves nothing behind.
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

  /** @param item must be in this list */
  remove(item: T): void {
    const { before, after } = item;
    if (before === undefined) this.first = after;
    else before.after = after;
    if (after === undefined) this.last = before;
    else after.before = before;
    item.before = undefined;
    item.after = undefined;
  }

  /** A copy, so items may be removed during iteration. */
  items(): T[] {
    const items: T[] = [];
    for (let item = this.first; item !== undefined; item = item.after) items.push(item);
    return items;
  }
}
