/**
 * Run record: what one run against a cluster saw, as plain data for the report page. A run is a drill or a chaos run.
 *
 * - Every entry is an observation from outside the cluster: by a client, by the operator, or by a reader of its status.
 * - Times are milliseconds since `startedAt` on one monotonic clock of the run, unless a comment says otherwise.
 * - Null means "not known", never 0. Nothing in it is secret: no credential, session id or e-mail address.
 *
 * Pure types; `report/report-page.ts` renders them.
 */
import type { UnixMs } from "../../events/index.ts";

export type RunRecord = Readonly<{
  format: 1;
  kind: "chaos" | "drill";
  /** The name of the drill or scenario; `random` for random faults. */
  name: string;
  /** What is broken and why, in a sentence or two; empty: nothing to say. */
  purpose: string;
  /** The wall clock at the start of the run. */
  startedAt: UnixMs;
  durationMs: number;
  /** The version of Cardea that the cluster runs; several are joined by commas. */
  version: string;
  seed: number | null;
  /** The command line that repeats the run. */
  command: string;
  /** One line: the outcome as the terminal shows it. */
  summary: string;
  /** Why the run ended early; null: it did not. */
  stopped: string | null;
  /** Further facts for the head of the page, in this order. */
  facts: readonly Readonly<{ name: string; value: string }>[];
  topology: Topology;
  verdicts: readonly Verdict[];
  faults: readonly RunFault[];
  notes: readonly Readonly<{ atMs: number; text: string }>[];
  traffic: readonly TrafficSeries[];
  revocations: readonly RevocationMeasure[];
  receipts: readonly ReceiptMeasure[];
  nodes: readonly NodeSeries[];
  /** The newest position of the log, by time. */
  head: readonly Readonly<{ atMs: number; position: number }>[];
  /** Evidence for what was broken, such as the story of one request. */
  evidence: readonly Readonly<{ title: string; atMs: number | null; lines: readonly string[] }>[];
}>;

export type Topology = Readonly<{
  regions: readonly Readonly<{ name: string; home: boolean }>[];
  processes: readonly Readonly<{ name: string; kind: ProcessKind; region: string }>[];
}>;
export type ProcessKind = "broker" | "proxy" | "authorize" | "authenticate" | "nats" | "postgres" | "other";

/** A promise of the product, and whether the run saw it hold. */
export type Verdict = Readonly<{
  promise: string;
  result: "held" | "broken" | "not-measured";
  /** What must not be exceeded; null: the promise has no figure. */
  bound: Quantity | null;
  /** The worst value that was seen; null: none was. */
  measured: Quantity | null;
  /** How it was measured, or why it was not; empty: nothing to add. */
  text: string;
}>;

/** `ms` is shown in the unit that reads best; any other unit is a word that follows the number: `events`. */
export type Quantity = Readonly<{ value: number; unit: string }>;

export type RunFault = Readonly<{
  /** The kind: `kill-leader`. */
  name: string;
  target: string;
  /** Null: the fault concerns no single region. */
  region: string | null;
  fromMs: number;
  /** When the fault was undone. */
  untilMs: number;
  /** When everything worked again; null: not known, or not within the run. */
  clearMs: number | null;
  /** What was done, as a sentence for the reader; empty: the name says it. */
  text: string;
  /** Why the fault could not be injected; null: it was. */
  problem: string | null;
}>;

/** Requests of one region's clients. `source`: who they are (`canary`, `clients`, `people`). */
export type TrafficSeries = Readonly<{ region: string; source: string; seconds: readonly TrafficSecond[] }>;

/** Answers of one second by what they mean. Every request is counted once, in the second of its answer. */
export type TrafficSecond = Readonly<{
  /** The start of the second. */
  atMs: number;
  /** Answered by the upstream. */
  permitted: number;
  /** Refused as a decision: sign-in, 401, 403. Not an error. */
  refused: number;
  /** Answered with an error of the proxy: 5xx. */
  unavailable: number;
  /** No answer: time-out, refused or broken connection. */
  failed: number;
}>;

/** One revocation: how long until it was acknowledged, and until no node permitted any more. */
export type RevocationMeasure = Readonly<{
  /** When the command was sent. */
  atMs: number;
  /** `revoke-session`, `suspend-user`, `remove-member`. */
  what: string;
  /** The region in which the command was given. */
  region: string;
  /** Until the command was acknowledged; null: it was not. */
  acknowledgedMs: number | null;
  /** Until the last node was seen to refuse; null: not measured, or some node did not. */
  enforcedMs: number | null;
  /** Until the receipt was complete; null: it was not. */
  completeMs: number | null;
}>;

export type ReceiptMeasure = Readonly<{
  /** When it was requested. */
  atMs: number;
  what: string;
  /** The region in which it was requested. */
  region: string;
  status: "complete" | "incomplete" | "lost" | "local" | "none";
  /** Until the answer had arrived, from `atMs`. */
  afterMs: number;
  nodes: readonly ReceiptNodeMeasure[];
}>;

export type ReceiptNodeMeasure = Readonly<{
  node: string;
  region: string;
  status: "applied" | "fenced" | "unconfirmed" | "not seen";
  /** When this status was first seen, from the request of the receipt; null: not known. */
  afterMs: number | null;
  reason: string;
}>;

/** One node's positions and staleness over time. An unknown status has no sample, which is a gap on the page. */
export type NodeSeries = Readonly<{
  node: string;
  region: string;
  role: string;
  samples: readonly NodeSample[];
}>;

export type NodeSample = Readonly<{
  atMs: number;
  /** The position that the node has applied; null: unknown. */
  position: number | null;
  /** Events behind the head; null: unknown. */
  lag: number | null;
  /** Time since the node's last lease, in ms; null: unknown. */
  stalenessMs: number | null;
}>;
