/**
 * Tunnel request: the host and port that a CONNECT or CONNECT-UDP asks for, and the response that accepts it. Pure.
 *
 * CONNECT names the target itself. CONNECT-UDP over HTTP/1.1 (RFC 9298 §3.2) is an upgrade request for
 * `/.well-known/masque/udp/{host}/{port}/`. A client that follows the RFC gets 101. pomerium-cli sends the target as
 * its Host header and accepts only 200, so it gets 200. Over HTTP/2 it is an extended CONNECT, with 200.
 */
import type { HostPort, RouteConfig, TunnelConfig } from "../../config/index.ts";
import { type CanonicalRequest, parseHost, type RequestHead } from "../message/canonical-request.ts";
import type { UpgradeKind } from "../message/downstream-request.ts";

export type TunnelRequest = Readonly<{ kind: TunnelConfig["kind"]; at: HostPort }>;

const masque = /^\/\.well-known\/masque\/udp\/([^/]{1,300})\/([0-9]{1,5})\/?$/;

/** @returns undefined when the request asks for no tunnel; null when its target is malformed */
export function readTunnel(
  upgrade: UpgradeKind | null,
  request: CanonicalRequest,
  { httpVersion }: Pick<RequestHead, "httpVersion">,
): TunnelRequest | null | undefined {
  const { method, hostname, port, headers, path, search } = request;
  if (upgrade === "connect") return port === null ? null : { kind: "tcp", at: { host: hostname, port } };
  if (upgrade !== "connect-udp") return undefined;
  if (httpVersion === "1.0") return null; // HTTP/1.0 has no upgrade (RFC 9110 §7.8)
  if (method !== "GET" || headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0")
    return null;
  const capsules = headers["capsule-protocol"];
  if (capsules !== undefined && !/^\?1(?:;|$)/.test(capsules)) return null;
  const [, name = "", digits] = masque.exec(path) ?? [];
  const at = parseHost(`${name.includes(":") ? `[${name}]` : name}:${digits}`);
  if (at === undefined || at.port === null || search !== "") return null;
  return { kind: "udp", at: { host: at.hostname, port: at.port } };
}

/** The Host header of a CONNECT-UDP must be the target or the host of the route. */
export function isAddressedTo(route: RouteConfig, asked: TunnelRequest, { hostname, port }: CanonicalRequest): boolean {
  if (asked.kind === "tcp") return true;
  if (namesTarget(asked, hostname, port)) return true;
  return hostname === (route.tunnel?.behindProxy === true ? route.host : asked.at.host);
}

function namesTarget({ at }: TunnelRequest, hostname: string, port: number | null): boolean {
  return hostname === at.host && port === at.port;
}

export type Acceptance = Readonly<{ status: 101 | 200; lines: readonly string[] }>;

export function acceptanceOf(
  asked: TunnelRequest,
  { hostname, port }: CanonicalRequest,
  { httpVersion, requestId }: Readonly<{ httpVersion: string; requestId: string }>,
): Acceptance {
  const common = ["x-request-id", requestId];
  if (asked.kind === "tcp") return { status: 200, lines: common };
  const capsules = ["Capsule-Protocol", "?1", ...common];
  return httpVersion === "2" || namesTarget(asked, hostname, port)
    ? { status: 200, lines: capsules }
    : { status: 101, lines: ["Connection", "Upgrade", "Upgrade", "connect-udp", ...capsules] };
}
