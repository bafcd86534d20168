/**
 * Fact index: the readers of each fact. Pure.
 *
 * A fact without readers is dropped later (`tidy`), because the next request reads most of them again.
 */
import type { FactKey } from "../../auth/index.ts";
import { type Linked, LinkedList } from "./intrusive-list.ts";

/** One reader of one fact. */
class Reading<Reader> implements Linked<Reading<Reader>> {
  before: Reading<Reader> | undefined;
  after: Reading<Reader> | undefined;
  readonly reader: Reader;
  readonly readers: LinkedList<Reading<Reader>>;

  constructor(reader: Reader, readers: LinkedList<Reading<Reader>>) {
    this.reader = reader;
    this.readers = readers;
  }
}

export type Readings<Reader> = readonly Reading<Reader>[];

export class FactIndex<Reader> {
  readonly #readers = new Map<FactKey, LinkedList<Reading<Reader>>>();

  /** @returns the readings, to be passed to `remove` */
  add(reader: Reader, facts: readonly FactKey[]): Readings<Reader> {
    const readings: Reading<Reader>[] = [];
    for (const fact of facts) {
      const readers = this.#readersOf(fact);
      const reading = new Reading(reader, readers);
      readers.push(reading);
      readings.push(reading);
    }
    return readings;
  }

  #readersOf(fact: FactKey): LinkedList<Reading<Reader>> {
    const known = this.#readers.get(fact);
    if (known !== undefined) return known;
    const made = new LinkedList<Reading<Reader>>();
    this.#readers.set(fact, made);
    return made;
  }

  remove(readings: Readings<Reader>): void {
    for (const reading of readings) reading.readers.remove(reading);
  }

  /** @returns each reader once */
  readersOf(facts: ReadonlySet<FactKey>): readonly Reader[] {
    const found = new Set<Reader>();
    for (const fact of facts) {
      let reading = this.#readers.get(fact)?.first;
      for (; reading !== undefined; reading = reading.after) found.add(reading.reader);
    }
    return [...found];
  }

  /** Drops facts without readers. */
  tidy(): void {
    for (const [fact, { first }] of this.#readers) if (first === undefined) this.#readers.delete(fact);
  }
}
