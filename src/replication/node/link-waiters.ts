/**
 * Link waiters: requests that need the projection to have reached a link. Bounded in number and in time. Pure: the
 * caller reports when the projection moves and passes the time; the methods return the answered requests.
 */

import type { Epoch, NeededLink } from "../../events/index.ts";
import { parseEpoch } from "../../events/index.ts";
import { type ChainHistory, epochAt, locateLink } from "../lease/chain-history.ts";

export type LinkWaitOutcome = "reached" | "behind" | "lost";
export type LinkWaitResult = Readonly<{ id: number; outcome: LinkWaitOutcome }>;

type LinkWaiter = {
  readonly id: number;
  readonly link: NeededLink;
  readonly since: number;
  readonly until: number;
  readAt: number;
};

const waitersMax = 10_000;
/** After this time without the link from the fan-out, the node reads from a broker. */
const readAfterMs = 25;

export class LinkWaiters {
  readonly #waiters = new Map<number, LinkWaiter>();
  /** No waiter is due before this time. */
  #due = Number.POSITIVE_INFINITY;
  /**
   * The link of the highest epoch that a request waited for in vain. Null: none, or the chain has located it since.
   */
  #unreached: Readonly<{ link: NeededLink; since: number }> | null = null;

  get count(): number {
    return this.#waiters.size;
  }
  get due(): number {
    return this.#due;
  }

  /** @returns the answer if it is known at once */
  wait(
    request: Readonly<{ id: number; link: NeededLink; timeoutMs: number }>,
    history: ChainHistory,
    now: number,
  ): LinkWaitOutcome | undefined {
    const verdict = outcomeFor(history, request.link);
    if (verdict !== undefined) return verdict;
    if (request.timeoutMs <= 0 || this.#waiters.size >= waitersMax) return "behind";
    const readAt = now + Math.min(readAfterMs, request.timeoutMs / 4);
    this.#waiters.set(request.id, {
      id: request.id,
      link: request.link,
      since: now,
      until: now + request.timeoutMs,
      readAt,
    });
    this.#due = Math.min(this.#due, readAt);
    return undefined;
  }

  /** The projection has moved. */
  onProjectionMoved(history: ChainHistory): readonly LinkWaitResult[] {
    if (this.#unreached !== null && outcomeFor(history, this.#unreached.link) !== undefined) this.#unreached = null;
    if (this.#waiters.size === 0) return [];
    const answered: LinkWaitResult[] = [];
    for (const { id, link } of this.#waiters.values()) {
      const outcome = outcomeFor(history, link);
      if (outcome === undefined) continue;
      answered.push({ id, outcome });
      this.#waiters.delete(id);
    }
    return answered;
  }

  /** @returns the requests that timed out, and whether a waiter now needs a read from a broker */
  wake(now: number): Readonly<{ answered: readonly LinkWaitResult[]; ask: boolean }> {
    if (now < this.#due) return { answered: [], ask: false };
    const answered: LinkWaitResult[] = [];
    let ask = false;
    this.#due = Number.POSITIVE_INFINITY;
    for (const waiter of this.#waiters.values()) {
      if (now >= waiter.until) {
        this.#waiters.delete(waiter.id);
        answered.push({ id: waiter.id, outcome: "behind" });
        this.#noteUnreached(waiter);
        continue;
      }
      if (now >= waiter.readAt) {
        ask = true;
        waiter.readAt = Number.POSITIVE_INFINITY;
      }
      this.#due = Math.min(this.#due, waiter.readAt, waiter.until);
    }
    return { answered, ask };
  }

  /**
   * The epoch named by a link of a lost history, so that the leader opens one above it. Until then the link might still
   * be ahead of this copy.
   *
   * A link in a credential was durable before the credential existed. A lease requested later names a head at
   * or beyond it, unless the log has lost the link.
   * @param leasedAt when the current lease was requested; −Infinity: no lease
   * @returns an epoch above that of this copy; null: no link is known to be lost
   */
  lostEpoch(history: ChainHistory, leasedAt: number): Epoch | null {
    const unreached = this.#unreached;
    if (unreached === null || unreached.since > leasedAt || outcomeFor(history, unreached.link) !== undefined)
      return null;
    return parseEpoch(Math.max(unreached.link.epoch, history.applied.epoch + 1));
  }

  #noteUnreached({ link, since }: LinkWaiter): void {
    if (this.#unreached === null || this.#unreached.link.epoch < link.epoch) this.#unreached = { link, since };
  }

  /** Ends every wait. */
  close(): readonly LinkWaitResult[] {
    const answered = [...this.#waiters.keys()].map((id): LinkWaitResult => ({ id, outcome: "behind" }));
    this.#waiters.clear();
    return answered;
  }
}

function outcomeFor(history: ChainHistory, link: NeededLink): LinkWaitOutcome | undefined {
  switch (locateLink(history, link)) {
    case "ahead":
      return undefined;
    case "otherChain": {
      // If its epoch is newer than ours at its position, this copy holds a lost suffix and will detect it.
      const ours = epochAt(history, link.position);
      return ours !== undefined && link.epoch > ours ? undefined : "lost";
    }
    case "onChain":
    case "unknown": // of the epoch that this chain had there: a lost suffix would have been of another
      return "reached";
  }
}
