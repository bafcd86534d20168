/**
 * Document cache: when a provider's document (its discovery document, its key set) is fetched, and whether the provider
 * is up. A pure state machine; `createCachedDocument` performs the fetches.
 *
 * - At most one fetch runs at a time, and its result serves every caller that waits.
 * - A document in the cache is used at once. After `freshMs` it is fetched again beside that, after `usableMs` before
 *   that.
 * - A caller may demand a newer document than the cached one (a token names an unknown key). Such fetches start at most
 *   once in `demandedEveryMs`, however many callers demand one.
 * - After a failure no fetch starts for a pause, which doubles with each failure in a row. So a flood of callers never
 *   becomes a flood of requests to a provider that is down.
 */
export type CacheLimits = Readonly<{
  freshMs: number;
  usableMs: number;
  demandedEveryMs: number;
  firstPauseMs: number;
  pauseMsMax: number;
}>;

/** Times are monotonic (ms). */
export type CacheState = Readonly<{
  /** When the fetch of the cached document started; null: nothing is cached. */
  fetchedAt: number | null;
  /** When the fetch that is underway started; null: none is. */
  fetchingSince: number | null;
  /** Failures in a row. */
  failures: number;
  /** No fetch starts before. */
  pausedUntil: number;
}>;

export const emptyCache: CacheState = {
  fetchedAt: null,
  fetchingSince: null,
  failures: 0,
  pausedUntil: Number.NEGATIVE_INFINITY,
};

/** `use`: the cached document. `refresh`: use it, and fetch another beside that. `wait`: for a fetch. */
export type CacheAnswer = "use" | "refresh" | "wait" | "unavailable";

/** @param demand `newer`: than what is cached. It answers `use` if a fetch would start too soon after the last one. */
export function readCache(state: CacheState, limits: CacheLimits, now: number, demand: "any" | "newer"): CacheAnswer {
  const { fetchedAt, fetchingSince, pausedUntil } = state;
  const ageMs = fetchedAt === null ? Number.POSITIVE_INFINITY : now - fetchedAt;
  const mayStart = fetchingSince === null && now >= pausedUntil;
  const wait: CacheAnswer = mayStart || fetchingSince !== null ? "wait" : "unavailable";
  if (demand === "newer") return ageMs < limits.demandedEveryMs ? "use" : wait;
  if (ageMs >= limits.usableMs) return wait;
  return ageMs >= limits.freshMs && mayStart ? "refresh" : "use";
}

export function startFetch(state: CacheState, now: number): CacheState {
  return { ...state, fetchingSince: now };
}

export function endFetch(
  { fetchedAt, fetchingSince, failures }: CacheState,
  limits: CacheLimits,
  now: number,
  result: "fetched" | "failed",
): CacheState {
  if (result === "fetched") return { ...emptyCache, fetchedAt: fetchingSince ?? now };
  const pauseMs = Math.min(limits.pauseMsMax, limits.firstPauseMs * 2 ** Math.min(failures, 30));
  return { fetchedAt, fetchingSince: null, failures: failures + 1, pausedUntil: now + pauseMs };
}

export type CachedDocument<T> = Readonly<{
  /** @throws what `load` threw; during the pause after it, the same error again */
  read(): Promise<T>;
  /** A newer document than `known`, if one may be fetched now; otherwise `known` again. @throws as `read` */
  readNewer(known: T): Promise<T>;
}>;

export function createCachedDocument<T>(
  load: () => Promise<T>,
  { limits, monotonic }: Readonly<{ limits: CacheLimits; monotonic: () => number }>,
): CachedDocument<T> {
  let state = emptyCache;
  let cached: Readonly<{ document: T }> | null = null;
  let underway: Promise<T> | null = null;
  let lastError: unknown;

  function start(): Promise<T> {
    if (underway !== null) return underway;
    state = startFetch(state, monotonic());
    underway = load().then(
      (document) => {
        cached = { document };
        state = endFetch(state, limits, monotonic(), "fetched");
        underway = null;
        return document;
      },
      (error: unknown) => {
        lastError = error;
        state = endFetch(state, limits, monotonic(), "failed");
        underway = null;
        throw error;
      },
    );
    return underway;
  }

  async function answer(demand: "any" | "newer"): Promise<T> {
    const found = readCache(state, limits, monotonic(), demand);
    if (found === "unavailable") throw lastError;
    if (found === "wait" || cached === null) return start();
    if (found === "refresh") start().catch(() => {}); // the cached document serves; `load` counts failures
    return cached.document;
  }

  return {
    read: () => answer("any"),
    readNewer: (known) => (cached !== null && cached.document !== known ? answer("any") : answer("newer")),
  };
}
