/**
 * Canonical request: the strict reading of a request head, done once before anything else uses it.
 *
 * - Pure. The result is the one form that is routed, decided and forwarded. What can be read in two ways is refused
 *   with 400, never repaired.
 * - Node's strict parser has already refused ambiguous framing: docs/request-parsing.md lists who refuses what, and
 *   test/attacks/corpus.test.ts proves it on raw sockets.
 * - Three things are normalised, as Pomerium does by default: percent-encoded unreserved characters are decoded
 *   (`%61` is `a`), hexadecimal digits become upper case, and runs of slashes become one.
 * - Characters that a path may not have but that browsers send (`|`, `[`, `"` …) are percent-encoded. Everything else
 *   stays byte for byte.
 * - A target in absolute-form that repeats what the connection and the Host header say is read as its origin-form.
 */
import type { Fact } from "../../events/index.ts";
import { HeaderNameCache } from "./header-name-cache.ts";

export type CanonicalRequest = Readonly<{
  method: string;
  /** Lowercase, without port; an IPv6 address is in brackets. */
  hostname: string;
  /** The port that the Host header names; null when it names none. */
  port: number | null;
  /** The path as it is forwarded, without query. With an encoded slash it is byte for byte what the caller sent. */
  rawPath: string;
  /** `rawPath`, percent-decoded: what routes and policies match. An encoded slash stays `%2F`. */
  path: string;
  /** The raw query with its `?`; empty when there is none. */
  search: string;
  /** Lowercase names; lines of one name joined by `, ` (cookies by `; `). */
  headers: Readonly<Record<string, string>>;
  /** Names and values in turn, as they arrived. */
  rawHeaders: readonly string[];
}>;

export type RefusedRequest = Fact<"refused", { status: 400 | 405 | 414 | 431; reason: string }>;
export type CanonicalResult = Fact<"canonical", { request: CanonicalRequest }> | RefusedRequest;

export type RequestHead = Readonly<{
  method: string;
  url: string;
  /** `1.0` and `1.1` as in the request line; `2` only for an HTTP/2 stream, never from a line of text. */
  httpVersion: string;
  rawHeaders: readonly string[];
  /** The connection's scheme; absent: no target may name one. */
  scheme?: "http" | "https";
}>;

/** What the header lines say by themselves. */
export type HeaderReading = Readonly<{
  headers: Readonly<Record<string, string>>;
  /** From the Host header; undefined: missing or invalid. */
  host: Host | undefined;
}>;
type Host = Readonly<{ hostname: string; port: number | null }>;

const versions: ReadonlySet<string> = new Set(["1.0", "1.1", "2"]);
const methodPattern = /^[A-Z][A-Z-]{0,31}$/;
const targetCharsMax = 32_768;
/** For a head, and for trailers. */
export const headerLinesMax = 1_000;

/** Two readers would read a second line of one of these differently. */
const singleLineNames: ReadonlySet<string> = new Set([
  "host",
  "authorization",
  "x-pomerium-authorization",
  "content-length",
  "content-type",
  "transfer-encoding",
  "upgrade",
  "expect",
  "origin",
  "access-control-request-method",
  "sec-fetch-mode",
  "sec-websocket-key",
  "sec-websocket-version",
]);

/**
 * @param encodedSlashes `keep` where the route table matches, which refuses encoded slashes on every route but one
 *   with `allow_encoded_slashes`
 */
export function canonicaliseRequest(head: RequestHead, encodedSlashes: "keep" | "refuse" = "refuse"): CanonicalResult {
  if (!versions.has(head.httpVersion)) return refuse("http-version");
  // The parser also knows SOURCE, which is Icecast's and the only method of ICE/1.0.
  if (!methodPattern.test(head.method) || head.method === "SOURCE") return refuse("method");
  // It would echo credentials and identity headers to a script.
  if (head.method === "TRACE") return refuse("method", 405);
  if (head.url.length > targetCharsMax) return refuse("target-too-long", 414);

  const reading = readHeaders(head.rawHeaders);
  if (typeof reading === "string") return refuse(reading, reading === "too-many-headers" ? 431 : 400);
  const { headers, host } = reading;
  if (head.httpVersion === "2" && head.rawHeaders.some(isPadded)) return refuse("header-whitespace"); // RFC 9113 §8.2.1
  const transferEncoding = headers["transfer-encoding"];
  if (transferEncoding !== undefined) {
    if (head.httpVersion !== "1.1" || transferEncoding.toLowerCase() !== "chunked") return refuse("transfer-encoding");
    if (headers["content-length"] !== undefined) return refuse("two-lengths");
  }
  // Some readers treat a leading zero as octal.
  if (/^0\d/.test(headers["content-length"] ?? "")) return refuse("content-length");
  if (host === undefined) return refuse("host");

  if (head.method === "CONNECT") return canonicalConnect(head, headers, host);
  const url = head.url.startsWith("/") ? head.url : originForm(head, host);
  if (url === undefined) return refuse("target-form"); // authority-form, asterisk, or another authority
  const queryAt = url.indexOf("?");
  const target = queryAt < 0 ? url : url.slice(0, queryAt);
  const search = queryAt < 0 ? "" : url.slice(queryAt);
  if (!queryPattern.test(search)) return refuse("query");
  const path = canonicalPath(target, encodedSlashes);
  if (typeof path === "string") return refuse(path);

  return {
    type: "canonical",
    request: {
      method: head.method,
      hostname: host.hostname,
      port: host.port,
      rawPath: path.rawPath,
      path: path.path,
      search,
      headers,
      rawHeaders: head.rawHeaders,
    },
  };
}

