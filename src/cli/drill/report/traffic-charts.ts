/** Traffic: request rate and errors, one chart per region. Pure. */
import { type Html, type HtmlValue, html } from "../../../console/index.ts";
import type { RunRecord, TrafficSecond, TrafficSeries } from "../run-record.ts";
import { linearTicks, renderChart, renderLegend, scaleTop, stepPath, stretchPaths, type TimeAxis } from "./chart.ts";
import { bandsOf, bucketsOf, trafficBuckets } from "./downsample.ts";
import { formatCount, formatShare, shortText } from "./report-text.ts";
import { numericColumns, renderTable } from "./table.ts";

const regionsMax = 12;
const rateHeight = 110;
const errorHeight = 28;
/** Between the rates and the errors, for the label of the errors. */
const gapHeight = 24;
const chartHeight = rateHeight + gapHeight + errorHeight;

export function trafficSection(record: RunRecord): HtmlValue {
  const byRegion = [...Map.groupBy(record.traffic, ({ region }) => region)];
  if (byRegion.length === 0) return html`<p class="muted">No request was counted.</p>`;
  const left = byRegion.length - regionsMax;
  return html`<div class="charts">${byRegion.slice(0, regionsMax).map(([region, series], index) => regionChart(record, { region, series, index }))}</div>
${left > 0 && html`<p class="muted small">The charts of ${left} more regions are left out; the table has them.</p>`}
${trafficTable(record)}`;
}

type RegionTraffic = Readonly<{ region: string; series: readonly TrafficSeries[]; index: number }>;

function regionChart(record: RunRecord, { region, series, index }: RegionTraffic): Html {
  const axis = axisOf(record, region);
  const buckets = bucketsOf(record.durationMs);
  const seconds = series.flatMap((one) => one.seconds);
  const points = trafficBuckets(seconds, buckets);
  const top = scaleTop(Math.max(0, ...points.map((point) => (point === null ? 0 : point.permitted + point.refused))));
  const permitted = points.map((point) => point?.permitted ?? null);
  const answered = points.map((point) => (point === null ? null : point.permitted + point.refused));
  const totals = totalsOf(seconds);
  const errorTop = Math.max(1, ...points.map((point) => point?.errorsMax ?? 0));
  const name = shortText(region, 60);
  const summary =
    `${formatCount(totals.all)} requests in ${name}: ${formatCount(totals.permitted)} permitted, ${formatCount(totals.refused)} refused, ` +
    `${formatCount(totals.errors)} errors (${formatShare(totals.errors, totals.all)}). Shaded: time with a fault.`;
  // A single error stays visible beside a thousand.
  const errors = points.map((point) =>
    point === null || point.errorsMax === 0 ? null : Math.max(point.errorsMax, errorTop / 8),
  );
  return renderChart({
    id: `traffic-${index}`,
    title: name,
    unit: "requests per second",
    summary,
    legend: renderLegend([
      { key: "permitted", name: "permitted" },
      { key: "refused", name: "refused" },
      { key: "error", name: "errors (below)" },
    ]),
    height: chartHeight,
    axis,
    ticks: linearTicks(top).map(({ at, label }) => ({ at: 1 - ((1 - at) * rateHeight) / chartHeight, label })),
    body: html`${stretchPaths(
      rateHeight,
      html`<path class="refused" d="${stepPath(answered, { top, shape: "area" })}"/><path class="permitted" d="${stepPath(permitted, { top, shape: "area" })}"/>${[permitted, answered].map((values) => html`<path class="outline" d="${stepPath(values, { top, shape: "line" })}"/>`)}`,
    )}<line class="base" x1="0" x2="100%" y1="${rateHeight}" y2="${rateHeight}"/><text class="tick" x="2" y="${rateHeight + gapHeight - 7}">${totals.errors === 0 ? "no errors" : `errors, up to ${formatCount(errorTop)}/s`}</text><svg y="${rateHeight + gapHeight}" width="100%" height="${errorHeight}">${stretchPaths(errorHeight, html`<path class="error" d="${stepPath(errors, { top: errorTop, shape: "area" })}"/>`)}</svg>`,
  });
}

/** A chart of a region is shaded by the faults of that region and those of no single region. */
export function axisOf(record: RunRecord, region: string | null): TimeAxis {
  const { durationMs, faults } = record;
  const own = faults.filter((fault) => region === null || fault.region === null || fault.region === region);
  return { durationMs, bands: bandsOf(own, durationMs) };
}

type Totals = Readonly<{ all: number; permitted: number; refused: number; errors: number; worst: number }>;

function totalsOf(seconds: readonly TrafficSecond[]): Totals {
  let [permitted, refused, errors, worst] = [0, 0, 0, 0];
  for (const one of seconds) {
    permitted += one.permitted;
    refused += one.refused;
    errors += one.unavailable + one.failed;
    worst = Math.max(worst, one.unavailable + one.failed);
  }
  return { all: permitted + refused + errors, permitted, refused, errors, worst };
}

function trafficTable(record: RunRecord): Html {
  const sources = new Set(record.traffic.map(({ source }) => source));
  const rows = record.traffic.map(({ region, source, seconds }) => {
    const { bands } = axisOf(record, region);
    const within = totalsOf(
      seconds.filter(({ atMs }) => bands.some((b) => atMs + 1_000 > b.fromMs && atMs < b.untilMs)),
    );
    const all = totalsOf(seconds);
    const outside = { all: all.all - within.all, errors: all.errors - within.errors };
    return [
      shortText(region, 60),
      sources.size === 1 ? null : shortText(source, 60),
      formatCount(all.all),
      formatCount(all.permitted),
      formatCount(all.refused),
      formatCount(all.errors),
      formatShare(outside.errors, outside.all),
      formatShare(within.errors, within.all),
      formatCount(all.worst),
    ];
  });
  return renderTable({
    caption: "Requests by region",
    columns: [
      { head: "Region" },
      { head: "Source" },
      ...numericColumns(
        "Requests",
        "Permitted",
        "Refused",
        "Errors",
        "Errors outside faults",
        "Errors during faults",
        "Errors, worst second",
      ),
    ],
    rows,
  });
}
