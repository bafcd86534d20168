/**
 * Rewrite: from the path that was authorised to the path that the upstream is sent.
 *
 * Pure. Rewriting happens after matching and deciding, on the canonical path, and its result must be a plain path again: a
 * substitution that makes anything else is refused rather than sent.
 *
 * Differs from Envoy in one place, on purpose: where the matched prefix and its replacement meet the rest, exactly one
 * slash stands between them (`/foo` → `/` gives `/bar` for `/foo/bar`, not `//bar`; `/` → `/base` gives `/base/x`, not `/basex`).
 */
import { RE2JS } from "re2js";
import type { RouteConfig } from "../config/index.ts";
import { decodeOnce, dotSegment } from "./canonical.ts";
import { literal } from "./routing.ts";

/** Undefined: the rewritten path is none, and must not be sent. */
export type Rewrite = (rawPath: string) => string | undefined;

export function compileRewrite(route: Pick<RouteConfig, "match" | "prefixRewrite" | "regexRewrite">): Rewrite {
  const { match, prefixRewrite, regexRewrite } = route;
  if (regexRewrite !== null) {
    const replace = compileSubstitution(regexRewrite);
    return (rawPath) => checked(replace(rawPath));
  }
  if (prefixRewrite === null) return (rawPath) => rawPath;
  const replacement = encodedPath(prefixRewrite);
  if (match.kind !== "prefix") return () => checked(replacement);
  const prefix = literal(match.value);
  return (rawPath) => {
    const rest = rawPath.slice(rawLength(rawPath, prefix));
    const boundary = prefix.endsWith("/") || rest.startsWith("/");
    return checked(boundary ? `${replacement.replace(/\/$/, "")}/${rest.replace(/^\//, "")}` : replacement + rest);
  };
}

/** A configured path as it is sent: people write `/café` as it reads. */
export function encodedPath(configured: string): string {
  return configured.toWellFormed().replace(/[^!-~]+/g, encodeURIComponent);
}

/** Replaces every match of an RE2 expression. */
export function compileSubstitution(how: NonNullable<RouteConfig["regexRewrite"]>): (text: string) => string {
  const pattern = RE2JS.compile(how.pattern);
  const replacement = substitute(how.substitution);
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
function substitute(substitution: string): (...found: readonly unknown[]) => string {
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

function checked(path: string): string | undefined {
  return path.length <= 32_768 && /^\/[!-"$->@-~]*$/.test(path) && !dotSegment.test(path) ? path : undefined;
}

/** A rewrite of the configuration made something that is no path. */
export class RewriteError extends Error {
  readonly code = "ERR_PROXY_REWRITE";
  readonly routeId: string;
  constructor(routeId: string) {
    super(`the rewrite of route ${routeId} does not make a path`);
    this.name = "RewriteError";
    this.routeId = routeId;
  }
}
