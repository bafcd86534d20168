/** Parts that the views of the record share: times in a query, results, reasons. Pure. */
import type { StatusKind } from "../../api/live/health.ts";
import { isolateValue } from "../../pages/layout.ts";
import { type ConsoleText, isLimited, type ViewContext } from "../view.ts";

type DecisionWords = ConsoleText["record"]["decisions"];

/** A time of a form, which is in UTC, or one with a zone. Undefined: not set; null: no time. */
export function timeIn(query: URLSearchParams, name: string): string | null | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const zoned = /(?:[zZ]|[+-]\d\d:\d\d)$/.test(text) ? text : `${text}Z`;
  const at = Date.parse(zoned);
  return Number.isNaN(at) || Math.abs(at) > 8e15 ? null : new Date(at).toISOString();
}

/** As a `datetime-local` field has it; other texts stay as they are. */
export function fieldTime(iso: string | null | undefined): string {
  return iso === null || iso === undefined ? "" : iso.slice(0, 19);
}

const kinds: Readonly<Record<string, StatusKind>> = {
  permit: "good",
  deny: "bad",
  signin: "waiting",
  unavailable: "fenced",
  not_found: "off",
  bad_request: "off",
};

export const resultKind = (result: string): StatusKind => kinds[result] ?? "off";

export function resultWord(result: string, { results }: DecisionWords): string {
  return Object.hasOwn(results, result) ? results[result as keyof typeof results] : result;
}

/** A sentence for the first reason that has one, else the codes. */
export function reasonText(codes: readonly string[], person: string, { reasons }: DecisionWords): string {
  for (const code of codes) if (Object.hasOwn(reasons, code)) return reasons[code]?.(isolateValue(person)) ?? code;
  return codes.join(", ");
}

/** What a query names, without what is empty. */
export function textIn({ query }: Pick<ViewContext, "query">, name: string): string | undefined {
  const text = query.get(name)?.trim();
  return text === undefined || text === "" ? undefined : text.slice(0, 500);
}

/**
 * The id of the person that a form names. The address of a link never has an e-mail, so chips and links use the id.
 * Undefined: none is named; null: no one has this name.
 */
export async function personNamed(
  context: ViewContext,
  name: string | undefined,
): Promise<Readonly<{ id: string; label: string }> | null | undefined> {
  if (name === undefined) return undefined;
  const found = await context.call("GET /users/:user", { params: { user: name } });
  // A limited role learns of people only through its routes, so the question itself takes the name.
  if (found.type === "failed") return isLimited(context.reader) ? { id: name, label: name } : null;
  const [user] = (found.body as { users: readonly { id: string; name: string; email: string }[] }).users;
  return user === undefined ? null : { id: user.id, label: user.name || user.email || user.id.slice(0, 8) };
}
