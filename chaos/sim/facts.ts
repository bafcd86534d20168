/**
 * Facts: the events that the models, processes and workload of the simulator report, and that the monitors check.
 * Types.
 *
 * - A reporter reports an event when it happens, in order, and before any effect of it is visible elsewhere. A fact is
 *   never a conclusion.
 * - `at` is real time, which no process of the simulation can read. `process` is the process that the event happened
 *   to.
 * - The model or driver that makes a fact true (a server wrote, a byte passed) reports it. The core under test never
 *   does.
 *
 * Reporters: PG the Postgres model · NATS the NATS model · B a broker's driver (sim-broker) · N a node's driver
 * (sim-node) · W the world · F the fault plan and the operator · C the workload's clients.
 */
import type {
  BootId,
  Command,
  CommandId,
  CommandResult,
  Epoch,
  Incarnation,
  Link,
  NeededLink,
  NodeId,
  SessionId,
  UserId,
} from "../../src/events/index.ts";
import type { Receipt, ReceiptTarget, ReceiptWait } from "../../src/replication/index.ts";
import type { Durability } from "../../src/replication/log/index.ts";
import type { StorePosition } from "../../src/replication/wire/index.ts";
import type {
  AppendSent,
  BootLeft,
  DutyAnswered,
  DutySubmitted,
  Finalizing,
  GrantRefused,
  GrantSent,
  Leading,
  MadeAhead,
  NodesListed,
  Reasserted,
  RenewArrived,
  RetainAsked,
  SessionDismissed,
  SnapshotBegun,
  SnapshotBuilt,
  SnapshotGivenUp,
  TokenPresented,
  TokenSent,
} from "./broker-facts.ts";
import type { OutsideFact } from "./outside/outside-facts.ts";
import type {
  CommittedCleanly,
  Demoted,
  LogAnswered,
  NamesSet,
  Promoted,
  StandbyFlushed,
  SynchronousSet,
  Truncated,
  Wrote,
} from "./postgres-facts.ts";
import type {
  DiskReplaced,
  GrantPassed,
  LocalAnswered,
  LocalReceiptAnswered,
  MergeAnswered,
  RevocationArrived,
  RevocationDropped,
  RevocationEnforced,
  RevocationStored,
} from "./revocation-facts.ts";

/** Milliseconds of real time since the start of the run; may be fractional. */
export type SimMs = number;
/** `pg-1`, `nats-1`, `broker-1`, `node-1`, `client-1`, `operator`, `world`. */
export type ProcessName = string;

export type FactOf<Type extends string, Data> = Readonly<{ type: Type; at: SimMs; process: ProcessName } & Data>;
/** A fact about a lessee (a node or a broker): its id as in renews, and the boot in which the fact happened. */
type NodeFact<Type extends string, Data> = FactOf<Type, { node: NodeId; boot: BootId } & Data>;

// --- processes, clocks, faults (W, F)

/** W: a process starts. Reported after the world drew `boot` and before the first input of the process. */
export type Started = FactOf<
  "started",
  {
    role: "postgres" | "nats" | "broker" | "node" | "client";
    /** Null for a server, which has no boot id. */
    boot: BootId | null;
    /** Id in messages, for brokers and nodes; null for other processes. */
    node: NodeId | null;
    region: string;
    /** `authorize`: a node that answers for a foreign proxy. Null for servers. */
    lessee: "proxy" | "authorize" | "broker" | null;
    build: string;
    /** Event types that this build cannot read. */
    unknownTypes: readonly string[];
  }
>;
/** W: this boot has stopped and its connections are gone. */
export type Killed = FactOf<"killed", { boot: BootId | null }>;
/** W: the process stops running; its inputs wait. `suspended`: its monotonic clock stops too. */
export type Paused = FactOf<"paused", { how: "stopped" | "suspended" }>;
/** W: the process runs again. Reported before it gets any input that waited. */
export type Resumed = FactOf<"resumed", { pausedMs: number }>;
/**
 * W: reported at the start of each process with a clock, and at each change. The protocol assumes rates within 1 ± ρ.
 */
