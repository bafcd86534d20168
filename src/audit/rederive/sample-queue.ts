/**
 * Sample queue: chooses which decisions are checked, and keeps them until they can be. Pure.
 *
 * - One in so many, by chance, so that no node can tell which; at most so many a second; bounded in bytes.
 * - Decisions of this node are left out: the point is that another one decides.
 */
import type { AuditRecord } from "../audit-record.ts";
import type { DecisionEntry } from "../record-id.ts";

export type SampleRules = Readonly<{ oneIn: number; perSecond: number }>;
export type Sample = Readonly<{ record: DecisionEntry; offeredAtMs: number; bytes: number }>;

export const sampleQueueBytesMax = 1024 * 1024;
export const samplesMax = 64;

export class SampleQueue {
  readonly #rules: SampleRules;
  readonly #ownNode: string;
  readonly #random: () => number;
  #waiting: Sample[] = [];
  #bytes = 0;
  #allowance: number;
  #refilledAtMs = 0;

  /** @param random uniform in [0, 1) */
  constructor(options: Readonly<{ rules: SampleRules; ownNode: string; random: () => number }>) {
    this.#rules = options.rules;
    this.#ownNode = options.ownNode;
    this.#random = options.random;
    this.#allowance = options.rules.perSecond;
  }

  get size(): number {
    return this.#waiting.length;
  }

  /** @returns whether the decision was chosen */
  offer(record: AuditRecord, { bytes, nowMs }: Readonly<{ bytes: number; nowMs: number }>): boolean {
    if (record.kind !== "decision" || record.node === this.#ownNode || record.occasion === "closed") return false;
    if (this.#random() * this.#rules.oneIn >= 1) return false;
    if (this.#waiting.length >= samplesMax || this.#bytes + bytes > sampleQueueBytesMax) return false;
    const { perSecond } = this.#rules;
    this.#allowance = Math.min(perSecond, this.#allowance + ((nowMs - this.#refilledAtMs) / 1_000) * perSecond);
    this.#refilledAtMs = nowMs;
    if (this.#allowance < 1) return false;
    this.#allowance -= 1;
    this.#waiting.push({ record, offeredAtMs: nowMs, bytes });
    this.#bytes += bytes;
    return true;
  }

  /** Removes and returns all that wait. */
  takeAll(): readonly Sample[] {
    const taken = this.#waiting;
    this.#waiting = [];
    this.#bytes = 0;
    return taken;
  }

  /** Puts back a decision that cannot be checked yet. @returns false: newer ones have filled the queue meanwhile */
  putBack(sample: Sample): boolean {
    if (this.#waiting.length >= samplesMax || this.#bytes + sample.bytes > sampleQueueBytesMax) return false;
    this.#waiting.push(sample);
    this.#bytes += sample.bytes;
    return true;
  }
}
