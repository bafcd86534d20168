/**
 * Filter bar: a form whose fields are the query of the address, and a chip for each filter that is set. Pure.
 *
 * Addresses hold ids, never e-mails: a view that gets the e-mail of a person redirects to the address with the id.
 */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import type { ViewContext } from "../view.ts";
import { linkWith } from "./table.ts";

export type FilterField = Readonly<{
  name: string;
  label: string;
  /** The choices of a list, as value and label; absent: text. */
  choices?: readonly (readonly [value: string, label: string])[];
  type?: "search" | "text" | "datetime-local" | "number";
  placeholder?: string;
  /** What is set; absent: what the query says. */
  value?: string;
  /** `/` goes to this field. */
  main?: true;
}>;

/** A filter that is set. */
export type FilterChip = Readonly<{ name: string; label: string }>;

export function filterBar(
  {
    fields,
    chips = [],
    kept = [],
    found = null,
  }: Readonly<{
    fields: readonly FilterField[];
    chips?: readonly FilterChip[];
    /** Parameters that the form keeps, beside those of its fields. */
    kept?: readonly string[];
    /** How much matches: "3 of 412". */
    found?: HtmlValue;
  }>,
  { words, query, path }: Pick<ViewContext, "words" | "query" | "path">,
): Html {
  const hidden = kept.filter((name) => query.has(name) && !fields.some((field) => field.name === name));
  return html`<form class="filters" method="get" action="${path}" role="search">${fields.map((field) => fieldOf(field, query))}${hidden.map(
    (name) => html`<input type="hidden" name="${name}" value="${query.get(name)}">`,
  )}<button type="submit">${words.frame.apply}</button>${
    chips.length > 0 &&
    html`<span class="chips">${chips.map(
      ({ name, label }) =>
        html`<a class="chip set" href="${linkWith(path, query, { [name]: null, after: null })}" aria-label="${words.frame.remove(label)}">${label} <span aria-hidden="true">×</span></a>`,
    )}</span>`
  }${found !== null && html`<span class="found">${found}</span>`}</form>`;
}

function fieldOf(
  { name, label, choices, type = "search", placeholder, value, main }: FilterField,
  query: URLSearchParams,
): Html {
  const current = value ?? query.get(name) ?? "";
  const control =
    choices === undefined
      ? html`<input type="${type}" name="${name}" value="${current}" placeholder="${placeholder ?? label}" maxlength="200" autocomplete="off" spellcheck="false"${
          main === true && html` data-filter aria-keyshortcuts="/"`
        }>`
      : html`<select name="${name}">${choices.map(
          ([choice, words]) =>
            html`<option value="${choice}"${choice === current && html` selected`}>${words}</option>`,
        )}</select>`;
  return html`<label><span class="quiet">${label}</span>${control}</label>`;
}
