/**
 * Broker messages: what goes into the core of a broker and what comes out of it. Only types, only plain data.
 *
 * Every input says when it happened by both of the broker's clocks. An effect with an `id` is a question: its answer comes back as
 * the input named beside it, with the same id. The core gives up by itself on an answer that does not come, and does not look at
 * one that comes after that. An input with an `id` is somebody's question: it is answered by the effect named beside it, once.
 * Effects are performed in order.
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
import type {
  AppendBatch,
  AppendOutcome,
  Batch,
  BeatOutcome,
  BeatRequest,
  Confirm,
  Goodbye,
  Grant,
  LeaseRefusal,
  LoadedSnapshot,
  Moment,
  Observation,
  OpenEpochOutcome,
  PageOutcome,
  ReadOutcome,
  Receipt,
  ReceiptTarget,
  ReceiptWait,
  Renew,
  RenewOrigin,
  Role,
} from "../../replication/index.ts";

/** What a broker says of itself. `reads`: the level up to which it can read events. */
export type Presence = Readonly<{ brokerId: BrokerId; version: string; reads: number }>;

/** The newest epoch that a broker knows of, and where brokers can be reached: itself when it speaks, others when it answers. */
export type GossipMessage = Readonly<{ epoch: Epoch; urls: readonly string[] }>;

// --- the log

/** What an epoch is opened with. Whoever performs it has the pair of keys that follows from `keySeed`. */
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
  /** Of the epoch's first event (`firstEventOf` makes it). */
  eventId: EventId;
  recordedAt: UnixMs;
  /** The cluster's, as far as the ledger knows: it is written in a format of this level. */
  level: number;
}>;

/** A question to the log, in the words of `EventLog`. The first three are writes. */
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

/** The answer to each. What throws is `indeterminate` for a write and `failed` for a read. */
export type LogAnswer =
  /** → openEpoch. `previous`: what the first event stands behind. */
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

/** What a node's certificate says of it. */
export type NodeSender = Readonly<{ cluster: string; role: Role; name: string; boot: BootId; publicKey: Uint8Array }>;

/** A message of a node as it was opened; `from` is what its certificate says. */
export type OpenedNodeMessage = Readonly<{ from: NodeSender }> &
  /** `unproven`: the boot that it named as replaced without a proof; the renew then names none. */
  (
    | Fact<"renew", { renew: Renew; unproven?: BootId }>
    | Fact<"confirm", { confirm: Confirm }>
    | Fact<"goodbye", { goodbye: Goodbye }>
    /** Not authentic, not for a broker, or not what it says it is. */
    | Fact<"refused", { reason: string }>
  );

export type ReceiptAsked = Readonly<{ wait: ReceiptWait; timeoutMs: number; region?: string; seen?: string }>;

type Timed<Type extends string, Data> = Fact<Type, Data & { at: Moment }>;

export type BrokerInput =
  /** The first. */
  | Timed<"started", unknown>
  /** The time of the newest `wake` has come. Early, late or twice is harmless. */
  | Timed<"woke", unknown>
  /** → log */
  | Timed<"logAnswered", { id: number; outcome: LogAnswer }>
  /** A command, allowed to whoever asks. Answered by `commandAnswered`. */
  | Timed<"submitted", { id: number; request: CommandRequest; waitMs: number }>
  /** The same of a duty of ours: carried out in the epoch that the duty runs in, or not at all. */
  | Timed<"dutySubmitted", { id: number; request: CommandRequest; run: DutyRun }>
  /** Whoever asked this does not wait any more: it is not answered. */
  | Timed<"requestCancelled", { id: number }>
  /** What a node says, handed to the leader. Answered by `leaseAnswered`. */
  | Timed<"nodeMessage", { id: number; origin: RenewOrigin; message: OpenedNodeMessage }>
  /** Answered by `receiptAnswered`. */
  | Timed<"receiptRequested", { id: number; target: ReceiptTarget; options: ReceiptAsked }>
  /** Events behind a link, for whoever keeps a copy. Answered by `pageAnswered`. */
  | Timed<"pageRequested", { id: number; after: Link; limit: number; waitMs: number }>
  /** Another broker, authenticated, says that it is there; only a leader makes anything of it. */
  | Timed<"presenceReceived", { presence: Presence }>
  /** An authentic broker has published something: this is who, of which epoch. */
  | Timed<"brokerSeen", { epoch: Epoch; incarnation: Incarnation | "" }>
  /** What came over the fan-out was not authentic. */
  | Timed<"forgeryReceived", { reason: string }>
  /** The fan-out is connected (again): what was published lately may not have left, and the buffer may have lost it. */
  | Timed<"fanoutConnected", unknown>
  /** → publish: the fan-out could not take it. */
  | Timed<"publishDropped", { last: Link }>
  /** → runDuty */
  | Timed<"dutyEnded", { run: DutyRun; outcome: "done" | "failed" }>
  /** → loadSnapshot: verified by whoever loaded it. It belongs to the core from here on. */
  | Timed<"snapshotLoaded", { id: number; snapshot: LoadedSnapshot }>
  /** → loadSnapshot: there is none that reaches this far, or it could not be loaded. */
  | Timed<"snapshotFailed", { id: number; reason: string }>
  /** → reassert: whether the leader, whoever that is, has dealt with all of them */
  | Timed<"reassertAnswered", { id: number; answer: "answered" | "failed" }>
  /** Contends no more, finishes what is under way, says that it leads no more. Answered by `stopped`. */
  | Timed<"stopping", unknown>;

