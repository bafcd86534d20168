/** Nodes: position, lag and staleness of each node over time, one lane per node. Pure. */
import { type Html, type HtmlValue, html } from "../../../console/index.ts";
import type { NodeSample, NodeSeries, RunRecord } from "../run-record.ts";
import { renderChart, renderLegend, scaleTop, stepPath, stretchPaths } from "./chart.ts";
import { type Buckets, bucketsOf, percentilesOf, worstBuckets } from "./downsample.ts";
import { formatCount, formatMs, shortText } from "./report-text.ts";
import { numericColumns, renderTable } from "./table.ts";
import { axisOf } from "./traffic-charts.ts";

const lanesMax = 24;
const laneHeight = 34;
const plotHeight = 130;

type Measure = Readonly<{
  id: string;
  title: string;
  unit: string;
  read: (sample: NodeSample) => number | null;
  format: (value: number) => string;
}>;

const lag: Measure = {
  id: "lag",
  title: "Lag",
  unit: "events behind the head",
  read: (sample) => sample.lag,
  format: formatCount,
};
const staleness: Measure = {
  id: "staleness",
  title: "Staleness",
  unit: "time since the last lease",
  read: (sample) => sample.stalenessMs,
  format: formatMs,
};

export function nodeSection(record: RunRecord): HtmlValue {
  if (record.nodes.length === 0) return html`<p class="muted">No node was observed.</p>`;
  return html`${positionChart(record)}${lanesChart(record, lag)}${lanesChart(record, staleness)}${nodeTable(record)}`;
}

function positionChart(record: RunRecord): Html {
  const axis = axisOf(record, null);
  const buckets = bucketsOf(record.durationMs);
  const head = worstBuckets(
    record.head.map(({ atMs, position }) => ({ atMs, position, lag: null, stalenessMs: null })),
    buckets,
    (sample) => sample.position,
  );
  const lines = record.nodes.map((node) => worstBuckets(node.samples, buckets, (sample) => sample.position));
  const known = [head, ...lines].flat().filter((value) => value !== null);
  const [low, high] = known.length === 0 ? [0, 1] : [lowest(known), Math.max(lowest(known) + 1, highest(known))];
  const shift = (values: readonly (number | null)[]): readonly (number | null)[] =>
    values.map((value) => (value === null ? null : value - low));
  const shape = { top: high - low, shape: "line" } as const;
  return renderChart({
    id: "positions",
    title: "Positions",
    unit: "events in the log",
    summary: `The log grows from position ${formatCount(low)} to ${formatCount(high)}. A line per node follows the head; a gap means that the node's position was not known.`,
    legend: renderLegend([
      { key: "head", name: "head" },
      { key: "node", name: "a node (each has its colour)" },
    ]),
    height: plotHeight,
    axis,
    ticks: [
      { at: 0, label: formatCount(low) },
      { at: 1, label: formatCount(high) },
    ],
    body: stretchPaths(
      plotHeight,
      html`${lines.slice(0, lanesMax).map((line, index) => html`<path class="node n${index % 6}" d="${stepPath(shift(line), shape)}"/>`)}<path class="head" d="${stepPath(shift(head), shape)}"/>`,
    ),
  });
}

function lowest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
}

function highest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, value), 0);
}

/** Every lane has the same scale, so that the eye compares nodes. */
function lanesChart(record: RunRecord, measure: Measure): Html {
  const { id, title, unit, read, format } = measure;
  const axis = axisOf(record, null);
  const buckets = bucketsOf(record.durationMs);
  const observed = record.nodes.filter((node) => node.samples.some((sample) => read(sample) !== null));
  const shown = observed.slice(0, lanesMax);
  const lanes = shown.map((node) => ({ node, values: worstBuckets(node.samples, buckets, read) }));
  const worst = lanes.map(({ node, values }) => ({ node, max: maxOf(values) }));
  const slowest = worst.reduce(
    (a, b) => ((b.max ?? -1) > (a.max ?? -1) ? b : a),
    worst[0] ?? { node: null, max: null },
  );
  const top = scaleTop(highest(worst.map(({ max }) => max ?? 0)));
  const height = lanes.length * laneHeight;
  const left = observed.length - shown.length;
  const most =
    slowest.max === null || slowest.node === null
      ? "No value was known."
      : `The largest: ${format(slowest.max)}, at ${shortText(slowest.node.node, 80)}.`;
  if (shown.length === 0) return html`<p class="muted">${title}: not known of any node.</p>`;
  return html`${renderChart({
    id,
    title,
    unit: `${unit}; each lane up to ${format(top)}`,
    summary: `One lane per node for which it is known. ${most} A gap means unknown.`,
    height,
    axis,
    ticks: [],
    body: lanes.map(({ node, values }, index) =>
      lane({ node, values, index, top, label: labelOf(node, values, measure) }),
    ),
  })}${left > 0 && html`<p class="muted small">${left} more nodes are in the table, but not in this chart.</p>`}`;
}

function labelOf(node: NodeSeries, values: readonly (number | null)[], { format }: Measure): string {
  const max = maxOf(values);
  return `${shortText(node.node, 40)} · ${max === null ? "unknown" : `max ${format(max)}`}`;
}

function lane(options: {
  node: NodeSeries;
  values: readonly (number | null)[];
  index: number;
  top: number;
  label: string;
}): Html {
  const { values, index, top, label } = options;
  const plot = laneHeight - 16;
  const bottom = (index + 1) * laneHeight;
  return html`<svg y="${bottom - plot}" width="100%" height="${plot}">${stretchPaths(
    plot,
    html`<path class="lane" d="${stepPath(values, { top, shape: "area" })}"/>`,
  )}</svg><line class="grid" x1="0" x2="100%" y1="${bottom}" y2="${bottom}"/><text class="tick" x="2" y="${bottom - plot - 3}">${label}</text>`;
}

function maxOf(values: readonly (number | null)[]): number | null {
  return values.reduce((most, value) => (value === null ? most : Math.max(most ?? value, value)), null);
}

function nodeTable({ nodes, durationMs, head }: RunRecord): Html {
  const buckets = bucketsOf(durationMs);
  const newest = head.at(-1)?.position;
  const rows = nodes.map((node) => {
    const last = node.samples.findLast((sample) => sample.position !== null);
    const lags = percentilesOf(node.samples.map((sample) => sample.lag));
    const ages = percentilesOf(node.samples.map((sample) => sample.stalenessMs));
    return [
      shortText(node.node, 80),
      shortText(node.region, 60),
      shortText(node.role, 40),
      last?.position == null ? "unknown" : formatCount(last.position),
      lags === undefined ? "unknown" : formatCount(lags.p50),
      lags === undefined ? "unknown" : formatCount(lags.max),
      ages === undefined ? "unknown" : formatMs(ages.p50),
      ages === undefined ? "unknown" : formatMs(ages.max),
      unknownShare(node, buckets),
    ];
  });
  return renderTable({
    caption: newest === undefined ? "Nodes" : `Nodes; the head at the end was ${formatCount(newest)}`,
    columns: [
      { head: "Node" },
      { head: "Region" },
      { head: "Role" },
      ...numericColumns("Last position", "Lag, p50", "Lag, max", "Staleness, p50", "Staleness, max", "Time unknown"),
    ],
    rows,
  });
}

function unknownShare(node: NodeSeries, buckets: Buckets): string {
  const known = worstBuckets(node.samples, buckets, (sample) => sample.position ?? sample.stalenessMs);
  const missing = known.filter((value) => value === null).length;
  return missing === 0 ? "none" : formatMs(missing * buckets.lengthMs);
}
