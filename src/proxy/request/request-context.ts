/**
 * Request context: what is known of one request so far, the local replies to it, and the record of its decision.
 *
 * Pure but for the response it writes to.
 */
import {
  type DecisionRecord,
  type DecisionTrace,
  type FactTrace,
  isTooLongForRedirect,
  type Permit,
  type Principal,
  type RuleSetOutcomes,
} from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import { isAdministrator } from "../../console/index.ts";
import { type Moment, momentOf } from "../../replication/index.ts";
import type { CutReason, Exchange } from "../enforce/exchanges.ts";
import type { ForwardedTokens } from "../headers/provider-tokens.ts";
import type { UpstreamIdentity } from "../headers/upstream-headers.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { recordedMethod, recordedPath, roundedMs } from "../message/recorded-text.ts";
import { isCheck } from "../observe/authorize-line.ts";
import type { RouteMeter, RouteMeters } from "../observe/route-meters.ts";
import { type RequestTrace, traceTextOf } from "../observe/traces.ts";
import { type FailureReason, failureOf } from "../reply/failures.ts";
import { type Condition, localReplyFor } from "../reply/local-reply.ts";
import { replyFormatOf, replyFormatOfUnread } from "../reply/reply-format.ts";
import { writeLocalReply } from "../reply/write-reply.ts";
import type { RoutePlan } from "../routing/compiled-route.ts";
import { authorityOf, type Routes } from "../routing/route-table.ts";
import type { TunnelRequest } from "../routing/tunnel-request.ts";
import type { Routed } from "./admission.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { Identification } from "./identify-caller.ts";

export type RequestContext = {
  readonly downstream: Downstream;
  /** Generated here, unless a trusted proxy in front has sent one. */
  requestId: string;
  readonly startedAt: number;
  /** The clocks when the head had been read, or after the last wait. */
  asOf: Moment;
  /** The connection's peer. */
  readonly peer: string;
  /** The caller's address, as far as proxies in front are trusted. */
  ip: string;
  /** Null until it is read, and always if it was refused. */
  request: CanonicalRequest | null;
  plan: RoutePlan | null;
  /** What the steps of the pipeline have found out so far; null: not yet. */
  routed: RoutedRequest | null;
  identification: Identification | null;
  permitted: PermittedRequest | null;
  /** What is attached to the request for its upstream; null: nothing. */
  identity: UpstreamIdentity | null;
  tokens: ForwardedTokens | null;
  /** Bytes sent to the caller, without heads. */
  bytes: number;
  /** Bytes sent to an upstream, without heads. */
  bytesReceived: number;
  /** When it was sent to an upstream, and when the head of the response arrived; 0: not yet. Monotonic. */
  sentAt: number;
  answeredAt: number;
  /** Why it did not get a complete upstream response. */
  failure: FailureReason | null;
  /** Set when the request is permitted; closed when the connection is done with it. */
  exchange: Exchange | null;
  /** The counts of its route. */
  meter: RouteMeter;
  /** Null: no traces are made, or it was refused before it could be read. */
  trace: RequestTrace | null;
  /** The target of the tunnel that it requests, once a route matches. */
  tunnel: TunnelRequest | null;
  /** Whether the connection has switched protocols. */
  upgraded: boolean;
};

export function createRequestContext(
  downstream: Downstream,
  { requestId, asOf, meter }: Readonly<{ requestId: string; asOf: Moment; meter: RouteMeter }>,
): RequestContext {
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
    routed: null,
    identification: null,
    permitted: null,
    identity: null,
    tokens: null,
    bytes: 0,
    bytesReceived: 0,
    sentAt: 0,
    answeredAt: 0,
    failure: null,
    exchange: null,
    meter,
    trace: null,
    tunnel: null,
    upgraded: false,
  };
}

/** Assigns the route, under which the request is counted from here on. */
export function countUnderRoute(context: RequestContext, plan: RoutePlan, meters: RouteMeters): void {
  context.plan = plan;
  context.meter.leave();
  context.meter = meters.of(plan.route.id);
  context.meter.enter();
  context.trace?.routed(plan.route.id, plan.route.name, plan.scheme);
}

