/**
 * Facts: what the models, the processes and the workload of the simulator report, and the monitors judge by.
 *
 * Types. Whoever reports says what happened at the moment it happened, in its own order and before any effect of it can
 * be seen elsewhere; nothing is concluded here. `at` is real time, which no process of the simulation can read;
 * `process` is whoever it happened to. A fact about the truth (a server wrote, a byte passed) is reported by the model
 * or the driver that made it true, never on the word of the core that is being judged.
 *
 * Reporters: PG the Postgres model · NATS the NATS model · B a broker's driver (sim-broker) · N a node's driver
 * (sim-node) · W the world · F the fault plan and the operator · C the workload's clients.
 */
import type {
  BootId,
  BrokerId,
  Command,
  CommandId,
  CommandResult,
  Epoch,
  Incarnation,
  Link,
  NodeId,
  Position,
  SessionId,
  UserId,
} from "../../src/events/index.ts";
import type { Durability, Lessee, LogEntry, Receipt, ReceiptTarget, ReceiptWait } from "../../src/replication/index.ts";
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

/** Milliseconds of real time since the start of the run; fractions are allowed. */
export type SimMs = number;
/** `pg-1`, `nats-1`, `broker-1`, `node-1`, `client-1`, `operator`, `world`. */
export type ProcessName = string;

export type Happened<Type extends string, Data> = Readonly<{ type: Type; at: SimMs; process: ProcessName } & Data>;
/** A node, or a broker in its part as a lessee: its id as in renews, and the boot that this happened in. */
type AtNode<Type extends string, Data> = Happened<Type, { node: NodeId; boot: BootId } & Data>;

// --- processes, clocks, faults (W, F)

/**
 * W: a process begins to run, after `boot` was drawn and before its first input. Unknown types: what its build cannot
 * read.
 */
export type Started = Happened<
  "started",
  {
    role: "postgres" | "nats" | "broker" | "node" | "client";
    /** Null: a server, which has none. */
    boot: BootId | null;
    /** Brokers and nodes: their id in messages. */
    node: NodeId | null;
    region: string;
    /** `decision-only`: answers for somebody else's proxy; null for servers. */
    lessee: "proxy" | "authorize" | "broker" | null;
    build: string;
    /** Names of event types that this build does not know. */
    unknownTypes: readonly string[];
  }
>;
/** W: nothing of this boot runs any more, and its connections are gone. */
export type Killed = Happened<"killed", { boot: BootId | null }>;
/** W: it runs nothing from now on; what arrives waits. `suspended`: its monotonic clock stands still too. */
export type Paused = Happened<"paused", { how: "stopped" | "suspended" }>;
/** W: before anything that waited is handed to it. */
export type Resumed = Happened<"resumed", { pausedMs: number }>;
/** W: at the start of each process that has a clock, and at each change. Rates stay within 1 ± ρ: that is assumed. */
export type ClockSet = Happened<
  "clock-set",
  {
    /** Of the monotonic clock against real time. */
    rate: number;
    /** Wall clock minus real time, in ms. */
    wallOffsetMs: number;
  }
>;
/** F: what is broken from now on. `id` is unique in the run. */
export type FaultBegan = Happened<"fault-began", { id: number; kind: string; about: string }>;
/** F: it is whole again: what it takes to recover from it begins now. A fault of one moment reports both at once. */
export type FaultEnded = Happened<"fault-ended", { id: number; kind: string }>;
/** F: the last fault is over and no other will come: the liveness phase begins. */
export type FaultsOver = Happened<"faults-over", unknown>;
/** F: the run is over, after the last effect. */
export type RunOver = Happened<"run-over", unknown>;

// --- Postgres (PG). `process` is the server, `writer` the process that asked.

/** Numbers the transactions of a run; one asked for twice is two. */
export type Txn = number;

/**
 * PG: the commit record of a transaction is in this server's own WAL: it is in the order of its log from now on, though
 * perhaps not visible, not replicated, and never acknowledged. Reported at that moment, in that order.
 */
