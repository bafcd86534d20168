/** List pages: reads a list of the operator API page by page, up to a limit. */
import type { ParseArgsOptionsConfig } from "node:util";
import type { Parsed } from "../terminal/arguments.ts";
import { UsageError } from "../terminal/command.ts";
import type { OperatorClient } from "./operator-client.ts";

const limitDefault = 1_000;
const limitMax = 1_000_000;
const pageMax = 1_000;

/** Options of every list. */
export const listOptions = {
  search: { type: "string" },
  sort: { type: "string" },
  limit: { type: "string" },
} as const satisfies ParseArgsOptionsConfig;

/**
 * @param list.query with the filters
 * @param list.key the field of the answer that has the entries
 */
export async function readPages<Item>(
  client: OperatorClient,
  parsed: Parsed,
  { path, query, key }: Readonly<{ path: string; query: URLSearchParams; key: string }>,
): Promise<readonly Item[]> {
  const limit = limitOf(parsed);
  for (const [option, name] of [
    ["search", "q"],
    ["sort", "sort"],
  ] as const) {
    const value = parsed.text(option);
    if (value !== undefined) query.set(name, value);
  }
  const items: Item[] = [];
  for (let after: string | null | undefined; after !== null && items.length < limit; ) {
    if (after !== undefined) query.set("after", after);
    query.set("limit", String(Math.min(limit - items.length, pageMax)));
    const page = (await client.get(`${path}?${query}`)) as Record<string, unknown> & Readonly<{ next: string | null }>;
    items.push(...(page[key] as readonly Item[]));
    // A server of an older version has no pages.
    after = page.next ?? null;
  }
  return items;
}

function limitOf(parsed: Parsed): number {
  const text = parsed.text("limit");
  if (text === undefined) return limitDefault;
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > limitMax)
    throw new UsageError(`--limit: ${JSON.stringify(text)} is not a number from 1 to ${limitMax}`);
  return limit;
}
