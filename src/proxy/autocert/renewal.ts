/**
 * Renewal: when a certificate is renewed, and when a failed order is retried. Pure.
 *
 * Renewal is due with a third of the lifetime left, as ACME authorities recommend, and slightly earlier by a random
 * share, so that certificates of one age are not renewed together.
 */
import type { X509Certificate } from "node:crypto";

type Dates = Pick<X509Certificate, "validFromDate" | "validToDate">;

/** @param chance a random number from 0 to 1, fixed for the certificate @returns Unix time in ms */
export function renewalDue({ validFromDate, validToDate }: Dates, chance: number): number {
  const [from, to] = [validFromDate.getTime(), validToDate.getTime()];
  const third = (to - from) / 3;
  return to - third - chance * (third / 6);
}

/** The delay by consecutive failures. Authorities limit failures per hour. */
const waits = [1, 2, 5, 15, 30, 60, 180, 360] as const;

/** @param chance a random number from 0 to 1 @returns milliseconds, with up to a fifth of jitter */
export function retryWait(failures: number, unitMs: number, chance: number): number {
  const wait = waits[Math.min(failures, waits.length) - 1] ?? 0;
  return wait * unitMs * (1 + chance / 5);
}
