/** Sparkline: a row of counts as small bars, drawn on the server, with its summary in words. Pure. */
import { type Html, html } from "../../pages/html.ts";

const height = 32;
const step = 4;

/** @param label what a reader hears in place of the picture */
export function sparkline(counts: readonly number[], label: string): Html {
  const most = Math.max(1, ...counts);
  const width = Math.max(1, counts.length) * step;
  const bars = counts.map((count, i) => {
    const size = count === 0 ? 1 : Math.max(2, Math.round((height * count) / most));
    return html`<rect x="${i * step}" y="${height - size}" width="${step - 1}" height="${size}"/>`;
  });
  return html`<svg class="sparkline" role="img" aria-label="${label}" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none">${bars}</svg>`;
}
