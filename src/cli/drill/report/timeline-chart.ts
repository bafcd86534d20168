/** Timeline: every fault as a bar, in lanes by region; hatched until everything worked again. Pure. */
import { type Html, html } from "../../../console/index.ts";
import type { RunFault, RunRecord } from "../run-record.ts";
import { percentAt, renderChart, renderLegend, widthPercent } from "./chart.ts";
import { faultName, formatAt, formatCount, shortText } from "./report-text.ts";

const barHeight = 16;
const headHeight = 18;
const lanesMax = 12;
const barsMax = 600;
/** More numbers than these would cover each other. */
const numberedMax = 80;

type Placed = Readonly<{ fault: RunFault; number: number; lane: number }>;

export function timelineChart({ faults, durationMs, topology }: RunRecord): Html {
  const axis = { durationMs, bands: [] };
  const numbered = faults.map((fault, index) => ({ fault, number: index + 1 })).slice(0, barsMax);
  const known = topology.regions.map(({ name }) => name);
  const groups = [...Map.groupBy(numbered, ({ fault }) => fault.region ?? "")].sort(
    ([a], [b]) => rankOf(a, known) - rankOf(b, known),
  );
  let y = 0;
  const rows: Html[] = [];
  for (const [region, own] of groups) {
    const placed = place(own);
    const lanes = 1 + placed.reduce((most, { lane }) => Math.max(most, lane), 0);
    const top = y + headHeight;
    rows.push(
      html`<text class="tick strong" x="2" y="${y + 13}">${region === "" ? "all regions" : shortText(region, 60)}</text>${placed.map((one) => bar(axis, top, one, faults.length <= numberedMax))}`,
    );
    y = top + lanes * (barHeight + 3) + 6;
  }
  const kinds = [...Map.groupBy(faults, ({ name }) => name)]
    .sort(([, a], [, b]) => b.length - a.length)
    .map(([name, all]) => `${all.length} × ${shortText(name, 60)}`);
  return renderChart({
    id: "timeline",
    title: "Timeline of faults",
    unit: "",
    summary: `${formatCount(faults.length)} faults: ${kinds.slice(0, 30).join(", ")}.`,
    legend: renderLegend([
      { key: "fault", name: "active" },
      { key: "after", name: "until everything worked again" },
      ...(faults.some(({ problem }) => problem !== null) ? [{ key: "failed", name: "could not be injected" }] : []),
    ]),
    height: y,
    axis,
    ticks: [],
    body: rows,
  });
}

/** Faults of all regions first, then the regions in the order of the topology. */
function rankOf(region: string, known: readonly string[]): number {
  if (region === "") return -1;
  const index = known.indexOf(region);
  return index < 0 ? known.length : index;
}

/** The first lane that is free. Beyond `lanesMax` bars overlap in the last one. */
function place(own: readonly Readonly<{ fault: RunFault; number: number }>[]): readonly Placed[] {
  const busyUntil: number[] = [];
  return own
    .toSorted((a, b) => a.fault.fromMs - b.fault.fromMs)
    .map(({ fault, number }) => {
      const free = busyUntil.findIndex((until) => until <= fault.fromMs);
      const lane = free >= 0 ? free : Math.min(busyUntil.length, lanesMax - 1);
      busyUntil[lane] = Math.max(busyUntil[lane] ?? 0, fault.clearMs ?? fault.untilMs);
      return { fault, number, lane };
    });
}

function bar(
  axis: Readonly<{ durationMs: number }>,
  top: number,
  { fault, number, lane }: Placed,
  withNumber: boolean,
): Html {
  const y = top + lane * (barHeight + 3);
  const { fromMs, untilMs, clearMs, problem } = fault;
  const x = percentAt(axis, fromMs);
  const until = `until ${formatAt(untilMs)}${clearMs === null ? "" : `, everything worked at ${formatAt(clearMs)}`}`;
  const title = `${number}. ${faultName(fault)}: ${formatAt(fromMs)} ${problem === null ? until : `failed: ${shortText(problem, 120)}`}`;
  return html`<g>${clearMs !== null && clearMs > untilMs && html`<rect class="after" x="${percentAt(axis, untilMs)}" y="${y}" width="${widthPercent(axis, untilMs, clearMs)}" height="${barHeight}" fill="url(#hatch)"/>`}<rect class="${problem === null ? "fault" : "fault failed"}" x="${x}" y="${y}" width="${widthPercent(axis, fromMs, untilMs)}" height="${barHeight}"/>${withNumber && html`<text class="${problem === null ? "number" : "number failed"}" x="${x}" y="${y + 12}" dx="3">${number}</text>`}<title>${title}</title></g>`;
}
