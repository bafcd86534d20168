/**
 * Peer addresses: the addresses of the other brokers, from the log and from their gossip. Pure.
 *
 * Gossip goes to every known address once a second. So a later epoch spreads without a fan-out, and a broker that reads
 * an old primary learns of it. Only peers with direct contact are passed on to others: all forget a broker that is
 * gone.
 */

/** A peer that is silent for this long gets no gossip any more. */
const forgetAfterMs = 60_000;
const peersMax = 32;

type PeerAddress = { knownUntil: number; directAt: number };

export class PeerAddresses {
  readonly #own: string | null;
  readonly #byUrl = new Map<string, PeerAddress>();

  /** @param own our own address; null: there are no other brokers */
  constructor(own: string | null) {
    this.#own = own;
  }

  /** @param how `direct`: the peer itself sent or answered gossip; `reported`: another source named it */
  add(url: string | null, now: number, how: "direct" | "reported"): void {
    if (url === null || this.#own === null || url === this.#own) return;
    const known = this.#byUrl.get(url);
    if (known === undefined && this.#byUrl.size >= peersMax) return;
    if (how === "direct") this.#byUrl.set(url, { knownUntil: now + forgetAfterMs, directAt: now });
    else if (known === undefined)
      this.#byUrl.set(url, { knownUntil: now + forgetAfterMs, directAt: Number.NEGATIVE_INFINITY });
  }

  /** The addresses that gossip goes to. */
  known(now: number): readonly string[] {
    for (const [url, { knownUntil }] of this.#byUrl) if (knownUntil <= now) this.#byUrl.delete(url);
    return [...this.#byUrl.keys()];
  }

  /** The addresses that may be passed on to others. */
  direct(now: number): readonly string[] {
    return this.known(now).filter(
      (url) => (this.#byUrl.get(url)?.directAt ?? Number.NEGATIVE_INFINITY) > now - forgetAfterMs,
    );
  }
}
