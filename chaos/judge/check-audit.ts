/**
 * Check audit: compares what clients saw with what the sinks have of it.
 *
 * Pure. Records and declared gaps account for every answer: a request that was answered, or that reached the upstream,
 * has a record with that answer, or lies in a gap that was declared for its node and time, and a gap holds no more
 * requests than it declares numbers. A permit of a strict route always has its record. The file is compared with the
 * clients; JetStream has the same numbers with the same content.
 */

import { type Gap, gapsOf, leftWithoutAGap, type Missing } from "./audit-gaps.ts";
import type { AuditLine, AuditSeen, RecordedDecision } from "./audit-line.ts";
import { checkNumbers } from "./audit-numbers.ts";
import { type CommandEntry, type History, type Ns, nsPerMs, type RequestEntry } from "./history.ts";
import type { Findings } from "./violation.ts";

export type AuditCheck = Readonly<{
  audit: AuditSeen;
  isStrict: (route: string) => boolean;
  /** The process that serves the operator API of a region. */
  operatorNodeOf: (region: string) => string;
  found: Findings;
}>;

/** The time of a decision may be this far outside of what the client saw, or of a gap. */
const slackMs = 250;
/** A process that ran for so long after the end of a stream, and then for `ranMs` more, has recorded that end. */
const closedMs = { settle: 3_000, ran: 2_000 };
/** A response of 10 s is a stream; this one certainly lasted as long. */
const streamMsMin = 12_000;

export function checkAudit(history: History, auditCheck: AuditCheck): void {
  const { audit, found } = auditCheck;
  const end = Math.max(0, ...history.request.map((each) => each.end));
  for (const what of audit.undrained) found.add({ check: "audit-late", at: end, what, about: { what } });
  checkNumbers(history, { audit, found });
  const file = audit.copies.find(({ sink }) => sink === "file");
  if (file === undefined) return;
  const records = recordsOf(file.lines);
  const missing = [
    ...checkRequests(history, { ...auditCheck, records }),
    ...checkStreamEnds(history, { ...auditCheck, records }),
    ...checkActs(history, { ...auditCheck, records }),
  ];
  const gaps = gapsOf(file.lines);
  for (const { what, at, about } of leftWithoutAGap(missing, gaps)) {
    const declared = gaps.filter(({ node }) => node === about["node"]);
    const all = declared.length === 0 ? "no gap" : declared.map(describeGap).join(", ");
    found.add({ check: "audit-missing", at, what: `${what}; the node declared ${all}`, about });
  }
}

function describeGap({ boot, first, last, reason }: Gap): string {
  return `${boot.slice(-6)} ${first}–${last} (${reason})`;
}

type Records = Readonly<{
  byRequest: ReadonlyMap<string, readonly AuditLine[]>;
  byCommand: ReadonlyMap<string, readonly AuditLine[]>;
  /** Times of the records of each boot, in order. */
  times: ReadonlyMap<string, readonly number[]>;
}>;
type RecordsCheck = AuditCheck & Readonly<{ records: Records }>;

function recordsOf(lines: readonly AuditLine[]): Records {
  const requested = lines.filter(({ decision }) => (decision?.request ?? "") !== "");
  const acts = lines.filter(({ act }) => act !== null);
  const times = Map.groupBy(
    lines.filter(({ gap }) => gap === null),
    ({ boot }) => boot,
  );
  return {
    byRequest: Map.groupBy(requested, ({ decision }) => decision?.request ?? ""),
    byCommand: Map.groupBy(acts, ({ act }) => act?.commandId ?? ""),
    times: new Map([...times].map(([boot, all]) => [boot, all.map(({ atMs }) => atMs).sort((a, b) => a - b)])),
  };
}

/** When a decision may have been made, by the wall clock. */
function spanOf({ originMs, clockStepMs }: AuditSeen, begin: Ns, end: Ns): Readonly<{ fromMs: number; toMs: number }> {
  const slack = slackMs + clockStepMs;
  return { fromMs: originMs + begin / nsPerMs - slack, toMs: originMs + end / nsPerMs + slack };
}

// --- requests

function checkRequests(history: History, { audit, isStrict, records, found }: RecordsCheck): readonly Missing[] {
  const arrived = new Set(history.arrived.map(({ id }) => id));
  const missing: Missing[] = [];
  for (const request of history.request) {
    const { id, node, route, begin, end, stamps } = request;
    const passed = stamps !== null || arrived.has(id);
    if (!passed && request.outcome !== "answered") continue;
    const answer: Answer = passed ? "permit" : answerOf(request.status);
    const all = records.byRequest.get(id) ?? [];
    const about = { node, route, id, session: request.session };
    const seen = passed ? "passed to the upstream" : `was answered with ${request.status}`;
    const what = `${request.kind} request ${id} to ${route} on ${node}, which ${seen}`;
    const foreign = all.find((line) => line.node !== node || (line.decision?.route ?? route) !== route);
    if (foreign !== undefined) {
      const as = `${foreign.node}, route ${foreign.decision?.route}, as ${nameOf(foreign)}`;
      found.add({ check: "audit-differs", at: end, what: `${what}, is recorded by ${as}`, about });
    }
    const decided = all.filter(({ decision }) => decision?.occasion === "request");
    if (decided.length === 0) {
      if (passed && isStrict(route))
        found.add({ check: "audit-strict-lost", at: end, what: `${what}, has no record; the route is strict`, about });
      else missing.push({ what: `${what}, has no record`, at: end, node, about, ...spanOf(audit, begin, end) });
      continue;
    }
    const lines = all.filter(({ decision }) => decision !== null && decision.occasion !== "closed");
    if (lines.some(({ decision }) => decision !== null && isThe(answer, decision))) continue;
    const as = lines.map((line) => `${nameOf(line)}: ${line.decision?.result} ${line.decision?.status}`).join(", ");
    found.add({ check: "audit-differs", at: end, what: `${what}, is recorded as ${as}`, about });
  }
  return missing;
}

