/** Revocations and receipts: how long each took, by time, and which nodes a receipt waited for. Pure. */
import { type Html, type HtmlValue, html } from "../../../console/index.ts";
import type { ReceiptMeasure, ReceiptNodeMeasure, RevocationMeasure, RunRecord } from "../run-record.ts";
import { percentAt, renderChart } from "./chart.ts";
import { bucketsOf, percentilesOf, worstFew } from "./downsample.ts";
import { formatAt, formatCount, formatMs, shortText, type Tone } from "./report-text.ts";
import { numericColumns, renderDetails, renderStatus, renderTable } from "./table.ts";
import { axisOf } from "./traffic-charts.ts";

const marksMax = 480;
const plotHeight = 170;

type Measure = "acknowledgedMs" | "enforcedMs" | "completeMs";
const measures: readonly Readonly<{ key: Measure; name: string; mark: string }>[] = [
  { key: "acknowledgedMs", name: "acknowledged", mark: "m-circle" },
  { key: "enforcedMs", name: "last node refuses", mark: "m-triangle" },
  { key: "completeMs", name: "receipt complete", mark: "m-square" },
];

/** The marks that `<use>` refers to; once on the page. */
export const marks: Html = html`<svg class="defs" width="0" height="0" aria-hidden="true"><defs><circle id="m-circle" r="3.5"/><path id="m-triangle" d="M0,-4.5L4.3,3.5H-4.3Z"/><rect id="m-square" x="-3.2" y="-3.2" width="6.4" height="6.4"/><path id="m-cross" d="M-4,-4L4,4M-4,4L4,-4"/><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch" width="2" height="6"/></pattern></defs></svg>`;

export function revocationSection(record: RunRecord): HtmlValue {
  const { revocations } = record;
  if (revocations.length === 0) return html`<p class="muted">Nothing was revoked.</p>`;
  return html`${latencyChart(record)}${latencyTable(revocations)}`;
}

/** A run need not be able to measure everything: what it never measured has no mark and no row. */
function measuredIn(revocations: readonly RevocationMeasure[]): typeof measures {
  return measures.filter(({ key }) => revocations.some((one) => one[key] !== null));
}

function latencyChart(record: RunRecord): Html {
  const { revocations } = record;
  const axis = axisOf(record, null);
  const drawn = measuredIn(revocations);
  const slowest = (one: RevocationMeasure): number =>
    Math.max(0, ...drawn.map(({ key }) => one[key] ?? Number.POSITIVE_INFINITY));
  const shown = worstFew(revocations, {
    buckets: bucketsOf(record.durationMs),
    max: Math.floor(marksMax / measures.length),
    badness: slowest,
  });
  const values = revocations.flatMap((one) => drawn.map(({ key }) => one[key]));
  const top = logTop(Math.max(10, ...values.filter((value) => value !== null)));
  const y = (ms: number): number => plotHeight * (1 - logShare(ms, top));
  const summary = measures
    .map(({ key, name }) => {
      const found = percentilesOf(revocations.map((one) => one[key]));
      return found === undefined
        ? `${name}: never measured`
        : `${name}: half within ${formatMs(found.p50)}, slowest ${formatMs(found.max)}`;
    })
    .join("; ");
  return renderChart({
    id: "revocations",
    title: "Revocation latency",
    unit: "since the command was sent; logarithmic",
    summary: `${formatCount(revocations.length)} revocations. ${summary}.`,
    legend: html`<span class="legend">${drawn.map(({ name, mark }) => html`<span><svg class="mark-key" viewBox="-6 -6 12 12" aria-hidden="true"><use class="${mark}" href="#${mark}"/></svg> ${name}</span>`)}</span>`,
    height: plotHeight,
    axis,
    ticks: logTicks(top),
    body: shown.map((one) =>
      drawn.map(({ key, name, mark }) => {
        const ms = one[key];
        return (
          ms !== null &&
          html`<svg x="${percentAt(axis, one.atMs)}" y="${y(ms).toFixed(1)}" overflow="visible"><use class="${mark}" href="#${mark}"><title>${formatAt(one.atMs)}: ${one.what} from ${one.region}, ${name} after ${formatMs(ms)}</title></use></svg>`
        );
      }),
    ),
  });
}