/** A request whose route is known. */
export type RoutedRequest = Routed<RequestContext>;
/** A request with its permit; `outcome` is what the record says of the decision. */
export type PermittedRequest = RoutedRequest &
  Readonly<{ exchange: Exchange; permit: Permit; outcome: RecordedOutcome }>;

/** Whether the pipeline goes on to its next step. "ended": the request has its reply, or is sent. */
export type Next = "next" | "ended";

/** What an earlier step has found out. */
export function reached<T>(value: T | null): T {
  if (value === null) throw new TypeError("a step of the pipeline ran before the one that it builds on");
  return value;
}

export type ReplyTools = Readonly<{ deps: ProxyDeps; routes: Routes; closing: () => boolean }>;

/** Host and port as the caller's address bar has them; null when they are not known. */
export function externalUrl(context: RequestContext): URL | null {
  const { request, plan } = context;
  if (request === null || plan === null) return null;
  return new URL(`${plan.scheme}://${authorityOf(plan.route, request)}${request.rawPath}${request.search}`);
}

/** @returns the status that was sent */
export function sendLocalReply(
  context: RequestContext,
  condition: Condition,
  tools: ReplyTools,
  principal: Principal | null = null,
  trace: DecisionTrace | null = null,
): number {
  const { deps, routes, closing } = tools;
  const { request, plan, downstream } = context;
  const { config } = deps;
  const route = plan?.route;
  const asked =
    request === null
      ? replyFormatOfUnread(downstream.head.rawHeaders)
      : replyFormatOf(request, {
          // Of a tunnel's clients many know a redirect alone as the word that they have to sign in.
          upgrade: context.tunnel !== null ? "tunnel" : downstream.upgrade === null ? null : "websocket",
          isRouteOrigin: routes.isRouteOrigin,
        });
  const url = externalUrl(context);
  const keepsAddress =
    asked.kind === "navigation" && asked.method === "GET" && url !== null && isTooLongForRedirect(url);
  const made = localReplyFor(condition, asked, {
    keepsAddress,
    requestId: context.requestId,
    at: deps.clock.wall(),
    host: request?.hostname ?? null,
    url: url?.href ?? null,
    explain: condition.type === "no-right" && route !== undefined ? deps.explain(route.id) : [],
    user: principal?.profile === undefined ? null : { name: principal.profile.name, email: principal.profile.email },
    details:
      route !== undefined && maySeeDetails(route, principal, config)
        ? [...detailRowsOf(deps, route.id), ...traceRowsOf(trace, route)]
        : [],
    signInLoop:
      condition.type === "no-session" && url !== null ? deps.signInLoopOf(url, request?.headers["cookie"]) : undefined,
  });
  context.failure ??= failureOf(condition);
  context.bytes += writeLocalReply(downstream, made, {
    render: deps.render,
    responseHeaders: route?.setResponseHeaders ?? config.setResponseHeaders,
    connection: closing() || downstream.upgrade !== null || endsConnection(condition) ? "close" : "keep",
    beginSignIn: () => {
      if (url === null || request === null || route === undefined)
        throw new TypeError("there is no sign-in without a route");
      const trace = traceTextOf(context.trace, request);
      return deps.beginSignIn(url, request.headers["cookie"], { route, trace, keepsAddress });
    },
  });
  return made.status;
}

/** Whether the connection closes without reading the rest of the request. */
function endsConnection({ type }: Condition): boolean {
  return type === "bad-request" || type === "request-timeout";
}

/** Whether the caller may see the details of a denial: if the route shows them, and operators always. */
export function maySeeDetails(
  { showErrorDetails }: Pick<RouteConfig, "showErrorDetails">,
  principal: Principal | null,
  { administrators }: Pick<Config, "administrators">,
): boolean {
  return showErrorDetails || (principal !== null && isAdministrator(principal, administrators));
}

export type DetailRows = readonly Readonly<{ name: string; value: string }>[];

export function detailRowsOf(deps: Pick<ProxyDeps, "replica" | "identity" | "config">, routeId: string): DetailRows {
  const { applied } = deps.replica;
  return [
    { name: "Route", value: routeId },
    { name: "Decided at", value: `epoch ${applied.epoch}, position ${applied.position}` },
    { name: "Node", value: deps.identity.node },
    { name: "Configuration", value: deps.config.hash },
  ];
}