export type Wrote = Happened<
  "wrote",
  {
    txn: Txn;
    op: "append" | "beat" | "open-epoch";
    writer: ProcessName;
    epoch: Epoch;
    incarnation: Incarnation;
    /** The head before, by the server's own log. */
    previous: Link;
    /** Empty for a beat. */
    entries: readonly LogEntry[];
    /** The head after; equal to `previous` for a beat. */
    head: Link;
    commands: readonly Readonly<{ commandId: CommandId; first: Position; count: number }>[];
    /** Only a beat has rows. */
    lessees: readonly Lessee[];
    left: readonly Readonly<{ node: NodeId; boot: BootId }>[];
    /** Only `open-epoch`: who the head row then names. */
    brokerId: BrokerId | null;
  }
>;
/**
 * PG: the wait of a transaction ended as it should (the quorum has flushed it; or at once, without synchronous
 * standbys): the server is about to answer success without a warning. From here on `head` counts as acknowledged,
 * whoever hears of it.
 */
export type CommittedCleanly = Happened<"committed-cleanly", { txn: Txn; epoch: Epoch; head: Link }>;
/**
 * PG: what the caller was told (reported when it is sent), `op` and `outcome` in the words of
 * src/replication/log/log.ts.
 */
export type LogAnswered = Happened<
  "log-answered",
  {
    /** Null: no transaction was begun. */
    txn: Txn | null;
    to: ProcessName;
    op: "append" | "beat" | "open-epoch" | "read" | "observe" | "other";
    outcome: string;
  }
>;
/**
 * PG: this server takes writes from now on, and its log ends at `head`.
 *   initial     the first primary of the run
 *   procedure   promoted by docs/protocol.md §4.4 with synchronous standbys: nothing acknowledged may be missing
 *   unsafe      promoted without proof (asynchronous, or forced): acknowledged events may be lost
 *   restored    started from a backup
 *   restarted   the same server after a crash: unreplicated commits may have become visible
 */
export type Promoted = Happened<
  "promoted",
  {
    how: "initial" | "procedure" | "unsafe" | "restored" | "restarted";
    head: Link;
    /** How many standbys its commits wait for. Absent: as many as before. */
    standbys?: number;
    /** Standbys that had stopped receiving, of all, when the furthest of them was chosen. Absent: none was compared. */
    stopped?: Readonly<{ count: number; of: number }>;
  }
>;
/** PG: takes no more writes (stopped, demoted, rewound). An isolated old primary has not reported this. */
export type Demoted = Happened<"demoted", unknown>;
/** PG: commits wait for this many standbys from now on; 0: asynchronous. */
export type SynchronousSet = Happened<
  "synchronous-set",
  {
    standbys: number;
    /** Commits that waited, and are now answered as if their standbys had them. Absent: 0. */
    released?: number;
  }
>;
/**
 * PG: `synchronous_standby_names` in the file asks for this many, and sessions read it. Commits wait by
 * `synchronous-set`.
 */
export type NamesSet = Happened<"names-set", { standbys: number }>;
/** PG: the log that this standby has flushed ends at `head`: what it received, or a copy that was put in its place. */
export type StandbyFlushed = Happened<"standby-flushed", { head: Link }>;
/**
 * PG: positions below `first` are gone from this server (all servers report it as they replay it, or the primary
 * alone), for `writer`.
 */
export type Truncated = Happened<"truncated", { first: Position; writer: ProcessName }>;

// --- the log on its way (B, NATS, N)

/** B: a batch leaves for the fan-out, sealed; before anybody has it. `relayed`: into the JetStream buffer. */
export type Published = Happened<
  "published",
  { how: "core" | "relayed"; epoch: Epoch; incarnation: Incarnation; previous: Link; last: Link }
>;
/**
 * PG and B: a page was handed out. PG reports what a server answers a broker, B what a broker answers a reader, long
 * polls too, at sending. `to` is the asking process.
 */
export type PageServed = Happened<
  "page-served",
  {
    to: ProcessName;
    after: Link;
    /** Equal to `after` when there was nothing. */
    last: Link;
    count: number;
    head: Link;
    outcome: "page" | "forked" | "truncated";
  }
