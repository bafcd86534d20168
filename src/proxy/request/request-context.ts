/**
 * Visit: one request from its head to its answer, with what is known of it so far, and the answers of our own to it.
 *
 * Pure but for the response it writes to.
 */
import {
  type DecisionRecord,
  type DecisionTrace,
  type FactTrace,
  isTooLongToCarry,
  type Principal,
  type Sides,
} from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import { isAdministrator } from "../../console/index.ts";
import { type Moment, momentOf } from "../../replication/index.ts";
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { recordedMethod, recordedPath, roundedMs } from "../message/recorded-text.ts";
import { isCheck } from "../observe/authorize-line.ts";
import type { RouteMeter, RouteMeters } from "../observe/route-meters.ts";
import { type RequestTrace, traceTextOf } from "../observe/traces.ts";
import { type FailureReason, failureOf } from "../reply/failures.ts";
import { answerFor, type Condition } from "../reply/local-reply.ts";
import { readAsked, unreadable } from "../reply/reply-format.ts";
import { writeAnswer } from "../reply/write-reply.ts";
import type { RoutePlan } from "../routing/compiled-route.ts";
import { authorityOf, type Routes } from "../routing/route-table.ts";
import type { TunnelAsked } from "../routing/tunnel-request.ts";
import type { ProxyPorts } from "./dependencies.ts";

export type Visit = {
  readonly downstream: Downstream;
  /** Ours, unless a trusted proxy in front of us has given it one. */
  requestId: string;
  readonly startedAt: number;
  /** What the clocks said when its head had been read, or since then when what it waited for had come. */
  asOf: Moment;
  /** The connection's peer. */
  readonly peer: string;
  /** The caller's address as far as proxies in front of us are believed. */
  ip: string;
  /** Null until it was read, and for ever when it was refused. */
  request: CanonicalRequest | null;
  plan: RoutePlan | null;
  /** Bytes that were passed on to the caller, without heads. */
  bytes: number;
  /** Bytes of the caller's that were passed on to an upstream, without heads. */
  bytesReceived: number;
  /** When it was handed to an upstream, and when the head of its answer came; 0: not yet. Monotonic. */
  sentAt: number;
  answeredAt: number;
  /** Why it did not get all that an upstream had for it. */
  failure: FailureReason | null;
  /** From its permit on; it ends with the connection's use for this request. */
  exchange: Exchange | null;
  /** Counts for its route. */
  meter: RouteMeter;
  /** Null: no traces are made, or it was refused before it could be read. */
  trace: RequestTrace | null;
  /** What it asks to be led to, when a route leads there. */
  tunnel: TunnelAsked | null;
  /** The connection was given to an upgrade. */
  switched: boolean;
};

export function newVisit(
  downstream: Downstream,
  { requestId, asOf, meter }: Readonly<{ requestId: string; asOf: Moment; meter: RouteMeter }>,
): Visit {
  const { peer } = downstream;
  return {
    downstream,
    requestId,
    startedAt: asOf.monotonic,
    asOf,
    peer,
    ip: peer,
    request: null,
    plan: null,
    bytes: 0,
    bytesReceived: 0,
    sentAt: 0,
    answeredAt: 0,
    failure: null,
    exchange: null,
    meter,
    trace: null,
    tunnel: null,
    switched: false,
  };
}

/** Leads it to a route: from here on it is counted there. */
export function leadTo(visit: Visit, plan: RoutePlan, meters: RouteMeters): void {
  visit.plan = plan;
  visit.meter.leave();
  visit.meter = meters.of(plan.route.id);
  visit.meter.enter();
  visit.trace?.routed(plan.route.id, plan.route.name, plan.scheme);
}

export type AnswerTools = Readonly<{ ports: ProxyPorts; routes: Routes; closing: () => boolean }>;

/** Host and port as the caller's address bar has them; null when they are not known. */
export function externalUrl(visit: Visit): URL | null {
  const { request, plan } = visit;
  if (request === null || plan === null) return null;
  return new URL(`${plan.scheme}://${authorityOf(plan.route, request)}${request.rawPath}${request.search}`);
}

