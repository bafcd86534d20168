/**
 * Report page: one run as one HTML document: verdicts, faults, traffic, revocations, receipts, nodes.
 *
 * - Self-contained: no script, no font, no image, no address of another host. Its own content security policy allows
 *   its style sheet and nothing else, so that it can be mailed, archived and opened from a disk.
 * - Bounded: charts are downsampled (downsample.ts), tables and texts are cut, and the page says where.
 * - Every chart has a summary for screen readers and a table with its figures. No meaning is carried by colour alone.
 *
 * Pure.
 */
import { definitionList, type Html, type HtmlValue, html, renderLayout } from "../../../console/index.ts";
import type { ProcessKind, RunFault, RunRecord, Topology } from "../run-record.ts";
import { bucketsMax, bucketsOf } from "./downsample.ts";
import { nodeSection } from "./node-charts.ts";
import { reportCss } from "./report-css.ts";
import {
  faultName,
  formatAt,
  formatCount,
  formatMs,
  formatOutcome,
  formatQuantity,
  shortText,
  verdictWords,
} from "./report-text.ts";
import { marks, receiptSection, revocationSection } from "./revocation-charts.ts";
import { renderDetails, renderStatus, renderTable } from "./table.ts";
import { timelineChart } from "./timeline-chart.ts";
import { trafficSection } from "./traffic-charts.ts";

export function renderRunReport(record: RunRecord): string {
  const title = `${record.kind === "drill" ? "Drill" : "Chaos run"} ${shortText(record.name, 80)}`;
  return renderLayout({
    page: "run-report",
    title,
    width: "wide",
    css: reportCss,
    selfContained: true,
    aside: `${record.version === "" ? "" : `version ${shortText(record.version, 60)}`}`,
    body: html`${marks}${head(record, title)}
<nav aria-label="Sections"><ul>${sections.map(({ id, name }) => html`<li><a href="#${id}">${name}</a></li>`)}</ul></nav>
${sections.map(({ id, name, body }) => html`<section aria-labelledby="${id}"><h2 id="${id}">${name}</h2>${body(record)}</section>`)}
${footer(record)}`,
  });
}

const sections: readonly Readonly<{ id: string; name: string; body: (record: RunRecord) => HtmlValue }>[] = [
  { id: "promises", name: "Promises", body: verdictTable },
  { id: "faults", name: "Faults", body: faultSection },
  { id: "requests", name: "Requests", body: trafficSection },
  { id: "revocation", name: "Revocation", body: revocationSection },
  { id: "receipt", name: "Receipts", body: receiptSection },
  { id: "nodes", name: "Nodes", body: nodeSection },
  { id: "record", name: "Record", body: recordSection },
];

function head(record: RunRecord, title: string): Html {
  const outcome = formatOutcome(record.verdicts);
  const started = new Date(record.startedAt).toISOString().replace("T", " ").slice(0, 19);
  return html`<h1>${title}</h1>
<p class="outcome ${outcome.tone}">${renderStatus(outcome.tone, outcome.text)}</p>
${record.purpose !== "" && html`<p>${shortText(record.purpose, 1_000)}</p>`}
${record.stopped !== null && html`<p>${renderStatus("warn", "Stopped early")} ${shortText(record.stopped, 1_000)}</p>`}
<p class="muted">${shortText(record.summary, 1_000)}</p>
${definitionList([
  ["Started", html`<time datetime="${new Date(record.startedAt).toISOString()}">${started} UTC</time>`],
  ["Duration", formatMs(record.durationMs)],
  ["Seed", record.seed === null ? null : String(record.seed)],
  ["Topology", topologyText(record.topology)],
  ...record.facts.slice(0, 40).map(({ name, value }) => [shortText(name, 60), shortText(value)] as const),
  ["Repeat with", record.command !== "" && html`<code>${shortText(record.command, 1_000)}</code>`],
])}`;
}

const kindWords: Readonly<Record<ProcessKind, string>> = {
  broker: "× broker",
  proxy: "× proxy",
  authorize: "× authorize",
  authenticate: "× authenticate",
  nats: "× NATS",
  postgres: "× Postgres",
  other: "× other",
};