export function traceRowsOf(trace: DecisionTrace | null, route: Pick<RouteConfig, "subPolicies">): DetailRows {
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

/** The explanation and remediation of an attached policy that denied the request or did not allow it. */
function wordsOf({ subPolicies }: Pick<RouteConfig, "subPolicies">, i: number, trace: DecisionTrace): DetailRows {
  const sub = subPolicies[i];
  const words = sub === undefined ? [] : [sub.explanation, sub.remediation].filter((text) => text !== "");
  if (sub === undefined || words.length === 0) return [];
  const own = trace.rules.filter(({ met, rule }) => met && rule.startsWith(`sub_policies[${i}]`));
  const isDeny = ({ rule }: (typeof own)[number]): boolean => /\.deny(?:\.|$)/.test(rule.replace(/\[\d+\]/g, ""));
  const allowed = own.length > 0 && !own.some(isDeny);
  return allowed ? [] : [{ name: sub.name === "" ? "Policy" : sub.name, value: words.join(" ") }];
}

/** Names no value that the rules compare with, and no group that they require. */
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
function withoutRepeats(rows: DetailRows): DetailRows {
  const placeIn = ({ value }: DetailRows[number]): number => Number(/\d+$/.exec(value)?.[0] ?? 0);
  const newest = Map.groupBy(rows, ({ name }) => name);
  return [...newest.values()].map((same) => same.reduce((a, b) => (placeIn(b) > placeIn(a) ? b : a)));
}

/** The reply for an exchange that was cut before its response began. */
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

export type RecordedOutcome = Pick<DecisionRecord, "result" | "status" | "reasons"> &
  Readonly<{
    occasion?: DecisionRecord["occasion"];
    trace?: DecisionRecord["trace"] | undefined;
    shadow?: DecisionRecord["shadow"] | undefined;
    /** For the authorize log; the record has `trace`. */
    sides?: RuleSetOutcomes | null;
    cutMs?: number;
  }>;

/**
 * Ids and reasons only: no query, no header, no claim.
 * @param at when it was decided
 */
export function decisionRecordOf(
  context: RequestContext,
  decided: RecordedOutcome,
  principal: Principal | null,
  deps: ProxyDeps,
  at: Moment = momentOf(deps.clock),
): DecisionRecord {
  const { request } = context;
  const { node, boot, region } = deps.identity;
  const { result, status, reasons, occasion = "request", trace, shadow, cutMs } = decided;
  const overdueMs = deps.freshness.overdueMs(at.monotonic, at.wall);
  const record = {
    node,
    boot,
    region,
    at: at.wall,
    occasion,
    requestId: context.requestId,
    routeId: context.plan?.route.id ?? null,
    method: recordedMethod(context.downstream.head.method),
    host: context.tunnel === null ? (request?.hostname ?? "") : `${context.tunnel.at.host}:${context.tunnel.at.port}`,
    path: recordedPath(request?.rawPath ?? ""),
    ip: context.ip,
    sessionId: principal?.session.sessionId ?? null,
    userId: principal?.userId ?? null,
    result,
    status,
    reasons,
    applied: deps.replica.applied,
    configHash: deps.config.hash,
    overdueMs: Number.isFinite(overdueMs) ? Math.round(overdueMs) : null,
  };
  if (occasion === "request" && trace === undefined && shadow === undefined)
    return { ...record, latencyMs: roundedMs(deps.clock.monotonic() - context.startedAt) }; // of nearly all
  return {
    ...record,
    ...(occasion === "request" ? { latencyMs: roundedMs(deps.clock.monotonic() - context.startedAt) } : {}),
    ...(cutMs === undefined ? {} : { cutMs }),
    ...(trace === undefined ? {} : { trace }),
    ...(shadow === undefined ? {} : { shadow }),
  };
}

export function recordDecision(
  context: RequestContext,
  decided: RecordedOutcome,
  principal: Principal | null,
  deps: ProxyDeps,
  at?: Moment,
): void {
  if (decided.occasion === undefined) context.trace?.decided(decided.result, decided.reasons);
  const complete = decisionRecordOf(context, decided, principal, deps, at);
  deps.recorder.record(complete);
  if (deps.authorizeLog === null || !isCheck(complete)) return;
  const route = context.plan?.route ?? null;
  deps.authorizeLog({ record: complete, sides: decided.sides ?? null, principal, route, request: context.request });
}
