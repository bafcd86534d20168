/**
 * Renewal: when a certificate is ordered anew, and when an order that failed is tried again. Pure.
 *
 * With a third of its life left, as ACME authorities ask for; a bit earlier for some than for others, so that certificates that
 * were made together are not renewed together.
 */
import type { X509Certificate } from "node:crypto";

type Dates = Pick<X509Certificate, "validFromDate" | "validToDate">;

/** @param chance from 0 to 1, one for the life of the certificate @returns UnixMs */
export function renewalDue({ validFromDate, validToDate }: Dates, chance: number): number {
  const [from, to] = [validFromDate.getTime(), validToDate.getTime()];
  const third = (to - from) / 3;
  return to - third - chance * (third / 6);
}

/** How long after so many failures in a row; authorities count failures by the hour. */
const waits = [1, 2, 5, 15, 30, 60, 180, 360] as const;

/** @param chance from 0 to 1 @returns milliseconds, of which up to a fifth is chance */
export function retryWait(failures: number, unitMs: number, chance: number): number {
  const wait = waits[Math.min(failures, waits.length) - 1] ?? 0;
  return wait * unitMs * (1 + chance / 5);
}
