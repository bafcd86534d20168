/**
 * Cluster: the upstreams of one route, their health and ejections, and the choice among them.
 *
 * Pure; clock and random source are arguments. A member is eligible if it is healthy and not ejected. When fewer are
 * eligible than the route's panic threshold allows, all of them are: the signal is then more likely wrong than the
 * upstreams.
 */
import type { RouteConfig } from "../../config/index.ts";
import { type BalancedMember, compileBalancer, type PickMember } from "./balancer.ts";
import { type EjectionCause, Outliers, type UpstreamOutcome } from "./outliers.ts";

export type ClusterEvents = Readonly<{
  onHealth(member: number, healthy: boolean): void;
  /** @param cause null: the ejection has ended */
  onEjection(member: number, cause: EjectionCause | null): void;
}>;

export class Cluster {
  readonly #pick: PickMember;
  readonly #panicThreshold: number;
  readonly #healthy: boolean[];
  readonly #outliers: Outliers | null;
  readonly #events: ClusterEvents;
  readonly #now: () => number;
  #eligible: readonly boolean[] = [];
  #hasEligible = true;
  /** A request was sent to a member. */
  hasTraffic = false;

  constructor(
    route: Pick<RouteConfig, "balancing" | "outlierDetection">,
    members: readonly BalancedMember[],
    world: Readonly<{ now: () => number; random: () => number; events: ClusterEvents }>,
  ) {
    const { now, random, events } = world;
    this.#pick = compileBalancer(route.balancing, members, random);
    this.#panicThreshold = route.balancing.panicThreshold;
    this.#healthy = members.map(() => true);
    this.#events = events;
    this.#now = now;
    this.#outliers =
      route.outlierDetection === null
        ? null
        : new Outliers(route.outlierDetection, members.length, {
            now: now(),
            random,
            onChange: (member, cause) => {
              events.onEjection(member, cause);
              this.#refresh();
            },
          });
    this.#refresh();
  }

  /**
   * @param key 48 bits, for hashing policies
   * @param except the member that has just failed
   * @returns undefined: no member is eligible
   */
  pick(key: number, except?: number): number | undefined {
    this.hasTraffic = true;
    this.#outliers?.tick(this.#now());
    if (!this.#hasEligible) return undefined;
    if (except === undefined) return this.#pick(this.#eligible, key);
    const others = this.#eligible.map((eligible, member) => eligible && member !== except);
    return others.includes(true) ? this.#pick(others, key) : undefined;
  }

  /** Records the outcome of a request to a member. */
  report(member: number, outcome: UpstreamOutcome): void {
    this.#outliers?.report(member, outcome, this.#now());
  }

  isHealthy(member: number): boolean {
    return this.#healthy[member] === true;
  }

  isEjected(member: number): boolean {
    return this.#outliers?.isEjected(member) === true;
  }

  setHealthy(member: number, healthy: boolean): void {
    if (this.#healthy[member] === healthy) return;
    this.#healthy[member] = healthy;
    this.#events.onHealth(member, healthy);
    if (healthy) this.#outliers?.unejectByHealth(member);
    this.#refresh();
  }

  #refresh(): void {
    const well = this.#healthy.map((healthy, member) => healthy && !this.isEjected(member));
    const share = (100 * well.filter((one) => one).length) / well.length;
    this.#eligible = share < this.#panicThreshold ? well.map(() => true) : well;
    this.#hasEligible = this.#eligible.includes(true);
  }
}
