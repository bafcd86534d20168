// @ts-check
/**
 * Tables: rows by keys, selection, and the bar that says how many are selected.
 *
 * A selection that changes is announced as the event `selection` of its table, whose `detail` has the rows' values.
 */
import { fill, find } from "./dom.js";

/** @returns {HTMLTableRowElement[]} */
const rowsHere = () =>
  [...document.querySelectorAll("table[data-table] tbody tr")].filter((row) => row instanceof HTMLTableRowElement);

/** @param {1 | -1} by */
export const moveRow = (by) => {
  const rows = rowsHere();
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at === -1 ? (by === 1 ? 0 : rows.length - 1) : at + by];
  if (next === undefined) return;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
};

export const currentRow = () => rowsHere().find((row) => row.contains(document.activeElement)) ?? null;

export const openRow = () => find("a.row", HTMLAnchorElement, currentRow() ?? document.createElement("tr"))?.click();

export const selectRow = () => {
  const box = find("input[data-select]", HTMLInputElement, currentRow() ?? document.createElement("tr"));
  if (box === null) return;
  box.checked = !box.checked;
  box.dispatchEvent(new Event("change", { bubbles: true }));
};

/** The selected rows of a table: id, and the values that the server gave with each. @param {Element} table */
export const selectionOf = (table) =>
  [...table.querySelectorAll("tbody tr")].flatMap((row) => {
    const isSelected = find("input[data-select]", HTMLInputElement, row)?.checked === true;
    if (!isSelected || !(row instanceof HTMLElement)) return [];
    return [{ id: row.dataset["id"] ?? "", values: JSON.parse(row.dataset["values"] ?? "{}") }];
  });

/** @param {HTMLTableElement} table */
const enable = (table) => {
  const bar = find(`[data-selection="${CSS.escape(table.id)}"]`, HTMLElement);
  const all = find("input[data-select-all]", HTMLInputElement, table);
  const boxes = [...table.querySelectorAll("input[data-select]")].filter((box) => box instanceof HTMLInputElement);
  const update = () => {
    const selected = selectionOf(table);
    for (const box of boxes) box.closest("tr")?.toggleAttribute("data-selected", box.checked);
    if (all !== null) {
      all.checked = selected.length > 0 && selected.length === boxes.length;
      all.indeterminate = selected.length > 0 && selected.length < boxes.length;
    }
    if (bar !== null) {
      bar.hidden = selected.length === 0;
      const output = bar.querySelector("output");
      if (output !== null) output.textContent = fill(bar.dataset["words"] ?? "{}", selected.length);
    }
    table.dispatchEvent(new CustomEvent("selection", { bubbles: true, detail: selected }));
  };
  const setAll = (/** @type {boolean} */ checked) => {
    for (const box of boxes) box.checked = checked;
    update();
  };
  table.addEventListener("change", (event) => {
    if (event.target === all && all !== null) setAll(all.checked);
    else update();
  });
  find("[data-clear]", HTMLElement, bar ?? document.createElement("div"))?.addEventListener("click", () =>
    setAll(false),
  );
  update();
};
for (const table of document.querySelectorAll("table[data-selectable]"))
  if (table instanceof HTMLTableElement) enable(table);
