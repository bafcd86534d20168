/** Monitor: one small state machine over facts. `before` sees the scene as it was, `after` as the fact has left it. */
import type { SimFact, SimFactOf } from "../facts.ts";
import type { Invariant } from "./violation.ts";

export type Handlers = Readonly<{ [Type in SimFact["type"]]?: (fact: SimFactOf<Type>) => void }>;

export type Monitor = Readonly<{
  invariants: readonly Invariant[];
  before?: Handlers;
  after?: Handlers;
}>;
