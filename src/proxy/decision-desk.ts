/**
 * Decision desk: who asks, and may they; for a new request and for every exchange that is still open.
 *
 * Pure: it is given the time, the projection's answers and what to do with a permit. Always: a permit and the registration
 * of its exchange happen in one turn, so that no change of facts falls between them; the lease is compared before anything
 * is looked up, and again at the decision if anything had to be waited for; a state of ours that is behind answers 503 and never sends
 * anybody to sign in. Whom a credential names is who-asks.ts's to say.
 *
 * The clocks are read once for a request, when its head has been read (`Visit.asOf`), and again after whatever is waited for: it was sent
 * before that, so what is compared with a lease is never older than the request. Before its first byte goes on they are read anew.
 *
 * There is a desk for each configuration, and only the one in force decides: a request that has waited meanwhile is considered
 * anew by that one, and an open exchange is judged by it, whoever permitted it.
 */
import type { Decision, DecisionRequest, DescribeDecision, KnownCaller, Permit, Principal } from "../auth/index.ts";
import type { RouteConfig } from "../config/index.ts";
import type { UnixMs } from "../events/index.ts";
import { momentOf } from "../replication/index.ts";
import type { Condition } from "./answer.ts";
import type { CanonicalRequest } from "./canonical.ts";
import type { CutReason, Exchange, Exchanges, ExchangeTerms, Verdict } from "./exchanges.ts";
import type { Plans, RoutePlan } from "./plan.ts";
import type { ProxyPorts } from "./ports.ts";
import { authorityOf } from "./routing.ts";
import { kindOf } from "./traffic.ts";
import { type AnswerTools, answer, completeRecord, conditionOfCut, type Decided, record, type Visit } from "./visit.ts";
import { type Asking, createWhoAsks, type Holder, type ReachedHandles } from "./who-asks.ts";

/** A request whose route is known. */
export type Routed = Readonly<{ visit: Visit; plan: RoutePlan; request: CanonicalRequest }>;
export type Permitted = Routed & Readonly<{ exchange: Exchange; permit: Permit }>;

export type DecisionDesk = Readonly<{
  consider(routed: Routed): void;
  /** Finds a request's route here and considers it; for one that came while another configuration was in force. */
  takeOver(visit: Visit): void;
  /** Decides about an open exchange again, as the projection and the clock are now. */
  judge(open: Open): Verdict;
}>;

export type DeskParts = Readonly<{
  ports: ProxyPorts;
  plans: Plans;
  exchanges: Exchanges;
  tools: AnswerTools;
  /** The desk of the configuration in force. */
  current: () => DecisionDesk;
  reached: ReachedHandles;
  takeOver: (visit: Visit) => void;
  /** Goes on with what was permitted. */
  onPermit: (permitted: Permitted) => void;
  /** Something failed that nobody expected. */
  onFailed: (visit: Visit, error: unknown) => void;
}>;

/** What was permitted, and to whom. */
type Open = Routed & Readonly<{ asking: Holder; question: DecisionRequest; permittedTo: Principal | null }>;

