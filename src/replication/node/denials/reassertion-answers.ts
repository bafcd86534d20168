/**
 * Denial answers: places from which on the log has the last word on a lost denial that was handed back. An answer
 * counts once its place is applied here, in the history that is visible; an answer about another history says nothing.
 * Pure.
 */
import type { Hash, Link } from "../../../events/index.ts";
import { type ChainHistory, locateLink } from "../../lease/chain-history.ts";
import type { SettledAt } from "./persisted-denials.ts";

const answersMax = 4_096;
/** The first grant may answer a renew that was under way already. */
const grantsUntilLater = 2;

export class ReassertionAnswers {
  /** A number: so many grants until the place is known. */
  readonly #settledFrom = new Map<Hash, Link | number>();

  /** @param from the place; `later`: the head of any grant to a renew that is sent from now on is behind it */
  add(hash: Hash, from: Link | "later"): void {
    if (this.#settledFrom.size >= answersMax) return; // it stays denied here, and is handed back at the next start
    this.#settledFrom.set(hash, from === "later" ? grantsUntilLater : from);
  }

  granted(head: Link): void {
    for (const [hash, from] of this.#settledFrom)
      if (typeof from === "number") this.#settledFrom.set(hash, from > 1 ? from - 1 : head);
  }

  /** Those whose places the visible history has reached. */
  *takeReached(visible: ChainHistory): Generator<readonly [Hash, SettledAt]> {
    for (const [hash, link] of this.#settledFrom) {
      if (typeof link === "number") continue;
      const stands = locateLink(visible, link);
      if (stands === "ahead") continue;
      this.#settledFrom.delete(hash);
      const since = visible.epochs.find(({ epoch }) => epoch === link.epoch);
      if (stands !== "otherChain" && since !== undefined) yield [hash, { link, since }];
    }
  }
}
