/**
 * Decision desk: the shell around admission for requests as they come in. It finds out who asks, has the request admitted, and answers,
 * records and forwards by what comes back.
 *
 * - Admission itself, for new requests and for open exchanges, is admission.ts; whom a credential names is request/identify-caller.ts.
 * - The lease is compared before anything is looked up, and again after every wait. State of ours that is behind answers 503 and never
 *   sends a caller to sign in.
 * - The clocks are read once for a request, when its head has been read (`Visit.asOf`), and again after each wait. Its head was sent
 *   before that, so what is compared with a lease is never older than the request. They are read anew before its first byte leaves.
 * - There is a desk for each configuration. Only the desk in force decides: it considers anew a request that has waited meanwhile.
 */
import type { Decision, Permit } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { momentOf } from "../../replication/index.ts";
import type { Exchange, Exchanges, Verdict } from "../enforce/exchanges.ts";
import type { Condition } from "../reply/local-reply.ts";
import type { Plans } from "../routing/compiled-route.ts";
import { type Admission, type Admitted, createAdmission, type Open, type Routed } from "./admission.ts";
import type { ProxyPorts } from "./dependencies.ts";
import { type Asking, createWhoAsks, type ReachedHandles } from "./identify-caller.ts";
import { type AnswerTools, answer, completeRecord, conditionOfCut, record, type Visit } from "./request-context.ts";

export type RoutedVisit = Routed<Visit>;
export type Permitted = RoutedVisit & Readonly<{ exchange: Exchange; permit: Permit }>;

export type DecisionDesk = Readonly<{
  consider(routed: RoutedVisit): void;
  /** Finds a request's route here and considers it; for one that came while another configuration was in force. */
  takeOver(visit: Visit): void;
  /** Decides about an open exchange again, as the projection and the clock are now. */
  judge(open: Open<Visit>): Verdict;
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

export function createDecisionDesk(parts: DeskParts): DecisionDesk {
  const { ports, plans, exchanges, tools, current, reached, takeOver, onPermit, onFailed } = parts;
  const { clock } = ports;
  const who = createWhoAsks(ports, reached);
  const admission: Admission<Visit> = createAdmission<Visit>({
    ...{ ports, plans, exchanges, callerOf: who.callerOf, current },
    record: (visit, decided, permittedTo) => record(visit, decided, permittedTo, ports),
  });
  const desk: DecisionDesk = { consider, takeOver, judge: admission.judge };

  // --- who asks

  function consider(routed: RoutedVisit): void {
    if (leaseIsOver(routed)) return;
    const { visit, plan, request } = routed;
    const asking = who.askingIn(request, plan.route, visit.ip, visit.downstream.head.lines);
    if (!(asking instanceof Promise)) settle(routed, asking);
    else asking.then((known) => settleLater(routed, known)).catch((error: unknown) => onFailed(visit, error));
  }

  function leaseIsOver(routed: RoutedVisit): boolean {
    if (!admission.isStale(routed)) return false;
    unavailable(routed.visit, "lease");
    return true;
  }

  function unavailable(visit: Visit, why: "lease" | "behind" | "provider" | "audit"): void {
    const status = answer(visit, { type: "unknown", why }, tools);
    record(visit, { result: "unavailable", status, reasons: [why === "lease" ? "no-lease" : why] }, null, ports);
  }

  // --- the decision

  /** Somebody had to be asked who it is. */
  function settleLater(routed: RoutedVisit, asking: Asking): void {
    const { visit } = routed;
    visit.asOf = momentOf(clock);
    if (visit.downstream.closed || (current() === desk && leaseIsOver(routed))) return;
    settle(routed, asking);
  }

  function settle(routed: RoutedVisit, asking: Asking): void {
    const { visit } = routed;
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
    if (asking === "two-credentials") {
      const status = answer(visit, { type: "bad-request", status: 400 }, tools);
      record(visit, { result: "bad_request", status, reasons: [asking] }, null, ports);
      return;
    }
    if (asking === "behind" || asking === "provider") {
      unavailable(visit, asking);
      return;
    }
    const admitted = admission.admit(routed, asking);
    switch (admitted.type) {
      case "behind":
        unavailable(visit, "behind");
        return;
      case "refused":
        refused(visit, admitted);
        return;
      case "permitted":
        permitted(routed, admitted);
        return;
      default:
        unreachable(admitted);
    }
  }

  function refused(visit: Visit, { decision, principal, beside }: Extract<Admitted, { type: "refused" }>): void {
    const { type: result, reasons } = decision;
    const status = answer(visit, conditionOfRefusal(decision), tools, principal, beside.trace ?? null);
    record(visit, { result, status, reasons, sides: decision.sides, ...beside }, principal, ports, visit.asOf);
  }

  function permitted(
    { visit, plan, request }: RoutedVisit,
    { exchange, permit, reasons, sides, beside: { trace, shadow } }: Extract<Admitted, { type: "permitted" }>,
  ): void {
    visit.exchange = exchange;
    const decided = { result: "permit", status: 200, reasons, sides, trace, shadow } as const;
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

  return desk;
}

function conditionOfRefusal(decision: Exclude<Decision, { type: "permit" }>): Condition {
  if (decision.type === "signin") return { type: "no-session", reasons: decision.reasons };
  if (decision.status === 404) return { type: "no-route" };
  if (decision.status === 503) return { type: "unknown", why: "data" };
  return { type: "no-right", status: decision.status, reasons: decision.reasons };
}
