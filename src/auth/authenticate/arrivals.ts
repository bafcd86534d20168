/**
 * Arrivals: what became of the codes that came back from the identity provider.
 *
 * A code is exchanged once, whatever a browser repeats: a double click and a reload get the answer of the first request, and
 * a broker that was away is asked again with the same command. Asking the provider twice would not only fail: it makes good
 * providers revoke what the first exchange brought (RFC 6749 §4.1.2). Bounded; within one process.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { CommandRequest } from "../../events/index.ts";
import type { Identity } from "./oidc-client.ts";
import { stateMaxAgeS } from "./sign-in-state.ts";

export type Arrival = {
  readonly identity: Promise<Identity>;
  /** Made once and kept over retries: one command id, at most one session. */
  command: CommandRequest | undefined;
};

export type Arrivals = Readonly<{
  /** @returns `used` when the code was exchanged a while ago, and what it brought has been forgotten */
  take(callback: Readonly<{ state: string; code: string }>, exchange: () => Promise<Identity>): Arrival | "used";
}>;

const keptMs = 2 * 60_000;
const keptMax = 1_000;
const rememberedMax = 20_000;

export function createArrivals(): Arrivals {
  const kept = new LRUCache<string, Arrival>({ max: keptMax, ttl: keptMs, ttlAutopurge: true }); // it holds tokens
  const used = new LRUCache<string, true>({ max: rememberedMax, ttl: stateMaxAgeS * 1_000 });
  return {
    take({ state, code }, exchange) {
      const key = hash("sha256", JSON.stringify([state, code]), "base64url");
      const before = kept.get(key);
      if (before !== undefined) return before;
      if (used.has(key)) return "used";
      const arrival: Arrival = { identity: exchange(), command: undefined };
      kept.set(key, arrival);
      arrival.identity.then(
        () => used.set(key, true),
        () => kept.delete(key), // nothing came of it: it may be tried again
      );
      return arrival;
    },
  };
}
