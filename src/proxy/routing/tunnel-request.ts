/**
 * Tunnel request: which host and port a CONNECT or a CONNECT-UDP asks for, and how it is accepted.
 *
 * Pure. CONNECT names them as its target. CONNECT-UDP over HTTP/1.1 (RFC 9298 §3.2) is a GET of `/.well-known/masque/udp/{host}/{port}/`
 * that asks to be upgraded; whoever speaks the RFC is told 101, whoever speaks as pomerium-cli does (its Host header is the target itself)
 * is told 200, the only status which that takes for a yes.
 */
import type { HostPort, RouteConfig, TunnelConfig } from "../../config/index.ts";
import { type CanonicalRequest, parseHost, type RequestHead } from "../message/canonical-request.ts";
import type { UpgradeKind } from "../message/downstream-request.ts";

export type TunnelAsked = Readonly<{ kind: TunnelConfig["kind"]; at: HostPort }>;

const masque = /^\/\.well-known\/masque\/udp\/([^/]{1,300})\/([0-9]{1,5})\/?$/;

/** Undefined: it asks for none; null: it asks for one in a way that cannot be read. */
export function readTunnel(
  upgrade: UpgradeKind | null,
  request: CanonicalRequest,
  { httpVersion }: Pick<RequestHead, "httpVersion">,
): TunnelAsked | null | undefined {
  const { method, hostname, port, headers, path, search } = request;
  if (upgrade === "connect") return port === null ? null : { kind: "tcp", at: { host: hostname, port } };
  if (upgrade !== "connect-udp") return undefined;
  if (httpVersion === "1.0") return null; // it has no answer that would say yes (RFC 9110 §7.8)
  if (method !== "GET" || headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0")
    return null;
  const capsules = headers["capsule-protocol"];
  if (capsules !== undefined && !/^\?1(?:;|$)/.test(capsules)) return null;
  const [, name = "", digits] = masque.exec(path) ?? [];
  const at = parseHost(`${name.includes(":") ? `[${name}]` : name}:${digits}`);
  if (at === undefined || at.port === null || search !== "") return null;
  return { kind: "udp", at: { host: at.hostname, port: at.port } };
}

/** The Host header of a CONNECT-UDP is the target, or the host that the route is reached at; anything else is a request for elsewhere. */
export function isAddressedTo(route: RouteConfig, asked: TunnelAsked, { hostname, port }: CanonicalRequest): boolean {
  if (asked.kind === "tcp") return true;
  if (namesTarget(asked, hostname, port)) return true;
  return hostname === (route.tunnel?.behindProxy === true ? route.host : asked.at.host);
}

function namesTarget({ at }: TunnelAsked, hostname: string, port: number | null): boolean {
  return hostname === at.host && port === at.port;
}

export type Acceptance = Readonly<{ status: 101 | 200; lines: readonly string[] }>;

export function acceptanceOf(asked: TunnelAsked, { hostname, port }: CanonicalRequest, requestId: string): Acceptance {
  const common = ["x-request-id", requestId];
  if (asked.kind === "tcp") return { status: 200, lines: common };
  const capsules = ["Capsule-Protocol", "?1", ...common];
  return namesTarget(asked, hostname, port)
    ? { status: 200, lines: capsules }
    : { status: 101, lines: ["Connection", "Upgrade", "Upgrade", "connect-udp", ...capsules] };
}
