/** Cast: the processes and models of a simulation, as faults and workload see them. */
import type {
  CommandId,
  CommandRequest,
  CommandResult,
  NeededLink,
  Profile,
  Projection,
  SessionId,
  UserId,
} from "../../src/events/index.ts";
import type { Receipt, ReceiptTarget, ReceiptWait } from "../../src/replication/index.ts";
import type { RequestNo } from "./facts.ts";
import type { NatsModel } from "./nats-model.ts";
import type { SimDirectory } from "./outside/sim-directory.ts";
import type { SimSignals } from "./outside/sim-signals.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { SimProcess } from "./process.ts";
import type { RegionDisk } from "./region-disk.ts";
import type { World } from "./world.ts";

export type ReceiptRequest = Readonly<{
  /** Number of the receipt, unique in a run. */
  receipt: number;
  target: ReceiptTarget;
  wait: ReceiptWait;
  timeoutMs: number;
  region: string | null;
}>;

/** A broker's process. Requests run inside it and travel over the simulated network; an answer may never arrive. */
export type BrokerActor = Readonly<{
  process: SimProcess;
  leads: () => boolean;
  /** The level of the log as far as it has read it; 0: it is down. */
  level: () => number;
  submit: (request: CommandRequest, answered: (result: CommandResult) => void) => void;
  receipt: (receiptRequest: ReceiptRequest, answered: (receipt: Receipt | undefined) => void) => void;
}>;

export type IncomingRequest = Readonly<{
  request: RequestNo;
  route: string;
  session: SessionId;
  user: UserId;
  kind: "request" | "stream";
  token: NeededLink;
  /** Duration (ms) of the exchange after its first byte, unless the node cuts it. */
  forMs: number;
}>;

/** A node's process. Requests run inside it. */
export type NodeActor = Readonly<{
  process: SimProcess;
  request: (incoming: IncomingRequest, decided: (verdict: "permit" | "deny" | "unavailable") => void) => void;
  /** Changes the state of the disk before the next start. */
  disk: (what: "old" | "lost") => void;
  limitRevocations: (limit: RevocationLimit) => void;
  /** Replaces the node's own configuration file: other routes, another hash. */
  configure: (routes: number) => void;
  /** Sends a goodbye and stops, as on SIGTERM. */
  stop: () => void;
  /** The copy of the log on which its authenticate service decides. Undefined: the node does not run. */
  copy: () => NodeCopy | undefined;
}>;

export type NodeCopy = Readonly<{
  projection: Projection;
  appliedLink: NeededLink;
  /** The profile of a user. Undefined: the node lacks it, or its key. */
  profileOf: (userId: UserId) => Profile | undefined;
}>;

/** A regional broker: the broker of a region other than the leader's. */
export type RegionActor = Readonly<{
  process: SimProcess;
  disk: RegionDisk;
  /** Stops as on SIGTERM. It sends a goodbye unless leases by age may still count. */
  stop: () => void;
  /** An operator's command that only tightens. */
  submit: (request: CommandRequest, answered: (result: LocalResult) => void) => void;
  /** Waits until the local receipt is complete, or for `timeoutMs`. */
  localReceipt: (
    commandId: CommandId,
    timeoutMs: number,
    answered: (answer: "complete" | "incomplete" | "merged" | "unknown") => void,
  ) => void;
}>;

/** An answer of a regional broker. `local`: the region has accepted the command by itself. */
export type LocalResult = CommandResult | Readonly<{ type: "local" }>;

/** The steps of a local revocation at one broker, in order. A process may end between each two of them. */
export const revocationSteps = [
  "accepted",
  "signed",
  "stored",
  "asked-peer",
  "heard-peer",
  "answered",
  "submitted",
  "merged",
  "dropped",
] as const;
export type RevocationStep = (typeof revocationSteps)[number];

/** What a node does with the local revocations of its region: its disk is full, or it has no room at all. */
export type RevocationLimit = "none" | "none stored" | "none taken";

export type Actors = Readonly<{
  world: World;
  postgres: PostgresModel;
  nats: Pick<NatsModel<unknown>, "serverNames" | "loseStreamSuffix" | "deleteStream">;
  brokers: readonly BrokerActor[];
  /** Null: the seed has none. */
  directory: SimDirectory | null;
  signals: SimSignals | null;
  nodes: readonly NodeActor[];
  /** One or two regional brokers for each region whose nodes do not call the home region. */
  regionals: readonly RegionActor[];
  /** Keeps only the events that must be kept, and takes snapshots often. @returns a function that ends this */
  keepNothing: () => () => void;
  /** Makes the leader take a snapshot. @returns a description; undefined: there is no leader */
  snapshot: () => string | undefined;
}>;