// --- effects

/** Who speaks: the leader of an epoch. Whoever performs the effect seals it with the key of that incarnation. */
export type Leadership = Readonly<{ epoch: Epoch; incarnation: Incarnation }>;

/** One run of a duty, in one epoch. */
export type DutyRun = Readonly<{ name: string; epoch: Epoch; incarnation: Incarnation; run: number }>;

/** `moved`: we do not lead, or not any more; nothing is known to have been done, and the leader will know what was. */
export type CommandAnswer = CommandResult | Fact<"notLeader", unknown>;

export type LeaseAnswer =
  | Fact<"granted", { by: Leadership; grant: Grant }>
  /** A confirmation or a goodbye. */
  | Fact<"taken", unknown>
  | Fact<"refused", { refusal: LeaseRefusal }>
  /** No clean write answered it, or we do not lead. */
  | Fact<"unavailable", { message: string }>;

export type ReceiptAnswer = Fact<"receipt", { receipt: Receipt }> | Fact<"unavailable", { message: string }>;
export type PageAnswer = PageOutcome | Fact<"unavailable", { message: string }>;

export type BrokerEffect =
  /** Replaces the one before. */
  | Fact<"wake", { at: number }>
  /** @see logAnswered */
  | Fact<"log", { id: number; call: LogCall }>
  /** This batch may be asked to be appended next: what takes time about that can be done now. It may also never be. */
  | Fact<"prepareBatch", { batch: AppendBatch }>
  | Fact<"commandAnswered", { id: number; answer: CommandAnswer }>
  | Fact<"leaseAnswered", { id: number; answer: LeaseAnswer }>
  | Fact<"receiptAnswered", { id: number; answer: ReceiptAnswer }>
  | Fact<"pageAnswered", { id: number; answer: PageAnswer }>
  /**
   * Outward, over the fan-out, after a clean commit and never above it. `relay`: it was published before, and may have been
   * lost on the way. @see publishDropped
   */
  | Fact<"publish", { by: Leadership; batch: Batch; how: "commit" | "republish" }>
  /** @see dutyEnded */
  | Fact<"runDuty", { run: DutyRun }>
  /** The run's epoch is over. */
  | Fact<"endDuty", { run: DutyRun }>
  /** The log begins behind our place in it, at this position. @see snapshotLoaded, snapshotFailed */
  | Fact<"loadSnapshot", { id: number; first: Position }>
  /** Tell the other brokers that we are here; they are told again a second later. */
  | Fact<"sendGossip", { presence: Presence }>
  /** Who leads may have changed: whoever looks for the leader looks again. */
  | Fact<"leaderChanged", unknown>
  /** What became of a lost event that somebody reported; `reported`: it is for an operator to judge. */
  | Fact<"reasserted", { lost: Link; stream: Stream; outcome: "appended" | "already-denied" | "operator" }>
  /** Final denials that our ledger had read and the log has lost, for the leader: it may be us. @see reassertAnswered */
  | Fact<"reassert", { id: number; commandId: CommandId; events: readonly LostTightening[] }>
  /** For the journal. */
  | Fact<"logger", { level: "debug" | "info" | "warn" | "error"; message: string; fields: object }>
  | Fact<"stopped", unknown>;
