/**
 * Seal schedule: when the next seal of a boot is due. Pure.
 *
 * - Regular seals are due at fixed times, `everyMs` apart. Where in the interval they lie follows from the boot id, so
 *   nodes that were started at once, or that wait for the same leader, do not seal at once.
 * - A seal with many records is due earlier. Two seals are never closer than `leastMs`.
 */
import { hash as digestOf } from "node:crypto";
import type { BootId } from "../../events/index.ts";

const earlyRecords = 65_536;
const leastMs = 10_000;

export class SealSchedule {
  readonly #everyMs: number;
  readonly #leastMs: number;
  /** The newest regular time that has been used. */
  #slot: number;
  #madeAt: number;

  constructor({ boot, everyMs, nowMs }: Readonly<{ boot: BootId; everyMs: number; nowMs: number }>) {
    this.#everyMs = everyMs;
    this.#leastMs = Math.min(leastMs, everyMs);
    this.#slot = nowMs - everyMs * (1 - shareOf(boot));
    this.#madeAt = nowMs;
  }

  isDue(nowMs: number, unsealed: number): boolean {
    const sinceMs = nowMs - this.#madeAt;
    if (unsealed === 0 || sinceMs < this.#leastMs) return false;
    return nowMs - this.#slot >= this.#everyMs || unsealed >= earlyRecords;
  }

  made(nowMs: number): void {
    this.#madeAt = nowMs;
    this.#slot += Math.max(0, Math.floor((nowMs - this.#slot) / this.#everyMs)) * this.#everyMs;
  }
}

/** At least 0 and less than 1, the same whenever it is computed. */
function shareOf(boot: BootId): number {
  return digestOf("sha256", boot, "buffer").readUInt32BE(0) / 2 ** 32;
}
