/** Checks of pages in a browser that several tests share. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import type { PageText } from "../../src/console/index.ts";

export const sizes = [
  [375, 700],
  [768, 900],
  [1280, 900],
] as const;

/** A catalogue that is 40 % longer, marked, and right to left: what it does not cover stands out. */
export function pseudoText(text: PageText): PageText {
  return { ...(lengthened(text) as PageText), language: "qps", direction: "rtl" };
}

function lengthened(value: unknown): unknown {
  if (typeof value === "string") return `⟦${value}${"~".repeat(Math.ceil(value.length * 0.4))}⟧`;
  if (typeof value === "function") return (...values: unknown[]) => lengthened(value(...values));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, lengthened(inner)]));
}

/** Where pictures are saved; undefined: nowhere. */
export const pictures = process.env["SCREENSHOTS"];

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

type AxeResult = Readonly<{
  violations: readonly Readonly<{ id: string; help: string; nodes: readonly Readonly<{ html: string }>[] }>[];
}>;

/** The page's context must bypass its content security policy, which refuses every script but its own. */
export async function checkAxe(page: Page, what: string): Promise<void> {
  if (!(await page.evaluate("typeof axe === 'object'"))) await page.evaluate(axe);
  const { violations } = (await page.evaluate(
    "axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })",
  )) as AxeResult;
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(found, [], what);
}
