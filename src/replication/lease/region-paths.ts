/**
 * Region paths: which leases of a region may count that did not come through a broker of that region
 * (docs/adr/0039-a-cut-off-region-revokes-locally.md, rule 5). One epoch of a leader.
 *
 * - A regional broker may revoke by itself only under a grant that says so: the *sole path*. Such a grant leaves only
 *   while no lease may count that a node of the region got past its brokers.
 * - While such a grant may count, or a broker of the region holds revocations that the log lacks, a renew that comes
 *   past the brokers of the region is refused. It then gets a lease as soon as the brokers have given up the sole path.
 * - So a region whose nodes use home brokers keeps its leases, and cannot revoke by itself.
 * - A broker that this epoch has not heard of counts as one with the sole path. Leases of earlier epochs count as past
 *   the region's brokers, unless a broker has kept the sole path from the epoch before.
 * - The home region has none of this: its nodes get their leases from the leader.
 *
 * Pure.
 */
import type { BootId, Epoch, MonotonicMs, NodeId } from "../../events/index.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Lessee } from "../log/log.ts";
import type { Renew, SolePathClaim } from "../wire/messages.ts";
import { type LeaseRefusal, pastRegion } from "./lease-refusal.ts";

type BrokerPath = {
  readonly name: NodeId;
  /** Until when a lease of it may count. */
  until: number;
  /** The nonce of its newest renew; null: not heard of in this epoch. */
  heard: number | null;
  claim: SolePathClaim | null;
  /** The nonce of the newest renew that was granted the sole path; 0: none. */
  grantedFor: number;
};

type RegionState = {
  readonly brokers: Map<string, BrokerPath>;
  /** Until when a lease may count that came past its brokers, in this epoch. */
  pastUntil: number;
  /** Until when a lease of an earlier epoch may count, whatever way it came. */
  earlierUntil: number;
  /** A broker has kept the sole path from the epoch before: no lease of it came past the brokers. */
  keptSolePath: boolean;
  /** When a renew was refused because it came past its brokers. */
  refusedAt: number;
};

/** For this long after such a renew, brokers of its region are not granted the sole path. */
const refusedMs = 10_000;
const regionsMax = 20_000;
/** A region with more brokers does not revoke by itself. A message may name as many (wire/messages.ts). */
const brokersMax = 16;
const never = Number.NEGATIVE_INFINITY;

export class RegionPaths {
  readonly #epoch: Epoch;
  readonly #home: string | null;
  readonly #regions = new Map<string, RegionState>();
  /** As `earlierUntil`, for every region. */
  #unknownUntil: number = never;

  /** @param of.lessees those that an earlier epoch may have granted to, with the time until which that may count */
  constructor(
    of: Readonly<{
      epoch: Epoch;
      /** The leader's own region; null: unknown. */
      home: string | null;
      lessees: Iterable<Readonly<{ lessee: Lessee; until: number }>>;
    }>,
  ) {
    this.#epoch = of.epoch;
    this.#home = of.home;
    for (const { lessee, until } of of.lessees) {
      if (isLostHistory(lessee)) {
        this.#unknownUntil = Math.max(this.#unknownUntil, until);
        continue;
      }
      const state = this.#stateOf(lessee.region);
      if (state === null) this.#unknownUntil = Math.max(this.#unknownUntil, until);
      else if (lessee.role !== "broker") state.earlierUntil = Math.max(state.earlierUntil, until);
      else state.brokers.set(lessee.boot, { name: lessee.node, until, heard: null, claim: null, grantedFor: 0 });
    }
  }

