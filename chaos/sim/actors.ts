/**
 * Cast: who plays in a simulation, as faults and workload see them. Only types.
 */
import type { CommandRequest, CommandResult, Link, SessionId, UserId } from "../../src/events/index.ts";
import type { Receipt, ReceiptTarget, ReceiptWait } from "../../src/replication/index.ts";
import type { RequestNo } from "./facts.ts";
import type { NatsModel } from "./nats-model.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { SimProcess } from "./process.ts";
import type { RegionDisk } from "./region-disk.ts";
import type { World } from "./world.ts";

export type ReceiptQuestion = Readonly<{
  /** Numbers the receipts of a run. */
  receipt: number;
  target: ReceiptTarget;
  wait: ReceiptWait;
  timeoutMs: number;
  region: string | null;
}>;

/** A broker's process. What is asked is asked within it, by way of the network; answers may never come. */
export type BrokerFace = Readonly<{
  process: SimProcess;
  leads: () => boolean;
  submit: (request: CommandRequest, answered: (result: CommandResult) => void) => void;
  receipt: (question: ReceiptQuestion, answered: (receipt: Receipt | undefined) => void) => void;
}>;

export type Asking = Readonly<{
  request: RequestNo;
  route: string;
  session: SessionId;
  user: UserId;
  kind: "request" | "stream";
  token: Link;
  /** How long the exchange goes on after its first byte, if nobody cuts it. */
  forMs: number;
}>;

/** A node's process, asked within it. */
export type NodeFace = Readonly<{
  process: SimProcess;
  request: (asking: Asking, decided: (verdict: "permit" | "deny" | "unavailable") => void) => void;
  /** Before its next start. */
  disk: (what: "old" | "lost") => void;
  /** The node's own file changes: other routes, another hash. */
  configure: (routes: number) => void;
  /** Goodbye and end, as on SIGTERM. */
  stop: () => void;
}>;

/** The broker of a region that is not the leader's. */
export type RegionFace = Readonly<{
  process: SimProcess;
  disk: RegionDisk;
  /** As on SIGTERM: goodbye, unless leases by age may count, and end. */
  stop: () => void;
}>;

export type Cast = Readonly<{
  world: World;
  postgres: PostgresModel;
  nats: Pick<NatsModel<unknown>, "serverNames" | "loseStreamSuffix" | "deleteStream">;
  brokers: readonly BrokerFace[];
  nodes: readonly NodeFace[];
  /** One for each region whose nodes do not ask the home region. */
  regionals: readonly RegionFace[];
  /** From now on no event is kept that need not be, and snapshots are taken often. @returns what ends that */
  keepNothing: () => () => void;
  /** Has whoever leads take a snapshot. @returns a word on it; undefined: nobody leads */
  snapshot: () => string | undefined;
}>;
