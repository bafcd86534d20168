/**
 * Recorded request: what a decision record shows of a request besides its ids, by the rules of its route. Pure.
 *
 * - The query and the headers are shown only as far as the route names them, and never the credentials of Cardea.
 * - A path segment that a pattern of the route covers is replaced. A segment that cannot be decoded counts as covered.
 * - Every text is bounded, and has no control characters.
 */
import type { RecordedFields } from "../../config/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import { recordedPath } from "../message/recorded-text.ts";
import { showsHeader, withoutQuery } from "./log-text.ts";
import { readTraceContext } from "./traces.ts";

export const redacted = "[redacted]";

export type RecordRules = Readonly<{
  path(rawPath: string): string;
  userAgent(headers: CanonicalRequest["headers"]): string | undefined;
  query(search: string): string | undefined;
  /** Without the user agent. */
  headers(headers: CanonicalRequest["headers"]): Readonly<Record<string, string>> | undefined;
}>;

/** Characters of a header's value. A mark replaces the rest. */
const valueCharsMax = 256;
const queryCharsMax = 1_024;
const compiled = new WeakMap<RecordedFields, RecordRules>();

/** Compiled once for each object. */
export function recordRulesOf(fields: RecordedFields): RecordRules {
  const known = compiled.get(fields);
  if (known !== undefined) return known;
  const made = compileRecordRules(fields);
  compiled.set(fields, made);
  return made;
}

function compileRecordRules(fields: RecordedFields): RecordRules {
  const names = [...new Set(fields.headers.map((name) => name.toLowerCase()))].filter(showsHeader);
  const others = names.filter((name) => name !== "user-agent");
  const showsUserAgent = names.includes("user-agent");
  const parameters = new Set(fields.query.filter((name) => !isOwnParameter(name)));
  const patterns = fields.redactPath.map((pattern) => pattern.slice(1).split("/").map(comparable));
  // The page before may be one whose path is covered, under other patterns than these.
  const refererText = patterns.length === 0 ? withoutQuery : originIn;
  return {
    path: patterns.length === 0 ? recordedPath : (rawPath) => recordedPath(redactPath(rawPath, patterns)),
    userAgent(headers) {
      const sent = showsUserAgent ? headers["user-agent"] : undefined;
      return sent === undefined ? undefined : recordedText(sent, valueCharsMax);
    },
    query: parameters.size === 0 ? () => undefined : (search) => shownQuery(search, parameters),
    headers: others.length === 0 ? () => undefined : (headers) => shownValues(headers, others, refererText),
  };
}

/** The W3C trace id that the caller sent. */
export function traceIdIn({ headers }: Pick<CanonicalRequest, "headers">): string | undefined {
  const sent = headers["traceparent"];
  return sent === undefined ? undefined : readTraceContext(sent, undefined)?.traceId;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
const plain = /^[ -~]*$/;

function recordedText(text: string, charsMax: number): string {
  if (text.length <= charsMax) return plain.test(text) ? text : text.replace(controls, "\u{fffd}").toWellFormed();
  // The copy does not keep the long text alive, as a slice would.
  const beginning = Buffer.from(text.slice(0, charsMax)).toString().replace(controls, "\u{fffd}");
  return `${beginning}…(+${text.length - charsMax})`;
}

/** Cardea's own parameters hold sessions and signatures. */
function isOwnParameter(name: string): boolean {
  return name.toLowerCase().startsWith("pomerium_");
}

function shownQuery(search: string, parameters: ReadonlySet<string>): string | undefined {
  if (search.length <= 1) return undefined;
  const shown: string[] = [];
  let chars = 0;
  for (const part of search.slice(1).split("&")) {
    const at = part.indexOf("=");
    const name = at < 0 ? part : part.slice(0, at);
    if (!parameters.has(name)) continue;
    // Some servers read a semicolon as the beginning of another parameter.
    const text = part.includes(";") ? `${name}=${redacted}` : part;
    shown.push(text);
    chars += text.length + 1;
    if (chars > queryCharsMax) break;
  }
  return shown.length === 0 ? undefined : recordedText(shown.join("&"), queryCharsMax);
}

function shownValues(
  headers: CanonicalRequest["headers"],
  names: readonly string[],
  refererText: (value: string) => string,
): Readonly<Record<string, string>> | undefined {
  const shown: Record<string, string> = {};
  for (const name of names) {
    const value = headers[name];
    if (value === undefined) continue;
    shown[name] = recordedText(name === "referer" ? refererText(value) : value, valueCharsMax);
  }
  return Object.keys(shown).length === 0 ? undefined : shown;
}

function originIn(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null || parsed.origin === "null" ? redacted : parsed.origin;
}

/** How often some server may decode a path. A bound, because each time costs the length of the segment. */
const decodingsMax = 4;

/**
 * Null: cannot be decoded. Servers differ in letter case, in path parameters and in how often they decode, so all three
 * are ignored.
 */
function comparable(segment: string): string | null {
  const decoded = decodedText(segment.split(";", 1)[0] ?? "");
  if (decoded === null) return null;
  let text = decoded;
  for (let times = 1; text.includes("%"); times++) {
    const again = decodedText(text);
    if (again === null || again === text) break; // a percent sign that was meant
    if (times === decodingsMax) return null;
    text = again;
  }
  return (text.split(";", 1)[0] ?? "").toLowerCase();
}

function decodedText(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** What some server may read as the end of a segment. */
const separators = /(\/|%(?:25)*(?:2f|5c))/i;

/**
 * A pattern covers the paths that begin with its segments: `*` any one segment, `**` all that follow. Those are
 * replaced.
 */
function redactPath(rawPath: string, patterns: readonly (readonly (string | null)[])[]): string {
  const parts = rawPath.split(separators); // "", "/", "a", "/", "b"
  const segments = parts.filter((_, i) => i % 2 === 0).slice(1);
  const texts = segments.map(comparable);
  const covered = new Set<number>();
  for (const pattern of patterns) {
    const places = coveredBy(pattern, texts);
    for (const place of places) covered.add(place);
  }
  if (covered.size === 0) return rawPath;
  const shown = segments.map((segment, i) => (covered.has(i) && segment !== "" ? redacted : segment));
  return parts.map((part, i) => (i % 2 === 0 && i > 0 ? (shown[i / 2 - 1] ?? "") : part)).join("");
}

function coveredBy(pattern: readonly (string | null)[], texts: readonly (string | null)[]): readonly number[] {
  const places: number[] = [];
  for (const [i, wanted] of pattern.entries()) {
    if (wanted === "**") return [...places, ...texts.keys().drop(i)];
    const text = texts[i];
    if (text === undefined) return places;
    if (wanted === "*" || text === null) places.push(i);
    else if (text !== wanted) return [];
  }
  return places;
}