>;
/**
 * NATS: a subscriber was cut as a slow consumer, the buffer lost its suffix or the whole stream, a publication by an
 * old relay was refused; messages dropped, repeated and overtaken are counted by the model and not reported one by one.
 */
export type NatsHappened = Happened<
  "nats-happened",
  { what: "consumer-cut" | "suffix-lost" | "stream-lost" | "stale-relay-refused"; about: string }
>;
/**
 * F or the forger: an envelope that was not made by who it names, or was made for somebody or some time else, was put
 * on the way.
 */
export type Forged = Happened<"forged", { how: "forged" | "replayed"; kind: string; to: ProcessName }>;
/** B, N: an envelope was refused; `reason` in the product's own words. */
export type MessageRefused = Happened<"message-refused", { kind: string; reason: string }>;

// --- nodes (N; brokers report them for their ledger, with their own boot)

/** N: the loaded snapshot is now the visible projection (at boot, or in place of an old one when behind retention). */
export type SnapshotLoaded = AtNode<"snapshot-loaded", { from: "disk" | "broker"; link: Link; digest: string }>;
/**
 * N: the visible projection was moved by folding the events behind `from` up to and including `to`, in one step.
 * Reported before anything is decided there. `digest` of the projection then; null where it would cost too much.
 */
export type Applied = AtNode<"applied", { from: Link; to: Link; digest: string | null }>;
/** N: what the node had applied is not in the log: its lease is void and it builds anew; `lost` is where it was. */
export type Rebuilding = AtNode<"rebuilding", { lost: Link }>;
/**
 * N: the new projection takes the old one's place. `base`: the snapshot that it was begun from, as it was handed in;
 * genesis: none.
 */
export type Rebuilt = AtNode<"rebuilt", { to: Link; digest: string | null; base: Link }>;
/** N: everything up to here is re-decided, and every exchange that is denied by it is destroyed: the core says so. */
export type Enforced = AtNode<"enforced", { link: Link }>;
/** N: the renew leaves (its own send time is now). */
export type RenewSent = AtNode<
  "renew-sent",
  { nonce: number; windowMs: number; applied: Link; enforced: Link; digest: string }
>;
/** N: a confirmation leaves. */
export type ConfirmSent = AtNode<"confirm-sent", { nonce: number; enforced: Link }>;
/** N: the goodbye leaves: from now on this boot permits nothing. */
export type GoodbyeSent = AtNode<"goodbye-sent", { nonce: number }>;
/**
 * N: an envelope of the kind `grant` was handed to the core. `taken`: the core took it as authentic and for this boot,
 * though its head may not be reached yet. `nonce` and `head` are those that it names.
 */
export type GrantReceived = AtNode<
  "grant-received",
  {
    nonce: number;
    epoch: Epoch;
    head: Link;
    windowMs: number;
    taken: boolean;
    /** By age, and how old by the granter's clock; null or absent: the leader's own. */
    agedMs?: number | null;
    /** How old the node takes its lease to be, by its own clock, where this grant by age has moved it. */
    anchorAgeMs?: number;
  }
>;
/** N: the age mark of a regional broker, as it is on the disk now. `found`: as this boot met it. */
export type AgeMarked = AtNode<"age-mark", { mark: "none" | "on the disk"; how: "found" | "kept" | "removed" }>;
/** N: at the start and at each change of the node's own file. One decision uses one hash. */
export type ConfigActivated = AtNode<
  "config-activated",
  { hash: string; deltaMs: number; routes: readonly RoutePolicy[] }
>;
export type RoutePolicy = Readonly<{
  route: string;
  onStale: "serve" | "deny";
  /** 0 where it denies. */
  staleGraceMs: number;
  /** Members of this group are let in; null: everybody who is signed in. */
  group: string | null;
  /**
   * Members of this group are kept out, whatever else lets them in: by `deny`, or by `nor` where nothing else is
   * wanted.
   */
  barred: string | null;
  /** The claim `round` is a whole number below this; null: whatever it is. Alone. */
  roundsBelow: number | null;
  /** The policy denies every caller from this moment on; null: it never does. */
  closesAtMs: SimMs | null;
  /** Another route at the same place that stands before this one, for members of this group; null: there is none. */
  door: string | null;
}>;
/** A route for everybody who is signed in. */
export const plainRoute = {
  ...{ onStale: "deny", staleGraceMs: 0, group: null, barred: null, roundsBelow: null, closesAtMs: null, door: null },
} as const satisfies Omit<RoutePolicy, "route">;

