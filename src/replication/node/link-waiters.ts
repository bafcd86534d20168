/**
 * Link waiters: requests that need the projection to have reached a link. Bounded in number and in time. Pure: it is
 * told when the projection moves and what time it is, and says who has been answered.
 */
import type { Epoch, Link } from "../../events/index.ts";
import { type ChainHistory, epochAt, locateLink } from "../lease/chain-history.ts";

export type LinkWaitOutcome = "reached" | "behind" | "lost";
export type LinkWaitResult = Readonly<{ id: number; outcome: LinkWaitOutcome }>;

type LinkWaiter = {
  readonly id: number;
  readonly link: Link;
  readonly since: number;
  readonly until: number;
  readAt: number;
};

const waitersMax = 10_000;
/** A broker is asked when the fan-out has not brought it within this. */
const readAfterMs = 25;

export class LinkWaiters {
  readonly #waiters = new Map<number, LinkWaiter>();
  /** Nobody's time comes before this. */
  #due = Number.POSITIVE_INFINITY;
  /**
   * A link that a request waited for in vain: the one of the highest epoch. Null: none, or the chain has shown what it
   * is.
   */
  #unreached: Readonly<{ link: Link; since: number }> | null = null;

  get count(): number {
    return this.#waiters.size;
  }
  get due(): number {
    return this.#due;
  }

  /** @returns the answer, when there is one at once */
  wait(
    request: Readonly<{ id: number; link: Link; timeoutMs: number }>,
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

  /** @returns who has waited long enough, and whether somebody now needs a broker to be asked */
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
   * The epoch that a link of a lost history names, so that the leader opens one above it. Until then the link might
   * still be ahead of this copy.
   *
   * A link in a credential was durable before the credential existed. A lease that was asked for later names a head at
   * or beyond it, unless the log has lost the link.
   * @param leasedAt when the lease in force was asked for; −Infinity: there is none
   * @returns an epoch above that of this copy; null: no link is known to be lost
   */
  lostEpoch(history: ChainHistory, leasedAt: number): Epoch | null {
    const unreached = this.#unreached;
    if (unreached === null || unreached.since > leasedAt || outcomeFor(history, unreached.link) !== undefined)
      return null;
    return Math.max(unreached.link.epoch, history.applied.epoch + 1) as Epoch;
  }

  #noteUnreached({ link, since }: LinkWaiter): void {
    if (this.#unreached === null || this.#unreached.link.epoch < link.epoch) this.#unreached = { link, since };
  }

  /** Nobody waits any longer. */
  close(): readonly LinkWaitResult[] {
    const answered = [...this.#waiters.keys()].map((id): LinkWaitResult => ({ id, outcome: "behind" }));
    this.#waiters.clear();
    return answered;
  }
}

function outcomeFor(history: ChainHistory, link: Link): LinkWaitOutcome | undefined {
  switch (locateLink(history, link)) {
    case "ahead":
      return undefined;
    case "otherChain": {
      // Of a newer epoch than ours at its place: it is this copy that holds a lost suffix, and will find out.
      const ours = epochAt(history, link.position);
      return ours !== undefined && link.epoch > ours ? undefined : "lost";
    }
    case "onChain":
    case "unknown": // of the epoch that this chain had there: a lost suffix would have been of an older one
      return "reached";
  }
}
