/**
 * Authorizer: the shell around admission for requests as they come in. It finds out who asks, has the request admitted, and answers,
 * records and forwards by what comes back.
 *
 * - Admission itself, for new requests and for open exchanges, is admission.ts; whom a credential names is request/identify-caller.ts.
 * - The lease is compared before anything is looked up, and again after every wait. State of ours that is behind answers 503 and never
 *   sends a caller to sign in.
 * - The clocks are read once for a request, when its head has been read (`RequestContext.asOf`), and again after each wait. Its head was sent
 *   before that, so what is compared with a lease is never older than the request. They are read anew before its first byte leaves.
 * - There is an authorizer for each configuration. Only the authorizer in force decides: it considers anew a request that has waited meanwhile.
 */
import type { Decision, Permit } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { momentOf } from "../../replication/index.ts";
import type { Exchange, Exchanges, ReauthorizeOutcome } from "../enforce/exchanges.ts";
import type { Condition } from "../reply/local-reply.ts";
import type { Plans } from "../routing/compiled-route.ts";
import { type Admission, type AdmissionOutcome, createAdmission, type OpenRequest, type Routed } from "./admission.ts";
import type { ProxyDeps } from "./dependencies.ts";
import { createCallerIdentifier, type Identification, type ReachedHandles } from "./identify-caller.ts";
import {
  conditionOfCut,
  decisionRecordOf,
  type ReplyTools,
  type RequestContext,
  recordDecision,
  sendLocalReply,
} from "./request-context.ts";

export type RoutedRequest = Routed<RequestContext>;
export type PermittedRequest = RoutedRequest & Readonly<{ exchange: Exchange; permit: Permit }>;

export type Authorizer = Readonly<{
  authorize(routed: RoutedRequest): void;
  /** Finds a request's route here and considers it; for one that came while another configuration was in force. */
  rerouteInCurrentConfig(context: RequestContext): void;
  /** Decides about an open exchange again, as the projection and the clock are now. */
  reauthorize(open: OpenRequest<RequestContext>): ReauthorizeOutcome;
}>;

export type AuthorizerParts = Readonly<{
  deps: ProxyDeps;
  plans: Plans;
  exchanges: Exchanges;
  tools: ReplyTools;
  /** The authorizer of the configuration in force. */
  current: () => Authorizer;
  reached: ReachedHandles;
  reroute: (context: RequestContext) => void;
  /** Goes on with what was permitted. */
  onPermit: (permitted: PermittedRequest) => void;
  /** Something failed that nobody expected. */
  onFailed: (context: RequestContext, error: unknown) => void;
}>;

