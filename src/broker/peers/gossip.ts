/**
 * Gossip: once a second each broker sends its peers its presence, the newest epoch it knows, and the peer addresses it
 * knows. It uses HTTP and needs no fan-out. A broker that reads an old primary learns of a later epoch from a peer.
 */
import { type BrokerId, type Epoch, noEpoch, parseEpoch } from "../../events/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { EventLog } from "../../replication/log/index.ts";
import type { LeaderClient } from "../api/leader-client.ts";
import type { GossipMessage, Presence } from "../core/messages.ts";
import { epochJumpMax } from "../leader/epoch-claims.ts";
import { PeerAddresses } from "./peer-addresses.ts";

/** The time limit of a gossip call: then the next one is due. */
const gossipMsMax = 1_000;

export type GossipParts = Readonly<{
  log: Pick<EventLog, "heardOf">;
  leaderClient: LeaderClient;
  logger: Logger;
  brokerId: BrokerId;
  /** Where other brokers reach this one; null: there are none. */
  url: string | null;
  monotonic: () => number;
  /** What the log says at this moment. */
  seen: () => Readonly<{ epoch: Epoch; leaderUrl: string | null }>;
  /** Another broker knows a later epoch. */
  onEpoch: (epoch: Epoch) => void;
}>;

export function createGossip(parts: GossipParts) {
  const { log, leaderClient, logger, url, monotonic } = parts;
  const peers = new PeerAddresses(url);
  const caller = { role: "broker", name: parts.brokerId } as const;
  const ownUrls = url === null ? [] : [url];
  /** The newest epoch in the gossip of others. */
  let newestHeard = noEpoch;

  function newest(): Epoch {
    const { epoch } = parts.seen();
    return parseEpoch(Math.max(epoch, newestHeard));
  }

  /** An authenticated broker knows this epoch. */
  function heardOf(epoch: Epoch): void {
    const known = newest();
    // The bound is above the store's epoch, not above the gossip: a series of messages does not add up.
    if (epoch > parts.seen().epoch + epochJumpMax) return;
    log.heardOf?.(epoch);
    if (epoch <= known) return;
    newestHeard = epoch;
    parts.onEpoch(epoch);
  }

  return {
    get peers(): number {
      return peers.known(monotonic()).length;
    },

    /** A failed call is not logged as a problem: the next one follows in a second. */
    sendGossip(presence: Presence): void {
      peers.add(parts.seen().leaderUrl, monotonic(), "reported");
      for (const peerUrl of peers.known(monotonic())) {
        const call = { url: peerUrl, caller, timeoutMs: gossipMsMax };
        leaderClient.sendGossip(call, presence, { epoch: newest(), urls: ownUrls }).then(
          ({ epoch, urls }) => {
            peers.add(peerUrl, monotonic(), "direct");
            for (const other of urls) peers.add(other, monotonic(), "reported");
            heardOf(epoch);
          },
          (error: unknown) => logger.debug({ err: error }, "could not send gossip to another broker"),
        );
      }
    },

    /** Handles gossip of another broker. @returns our answer */
    receiveGossip({ epoch, urls }: GossipMessage): GossipMessage {
      for (const peerUrl of urls) peers.add(peerUrl, monotonic(), "direct");
      heardOf(epoch);
      return { epoch: newest(), urls: peers.direct(monotonic()) };
    },
  };
}
