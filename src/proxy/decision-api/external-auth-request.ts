/**
 * External auth request: the request that a proxy in front asks about, parsed from its query. Pure.
 *
 *   forward-auth   X-Forwarded-Method, -Proto, -Host, -Uri, -For      (Traefik, Caddy)
 *   auth-request   X-Original-Method, X-Original-URL, X-Forwarded-For (nginx)
 *   ext-authz      the query's own method, host and path; X-Forwarded-Proto and -For (Envoy)
 *
 * - The caller passes only queries that a trusted proxy sent.
 * - Nothing has a default: a query with a missing or duplicate fact is refused.
 * - Two facts that contradict each other are refused as well. Caddy forwards the `Host` of the request, and the nginx
 *   recipe sends the host by which nginx chose the server. If that names a route's host other than the request's, the
 *   proxy would serve one host after a decision about another. Traefik sends the address of this server, which is no
 *   route's host.
 */
import { isIP } from "node:net";
import { type Fact, unreachable } from "../../events/index.ts";
import { parseHost } from "../message/canonical-request.ts";
import { connectionHeaderNames, hopByHopNames } from "../message/header-names.ts";
import type { DescribedRequest } from "./described-request.ts";

export type ExternalAuthForm = "forward-auth" | "auth-request" | "ext-authz";
export type ExternalAuthQuery = Readonly<{
  form: ExternalAuthForm;
  method: string;
  /** Raw path and query after the prefix of the form; used only by `ext-authz`. */
  target: string;
  rawHeaders: readonly string[];
}>;
export type ParsedExternalAuth =
  | Fact<"described", { described: DescribedRequest }>
  | Fact<"refused", { reason: string }>;

export type ExternalAuthContext = Readonly<{
  isTrusted: (address: string) => boolean;
  /** Whether a route names exactly this host, without a wildcard. */
  isRouteHost: (hostname: string) => boolean;
  /**
   * The port of this server. A `Host` with this port is the server's own address, and does not describe the request.
   */
  listenPort: number;
}>;

export function parseExternalAuth(question: ExternalAuthQuery, reader: ExternalAuthContext): ParsedExternalAuth {
  const values = valuesOf(question.rawHeaders);
  const one = (name: string): string => {
    const [value, ...more] = values.get(name) ?? [];
    if (value === undefined || value === "" || more.length > 0) throw new UnreadableHeader(name);
    return value;
  };
  try {
    const place = addressOf(question, one);
    if (values.has("host")) refuseOtherHost(one("host"), place.authority, reader);
    const ip = clientAddressOf(values.get("x-forwarded-for") ?? [], reader.isTrusted);
    return { type: "described", described: { ...place, lines: linesOf(question.rawHeaders), ip } };
  } catch (error) {
    if (error instanceof UnreadableHeader) return { type: "refused", reason: error.header };
    throw error;
  }
}

/** A required header of a trusted proxy is missing, malformed or ambiguous. */
export class UnreadableHeader extends Error {
  readonly header: string;
  constructor(header: string) {
    super(header);
    this.header = header;
  }
}

type RequestAddress = Pick<DescribedRequest, "method" | "scheme" | "authority" | "target">;

function addressOf({ form, method, target }: ExternalAuthQuery, one: (name: string) => string): RequestAddress {
  switch (form) {
    case "forward-auth":
      return {
        method: one("x-forwarded-method"),
        scheme: schemeOf(one("x-forwarded-proto"), "x-forwarded-proto"),
        authority: one("x-forwarded-host"),
        target: one("x-forwarded-uri"),
      };
    case "auth-request": {
      // `URL` would normalize the target, which must stay as it arrived.
      const [, scheme, authority, rest] = /^([a-z]+):\/\/([^/?#]+)(.*)$/.exec(one("x-original-url")) ?? [];
      if (scheme === undefined || authority === undefined || rest === undefined)
        throw new UnreadableHeader("x-original-url");
      return {
        method: one("x-original-method"),
        scheme: schemeOf(scheme, "x-original-url"),
        authority,
        target: rest,
      };
    }
    case "ext-authz":
      return {
        method,
        scheme: schemeOf(one("x-forwarded-proto"), "x-forwarded-proto"),
        authority: one("host"),
        target,
      };
    default:
      return unreachable(form);
  }
}

/** Refuses a query whose `Host` names a route's host other than that of the described request. */
function refuseOtherHost(
  said: string,
  authority: string,
  { isRouteHost, listenPort: doorPort }: ExternalAuthContext,
): void {
  const host = parseHost(said);
  const described = parseHost(authority);
  if (host === undefined || host.port === doorPort || !isRouteHost(host.hostname)) return;
  if (host.hostname !== described?.hostname) throw new UnreadableHeader("host");
  if (host.port !== null && described.port !== null && host.port !== described.port) throw new UnreadableHeader("host");
}

/** Traefik sends `wss` for a WebSocket over TLS. */
export function schemeOf(written: string, header: string): "http" | "https" {
  if (written === "https" || written === "wss") return "https";
  if (written === "http" || written === "ws") return "http";
  throw new UnreadableHeader(header);
}

/** The last address that is not a trusted proxy's: each proxy appends the address of its peer. */
function clientAddressOf(lines: readonly string[], isTrusted: (address: string) => boolean): string {
  const addresses = lines
    .join(",")
    .split(",")
    .map((text) => text.trim());
  for (const [i, address] of addresses.toReversed().entries()) {
    if (isIP(address) === 0) break; // no known proxy vouches for the entries before it
    if (!isTrusted(address) || i === addresses.length - 1) return address;
  }
  throw new UnreadableHeader("x-forwarded-for");
}

function valuesOf(rawHeaders: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? "";
    values.set(name, [...(values.get(name) ?? []), rawHeaders[i + 1] ?? ""]);
  }
  return values;
}

/** The caller's headers, without those of the hop to this server and those by which the proxy describes the request. */
export function linesOf(rawHeaders: readonly string[]): readonly string[] {
  const lines: string[] = [];
  const connection: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]?.toLowerCase() === "connection") connection.push(rawHeaders[i + 1] ?? "");
  const dropped = connectionHeaderNames(connection.length === 0 ? undefined : connection.join(","));
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]?.toLowerCase() ?? "";
    if (name === "host" || name === "content-length" || name === "expect" || name.startsWith(":")) continue;
    if (hopByHopNames.has(name) || dropped?.has(name)) continue;
    if (name.startsWith("x-forwarded-") || name.startsWith("x-original-")) continue;
    lines.push(rawHeaders[i] ?? "", rawHeaders[i + 1] ?? "");
  }
  return lines;
}