export type ClockSet = FactOf<
  "clock-set",
  {
    /** Rate of the monotonic clock against real time. */
    rate: number;
    /** Wall clock minus real time, in ms. */
    wallOffsetMs: number;
  }
>;
/** F: a fault starts. `id` is unique in the run. */
export type FaultBegan = FactOf<"fault-began", { id: number; kind: string; about: string }>;
/** F: a fault is repaired; recovery from it begins now. A momentary fault reports its start and its end at once. */
export type FaultEnded = FactOf<"fault-ended", { id: number; kind: string }>;
/** F: the last fault has ended and no other follows: the liveness phase begins. */
export type FaultsOver = FactOf<"faults-over", unknown>;
/** F: the run has ended. Reported after the last effect. */
export type RunOver = FactOf<"run-over", unknown>;

// --- the log on its way (B, NATS, N)

/**
 * B: the broker publishes a sealed batch to the fan-out. Reported before any process receives it. `relayed`: published
 * into the JetStream buffer.
 */
export type Published = FactOf<
  "published",
  { how: "core" | "relayed"; epoch: Epoch; incarnation: Incarnation; previous: Link; last: Link }
>;
/**
 * PG, B: a page was sent to `to`, the process that requested it. PG reports what a server answers a broker. B reports
 * what a broker answers a reader, long polls included.
 */
export type PageServed = FactOf<
  "page-served",
  {
    to: ProcessName;
    after: Link;
    /** Equal to `after` if the page is empty. */
    last: Link;
    count: number;
    head: Link;
    outcome: "page" | "forked" | "truncated";
  }
>;
/**
 * NATS: a slow consumer was cut, the buffer lost its suffix or the whole stream, or a publication by an old relay was
 * refused. The model counts dropped, repeated and overtaking messages and does not report them one by one.
 */
export type NatsHappened = FactOf<
  "nats-happened",
  { what: "consumer-cut" | "suffix-lost" | "stream-lost" | "stale-relay-refused"; about: string }
>;
/**
 * F or the forger: an envelope was sent that its named sender did not make, or that was made for another receiver or
 * time.
 */
export type Forged = FactOf<"forged", { how: "forged" | "replayed"; kind: string; to: ProcessName }>;
/** B, N: an envelope was refused. `reason`: the product's own message. */
export type MessageRefused = FactOf<"message-refused", { kind: string; reason: string }>;

// --- nodes (N; brokers report them for their ledger, with their own boot)

/** N: the loaded snapshot is now the visible projection, at boot or because the old projection was behind retention. */
export type SnapshotLoaded = NodeFact<"snapshot-loaded", { from: "disk" | "broker"; link: Link; digest: string }>;
/**
 * N: the visible projection advanced in one step, by folding the events after `from` up to and including `to`. Reported
 * before the node decides anything at `to`. `digest`: of the new projection; null where it would cost too much.
 */
export type Applied = NodeFact<"applied", { from: Link; to: Link; digest: string | null }>;
/**
 * N: events that the node had applied are not in the log. Its lease is void and it rebuilds its projection. `lost`: the
 * link it was at.
 */
export type Rebuilding = NodeFact<"rebuilding", { lost: Link }>;
/**
 * N: the rebuilt projection replaces the old one. `base`: the snapshot that the rebuild started from, as loaded;
 * genesis: none.
 */
export type Rebuilt = NodeFact<"rebuilt", { to: Link; digest: string | null; base: Link }>;
/**
 * N: the core reports that it has re-decided everything up to `link` and destroyed every exchange that is now denied.
 */
export type Enforced = NodeFact<"enforced", { link: Link }>;
/** N: the node sends a renew. `at` is its own send time. */
export type RenewSent = NodeFact<
  "renew-sent",
  { nonce: number; windowMs: number; applied: Link; enforced: Link; digest: string }
>;
/** N: the node sends a confirmation. */
export type ConfirmSent = NodeFact<"confirm-sent", { nonce: number; enforced: Link }>;
/** N: the node sends a goodbye. From now on this boot permits nothing. */
export type GoodbyeSent = NodeFact<"goodbye-sent", { nonce: number }>;
/**
 * N: the core received an envelope of the kind `grant`.
 * - `taken`: the core accepted it as authentic and for this boot, though it may not have reached the head yet.
 * - `by`: the sender that the envelope names, and `nonce` and `head`: the values in the envelope.
 */
