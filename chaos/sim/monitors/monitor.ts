/**
 * Monitor: a small state machine over facts. `before` handlers run before the ground truth applies the fact, `after`
 * handlers once it has.
 */
import type { SimFact, SimFactOf } from "../facts.ts";
import type { Invariant } from "./violation.ts";

export type Handlers = Readonly<{ [Type in SimFact["type"]]?: (fact: SimFactOf<Type>) => void }>;

export type Monitor = Readonly<{
  invariants: readonly Invariant[];
  before?: Handlers;
  after?: Handlers;
}>;