/**
 * Path and query of an absolute-form target (RFC 9112 §3.2.2), if its scheme and authority equal those of the
 * connection and the Host header. Any other target would address two servers.
 * @returns undefined: they differ, or the target is not in absolute-form
 */
function originForm({ url, method, httpVersion, scheme }: RequestHead, host: Host): string | undefined {
  if (httpVersion !== "1.1" || scheme === undefined) return undefined;
  const [, named, authority, rest = ""] = /^(https?):\/\/([^/?]+)([/?].*)?$/i.exec(url) ?? [];
  const target = parseHost(authority);
  if (named?.toLowerCase() !== scheme || target?.hostname !== host.hostname) return undefined;
  const port = scheme === "https" ? 443 : 80;
  if ((target.port ?? port) !== (host.port ?? port)) return undefined;
  if (rest === "" && method === "OPTIONS") return undefined; // asterisk-form in other words (RFC 9112 §3.2.4)
  return rest.startsWith("/") ? rest : `/${rest}`;
}

/**
 * RFC 9112 §3.2.3, RFC 9110 §9.3.6: host and port, equal to the Host header, and no body. Routes decide what it may
 * reach.
 */
function canonicalConnect(head: RequestHead, headers: HeaderReading["headers"], host: Host): CanonicalResult {
  const target = parseHost(head.url);
  if (target === undefined || target.port === null) return refuse("connect-target");
  if (target.hostname !== host.hostname || target.port !== host.port) return refuse("connect-host");
  if (headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0")
    return refuse("connect-body");
  const noPath = { rawPath: "", path: "", search: "" };
  return {
    type: "canonical",
    request: { method: head.method, ...target, ...noPath, headers, rawHeaders: head.rawHeaders },
  };
}

function refuse(reason: string, status: RefusedRequest["status"] = 400): RefusedRequest {
  return { type: "refused", status, reason };
}

/** An object without a prototype, of a class, so that requests with the same headers share one shape. */
const HeaderTable = function HeaderTable() {} as unknown as new () => object;
HeaderTable.prototype = Object.create(null);

/** What follows from a name of a header, in the case in which it arrived. */
type ReadName = Readonly<{ lower: string; hasUnderscore: boolean; isSingleLine: boolean }>;
const readNames = new HeaderNameCache<ReadName>();
/** Valid values of Host, in the case in which they arrived. */
const readHosts = new HeaderNameCache<Host>();

function readName(name: string): ReadName {
  const known = readNames.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  // The key of an object is the one copy of its text by which properties are found without hashing it again.
  const [key = lower] = Object.keys({ [lower]: true });
  const read = { lower: key, hasUnderscore: lower.includes("_"), isSingleLine: singleLineNames.has(lower) };
  readNames.add(name, read);
  return read;
}

/** @returns a string: the reason to refuse them */
function readHeaders(raw: readonly string[]): HeaderReading | string {
  if (raw.length > headerLinesMax * 2) return "too-many-headers";
  const headers = new HeaderTable() as Record<string, string>;
  for (let i = 0; i < raw.length; i += 2) {
    const { lower: name, hasUnderscore, isSingleLine } = readName(raw[i] ?? "");
    const value = raw[i + 1] ?? "";
    if (hasUnderscore) return "underscore-in-header-name"; // as Pomerium: CGI-like servers read `_` and `-` alike
    const earlier = headers[name];
    if (earlier === undefined) headers[name] = value;
    else if (isSingleLine) return `two-lines-of-${name}`;
    else headers[name] = `${earlier}${name === "cookie" ? "; " : ", "}${value}`;
  }
  return { headers, host: readHost(headers["host"]) };
}

function readHost(value: string | undefined): Host | undefined {
  const known = value === undefined ? undefined : readHosts.get(value);
  if (known !== undefined) return known;
  const host = parseHost(value);
  if (host !== undefined && value !== undefined) readHosts.add(value, host);
  return host;
}

/**
 * Whether an HTTP/2 name or value starts or ends with a space or tab. HTTP/1 allows these around a value; the parser
 * drops them.
 */
export function isPadded(text: string): boolean {
  return isBlank(text.charCodeAt(0)) || isBlank(text.charCodeAt(text.length - 1));
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

const hostPattern =
  /^(\[[0-9a-f:.]{2,45}\]|(?=.{1,253}(?::|$))[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*)(?::([0-9]{1,5}))?$/;

/** Refuses userinfo, paths, empty and impossible ports, trailing dots and anything that is not a name or an address. */
export function parseHost(value: string | undefined): Host | undefined {
  if (value === undefined || value.length > 300) return undefined;
  const [, hostname, digits] = hostPattern.exec(value.toLowerCase()) ?? [];
  if (hostname === undefined) return undefined;
  if (digits === undefined) return { hostname, port: null };
  const port = Number(digits);
  return port >= 1 && port <= 65_535 ? { hostname, port } : undefined;
}

/** Printable ASCII, but no fragment. A lone `%` is common in queries and has no meaning here, so it is kept. */
const queryPattern = /^[!"$-~]*$/;
const plainPathPattern = /^[A-Za-z0-9/._~!$&'()*+,;=:@-]+$/;
/**
 * Segments `.` and `..`, also with path parameters, and segments that consist of parameters only: some servers drop
 * `;…` before they resolve dots and merge slashes, so that `/;/admin` is `/admin` to them.
 */
export const dotSegment = /\/(?:\.{1,2}(?:;[^/]*)?|;[^/]*)(?:\/|$)/;

type Path = Readonly<{ rawPath: string; path: string }>;

function canonicalPath(target: string, encodedSlashes: "keep" | "refuse"): Path | string {
  if (plainPathPattern.test(target)) {
    const collapsed = target.includes("//") ? target.replace(/\/{2,}/g, "/") : target;
    return dotSegment.test(collapsed) ? "dot-segment" : { rawPath: collapsed, path: collapsed };
  }
  let rawPath = "";
  for (let i = 0; i < target.length; i++) {
    const char = target[i] ?? "";
    if (char === "%") {
      const byte = hexPair(target, i + 1);
      if (byte === undefined) return "percent-encoding";
      if (byte === 0x5c || (byte === 0x2f && encodedSlashes === "refuse")) return "encoded-separator";
      if (byte < 0x20 || byte === 0x7f) return "encoded-control-character";
      rawPath += unreservedPattern.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : percentEncoded(byte);
      i += 2;
    } else if (plainPathPattern.test(char)) {
      rawPath += char;
    } else if (char === "\\" || char === "#" || char <= " " || char > "~") {
      return char === "\\" ? "backslash" : "character";
    } else {
      rawPath += percentEncoded(char.charCodeAt(0));
    }
  }
  if (rawPath.includes("%2F")) return pathWithEncodedSlash(target, rawPath);
  rawPath = rawPath.replace(/\/{2,}/g, "/");
  const path = decodeOnce(rawPath);
  if (path === undefined) return "not-utf-8"; // overlong and broken forms: each reader decodes those its own way
  return dotSegment.test(path) ? "dot-segment" : { rawPath, path };
}

/** An encoded percent sign before two hexadecimal digits: a server that decodes twice reads another character there. */
export const doubleEncoding = /%25[0-9A-Fa-f]{2}/;

/** Whether a path that `canonicalise` accepted has an encoded slash. */
export function hasEncodedSlash({ rawPath }: Pick<Path, "rawPath">): boolean {
  return rawPath.includes("%") && /%2f/i.test(rawPath);
}

/**
 * A path with an encoded slash may have nothing else that servers read in several ways: parameters, empty segments, a
 * second encoding. So it has two readings, one in which `%2F` is a character of its segment and one in which it is a
 * slash (path-readings.ts).
 * @param normalised `target` in the one form in which paths are compared
 */
function pathWithEncodedSlash(target: string, normalised: string): Path | string {
  const path = decodeOnce(normalised.replaceAll("%2F", "%252F"));
  const withSlashes = decodeOnce(normalised);
  if (path === undefined || withSlashes === undefined) return "not-utf-8";
  if (dotSegment.test(path) || dotSegment.test(withSlashes)) return "dot-segment";
  const ambiguous = withSlashes.includes(";") || withSlashes.includes("//") || doubleEncoding.test(normalised);
  return ambiguous ? "encoded-separator" : { rawPath: target, path };
}

const unreservedPattern = /^[A-Za-z0-9._~-]$/;

function hexPair(text: string, at: number): number | undefined {
  const pair = text.slice(at, at + 2);
  return /^[0-9A-Fa-f]{2}$/.test(pair) ? Number.parseInt(pair, 16) : undefined;
}

function percentEncoded(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}

/** Percent-decodes once; undefined when it is not UTF-8. */
export function decodeOnce(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
