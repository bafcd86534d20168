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
    within: 200,
    what: "a node accepted a lease by age from another broker of its region than before",
  },
  "one-broker-by-age": {
    within: 100,
    what: "a regional broker granted by age while the other broker of its region still got leases from the leader",
  },
  "revoked-locally": { within: 100, what: "a region accepted a revocation by itself" },
  "suspended-locally": { within: 400, what: "a region suspended a person by itself" },
  "local-receipt-complete": { within: 100, what: "a local receipt was complete" },
  "local-receipt-waits": { within: 1_000, what: "a local receipt named a node that had not confirmed" },
  "local-receipt-fenced": { within: 400, what: "a local receipt was complete because a node's leases had expired" },
  "local-refused": {
    within: 1_000,
    what: "a region did not accept a revocation, because another broker did not store it",
  },
  "revocation-outlived-boot": {
    within: 1_000,
    what: "a regional broker started with an unmerged revocation on its disk",
  },
  "revoked-by-both": { within: 2_000, what: "both brokers of a region accepted the same command" },
  "restored-meanwhile": { within: 2_000, what: "home restored a person that a cut-off region had suspended" },
  "local-merged": { within: 100, what: "the log recorded what a region had revoked by itself" },
  "healed-node-behind": {
    within: 400,
    what: "the log recorded what a region had revoked by itself, and a node of the region did not hold that yet",
  },
  "region-without-brokers": { within: 200, what: "both brokers of a region were down while a node permitted there" },
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
  /** Unmerged revocations on the disks of regional brokers, by key. */
  readonly #stored = new Map<string, Set<ProcessName>>();
  /** By command: the keys under which brokers have accepted it. */
  readonly #keys = new Map<string, Set<string>>();
  /** By command: the regions whose brokers have accepted it. */
  readonly #regions = new Map<string, string>();
  /** Nodes that hold a revocation, by key. */
  readonly #enforced = new Map<string, Set<ProcessName>>();
  /** Persons that regions have suspended and the log has not, by command. */
  readonly #suspended = new Map<string, string>();
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
        for (const processes of this.#stored.values())
          if (processes.has(fact.process)) this.#reach("revocation-outlived-boot");
        for (const processes of this.#enforced.values()) processes.delete(fact.process);
        this.#agedBy.delete(fact.process);
        return;
      case "local-answered":
      case "revocation-stored":
      case "revocation-enforced":
      case "revocation-dropped":
      case "local-receipt-answered":
      case "wrote":
        this.#revocation(fact);
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

  #revocation(
    fact: SimFactOf<
      | "local-answered"
      | "revocation-stored"
      | "revocation-enforced"
      | "revocation-dropped"
      | "local-receipt-answered"
      | "wrote"
    >,
  ): void {
    switch (fact.type) {
      case "local-answered":
        if (fact.answer !== "local") {
          if (fact.code === "local-broker-unreachable") this.#reach("local-refused");
          return;
        }
        this.#reach("revoked-locally");
        if (fact.revocation.suspended === null) return;
        this.#reach("suspended-locally");
        this.#suspended.set(fact.commandId, fact.revocation.suspended);
        return;
      case "revocation-stored": {
        const { key, commandId } = fact.revocation;
        if (fact.place === null) return;
        this.#stored.set(key, (this.#stored.get(key) ?? new Set()).add(fact.process));
        const keys = (this.#keys.get(commandId) ?? new Set()).add(key);
        this.#keys.set(commandId, keys);
        this.#regions.set(commandId, fact.revocation.region);
        if (keys.size > 1) this.#reach("revoked-by-both");
        return;
      }
      case "revocation-enforced":
        this.#enforced.set(fact.key, (this.#enforced.get(fact.key) ?? new Set()).add(fact.process));
        return;
      case "revocation-dropped":
        this.#stored.get(fact.key)?.delete(fact.process);
        return;
      case "local-receipt-answered":
        if (fact.complete) this.#reach("local-receipt-complete");
        if (fact.complete && fact.nodes.some(({ status }) => status === "fenced")) this.#reach("local-receipt-fenced");
        if (fact.nodes.some(({ status }) => status === "unconfirmed")) this.#reach("local-receipt-waits");
        return;
      default:
        for (const { commandId, count } of fact.commands) {
          this.#suspended.delete(commandId);
          if (count > 0) this.#recorded(commandId);
        }
        for (const { recorded } of fact.entries) {
          const { event } = recorded;
          if (event.type === "UserRestored" && [...this.#suspended.values()].includes(event.userId))
            this.#reach("restored-meanwhile");
        }
    }
  }

  #recorded(commandId: string): void {
    const region = this.#regions.get(commandId);
    if (region === undefined) return;
    this.#reach("local-merged");
    const keys = [...(this.#keys.get(commandId) ?? [])];
    for (const node of this.#truth.nodes.values()) {
      if (node.region !== region || node.lessee === "broker" || node.lessee === null || !node.up) continue;
      if (!keys.some((key) => this.#enforced.get(key)?.has(node.process))) this.#reach("healed-node-behind");
    }
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