const logBottomMs = 1;

function logTop(ms: number): number {
  return 10 ** Math.ceil(Math.log10(ms));
}

function logShare(ms: number, top: number): number {
  return Math.min(1, Math.max(0, Math.log10(Math.max(logBottomMs, ms)) / Math.log10(top)));
}

function logTicks(top: number): readonly Readonly<{ at: number; label: string }>[] {
  const decades = Math.round(Math.log10(top));
  return Array.from({ length: decades }, (_, index) => ({
    at: (index + 1) / decades,
    label: formatTick(10 ** (index + 1)),
  }));
}

function formatTick(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : `${formatCount(ms / 1_000)} s`;
}

function latencyTable(revocations: readonly RevocationMeasure[]): Html {
  const regions = [...Map.groupBy(revocations, ({ region }) => region)];
  const rows = regions.flatMap(([region, all]) =>
    measuredIn(revocations).map(({ key, name }) => {
      const found = percentilesOf(all.map((one) => one[key]));
      const times =
        found === undefined ? [null, null, null, null] : [found.p50, found.p90, found.p99, found.max].map(formatMs);
      return [
        shortText(region, 60),
        name,
        formatCount(all.length),
        formatCount(all.length - (found?.count ?? 0)),
        ...times,
      ];
    }),
  );
  return renderTable({
    caption: "Revocation latency by region of the command",
    columns: [
      { head: "Region" },
      { head: "Until" },
      ...numericColumns("Revocations", "Not measured", "p50", "p90", "p99", "Slowest"),
    ],
    rows,
  });
}

// --- receipts

const receiptWords: Readonly<Record<ReceiptMeasure["status"], Readonly<{ tone: Tone; word: string }>>> = {
  complete: { tone: "good", word: "Complete" },
  local: { tone: "info", word: "Local" },
  incomplete: { tone: "warn", word: "Incomplete" },
  none: { tone: "off", word: "No answer" },
  lost: { tone: "bad", word: "Lost" },
};
const receiptStatuses = [
  "complete",
  "local",
  "incomplete",
  "none",
  "lost",
] as const satisfies readonly ReceiptMeasure["status"][];
const nodeWords: Readonly<Record<ReceiptNodeMeasure["status"], Readonly<{ tone: Tone; word: string }>>> = {
  applied: { tone: "good", word: "Applied" },
  fenced: { tone: "info", word: "Fenced" },
  unconfirmed: { tone: "warn", word: "Unconfirmed" },
  "not seen": { tone: "off", word: "Not seen" },
};
const laneHeight = 32;
const labelHeight = 16;

export function receiptSection(record: RunRecord): HtmlValue {
  const { receipts } = record;
  if (receipts.length === 0) return html`<p class="muted">No receipt was requested.</p>`;
  const open = receipts.filter((one) => one.status !== "complete");
  return html`${receiptChart(record)}${receiptNodeTable(receipts)}${
    open.length > 0 &&
    renderDetails(
      `${formatCount(open.length)} receipts that were not complete when they were answered${open.length > openMax ? `; the first ${openMax}` : ""}`,
      openTable(open),
    )
  }`;
}

