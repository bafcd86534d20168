/**
 * Simulated region copy: a region's copy of the log on its broker's disk, as src/broker/region/region-copy-file.ts keeps it, in memory.
 * Readers who stand at its head wait here.
 */
import { peopleIn } from "../../src/broker/ledger/people-in.ts";
import {
  decodeEvents,
  genesis,
  type Link,
  linkOf,
  type Position,
  sameLink,
  type UserId,
  type WrappedKey,
} from "../../src/events/index.ts";
import type { PageOutcome } from "../../src/replication/index.ts";
import type { Unavailable } from "./broker-port.ts";

type Stretch = Readonly<{ previous: Link; entries: readonly Uint8Array[]; keys: readonly WrappedKey[] }>;

export class SimRegionCopy {
  #base: Link = genesis;
  #events: Readonly<{ link: Link; bytes: Uint8Array }>[] = [];
  readonly #keys = new Map<UserId, WrappedKey>();

  get base(): Link {
    return this.#base;
  }
  get head(): Link {
    return this.#events.at(-1)?.link ?? this.#base;
  }

  holds(link: Link): boolean {
    const here = this.#linkAt(link.position);
    return here !== undefined && sameLink(here, link);
  }

  /** A page of the home region is right, whatever stands here. @returns false: it begins beyond what is here */
  take(page: Stretch): boolean {
    if (!this.holds(page.previous)) {
      if (this.head.position > 0 && page.previous.position > this.head.position) return false;
      this.beginAt(page.previous);
    }
    this.keep(page);
    return true;
  }

  /** Events behind one that is here. */
  keep({ previous, entries, keys }: Stretch): void {
    for (const [index, recorded] of decodeEvents(entries, previous).entries()) {
      const link = linkOf(recorded);
      if (recorded.event.type === "UserErased") this.#keys.delete(recorded.event.userId);
      if (this.holds(link)) continue;
      this.#events.length = Math.max(0, link.position - this.#base.position - 1);
      this.#events.push({ link, bytes: entries[index] ?? new Uint8Array() });
    }
    for (const key of keys) this.#keys.set(key.userId, key);
  }

  beginAt(link: Link): void {
    this.#base = link;
    this.#events = [];
  }

  /** Undefined: there is nothing behind the link, yet. `turn` "last": then the answer is that, or that we do not know. */
  read(after: Link, limit: number, turn: "first" | "last"): PageOutcome | Unavailable | undefined {
    const { head } = this;
    if (after.position < this.#base.position)
      return { type: "truncated", first: (this.#base.position + 1) as Position };
    const here = this.#linkAt(after.position);
    const beyond = after.position > head.position;
    const foreign = beyond ? after.epoch < head.epoch : here !== undefined && !sameLink(here, after);
    const isTheirs = foreign && ((here ?? head).epoch >= after.epoch || head.epoch > after.epoch);
    if (isTheirs) return { type: "forked", head };
    if (!foreign && after.position < head.position) {
      const from = after.position - this.#base.position;
      const page = this.#events.slice(from, from + limit);
      const entries = page.map(({ bytes }) => bytes);
      const keys = peopleIn(entries).flatMap((user) => this.#keys.get(user) ?? []);
      return { type: "page", page: { previous: after, entries, last: page.at(-1)?.link ?? after, head, keys } };
    }
    if (turn === "first") return undefined;
    if (foreign || beyond) return { type: "unavailable" };
    return { type: "page", page: { previous: after, entries: [], last: after, head, keys: [] } };
  }

  #linkAt(position: Position): Link | undefined {
    return position === this.#base.position ? this.#base : this.#events[position - this.#base.position - 1]?.link;
  }
}
