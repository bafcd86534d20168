/**
 * Broker messages: the inputs and effects of a broker's core. Only types, only plain data.
 *
 * - Every input carries the time at which it happened, by both of the broker's clocks.
 * - An effect with an `id` is a request of the core. Its answer returns as the input named beside it, with the same
 *   id. The core times out by itself and ignores a late answer.
 * - An input with an `id` is a request of a caller, answered once by the effect named beside it.
 * - The shell performs effects in order.
 */
import type {
  BootId,
  BrokerId,
  CommandId,
  CommandRequest,
  CommandResult,
  Epoch,
  EventId,
  Fact,
  Incarnation,
  Link,
  LostTightening,
  Position,
  Stream,
  UnixMs,
  UserId,
  WrappedKey,
} from "../../events/index.ts";
import type { PageOutcome, Receipt, ReceiptTarget, ReceiptWait } from "../../replication/index.ts";
import type { LeaseRefusal, Moment, RenewOrigin } from "../../replication/lease/index.ts";
import type {
  AppendBatch,
  AppendOutcome,
  BeatOutcome,
  BeatRequest,
  Observation,
  OpenEpochOutcome,
  ReadOutcome,
} from "../../replication/log/index.ts";
import type { LoadedSnapshot } from "../../replication/node/index.ts";
import type { Batch, Confirm, Goodbye, Grant, Renew, Role } from "../../replication/wire/index.ts";

/** A broker, as its gossip presents it. `reads`: the level up to which it can read events. */
export type Presence = Readonly<{ brokerId: BrokerId; version: string; reads: number }>;

/** The newest epoch that a broker knows, and broker addresses: its own in a request, those of others in a response. */
export type GossipMessage = Readonly<{ epoch: Epoch; urls: readonly string[] }>;

// --- the log

/** What a broker opens an epoch with. The shell derives the epoch's key pair from `keySeed`. */
export type OpenEpochCall = Readonly<{
  brokerId: BrokerId;
  incarnation: Incarnation;
  brokerUrl: string | null;
  expected: Epoch;
  atLeast: Epoch;
  led: Incarnation | null;
  windowMaxMs: number;
  /** 32 random bytes. */
  keySeed: Uint8Array;
  /** The id of the epoch's first event (`firstEventOf`). */
  eventId: EventId;
  recordedAt: UnixMs;
  /** The cluster's level, as the broker state knows it: the event is written in a format of this level. */
  level: number;
}>;

/** A call of the log, as `EventLog` defines it. The first three are writes. */
export type LogCall =
  | Readonly<{ op: "openEpoch"; request: OpenEpochCall }>
  | Readonly<{ op: "append"; batch: AppendBatch }>
  | Readonly<{ op: "beat"; request: BeatRequest }>
  | Readonly<{ op: "observe" }>
  | Readonly<{ op: "read"; after: Link; limit: number }>
  | Readonly<{ op: "linkAt"; position: Position }>
  | Readonly<{ op: "findCommand"; commandId: CommandId }>
  | Readonly<{ op: "streamVersions"; streams: readonly Stream[] }>
  | Readonly<{ op: "keys"; users: readonly UserId[] }>
  | Readonly<{ op: "sweepCommands" }>;

/** The answer to each call. A call that throws is `indeterminate` for a write and `failed` for a read. */
export type LogAnswer =
  /** → openEpoch. `previous`: the link before the first event. */
  | (Extract<OpenEpochOutcome, { type: "opened" }> & Readonly<{ previous: Link }>)
  | Exclude<OpenEpochOutcome, { type: "opened" }>
  /** → append */
  | AppendOutcome
  /** → beat */
  | BeatOutcome
  | Fact<"observed", { seen: Observation }>
  /** → read */
  | ReadOutcome
  | Fact<"link", { link: Link | undefined }>
  | Fact<"command", { found: Readonly<{ first: Position; count: number }> | undefined }>
  | Fact<"versions", { versions: ReadonlyMap<Stream, number> }>
  | Fact<"keys", { keys: readonly WrappedKey[] }>
  | Fact<"swept", { count: number }>
  | Fact<"failed", { cause: unknown }>;

// --- inputs

/** The sender of a message, as its certificate names it. */
export type NodeSender = Readonly<{ cluster: string; role: Role; name: string; boot: BootId; publicKey: Uint8Array }>;

/** A message of a node, out of its envelope. */
export type OpenedNodeMessage = Readonly<{ from: NodeSender }> &
  /** `unproven`: the boot that it named as replaced without a proof; the renew then names none. */
  (
    | Fact<"renew", { renew: Renew; unproven?: BootId }>
    | Fact<"confirm", { confirm: Confirm }>
    | Fact<"goodbye", { goodbye: Goodbye }>
    /** Not authentic, not for a broker, or malformed. */
    | Fact<"refused", { reason: string }>
  );

export type ReceiptAsked = Readonly<{ wait: ReceiptWait; timeoutMs: number; region?: string; seen?: string }>;

type Timed<Type extends string, Data> = Fact<Type, Data & { at: Moment }>;

