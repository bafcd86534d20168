/**
 * Rewrite: from the path that was authorised to the path that the upstream is sent.
 *
 * Pure. Rewriting happens after matching and deciding, on the canonical path, and its result must be a plain path again, behind which a
 * substitution may have written a query: one that makes anything else is refused rather than sent.
 *
 * Differs from Envoy in two places, on purpose: where the matched prefix and its replacement meet the rest, exactly one
 * slash stands between them (`/foo` → `/` gives `/bar` for `/foo/bar`, not `//bar`; `/` → `/base` gives `/base/x`, not `/basex`); and
 * behind a substitution's query, that of the request follows as more of it (`/s?q=1&page=2`, not `/s?q=1?page=2`).
 */
import { RE2JS } from "re2js";
import type { RouteConfig } from "../../config/index.ts";
import { decodeOnce, dotSegment } from "../message/canonical-request.ts";
import { literal } from "../routing/route-table.ts";

/** @returns undefined: the rewritten path is none, and must not be sent */
export type Rewrite = (rawPath: string) => string | undefined;

export function compileRewrite(route: Pick<RouteConfig, "match" | "prefixRewrite" | "regexRewrite">): Rewrite {
  const { match, prefixRewrite, regexRewrite } = route;
  if (regexRewrite !== null) {
    const { pattern, substitution } = regexRewrite;
    const replace = compileSubstitution({ pattern, substitution: encodedPath(substitution) });
    return (rawPath) => requireSendable(replace(rawPath));
  }
  if (prefixRewrite === null) return (rawPath) => rawPath;
  const replacement = encodedPath(prefixRewrite);
  if (match.kind !== "prefix") return () => requireSendable(replacement);
  const prefix = literal(match.value);
  return (rawPath) => {
    const rest = rawPath.slice(rawLength(rawPath, prefix));
    const boundary = prefix.endsWith("/") || rest.startsWith("/");
    return requireSendable(
      boundary ? `${replacement.replace(/\/$/, "")}/${rest.replace(/^\//, "")}` : replacement + rest,
    );
  };
}

/** A configured path as it is sent: people write `/café` as it reads. */
export function encodedPath(configured: string): string {
  return configured.toWellFormed().replace(/[^!-~]+/g, encodeURIComponent);
}

/** Replaces every match of an RE2 expression. */
export function compileSubstitution(how: NonNullable<RouteConfig["regexRewrite"]>): (text: string) => string {
  const pattern = RE2JS.compile(how.pattern);
  const replacement = compileReplacement(how.substitution);
  return (text) => pattern.matcher(text).replaceAll(replacement);
}

/** How many characters of the raw path spell the decoded prefix. */
function rawLength(rawPath: string, prefix: string): number {
  if (rawPath.startsWith(prefix)) return prefix.length;
  for (let end = prefix.length; end <= rawPath.length; end++) {
    if (decodeOnce(rawPath.slice(0, end)) === prefix) return end;
  }
  return 0;
}

/** `\1` names a group and `\\` is a backslash, as in RE2; everything else, a dollar sign too, is itself. */
function compileReplacement(substitution: string): (...found: readonly unknown[]) => string {
  const parts = substitution.split(/(\\[0-9\\])/);
  return (...found) =>
    parts
      .map((part) => {
        if (!/^\\[0-9\\]$/.test(part)) return part;
        if (part === "\\\\") return "\\";
        const group = found[Number(part[1])];
        return typeof group === "string" ? group : "";
      })
      .join("");
}

/** @param search the request's own query, with its `?`, or nothing */
export function withSearch(rewritten: string, search: string): string {
  if (search === "" || !rewritten.includes("?")) return rewritten + search;
  if (search.length === 1) return rewritten;
  return `${rewritten}${rewritten.endsWith("?") ? "" : "&"}${search.slice(1)}`;
}

/** Printable ASCII, without a fragment; what stands behind the first question mark is no part of the path. */
const sendablePattern = /^(\/[!-"$->@-~]*)(?:\?[!-"$-~]*)?$/;

function requireSendable(rewritten: string): string | undefined {
  if (rewritten.length > 32_768) return undefined;
  const [, path] = sendablePattern.exec(rewritten) ?? [];
  if (path === undefined || dotSegment.test(path)) return undefined;
  if (!path.includes("%")) return rewritten;
  const decoded = decodeOnce(path);
  if (decoded !== undefined && dotSegment.test(decoded)) return undefined;
  const isPlain = decoded !== undefined && !decoded.includes("//");
  return isPlain || !/%2f/i.test(path) ? rewritten : undefined;
}
