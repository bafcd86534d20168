/** Tables of the report page: each chart's figures as text, and the status mark. Pure. */
import { type Html, type HtmlValue, html } from "../../../console/index.ts";
import type { Tone } from "./report-text.ts";

export type Column = Readonly<{ head: string; numeric?: true }>;

export function numericColumns(...heads: readonly string[]): readonly Column[] {
  return heads.map((head) => ({ head, numeric: true }));
}

const rowsMax = 400;

/**
 * A cell that is null has nothing to say: a dash, or no line in a stacked row. A column of such cells is left out.
 *
 * @param options.narrow on a narrow screen: `scroll` sideways, or `stack` the cells of a row, each with its heading.
 * The roles keep a stacked table a table for screen readers.
 */
export function renderTable(options: {
  caption: string;
  columns: readonly Column[];
  rows: readonly (readonly HtmlValue[])[];
  narrow?: "scroll" | "stack";
}): Html {
  const { caption, narrow = "scroll" } = options;
  const filled = options.columns.map((_, column) => column === 0 || options.rows.some((row) => row[column] !== null));
  const isFilled = (_: unknown, column: number): boolean => filled[column] === true;
  const columns = options.columns.filter(isFilled);
  const rows = options.rows.map((row) => row.filter(isFilled));
  const left = rows.length - rowsMax;
  const cell = (value: HtmlValue, column: number): Html => {
    const { head = "", numeric } = columns[column] ?? {};
    const classes = [numeric === true ? "num" : "", value === null ? "none" : ""].join(" ").trim();
    return column === 0
      ? html`<th scope="row" role="rowheader">${value}</th>`
      : html`<td role="cell" class="${classes}" data-head="${head}">${value ?? "–"}</td>`;
  };
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table role="table" class="${narrow}"><caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${columns.map(({ head, numeric }) => html`<th scope="col" role="columnheader" class="${numeric === true ? "num" : ""}">${head}</th>`)}</tr></thead>
<tbody role="rowgroup">${rows.slice(0, rowsMax).map((row) => html`<tr role="row">${row.map(cell)}</tr>`)}</tbody></table></div>${
    left > 0 && html`<p class="muted small">${left} more rows are in the run record, but not on this page.</p>`
  }`;
}

/** A part that is closed until the reader opens it. */
export function renderDetails(summary: string, body: HtmlValue): Html {
  return html`<details><summary>${summary}</summary>${body}</details>`;
}

/** The symbol and the word say the same as the colour. */
const symbols: Readonly<Record<Tone, string>> = { good: "●", warn: "◐", info: "◆", bad: "✕", off: "○" };

export function renderStatus(tone: Tone, word: string): Html {
  return html`<span class="status ${tone}"><i aria-hidden="true">${symbols[tone]}</i> ${word}</span>`;
}
