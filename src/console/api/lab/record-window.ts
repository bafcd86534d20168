/**
 * Record window: puts decisions of several nodes, which arrive in about the order of time, in the order of their
 * positions. Pure, and bounded in records and bytes.
 */
import type { DecisionEntry } from "../../../audit/index.ts";

const recordsMaxDefault = 8_192;
const bytesMaxDefault = 16 * 1024 * 1024;

type Held = Readonly<{ record: DecisionEntry; bytes: number }>;

export class RecordWindow {
  readonly #bounds: Readonly<{ records: number; bytes: number }>;
  #held: Held[] = [];
  #bytes = 0;

  constructor({
    records = recordsMaxDefault,
    bytes = bytesMaxDefault,
  }: Readonly<{ records?: number; bytes?: number }> = {}) {
    this.#bounds = { records, bytes };
  }

  /** @returns the records that leave, in their order: half of them when a bound is reached */
  add(record: DecisionEntry, bytes: number): readonly DecisionEntry[] {
    this.#held.push({ record, bytes });
    this.#bytes += bytes;
    const isFull = this.#held.length >= this.#bounds.records || this.#bytes >= this.#bounds.bytes;
    return isFull ? this.#leave(Math.ceil(this.#held.length / 2)) : [];
  }

  /** All that are left. */
  end(): readonly DecisionEntry[] {
    return this.#leave(this.#held.length);
  }

  #leave(count: number): readonly DecisionEntry[] {
    this.#held.sort((a, b) => a.record.applied.position - b.record.applied.position || a.record.at - b.record.at);
    const leaving = this.#held.slice(0, count);
    this.#held = this.#held.slice(count);
    for (const { bytes } of leaving) this.#bytes -= bytes;
    return leaving.map(({ record }) => record);
  }
}
