/** Report: a run as a readable page, with the details of each violation. Pure. */

import { describeFault, type Plan } from "../faults/plan.ts";
import { type CommandEntry, type Ending, type History, type Ns, nsPerMs, type ReceiptEntry } from "../judge/history.ts";
import { checks, type Violation } from "../judge/violation.ts";
import { auditFiguresOf, formatAuditFigures } from "./audit-figures.ts";
import type { Measures, Percentiles, Share, Waited } from "./measure.ts";

export type ReportParts = Readonly<{
  /** Names the run: its seed, or its scenarios. */
  name: string;
  /** What runs the same again. */
  command: string;
  /** Null: scenarios decided what was broken. */
  plan: Plan | null;
  /** The removed rule; null: none. */
  weakened: string | null;
  history: History;
  ending: Ending;
  measures: Measures;
  violations: readonly Violation[];
  /** How often a process could not start because a dependency was down. */
  restarts: number;
  takeovers: number;
  /** When the faults began, in history time. */
  startedAt: Ns;
}>;

const storiesMax = 12;
const linesMax = 40;
const before = 8_000 * nsPerMs;
const after = 3_000 * nsPerMs;
/** The time around a violation in which single frames are listed. */
const close = 600 * nsPerMs;

export function summaryLine(parts: ReportParts): string {
  const { measures, violations, name, takeovers, weakened, history } = parts;
  const kinds = Object.keys(measures.faults).length;
  const verdict =
    weakened === null
      ? violations.length === 0
        ? "no violation"
        : `${violations.length} VIOLATIONS`
      : violations.length === 0
        ? `NOTHING NOTICED of ${weakened}`
        : `proved: ${violations.length} violations with ${weakened}`;
  const faults = Object.values(measures.faults).reduce((sum, count) => sum + count, 0);
  const kept = history.promise.filter((each) => each.kept).length;
  const promises = history.promise.length === 0 ? "" : `${kept} of ${history.promise.length} promises kept, `;
  return `chaos ${name}: ${verdict}; ${promises}${measures.answered} answers judged, ${faults} faults of ${kinds} kinds, ${measures.receipts.complete} complete receipts, ${takeovers} takeovers, ${formatShare(measures.outside)} permitted outside faults, ${formatShare(measures.within)} within; our own processes waited ${formatWaited(measures.waitedPerMs)}`;
}

export function report(parts: ReportParts): string {
  const { name, command, plan, violations, weakened } = parts;
  return [
    `# Chaos run ${name}`,
    `${summaryLine(parts)}.`,
    `The same faults again: \`${command}\`. Times are seconds since the first client.`,
    ...(weakened === null ? [] : [`One rule was taken away on purpose: \`${weakened}\`.`]),
    ...numbers(parts),
    ...ended(parts),
    ...promisesOf(parts),
    "## Violations",
    ...(violations.length === 0 ? ["None."] : violations.slice(0, storiesMax).map((each, i) => story(each, i, parts))),
    ...(violations.length > storiesMax ? [`And ${violations.length - storiesMax} more like these.`] : []),
    "## Faults",
    timeline(parts),
    ...(plan === null
      ? []
      : ["## What was planned", plan.faults.map((fault) => `- ${describeFault(fault)}`).join("\n")]),
    "",
  ].join("\n\n");
}