/** @returns the status that was sent */
export function answer(
  visit: Visit,
  condition: Condition,
  tools: AnswerTools,
  principal: Principal | null = null,
  trace: DecisionTrace | null = null,
): number {
  const { ports, routes, closing } = tools;
  const { request, plan, downstream } = visit;
  const { config } = ports;
  const route = plan?.route;
  const asked =
    request === null
      ? unreadable(downstream.head.rawHeaders)
      : readAsked(request, {
          // Of a tunnel's clients many know a redirect alone as the word that they have to sign in.
          upgrade: visit.tunnel !== null ? "tunnel" : downstream.upgrade === null ? null : "websocket",
          isRouteOrigin: routes.isRouteOrigin,
        });
  const url = externalUrl(visit);
  const keepsAddress = asked.kind === "navigation" && asked.method === "GET" && url !== null && isTooLongToCarry(url);
  const made = answerFor(condition, asked, {
    keepsAddress,
    requestId: visit.requestId,
    at: ports.clock.wall(),
    host: request?.hostname ?? null,
    url: url?.href ?? null,
    explain: condition.type === "no-right" && route !== undefined ? ports.explain(route.id) : [],
    user: principal?.profile === undefined ? null : { name: principal.profile.name, email: principal.profile.email },
    details:
      route !== undefined && maySeeDetails(route, principal, config)
        ? [...detailsOf(ports, route.id), ...traceDetails(trace, route)]
        : [],
    signInLoop:
      condition.type === "no-session" && url !== null ? ports.signInLoopOf(url, request?.headers["cookie"]) : undefined,
  });
  visit.failure ??= failureOf(condition);
  visit.bytes += writeAnswer(downstream, made, {
    render: ports.render,
    responseHeaders: route?.setResponseHeaders ?? config.setResponseHeaders,
    connection: closing() || downstream.upgrade !== null || endsConnection(condition) ? "close" : "keep",
    beginSignIn: () => {
      if (url === null || request === null || route === undefined)
        throw new TypeError("nobody signs in without a route");
      const trace = traceTextOf(visit.trace, request);
      return ports.beginSignIn(url, request.headers["cookie"], { route, trace, keepsAddress });
    },
  });
  return made.status;
}

/** The rest of the request is not waited for. */
function endsConnection({ type }: Condition): boolean {
  return type === "bad-request" || type === "request-timeout";
}

/** Whoever the route shows them to, and operators always. */
export function maySeeDetails(
  { showErrorDetails }: Pick<RouteConfig, "showErrorDetails">,
  principal: Principal | null,
  { administrators }: Pick<Config, "administrators">,
): boolean {
  return showErrorDetails || (principal !== null && isAdministrator(principal, administrators));
}

export type Details = readonly Readonly<{ name: string; value: string }>[];

export function detailsOf(ports: Pick<ProxyPorts, "replica" | "identity" | "config">, routeId: string): Details {
  const { applied } = ports.replica;
  return [
    { name: "Route", value: routeId },
    { name: "Decided at", value: `epoch ${applied.epoch}, position ${applied.position}` },
    { name: "Node", value: ports.identity.node },
    { name: "Configuration", value: ports.config.hash },
  ];
}

export function traceDetails(trace: DecisionTrace | null, route: Pick<RouteConfig, "subPolicies">): Details {
  if (trace === null) return [];
  const told = route.subPolicies.flatMap((_, i) => wordsOf(route, i, trace));
  const rows = trace.rules.map(({ rule, met, criteriaMet, criteriaUnmet }) => {
    const words = [...criteriaMet.map((name) => `+${name}`), ...criteriaUnmet.map((name) => `-${name}`)];
    return { name: rule, value: `${met ? "met" : "not met"}: ${words.join(" ")}` };
  });
  const facts = trace.facts.map((fact) => ({ name: factName(fact), value: placeText(fact) }));
  return [
    { name: "Refused by", value: trace.rule ?? "no rule; none allows it" },
    ...told,
    ...rows,
    ...withoutRepeats(facts),
  ];
}

/** What an attached policy has to say to whoever it denied, or did not allow. */
function wordsOf({ subPolicies }: Pick<RouteConfig, "subPolicies">, i: number, trace: DecisionTrace): Details {
  const sub = subPolicies[i];
  const words = sub === undefined ? [] : [sub.explanation, sub.remediation].filter((text) => text !== "");
  if (sub === undefined || words.length === 0) return [];
  const own = trace.rules.filter(({ met, rule }) => met && rule.startsWith(`sub_policies[${i}]`));
  const isDeny = ({ rule }: (typeof own)[number]): boolean => /\.deny(?:\.|$)/.test(rule.replace(/\[\d+\]/g, ""));
  const allowed = own.length > 0 && !own.some(isDeny);
  return allowed ? [] : [{ name: sub.name === "" ? "Policy" : sub.name, value: words.join(" ") }];
}

