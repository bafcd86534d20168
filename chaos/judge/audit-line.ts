/**
 * Audit line: what the judge needs of one line of a sink. Pure.
 *
 * The client's own id of a request is the parameter `r` of its query, which the routes of a run record.
 */
import { crc32 } from "node:zlib";

export type RecordedDecision = Readonly<{
  /** The client's id of the request; empty: it had none. */
  request: string;
  route: string | null;
  occasion: string;
  result: string;
  status: number;
  /** Of the end of a stream; null: none, or not of a stream's end. */
  cause: string | null;
}>;
export type RecordedAct = Readonly<{
  commandId: string;
  outcome: string;
  link: Readonly<{ epoch: number; position: number }> | null;
}>;
export type RecordedGap = Readonly<{
  first: number;
  last: number;
  reason: string;
  /** How many of the numbers surely were decisions; null: all. */
  atLeast: number | null;
  fromMs: number;
  toMs: number;
}>;

export type AuditLine = Readonly<{
  node: string;
  boot: string;
  seq: number;
  /** By the node's clock: milliseconds since 1970, as everywhere here. */
  atMs: number;
  /** When JetStream stored it; null: it is from a file. */
  storedMs: number | null;
  /** Equal for equal lines. */
  digest: number;
  decision: RecordedDecision | null;
  act: RecordedAct | null;
  gap: RecordedGap | null;
}>;

/** What one kind of sink has, of all nodes, in the order in which it was stored. */
export type AuditCopy = Readonly<{
  sink: "file" | "JetStream";
  lines: readonly AuditLine[];
  /** Lines that are no records, such as half a line that a crash left. */
  malformed: number;
}>;

export type AuditSeen = Readonly<{
  copies: readonly AuditCopy[];
  /** What still waited for a sink when the time was up, or could not be read. */
  undrained: readonly string[];
  /** The wall clock at the origin of the run, and by how much it was off at the end. */
  originMs: number;
  clockStepMs: number;
}>;

/** @returns undefined if it is not a record */
export function auditLineOf(text: string, storedMs: number | null): AuditLine | undefined {
  const record = objectIn(text);
  const { node, boot, seq, at, kind } = record;
  if (typeof node !== "string" || typeof boot !== "string" || typeof at !== "number") return undefined;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 1) return undefined;
  const line = { node, boot, seq, atMs: at, storedMs, digest: crc32(text), decision: null, act: null, gap: null };
  switch (kind) {
    case "decision":
      return { ...line, decision: decisionIn(record) };
    case "operator":
    case "authentication":
      return { ...line, act: actIn(record) };
    case "gap":
      return { ...line, gap: gapIn(record) };
    default:
      return typeof kind === "string" ? line : undefined; // of a later build: its number counts
  }
}

type Fields = Readonly<Record<string, unknown>>;

function objectIn(text: string): Fields {
  try {
    return objectOf(JSON.parse(text));
  } catch {
    return {};
  }
}

function objectOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function decisionIn({ query, routeId, occasion, result, status, closed }: Fields): RecordedDecision {
  const { cause } = objectOf(closed);
  return {
    request: new URLSearchParams(typeof query === "string" ? query : "").get("r") ?? "",
    route: typeof routeId === "string" ? routeId : null,
    occasion: String(occasion),
    result: String(result),
    status: Number(status),
    cause: typeof cause === "string" && cause !== "" ? cause : null,
  };
}

function actIn({ commandId, outcome, link }: Fields): RecordedAct {
  const { epoch, position } = objectOf(link);
  const isLink = typeof epoch === "number" && typeof position === "number";
  return { commandId: String(commandId), outcome: String(outcome), link: isLink ? { epoch, position } : null };
}

function gapIn({ first, last, reason, atLeast, fromMs, toMs }: Fields): RecordedGap {
  return {
    first: Number(first),
    last: Number(last),
    reason: String(reason),
    atLeast: typeof atLeast === "number" ? atLeast : null,
    fromMs: Number(fromMs),
    toMs: Number(toMs),
  };
}