export function createDecisionDesk(parts: DeskParts): DecisionDesk {
  const { ports, plans, exchanges, tools, current, reached, takeOver, onPermit, onFailed } = parts;
  const { config, clock, freshness } = ports;
  const who = createWhoAsks(ports, reached);
  const desk: DecisionDesk = { consider, takeOver, judge };

  // --- who asks

  function consider(routed: Routed): void {
    if (leaseIsOver(routed)) return;
    const { visit, plan, request } = routed;
    const asking = who.askingIn(request, plan.route, visit.ip, visit.downstream.head.lines);
    if (!(asking instanceof Promise)) settle(routed, asking);
    else asking.then((known) => settleLater(routed, known)).catch((error: unknown) => onFailed(visit, error));
  }

  function leaseIsOver({ visit, plan }: Routed): boolean {
    const { monotonic, wall } = visit.asOf;
    if (freshness.overdueMs(monotonic, wall) <= plan.route.staleGraceMs) return false;
    unavailable(visit, "lease");
    return true;
  }

  function unavailable(visit: Visit, why: "lease" | "behind" | "provider" | "audit"): void {
    const status = answer(visit, { type: "unknown", why }, tools);
    record(visit, { result: "unavailable", status, reasons: [why === "lease" ? "no-lease" : why] }, null, ports);
  }

  // --- the decision

  /** Somebody had to be asked who it is. */
  function settleLater(routed: Routed, asking: Asking): void {
    const { visit } = routed;
    visit.asOf = momentOf(clock);
    if (visit.downstream.closed || (current() === desk && leaseIsOver(routed))) return;
    settle(routed, asking);
  }

  function settle(routed: Routed, asking: Asking): void {
    const { visit, plan } = routed;
    if (visit.downstream.closed) return;
    if (current() !== desk) {
      current().takeOver(visit); // this configuration has permitted its last
      return;
    }
    if (asking === "refused") {
      const reasons = ["bearer-token-invalid"];
      const status = answer(visit, { type: "no-right", status: 403, reasons }, tools);
      record(visit, { result: "deny", status, reasons }, null, ports);
      return;
    }
    if (asking === "behind" || asking === "provider") {
      unavailable(visit, asking);
      return;
    }
    const now = visit.asOf.wall;
    const caller = who.callerOf(asking, plan.route, now);
    if (caller.type === "behind") {
      unavailable(visit, "behind");
      return;
    }
    const question = questionOf(routed, now);
    const decision = ports.decide({ routeId: plan.route.id, caller, request: question, now });
    const beside = besideOf(routed, { asking, caller, question, now }, decision);
    if (decision.type === "permit") {
      permitted(routed, { asking, question, beside, decision });
      return;
    }
    const principal = caller.type === "principal" ? caller.principal : null;
    const { type: result, reasons } = decision;
    const status = answer(visit, conditionOfRefusal(decision), tools, principal, beside.trace ?? null);
    record(visit, { result, status, reasons, ...beside }, principal, ports, visit.asOf);
  }

  function besideOf(
    { plan }: Routed,
    of: Readonly<{ asking: Holder; caller: KnownCaller; question: DecisionRequest; now: UnixMs }>,
    answered: Parameters<DescribeDecision>[1],
  ): ReturnType<DescribeDecision> {
    const { asking, caller, question: request, now } = of;
    const principal = caller.type === "principal" && caller.principal.session.expiresAt > now ? caller.principal : null;
    const somebody = asking.handle ?? null;
    return ports.beside({ routeId: plan.route.id, principal, somebody, request, now }, answered);
  }

  function permitted(
    { visit, plan, request }: Routed,
    {
      asking,
      question,
      beside: { trace, shadow },
      decision: { permit, reads, until, reasons },
    }: Readonly<{
      asking: Holder;
      question: DecisionRequest;
      beside: ReturnType<DescribeDecision>;
      decision: Extract<Decision, { type: "permit" }>;
    }>,
  ): void {
    const open: Open = { visit, plan, request, asking, question, permittedTo: permit.principal };
    const exchange = exchanges.open({
      kind: kindOf(visit.downstream),
      reads,
      until,
      graceMs: plan.route.staleGraceMs,
      lifetimeMs: shorter(plan.route.maxStreamLifetimeMs, config.timeouts.writeMs),
      openedAt: visit.asOf.monotonic,
      redecide: () => current().judge(open),
    });
    visit.exchange = exchange;
    const decided = { result: "permit", status: 200, reasons, trace, shadow } as const;
    const going: Permitted = { visit, plan, request, exchange, permit };
    if (plan.route.audit === "strict" && ports.recordSafely !== null) {
      const safely = ports.recordSafely(completeRecord(visit, decided, permit.principal, ports, visit.asOf));
      safely.then(
        () => goOnIfStillPermitted(going),
        () => unavailable(visit, "audit"),
      );
      return;
    }
    record(visit, decided, permit.principal, ports, visit.asOf);
    goOn(going);
  }

  function goOn(going: Permitted): void {
    try {
      onPermit(going);
    } catch (error) {
      onFailed(going.visit, error);
    }
  }

  /** What was permitted before its record was safe may not be any more. */
  function goOnIfStillPermitted(going: Permitted): void {
    const { visit, exchange, permit } = going;
    try {
      visit.asOf = momentOf(clock);
      if (exchange.mayCarry()) onPermit(going);
      else answer(visit, conditionOfCut(exchange.cutReason ?? "stale"), tools, permit.principal);
    } catch (error) {
      onFailed(visit, error);
    }
  }

  function termsOf({ route }: RoutePlan): ExchangeTerms {
    return {
      graceMs: route.staleGraceMs,
      lifetimeMs: shorter(route.maxStreamLifetimeMs, config.timeouts.writeMs),
    };
  }

  function judge(open: Open): Verdict {
    const { visit, plan, request } = open;
    if (plans.has(plan)) return judgeBy(open);
    // Permitted under an earlier configuration. What is open goes on as it began, if those that stand here now permit it.
    const verdicts: Extract<Verdict, { type: "permitted" }>[] = [];
    for (const successor of plans.successorsOf(plan.route, routeOf(visit, request))) {
      const routed = { visit: { ...visit, plan: successor }, plan: successor, request };
      const verdict = judgeBy({ ...open, ...routed, question: questionOf(routed, clock.wall()) });
      if (verdict.type === "refused") return verdict;
      verdicts.push({ ...verdict, terms: termsOf(successor) });
    }
    if (verdicts.length > 0) return strictest(verdicts);
    const gone = { result: "not_found", status: 404, reasons: ["route-not-found"], occasion: "redecision" } as const;
    record(visit, gone, open.permittedTo, ports);
    return { type: "refused", reason: "route-removed" };
  }

  function routeOf({ tunnel }: Visit, request: CanonicalRequest): RouteConfig | undefined {
    return tunnel === null ? plans.routes.match(request) : plans.routes.matchTunnel(tunnel.kind, tunnel.at);
  }

  function judgeBy({ visit, plan, request, asking, question, permittedTo }: Open): Verdict {
    const again = (decided: Omit<Decided, "occasion">): void =>
      record(visit, { ...decided, occasion: "redecision" }, permittedTo, ports);
    const now = clock.wall();
    const caller = who.callerOf(asking, plan.route, now);
    if (caller.type === "behind") {
      again({ result: "unavailable", status: 503, reasons: ["behind"] });
      return { type: "refused", reason: "stale" };
    }
    const decision = ports.decide({ routeId: plan.route.id, caller, request: question, now });
    // What was permitted to a session ends with the session, even where everybody may come in.
    const ended = permittedTo !== null && (caller.type !== "principal" || caller.principal.session.expiresAt <= now);
    const answered: Parameters<DescribeDecision>[1] = ended ? { type: "signin" } : decision;
    const beside = besideOf({ visit, plan, request }, { asking, caller, question, now }, answered);
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

  return desk;
}

/** Of what every one of them permits, no more than each. */
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

/** Of two limits of which 0 means none. */
function shorter(a: number, b: number): number {
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
}

function questionOf({ visit, plan, request }: Routed, now: UnixMs): DecisionRequest {
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

function conditionOfRefusal(decision: Exclude<Decision, { type: "permit" }>): Condition {
  if (decision.type === "signin") return { type: "no-session", reasons: decision.reasons };
  if (decision.status === 404) return { type: "no-route" };
  if (decision.status === 503) return { type: "unknown", why: "data" };
  return { type: "no-right", status: decision.status, reasons: decision.reasons };
}