export type BrokerInput =
  /** The first. */
  | Timed<"started", unknown>
  /** The time of the newest `wake` has arrived. Early, late or twice is harmless. */
  | Timed<"woke", unknown>
  /** → log */
  | Timed<"logAnswered", { id: number; outcome: LogAnswer }>
  /** A command whose caller has permission. Answered by `commandAnswered`. */
  | Timed<"submitted", { id: number; request: CommandRequest; waitMs: number }>
  /** The command of a duty: performed in the epoch of its run, or not at all. */
  | Timed<"dutySubmitted", { id: number; request: CommandRequest; run: DutyRun }>
  /** The caller has stopped waiting: the core does not answer. */
  | Timed<"requestCancelled", { id: number }>
  /** A lease message of a node, for the leader. Answered by `leaseAnswered`. */
  /** `through`: the regional broker that forwarded it; null: none. */
  | Timed<"nodeMessage", { id: number; origin: RenewOrigin; through: string | null; message: OpenedNodeMessage }>
  /** Answered by `receiptAnswered`. */
  | Timed<"receiptRequested", { id: number; target: ReceiptTarget; options: ReceiptAsked }>
  /** A read of the events after a link. Answered by `pageAnswered`. */
  | Timed<"pageRequested", { id: number; after: Link; limit: number; waitMs: number }>
  /** Gossip of another authenticated broker; only a leader uses it. */
  | Timed<"presenceReceived", { presence: Presence }>
  /** An authentic broker published something in this epoch, or gossip named the epoch (then `incarnation` is empty). */
  | Timed<"brokerSeen", { epoch: Epoch; incarnation: Incarnation | "" }>
  /** A message from the fan-out was not authentic. */
  | Timed<"forgeryReceived", { reason: string }>
  /** The fan-out is connected (again): recent batches may not have left, and the replay buffer may have lost them. */
  | Timed<"fanoutConnected", unknown>
  /** → publish: the fan-out dropped the batch. */
  | Timed<"publishDropped", { last: Link }>
  /** → runDuty */
  | Timed<"dutyEnded", { run: DutyRun; outcome: "done" | "failed" }>
  /** → loadSnapshot: a verified snapshot. It belongs to the core from here on. */
  | Timed<"snapshotLoaded", { id: number; snapshot: LoadedSnapshot }>
  /** → loadSnapshot: no snapshot reaches this far, or it could not be loaded. */
  | Timed<"snapshotFailed", { id: number; reason: string }>
  /** → reassert: whether the leader has handled all of them */
  | Timed<"reassertAnswered", { id: number; answer: "answered" | "failed" }>
  /** The broker resigns and finishes the writes in flight. Answered by `stopped`. */
  | Timed<"stopping", unknown>;

// --- effects

/** The leader of an epoch. The shell signs its messages with the key of that incarnation. */
export type Leadership = Readonly<{ epoch: Epoch; incarnation: Incarnation }>;

/** One run of a duty, in one epoch. */
export type DutyRun = Readonly<{ name: string; epoch: Epoch; incarnation: Incarnation; run: number }>;

/** `notLeader`: this broker does not lead; only the leader knows the outcome. */
export type CommandAnswer = CommandResult | Fact<"notLeader", unknown>;

export type LeaseAnswer =
  | Fact<"granted", { by: Leadership; grant: Grant }>
  /** The answer to a confirmation or a goodbye. */
  | Fact<"taken", unknown>
  | Fact<"refused", { refusal: LeaseRefusal }>
  /** No clean write answered it, or we do not lead. */
  | Fact<"unavailable", { message: string }>;

export type ReceiptAnswer = Fact<"receipt", { receipt: Receipt }> | Fact<"unavailable", { message: string }>;
export type PageAnswer = PageOutcome | Fact<"unavailable", { message: string }>;

export type BrokerEffect =
  /** Replaces the previous one. */
  | Fact<"wake", { at: number }>
  /** @see logAnswered */
  | Fact<"log", { id: number; call: LogCall }>
  /** This batch may be appended next: the log can prepare it now. It may also never be appended. */
  | Fact<"prepareBatch", { batch: AppendBatch }>
  | Fact<"commandAnswered", { id: number; answer: CommandAnswer }>
  | Fact<"leaseAnswered", { id: number; answer: LeaseAnswer }>
  | Fact<"receiptAnswered", { id: number; answer: ReceiptAnswer }>
  | Fact<"pageAnswered", { id: number; answer: PageAnswer }>
  /**
   * Publish over the fan-out, only after a clean commit. `republish`: the batch was published before and may have been
   * lost.
   * @see publishDropped
   */
  | Fact<"publish", { by: Leadership; batch: Batch; how: "commit" | "republish" }>
  /** @see dutyEnded */
  | Fact<"runDuty", { run: DutyRun }>
  /** The run's epoch has ended. */
  | Fact<"endDuty", { run: DutyRun }>
  /** The log now begins at this position, after ours. @see snapshotLoaded, snapshotFailed */
  | Fact<"loadSnapshot", { id: number; first: Position }>
  /** Send gossip to the other brokers; a second later it is sent again. */
  | Fact<"sendGossip", { presence: Presence }>
  /** The leader may have changed: callers that wait for a leader check again. */
  | Fact<"leaderChanged", unknown>
  /** The outcome of a reported lost event; `operator`: an operator must decide. */
  | Fact<"reasserted", { lost: Link; stream: Stream; outcome: "appended" | "already-denied" | "operator" }>
  /**
   * Final denials that the broker state had read and the log has lost, for the leader (which may be this broker). @see
   * reassertAnswered
   */
  | Fact<"reassert", { id: number; commandId: CommandId; events: readonly LostTightening[] }>
  /** A log line. */
  | Fact<"logger", { level: "debug" | "info" | "warn" | "error"; message: string; fields: object }>
  | Fact<"stopped", unknown>;