export type GrantReceived = NodeFact<
  "grant-received",
  {
    by: ProcessName;
    nonce: number;
    epoch: Epoch;
    head: Link;
    windowMs: number;
    taken: boolean;
    /** Age (ms) of a grant by age, by the granter's clock. Null or absent: the leader's own grant. */
    agedMs?: number | null;
    /** The local revocations that must be in force at the node before the grant counts. Null or absent: none. */
    tightenedTo?: StorePosition | null;
    /** Age (ms) of the lease by the node's own clock, if this grant by age moved its start. Absent: it did not. */
    anchorAgeMs?: number;
  }
>;
/** N: the state of a regional broker's age mark on the disk. `found`: the state when this boot started. */
export type AgeMarked = NodeFact<"age-mark", { mark: "none" | "on the disk"; how: "found" | "kept" | "removed" }>;
/** N: reported at the start and at each change of the node's own file. One decision uses one hash. */
export type ConfigActivated = NodeFact<
  "config-activated",
  { hash: string; deltaMs: number; routes: readonly RoutePolicy[] }
>;
export type RoutePolicy = Readonly<{
  route: string;
  onStale: "serve" | "deny";
  /** In ms; 0 if `onStale` is `deny`. */
  staleGraceMs: number;
  /** Permits only members of this group. Null: permits every signed-in user. */
  group: string | null;
  /**
   * Denies members of this group, even if another rule permits them: by `deny`, or by `nor` if the policy has no other
   * rule.
   */
  excludedGroup: string | null;
  /**
   * Permits callers whose claim `round` is a whole number below this. Null: does not check the claim. Excludes other
   * rules.
   */
  roundsBelow: number | null;
  /** Real time from which the policy denies every caller. Null: never. */
  closesAtMs: SimMs | null;
  /** A second route on the same host, ahead of this one, for members of this group. Null: none. */
  precedingGroup: string | null;
}>;
/** A policy that permits every signed-in user. */
export const plainRoute = {
  ...{
    onStale: "deny",
    staleGraceMs: 0,
    group: null,
    excludedGroup: null,
    roundsBelow: null,
    closesAtMs: null,
    precedingGroup: null,
  },
} as const satisfies Omit<RoutePolicy, "route">;

/** Number of a request, unique in a run. An exchange has the number of its request. */
export type RequestNo = number;

/** C: the client starts to send a request. No part of it has arrived anywhere. */
export type RequestBegan = FactOf<
  "request-began",
  {
    request: RequestNo;
    to: ProcessName;
    route: string;
    session: SessionId;
    user: UserId;
    kind: "request" | "stream";
    /** The link in the session's cookie. */
    token: NeededLink;
  }
>;
/**
 * N: the verdict for the client, at the moment of the decision. A permit needs a second check before the exchange
 * opens.
 *   permit       the exchange may begin
 *   deny         this session may not (403), or is not valid (sign in again)
 *   unavailable  503: stale, behind the token, no answer from a broker
 */
export type Decided = NodeFact<
  "decided",
  {
    request: RequestNo;
    route: string;
    session: SessionId;
    verdict: "permit" | "deny" | "unavailable";
    /** The product's own reason. For a deny, `sign-in` means that the client is sent to the identity provider. */
    reason: string;
    /** Link of the projection that the decision used; the decision record names it. */
    link: Link;
    configHash: string;
    /** Time (ms) since the lease expired, by the node's own clocks, as used by the core. ≤ 0: fresh. */
    overdueMs: number;
  }
>;
/** N: the first byte goes upstream, after the second check. Only a permitted request reaches this. */
export type ExchangeOpened = NodeFact<
  "exchange-opened",
  { request: RequestNo; route: string; session: SessionId; kind: "request" | "stream" }
