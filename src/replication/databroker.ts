/**
 * Databroker: the interface through which every process calls the brokers. Within the process of a broker it is the
 * broker itself (src/broker). Elsewhere it is a client of the databroker HTTP API (broker-client.ts).
 */
import type {
  BootId,
  BrokerId,
  CommandId,
  CommandOutcome,
  CommandRequest,
  CommandResult,
  ConfigHash,
  ConfigurationEntry,
  Epoch,
  Fact,
  Hash,
  Link,
  NodeId,
  Position,
  ProviderTokens,
  RefusalCode,
  SessionId,
  StoredConfiguration,
  StoredSignalStream,
  UnixMs,
  WrappedKey,
} from "../events/index.ts";
import type { AdmittedNode, Durability, LogPage, ReadOutcome } from "./log/log.ts";
import type { HistoryPage, HistoryRequest } from "./log/log-history.ts";
import type { StorePosition } from "./wire/messages.ts";

/** A page with the keys of the people that its events mention (except those erased). */
export type KeyedPage = LogPage & Readonly<{ keys: readonly WrappedKey[] }>;
export type PageOutcome = Fact<"page", { page: KeyedPage }> | Exclude<ReadOutcome, { type: "page" }>;

export type ReceiptWait = "all" | "region" | "none";
/** Names a receipt by command id or by link, never by bare position. */
export type ReceiptTarget = Fact<"command", { commandId: CommandId }> | Fact<"link", { link: Link }>;

export type ReceiptNode = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: string;
  status: "applied" | "fenced" | "unconfirmed";
  /** The newest link that the node has confirmed as enforced, on the chain of the answering epoch. */
  enforced: Link | null;
  /** For `unconfirmed`: the time in ms until the node is fenced if it stays silent. For `fenced`: 0. */
  fencedInMs: number | null;
  /** Why the node is not applied, in plain words; "" for applied. */
  reason: string;
  /**
   * For `applied`: by when the leader knew, by its clock. It never precedes the confirmation of the node. Of an old
   * change it is when this leader first heard from the node. Left out by an older build.
   */
  confirmedAt?: UnixMs | null | undefined;
}>;

/** A region in a receipt, as the leader knew it at the time of the answer. */
export type ReceiptRegion = Readonly<{
  region: string;
  /** Numbers of the nodes in the receipt. */
  applied: number;
  fenced: number;
  unconfirmed: number;
  /** Nodes that are absent: silent, and long fenced. The receipt does not list them any more. */
  absent: number;
  cutOff: boolean;
  /** When the leader last heard from the region, by its clock; null: its nodes are in the leader's process. */
  heardAt: UnixMs | null;
}>;

export type Receipt = Readonly<{
  /** `lost`: the link is not in the log (any more). */
  status: "complete" | "incomplete" | "lost";
  complete: boolean;
  wait: ReceiptWait;
  /** The region that `wait: "region"` names. */
  region: string | null;
  link: Link | null;
  commandId: CommandId | null;
  /** The epoch of the leader that answered. */
  epoch: Epoch;
  nodes: readonly ReceiptNode[];
  /** The regions that the leader knows, whichever the receipt waits for. Left out by an older build. */
  regions?: readonly ReceiptRegion[] | undefined;
  /** After this many ms every unconfirmed node will be fenced. */
  completeInMs: number;
  /** The time of the answer, by the clock of the leader; null before it has left the leader. */
  at: UnixMs | null;
  /** The same receipt as a compact JWS (wire/receipt-jws.ts). Null for progress: only the last answer is signed. */
  signed: string | null;
}>;

export type ReceiptOptions = Readonly<{
  wait: ReceiptWait;
  timeoutMs: number;
  region?: string;
  /** The progress that the caller has seen (lease/receipt-progress.ts). Newer progress is also answered. */
  seen?: string;
}>;

export type NodeStatus = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  role: string;
  version: string;
  /** The level up to which its build can read events; null: it has not reported in this epoch. */
  reads: number | null;
  applied: Link | null;
  enforced: Link | null;
  lag: number | null;
  digest: string | null;
  configHash: string | null;
  lastGrantAgoMs: number | null;
  fencedInMs: number | null;
  digestMismatch: boolean;
  /** Another boot of the same node that is also alive, for example after a disk was cloned; null: none. */
  twin: BootId | null;
  /** Time (ms) since its last renew; null: none in this epoch, or an older build answers. */
  heardAgoMs: number | null;
  /** Why it gets no lease although it renews; null: it does, or an older build answers. */
  refusal: string | null;
}>;

/** A node that was admitted, is silent, and may not decide any more (docs/adr/0040). */
export type AbsentNode = AdmittedNode &
  Readonly<{
    /** Time (ms) since the leader last heard from it. */
    silentMs: number;
  }>;

