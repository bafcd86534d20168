/** List page: what every paged list takes and answers. Pure. */
import * as z from "zod";
import type { ListCursors } from "./list-cursor.ts";
import type { Place } from "./ordered-ids.ts";

export const pageFields = {
  after: z.string().max(4_000).optional().meta({ description: "`next` of the page before, with the same filters." }),
  q: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "A part of a name, e-mail, subject or id, without regard to case and accents." }),
} as const;

export const totalSchema = z
  .object({ count: z.number(), exact: z.boolean() })
  .meta({ description: "How many there are in all; `exact: false`: an estimate from a sample." });
export const nextSchema = z.string().nullable().meta({
  description: "Pass it as `after` for the next page; null: this is the last. A page may have fewer than `limit`.",
});

export type Total = z.infer<typeof totalSchema>;
export type ListPage<Item> = Readonly<{ items: readonly Item[]; next: string | null; total: Total }>;
export type BadCursor = Readonly<{ badCursor: true }>;
export const badCursor: BadCursor = { badCursor: true };

/** The order that a list's `sort` names: `-` is descending. */
export function orderOf<Name extends string>(sort: string): Readonly<{ order: Name; isDescending: boolean }> {
  return sort.startsWith("-")
    ? { order: sort.slice(1) as Name, isDescending: true }
    : { order: sort as Name, isDescending: false };
}

/** @returns null: the list begins here */
export function placeAfter<Key extends number | string, Id extends string>(
  cursors: ListCursors,
  list: string,
  { after, kind }: Readonly<{ after: string | undefined; kind: "number" | "string" }>,
): Place<Key, Id> | null | BadCursor {
  if (after === undefined) return null;
  const place = cursors.read(list, after);
  return place === undefined || typeof place.key !== kind ? badCursor : (place as Place<Key, Id>);
}
