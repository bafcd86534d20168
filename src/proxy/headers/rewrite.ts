/**
 * Path rewrite: from the path that was authorised to the path that the upstream receives.
 *
 * - Pure. Rewriting happens after matching and deciding, on the canonical path. The result must be a plain path
 *   again, to which a substitution may have added a query. Any other result is refused, not sent.
 * - Differs from Envoy on purpose: where the matched prefix and its replacement meet the rest there is exactly one
 *   slash (`/foo` → `/` gives `/bar` for `/foo/bar`, not `//bar`; `/` → `/base` gives `/base/x`, not `/basex`).
 * - After the query of a substitution, that of the request follows as more of it (`/s?q=1&page=2`, not
 *   `/s?q=1?page=2`).
 */
import { RE2JS } from "re2js";
import type { RouteConfig } from "../../config/index.ts";
import { decodeOnce, dotSegment } from "../message/canonical-request.ts";

/** @returns undefined: the result is not a plain path and must not be sent */
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
  const prefix = decodeOnce(match.value) ?? match.value;
  return (rawPath) => {
    const rest = rawPath.slice(rawLength(rawPath, prefix));
    const boundary = prefix.endsWith("/") || rest.startsWith("/");
    return requireSendable(
      boundary ? `${replacement.replace(/\/$/, "")}/${rest.replace(/^\//, "")}` : replacement + rest,
    );
  };
}

/** A configured path as it is sent: `/café` is percent-encoded. */
export function encodedPath(configured: string): string {
  return configured.toWellFormed().replace(/[^!-~]+/g, encodeURIComponent);
}

/** Replaces every match of an RE2 expression. */
export function compileSubstitution(how: NonNullable<RouteConfig["regexRewrite"]>): (text: string) => string {
  const pattern = RE2JS.compile(how.pattern);
  const replacement = compileReplacement(how.substitution);
  return (text) => pattern.matcher(text).replaceAll(replacement);
}

/** The number of characters of the raw path that encode the prefix. */
function rawLength(rawPath: string, prefix: string): number {
  if (rawPath.startsWith(prefix)) return prefix.length;
  for (let end = prefix.length; end <= rawPath.length; end++) {
    if (decodeOnce(rawPath.slice(0, end)) === prefix) return end;
  }
  return 0;
}

/** `\1` is a group and `\\` a backslash, as in RE2; everything else, a dollar sign too, is literal. */
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

/** Printable ASCII without a fragment. The path ends at the first question mark. */
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
