/**
 * Databroker: what every process asks of the brokers. Within a broker's own process it is the broker itself
 * (src/broker); elsewhere it is a client of the databroker HTTP API (broker-client.ts).
 */
import {
  type BootId,
  type BrokerId,
  CodedError,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  type ConfigHash,
  type ConfigurationEntry,
  type Epoch,
  type Fact,
  type Hash,
  type Link,
  type NodeId,
  type Position,
  type ProviderTokens,
  type SessionId,
  type StoredConfiguration,
  type UnixMs,
  type WrappedKey,
} from "../events/index.ts";
import type { Durability, LogPage, ReadOutcome } from "./log/log.ts";
import type { HistoryPage, HistoryRequest } from "./log/log-history.ts";

/** A page with the keys of the people its events speak of (those not erased). */
export type KeyedPage = LogPage & Readonly<{ keys: readonly WrappedKey[] }>;
export type PageOutcome = Fact<"page", { page: KeyedPage }> | Exclude<ReadOutcome, { type: "page" }>;

export type ReceiptWait = "all" | "region" | "none";
/** Asked by command id or by link, never by bare position. */
export type ReceiptTarget = Fact<"command", { commandId: CommandId }> | Fact<"link", { link: Link }>;

export type ReceiptNode = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: string;
  status: "applied" | "fenced" | "unconfirmed";
  /** The newest place that it has confirmed as enforced, on the chain of the epoch that answers. */
  enforced: Link | null;
  /** For `unconfirmed`: in how many ms it will be fenced if it stays silent. For `fenced`: 0. */
  fencedInMs: number | null;
  /** Why it is not applied, in plain words; "" for applied. */
  reason: string;
}>;

export type Receipt = Readonly<{
  /** `lost`: the link is not in the log (any more). */
  status: "complete" | "incomplete" | "lost";
  complete: boolean;
  wait: ReceiptWait;
  /** The region that `wait: "region"` asks about. */
  region: string | null;
  link: Link | null;
  commandId: CommandId | null;
  /** The epoch that answers. */
  epoch: Epoch;
  nodes: readonly ReceiptNode[];
  /** After this many ms everything unconfirmed will be fenced. */
  completeInMs: number;
  /** When it was answered, by the leader's clock; null before it has left the leader. */
  at: UnixMs | null;
  /** The same as a compact JWS (wire/receipt-jws.ts). Null while it is progress only: the last answer is signed. */
  signed: string | null;
}>;

export type ReceiptOptions = Readonly<{
  wait: ReceiptWait;
  timeoutMs: number;
  region?: string;
  /** The progress that the caller has seen (lease/receipt-progress.ts): it is answered too when there is another. */
  seen?: string;
}>;

export type NodeStatus = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: string;
  version: string;
  /** The level up to which its build can read events; null: not heard from in this epoch. */
  reads: number | null;
  applied: Link | null;
  enforced: Link | null;
  lag: number | null;
  digest: string | null;
  configHash: string | null;
  lastGrantAgoMs: number | null;
  fencedInMs: number | null;
  digestMismatch: boolean;
  /** Another boot of the same node that is alive as well, as after a disk was cloned; null: none. */
  twin: BootId | null;
}>;

/** A snapshot that a broker keeps. `id`: the hash of its manifest, as the log holds it. */
export type SnapshotPlace = Readonly<{
  id: Hash;
  position: Position;
  takenAt: UnixMs;
  /** The broker that took it. */
  by: string;
  sessions: number;
  chunks: number;
}>;

export type BrokerPresence = Readonly<{ brokerId: BrokerId; version: string; reads: number; heardAgoMs: number }>;

export type LeaderStatus = Readonly<{
  brokerId: BrokerId;
  url: string | null;
  epoch: Epoch;
  head: Link;
  /** Of the head; null: a broker of an older version leads, and does not say. */
  durability: Durability | null;
  digest: string;
  version: string;
  reads: number;
  /** Newest first; absent where none are kept. */
  snapshots?: readonly SnapshotPlace[] | undefined;
}>;

export type ClusterStatus = Readonly<{
  cluster: string;
  /** The level that was finalized last (src/events/formats.ts). */
  level: number;
  leader: LeaderStatus | null;
  /** The brokers that do not lead, as the leader has heard from them. */
  brokers: readonly BrokerPresence[];
  /** The broker that answered. */
  broker: Readonly<{ brokerId: BrokerId; leading: boolean; applied: Link; store: string }>;
  nodes: readonly NodeStatus[];
}>;

export type Databroker = {
  submit(request: CommandRequest): Promise<CommandResult>;
  /**
   * Events after a link, oldest first, at or below the durable horizon.
   * @param options.waitMs long-polls at the head for at most this long
   * @throws BrokerUnavailableError
   */
  read(after: Link, options: Readonly<{ limit: number; waitMs: number; signal?: AbortSignal }>): Promise<PageOutcome>;
  /** Hands a node's enveloped message to the leader. @returns the enveloped grant for a renew, null otherwise */
  lease(envelope: Uint8Array): Promise<Uint8Array | null>;
  receipt(target: ReceiptTarget, options: ReceiptOptions): Promise<Receipt>;
  status(): Promise<ClusterStatus>;
  /**
   * Asks the leader for a snapshot as soon as it can; it shows in the status when it is there.
   * @returns the place that it will be of, or beyond @throws BrokerUnavailableError
   */
  takeSnapshot(): Promise<Position>;
  /** Events of some streams, from a position towards the beginning; for explanations. @throws BrokerUnavailableError */
  history(request: HistoryRequest): Promise<HistoryPage>;
  /**
   * What a configuration said; undefined: no body of this hash is kept. For operators.
   * @throws BrokerUnavailableError
   */
  configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined>;
  /** The configurations whose bodies are kept, oldest first. For operators. @throws BrokerUnavailableError */
  configurations(): Promise<readonly ConfigurationEntry[]>;
  /**
   * True when the body of a hash is stored, so that a process that runs it need not offer it.
   * @throws BrokerUnavailableError
   */
  holdsConfiguration(configHash: ConfigHash): Promise<boolean>;
  /** The identity provider's tokens of a session, opened; for sign-out, refresh and routes that forward them. */
  tokens(sessionId: SessionId): Promise<ProviderTokens | undefined>;
};

/** No broker answered, or none leads. Safe to retry. */
export class BrokerUnavailableError extends CodedError<"ERR_REPLICATION_BROKER_UNAVAILABLE"> {
  override readonly code = "ERR_REPLICATION_BROKER_UNAVAILABLE";
}
