/**
 * History: what the clients, the operator and the upstream of one run saw, as JSON lines.
 *
 * Every entry is an observation from outside the system; none comes from its logs. Times are nanoseconds of this host's
 * monotonic clock since the run's origin, the same in every process, so times of different processes compare exactly.
 * `begin` is taken before anything is sent and `end` after everything has arrived: the event itself lies between the
 * two.
 */
import type { Fact } from "../../src/events/index.ts";
import type { AuditSeen } from "./audit-line.ts";

/** Nanoseconds since the run's origin; safe to 104 days. */
export type Ns = number;
export const nsPerMs = 1_000_000;

/** The upstream's stamps on a response: when the request arrived and when the response left. */
export type Stamps = Readonly<{ arrivedAt: Ns; sentAt: Ns }>;

/**
 * A person is signed in. `epoch` and `position` are where the log acknowledged it: the session's event is there or
 * below.
 * `expiresAt` null: not within any run.
 */
export type SessionEntry = Fact<
  "session",
  {
    session: string;
    user: string;
    via: "command" | "sign-in";
    begin: Ns;
    end: Ns;
    epoch: number;
    position: number;
    expiresAt: Ns | null;
  }
>;

/**
 * One request of a client. `answered`: by the upstream if there are stamps, else by the proxy itself. `unknown`: the
 * client gave up or lost its connection. For a stream (`websocket`, `download`), `end` is when it was open.
 */
export type RequestEntry = Fact<
  "request",
  {
    id: string;
    kind: "plain" | "download" | "websocket";
    node: string;
    route: string;
    session: string;
    begin: Ns;
    end: Ns;
    outcome: "answered" | "unknown";
    status: number;
    stamps: Stamps | null;
    problem: string;
  }
>;
/** Bytes that a client received on a stream: when the upstream sent them, and when they arrived. */
export type ReceivedEntry = Fact<"received", { id: string; sentAt: Ns; at: Ns }>;
/**
 * Bytes of a slow reader's stream after a complete receipt: `arrived` by the time of the receipt, `late` since then,
 * counted in the reader's kernel as well as in its process. `region` null: the receipt speaks for the whole cluster.
 */
export type LateEntry = Fact<
  "late",
  { id: string; op: string; region: string | null; at: Ns; arrived: number; late: number }
>;
/** The end of a stream, as its client saw it. */
export type ClosedEntry = Fact<"closed", { id: string; at: Ns; code: number }>;
/** A request reached the upstream. */
export type ArrivedEntry = Fact<"arrived", { id: string; at: Ns }>;
/** The upstream's side of a slow reader's download was over. */
export type LeftEntry = Fact<"left", { id: string; at: Ns }>;
/** Bytes of a client on a stream reached the upstream. */
export type CarriedEntry = Fact<"carried", { id: string; sentAt: Ns; at: Ns }>;

export type Intent =
  | Fact<"create-session", { session: string; user: string }>
  | Fact<"revoke-session", { session: string }>
  | Fact<"revoke-user" | "suspend-user" | "restore-user", { user: string }>
  | Fact<"add-member" | "remove-member", { user: string; group: string }>;

/**
 * A command of the operator. `unknown`: without a definite answer, it may have happened or may still happen. `local`: a
 * cut-off region accepted it by itself, and it will be in the log later.
 */
export type CommandEntry = Fact<
  "command",
  {
    op: string;
    intent: Intent;
    /** The region whose operator API was called. */
    region: string;
    commandId: string;
    begin: Ns;
    end: Ns;
    outcome: "done" | "refused" | "unknown" | "local";
    /** The acknowledged link of `done`: epoch, position and hash. */
    link: Readonly<{ epoch: number; position: number; hash: string }> | null;
    /** For `done`: whether anything changed. */
    changed: boolean;
    problem: string;
  }
>;
/** A receipt of a command. An operation may request it until it is complete. */
export type ReceiptEntry = Fact<
  "receipt",
  {
    op: string;
    /** The region whose operator API was called. */
    region: string;
    begin: Ns;
    /** When the whole response had arrived. */
    end: Ns;
    complete: boolean;
    status: "complete" | "incomplete" | "lost" | "none";
    /** The durability in its signed statement; null: none. */
    durability: string | null;
    nodes: readonly Readonly<{ node: string; status: string; reason: string }>[];
    problem: string;
  }
>;

/**
 * A receipt of one region, for a command that it accepted by itself. `basis`: it speaks of the sessions that the region
 * knew there; null: there was no receipt.
 */
export type LocalReceiptEntry = Fact<
  "local-receipt",
  {
    op: string;
    region: string;
    begin: Ns;
    end: Ns;
    complete: boolean;
    basis: Readonly<{ epoch: number; position: number }> | null;
    nodes: ReceiptEntry["nodes"];
    problem: string;
  }
>;

