/**
 * Admission: decides whether a caller may use a route, for each new request and again for every open exchange. A pure
 * core (docs/adr/0015): the pipeline and the simulator run this file.
 *
 * - authorize.ts makes the decision. Admission registers permitted exchanges, and re-decides open ones.
 * - There is one admission per configuration. Only the one in force admits. It also re-decides exchanges that an
 *   earlier one has admitted (docs/adr/0020).
 * - `admit` decides and registers the exchange in one turn, so no change of facts falls between the two.
 * - The lease is compared as of the moment when the request's head was read, or of the end of its last wait
 *   (docs/adr/0028).
 * - Admission performs no effects: its caller replies, records and forwards according to the outcome. Decisions about
 *   open exchanges go to `record`.
 */

import type {
  AnnotateDecision,
  Decision,
  DecisionRequest,
  IdleGate,
  Permit,
  Principal,
  RuleSetOutcomes,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { Fact, UnixMs } from "../../events/index.ts";
import type { Clock } from "../../replication/index.ts";
import type { CutReason, Exchange, ExchangeLimits, Exchanges, ReauthorizeOutcome } from "../enforce/exchanges.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import { kindOf } from "../message/exchange-kind.ts";
import type { CompiledRoute, CompiledRoutes } from "../routing/compiled-route.ts";
import { authorityOf } from "../routing/route-table.ts";
import { type Authorizer, decisionRequestOf, noRouteReason, principalOf, type RecordAnnotations } from "./authorize.ts";
import type { CredentialHolder } from "./identify-caller.ts";
import type { AdmissionContext, RecordedOutcome, Routed } from "./request-context.ts";

/** A permitted request, and the person who holds the permit. */
export type OpenRequest<Context extends AdmissionContext> = Routed<Context> &
  Readonly<{ holder: CredentialHolder; decisionRequest: DecisionRequest; permittedTo: Principal | null }>;

export type AdmissionOutcome =
  /** The projection is behind what the credential needs: nothing is known of the caller. */
  | Fact<"behind", unknown>
  | Fact<
      "refused",
      {
        decision: Exclude<Decision, Fact<"permit", unknown>>;
        principal: Principal | null;
        annotations: RecordAnnotations;
      }
    >
  | Fact<
      "permitted",
      {
        exchange: Exchange;
        permit: Permit;
        reasons: readonly string[];
        sides: RuleSetOutcomes | null;
        annotations: RecordAnnotations;
      }
    >;

export type Admission<Context extends AdmissionContext> = Readonly<{
  /** Whether the lease has expired for longer than the request's route allows. */
  isStale(routed: Routed<Context>): boolean;
  /** Decides about a request by this configuration. A permit includes its registered exchange. */
  admit(routed: Routed<Context>, holder: CredentialHolder): AdmissionOutcome;
  /** Re-decides an open exchange by the current projection and clock. */
  reauthorize(open: OpenRequest<Context>): ReauthorizeOutcome;
}>;

export type AdmissionParts<Context extends AdmissionContext> = Readonly<{
  authorizer: Authorizer;
  clock: Pick<Clock, "wall">;
  /** Longest lifetime of an exchange in this configuration; 0: unlimited. */
  lifetimeMsMax: number;
  plans: Pick<CompiledRoutes, "has" | "successorsOf" | "routes">;
  exchanges: Pick<Exchanges, "open" | "enforcing" | "afterCuts">;
  /** Where permitted requests of sessions are noted. */
  idle: Pick<IdleGate, "note">;
  /** The admission of the configuration in force. */
  current: () => Pick<Admission<Context>, "reauthorize">;
  /** Records a decision about an open exchange. */
  record: (context: Context, outcome: RecordedOutcome, permittedTo: Principal | null) => void;
}>;

export function createAdmission<Context extends AdmissionContext>(parts: AdmissionParts<Context>): Admission<Context> {
  const { authorizer, clock, lifetimeMsMax, plans, exchanges, idle, current, record } = parts;

  // --- a new request

  function admit(routed: Routed<Context>, holder: CredentialHolder): AdmissionOutcome {
    const { context, plan } = routed;
    const now = context.asOf.wall;
    const evaluation = authorizer.evaluate(plan.route, holder, questionOf(routed, now), now);
    if (evaluation === undefined) return { type: "behind" };
    const { decision, caller, decisionRequest } = evaluation;
    const annotations = authorizer.annotate(plan.route, holder, evaluation, decision);
    if (decision.type !== "permit") return { type: "refused", decision, principal: principalOf(caller), annotations };
    const { permit, reasons, outcomes: sides } = decision;
    if (permit.principal !== null) idle.note(permit.principal.session, context.asOf);
    const exchange = register(routed, holder, decisionRequest, decision);
    return { type: "permitted", exchange, permit, reasons, sides, annotations };
  }

  function register(
    { context, plan, request }: Routed<Context>,
    holder: CredentialHolder,
    decisionRequest: DecisionRequest,
    { permit, reads, until }: Extract<Decision, Fact<"permit", unknown>>,
  ): Exchange {
    const open: OpenRequest<Context> = {
      context,
      plan,
      request,
      holder,
      decisionRequest,
      permittedTo: permit.principal,
    };
    const { graceMs, lifetimeMs } = limitsOf(plan);
    return exchanges.open({
      kind: kindOf(context.downstream),
      requestId: context.requestId,
      reads,
      until,
      graceMs,
      lifetimeMs,
      openedAt: context.asOf.monotonic,
      session: permit.principal?.session,
      redecide: () => current().reauthorize(open),
    });
  }

  // --- an open exchange

  function reauthorize(open: OpenRequest<Context>): ReauthorizeOutcome {
    const { context, plan, request } = open;
    if (plans.has(plan)) return reauthorizeHere(open);
    // An earlier configuration permitted it. It continues as it began, if the matching routes of this one permit it.
    const outcomes: Extract<ReauthorizeOutcome, { type: "permitted" }>[] = [];
    for (const successor of plans.successorsOf(plan.route, routeOf(context, request))) {
      const routed = { context: { ...context, plan: successor }, plan: successor, request };
      const outcome = reauthorizeHere({ ...open, ...routed, decisionRequest: questionOf(routed, clock.wall()) });
      if (outcome.type === "refused") return outcome;
      outcomes.push({ ...outcome, limits: limitsOf(successor) });
    }
    if (outcomes.length > 0) return strictestOf(outcomes);
    const gone = { result: "not_found", status: 404, reasons: [noRouteReason], occasion: "redecision" } as const;
    record(context, gone, open.permittedTo);
    return { type: "refused", reason: "route-removed" };
  }

  function routeOf({ tunnel }: AdmissionContext, request: CanonicalRequest): RouteConfig | undefined {
    return tunnel === null ? plans.routes.match(request) : plans.routes.matchTunnel(tunnel.kind, tunnel.at);
  }

  function reauthorizeHere(open: OpenRequest<Context>): ReauthorizeOutcome {
    const { context, plan, holder, permittedTo } = open;
    const { route } = plan;
    const now = clock.wall();
    const recordAgain = (outcome: Omit<RecordedOutcome, "occasion">): void =>
      record(context, { ...outcome, occasion: "redecision", ...cutOf(outcome, now, exchanges.enforcing) }, permittedTo);
    const evaluation = authorizer.evaluate(route, holder, open.decisionRequest, now);
    if (evaluation === undefined) {
      recordAgain({ result: "unavailable", status: 503, reasons: ["behind"] });
      return { type: "refused", reason: "stale" };
    }
    const { decision, caller } = evaluation;
    // A permit for a session ends with the session, also where the route is open to everyone.
    const ended = permittedTo !== null && (caller.type !== "principal" || caller.principal.session.expiresAt <= now);
    const answered: Parameters<AnnotateDecision>[1] = ended ? { type: "signin" } : decision;
    const sides = ended ? null : decision.outcomes;
    const annotate = () => ({ ...authorizer.annotate(route, holder, evaluation, answered), sides });
    if (decision.type === "permit" && !ended) {
      recordAgain({ result: "permit", status: 200, reasons: decision.reasons, ...annotate() });
      return { type: "permitted", reads: decision.reads, until: decision.until };
    }
    const reason: CutReason = ended || decision.type === "signin" ? "session-ended" : "not-permitted";
    exchanges.afterCuts(() => {
      if (reason === "session-ended")
        recordAgain({ result: "signin", status: 401, reasons: ["user-unauthenticated"], ...annotate() });
      else {
        const status = decision.type === "deny" ? decision.status : 403;
        recordAgain({ result: "deny", status, reasons: decision.reasons, ...annotate() });
      }
    });
    return { type: "refused", reason };
  }

  function limitsOf({ route }: CompiledRoute): ExchangeLimits {
    return { graceMs: route.staleGraceMs, lifetimeMs: shorter(route.maxStreamLifetimeMs, lifetimeMsMax) };
  }

  return { isStale: ({ context, plan }) => authorizer.isStale(plan.route, context.asOf), admit, reauthorize };
}

/** Time from the commit of a change to its cut. The leader's clock may differ from this node's. */
function cutOf(
  { result }: Pick<RecordedOutcome, "result">,
  now: UnixMs,
  committedAt: UnixMs | null,
): Pick<RecordedOutcome, "cutMs"> {
  return result === "permit" || committedAt === null ? {} : { cutMs: Math.max(0, now - committedAt) };
}

/** Combines several permits into one that allows no more than any of them. */
function strictestOf(outcomes: readonly Extract<ReauthorizeOutcome, { type: "permitted" }>[]): ReauthorizeOutcome {
  const untils = outcomes.flatMap(({ until }) => (until === null ? [] : [until]));
  const limits = outcomes.flatMap((outcome) => outcome.limits ?? []);
  return {
    type: "permitted",
    reads: [...new Set(outcomes.flatMap(({ reads }) => reads))],
    until: untils.length === 0 ? null : (Math.min(...untils) as UnixMs),
    limits: {
      graceMs: Math.min(...limits.map(({ graceMs }) => graceMs)),
      lifetimeMs: limits.reduce((least, { lifetimeMs }) => shorter(least, lifetimeMs), 0),
    },
  };
}

/** The smaller limit; 0 means unlimited. */
function shorter(a: number, b: number): number {
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
}

function questionOf({ context, plan, request }: Routed<AdmissionContext>, now: UnixMs): DecisionRequest {
  const certificate = plan.clientTrust?.judge(context.downstream.certificate, now) ?? null;
  return decisionRequestOf(request, plan.scheme, authorityOf(plan.route, request), context.ip, certificate);
}
