/** Broker handle: a running broker as the rest of its process meets it. Only types. */
import type { BrokerId } from "../../events/index.ts";
import type { Databroker, RegionLag, ReplicaProcess, Role } from "../../replication/index.ts";
import type { GossipMessage, Presence } from "../core/messages.ts";
import type { CallOrigin } from "./leader-router.ts";

export type BrokerReadiness = Readonly<{ ready: boolean; reasons: readonly string[] }>;

export type Broker = Readonly<{
  brokerId: BrokerId;
  /** Within this process, in a role. */
  databroker: (role: Role) => Databroker;
  /** For whoever serves it over the network. */
  databrokerFor: (callOrigin: CallOrigin) => Databroker;
  /** Another broker says that it is there. */
  receiveGossip: (presence: Presence, gossip: GossipMessage) => GossipMessage;
  leading: () => boolean;
  ready: () => BrokerReadiness;
  /**
   * Settles when the log has been read to its head for the first time.
   * @returns why this build cannot go on with it; null: it can
   */
  whenRead: () => Promise<string | null>;
  metrics: () => Readonly<Record<string, number>>;
  /** How each region follows, as far as this broker knows: the leader of all of them, a regional broker of its own. */
  regions: () => readonly RegionLag[];
  /** A regional broker's own copy of the log; null: it has none, it reads the log itself. */
  copy: Pick<ReplicaProcess, "metrics" | "overdueMs"> | null;
  /** Finishes what is under way, says that it leads no more, and ends. The log and the fan-out stay open: they are the caller's. */
  stop: () => Promise<void>;
}>;
