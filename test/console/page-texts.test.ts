/** All words of the pages come from one catalogue, which a translation replaces as a whole. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type PageText, texts } from "../../src/console/index.ts";
import { textFor } from "../../src/console/text/texts.ts";
import { anyReader, pageRenderer } from "../support/pages.ts";
import { pseudoText } from "./browser-support.ts";
import { endedPages, explainedDenials, pages } from "./page-fixtures.ts";

const pseudo = pseudoText(texts[0]);

test("a page in another language has no English word but the reader's own values and the date", () => {
  const render = pageRenderer({ organizationName: "⟦Acme⟧" }, pseudo);
  const explained = explainedDenials.map((page) => ["explained", page] as const);
  const ended = endedPages.map((page) => ["ended", page] as const);
  for (const [name, page] of [...pages, ...explained, ...ended]) {
    const { html } = render(page, anyReader);
    assert.ok(html.includes('<html lang="qps" dir="rtl">'), name);
    const shown = html
      .replace(/^.*<body/s, "<body")
      .replace(/<time[^>]*>[^<]*<\/time>/g, "")
      .replace(/<[^>]*>/g, "\n");
    const values = stringsIn(page).sort((a, b) => b.length - a.length);
    let left = withoutWords(shown);
    for (const value of values) left = left.replaceAll(value.replaceAll("'", "&#39;"), " ");
    assert.doesNotMatch(left.replace(/&#?\w+;/g, " "), /[a-z]{2,}/i, name);
  }
});

/** Words may stand inside words: an item in a sentence. */
function withoutWords(shown: string): string {
  const left = shown.replace(/⟦[^⟦⟧]*⟧/g, " ");
  return left === shown ? left : withoutWords(left);
}

function stringsIn(value: unknown): string[] {
  if (typeof value === "string" && URL.canParse(value)) return [value, new URL(value).host];
  if (typeof value === "string") return value.length > 1 ? [value] : [];
  if (typeof value !== "object" || value === null) return [];
  return [...Object.keys(value), ...Object.values(value)].flatMap(stringsIn);
}

test("the reader's first known language is used, by weight, and English where none is known", () => {
  const german = { ...texts[0], language: "de" } satisfies PageText;
  const known = [texts[0], german] as const;
  for (const [accepted, language] of [
    ["", "en"],
    ["de", "de"],
    ["de-AT,en;q=0.5", "de"],
    ["fr, de;q=0.3, en;q=0.9", "en"],
    ["de;q=0", "en"],
    ["*", "en"],
    [",,;q=x", "en"],
    ["de;q=nonsense, en", "en"],
  ] as const)
    assert.equal(textFor(accepted, known).language, language, accepted);
});
