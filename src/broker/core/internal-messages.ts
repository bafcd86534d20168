/**
 * Internal messages: what the state machines of a broker's core post to each other, and who made a log call. Only
 * types.
 */
import type {
  CommandId,
  CommandRequest,
  Epoch,
  Fact,
  Incarnation,
  Link,
  LostTightening,
  MonotonicMs,
  Position,
  Recorded,
} from "../../events/index.ts";
import type { AdmittedNode, Lessee, LogEntry } from "../../replication/log/index.ts";
import type { Access } from "../commands/access.ts";
import type { CommandAnswer, Leadership, NodeSender } from "./messages.ts";

/** `opening`: this broker opens or reopens an epoch, and accepts commands meanwhile. */
export type LeadershipState = "following" | "opening" | "leading";

export type OpenedEpoch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  previous: Link;
  head: Link;
  entry: LogEntry;
  lessees: readonly Lessee[];
  admitted: readonly AdmittedNode[];
  /** When the store acknowledged the opening. */
  openedAt: MonotonicMs;
}>;

export type LeaderEnd =
  /** Another broker leads. */
  | Fact<"fenced", unknown>
  /** This broker must open another epoch, `atLeast` this one. */
  | Fact<"reopen", { atLeast: Epoch; reason: string }>
  | Fact<"stopped", unknown>;

export type EpochClaim = Readonly<{ epoch: number; by: Pick<NodeSender, "name" | "boot"> }>;

/** Why the broker state is brought to the head: for the election, by the poll, or for a reader (its request number). */
export type RefreshedFor = "contending" | "poll" | number;

export type QueuedCommand = Readonly<{
  /** Grows with each command. */
  order: number;
  request: CommandRequest;
  access: Access;
  urgent: boolean;
  bytes: number;
  /** A duty's command is performed under this leadership or not at all. Null: under any. */
  onlyIn: Leadership | null;
}>;

/** The recipient of a command's answer. */
export type CommandWaiter =
  /** A caller. It waits until `deadline`, and only until `deadlineIfUnreachable` while the store is unreachable. */
  | Fact<"caller", { id: number; deadline: number; deadlineIfUnreachable: number; duty: boolean }>
  /** A receipt request that names this command. */
  | Fact<"receipt", { requestId: number }>
  /** A report of lost events that contains this command. */
  | Fact<"report", { report: number }>
  /** A sweep of what has expired. */
  | Fact<"sweep", { sweep: "sessions" | "ends" }>
  /** The leader of a new log, which raises its level. */
  | Readonly<{ type: "newLog" }>;

/**
 * `resolve`: the outcome of its batch is unknown; `settle`: it has nothing to do, or is refused; `repeated`: the log
 * names its position.
 */
export type DuplicateLookup = Readonly<{
  queued: QueuedCommand;
  why: "resolve" | "settle" | "repeated";
  leadershipNo: number;
}>;

/** `answered`: the command was performed before, and its waiters have that answer. */
export type PriorOutcome = "answered" | "none" | "failed";

/** `previous`: reads the link before the command's event; `event`: reads that event. */
export type DuplicateCheckCall = Readonly<{ to: "duplicate-check"; lookup: DuplicateLookup }> &
  (Readonly<{ of: "command" }> | Readonly<{ of: "previous" | "event"; position: Position }>);

/**
 * The owner of a log call, and its purpose. `leadershipNo` numbers the epochs of this process: an answer for an earlier
 * epoch is dropped.
 */
export type LogCallOwner =
  | Readonly<{ to: "election"; of: "observe" | "open" | "resign" }>
  | Readonly<{ to: "state-sync" }>
  | DuplicateCheckCall
  | Readonly<{ to: "leader"; leadershipNo: number; of: "beat" | "append" }>
  | Readonly<{ to: "leader"; leadershipNo: number; of: "versions" | "keys"; requestId: number }>
  | Readonly<{ to: "lease-requests"; leadershipNo: number; requestId: number }>
  | Readonly<{ to: "claims"; leadershipNo: number }>
  | Readonly<{ to: "receipts"; leadershipNo: number; requestId: number; of: "command" | "chain" }>
  | Readonly<{ to: "receipts"; leadershipNo: number; requestId: number; of: "previous" | "event"; position: Position }>
  | Readonly<{ to: "publisher"; leadershipNo: number; of: "page" | "keys" }>
  | Readonly<{ to: "pages"; requestId: number; of: "page" | "keys" }>
  | Readonly<{ to: "duties" }>;

/** What one state machine posts to the others. */
export type InternalMessage =
  | Readonly<{ type: "leadershipChanged"; leadershipState: LeadershipState }>
  | Readonly<{ type: "contending" }>
  | Readonly<{ type: "opened"; opened: OpenedEpoch }>
  | Readonly<{ type: "resigned"; opened: OpenedEpoch | null }>
  | Readonly<{ type: "electionEnded" }>
  | Readonly<{ type: "refreshed"; for: RefreshedFor; ok: boolean }>
  | Readonly<{ type: "headReached"; ok: boolean }>
  | Readonly<{ type: "eventsFolded"; events: readonly Recorded[] }>
  | Readonly<{ type: "denialsLost"; events: readonly LostTightening[] }>
  | Readonly<{ type: "duplicateChecked"; lookup: DuplicateLookup; answer: PriorOutcome }>
  | Readonly<{ type: "answered"; waiter: CommandWaiter; commandId: CommandId; answer: CommandAnswer }>
  | Readonly<{ type: "epochClaimed"; claim: EpochClaim }>
  | Readonly<{ type: "leaderEnded"; end: LeaderEnd }>;