type Answer = "permit" | "deny" | "signin" | "unavailable" | "failed" | "other";

function answerOf(status: number): Answer {
  if (status === 401 || status === 302) return "signin";
  if (status === 403) return "deny";
  if (status === 503) return "unavailable";
  return status === 502 || status === 504 ? "failed" : "other";
}

/**
 * A permit may be answered with 503, 502 or 504: its lease or the process ended, or its upstream failed, before the
 * upstream was asked.
 */
function isThe(answer: Answer, { occasion, result }: RecordedDecision): boolean {
  if (answer === "permit") return occasion === "request" && result === "permit";
  if (answer === "unavailable" || answer === "failed") return result === "unavailable" || result === "permit";
  return answer === "other" ? result !== "permit" : result === answer;
}

const nameOf = ({ boot, seq }: AuditLine): string => `${boot.slice(-6)}:${seq}`;

// --- ends of streams

function checkStreamEnds(history: History, { audit, records, found }: RecordsCheck): readonly Missing[] {
  const closed = new Map(history.closed.map((entry) => [entry.id, entry.at]));
  const left = new Map(history.left.map((entry) => [entry.id, entry.at]));
  const missing: Missing[] = [];
  for (const request of history.request) {
    const { id, node, route, kind, stamps } = request;
    const closedAt = closed.get(id);
    if (stamps === null || closedAt === undefined || !isStream(request, left.get(id))) continue;
    const all = records.byRequest.get(id) ?? [];
    const began = all.find(({ decision }) => decision?.occasion === "request");
    const ended = all.filter(({ decision }) => decision?.occasion === "closed");
    const about = { node, route, id, session: request.session };
    if (ended.some(({ decision }) => decision?.cause === null)) {
      const what = `the end of ${kind} ${id} to ${route} on ${node} is recorded without a cause`;
      found.add({ check: "audit-differs", at: closedAt, what, about });
    }
    const { fromMs, toMs } = spanOf(audit, closedAt, closedAt);
    const settledMs = toMs + closedMs.settle;
    if (began === undefined || ended.length > 0 || !hasRun(records.times.get(began.boot) ?? [], settledMs)) continue;
    const what = `the end of ${kind} ${id} to ${route} on ${node} has no record`;
    missing.push({ what, at: closedAt, node, about, fromMs, toMs: settledMs });
  }
  return missing;
}

/**
 * @param leftAt when the upstream's side was over; a slow reader still reads what its kernel holds of a stream that was
 * cut
 */
function isStream({ kind, status, end }: RequestEntry, leftAt: Ns = end): boolean {
  return kind === "websocket" ? status === 101 : leftAt - end >= streamMsMin * nsPerMs;
}

/** Whether a boot recorded something after this time, and then for some time: before, it may have been paused. */
function hasRun(times: readonly number[], fromMs: number): boolean {
  const first = times.find((at) => at >= fromMs);
  return first !== undefined && (times.at(-1) ?? 0) >= first + closedMs.ran;
}

// --- acts of operators

/** Commands that the operator API answered with a position in the log. The harness creates sessions without it. */
function checkActs(history: History, { audit, operatorNodeOf, records, found }: RecordsCheck): readonly Missing[] {
  const missing: Missing[] = [];
  for (const command of history.command) {
    if (command.intent.type === "create-session" || command.outcome !== "done" || command.link === null) continue;
    const { op, commandId, region, begin, end } = command;
    const node = operatorNodeOf(region);
    const own = (records.byCommand.get(commandId) ?? []).filter((line) => line.node === node);
    const about = { node, operation: op };
    const what = `${command.intent.type} (${op}), which ${node} acknowledged at ${command.link.position},`;
    if (own.length === 0) {
      missing.push({ what: `${what} has no record`, at: end, node, about, ...spanOf(audit, begin, end) });
    } else if (!own.some((line) => isOf(command, line))) {
      const as = own.map((line) => `${nameOf(line)}: ${line.act?.outcome} ${line.act?.link?.position}`).join(", ");
      found.add({ check: "audit-differs", at: end, what: `${what} is recorded as ${as}`, about });
    }
  }
  return missing;
}

function isOf({ link }: CommandEntry, { act }: AuditLine): boolean {
  const isDone = act?.outcome === "done" || act?.outcome === "unchanged";
  return isDone && act?.link?.epoch === link?.epoch && act?.link?.position === link?.position;
}
