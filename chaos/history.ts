/**
 * History: what the clients, the operator and the upstream of one run saw, as lines of JSON.
 *
 * Everything here is an observation from outside the system; nothing is taken from its logs. All times are nanoseconds
 * of this host's monotonic clock since the run's origin, the same clock in every process, so times of different
 * processes can be compared exactly. A `begin` is taken before anything is sent, an `end` after everything has come:
 * what really happened lies between the two.
 */
import type { Fact } from "../src/events/index.ts";

/** Nanoseconds since the run's origin; safe to 104 days. */
export type Ns = number;
export const nsPerMs = 1_000_000;

/** What the upstream says of an answer: when the request reached it and when the answer left. */
export type Stamps = Readonly<{ arrivedAt: Ns; sentAt: Ns }>;

/**
 * Somebody is signed in. `epoch` and `position` are where the log acknowledged it: the session's own event stands at or
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
 * One request of a client. `answered` by the upstream when there are stamps, else by the proxy itself. `unknown`: the
 * client gave up or lost its connection, and cannot tell. For a stream (`websocket`, `download`), `end` is when it was
 * open.
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
/** Bytes that a client received on a stream: when the upstream sent them, and when they came. */
export type ReceivedEntry = Fact<"received", { id: string; sentAt: Ns; at: Ns }>;
/**
 * Bytes of a slow reader's stream that reached the reader's machine after a complete receipt: `arrived` by the time of
 * the receipt,
 * `late` since then, counted in the reader's kernel as well as in its process.
 */
export type LateEntry = Fact<"late", { id: string; op: string; at: Ns; arrived: number; late: number }>;
/** A stream has ended, as its client saw it. */
export type ClosedEntry = Fact<"closed", { id: string; at: Ns; code: number }>;
/** The upstream has got a request. */
export type ArrivedEntry = Fact<"arrived", { id: string; at: Ns }>;
/** The upstream has got bytes of a client on a stream. */
export type CarriedEntry = Fact<"carried", { id: string; sentAt: Ns; at: Ns }>;

export type Wish =
  | Fact<"create-session", { session: string; user: string }>
  | Fact<"revoke-session", { session: string }>
  | Fact<"revoke-user" | "suspend-user" | "restore-user", { user: string }>
  | Fact<"add-member" | "remove-member", { user: string; group: string }>;

/** A wish of the operator. `unknown`: no definite answer came; it may have happened, or may still happen. */
export type CommandEntry = Fact<
  "command",
  {
    op: string;
    wish: Wish;
    commandId: string;
    begin: Ns;
    end: Ns;
    outcome: "done" | "refused" | "unknown";
    /** Of `done`: the link that was acknowledged, as epoch, position and hash. */
    link: Readonly<{ epoch: number; position: number; hash: string }> | null;
    /** Of `done`: whether anything had to change. */
    changed: boolean;
    problem: string;
  }
>;
/** An answer about who has applied a command; an operation may ask again until it is complete. */
export type ReceiptEntry = Fact<
  "receipt",
  {
    op: string;
    begin: Ns;
    /** When the whole answer had come. */
    end: Ns;
    complete: boolean;
    status: "complete" | "incomplete" | "lost" | "none";
    /** What its signed statement says that the change rests on; null: nothing. */
    durability: string | null;
    nodes: readonly Readonly<{ node: string; status: string; reason: string }>[];
    problem: string;
  }
>;

/** A fault as it was really done. `clear` is when what was broken worked again as far as the harness can see. */
export type FaultEntry = Fact<
  "fault",
  { index: number; what: string; target: string; begin: Ns; end: Ns; clear: Ns; problem: string }
>;
/** One of our own processes did not run: what it stamped in that time may be late. */
export type StallEntry = Fact<"stall", { process: string; begin: Ns; end: Ns }>;
/** Something worth a line in the story: a takeover seen, a node ready again. */
export type NoteEntry = Fact<"note", { at: Ns; text: string }>;

export type Entry =
  | SessionEntry
  | RequestEntry
  | ReceivedEntry
  | LateEntry
  | ClosedEntry
  | ArrivedEntry
  | CarriedEntry
  | CommandEntry
  | ReceiptEntry
  | FaultEntry
  | StallEntry
  | NoteEntry;

export type History = Readonly<{
  [Type in Entry["type"]]: readonly Extract<Entry, { type: Type }>[];
}>;

/** Sorts entries by their kind. Lines of different processes come in any order. */
export function historyOf(entries: Iterable<Entry>): History {
  const history: { [Type in Entry["type"]]: Extract<Entry, { type: Type }>[] } = {
    session: [],
    request: [],
    received: [],
    late: [],
    closed: [],
    arrived: [],
    carried: [],
    command: [],
    receipt: [],
    fault: [],
    stall: [],
    note: [],
  };
  for (const entry of entries) (history[entry.type] as Entry[]).push(entry);
  return history;
}

/** What the harness found when all faults were over. */
export type Ending = Readonly<{
  /** Null: the nodes did not become ready again within the bound. */
  readyAfterMs: number | null;
  readyBoundMs: number;
  /** What was not ready, in plain words. */
  notReady: readonly string[];
  /** The log as it stands, read from its store; null when it could not be read. */
  log: LoggedEvents | null;
  /** The words of `log verify`; null: it holds. */
  logProblem: string | null;
  leader: Readonly<{ broker: string; epoch: number; position: number; digest: string }> | null;
  nodes: readonly Readonly<{ node: string; role: string; position: number | null; digest: string | null }>[];
  /** Processes that ended without being asked to; not those that could not start while something was down. */
  crashes: readonly string[];
}>;

export type LoggedEvent = Readonly<{
  position: number;
  epoch: number;
  hash: string;
  type: string;
  stream: string;
  cause: string | null;
}>;
/** By position: the first is at 1. */
export type LoggedEvents = readonly LoggedEvent[];
