/**
 * Broker port: the requests that a node makes to a broker's process, over the simulated network. Only types.
 *
 * - Requests run inside the broker's process.
 * - An answer may arrive later, at most once, or never.
 * - A broker that does not lead forwards a node's message to the leader.
 */
import type { CommandRequest, CommandResult, Link } from "../../src/events/index.ts";
import type { DenialsOutcome, PageOutcome } from "../../src/replication/index.ts";
import type { LoadedSnapshot } from "../../src/replication/node/index.ts";
import type { LeaseRefusalBody, StorePosition } from "../../src/replication/wire/index.ts";
import type { SimEnvelope } from "./envelopes.ts";
import type { ProcessName } from "./facts.ts";
import type { SimProcess } from "./process.ts";

/** No leader, no clean write, or no ability to answer: HTTP status 503. The caller asks the next broker. */
export type Unavailable = Readonly<{ type: "unavailable" }>;

export type NodeMessageAnswer =
  | Readonly<{ type: "grant"; envelope: SimEnvelope }>
  /** A confirmation or a goodbye. */
  | Readonly<{ type: "taken" }>
  | (Readonly<{ type: "refused" }> & LeaseRefusalBody)
  | Unavailable;

/** A page of a regional broker's store, as it travels. `none`: a broker of the home region has no store. */
export type WireDenials = DenialsOutcome | Unavailable;

export type BrokerPort = Readonly<{
  process: SimProcess;
  /** Long-polls at the head for `waitMs`. */
  read: (
    asked: Readonly<{ after: Link; limit: number; waitMs: number; by: ProcessName }>,
    answered: (answer: PageOutcome | Unavailable) => void,
  ) => void;
  /** A node's renew, confirmation or goodbye. */
  /** @param through the regional broker that forwards it; absent: none */
  sendMessage: (envelope: SimEnvelope, answered: (answer: NodeMessageAnswer) => void, through?: string) => void;
  submit: (request: CommandRequest, answered: (result: CommandResult) => void) => void;
  /** Waits for the revocations that the broker's region accepted by itself, after a position in the broker's store. */
  denials: (
    asked: Readonly<{ after: StorePosition | null; waitMs: number }>,
    answered: (answer: WireDenials) => void,
  ) => void;
  /** Returns the newest snapshot that this broker can serve, decoded separately for each caller. Null: none. */
  snapshot: (answered: (found: LoadedSnapshot | null) => void) => void;
}>;
