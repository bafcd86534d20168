/**
 * Reassertion answers: the log positions that settle lost denials which were handed back. An answer counts once its
 * position is applied here, in the visible history. An answer about another history has no effect. Pure.
 */
import type { Hash, Link } from "../../../events/index.ts";
import { type ChainHistory, locateLink } from "../../lease/chain-history.ts";
import type { SettledAt } from "./persisted-denials.ts";

const answersMax = 4_096;
/** The first grant may answer a renew that was already in flight. */
const grantsUntilLater = 2;

export class ReassertionAnswers {
  /** A number: how many more grants must arrive before the position is known. */
  readonly #settledFrom = new Map<Hash, Link | number>();

  /** @param from the settling link; `later`: any head granted to a renew that is sent from now on */
  add(hash: Hash, from: Link | "later"): void {
    if (this.#settledFrom.size >= answersMax) return; // it stays denied here, and is handed back at the next start
    this.#settledFrom.set(hash, from === "later" ? grantsUntilLater : from);
  }

  granted(head: Link): void {
    for (const [hash, from] of this.#settledFrom)
      if (typeof from === "number") this.#settledFrom.set(hash, from > 1 ? from - 1 : head);
  }

  /** Removes and yields the answers whose positions the visible history has reached. */
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
