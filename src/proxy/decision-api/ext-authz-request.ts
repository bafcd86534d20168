/**
 * Check request: the request that an Envoy query over gRPC describes.
 *
 * - Pure. Used only for queries of clients with access.
 * - Nothing has a default: a query with a missing or contradictory fact is refused.
 * - The caller is Envoy's peer. If that is a trusted proxy, the caller is the last address of `X-Forwarded-For` that is
 *   not a trusted proxy.
 * - Headers arrive as a map, in which Envoy has joined headers of one name, or raw (`encode_raw_headers`), never as
 *   both.
 */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { type PresentedCertificate, readPresented } from "../tls/presented-certificate.ts";
import type { DescribedRequest } from "./described-request.ts";
import type { CheckedHttpRequest, CheckRequest } from "./ext-authz-messages.ts";
import { linesOf, type ParsedExternalAuth, schemeOf, UnreadableHeader } from "./external-auth-request.ts";

export type CheckContext = Readonly<{
  isTrusted: (address: string) => boolean;
  /** Whether a certificate leads to an authority that some route knows. */
  isVerified: (leafPem: string) => boolean;
}>;

export function parseCheckRequest({ attributes }: CheckRequest, reader: CheckContext): ParsedExternalAuth {
  try {
    const http = attributes?.request?.http ?? refuse("request.http"); // a TCP connection, which is none of a route's
    const source = attributes?.source ?? refuse("source");
    const rawHeaders = headersOf(http);
    const authority = agreed(http.host, rawHeaders, ":authority", "host");
    const described: DescribedRequest = {
      method: agreed(http.method, rawHeaders, ":method"),
      scheme: schemeOf(agreed(http.scheme, rawHeaders, ":scheme"), "scheme"),
      authority,
      target: targetOf(http, rawHeaders),
      lines: linesOf(rawHeaders),
      ip: callerOf(source.address?.socketAddress?.address ?? "", rawHeaders, reader),
      certificate: certificateOf(source.certificate, reader),
    };
    return { type: "described", described };
  } catch (error) {
    if (error instanceof UnreadableHeader) return { type: "refused", reason: error.header };
    throw error;
  }
}

function refuse(what: string): never {
  throw new UnreadableHeader(what);
}

/** Header names and values alternate, including pseudo-headers. Each character of a value is one byte. */
function headersOf({ headers, headerMap }: CheckedHttpRequest): readonly string[] {
  const raw = headerMap?.headers ?? [];
  if (headers.length > 0 && raw.length > 0) refuse("headers");
  const lines: string[] = [];
  const names = new Set<string>();
  const add = (key: string, value: string): void => {
    if (!headerName.test(key) || unwritable.test(value)) refuse("headers");
    lines.push(key, value);
  };
  for (const { key, value } of headers) {
    const name = key.toLowerCase();
    if (names.has(name)) refuse(name); // Envoy joins them
    names.add(name);
    add(key, Buffer.from(value, "utf8").toString("latin1"));
  }
  for (const { key, value, rawValue } of raw) {
    if (value !== "" && rawValue.length > 0) refuse(key);
    add(key, value === "" ? Buffer.from(rawValue).toString("latin1") : Buffer.from(value, "utf8").toString("latin1"));
  }
  return lines;
}
const headerName = /^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: what would end a line is what is looked for
const unwritable = /[\u0000\r\n]/;

/** A fact that Envoy sends in two places must be the same in both. */
function agreed(said: string, lines: readonly string[], ...names: readonly string[]): string {
  if (said === "") refuse(names[0] ?? "");
  for (const name of names) for (const value of valuesOf(lines, name)) if (value !== said) refuse(name);
  return said;
}

/** The path contains the query. The two other fields are obsolete, and Envoy leaves them empty. */
function targetOf(http: CheckedHttpRequest, lines: readonly string[]): string {
  const path = agreed(http.path, lines, ":path");
  if (http.fragment !== "") refuse("fragment");
  if (http.query !== "" && !path.endsWith(`?${http.query}`)) refuse("query");
  return path;
}

function callerOf(peer: string, lines: readonly string[], { isTrusted }: CheckContext): string {
  if (isIP(peer) === 0) refuse("source.address");
  if (!isTrusted(peer)) return peer;
  const forwarded = valuesOf(lines, "x-forwarded-for").join(",");
  const addresses = forwarded === "" ? [] : forwarded.split(",").map((text) => text.trim());
  let caller = peer;
  for (const address of addresses.toReversed()) {
    if (isIP(address) === 0) refuse("x-forwarded-for"); // earlier addresses were added by unknown proxies
    caller = address;
    if (!isTrusted(address)) break;
  }
  return caller;
}

/** In the handshake Envoy has verified that the caller holds the key. This server verifies the authority. */
function certificateOf(written: string, { isVerified }: CheckContext): PresentedCertificate | null {
  if (written === "") return null;
  try {
    const leaf = new X509Certificate(decodeURIComponent(written));
    return readPresented(leaf, isVerified(leaf.toString()));
  } catch {
    return refuse("source.certificate");
  }
}

function valuesOf(lines: readonly string[], name: string): readonly string[] {
  return lines.filter((_, i) => i % 2 === 1 && lines[i - 1]?.toLowerCase() === name);
}