  /** Whether a renew came past the brokers of its region. @param through the regional broker that forwarded it */
  isPast({ role, region }: Renew, through: string | null): boolean {
    if (role === "broker" || region === this.#home) return false;
    if (through === null) return true;
    if (hasBroker(this.#regions.get(region), through)) return false;
    return this.#regionOfBroker(through) !== null; // one that is not known yet may be the first of its region
  }

  /**
   * A renew has arrived. @param forMs how long a grant for it may count
   * @returns why it gets none; null: it may get one
   */
  admit(
    renew: Renew,
    { past, forMs }: Readonly<{ past: boolean; forMs: number }>,
    now: MonotonicMs,
  ): LeaseRefusal | null {
    if (renew.role === "broker") {
      this.#hear(renew, now + forMs, now);
      return null;
    }
    if (!past) return null;
    const state = this.#stateOf(renew.region);
    if (state === null) {
      this.#unknownUntil = Math.max(this.#unknownUntil, now + forMs);
      return null;
    }
    const holder = solePathHolder(state, now);
    if (holder !== null) {
      state.refusedAt = now;
      return pastRegion({ region: renew.region, broker: holder.name });
    }
    state.pastUntil = Math.max(state.pastUntil, now + forMs);
    return null;
  }

  /** A node that came past the brokers gets its grant now. @returns false: it must not */
  grantPast({ region }: Renew, until: number, now: MonotonicMs): boolean {
    const state = this.#regions.get(region);
    if (state === undefined) return true;
    if (solePathHolder(state, now) !== null) return false;
    state.pastUntil = Math.max(state.pastUntil, until);
    return true;
  }

  /**
   * A regional broker gets its grant now.
   * @returns the brokers of its region whose leases may count, if they are the sole path of its nodes; null otherwise
   */
  grantBroker({ boot, nonce, region }: Renew, until: number, now: MonotonicMs): readonly string[] | null {
    const state = this.#regions.get(region);
    const broker = state?.brokers.get(boot);
    if (state === undefined || broker === undefined || region === this.#home) return null;
    broker.until = Math.max(broker.until, until);
    const { claim } = broker;
    if (claim === null || !(claim.wanted || claim.retained || claim.grantedIn !== null)) return null;
    if (this.#mayCountPast(state, now) || now < state.refusedAt + refusedMs) return null;
    const names = [...state.brokers.values()].filter((each) => each.until > now).map(({ name }) => name);
    const brokers = [...new Set(names)].sort();
    if (brokers.length > brokersMax) return null;
    broker.grantedFor = Math.max(broker.grantedFor, nonce);
    return brokers;
  }

  /** Whether a lease of a broker of the region may count. */
  hasBrokers(region: string, now: MonotonicMs): boolean {
    for (const { until } of this.#regions.get(region)?.brokers.values() ?? []) if (until > now) return true;
    return false;
  }

  /** The boot has said goodbye, or was replaced. */
  forget(boot: BootId): void {
    for (const { brokers } of this.#regions.values()) brokers.delete(boot);
  }

  #hear({ node, boot, nonce, region, solePath }: Renew, until: number, now: MonotonicMs): void {
    const state = this.#stateOf(region);
    if (state === null) return;
    for (const [key, each] of state.brokers) if (each.until <= now) state.brokers.delete(key);
    const claim = solePath ?? null;
    const before = state.brokers.get(boot);
    const grantedFor = before?.grantedFor ?? 0;
    const longest = Math.max(before?.until ?? never, until);
    state.brokers.set(boot, { name: node, heard: nonce, claim, grantedFor, until: longest });
    // Since that grant, this epoch and the one before have refused every renew that came past the brokers.
    if (claim?.grantedIn === this.#epoch - 1) state.keptSolePath = true;
  }

  #mayCountPast({ pastUntil, earlierUntil, keptSolePath }: RegionState, now: MonotonicMs): boolean {
    return pastUntil > now || (!keptSolePath && Math.max(earlierUntil, this.#unknownUntil) > now);
  }

  /** Null: this epoch does not know the broker. */
  #regionOfBroker(name: string): string | null {
    for (const [region, state] of this.#regions) if (hasBroker(state, name)) return region;
    return null;
  }

  /** Null: there is no room for another region. */
  #stateOf(region: string): RegionState | null {
    const known = this.#regions.get(region);
    if (known !== undefined) return known;
    if (this.#regions.size >= regionsMax) return null;
    const created = {
      brokers: new Map(),
      pastUntil: never,
      earlierUntil: never,
      keptSolePath: false,
      refusedAt: never,
    };
    this.#regions.set(region, created);
    return created;
  }
}

/** A broker of the region that may revoke by itself, or that holds what the log lacks; null: none. */
function solePathHolder({ brokers }: RegionState, now: MonotonicMs): BrokerPath | null {
  for (const broker of brokers.values()) {
    const { until, heard, claim, grantedFor } = broker;
    if (until <= now) continue;
    if (heard === null || claim?.retained === true || (claim?.grantedIn ?? null) !== null) return broker;
    if (grantedFor > 0 && grantedFor >= heard) return broker; // under way to it
  }
  return null;
}

function hasBroker(state: RegionState | undefined, name: string): boolean {
  if (state !== undefined) for (const each of state.brokers.values()) if (each.name === name) return true;
  return false;
}
