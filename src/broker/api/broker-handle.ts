/** Broker handle: a running broker as the rest of its process meets it. Only types. */
import type { BrokerId } from "../../events/index.ts";
import type { Databroker, RegionLag } from "../../replication/index.ts";
import type { ReplicaProcess } from "../../replication/node/index.ts";
import type { Role } from "../../replication/wire/index.ts";
import type { GossipMessage, Presence } from "../core/messages.ts";
import type { CallOrigin } from "./leader-router.ts";

export type BrokerReadiness = Readonly<{ ready: boolean; reasons: readonly string[] }>;

export type Broker = Readonly<{
  brokerId: BrokerId;
  /** The broker's API for a part of this process, in a role. */
  databroker: (role: Role) => Databroker;
  /** The broker's API for a call that arrived over the network. */
  databrokerFor: (callOrigin: CallOrigin) => Databroker;
  /** Handles gossip of another broker. @returns our own */
  receiveGossip: (presence: Presence, gossip: GossipMessage) => GossipMessage;
  leading: () => boolean;
  ready: () => BrokerReadiness;
  /**
   * Settles when the log has been read to its head for the first time.
   * @returns why this build cannot use it; null: it can
   */
  whenRead: () => Promise<string | null>;
  metrics: () => Readonly<Record<string, number>>;
  /** How each region follows the log. A leader knows all regions, a regional broker its own. */
  regions: () => readonly RegionLag[];
  /** A regional broker's own copy of the log; null: this broker reads the log itself. */
  copy: Pick<ReplicaProcess, "metrics" | "overdueMs"> | null;
  /**
   * A regional broker's answer to another broker of its region, about local revocations. Absent: this broker is none.
   * @throws MalformedMessageError, BrokerUnavailableError
   */
  exchangeRevocations?: (question: unknown) => Promise<object>;
  /** Finishes writes in flight, resigns, and ends. The caller closes the log and the fan-out. */
  stop: () => Promise<void>;
}>;
