/**
 * Pending requests: requests that wait for an answer of the core, by request number. Pure.
 */
export class PendingRequests<Answer> {
  readonly #numbers: { next: number };
  readonly #waiting = new Map<number, (answer: Answer) => void>();

  constructor(numbers: { next: number }) {
    this.#numbers = numbers;
  }

  /** @param also called with the request number and a function to answer early, if there is no answer yet */
  request(feed: (id: number) => void, also?: (id: number, settle: (answer: Answer) => void) => void): Promise<Answer> {
    const id = this.#numbers.next++;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    this.#waiting.set(id, resolve);
    feed(id);
    if (this.#waiting.has(id)) also?.(id, (answer) => this.answer(id, answer));
    return promise;
  }

  answer(id: number, answer: Answer): void {
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }
}