export function createAuthorizer(parts: AuthorizerParts): Authorizer {
  const { deps, plans, exchanges, tools, current, reached, reroute, onPermit, onFailed } = parts;
  const { clock } = deps;
  const callers = createCallerIdentifier(deps, reached);
  const admission: Admission<RequestContext> = createAdmission<RequestContext>({
    ...{ deps, plans, exchanges, callerOf: callers.resolve, current },
    record: (context, decided, permittedTo) => recordDecision(context, decided, permittedTo, deps),
  });
  const authorizer: Authorizer = {
    authorize,
    rerouteInCurrentConfig: reroute,
    reauthorize: admission.reauthorize,
  };

  // --- who asks

  function authorize(routed: RoutedRequest): void {
    if (refuseIfStale(routed)) return;
    const { context, plan, request } = routed;
    const identification = callers.identify(request, plan.route, context.ip);
    if (!(identification instanceof Promise)) decide(routed, identification);
    else
      identification
        .then((known) => decideAfterWait(routed, known))
        .catch((error: unknown) => onFailed(context, error));
  }

  function refuseIfStale(routed: RoutedRequest): boolean {
    if (!admission.isStale(routed)) return false;
    unavailable(routed.context, "lease");
    return true;
  }

  function unavailable(context: RequestContext, why: "lease" | "behind" | "provider" | "audit"): void {
    const status = sendLocalReply(context, { type: "unknown", why }, tools);
    recordDecision(
      context,
      { result: "unavailable", status, reasons: [why === "lease" ? "no-lease" : why] },
      null,
      deps,
    );
  }

  // --- the decision

  /** Somebody had to be asked who it is. */
  function decideAfterWait(routed: RoutedRequest, identification: Identification): void {
    const { context } = routed;
    context.asOf = momentOf(clock);
    if (context.downstream.closed || (current() === authorizer && refuseIfStale(routed))) return;
    decide(routed, identification);
  }

  function decide(routed: RoutedRequest, identification: Identification): void {
    const { context } = routed;
    if (context.downstream.closed) return;
    if (current() !== authorizer) {
      current().rerouteInCurrentConfig(context); // this configuration has permitted its last
      return;
    }
    if (identification === "refused") {
      const reasons = ["bearer-token-invalid"];
      const status = sendLocalReply(context, { type: "no-right", status: 403, reasons }, tools);
      recordDecision(context, { result: "deny", status, reasons }, null, deps);
      return;
    }
    if (identification === "two-credentials") {
      const status = sendLocalReply(context, { type: "bad-request", status: 400 }, tools);
      recordDecision(context, { result: "bad_request", status, reasons: [identification] }, null, deps);
      return;
    }
    if (identification === "behind" || identification === "provider") {
      unavailable(context, identification);
      return;
    }
    const admitted = admission.admit(routed, identification);
    switch (admitted.type) {
      case "behind":
        unavailable(context, "behind");
        return;
      case "refused":
        refused(context, admitted);
        return;
      case "permitted":
        permitted(routed, admitted);
        return;
      default:
        unreachable(admitted);
    }
  }

  function refused(
    context: RequestContext,
    { decision, principal, annotations }: Extract<AdmissionOutcome, { type: "refused" }>,
  ): void {
    const { type: result, reasons } = decision;
    const status = sendLocalReply(context, conditionOfDenial(decision), tools, principal, annotations.trace ?? null);
    recordDecision(
      context,
      { result, status, reasons, sides: decision.outcomes, ...annotations },
      principal,
      deps,
      context.asOf,
    );
  }

  function permitted(
    { context, plan, request }: RoutedRequest,
    {
      exchange,
      permit,
      reasons,
      sides,
      annotations: { trace, shadow },
    }: Extract<AdmissionOutcome, { type: "permitted" }>,
  ): void {
    context.exchange = exchange;
    const decided = { result: "permit", status: 200, reasons, sides, trace, shadow } as const;
    const permittedRequest: PermittedRequest = { context, plan, request, exchange, permit };
    if (plan.route.audit === "strict" && deps.recordSafely !== null) {
      const safely = deps.recordSafely(decisionRecordOf(context, decided, permit.principal, deps, context.asOf));
      safely.then(
        () => continueIfStillPermitted(permittedRequest),
        () => unavailable(context, "audit"),
      );
      return;
    }
    recordDecision(context, decided, permit.principal, deps, context.asOf);
    continueWithPermit(permittedRequest);
  }

  function continueWithPermit(permittedRequest: PermittedRequest): void {
    try {
      onPermit(permittedRequest);
    } catch (error) {
      onFailed(permittedRequest.context, error);
    }
  }

  /** What was permitted before its record was safe may not be any more. */
  function continueIfStillPermitted(permittedRequest: PermittedRequest): void {
    const { context, exchange, permit } = permittedRequest;
    try {
      context.asOf = momentOf(clock);
      if (exchange.mayCarry()) onPermit(permittedRequest);
      else sendLocalReply(context, conditionOfCut(exchange.cutReason ?? "stale"), tools, permit.principal);
    } catch (error) {
      onFailed(context, error);
    }
  }

  return authorizer;
}

function conditionOfDenial(decision: Exclude<Decision, { type: "permit" }>): Condition {
  if (decision.type === "signin") return { type: "no-session", reasons: decision.reasons };
  if (decision.status === 404) return { type: "no-route" };
  if (decision.status === 503) return { type: "unknown", why: "data" };
  return { type: "no-right", status: decision.status, reasons: decision.reasons };
}
