/**
 * Downstream headers: the header lines of an upstream's response as the caller receives them.
 *
 * - Pure. Hop-by-hop lines are dropped, with every name that the upstream's `Connection` header lists.
 * - An upstream never sets a cookie of the proxy, not through a rewrite either.
 * - The route's response headers replace the upstream's of the same name (docs/pomerium-behaviour.md §3.5).
 */
import type { RouteConfig } from "../../config/index.ts";
import type { OwnCookies } from "../message/cookies.ts";
import { HeaderLines } from "../message/header-lines.ts";
import { HeaderNameCache } from "../message/header-name-cache.ts";
import { connectionHeaderNames, headerValue, hopByHopNames } from "../message/header-names.ts";
import type { ResponseLines } from "../message/upstream-call.ts";

export type ResponseRules = Readonly<{
  /** Lowercase names of lines that the proxy sets itself. */
  replaced: ReadonlySet<string>;
  /** Names and values in turn. */
  added: readonly string[];
  /** By lowercase name; null: none, as usual. */
  rewrites: ReadonlyMap<string, readonly Readonly<{ prefix: string; value: string }>[]> | null;
  cookies: OwnCookies;
  /** What happens to a line, by its name as received. Filled as names arrive, up to a bound. */
  actions: HeaderNameCache<ResponseHeaderAction>;
}>;

type ResponseHeaderAction = "pass" | "drop" | "cookie" | "rewrite";

/** Headers that only the proxy sets. */
const proxyOnlyHeaders: ReadonlySet<string> = new Set(["x-request-id", "x-pomerium-intercepted-response"]);

export function compileResponseRules(
  route: Pick<RouteConfig, "setResponseHeaders" | "rewriteResponseHeaders">,
  cookies: OwnCookies,
): ResponseRules {
  const added = Object.entries(route.setResponseHeaders).flatMap(([name, value]) => [name, headerValue(value)]);
  const replaced = new Set([
    ...Object.keys(route.setResponseHeaders).map((name) => name.toLowerCase()),
    ...proxyOnlyHeaders,
  ]);
  return {
    replaced,
    added,
    rewrites: compileRewrites(route.rewriteResponseHeaders),
    cookies,
    actions: new HeaderNameCache(),
  };
}

function compileRewrites(rewrites: RouteConfig["rewriteResponseHeaders"]): ResponseRules["rewrites"] {
  if (rewrites.length === 0) return null;
  const byName = new Map<string, { prefix: string; value: string }[]>();
  for (const { header, prefix, value } of rewrites) {
    const known = byName.get(header) ?? [];
    byName.set(header, known);
    known.push({ prefix, value: headerValue(value) });
  }
  return byName;
}

/** Applies each in turn, as Pomerium: plain prefixes only. */
function applyRewrites(rewrites: NonNullable<ResponseRules["rewrites"]>, name: string, written: string): string {
  let text = written;
  for (const { prefix, value } of rewrites.get(name) ?? [])
    if (text.startsWith(prefix)) text = value + text.slice(prefix.length);
  return text;
}

/** Names and values in turn, as they arrived. */
export type RawHeaders = readonly string[];

/**
 * What a caller receives, but for the request's id, which is added where the lines are sent.
 * @param caller `acceptsTrailers`: it gets the trailers, so also their announcement
 */
export function downstreamLines(
  rules: ResponseRules,
  { raw, endsStream }: ResponseLines,
  caller: Readonly<{ acceptsTrailers: boolean }>,
): HeaderLines {
  const lines = buildDownstreamHeaders(rules, raw);
  if (caller.acceptsTrailers) lines.push(...announcedTrailers(rules, raw));
  return new HeaderLines(lines, { endsStream });
}

/** @returns a `Trailer` line with the names that pass, if the upstream announces any (RFC 9110 §6.6.2) */
function announcedTrailers(rules: ResponseRules, raw: RawHeaders): readonly string[] {
  const names: string[] = [];
  for (let i = 0; i < raw.length; i += 2)
    if (raw[i]?.toLowerCase() === "trailer") names.push(...(raw[i + 1] ?? "").split(",").map((name) => name.trim()));
  const kept = trailerPairs(
    rules,
    names.filter((name) => name !== "").flatMap((name) => [name, ""]),
  );
  return kept.length === 0 ? [] : ["trailer", kept.map(([name]) => name).join(", ")];
}

/** @returns names and values in turn; the request's id is added where they are sent */
export function buildDownstreamHeaders(rules: ResponseRules, raw: RawHeaders): string[] {
  const lines: string[] = [];
  const connectionNames = connectionHeaderNames(connectionOf(raw));
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (connectionNames?.has(name.toLowerCase())) continue;
    const action = rules.actions.get(name) ?? cacheAction(rules, name);
    if (action === "drop") continue;
    let value = raw[i + 1] ?? "";
    if (action !== "pass") {
      if (rules.rewrites !== null) value = applyRewrites(rules.rewrites, name.toLowerCase(), value);
      if (action === "cookie" && rules.cookies.isOwn(value)) continue;
    }
    lines.push(name, value);
  }
  for (const text of rules.added) lines.push(text);
  return lines;
}

function cacheAction(rules: ResponseRules, name: string): ResponseHeaderAction {
  const action = actionFor(rules, name.toLowerCase());
  rules.actions.add(name, action);
  return action;
}

function actionFor({ replaced, rewrites }: ResponseRules, lower: string): ResponseHeaderAction {
  if (hopByHopNames.has(lower) || replaced.has(lower)) return "drop";
  if (lower === "set-cookie") return "cookie";
  return rewrites?.has(lower) === true ? "rewrite" : "pass";
}

/**
 * Trailers that may follow a chunked response: never framing, routing, cookies or names of the proxy (RFC 9110
 * §6.5.1).
 */
export function trailerPairs(rules: ResponseRules, raw: RawHeaders): (readonly [string, string])[] {
  const kept: (readonly [string, string])[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    const lower = name.toLowerCase();
    if (hopByHopNames.has(lower) || rules.replaced.has(lower) || neverInTrailers.has(lower)) continue;
    kept.push([name, raw[i + 1] ?? ""]);
  }
  return kept;
}

export const neverInTrailers: ReadonlySet<string> = new Set([
  "content-length",
  "content-encoding",
  "content-type",
  "content-range",
  "set-cookie",
  "cache-control",
  "authorization",
  "location",
  "host",
  "vary",
]);

function connectionOf(raw: RawHeaders): string | undefined {
  let value: string | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? "";
    if (name.length === 10 && name.toLowerCase() === "connection")
      value = value === undefined ? raw[i + 1] : `${value}, ${raw[i + 1]}`;
  }
  return value;
}
