/**
 * Recorded request reader: how the proxy would read the request that a decision record shows. Pure.
 *
 * It uses the same parts as a real request: a route that no longer matches, or another path, is a difference.
 */
import type { ReadRecord, RecordedQuestion } from "../../audit/index.ts";
import type { DecisionRecord } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import { recordedPathMax } from "../message/recorded-text.ts";
import { redacted } from "../observe/recorded-request.ts";
import { compileRouteTable } from "../routing/route-table.ts";
import { type DryRunRequest, dryRunRequest } from "./dry-run.ts";

/** Reads the records of decisions by a configuration with these routes. */
export function createRecordedRequestReader(routes: readonly RouteConfig[]): ReadRecord {
  const table = compileRouteTable(routes);
  return (record): RecordedQuestion => {
    const { method, path, ip, host, routeId } = record;
    const isPathWhole = !path.includes(redacted) && path.length <= recordedPathMax;
    if (!isPathWhole) {
      const request = { method, scheme: "https", host, rawPath: path, path, query: "", headers: {}, ip } as const;
      return { type: "read", routeId, request: { ...request, clientCertificate: null }, isPathWhole };
    }
    const head = recordedHead(record, routes);
    if (head === null) return unread("the record does not contain the requested port");
    const dryRun = dryRunRequest(head);
    if (dryRun.type === "refused") return unread(`the request is malformed: ${dryRun.reason}`);
    const refusal = dryRun.refusalOf(table);
    if (refusal !== undefined) return unread(`no route serves this spelling of the path: ${refusal}`);
    if (dryRun.reserved) return unread("the proxy answers this path itself");
    const route = dryRun.match(table) ?? null;
    return { type: "read", routeId: route?.id ?? null, request: dryRun.decisionRequest(route), isPathWhole };
  };
}

function unread(why: string): RecordedQuestion {
  return { type: "unread", why };
}

/**
 * The head of the recorded request. Null: the host has routes with ports, and the record does not say which port was
 * requested.
 */
export function recordedHead(record: DecisionRecord, routes: readonly RouteConfig[]): DryRunRequest | null {
  const { method, host, path, ip, routeId } = record;
  const named = routes.find(({ id }) => id === routeId);
  const head = { method, scheme: "https", headers: [], ip } as const;
  const kind = named?.tunnel?.kind ?? (method === "CONNECT" ? "tcp" : null);
  if (kind !== null) {
    const [, name = host, port = "0"] = /^(.*):(\d+)$/.exec(host) ?? [];
    return { ...head, authority: host, target: path || host, tunnel: { kind, at: { host: name, port: Number(port) } } };
  }
  const isHost = (route: RouteConfig): boolean => route.host === host || route.host.includes("*");
  const atPorts = routes.some((route) => isHost(route) && route.port !== null && route.tunnel === null);
  if (atPorts && named === undefined) return null;
  const port = named?.port ?? null; // a route with a port serves no other
  return { ...head, authority: port === null ? host : `${host}:${port}`, target: path, tunnel: null };
}
