/** Histogram: the distribution of figures, as lines of text. */

const barMax = 40;

export function percentile(figures: readonly number[], p: number): number {
  const sorted = figures.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * p) / 100))] ?? Number.NaN;
}

/** Buckets that double in width, from the smallest figure to the largest, with a bar for each series. */
export function histogram(series: Readonly<Record<string, readonly number[]>>, unit: string): string {
  const all = Object.values(series).flat();
  const first = 2 ** Math.floor(Math.log2(Math.max(Math.min(...all), Number.MIN_VALUE)));
  const edges: number[] = [];
  for (let edge = first; edge <= Math.max(...all); edge *= Math.SQRT2) edges.push(edge);
  const most = Math.max(...Object.values(series).flatMap((figures) => edges.map((edge) => within(figures, edge))));
  const lines: string[] = [];
  for (const edge of edges) {
    const label = `${edge.toPrecision(3)} – ${(edge * Math.SQRT2).toPrecision(3)} ${unit}`.padStart(22);
    for (const [name, figures] of Object.entries(series)) {
      const count = within(figures, edge);
      const bar = "█".repeat(Math.ceil((count / most) * barMax));
      lines.push(`${name === Object.keys(series)[0] ? label : "".padStart(22)}  ${name.padEnd(9)} ${bar} ${count}`);
    }
  }
  return lines.join("\n");
}

function within(figures: readonly number[], edge: number): number {
  return figures.filter((figure) => figure >= edge && figure < edge * Math.SQRT2).length;
}
