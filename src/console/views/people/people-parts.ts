/** People parts: what the views of people, sessions and groups share. Pure. */
import type { z } from "zod";
import type { listAnswers } from "../../api/lists/list-schemas.ts";
import { actScripts } from "../components/act.ts";
import { receiptScript } from "../components/receipt-panel.ts";
import type { ConsoleText } from "../view.ts";

/** Rows of a page. */
export const pageRows = 100;
export const peopleStyles: readonly string[] = ["people.css"];
/** Scripts of a page with buttons that make changes. */
export const changeScripts: readonly string[] = [...actScripts, receiptScript];

export type ListedUser = z.infer<typeof listAnswers.users>["users"][number];

const shownChars = 60;

/** A name as tables, headings and buttons have room for it. */
export function shortenName(text: string): string {
  const chars = [...text];
  return chars.length <= shownChars ? text : `${chars.slice(0, shownChars - 1).join("")}…`;
}

export function nameOfUser(
  { id, name, email, subject, status }: Pick<ListedUser, "id" | "name" | "email" | "subject" | "status">,
  words: ConsoleText,
): string {
  return status === "erased"
    ? words.frame.erased(id.slice(0, 4))
    : shortenName(name || email || subject || id.slice(0, 8));
}

/** A field of a form without a time zone counts as UTC. */
export function utcTime(text: string | null): string | undefined {
  if (text === null || text === "") return undefined;
  const at = Date.parse(/(?:Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(at) ? undefined : new Date(at).toISOString();
}

/** A word as a shell reads it. Control characters are left out: a pasted line must not run on. */
export function shellWord(text: string): string {
  const plain = text.replace(/\p{Cc}/gu, "");
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`;
}

/** A name in a path of the API, as its `nameIn` reads it. */
export function apiSegment(name: string): string {
  return /^[\w.@-]+$/.test(name) && !/^\.{1,2}$/.test(name)
    ? name
    : `base64url:${Buffer.from(name).toString("base64url")}`;
}
