/**
 * Region loop: runs the region core of a process, one input at a time, and has each effect performed before the next
 * input.
 *
 * The product (region-driver.ts) and the simulator share it. They differ only in how they perform an effect.
 */
import { genesis, Projection } from "../../events/index.ts";
import type { Moment } from "../../replication/lease/index.ts";
import { newRegionCore, type RegionCore, type RegionCoreOptions, step } from "./region-core.ts";
import type { OwnCopy, RegionEffect, RegionFact } from "./region-messages.ts";

export type RegionLoopParts = Readonly<{
  moment: () => Moment;
  /** The broker's own copy. Null: it has not been started. */
  own: () => OwnCopy | null;
  /** May feed further inputs; they wait for their turn. */
  perform: (effect: RegionEffect) => void;
}>;

const nothingYet: OwnCopy = { applied: genesis, level: 0, digest: () => "", projection: new Projection(), lease: null };

export class RegionLoop {
  readonly #parts: RegionLoopParts;
  readonly #facts: RegionFact[] = [];
  #core: RegionCore;
  #ids = 0;

  constructor(options: RegionCoreOptions, parts: RegionLoopParts) {
    this.#parts = parts;
    this.#core = newRegionCore(options);
  }

  /** For reading only. */
  get core(): RegionCore {
    return this.#core;
  }

  /** An id for the next request of a caller. */
  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  /** Whether the leader answers at present, so that a request to it makes sense. */
  leaderAnswers(): boolean {
    return this.#core.leaderAnswers(this.#parts.moment().monotonic);
  }

  feed(fact: RegionFact): void {
    this.#facts.push(fact);
    if (this.#facts.length > 1) return;
    for (let next = this.#facts[0]; next !== undefined; next = this.#facts[0]) {
      const { moment, own } = this.#parts;
      const [core, effects] = step(this.#core, { ...next, at: moment(), own: own() ?? nothingYet });
      this.#core = core;
      for (const effect of effects) this.#parts.perform(effect);
      this.#facts.shift();
    }
  }
}
