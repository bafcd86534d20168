/** Internal messages: what the state machines of a broker's core post to each other, and who made a log call. Only types. */
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
import type { Lessee, LogEntry } from "../../replication/index.ts";
import type { Access } from "../commands/access.ts";
import type { CommandAnswer, Leadership, NodeSender } from "./messages.ts";

/** `opening`: an epoch of ours is being opened, or opened again; commands are taken meanwhile. */
export type LeadershipState = "following" | "opening" | "leading";

export type OpenedEpoch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  previous: Link;
  head: Link;
  entry: LogEntry;
  lessees: readonly Lessee[];
  /** When the opening was acknowledged. */
  openedAt: MonotonicMs;
}>;

export type LeaderEnd =
  /** Somebody else leads. */
  | Fact<"fenced", unknown>
  /** The epoch must be opened again, at least this one. */
  | Fact<"reopen", { atLeast: Epoch; reason: string }>
  | Fact<"stopped", unknown>;

export type EpochClaim = Readonly<{ epoch: number; by: Pick<NodeSender, "name" | "boot"> }>;

/** Who wanted the ledger at the head: the election, nobody in particular, or a reader. */
export type RefreshedFor = "contending" | "poll" | number;

export type QueuedCommand = Readonly<{
  /** Grows with each command offered. */
  order: number;
  request: CommandRequest;
  access: Access;
  urgent: boolean;
  bytes: number;
  /** A duty's: carried out under this leadership or not at all. Null: under any. */
  onlyIn: Leadership | null;
}>;

/** Who is told of an answer. */
export type CommandWaiter =
  /** Somebody outside. `until`: waits no longer; `hopelessFrom`: and no longer than this when there is nothing to hope for. */
  | Fact<"caller", { id: number; deadline: number; deadlineIfUnreachable: number; duty: boolean }>
  /** A receipt that was asked for by this command. */
  | Fact<"receipt", { requestId: number }>
  /** A report of lost events, of which this command is a part. */
  | Fact<"report", { report: number }>
  /** The expiry sweep. */
  | Fact<"sweep", unknown>;

/** `resolve`: its batch came to nobody knows what; `settle`: there is nothing to do, or it is refused. */
export type DuplicateLookup = Readonly<{
  queued: QueuedCommand;
  why: "resolve" | "settle" | "repeated";
  leadershipNo: number;
}>;

/** `answered`: it had been carried out, and has been answered so. */
export type PriorOutcome = "answered" | "none" | "failed";

/** A question of ours. `previous`: the link before the command's event; `event`: that event. */
export type DuplicateCheckCall = Readonly<{ to: "duplicate-check"; lookup: DuplicateLookup }> &
  (Readonly<{ of: "command" }> | Readonly<{ of: "previous" | "event"; position: Position }>);

/** Who asked a question, and what for. `term` numbers the epochs of this process: an answer to an earlier one finds nobody. */
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

/** What one machine tells the others. */
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