function topologyText({ regions, processes }: Topology): HtmlValue {
  return regions.slice(0, 32).map(({ name, home }) => {
    const own = processes.filter(({ region }) => region === name);
    const kinds = [...Map.groupBy(own, ({ kind }) => kind)].map(([kind, all]) => `${all.length} ${kindWords[kind]}`);
    return html`<div><b>${shortText(name, 60)}</b>${home && regions.length > 1 && " (home)"}: ${kinds.length === 0 ? "no process" : kinds.join(", ")}</div>`;
  });
}

const verdictsMax = 100;

function verdictTable({ verdicts }: RunRecord): Html {
  return renderTable({
    caption: "Promises and what the run measured",
    narrow: "stack",
    columns: [
      { head: "Promise" },
      { head: "Verdict" },
      { head: "Bound", numeric: true },
      { head: "Measured", numeric: true },
      { head: "How" },
    ],
    rows: verdicts
      .slice(0, verdictsMax)
      .map(({ promise, result, bound, measured, text }) => [
        shortText(promise),
        renderStatus(verdictWords[result].tone, verdictWords[result].word),
        bound === null ? null : `≤ ${formatQuantity(bound)}`,
        measured === null ? null : formatQuantity(measured),
        text === "" ? null : html`<span class="muted">${shortText(text)}</span>`,
      ]),
  });
}

function faultSection(record: RunRecord): Html {
  const { faults } = record;
  if (faults.length === 0) return html`<p class="muted">No fault was injected.</p>`;
  const list = faultTable(faults);
  return html`${timelineChart(record)}${faults.length <= 12 ? list : renderDetails(`${formatCount(faults.length)} faults as a table`, list)}`;
}

function faultTable(faults: readonly RunFault[]): Html {
  return renderTable({
    caption: "Faults",
    narrow: "stack",
    columns: [
      { head: "Fault" },
      { head: "Region" },
      { head: "From", numeric: true },
      { head: "Lasted", numeric: true },
      { head: "Everything worked after", numeric: true },
      { head: "What was done" },
    ],
    rows: faults.map((fault, index) => [
      html`<span class="muted">${index + 1}</span> ${faultName(fault)}`,
      fault.region === null ? "all" : shortText(fault.region, 60),
      formatAt(fault.fromMs),
      formatMs(Math.max(0, fault.untilMs - fault.fromMs)),
      fault.clearMs === null ? "not known" : formatMs(Math.max(0, fault.clearMs - fault.untilMs)),
      fault.problem === null
        ? shortText(fault.text) || null
        : html`${renderStatus("bad", "Failed")} ${shortText(fault.problem)}`,
    ]),
  });
}

const notesMax = 200;
const evidenceMax = 24;
const linesMax = 60;

function recordSection({ notes, evidence }: RunRecord): HtmlValue {
  if (notes.length === 0 && evidence.length === 0) return html`<p class="muted">Nothing else was noted.</p>`;
  const left = evidence.length - evidenceMax;
  return html`${evidence.slice(0, evidenceMax).map((one) => {
    const rest = one.lines.length - linesMax;
    const lines = one.lines.slice(0, linesMax).map((line) => shortText(line, 240));
    const at = one.atMs === null ? "" : `${formatAt(one.atMs)}: `;
    return renderDetails(
      `${at}${shortText(one.title, 240)}`,
      html`<pre tabindex="0">${lines.join("\n")}${rest > 0 && `\n(${rest} more lines are left out)`}</pre>`,
    );
  })}${left > 0 && html`<p class="muted small">${left} more like these are left out.</p>`}
${
  notes.length > 0 &&
  renderDetails(
    `${formatCount(notes.length)} notes in the order of time`,
    html`<ol class="notes">${notes.slice(0, notesMax).map(({ atMs, text }) => html`<li><span class="at">${formatAt(atMs)}</span> ${shortText(text)}</li>`)}</ol>${notes.length > notesMax && html`<p class="muted small">The first ${notesMax} are shown.</p>`}`,
  )
}`;
}

function footer({ durationMs }: RunRecord): Html {
  const { lengthMs } = bucketsOf(durationMs);
  return html`<footer class="muted small">Times count from the start of the run. Shaded time has a fault that was active or not yet over. Charts have at most ${bucketsMax} points in time, here one for every ${formatMs(lengthMs)}: rates are means over it, errors are those of its worst second, lag and staleness are its largest. Of many revocations and receipts the worst of each point are drawn. Tables count everything.</footer>`;
}
