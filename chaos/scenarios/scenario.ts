/**
 * Scenario: one game day: a fault, what is promised meanwhile and afterwards, and a bound in seconds. Types only.
 *
 * Each scenario is one file of `one-region/`, `cut-off/`, `regional-parts/` or `homes/`, and index.ts lists it. The
 * clients and the operator of random runs are at work meanwhile, so every check of the judge applies too.
 */
import type { Cluster } from "../cluster/cluster.ts";
import type { TopologyName } from "../cluster/topology.ts";
import type { FaultKind } from "../faults/fault-kinds.ts";
import type { ActiveFault } from "../faults/fault-runner.ts";
import type { Condition } from "./look.ts";
import type { Operators } from "./operators.ts";
import type { Visitors } from "./visitors.ts";

export type Scenario = Readonly<{
  name: string;
  topology: TopologyName;
  /** What is broken, as a sentence. */
  fault: string;
  /** What holds nevertheless, as a sentence. */
  promise: string;
  /** The bound of the promise, in seconds. `within` uses it. */
  boundS: number;
  /** Present when the cluster is not as before afterwards. The next scenario gets a new one. */
  changesCluster?: true;
  play(game: Game): Promise<void>;
}>;

/** What a scenario can do to a cluster and see of it. */
export type Game = Readonly<{
  cluster: Cluster;
  /** Breaks something. It is healed by `heal`, or when the scenario ends. */
  fault(kind: FaultKind, target?: string): Promise<ActiveFault>;
  /** A condition that must come true within the scenario's bound, or within so many seconds. */
  within(promise: string, condition: Condition, seconds?: number): Promise<void>;
  /** What must be served for so many seconds. On a busy machine it may pause (outcome.ts). */
  serves(promise: string, seconds: number, condition: Condition): Promise<void>;
  /** A condition that must hold at every look for so many seconds. */
  throughout(promise: string, seconds: number, condition: Condition): Promise<void>;
  /** A condition that must hold now. */
  holds(promise: string, condition: Condition): Promise<void>;
  /** Something takes at most so many seconds, by its own measure in ms. */
  measured(promise: string, seconds: number, measure: () => Promise<number>): Promise<void>;
  pause(seconds: number): Promise<void>;
  /** People who use the routes. */
  visitors: Visitors;
  /** Operators who use the operator API, the metrics and the command line. */
  operators: Operators;
}>;
