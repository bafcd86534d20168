/**
 * Table: a list as the server sorted and paged it. Pure.
 *
 * It is whole without scripts: sorting and paging are links, a row's first cell is its link. The script adds keys
 * (`j`, `k`, `Enter`, `x`) and the bar of the selection, and without it no row can be selected.
 */
import { operatorApiPrefix } from "../../api/operation-call.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import type { ViewContext } from "../view.ts";
import { formatCount } from "./values.ts";

export type TableColumn = Readonly<{
  key: string;
  label: string;
  /** The value of `sort` in the query; absent: not sortable. A `-` before it sorts downward. */
  sort?: string;
  align?: "end";
  /** A narrow window leaves it to the row's page. */
  wide?: true;
}>;

export type TableRow = Readonly<{
  id: string;
  /** The page of the row, in its first cell; null: it has none. */
  href: string | null;
  cells: readonly HtmlValue[];
  /** Its name for a screen reader, and what a script gets about it. Absent: it cannot be selected. */
  select?: Readonly<{ label: string; values?: Readonly<Record<string, string>> }>;
}>;

export type TableParts = Readonly<{
  id: string;
  caption: string;
  columns: readonly TableColumn[];
  rows: readonly TableRow[];
  /** The cursor of the next page; null: this is the last. */
  next: string | null;
  /** Where the list as CSV is; absent: nowhere. */
  csv?: string;
  /** Buttons of the bar that appears over a selection. */
  selection?: HtmlValue;
  /** In place of a table without rows. */
  empty: HtmlValue;
}>;

export function dataTable(parts: TableParts, context: Pick<ViewContext, "words" | "query" | "path" | "text">): Html {
  const { words } = context;
  const { id, caption, columns, rows, empty } = parts;
  if (rows.length === 0) return html`<div class="empty" id="${id}">${empty}</div>${pagerOf(parts, context)}`;
  const isSelectable = parts.selection !== undefined && rows.some(({ select }) => select !== undefined);
  return html`<div class="table-box"><table id="${id}" data-table${isSelectable && html` data-selectable`}><caption class="quiet">${caption}</caption><thead><tr>${
    isSelectable &&
    html`<th class="mark" scope="col"><input type="checkbox" aria-label="${words.frame.selectAll}" data-select-all></th>`
  }${columns.map((column) => headOf(column, context))}</tr></thead><tbody>${rows.map((row) => rowOf(row, columns, { isSelectable, words }))}</tbody></table></div>${
    isSelectable &&
    html`<div class="selection" data-selection="${id}" data-words="${words.frame.selected(2).replace("2", "{}")}" hidden><output></output>${parts.selection}<button type="button" data-clear>${words.frame.clearSelection}</button></div>`
  }${pagerOf(parts, context)}`;
}

function headOf(
  { label, sort, align, wide }: TableColumn,
  { query, path, words }: Pick<ViewContext, "query" | "path" | "words">,
): Html {
  const classes = [align, wide === true && "wide"].filter(Boolean).join(" ");
  if (sort === undefined) return html`<th scope="col" class="${classes}">${label}</th>`;
  const current = query.get("sort");
  const isUp = current === sort;
  const isDown = current === `-${sort}`;
  const href = linkWith(path, query, { sort: isUp ? `-${sort}` : sort, after: null });
  const order = isUp ? "ascending" : "descending";
  return html`<th scope="col" class="${classes}"${(isUp || isDown) && html` aria-sort="${order}"`}><a href="${href}" title="${words.frame.sortBy(label)}">${label}</a></th>`;
}

function rowOf(
  { id, href, cells, select }: TableRow,
  columns: readonly TableColumn[],
  { isSelectable, words }: Readonly<{ isSelectable: boolean; words: ViewContext["words"] }>,
): Html {
  const values = JSON.stringify(select?.values ?? {});
  return html`<tr data-id="${id}" tabindex="-1"${select !== undefined && html` data-values="${values}"`}>${
    isSelectable &&
    html`<td class="mark">${select !== undefined && html`<input type="checkbox" aria-label="${words.frame.select(select.label)}" data-select>`}</td>`
  }${cells.map((cell, i) => {
    const column = columns[i];
    const classes = [column?.align, column?.wide === true && "wide"].filter(Boolean).join(" ");
    const content = i === 0 && href !== null ? html`<a class="row" href="${href}">${cell}</a>` : cell;
    return html`<td class="${classes}">${content}</td>`;
  })}</tr>`;
}

function pagerOf(
  { next, csv, rows }: TableParts,
  context: Pick<ViewContext, "words" | "query" | "path" | "text">,
): HtmlValue {
  const { words, query, path } = context;
  const links = [
    query.has("after") &&
      html`<a class="button" href="${linkWith(path, query, { after: null })}">${words.frame.first}</a>`,
    next !== null &&
      html`<a class="button" rel="next" href="${linkWith(path, query, { after: next })}">${words.frame.next}</a>`,
    csv !== undefined && rows.length > 0 && html`<a class="button" href="${csv}" download>${words.frame.csv}</a>`,
  ].filter((link) => link !== false);
  return (
    links.length > 0 &&
    html`<nav class="pager" aria-label="${words.frame.moved(rows.length).replace(/\d+/, formatCount(rows.length, context))}">${links}</nav>`
  );
}

/** The whole list of an operation as a file, with its filters. @param path below the prefix of the operator API */
export function csvPath(path: string, query: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams({ format: "csv" });
  for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value);
  return `${operatorApiPrefix}${path}?${search}`;
}

/** The address of the page with other parameters. @param changes null: leaves the parameter out */
export function linkWith(
  path: string,
  query: URLSearchParams,
  changes: Readonly<Record<string, string | null>>,
): string {
  const changed = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) changed.delete(name);
    else changed.set(name, value);
  }
  return changed.size === 0 ? path : `${path}?${changed}`;
}
