/**
 * Code exchanges: exchanges each authorization code from the identity provider at most once.
 *
 * - A state is used for one exchange. A double click or a reload gets the result of that exchange. Another code, or the
 *   same one after a failure, gets none: a provider that sees a code twice revokes the tokens of the first exchange
 *   (RFC 6749 §4.1.2).
 * - Exchanges are limited per network (an IPv4 address, an IPv6 /64): `startsPerS` with a burst, and a fair share of
 *   those in progress.
 * - Every table is bounded. The state belongs to one process.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { CommandRequest } from "../../../events/index.ts";
import { callerNetwork } from "../../authorize/source-ip.ts";
import { FairLimiter } from "../credentials/fair-limiter.ts";
import type { ProviderIdentity } from "../provider/oidc-client.ts";
import { stateMaxAgeS } from "./sign-in-state.ts";

export type CodeExchange = {
  readonly identity: Promise<ProviderIdentity>;
  /** Made once and kept over retries: one command id, at most one session. */
  command: CommandRequest | undefined;
};

/**
 * `used`: the state has had its exchange. `busy`: too many exchanges of this network, or of all; the same callback may
 * come again.
 */
export type CodeExchangeRefusal = "used" | "busy";

export type CodeExchanges = Readonly<{
  /** @param callback.from the caller's address */
  begin(
    callback: Readonly<{ state: string; code: string; from: string }>,
    exchange: () => Promise<ProviderIdentity>,
  ): CodeExchange | CodeExchangeRefusal;
}>;

export type CodeExchangeOptions = Readonly<{
  monotonic: () => number;
  /** What became of each callback with a code; `repeated`: answered from the exchange that it had. */
  onExchange?: (result: "exchanged" | "repeated" | CodeExchangeRefusal) => void;
}>;

const exchangeTtlMs = 2 * 60_000;
const exchangesMax = 1_000;
const exchangeBytesMax = 32 * 1024 * 1024;
/** Of one sign-in before the provider has answered: its digests and what waits for the answer. */
const pendingBytes = 2_048;
const usedStatesMax = 100_000;
const concurrentMax = 64;
/** Behind one address there may be a whole office in the morning. */
export const startsPerS = 10;
export const burst = 100;
const networksMax = 10_000;

export function createCodeExchanges({ monotonic, onExchange }: CodeExchangeOptions): CodeExchanges {
  const exchanges = new LRUCache<string, CodeExchange & Readonly<{ code: string }>>({
    max: exchangesMax,
    ttl: exchangeTtlMs,
    ttlAutopurge: true, // an exchange holds tokens
    maxSize: exchangeBytesMax,
    sizeCalculation: () => pendingBytes,
  });
  const usedStates = new LRUCache<string, true>({ max: usedStatesMax, ttl: stateMaxAgeS * 1_000 });
  const limiter = new FairLimiter(concurrentMax);
  /** Starts that a network may still make, as of a time (ms). */
  const budgets = new LRUCache<string, Readonly<{ left: number; at: number }>>({ max: networksMax });

  function spendBudget(network: string): boolean {
    const now = monotonic();
    const { left, at } = budgets.get(network) ?? { left: burst, at: now };
    const refilled = Math.min(burst, left + ((now - at) / 1_000) * startsPerS);
    budgets.set(network, { left: refilled >= 1 ? refilled - 1 : refilled, at: now });
    return refilled >= 1;
  }

  function begin(
    { state, code, from }: Readonly<{ state: string; code: string; from: string }>,
    exchange: () => Promise<ProviderIdentity>,
  ): Readonly<{ result: "exchanged" | "repeated"; arrival: CodeExchange }> | CodeExchangeRefusal {
    const [key, codeHash] = [hash("sha256", state, "base64url"), hash("sha256", code, "base64url")];
    const before = exchanges.get(key);
    if (before !== undefined) return before.code === codeHash ? { result: "repeated", arrival: before } : "used";
    if (usedStates.has(key)) return "used";
    const network = callerNetwork(from);
    const leave = limiter.acquire(network);
    if (leave === undefined) return "busy";
    if (!spendBudget(network)) {
      leave();
      return "busy";
    }
    usedStates.set(key, true);
    const arrival = { identity: exchange().finally(leave), command: undefined, code: codeHash };
    exchanges.set(key, arrival);
    arrival.identity.then(
      (identity) => {
        const size = pendingBytes + 2 * JSON.stringify(identity).length; // at most what its texts take in memory
        if (exchanges.peek(key) === arrival) exchanges.set(key, arrival, { size, ttl: exchanges.getRemainingTTL(key) });
      },
      () => exchanges.delete(key),
    );
    return { result: "exchanged", arrival };
  }

  return {
    begin(callback, exchange) {
      const taken = begin(callback, exchange);
      onExchange?.(typeof taken === "string" ? taken : taken.result);
      return typeof taken === "string" ? taken : taken.arrival;
    },
  };
}
