/** Listeners: told once, in the order in which they came. A few of them need no list. Pure. */
export class OnceListeners {
  #first: (() => void) | undefined;
  #second: (() => void) | undefined;
  #more: (() => void)[] | undefined;

  add(listener: () => void): void {
    if (this.#first === undefined) this.#first = listener;
    else if (this.#second === undefined) this.#second = listener;
    else {
      this.#more ??= [];
      this.#more.push(listener);
    }
  }

  /** Nobody is told twice. */
  call(): void {
    const first = this.#first;
    const second = this.#second;
    const more = this.#more;
    this.#first = undefined;
    this.#second = undefined;
    this.#more = undefined;
    first?.();
    second?.();
    if (more !== undefined) for (const listener of more) listener();
  }
}