/** Numbers the requests of a run. An exchange has the number of its request. */
export type RequestNo = number;

/** C: the client begins to send. Nothing of it has arrived anywhere. */
export type RequestBegan = Happened<
  "request-began",
  {
    request: RequestNo;
    to: ProcessName;
    route: string;
    session: SessionId;
    user: UserId;
    kind: "request" | "stream";
    /** The link in the session's cookie. */
    token: Link;
  }
>;
/**
 * N: the verdict that the client will get, at the moment it is made (the first of the two looks for a permit).
 *   permit       the exchange may begin
 *   deny         this session may not (403), or is not one (sign in again)
 *   unavailable  503: stale, behind the token, no answer from a broker
 */
export type Decided = AtNode<
  "decided",
  {
    request: RequestNo;
    route: string;
    session: SessionId;
    verdict: "permit" | "deny" | "unavailable";
    /** The product's own word; for a deny, `sign-in` where the client is sent to the identity provider. */
    reason: string;
    /** The link of the projection that it was decided from; what the decision record names. */
    place: Link;
    configHash: string;
    /** By the node's own clocks: how far its lease was over (≤ 0 fresh); what the core went by. */
    overdueMs: number;
  }
>;
/** N: the first byte goes upstream, after the second look. Only a permitted request comes here. */
export type ExchangeOpened = AtNode<
  "exchange-opened",
  { request: RequestNo; route: string; session: SessionId; kind: "request" | "stream" }
>;
/** N: a chunk was handed on, in either direction, after the look that each chunk has. */
export type Relayed = AtNode<"relayed", { request: RequestNo }>;
/**
 * N: nothing more is carried. `cut`: by us; `finished`: by either end; a killed process reports none of its exchanges.
 */
export type ExchangeEnded = AtNode<"exchange-ended", { request: RequestNo; how: "finished" | "cut"; reason: string }>;

// --- the workload (C)

/** C: a client begins to ask; the first time for this command id, or again. */
export type CommandInvoked = Happened<
  "command-invoked",
  { commandId: CommandId; command: Command; attempt: number; to: ProcessName }
>;
/** C: the answer has arrived. No answer in time is reported as `unavailable`. */
export type CommandAnswered = Happened<"command-answered", { commandId: CommandId; result: CommandResult }>;
/** C: numbers the receipts of a run. */
export type ReceiptAsked = Happened<
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
/** B: a broker has concluded the answer; the promise holds from here on. */
export type ReceiptAnswered = Happened<"receipt-answered", { receipt: number; answer: Receipt; region: string | null }>;
/**
 * B: the receipt is sent, with what it says of its durability; the promise held from `receipt-answered` on. Null: it
 * has no link.
 */
export type ReceiptSigned = Happened<
  "receipt-signed",
  {
    receipt: number;
    /** The very object of `receipt-answered`: a receipt that is asked for again is answered twice. */
    answer: Receipt;
    durability: Durability | null;
  }
>;
/** C: no answer came, or an error. */
export type ReceiptFailed = Happened<"receipt-failed", { receipt: number; reason: string }>;
/** C: the workload gives up on nothing after faults-over; a command that it will not ask again is reported here. */
export type CommandAbandoned = Happened<"command-abandoned", { commandId: CommandId }>;

// --- sizes (B, N, NATS; once a second or less)

/** What holds something that could grow: how much there is now, and its stated bound. */
export type Sized = Happened<"sized", { what: string; size: number; sizeMax: number }>;

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
  | Sized;

export type SimFactOf<Type extends SimFact["type"]> = Extract<SimFact, { type: Type }>;

/** Handed to every model, driver and client; takes a fact and comes straight back. */
export type Report = (fact: SimFact) => void;
