/**
 * Admission: may a caller have this route, for a new request and for every exchange that is open. A pure core (docs/adr/0015): the proxy's
 * decision desk and the simulator run this file.
 *
 * - There is one for each configuration. Only the one in force admits. It also judges what an earlier one has admitted (docs/adr/0020).
 * - `admit` decides and registers the exchange in one turn, so no change of facts falls between the two.
 * - A request is compared with the lease as of the moment at which its head was read, or which follows its last wait (docs/adr/0028).
 * - It performs nothing: its caller answers, records and forwards by what comes back. Decisions about open exchanges leave by `record`.
 */
import type {
  Decision,
  DecisionRequest,
  DescribeDecision,
  KnownCaller,
  Permit,
  Principal,
  Sides,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { Fact, UnixMs } from "../../events/index.ts";
import type { CutReason, Exchange, Exchanges, ExchangeTerms, Verdict } from "../enforce/exchanges.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import type { Downstream } from "../message/downstream-request.ts";
import { kindOf } from "../message/exchange-kind.ts";
import type { Plans, RoutePlan } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import type { ProxyPorts } from "./dependencies.ts";
import type { Holder, WhoAsks } from "./identify-caller.ts";
import type { Decided, Visit } from "./request-context.ts";

/** What of a request's context counts for its admission. */
export type Applicant = Pick<Visit, "asOf" | "ip" | "tunnel"> &
  Readonly<{ downstream: Pick<Downstream, "certificate" | "upgrade"> }>;

/** A request whose route is known. */
export type Routed<Context extends Applicant> = Readonly<{
  visit: Context;
  plan: RoutePlan;
  request: CanonicalRequest;
}>;

/** What was permitted, and to whom. */
export type Open<Context extends Applicant> = Routed<Context> &
  Readonly<{ asking: Holder; question: DecisionRequest; permittedTo: Principal | null }>;

type Beside = ReturnType<DescribeDecision>;

export type Admitted =
  /** The projection is behind what the credential needs: nothing is known of the caller. */
  | Fact<"behind", unknown>
  | Fact<
      "refused",
      { decision: Exclude<Decision, Fact<"permit", unknown>>; principal: Principal | null; beside: Beside }
    >
  | Fact<
      "permitted",
      { exchange: Exchange; permit: Permit; reasons: readonly string[]; sides: Sides | null; beside: Beside }
    >;

export type Admission<Context extends Applicant> = Readonly<{
  /** Whether the lease has expired for longer than the request's route allows. */
  isStale(routed: Routed<Context>): boolean;
  /** Decides about a request by this configuration. A permit comes with its exchange, which is registered. */
  admit(routed: Routed<Context>, asking: Holder): Admitted;
  /** Decides about an open exchange again, as the projection and the clock are now. */
  judge(open: Open<Context>): Verdict;
}>;

export type AdmissionParts<Context extends Applicant> = Readonly<{
  ports: Pick<ProxyPorts, "clock" | "freshness" | "decide" | "beside"> &
    Readonly<{ config: Readonly<{ timeouts: Readonly<{ writeMs: number }> }> }>;
  plans: Pick<Plans, "has" | "successorsOf" | "routes">;
  exchanges: Pick<Exchanges, "open" | "enforcing">;
  callerOf: WhoAsks["callerOf"];
  /** The admission of the configuration in force. */
  current: () => Pick<Admission<Context>, "judge">;
  /** A decision about an open exchange. */
  record: (visit: Context, decided: Decided, permittedTo: Principal | null) => void;
}>;

export function createAdmission<Context extends Applicant>(parts: AdmissionParts<Context>): Admission<Context> {
  const { ports, plans, exchanges, callerOf, current, record } = parts;
  const { config, clock, freshness } = ports;

  function isStale({ visit, plan }: Routed<Context>): boolean {
    const { monotonic, wall } = visit.asOf;
    return freshness.overdueMs(monotonic, wall) > plan.route.staleGraceMs;
  }

  // --- a new request

  function admit(routed: Routed<Context>, asking: Holder): Admitted {
    const { visit, plan } = routed;
    const now = visit.asOf.wall;
    const caller = callerOf(asking, plan.route, now);
    if (caller.type === "behind") return { type: "behind" };
    const question = questionOf(routed, now);
    const decision = ports.decide({ routeId: plan.route.id, caller, request: question, now });
    const beside = besideOf(routed, { asking, caller, question, now }, decision);
    if (decision.type === "permit") return permit(routed, { asking, question, beside, decision });
    const principal = caller.type === "principal" ? caller.principal : null;
    return { type: "refused", decision, principal, beside };
  }

  function permit(
    { visit, plan, request }: Routed<Context>,
    {
      asking,
      question,
      beside,
      decision: { permit, reads, until, reasons, sides },
    }: Readonly<{
      asking: Holder;
      question: DecisionRequest;
      beside: Beside;
      decision: Extract<Decision, Fact<"permit", unknown>>;
    }>,
  ): Admitted {
    const open: Open<Context> = { visit, plan, request, asking, question, permittedTo: permit.principal };
    const exchange = exchanges.open({
      kind: kindOf(visit.downstream),
      reads,
      until,
      graceMs: plan.route.staleGraceMs,
      lifetimeMs: shorter(plan.route.maxStreamLifetimeMs, config.timeouts.writeMs),
      openedAt: visit.asOf.monotonic,
      redecide: () => current().judge(open),
    });
    return { type: "permitted", exchange, permit, reasons, sides, beside };
  }

  function besideOf(
    { plan }: Routed<Context>,
    of: Readonly<{ asking: Holder; caller: KnownCaller; question: DecisionRequest; now: UnixMs }>,
    answered: Parameters<DescribeDecision>[1],
  ): Beside {
    const { asking, caller, question: request, now } = of;
    const principal = caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
    const somebody = asking.handle ?? null;
    return ports.beside({ routeId: plan.route.id, principal, somebody, request, now }, answered);
  }

  // --- what is open

  function judge(open: Open<Context>): Verdict {
    const { visit, plan, request } = open;
    if (plans.has(plan)) return judgeBy(open);
    // An earlier configuration has permitted it. It continues as it began, if the routes that stand here now permit it.
    const verdicts: Extract<Verdict, { type: "permitted" }>[] = [];
    for (const successor of plans.successorsOf(plan.route, routeOf(visit, request))) {
      const routed = { visit: { ...visit, plan: successor }, plan: successor, request };
      const verdict = judgeBy({ ...open, ...routed, question: questionOf(routed, clock.wall()) });
      if (verdict.type === "refused") return verdict;
      verdicts.push({ ...verdict, terms: termsOf(successor) });
    }
    if (verdicts.length > 0) return strictest(verdicts);
    const gone = { result: "not_found", status: 404, reasons: ["route-not-found"], occasion: "redecision" } as const;
    record(visit, gone, open.permittedTo);
    return { type: "refused", reason: "route-removed" };
  }

  function routeOf({ tunnel }: Applicant, request: CanonicalRequest): RouteConfig | undefined {
    return tunnel === null ? plans.routes.match(request) : plans.routes.matchTunnel(tunnel.kind, tunnel.at);
  }

  function judgeBy(open: Open<Context>): Verdict {
    const { visit, plan, asking, question, permittedTo } = open;
    const now = clock.wall();
    const again = (decided: Omit<Decided, "occasion">): void =>
      record(visit, { ...decided, occasion: "redecision", ...cutOf(decided, now) }, permittedTo);
    const caller = callerOf(asking, plan.route, now);
    if (caller.type === "behind") {
      again({ result: "unavailable", status: 503, reasons: ["behind"] });
      return { type: "refused", reason: "stale" };
    }
    const decision = ports.decide({ routeId: plan.route.id, caller, request: question, now });
    // A permit for a session ends with the session, also where the route is open to everyone.
    const ended = permittedTo !== null && (caller.type !== "principal" || caller.principal.session.expiresAt <= now);
    const answered: Parameters<DescribeDecision>[1] = ended ? { type: "signin" } : decision;
    const beside = besideOf(open, { asking, caller, question, now }, answered);
    if (decision.type === "permit" && !ended) {
      again({ result: "permit", status: 200, reasons: decision.reasons, ...beside });
      return { type: "permitted", reads: decision.reads, until: decision.until };
    }
    const reason: CutReason = ended || decision.type === "signin" ? "session-ended" : "not-permitted";
    if (reason === "session-ended")
      again({ result: "signin", status: 401, reasons: ["user-unauthenticated"], ...beside });
    else {
      const status = decision.type === "deny" ? decision.status : 403;
      again({ result: "deny", status, reasons: decision.reasons, ...beside });
    }
    return { type: "refused", reason };
  }

  /** How long after its commit a change cuts an exchange. The leader's clock may differ from this node's. */
  function cutOf({ result }: Pick<Decided, "result">, now: UnixMs): Pick<Decided, "cutMs"> {
    const committedAt = exchanges.enforcing;
    return result === "permit" || committedAt === null ? {} : { cutMs: Math.max(0, now - committedAt) };
  }

  function termsOf({ route }: RoutePlan): ExchangeTerms {
    return {
      graceMs: route.staleGraceMs,
      lifetimeMs: shorter(route.maxStreamLifetimeMs, config.timeouts.writeMs),
    };
  }

  return { isStale, admit, judge };
}

/** No more than each of several permits allows. */
function strictest(verdicts: readonly Extract<Verdict, { type: "permitted" }>[]): Verdict {
  const untils = verdicts.flatMap(({ until }) => (until === null ? [] : [until]));
  const terms = verdicts.flatMap((verdict) => verdict.terms ?? []);
  return {
    type: "permitted",
    reads: [...new Set(verdicts.flatMap(({ reads }) => reads))],
    until: untils.length === 0 ? null : (Math.min(...untils) as UnixMs),
    terms: {
      graceMs: Math.min(...terms.map(({ graceMs }) => graceMs)),
      lifetimeMs: terms.reduce((least, { lifetimeMs }) => shorter(least, lifetimeMs), 0),
    },
  };
}

/** The smaller limit; 0 means unlimited. */
function shorter(a: number, b: number): number {
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
}

function questionOf({ visit, plan, request }: Routed<Applicant>, now: UnixMs): DecisionRequest {
  return {
    method: request.method,
    scheme: plan.scheme,
    host: authorityOf(plan.route, request),
    rawPath: request.rawPath,
    path: request.path,
    query: request.search.slice(1),
    headers: request.headers,
    ip: visit.ip,
    clientCertificate: plan.clientTrust?.judge(visit.downstream.certificate, now) ?? null,
  };
}