function numbers({ measures }: ReportParts): string[] {
  const { sockets, completeMs, receipts } = measures;
  const rows: readonly (readonly [string, string])[] = [
    ["requests", `${measures.requests}: ${measures.answered} answered, ${measures.unknown} unknown`],
    ["answers by status", formatCounts(measures.byStatus)],
    ["unknown because", formatCounts(measures.unknownWhy)],
    [
      "permitted outside faults, of those with a right",
      `${formatShare(measures.outside)} (else ${formatCounts(measures.outside.byStatus)})`,
    ],
    ["permitted within faults", `${formatShare(measures.within)} (else ${formatCounts(measures.within.byStatus)})`],
    [
      "WebSockets",
      `${sockets.opened} opened, ${sockets.received} frames and lines received, ${sockets.carried} carried up; closed with ${formatCounts(sockets.closeCodes)}`,
    ],
    [
      "slow readers",
      `${measures.slowReaders.cut} cut; at most ${measures.slowReaders.lateBytesMax} bytes reached one after its complete receipt`,
    ],
    ["asked for → complete receipt, outside faults", times(completeMs.outside)],
    ["asked for → complete receipt, within faults", times(completeMs.within)],
    [
      "receipts",
      `${receipts.complete} complete, ${receipts.incomplete} incomplete, ${receipts.lost} lost, ${receipts.failed} without an answer`,
    ],
    ["incomplete because of", formatCounts(measures.incompleteWhy)],
    [
      "commands",
      Object.entries(measures.commands)
        .map(([type, { done, refused, unknown }]) => `${type}: ${done} done, ${refused} refused, ${unknown} unknown`)
        .join("; "),
    ],
    [
      "accepted by a cut-off region alone",
      `${measures.local.accepted} commands, ${measures.local.complete} complete receipts of the region`,
    ],
    ["longest stall of our own processes", `${measures.stallMsMax.toFixed(0)} ms`],
    ["our own processes waited for a processor", formatWaited(measures.waitedPerMs)],
  ];
  return ["## Numbers", ["| | |", "|---|---|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n")];
}

function ended({ ending, restarts, takeovers }: ReportParts): string[] {
  const { leader, nodes } = ending;
  const lines = [
    ending.readyAfterMs === null
      ? `Not ready within ${ending.readyBoundMs} ms: ${ending.notReady.join("; ")}`
      : `All ready ${ending.readyAfterMs} ms after the last fault was over.`,
    `Log: ${ending.log?.length ?? "unreadable"} events, ${ending.logProblem ?? "verified"}; ${takeovers} takeovers.`,
    leader === null
      ? "No broker leads."
      : `${leader.broker} leads epoch ${leader.epoch} at ${leader.position}, ${leader.digest}`,
    ...nodes.map(({ node, role, position, digest }) => `${node} (${role}) at ${position}, ${digest}`),
    ...(ending.audit === null ? [] : [`Audit: ${formatAuditFigures(auditFiguresOf(ending.audit))}.`]),
    ...(restarts === 0 ? [] : [`${restarts} times a process could not start at first because what it needs was down.`]),
  ];
  return ["## The end", lines.map((line) => `- ${line}`).join("\n")];
}

function promisesOf({ history }: ReportParts): string[] {
  if (history.promise.length === 0) return [];
  const rows = history.promise.map(({ scenario, promise, boundMs, tookMs, kept, seen }) => {
    const bound = boundMs === null ? "" : `${boundMs} ms`;
    const result = kept ? (tookMs === null ? "kept" : `${tookMs} ms`) : `BROKEN: ${seen.replaceAll("|", "/")}`;
    return `| ${scenario} | ${promise} | ${bound} | ${result} |`;
  });
  return ["## Promises", ["| scenario | promise | bound | result |", "|---|---|---|---|", ...rows].join("\n")];
}

function timeline({ history, startedAt }: ReportParts): string {
  const at = (ns: Ns): string => ((ns - startedAt) / nsPerMs / 1_000).toFixed(2);
  const faults = history.fault.map(({ begin, end, clear, what, target, problem }) => {
    return {
      begin,
      line: `${at(begin)}–${at(end)}, clear ${at(clear)}: ${what} ${target}${problem === "" ? "" : ` FAILED: ${problem}`}`,
    };
  });
  const notes = history.note.map((note) => ({ begin: note.at, line: `${at(note.at)}: ${note.text}` }));
  const lines = [...faults, ...notes].sort((a, b) => a.begin - b.begin).map(({ line }) => `- ${line}`);
  return lines.length === 0 ? "None." : lines.join("\n");
}

// --- details of one violation