/** A fault as it was done. `clear` is when everything worked again, as far as the harness sees. */
export type FaultEntry = Fact<
  "fault",
  {
    index: number;
    what: string;
    target: string;
    /** The regions that it touches. */
    regions: readonly string[];
    /** The regions whose nodes get no lease from the leader while it is in force. */
    isolates: readonly string[];
    /** The scenario that injected it; null: it was drawn. */
    scenario: string | null;
    begin: Ns;
    /** The time in which it was certainly in force; null: it never certainly was. */
    inForce: Readonly<{ from: Ns; until: Ns }> | null;
    end: Ns;
    clear: Ns;
    problem: string;
  }
>;
/**
 * One run of the command that moves the home region to `region`. `problem`: why it did not end well; empty: it did. Its
 * effect may lie anywhere between the two times.
 */
export type HomeMoveEntry = Fact<"home-move", { region: string; begin: Ns; end: Ns; problem: string }>;
/** What a scenario saw of one of its promises. `tookMs` null: the promise has no bound in time, or it was missed. */
export type PromiseEntry = Fact<
  "promise",
  {
    scenario: string;
    promise: string;
    begin: Ns;
    end: Ns;
    boundMs: number | null;
    tookMs: number | null;
    kept: boolean;
    /** What was seen last. */
    seen: string;
  }
>;
/** One process by its own metrics. Nulls: it did not answer, or has no lease. */
export type SampleEntry = Fact<"sample", { at: Ns; node: string; position: number | null; leaseAgeMs: number | null }>;
/** A harness process did not run: its stamps of that time may be late. */
export type StallEntry = Fact<"stall", { process: string; begin: Ns; end: Ns }>;
/** How long a harness process ran, and how long it waited for a processor, by the kernel's account. */
export type LoadEntry = Fact<"load", { process: string; begin: Ns; end: Ns; ranMs: number; waitedMs: number }>;
/** A process of the cluster has ended. `drained`: by itself, when it was told to. */
export type ProcessEndEntry = Fact<"process-end", { at: Ns; node: string; how: "drained" | "killed" }>;
/** An event for the report: a takeover, a node that is ready again. */
export type NoteEntry = Fact<"note", { at: Ns; text: string }>;

export type Entry =
  | SessionEntry
  | RequestEntry
  | ReceivedEntry
  | LateEntry
  | ClosedEntry
  | ArrivedEntry
  | LeftEntry
  | CarriedEntry
  | CommandEntry
  | ReceiptEntry
  | LocalReceiptEntry
  | FaultEntry
  | HomeMoveEntry
  | PromiseEntry
  | SampleEntry
  | StallEntry
  | LoadEntry
  | ProcessEndEntry
  | NoteEntry;

export type History = Readonly<{
  [Type in Entry["type"]]: readonly Extract<Entry, { type: Type }>[];
}>;

/** Sorts entries by kind. Lines of different processes are in any order. */
export function historyOf(entries: Iterable<Entry>): History {
  const history: { [Type in Entry["type"]]: Extract<Entry, { type: Type }>[] } = {
    session: [],
    request: [],
    received: [],
    late: [],
    closed: [],
    arrived: [],
    left: [],
    carried: [],
    command: [],
    receipt: [],
    "local-receipt": [],
    fault: [],
    "home-move": [],
    promise: [],
    sample: [],
    stall: [],
    load: [],
    "process-end": [],
    note: [],
  };
  for (const entry of entries) (history[entry.type] as Entry[]).push(entry);
  return history;
}

/** The state after the last fault. */
export type Ending = Readonly<{
  /** Null: the nodes were not ready again within the bound. */
  readyAfterMs: number | null;
  readyBoundMs: number;
  /** What was not ready, as text. */
  notReady: readonly string[];
  /** The log as read from its store; null when it could not be read. */
  log: LoggedEvents | null;
  /** The output of `log verify`; null: the log verifies. */
  logProblem: string | null;
  leader: Readonly<{ broker: string; epoch: number; position: number; digest: string }> | null;
  nodes: readonly Readonly<{ node: string; role: string; position: number | null; digest: string | null }>[];
  /** Processes that ended by themselves, without those that could not start while a dependency was down. */
  crashes: readonly string[];
  /** What the audit sinks have; null: they were not looked at. */
  audit: AuditSeen | null;
  /** Null: they were not checked, because the log could not be read. */
  records: VerifiedRecords | null;
}>;

/** The audit files against the seals in the log. */
export type VerifiedRecords = Readonly<{
  seals: number;
  /** Numbers that match a seal. */
  verified: number;
  /** Records that no seal covers, as the seals say. */
  unhashed: number;
  problems: readonly string[];
}>;

export type LoggedEvent = Readonly<{
  position: number;
  epoch: number;
  hash: string;
  type: string;
  stream: string;
  cause: string | null;
}>;
/** By position, from 1. */
export type LoggedEvents = readonly LoggedEvent[];
