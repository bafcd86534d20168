/**
 * AuthZEN page tokens: the position at which a search continues. Pure.
 *
 * A token contains the position, the page size, and a digest of the rest of the query, which must not change between
 * pages.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "../../config/index.ts";
import { AuthzenError, type Json, objectOf } from "./authzen-parser.ts";

export const pageMax = 1_000;

export type SearchPage = Readonly<{
  /** Empty: from the beginning. */
  from: string;
  limit: number;
  /** The token that continues the search from there. */
  tokenFor(from: string): string;
}>;

/** @throws AuthzenError */
export function parseSearchPage({ page, ...search }: Json): SearchPage {
  const { token = "", limit } = page === undefined ? {} : objectOf(page, "page");
  if (limit !== undefined && (typeof limit !== "number" || !Number.isSafeInteger(limit) || limit < 0))
    throw new AuthzenError("page.limit is not a count");
  if (typeof token !== "string") throw new AuthzenError("page.token is not text");
  const digest = digestOf(search);
  const before = token === "" ? undefined : parseToken(token);
  if (before !== undefined && before.digest !== digest) throw new AuthzenError("page.token belongs to another search");
  if (before !== undefined && limit !== undefined && limit !== before.limit)
    throw new AuthzenError("page.limit differs from the one that the search began with");
  const requestedLimit = before?.limit ?? limit ?? pageMax;
  return {
    from: before?.from ?? "",
    limit: Math.min(requestedLimit, pageMax),
    tokenFor: (from) => Buffer.from(JSON.stringify([from, requestedLimit, digest])).toString("base64url"),
  };
}

function parseToken(token: string): Readonly<{ from: string; limit: number; digest: string }> {
  try {
    const [from, limit, digest] = JSON.parse(Buffer.from(token, "base64url").toString("utf8"));
    if (typeof from === "string" && Number.isSafeInteger(limit) && limit >= 0 && typeof digest === "string")
      return { from, limit, digest };
  } catch {}
  throw new AuthzenError("page.token is not valid");
}

function digestOf(search: Json): string {
  return createHash("sha256").update(canonicalJson(search)).digest("base64url").slice(0, 22);
}