/** One lane per status; a mark per receipt at the time of its answer. */
function receiptChart(record: RunRecord): Html {
  const axis = axisOf(record, null);
  const { receipts } = record;
  const lanes = receiptStatuses.filter(
    (one) => one === "complete" || receipts.some((receipt) => receipt.status === one),
  );
  const byLane = lanes.map((lane) => receipts.filter((one) => one.status === lane));
  const shown = byLane.map((all) =>
    worstFew(all, {
      buckets: bucketsOf(record.durationMs),
      max: Math.floor(marksMax / lanes.length),
      badness: ({ afterMs }) => afterMs,
    }),
  );
  const counts = byLane.map(({ length }) => length);
  const height = lanes.length * laneHeight;
  return renderChart({
    id: "receipts",
    title: "Receipts",
    unit: "by the time of the request",
    summary: `${formatCount(receipts.length)} receipts: ${lanes.map((lane, index) => `${formatCount(counts[index] ?? 0)} ${receiptWords[lane].word.toLowerCase()}`).join(", ")}.`,
    height,
    axis,
    ticks: [],
    body: html`${lanes.map((lane, index) => html`<text class="tick" x="2" y="${index * laneHeight + labelHeight - 4}">${receiptWords[lane].word} · ${formatCount(counts[index] ?? 0)}</text>`)}
${shown
  .flat()
  .map(
    (one) =>
      html`<rect class="receipt ${receiptWords[one.status].tone}" x="${percentAt(axis, one.atMs)}" y="${lanes.indexOf(one.status) * laneHeight + labelHeight}" width="3" height="${laneHeight - labelHeight - 3}"><title>${formatAt(one.atMs)}: ${one.what} from ${one.region}, ${receiptWords[one.status].word.toLowerCase()} after ${formatMs(one.afterMs)}</title></rect>`,
  )}`,
  });
}

function receiptNodeTable(receipts: readonly ReceiptMeasure[]): Html {
  const nodes = Map.groupBy(
    receipts.flatMap((receipt) => receipt.nodes),
    ({ node }) => node,
  );
  const rows = [...nodes].map(([node, all]) => {
    const count = (wanted: ReceiptNodeMeasure["status"]): string =>
      formatCount(all.filter((one) => one.status === wanted).length);
    const times = percentilesOf(all.filter((one) => one.status === "applied").map(({ afterMs }) => afterMs));
    return [
      shortText(node, 80),
      shortText(all[0]?.region ?? "", 60),
      count("applied"),
      count("fenced"),
      count("unconfirmed"),
      times === undefined ? null : formatMs(times.p50),
      times === undefined ? null : formatMs(times.max),
    ];
  });
  return renderTable({
    caption: "What the receipts say of each node",
    columns: [
      { head: "Node" },
      { head: "Region" },
      ...numericColumns("Applied", "Fenced", "Unconfirmed", "Applied after, p50", "Slowest"),
    ],
    rows,
  });
}

const nodesNamedMax = 6;
const openMax = 100;

function openTable(open: readonly ReceiptMeasure[]): Html {
  const nodesOf = ({ nodes }: ReceiptMeasure): HtmlValue => {
    const missing = nodes.filter((node) => node.status !== "applied");
    const rest = missing.length - nodesNamedMax;
    if (missing.length === 0) return null;
    return html`${missing
      .slice(0, nodesNamedMax)
      .map(
        (node) =>
          html`<div>${renderStatus(nodeWords[node.status].tone, nodeWords[node.status].word)} ${shortText(node.node, 80)}${node.reason !== "" && html`<span class="muted">: ${shortText(node.reason, 160)}</span>`}</div>`,
      )}${rest > 0 && html`<div class="muted">and ${rest} more</div>`}`;
  };
  return renderTable({
    caption: "Receipts that were not complete",
    columns: [
      { head: "At" },
      { head: "Change" },
      { head: "Status" },
      { head: "After", numeric: true },
      { head: "Nodes" },
    ],
    rows: open
      .slice(0, openMax)
      .map((one) => [
        formatAt(one.atMs),
        `${shortText(one.what, 80)} from ${shortText(one.region, 60)}`,
        renderStatus(receiptWords[one.status].tone, receiptWords[one.status].word),
        formatMs(one.afterMs),
        nodesOf(one),
      ]),
  });
}
