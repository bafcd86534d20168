/**
 * Admission: may a caller have this route, for a new request and for every exchange that is open. A pure core (docs/adr/0015): the proxy's
 * authorizer and the simulator run this file.
 *
 * - There is one for each configuration. Only the one in force admits. It also judges what an earlier one has admitted (docs/adr/0020).
 * - `admit` decides and registers the exchange in one turn, so no change of facts falls between the two.
 * - A request is compared with the lease as of the moment at which its head was read, or which follows its last wait (docs/adr/0028).
 * - It performs nothing: its caller answers, records and forwards by what comes back. Decisions about open exchanges leave by `record`.
 */
import type {
  AnnotateDecision,
  Decision,
  DecisionRequest,
  KnownCaller,
  Permit,
  Principal,
  RuleSetOutcomes,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { Fact, UnixMs } from "../../events/index.ts";
import type { CutReason, Exchange, ExchangeLimits, Exchanges, ReauthorizeOutcome } from "../enforce/exchanges.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { kindOf } from "../message/exchange-kind.ts";
import type { Plans, RoutePlan } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import type { ProxyDeps } from "./dependencies.ts";
import type { CallerIdentifier, CredentialHolder } from "./identify-caller.ts";
import type { RecordedOutcome, RequestContext } from "./request-context.ts";

/** What of a request's context counts for its admission. */
export type AdmissionContext = Pick<RequestContext, "asOf" | "ip" | "tunnel"> &
  Readonly<{ downstream: Pick<Downstream, "certificate" | "upgrade"> }>;

/** A request whose route is known. */
export type Routed<Context extends AdmissionContext> = Readonly<{
  context: Context;
  plan: RoutePlan;
  request: CanonicalRequest;
}>;

/** What was permitted, and to whom. */
export type OpenRequest<Context extends AdmissionContext> = Routed<Context> &
  Readonly<{ holder: CredentialHolder; decisionRequest: DecisionRequest; permittedTo: Principal | null }>;

type Annotations = ReturnType<AnnotateDecision>;

export type AdmissionOutcome =
  /** The projection is behind what the credential needs: nothing is known of the caller. */
  | Fact<"behind", unknown>
  | Fact<
      "refused",
      { decision: Exclude<Decision, Fact<"permit", unknown>>; principal: Principal | null; annotations: Annotations }
    >
  | Fact<
      "permitted",
      {
        exchange: Exchange;
        permit: Permit;
        reasons: readonly string[];
        sides: RuleSetOutcomes | null;
        annotations: Annotations;
      }
    >;

export type Admission<Context extends AdmissionContext> = Readonly<{
  /** Whether the lease has expired for longer than the request's route allows. */
  isStale(routed: Routed<Context>): boolean;
  /** Decides about a request by this configuration. A permit comes with its exchange, which is registered. */
  admit(routed: Routed<Context>, holder: CredentialHolder): AdmissionOutcome;
  /** Decides about an open exchange again, as the projection and the clock are now. */
  reauthorize(open: OpenRequest<Context>): ReauthorizeOutcome;
}>;

export type AdmissionParts<Context extends AdmissionContext> = Readonly<{
  deps: Pick<ProxyDeps, "clock" | "freshness" | "decide" | "annotateDecision"> &
    Readonly<{ config: Readonly<{ timeouts: Readonly<{ writeMs: number }> }> }>;
  plans: Pick<Plans, "has" | "successorsOf" | "routes">;
  exchanges: Pick<Exchanges, "open" | "enforcing">;
  callerOf: CallerIdentifier["resolve"];
  /** The admission of the configuration in force. */
  current: () => Pick<Admission<Context>, "reauthorize">;
  /** A decision about an open exchange. */
  record: (context: Context, decided: RecordedOutcome, permittedTo: Principal | null) => void;
}>;

export function createAdmission<Context extends AdmissionContext>(parts: AdmissionParts<Context>): Admission<Context> {
  const { deps, plans, exchanges, callerOf, current, record } = parts;
  const { config, clock, freshness } = deps;

  function isStale({ context, plan }: Routed<Context>): boolean {
    const { monotonic, wall } = context.asOf;
    return freshness.overdueMs(monotonic, wall) > plan.route.staleGraceMs;
  }

  // --- a new request

  function admit(routed: Routed<Context>, holder: CredentialHolder): AdmissionOutcome {
    const { context, plan } = routed;
    const now = context.asOf.wall;
    const caller = callerOf(holder, plan.route, now);
    if (caller.type === "behind") return { type: "behind" };
    const decisionRequest = decisionRequestOf(routed, now);
    const decision = deps.decide({ routeId: plan.route.id, caller, request: decisionRequest, now });
    const annotations = annotate(routed, { holder, caller, decisionRequest, now }, decision);
    if (decision.type === "permit") return permit(routed, { holder, decisionRequest, annotations, decision });
    const principal = caller.type === "principal" ? caller.principal : null;
    return { type: "refused", decision, principal, annotations };
  }

  function permit(
    { context, plan, request }: Routed<Context>,
    {
      holder,
      decisionRequest,
      annotations,
      decision: { permit, reads, until, reasons, outcomes: sides },
    }: Readonly<{
      holder: CredentialHolder;
      decisionRequest: DecisionRequest;
      annotations: Annotations;
      decision: Extract<Decision, Fact<"permit", unknown>>;
    }>,
  ): AdmissionOutcome {
    const open: OpenRequest<Context> = {
      context,
      plan,
      request,
      holder,
      decisionRequest,
      permittedTo: permit.principal,
    };
    const exchange = exchanges.open({
      kind: kindOf(context.downstream),
      reads,
      until,
      graceMs: plan.route.staleGraceMs,
      lifetimeMs: shorter(plan.route.maxStreamLifetimeMs, config.timeouts.writeMs),
      openedAt: context.asOf.monotonic,
      redecide: () => current().reauthorize(open),
    });
    return { type: "permitted", exchange, permit, reasons, sides, annotations };
  }

  function annotate(
    { plan }: Routed<Context>,
    of: Readonly<{ holder: CredentialHolder; caller: KnownCaller; decisionRequest: DecisionRequest; now: UnixMs }>,
    answered: Parameters<AnnotateDecision>[1],
  ): Annotations {
    const { holder, caller, decisionRequest, now } = of;
    const principal = caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
    const session = holder.handle ?? null;
    return deps.annotateDecision(
      { routeId: plan.route.id, principal, session, request: decisionRequest, now },
      answered,
    );
  }

  // --- what is open

  function reauthorize(open: OpenRequest<Context>): ReauthorizeOutcome {
    const { context, plan, request } = open;
    if (plans.has(plan)) return reauthorizeHere(open);
    // An earlier configuration has permitted it. It continues as it began, if the routes that stand here now permit it.
    const verdicts: Extract<ReauthorizeOutcome, { type: "permitted" }>[] = [];
    for (const successor of plans.successorsOf(plan.route, routeOf(context, request))) {
      const routed = { context: { ...context, plan: successor }, plan: successor, request };
      const verdict = reauthorizeHere({ ...open, ...routed, decisionRequest: decisionRequestOf(routed, clock.wall()) });
      if (verdict.type === "refused") return verdict;
      verdicts.push({ ...verdict, limits: termsOf(successor) });
    }
    if (verdicts.length > 0) return strictestOf(verdicts);
    const gone = { result: "not_found", status: 404, reasons: ["route-not-found"], occasion: "redecision" } as const;
    record(context, gone, open.permittedTo);
    return { type: "refused", reason: "route-removed" };
  }

  function routeOf({ tunnel }: AdmissionContext, request: CanonicalRequest): RouteConfig | undefined {
    return tunnel === null ? plans.routes.match(request) : plans.routes.matchTunnel(tunnel.kind, tunnel.at);
  }

  function reauthorizeHere(open: OpenRequest<Context>): ReauthorizeOutcome {
    const { context, plan, holder, decisionRequest, permittedTo } = open;
    const now = clock.wall();
    const again = (decided: Omit<RecordedOutcome, "occasion">): void =>
      record(context, { ...decided, occasion: "redecision", ...cutOf(decided, now) }, permittedTo);
    const caller = callerOf(holder, plan.route, now);
    if (caller.type === "behind") {
      again({ result: "unavailable", status: 503, reasons: ["behind"] });
      return { type: "refused", reason: "stale" };
    }
    const decision = deps.decide({ routeId: plan.route.id, caller, request: decisionRequest, now });
    // A permit for a session ends with the session, also where the route is open to everyone.
    const ended = permittedTo !== null && (caller.type !== "principal" || caller.principal.session.expiresAt <= now);
    const answered: Parameters<AnnotateDecision>[1] = ended ? { type: "signin" } : decision;
    const annotations = annotate(open, { holder, caller, decisionRequest, now }, answered);
    if (decision.type === "permit" && !ended) {
      again({ result: "permit", status: 200, reasons: decision.reasons, ...annotations });
      return { type: "permitted", reads: decision.reads, until: decision.until };
    }
    const reason: CutReason = ended || decision.type === "signin" ? "session-ended" : "not-permitted";
    if (reason === "session-ended")
      again({ result: "signin", status: 401, reasons: ["user-unauthenticated"], ...annotations });
    else {
      const status = decision.type === "deny" ? decision.status : 403;
      again({ result: "deny", status, reasons: decision.reasons, ...annotations });
    }
    return { type: "refused", reason };
  }

  /** How long after its commit a change cuts an exchange. The leader's clock may differ from this node's. */
  function cutOf({ result }: Pick<RecordedOutcome, "result">, now: UnixMs): Pick<RecordedOutcome, "cutMs"> {
    const committedAt = exchanges.enforcing;
    return result === "permit" || committedAt === null ? {} : { cutMs: Math.max(0, now - committedAt) };
  }

  function termsOf({ route }: RoutePlan): ExchangeLimits {
    return {
      graceMs: route.staleGraceMs,
      lifetimeMs: shorter(route.maxStreamLifetimeMs, config.timeouts.writeMs),
    };
  }

  return { isStale, admit, reauthorize };
}

/** No more than each of several permits allows. */
function strictestOf(verdicts: readonly Extract<ReauthorizeOutcome, { type: "permitted" }>[]): ReauthorizeOutcome {
  const untils = verdicts.flatMap(({ until }) => (until === null ? [] : [until]));
  const terms = verdicts.flatMap((verdict) => verdict.limits ?? []);
  return {
    type: "permitted",
    reads: [...new Set(verdicts.flatMap(({ reads }) => reads))],
    until: untils.length === 0 ? null : (Math.min(...untils) as UnixMs),
    limits: {
      graceMs: Math.min(...terms.map(({ graceMs }) => graceMs)),
      lifetimeMs: terms.reduce((least, { lifetimeMs }) => shorter(least, lifetimeMs), 0),
    },
  };
}

/** The smaller limit; 0 means unlimited. */
function shorter(a: number, b: number): number {
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
}

function decisionRequestOf({ context, plan, request }: Routed<AdmissionContext>, now: UnixMs): DecisionRequest {
  return {
    method: request.method,
    scheme: plan.scheme,
    host: authorityOf(plan.route, request),
    rawPath: request.rawPath,
    path: request.path,
    query: request.search.slice(1),
    headers: request.headers,
    ip: context.ip,
    clientCertificate: plan.clientTrust?.judge(context.downstream.certificate, now) ?? null,
  };
}