/** A region of which the leader hears no node. */
export type CutOffRegion = Readonly<{
  region: string;
  /** When the leader last heard from one of its nodes. */
  heardAt: UnixMs;
  silentMs: number;
}>;

/** How a region follows the log (region-lag.ts). */
export type RegionLag = Readonly<{
  region: string;
  /** Regional brokers and enforcement nodes that may hold a lease. */
  brokers: number;
  nodes: number;
  /** Number of regional brokers and nodes whose lease has certainly expired, the absent ones included. */
  fenced: number;
  /** Number of those that are silent and have been neither retired nor stopped cleanly. */
  absent: number;
  /** The leader hears from no node or broker of the region. */
  cutOff: boolean;
  /** Positions that the slowest node has not reported yet; null: no node has reported any. */
  lag: number | null;
  /**
   * Time in ms since the last grant of the node that has been without one for longest; for an absent node, since it was
   * last heard from. Null: no node was granted a lease in this epoch.
   */
  silentMs: number | null;
}>;

/** A snapshot that a broker keeps. `id`: the hash of its manifest, as recorded in the log. */
export type SnapshotPlace = Readonly<{
  id: Hash;
  position: Position;
  takenAt: UnixMs;
  /** The broker that took the snapshot. */
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
  /** Durability of the head. Null: a broker of an older version leads and does not report it. */
  durability: Durability | null;
  digest: string;
  version: string;
  reads: number;
  /** Newest first; absent when no snapshots are kept. */
  snapshots?: readonly SnapshotPlace[] | undefined;
}>;

export type ClusterStatus = Readonly<{
  cluster: string;
  /** The last finalized level (src/events/formats.ts). */
  level: number;
  leader: LeaderStatus | null;
  /** The brokers that do not lead, as last heard by the leader. */
  brokers: readonly BrokerPresence[];
  /** The broker that answered. */
  broker: Readonly<{
    brokerId: BrokerId;
    leading: boolean;
    applied: Link;
    store: string;
    /**
     * Revocations that its region accepted by itself and that the log does not have yet, as far as it knows. Left out
     * by a broker that retains none by design, and by an older build.
     */
    localUnmerged?: number | undefined;
    /**
     * How many messages the mirror of the replay buffer in its region is behind; null: there is none, or it is unknown.
     * Left out without NATS, by a broker of the home region, and by an older build.
     */
    mirrorLag?: number | null | undefined;
    /**
     * Whether a broker that serves its region leads by itself once the Postgres primary is there. Left out by a broker
     * of the home region, and by an older build.
     */
    mayLead?: boolean | undefined;
  }>;
  nodes: readonly NodeStatus[];
  /** Nodes that were admitted and are absent. Left out where the leader is not known, or is of an older build. */
  absent?: readonly AbsentNode[] | undefined;
  /** The regions as the leader knows them. Left out as `absent` is. */
  regions?: readonly RegionLag[] | undefined;
  /** A regional broker answered that does not reach the home region. */
  home?: HomeOutOfReach | undefined;
}>;

/** What a regional broker retains of the revocations that its region accepted by itself. */
export type DenialsOutcome =
  /** `upTo`: everything up to here in this store is in the pages so far. */
  | Fact<"page", { store: string; upTo: number; envelopes: readonly Uint8Array[]; more: boolean }>
  /** The broker is no regional broker. */
  | Fact<"none", unknown>;

/** The answer of a regional broker to a command that only tightens, while the home region is out of reach. */
export type LocalResult =
  /**
   * Accepted in this region alone. `basis`: the ids are those that the region knew there; `ids`: how many it denies.
   */
  | Fact<
      "local",
      { commandId: CommandId; region: string; broker: string; seq: number; basis: Link; ids: number; at: UnixMs }
    >
  | Fact<"refused", { commandId: CommandId; code: RefusalCode; message: string }>
  /**
   * `outcome`: `none` if this command left nothing in the region; absent or `unknown` if the region may deny it: repeat
   * it with the same command id. `code`: docs/errors.md.
   */
  | Fact<"unavailable", { commandId: CommandId; code: string; message: string; outcome?: CommandOutcome | undefined }>;

export type LocalReceiptNode = Readonly<{
  node: string;
  boot: string;
  role: string;
  status: "applied" | "fenced" | "unconfirmed";
  /** The number that it confirmed, in the store of the broker that heard it; null: it has not confirmed. */
  confirmed: number | null;
  /** For `unconfirmed`: ms until it is fenced, if it stays silent. */
  fencedInMs: number;
  reason: string;
}>;