function story(violation: Violation, index: number, parts: ReportParts): string {
  const { history, startedAt } = parts;
  const { about, check, times } = violation;
  const at = (ns: Ns): string => ((ns - startedAt) / nsPerMs / 1_000).toFixed(3);
  const near = (begin: Ns, end: Ns = begin): boolean => begin < violation.at + after && end > violation.at - before;
  const lines: { begin: Ns; text: string }[] = [];
  const addLine = (begin: Ns, text: string): void => void lines.push({ begin, text });
  for (const fault of history.fault.filter(({ begin, clear }) => near(begin, clear)))
    addLine(fault.begin, `fault: ${fault.what} ${fault.target}, over at ${at(fault.end)}, clear at ${at(fault.clear)}`);
  for (const note of history.note.filter((each) => near(each.at))) addLine(note.at, note.text);
  for (const entry of history.command.filter(({ op }) => op === about["operation"]))
    addLine(entry.begin, formatCommand(entry, at));
  for (const entry of history.receipt.filter(({ op }) => op === about["operation"]))
    addLine(entry.end, formatReceipt(entry));
  for (const { end, region, complete } of history["local-receipt"].filter(({ op }) => op === about["operation"]))
    addLine(end, `receipt of ${region} alone: ${complete ? "complete" : "not complete"}`);
  const requests = history.request
    .filter(({ session, begin, end }) => session === about["session"] && near(begin, end))
    .sort((a, b) => Math.abs(a.begin - violation.at) - Math.abs(b.begin - violation.at))
    .slice(0, linesMax);
  for (const { id, begin, end, node, route, kind, outcome, status, stamps, problem } of requests) {
    const answer =
      outcome === "unknown" ? `unknown (${problem})` : `${status}${stamps === null ? "" : " by the upstream"}`;
    addLine(
      begin,
      `${id} ${kind} ${node} ${route}: ${answer} at ${at(end)}${stamps === null ? "" : `, arrived ${at(stamps.arrivedAt)}, sent ${at(stamps.sentAt)}`}${id === about["id"] ? "   ← this one" : ""}`,
    );
  }
  for (const { id, sentAt, at: came } of history.received
    .filter((each) => each.id === about["id"] && Math.abs(each.at - violation.at) < close)
    .slice(0, linesMax))
    addLine(came, `${id} received what was sent at ${at(sentAt)}`);
  for (const closed of history.closed.filter((each) => each.id === about["id"]))
    addLine(closed.at, `${closed.id} closed with ${closed.code}`);
  const timelineLines = lines
    .sort((a, b) => a.begin - b.begin)
    .map(({ begin, text }) => `${at(begin).padStart(9)}  ${text}`);
  return [
    `### ${index + 1}. ${checks[check]}`,
    `${violation.what}${times > 1 ? ` (seen ${times} times)` : ""}, at ${violation.at === Number.MAX_SAFE_INTEGER ? "the end" : `${at(violation.at)} s`}`,
    `${Object.entries(about)
      .map(([name, value]) => `${name} \`${value}\``)
      .join(", ")}`,
    ["```text", ...timelineLines, "```"].join("\n"),
  ].join("\n\n");
}

function formatCommand(
  { op, intent, outcome, end, link, changed, problem }: CommandEntry,
  at: (ns: Ns) => string,
): string {
  const position = link === null ? "" : ` at ${link.epoch}.${link.position}${changed ? "" : ", nothing changed"}`;
  return `${op} ${Object.values(intent).join(" ")}: ${outcome}${position} at ${at(end)}${problem === "" ? "" : ` (${problem})`}`;
}

function formatReceipt({ op, status, nodes, problem }: ReceiptEntry): string {
  const who = nodes
    .map((node) => `${node.node} ${node.status}${node.reason === "" ? "" : ` (${node.reason})`}`)
    .join(", ");
  return `${op} receipt ${status}: ${who}${problem}`;
}

/** How long they waited for each ms that they ran, together and one by one. */
export function formatWaited({ all, byProcess }: Waited): string {
  if (all === null) return "an unknown time";
  const each = Object.entries(byProcess).map(([process, waited]) => `${process} ${waited.toFixed(1)}`);
  return `${all.toFixed(1)} ms for each ms that they ran (${each.join(", ")})`;
}

function formatShare({ permitted, requested }: Share): string {
  return requested === 0 ? "none" : `${((100 * permitted) / requested).toFixed(2)} % of ${requested}`;
}

function formatCounts(counts: Readonly<Record<string, number>>): string {
  const entries = Object.entries(counts).slice(0, 12);
  return entries.length === 0
    ? "none"
    : entries.map(([word, count]) => `${word.replaceAll("|", "/")} ×${count}`).join(", ");
}

function times({ count, p50, p90, p99, max }: Percentiles): string {
  const round = (value: number): string => value.toFixed(value < 10 ? 1 : 0);
  return `p50 ${round(p50)} ms, p90 ${round(p90)} ms, p99 ${round(p99)} ms, longest ${round(max)} ms (${count})`;
}
