/**
 * Chart: the frame that every chart of the report shares: one time axis, fault bands, a scale, a text alternative.
 *
 * - Text and marks keep their size at every width: x coordinates are percentages. Only lines and areas are stretched,
 *   in a nested SVG with a stroke that does not scale.
 * - The labels of a scale have a gutter of their own at the left, the same in every chart: no mark covers them, and the
 *   same time is at the same place from chart to chart.
 * - A chart is one image to a screen reader, described by its summary. The table below it has the figures.
 *
 * Pure.
 */
import { type Html, type HtmlValue, html } from "../../../console/index.ts";
import type { RunFault } from "../run-record.ts";
import type { Band } from "./downsample.ts";
import { faultName, formatAt, formatCount, shortText } from "./report-text.ts";

export type TimeAxis = Readonly<{ durationMs: number; bands: readonly Band[] }>;

/** A place on the time axis as an SVG coordinate. */
export function percentAt({ durationMs }: Pick<TimeAxis, "durationMs">, atMs: number): string {
  const share = Math.min(1, Math.max(0, atMs / Math.max(1, durationMs)));
  return `${Number((share * 100).toFixed(2))}%`;
}

/** At least half a percent, so that a short fault stays visible. */
export function widthPercent(axis: Pick<TimeAxis, "durationMs">, fromMs: number, untilMs: number): string {
  const [from, until] = [fromMs, untilMs].map((at) => Math.min(axis.durationMs, Math.max(0, at)));
  const share = ((until ?? 0) - (from ?? 0)) / Math.max(1, axis.durationMs);
  return `${Number((Math.max(0.005, share) * 100).toFixed(2))}%`;
}

const labelHeight = 14;

export type ChartOptions = Readonly<{
  /** Unique on the page. */
  id: string;
  title: string;
  /** The unit of the scale: `requests per second`. */
  unit: string;
  /** What the chart shows, in a sentence or two, for people who do not see it. */
  summary: string;
  legend?: HtmlValue;
  /** Height in pixels of the plot. */
  height: number;
  axis: TimeAxis;
  /** Marks at this height, from 0 (bottom) to 1 (top). */
  ticks: readonly Readonly<{ at: number; label: string }>[];
  /** Drawn over bands and scale; `y` grows downwards, from 0 to `height`. */
  body: HtmlValue;
}>;

export function renderChart(options: ChartOptions): Html {
  const { id, title, unit, summary, legend, height, axis, ticks, body } = options;
  const whole = height + labelHeight;
  return html`<figure class="chart" id="${id}">
<figcaption><b>${title}</b><span class="muted">${unit}</span>${legend}</figcaption>
<svg class="plot" width="100%" height="${whole + 20}" role="img" aria-labelledby="${id}-t ${id}-d"><title id="${id}-t">${title}</title><desc id="${id}-d">${shortText(summary, 1_000)}</desc>
<svg y="${labelHeight}" width="100%" height="${height}" overflow="visible">${bandRects(axis, height)}
${ticks.map(({ at }) => gridLine(height * (1 - at)))}
${body}${ticks.map(({ at, label }) => html`<text class="tick" x="-6" y="${(height * (1 - at) + 4).toFixed(1)}" text-anchor="end">${label}</text>`)}</svg>
${timeLabels(axis, whole)}</svg>
</figure>`;
}

/** What the colours mean. An entry does not break between its key and its name. */
export function renderLegend(entries: readonly Readonly<{ key: string; name: string }>[]): Html {
  return html`<span class="legend">${entries.map(({ key, name }) => html`<span><i class="key ${key}"></i> ${name}</span>`)}</span>`;
}

export function bandRects(axis: TimeAxis, height: number): Html {
  return html`<g class="bands">${axis.bands.map(
    (band) =>
      html`<rect x="${percentAt(axis, band.fromMs)}" width="${widthPercent(axis, band.fromMs, band.untilMs)}" height="${height}"><title>${bandTitle(band)}</title></rect>`,
  )}</g>`;
}

const namedMax = 3;

function bandTitle({ fromMs, untilMs, faults }: Band): string {
  const names = faults.slice(0, namedMax).map((fault: RunFault) => shortText(faultName(fault), 50));
  const others = faults.length > namedMax ? ` and ${faults.length - namedMax} more` : "";
  return `${formatAt(fromMs)} to ${formatAt(untilMs)}: ${names.join(", ")}${others}`;
}

function gridLine(y: number): Html {
  return html`<line class="grid" x1="0" x2="100%" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/>`;
}

const stepsS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
const labelsMax = 8;

/** Every other label is left out on a narrow screen. */
export function timeLabels(axis: TimeAxis, y: number): Html {
  const seconds = axis.durationMs / 1_000;
  const step = stepsS.find((one) => seconds / one <= labelsMax) ?? Math.ceil(seconds / labelsMax);
  const labels: Html[] = [];
  for (let at = 0, index = 0; at <= seconds && index <= labelsMax; at += step, index++) {
    const x = percentAt(axis, at * 1_000);
    const anchor = at === 0 ? "start" : at > seconds * 0.94 ? "end" : "middle";
    const odd = index % 2 === 1 ? "odd" : "even";
    labels.push(
      html`<g class="${odd}"><line class="mark" x1="${x}" x2="${x}" y1="${y}" y2="${y + 4}"/><text class="time" x="${x}" y="${y + 16}" text-anchor="${anchor}">${timeLabel(at, step)}</text></g>`,
    );
  }
  return html`<line class="base" x1="0" x2="100%" y1="${y}" y2="${y}"/>${labels}`;
}

function timeLabel(s: number, step: number): string {
  if (step < 60 && s < 120) return `${s} s`;
  if (step < 3_600 || s % 3_600 !== 0) return s % 60 === 0 ? `${s / 60} min` : `${(s / 60).toFixed(1)} min`;
  return `${s / 3_600} h`;
}

/** A round number at or above the value: the top of a linear scale. */
export function scaleTop(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= value) ?? 10) * power;
}

export function linearTicks(
  top: number,
  format: (value: number) => string = formatCount,
): readonly Readonly<{ at: number; label: string }>[] {
  return [
    { at: 0.5, label: format(top / 2) },
    { at: 1, label: format(top) },
  ];
}

/** The stretched part of a chart: a path in a box of 1,000 × 100, with y growing upwards. */
export function stretchPaths(height: number, paths: HtmlValue): Html {
  return html`<svg width="100%" height="${height}" viewBox="0 0 1000 100" preserveAspectRatio="none">${paths}</svg>`;
}

export type PathShape = "area" | "line";

/** A step line over equal buckets; null makes a gap. `top`: the value at the upper edge. */
export function stepPath(
  values: readonly (number | null)[],
  { top, shape }: { top: number; shape: PathShape },
): string {
  const width = 1_000 / Math.max(1, values.length);
  const y = (value: number): string => String(Number((100 - 100 * Math.min(1, value / top)).toFixed(1)));
  const x = (index: number): string => String(Number((index * width).toFixed(1)));
  let path = "";
  let open = false;
  for (const [index, value] of values.entries()) {
    if (value === null) {
      if (open) path += shape === "area" ? "V100Z" : "";
      open = false;
      continue;
    }
    if (!open) path += shape === "area" ? `M${x(index)},100V${y(value)}` : `M${x(index)},${y(value)}`;
    else path += `V${y(value)}`;
    path += `H${x(index + 1)}`;
    open = true;
  }
  return open && shape === "area" ? `${path}V100Z` : path;
}