/** A receipt of one region, for a revocation that it accepted by itself. It promises nothing of other regions. */
export type LocalReceipt = Readonly<{
  scope: "region";
  region: string;
  commandId: CommandId;
  broker: string;
  seq: number;
  basis: Link;
  acceptedAt: UnixMs;
  complete: boolean;
  /** Whether every broker of the region has it on its disk. */
  brokers: readonly Readonly<{ broker: string; stored: boolean }>[];
  nodes: readonly LocalReceiptNode[];
  completeInMs: number;
  at: UnixMs;
  /** The same as a compact JWS (wire/local-receipt-jws.ts). */
  signed: string;
}>;

export type LocalReceiptOutcome =
  | Fact<"receipt", { receipt: LocalReceipt }>
  /** The log has it at this link: a receipt of the cluster can be requested. */
  | Fact<"merged", { link: Link }>
  /** This broker retains no revocation of this command. */
  | Fact<"unknown", unknown>;

/** What a regional broker knows while the home region is out of its reach. */
export type HomeOutOfReach = Readonly<{
  /** The broker's own region. */
  region: string;
  /** Time (ms) since the leader answered last; null: it has not since this process started. */
  silentMs: number | null;
  /** When the last lease by age ends, by this broker's clock; null: this broker holds no lease and grants none. */
  leasesUntil: UnixMs | null;
  /**
   * The regions as the leader reported them last, and its head at that time (left out by an older build). Null: it has
   * reported nothing to this process.
   */
  lastKnown: Readonly<{ at: UnixMs; head?: Link | null | undefined; regions: readonly RegionLag[] }> | null;
}>;

/** `nodes: "omitted"`: without the nodes, for a caller that needs only the regions. */
export type StatusOptions = Readonly<{ nodes: "omitted" }>;

export type Databroker = {
  submit(request: CommandRequest): Promise<CommandResult>;
  /**
   * Events after a link, oldest first, at or below the durable horizon.
   * @param options.waitMs long-polls at the head for at most this long
   * @throws BrokerUnavailableError
   */
  read(after: Link, options: Readonly<{ limit: number; waitMs: number; signal?: AbortSignal }>): Promise<PageOutcome>;
  /** Sends the enveloped message of a node to the leader. @returns the enveloped grant for a renew, null otherwise */
  lease(envelope: Uint8Array): Promise<Uint8Array | null>;
  receipt(target: ReceiptTarget, options: ReceiptOptions): Promise<Receipt>;
  status(options?: StatusOptions): Promise<ClusterStatus>;
  /**
   * Requests a snapshot from the leader as soon as possible. The status lists it once it exists.
   * @returns the position that the snapshot will have at least @throws BrokerUnavailableError
   */
  takeSnapshot(): Promise<Position>;
  /** Events of some streams, read backwards from a position; for explanations. @throws BrokerUnavailableError */
  history(request: HistoryRequest): Promise<HistoryPage>;
  /**
   * The body of a configuration; undefined: no body with this hash is kept. For operators.
   * @throws BrokerUnavailableError
   */
  configuration(configHash: ConfigHash): Promise<StoredConfiguration | undefined>;
  /** The configurations whose bodies are kept, oldest first. For operators. @throws BrokerUnavailableError */
  configurations(): Promise<readonly ConfigurationEntry[]>;
  /**
   * True when the body with a hash is stored, so that a process that runs it need not send it.
   * @throws BrokerUnavailableError
   */
  holdsConfiguration(configHash: ConfigHash): Promise<boolean>;
  /**
   * What is kept for a receiver of Shared Signals; undefined: nothing. For the authenticate service and operators.
   * @throws BrokerUnavailableError
   */
  storedSignalStream(receiver: string): Promise<StoredSignalStream | undefined>;
  /** The opened identity-provider tokens of a session, for sign-out, refresh and routes that forward them. */
  tokens(sessionId: SessionId): Promise<ProviderTokens | undefined>;
  /**
   * The revocations that the broker's region accepted by itself, after a position in its store; waits at the end.
   * Absent: the broker is no regional broker. @throws BrokerUnavailableError
   */
  denials?(
    after: StorePosition | null,
    options: Readonly<{ waitMs: number; signal?: AbortSignal }>,
  ): Promise<DenialsOutcome>;
  /** Accepts a command that only tightens for the broker's region alone. @throws BrokerUnavailableError */
  revokeLocally?(request: CommandRequest): Promise<LocalResult>;
  /** The receipt of the broker's region for a command that it answered `local`. @throws BrokerUnavailableError */
  localReceipt?(commandId: CommandId, options: Readonly<{ timeoutMs: number }>): Promise<LocalReceiptOutcome>;
};
