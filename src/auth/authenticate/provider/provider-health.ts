/**
 * Provider health: whether an identity provider answers, from the outcomes of our requests to it. Pure.
 *
 * - An answer counts whatever it says, except for 5xx. A refusal shows that the provider is up.
 * - A provider is down while one of its endpoints has failed last, and recently.
 */
import type { IssuerFetch } from "./issuer-fetch.ts";

export type ProviderStatus = "up" | "down" | "unknown";

/** A failure counts for this time (ms) without another request to the same endpoint. */
const failureCountsMs = 5 * 60_000;
/** A provider has fewer endpoints. */
const endpointsMax = 16;
const pathCharsMax = 200;

export type HealthRecord = Readonly<{
  report(endpoint: string, outcome: "answered" | "silent"): void;
  status(): ProviderStatus;
}>;

/** @param monotonic clock (ms) */
export function createHealthRecord(monotonic: () => number): HealthRecord {
  const last = new Map<string, Readonly<{ outcome: "answered" | "silent"; at: number }>>();
  return {
    report(endpoint, outcome) {
      last.delete(endpoint);
      last.set(endpoint, { outcome, at: monotonic() });
      const [oldest] = last.keys();
      if (last.size > endpointsMax && oldest !== undefined) last.delete(oldest);
    },
    status() {
      const now = monotonic();
      const outcomes = [...last.values()];
      if (outcomes.some(({ outcome, at }) => outcome === "silent" && now - at < failureCountsMs)) return "down";
      return outcomes.some(({ outcome }) => outcome === "answered") ? "up" : "unknown";
    },
  };
}

/** The same fetch, with each outcome recorded under the path of its URL. */
export function observedFetch(inner: IssuerFetch["fetch"], health: HealthRecord): IssuerFetch["fetch"] {
  return async (input, init) => {
    const endpoint = pathOf(input);
    try {
      const response = await inner(input, init);
      health.report(endpoint, response.status >= 500 ? "silent" : "answered");
      return response;
    } catch (error) {
      health.report(endpoint, "silent");
      throw error;
    }
  };
}

function pathOf(input: Parameters<IssuerFetch["fetch"]>[0]): string {
  const url = typeof input === "string" ? input : input instanceof URL ? input.href : "";
  return (URL.parse(url)?.pathname ?? "").slice(0, pathCharsMax);
}
