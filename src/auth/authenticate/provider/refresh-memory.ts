/**
 * Refresh memory: the state that the refresh duty of one process keeps between its runs and across reloads. Pure.
 *
 * - Everything in it is bounded. The log holds everything that safety needs; losing this memory costs extra reads.
 * - Counts are per client of the identity provider. Only configured clients are counted.
 */
import { LRUCache } from "lru-cache";
import type { KeepTokens, ProviderTokens, SessionId, UnixMs } from "../../../events/index.ts";
import type { UnsentIntent } from "./refresh-rules.ts";

/** `kept`: new tokens without new claims. `explained`: refused, possibly because of an earlier presentation. */
export const refreshResults = [
  "refreshed",
  "kept",
  "not-used",
  "refused",
  "explained",
  "unknown",
  "provider-down",
] as const;
export type RefreshResult = (typeof refreshResults)[number];

/** Tokens that the provider issued, or that were not used, and that are not in the log yet. */
export type UnwrittenTokens = Readonly<{
  command: KeepTokens;
  /** Null: no claims to fetch with them. */
  undescribed: Readonly<{ idTokenBefore: string | null }> | null;
}>;

/** A provider that did not answer. No token is presented to it before a probe has succeeded. */
export type Breaker = { probeAt: number; pauseMs: number };

export type RefreshMemory = Readonly<{
  unwritten: LRUCache<SessionId, UnwrittenTokens>;
  /** Written tokens whose claims are not fetched yet, with the vault version that holds them. */
  undescribed: LRUCache<SessionId, Readonly<{ version: number; tokens: ProviderTokens; idTokenBefore: string | null }>>;
  /** Intents that the log may have, but for which no request was sent. */
  unsent: LRUCache<SessionId, UnsentIntent>;
  /** Sessions with an unknown outcome, and the end of their grace. */
  inGrace: Map<SessionId, UnixMs>;
  breakers: Map<string, Breaker>;
  /** Results by client of the identity provider. */
  counts: Map<string, Record<RefreshResult, number>>;
  /** Ages of the claims in the last complete pass over the sessions (seconds). */
  ages: { sessions: number; oldestS: number; meanS: number };
}>;

const tokensMax = 10_000;
const tokenBytesMax = 32 * 1024 * 1024;
/** Bound per session: the largest response that is read is 1 MiB (`issuer-fetch.ts`). */
const entryBytesMax = 4 * 1024 * 1024;

/**
 * Upper bound of the memory for the texts of a value. At least an equal share of the whole, which bounds the number
 * too: with `max` the whole table would be allocated at once.
 */
const bytesOf = (value: object): number =>
  Math.max(2 * JSON.stringify(value).length, Math.ceil(tokenBytesMax / tokensMax));
const bounds = { maxSize: tokenBytesMax, maxEntrySize: entryBytesMax };

export function newRefreshMemory(): RefreshMemory {
  return {
    unwritten: new LRUCache({ ...bounds, sizeCalculation: (value) => bytesOf(value) }),
    undescribed: new LRUCache({ ...bounds, sizeCalculation: (value) => bytesOf(value) }),
    unsent: new LRUCache({ maxSize: tokensMax, sizeCalculation: () => 1 }), // as `bytesOf`
    inGrace: new Map(),
    breakers: new Map(),
    counts: new Map(),
    ages: { sessions: 0, oldestS: 0, meanS: 0 },
  };
}

export function countRefresh({ counts }: RefreshMemory, idpId: string, result: RefreshResult): void {
  let of = counts.get(idpId);
  if (of === undefined) {
    of = Object.fromEntries(refreshResults.map((each) => [each, 0])) as Record<RefreshResult, number>;
    counts.set(idpId, of);
  }
  of[result]++;
}

const firstPauseMs = 2_000;
const pauseMsMax = 60_000;

export function openBreaker({ breakers }: RefreshMemory, idpId: string, now: number): void {
  const before = breakers.get(idpId);
  if (before !== undefined && before.probeAt > now) return; // others failed at the same time
  const pauseMs = before === undefined ? firstPauseMs : Math.min(pauseMsMax, before.pauseMs * 2);
  breakers.set(idpId, { probeAt: now + pauseMs, pauseMs });
}

/** Sum of the ages of claims over one pass. */
export class AgeSum {
  #sessions = 0;
  #oldestMs = 0;
  #sumMs = 0;

  add(ms: number): void {
    this.#sessions++;
    this.#sumMs += Math.max(0, ms);
    this.#oldestMs = Math.max(this.#oldestMs, ms);
  }

  result(): RefreshMemory["ages"] {
    const meanS = this.#sessions === 0 ? 0 : this.#sumMs / this.#sessions / 1_000;
    return { sessions: this.#sessions, oldestS: this.#oldestMs / 1_000, meanS };
  }
}
