/**
 * Peer addresses: where the other brokers can be reached, by what the log and they themselves have said. Pure.
 *
 * Each is told once a second that we are there, and of which epoch we know; so a later epoch comes round without a fan-out, and somebody who
 * looks at an old primary which lives on learns of it. Only those who have spoken themselves are passed on to others: who has gone is
 * forgotten by all.
 */

/** Somebody of whom nothing was heard for so long is told nothing any more. */
const forgetAfterMs = 60_000;
const peersMax = 32;

type PeerAddress = { knownUntil: number; directAt: number };

export class PeerAddresses {
  readonly #own: string | null;
  readonly #byUrl = new Map<string, PeerAddress>();

  /** @param own where others reach us; null: we are alone */
  constructor(own: string | null) {
    this.#own = own;
  }

  /** @param of `spoken`: it has told or answered something itself; `named`: somebody speaks of it */
  add(url: string | null, now: number, how: "direct" | "reported"): void {
    if (url === null || this.#own === null || url === this.#own) return;
    const known = this.#byUrl.get(url);
    if (known === undefined && this.#byUrl.size >= peersMax) return;
    if (how === "direct") this.#byUrl.set(url, { knownUntil: now + forgetAfterMs, directAt: now });
    else if (known === undefined)
      this.#byUrl.set(url, { knownUntil: now + forgetAfterMs, directAt: Number.NEGATIVE_INFINITY });
  }

  /** Everybody who is to be told. */
  known(now: number): readonly string[] {
    for (const [url, { knownUntil }] of this.#byUrl) if (knownUntil <= now) this.#byUrl.delete(url);
    return [...this.#byUrl.keys()];
  }

  /** Those that others may be told of. */
  direct(now: number): readonly string[] {
    return this.known(now).filter(
      (url) => (this.#byUrl.get(url)?.directAt ?? Number.NEGATIVE_INFINITY) > now - forgetAfterMs,
    );
  }
}
