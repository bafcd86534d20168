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
import { NetworkBudget } from "../credentials/network-budget.ts";
import type { ProviderIdentity } from "../provider/provider-client.ts";
import { stateMaxAgeS } from "./sign-in-state.ts";

export type CodeExchange = {
  readonly identity: Promise<ProviderIdentity>;
  /** Created once and reused by retries, so that one command id creates at most one session. */
  command: CommandRequest | undefined;
};

/**
 * `used`: the state was already exchanged. `busy`: too many exchanges are in progress, in this network or in total; the
 * same callback may be retried.
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
  /** The outcome of each callback with a code; `repeated`: it got the result of an earlier exchange. */
  onExchange?: (result: "exchanged" | "repeated" | CodeExchangeRefusal) => void;
}>;

const exchangeTtlMs = 2 * 60_000;
const exchangesMax = 1_000;
const exchangeBytesMax = 32 * 1024 * 1024;
/** Memory of one exchange before the provider responds: digests, promise and callbacks. */
const pendingBytes = 2_048;
const usedStatesMax = 100_000;
const concurrentMax = 64;

export function createCodeExchanges({ monotonic, onExchange }: CodeExchangeOptions): CodeExchanges {
  const exchanges = new LRUCache<string, CodeExchange & Readonly<{ code: string }>>({
    max: exchangesMax,
    ttl: exchangeTtlMs,
    ttlAutopurge: true, // an exchange holds tokens
    maxSize: exchangeBytesMax,
    sizeCalculation: () => pendingBytes,
  });
  const usedStates = new LRUCache<string, true>({
    maxSize: usedStatesMax, // with `max`, the whole table would be allocated now
    sizeCalculation: () => 1,
    ttl: stateMaxAgeS * 1_000,
  });
  const limiter = new FairLimiter(concurrentMax);
  const budget = new NetworkBudget(monotonic);

  function begin(
    { state, code, from }: Readonly<{ state: string; code: string; from: string }>,
    exchange: () => Promise<ProviderIdentity>,
  ): Readonly<{ result: "exchanged" | "repeated"; codeExchange: CodeExchange }> | CodeExchangeRefusal {
    const [key, codeHash] = [hash("sha256", state, "base64url"), hash("sha256", code, "base64url")];
    const before = exchanges.get(key);
    if (before !== undefined) return before.code === codeHash ? { result: "repeated", codeExchange: before } : "used";
    if (usedStates.has(key)) return "used";
    const network = callerNetwork(from);
    const leave = limiter.acquire(network);
    if (leave === undefined) return "busy";
    if (!budget.spend(network)) {
      leave();
      return "busy";
    }
    usedStates.set(key, true);
    const codeExchange = { identity: exchange().finally(leave), command: undefined, code: codeHash };
    exchanges.set(key, codeExchange);
    codeExchange.identity.then(
      (identity) => {
        const size = pendingBytes + 2 * JSON.stringify(identity).length; // an upper bound for its strings in memory
        if (exchanges.peek(key) === codeExchange)
          exchanges.set(key, codeExchange, { size, ttl: exchanges.getRemainingTTL(key) });
      },
      () => exchanges.delete(key),
    );
    return { result: "exchanged", codeExchange };
  }

  return {
    begin(callback, exchange) {
      const begun = begin(callback, exchange);
      onExchange?.(typeof begun === "string" ? begun : begun.result);
      return typeof begun === "string" ? begun : begun.codeExchange;
    },
  };
}
