/** Region nodes: the nodes that get their leases from one regional broker, as its local receipts name them. Pure. */
import type { RegionalGranter } from "../../replication/lease/index.ts";
import type { PeerNode } from "./local-messages.ts";

export class RegionNodes {
  readonly #granter: RegionalGranter;

  constructor(granter: RegionalGranter) {
    this.#granter = granter;
  }

  /** Until when a lease may count of a node that is not listed. */
  get unrecordedUntil(): number {
    return this.#granter.unrecordedUntil;
  }

  peerNodes(now: number): readonly PeerNode[] {
    return this.#granter.tightenedNodes().map(({ renew, confirmed, passed }) => ({
      node: renew.node,
      boot: renew.boot,
      role: renew.role,
      brokers: renew.brokers ?? null,
      confirmed,
      passed: passed.filter(({ until }) => until > now).map(({ seq, until }) => ({ seq, forMs: until - now })),
    }));
  }
}
