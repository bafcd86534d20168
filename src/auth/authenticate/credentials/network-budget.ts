/**
 * Network budget: how many requests to a provider one network may cause, as a token bucket for each network (an IPv4
 * address, an IPv6 /64). Bounded; the networks seen last are kept. Pure, except for the clock that it is given.
 */
import { LRUCache } from "lru-cache";

/** A whole office may sign in from one address in the morning. */
export const startsPerS = 10;
export const burst = 100;
const networksMax = 10_000;

export class NetworkBudget {
  readonly #monotonic: () => number;
  /** Requests that a network may still cause, at a monotonic time (ms). */
  readonly #left = new LRUCache<string, Readonly<{ left: number; at: number }>>({
    maxSize: networksMax, // with `max`, the whole table would be allocated now
    sizeCalculation: () => 1,
  });

  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  /** @returns false: the network has used up its budget */
  spend(network: string): boolean {
    const now = this.#monotonic();
    const { left, at } = this.#left.get(network) ?? { left: burst, at: now };
    const refilled = Math.min(burst, left + ((now - at) / 1_000) * startsPerS);
    this.#left.set(network, { left: refilled >= 1 ? refilled - 1 : refilled, at: now });
    return refilled >= 1;
  }
}