>;
/** N: a chunk was forwarded, in either direction, after the check that each chunk gets. */
export type Relayed = NodeFact<"relayed", { request: RequestNo }>;
/**
 * N: the exchange carries no more bytes. `cut`: by the node; `finished`: by either end. A killed process reports none
 * of its exchanges.
 */
export type ExchangeEnded = NodeFact<"exchange-ended", { request: RequestNo; how: "finished" | "cut"; reason: string }>;

// --- the workload (C)

/** C: a client sends a command, for the first time or again under the same id. */
export type CommandInvoked = FactOf<
  "command-invoked",
  { commandId: CommandId; command: Command; attempt: number; to: ProcessName }
>;
/** C: the answer arrived. No answer in time is reported as `unavailable`. */
export type CommandAnswered = FactOf<"command-answered", { commandId: CommandId; result: CommandResult }>;
/** C: a client requests a receipt. `receipt`: its number, unique in a run. */
export type ReceiptAsked = FactOf<
  "receipt-asked",
  {
    receipt: number;
    target: ReceiptTarget;
    wait: ReceiptWait;
    region: string | null;
    timeoutMs: number;
    to: ProcessName;
  }
>;
/** B: a broker has decided the answer. Its promise holds from here on. */
export type ReceiptAnswered = FactOf<"receipt-answered", { receipt: number; answer: Receipt; region: string | null }>;
/**
 * B: the receipt is sent, with its durability. Its promise has held since `receipt-answered`. Null durability: the
 * receipt has no link.
 */
export type ReceiptSigned = FactOf<
  "receipt-signed",
  {
    receipt: number;
    /** The same object as in `receipt-answered`: a receipt requested again is answered twice. */
    answer: Receipt;
    durability: Durability | null;
  }
>;
/** C: no answer arrived, or an error. */
export type ReceiptFailed = FactOf<"receipt-failed", { receipt: number; reason: string }>;
/** C: the client will not send this command again. After faults-over the workload abandons no command. */
export type CommandAbandoned = FactOf<"command-abandoned", { commandId: CommandId }>;

// --- sizes (B, N, NATS; once a second or less)

/** A resource that could grow: its current size and its bound. */
export type Sized = FactOf<"sized", { what: string; size: number; sizeMax: number }>;

export type SimFact =
  | Started
  | Killed
  | Paused
  | Resumed
  | ClockSet
  | FaultBegan
  | FaultEnded
  | FaultsOver
  | RunOver
  | Wrote
  | CommittedCleanly
  | LogAnswered
  | Promoted
  | Demoted
  | SynchronousSet
  | NamesSet
  | StandbyFlushed
  | Truncated
  | Published
  | PageServed
  | NatsHappened
  | Forged
  | MessageRefused
  | Leading
  | RenewArrived
  | GrantSent
  | GrantRefused
  | BootLeft
  | NodesListed
  | Reasserted
  | SnapshotBegun
  | SnapshotBuilt
  | SnapshotGivenUp
  | RetainAsked
  | DutySubmitted
  | DutyAnswered
  | TokenSent
  | TokenPresented
  | SessionDismissed
  | Finalizing
  | AppendSent
  | MadeAhead
  | SnapshotLoaded
  | Applied
  | Rebuilding
  | Rebuilt
  | Enforced
  | RenewSent
  | ConfirmSent
  | GoodbyeSent
  | GrantReceived
  | AgeMarked
  | ConfigActivated
  | RequestBegan
  | Decided
  | ExchangeOpened
  | Relayed
  | ExchangeEnded
  | CommandInvoked
  | CommandAnswered
  | CommandAbandoned
  | ReceiptAsked
  | ReceiptAnswered
  | ReceiptSigned
  | ReceiptFailed
  | LocalAnswered
  | RevocationStored
  | GrantPassed
  | RevocationArrived
  | RevocationEnforced
  | RevocationDropped
  | DiskReplaced
  | MergeAnswered
  | LocalReceiptAnswered
  | OutsideFact
  | Sized;

export type SimFactOf<Type extends SimFact["type"]> = Extract<SimFact, { type: Type }>;

/** Reports a fact; every model, driver and client has one. Returns at once. */
export type Report = (fact: SimFact) => void;