/** What the rules compare with is not told: neither is which groups they ask for. */
function factName({ fact }: FactTrace): string {
  const kind = fact.slice(0, fact.indexOf(":"));
  return (
    {
      session: "Your session",
      user: "You, as a person",
      group: "Your groups",
      device: "Your device",
      configuration: "The configuration here",
    }[kind] ?? "A data set"
  );
}

function placeText({ position, exact }: FactTrace): string {
  if (position === null) return "does not stand in the log";
  if (position === 0) return "no event ever changed it";
  return exact ? `last set by event ${position}` : `last set at or before event ${position}`;
}

/** Of several groups, the one that changed last. */
function withoutRepeats(rows: Details): Details {
  const placeIn = ({ value }: Details[number]): number => Number(/\d+$/.exec(value)?.[0] ?? 0);
  const newest = Map.groupBy(rows, ({ name }) => name);
  return [...newest.values()].map((same) => same.reduce((a, b) => (placeIn(b) > placeIn(a) ? b : a)));
}

/** What an exchange that was cut before its answer began is told instead. */
export function conditionOfCut(reason: CutReason): Condition {
  switch (reason) {
    case "session-ended":
      return { type: "no-session", reasons: ["user-unauthenticated"] };
    case "not-permitted":
      return { type: "no-right", status: 403, reasons: [] };
    case "route-removed":
      return { type: "no-route" };
    case "stale":
      return { type: "unknown", why: "lease" };
    case "lifetime":
      return { type: "upstream-timeout" };
    default:
      return { type: "unknown", why: "draining" };
  }
}

export type Decided = Pick<DecisionRecord, "result" | "status" | "reasons"> &
  Readonly<{
    occasion?: DecisionRecord["occasion"];
    trace?: DecisionRecord["trace"] | undefined;
    shadow?: DecisionRecord["shadow"] | undefined;
    /** For the authorize log; the record has `trace`. */
    sides?: Sides | null;
    cutMs?: number;
  }>;

/**
 * Ids and reasons only: no query, no header, no claim.
 * @param at when it was decided
 */
export function completeRecord(
  visit: Visit,
  decided: Decided,
  principal: Principal | null,
  ports: ProxyPorts,
  at: Moment = momentOf(ports.clock),
): DecisionRecord {
  const { request } = visit;
  const { node, boot, region } = ports.identity;
  const { result, status, reasons, occasion = "request", trace, shadow, cutMs } = decided;
  const overdueMs = ports.freshness.overdueMs(at.monotonic, at.wall);
  const record = {
    node,
    boot,
    region,
    at: at.wall,
    occasion,
    requestId: visit.requestId,
    routeId: visit.plan?.route.id ?? null,
    method: recordedMethod(visit.downstream.head.method),
    host: visit.tunnel === null ? (request?.hostname ?? "") : `${visit.tunnel.at.host}:${visit.tunnel.at.port}`,
    path: recordedPath(request?.rawPath ?? ""),
    ip: visit.ip,
    sessionId: principal?.session.sessionId ?? null,
    userId: principal?.userId ?? null,
    result,
    status,
    reasons,
    applied: ports.replica.applied,
    configHash: ports.config.hash,
    overdueMs: Number.isFinite(overdueMs) ? Math.round(overdueMs) : null,
  };
  if (occasion === "request" && trace === undefined && shadow === undefined)
    return { ...record, latencyMs: roundedMs(ports.clock.monotonic() - visit.startedAt) }; // of nearly all
  return {
    ...record,
    ...(occasion === "request" ? { latencyMs: roundedMs(ports.clock.monotonic() - visit.startedAt) } : {}),
    ...(cutMs === undefined ? {} : { cutMs }),
    ...(trace === undefined ? {} : { trace }),
    ...(shadow === undefined ? {} : { shadow }),
  };
}

export function record(
  visit: Visit,
  decided: Decided,
  principal: Principal | null,
  ports: ProxyPorts,
  at?: Moment,
): void {
  if (decided.occasion === undefined) visit.trace?.decided(decided.result, decided.reasons);
  const complete = completeRecord(visit, decided, principal, ports, at);
  ports.record(complete);
  if (ports.authorizeLog === null || !isCheck(complete)) return;
  const route = visit.plan?.route ?? null;
  ports.authorizeLog({ record: complete, sides: decided.sides ?? null, principal, route, request: visit.request });
}
