/**
 * Region situations: the sometimes checks (sometimes.ts) of remote regions and their brokers.
 *
 * They read the same facts, after the monitors' ground truth.
 */
import type { ProcessName, SimFact, SimFactOf, SimMs } from "./facts.ts";
import type { GroundTruth, NodeView } from "./monitors/index.ts";

export const regionSituations = {
  "granted-by-age": { within: 20, what: "a regional broker granted a lease by age" },
  "restarted-while-leased": {
    within: 100,
    what: "a regional broker started again while leases by age of the boot before might count",
  },
  "two-regions-by-age": { within: 100, what: "the brokers of two regions granted by age at the same time" },
  "moved-between-brokers": {
    within: 100,
    what: "a node accepted a lease by age from another broker of its region than before",
  },
  "one-broker-by-age": {
    within: 100,
    what: "a regional broker granted by age while the other broker of its region still got leases from the leader",
  },
  "region-without-brokers": { within: 100, what: "both brokers of a region were down while a node permitted there" },
} as const;

export type RegionSituation = keyof typeof regionSituations;

/** Minimum time (ms) for which a lease by age may count. */
const agedMsMin = 2_000;
/** Two grants within this time (ms) count as simultaneous. */
const togetherMs = 1_000;

export class RegionSituations {
  readonly #truth: GroundTruth;
  readonly #reach: (situation: RegionSituation) => void;
  /** Time of the last grant by age, per regional broker. */
  readonly #agedAt = new Map<ProcessName, SimMs>();
  /** Time of the last grant by the leader, per regional broker. */
  readonly #leasedAt = new Map<ProcessName, SimMs>();
  /** The broker behind the last lease by age of a node. */
  readonly #agedBy = new Map<ProcessName, ProcessName>();

  constructor(truth: GroundTruth, reach: (situation: RegionSituation) => void) {
    this.#truth = truth;
    this.#reach = reach;
  }

  report(fact: SimFact): void {
    switch (fact.type) {
      case "grant-sent":
        if (fact.agedMs !== null) this.#grantedByAge(fact);
        return;
      case "grant-received":
        if (fact.taken) this.#received(fact);
        return;
      case "started":
        if (fact.at < this.#last(this.#agedAt, fact.process) + agedMsMin) this.#reach("restarted-while-leased");
        this.#agedBy.delete(fact.process);
        return;
      case "decided":
        if (fact.verdict === "permit") this.#permitted(fact);
        return;
      default:
    }
  }

  #grantedByAge(fact: SimFactOf<"grant-sent">): void {
    this.#reach("granted-by-age");
    this.#agedAt.set(fact.process, fact.at);
    const { region } = this.#truth.nodes.get(fact.process) ?? {};
    for (const other of this.#regionalBrokers()) {
      if (other.process === fact.process) continue;
      const agedAt = this.#last(this.#agedAt, other.process);
      if (other.region !== region && fact.at - agedAt <= togetherMs) this.#reach("two-regions-by-age");
      const isAlone = agedAt < fact.at - togetherMs;
      if (other.region === region && isAlone && fact.at - this.#last(this.#leasedAt, other.process) <= togetherMs)
        this.#reach("one-broker-by-age");
    }
  }

  #received(fact: SimFactOf<"grant-received">): void {
    if ((fact.agedMs ?? null) === null) {
      this.#leasedAt.set(fact.process, fact.at);
      return;
    }
    const before = this.#agedBy.get(fact.process);
    if (before !== undefined && before !== fact.by) this.#reach("moved-between-brokers");
    this.#agedBy.set(fact.process, fact.by);
  }

  #permitted(fact: SimFactOf<"decided">): void {
    const { region } = this.#truth.nodes.get(fact.process) ?? {};
    const brokers = this.#regionalBrokers().filter((broker) => broker.region === region);
    if (brokers.length > 1 && brokers.every(({ up }) => !up)) this.#reach("region-without-brokers");
  }

  #regionalBrokers(): readonly NodeView[] {
    return [...this.#truth.nodes.values()].filter(({ lessee }) => lessee === "broker");
  }

  #last(times: ReadonlyMap<ProcessName, SimMs>, process: ProcessName): SimMs {
    return times.get(process) ?? Number.NEGATIVE_INFINITY;
  }
}
