/**
 * Arrivals: what became of the codes that came back from the identity provider.
 *
 * - A state is used for one exchange. A double click and a reload get the answer of that exchange; another code, or the same one after a
 *   failure, gets none: a provider that sees a code twice revokes what the first exchange brought (RFC 6749 §4.1.2).
 * - Exchanges are bounded for each network (an IPv4 address, an IPv6 /64): `startsPerS` and a burst, and a fair share of those under way.
 * - Every table is bounded. Within one process.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { CommandRequest } from "../../../events/index.ts";
import { callerNetwork } from "../../authorize/source-ip.ts";
import { FairPlaces } from "../credentials/fair-limiter.ts";
import type { Identity } from "../provider/oidc-client.ts";
import { stateMaxAgeS } from "./sign-in-state.ts";

export type Arrival = {
  readonly identity: Promise<Identity>;
  /** Made once and kept over retries: one command id, at most one session. */
  command: CommandRequest | undefined;
};

/** `used`: the state has had its exchange. `busy`: too many exchanges of this network, or of all; the same callback may come again. */
export type Refusal = "used" | "busy";

export type Arrivals = Readonly<{
  /** @param callback.from the caller's address */
  take(
    callback: Readonly<{ state: string; code: string; from: string }>,
    exchange: () => Promise<Identity>,
  ): Arrival | Refusal;
}>;

export type ArrivalOptions = Readonly<{
  monotonic: () => number;
  /** What became of each callback with a code; `repeated`: answered from the exchange that it had. */
  onTaken?: (result: "exchanged" | "repeated" | Refusal) => void;
}>;

const keptMs = 2 * 60_000;
const keptMax = 1_000;
const keptBytesMax = 32 * 1024 * 1024;
/** Of one sign-in before the provider has answered: its digests and what waits for the answer. */
const pendingBytes = 2_048;
const rememberedMax = 100_000;
const atOnceMax = 64;
/** Behind one address there may be a whole office in the morning. */
export const startsPerS = 10;
export const burst = 100;
const networksMax = 10_000;

export function createArrivals({ monotonic, onTaken }: ArrivalOptions): Arrivals {
  const kept = new LRUCache<string, Arrival & Readonly<{ code: string }>>({
    ...{ max: keptMax, ttl: keptMs, ttlAutopurge: true }, // it holds tokens
    ...{ maxSize: keptBytesMax, sizeCalculation: () => pendingBytes },
  });
  const used = new LRUCache<string, true>({ max: rememberedMax, ttl: stateMaxAgeS * 1_000 });
  const places = new FairPlaces(atOnceMax);
  /** Starts that a network may still make, as of a time (ms). */
  const budgets = new LRUCache<string, Readonly<{ left: number; at: number }>>({ max: networksMax });

  function spend(network: string): boolean {
    const now = monotonic();
    const { left, at } = budgets.get(network) ?? { left: burst, at: now };
    const refilled = Math.min(burst, left + ((now - at) / 1_000) * startsPerS);
    budgets.set(network, { left: refilled >= 1 ? refilled - 1 : refilled, at: now });
    return refilled >= 1;
  }

  function take(
    { state, code, from }: Readonly<{ state: string; code: string; from: string }>,
    exchange: () => Promise<Identity>,
  ): Readonly<{ result: "exchanged" | "repeated"; arrival: Arrival }> | Refusal {
    const [key, codeHash] = [hash("sha256", state, "base64url"), hash("sha256", code, "base64url")];
    const before = kept.get(key);
    if (before !== undefined) return before.code === codeHash ? { result: "repeated", arrival: before } : "used";
    if (used.has(key)) return "used";
    const network = callerNetwork(from);
    const leave = places.take(network);
    if (leave === undefined) return "busy";
    if (!spend(network)) {
      leave();
      return "busy";
    }
    used.set(key, true);
    const arrival = { identity: exchange().finally(leave), command: undefined, code: codeHash };
    kept.set(key, arrival);
    arrival.identity.then(
      (identity) => {
        const size = pendingBytes + 2 * JSON.stringify(identity).length; // at most what its texts take in memory
        if (kept.peek(key) === arrival) kept.set(key, arrival, { size, ttl: kept.getRemainingTTL(key) });
      },
      () => kept.delete(key),
    );
    return { result: "exchanged", arrival };
  }

  return {
    take(callback, exchange) {
      const taken = take(callback, exchange);
      onTaken?.(typeof taken === "string" ? taken : taken.result);
      return typeof taken === "string" ? taken : taken.arrival;
    },
  };
}
