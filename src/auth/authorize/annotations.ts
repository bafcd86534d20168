/**
 * Decision annotations: the trace of a decision, and what the route's `shadow_policy` would have answered.
 *
 * - They are computed after the decision and cannot change it. A shadow policy that fails becomes a line in the record.
 * - The facts that only a shadow policy reads are not facts of the decision, so they never cut an exchange.
 * - Pure, except for the counter of shadow answers.
 */
import {
  type FactPositions,
  type NodeId,
  type Projection,
  timeBoxOf,
  type UnixMs,
  unreachable,
} from "../../events/index.ts";
import type { Policies, RoutePolicy } from "./compile.ts";
import { type DecisionSummary, evaluatePolicy } from "./decide.ts";
import type { DecisionRequest, Principal } from "./decision.ts";
import { type DecisionTrace, type FactPositionOf, type SessionRef, traceDecision } from "./explain.ts";

/** The answer of the route's shadow policy, if it differs from the live one. */
export type ShadowAnswer = Readonly<{
  result: "permit" | "deny" | "signin" | "error";
  status: number;
  reasons: readonly string[];
}>;
/** From the live policy to the shadow policy; `otherwise`: both refuse, in another way. */
export type ShadowDirection = "same" | "gains" | "loses" | "otherwise" | "error";

/** `rule`: the rule that decided. */
export type DecisionAnnotations = Readonly<{ trace?: DecisionTrace; shadow?: ShadowAnswer; rule?: string }>;
const noAnnotations: DecisionAnnotations = {};

/** A permit by one of more allow rules than this is not attributed to its rule without a trace: that takes too long. */
const allowRulesMax = 8;

export type AnnotationQuery = Readonly<{
  routeId: string;
  /** Null: no valid session. */
  principal: Principal | null;
  /** The session that the request named, even if it is no longer valid; null: it named none. */
  session: SessionRef | null;
  request: DecisionRequest;
  now: UnixMs;
  /** The caller wants the trace, whatever the answer is. */
  wantsTrace?: boolean;
}>;
export type AnnotateDecision = (question: AnnotationQuery, answer: DecisionSummary) => DecisionAnnotations;

export function createDecisionAnnotator(
  options: Readonly<{
    policies: Policies;
    /** The shadow policies, for routes that have one. */
    shadows: Policies;
    /** Routes whose permits are traced too. */
    traced: ReadonlySet<string>;
    positionOf: FactPositionOf;
    node: NodeId;
    onShadow: (routeId: string, direction: ShadowDirection) => void;
  }>,
): AnnotateDecision {
  const { policies, shadows, traced, positionOf, node, onShadow } = options;

  function traceOf(question: AnnotationQuery, answer: DecisionSummary): DecisionTrace | null {
    const { routeId, session } = question;
    // A caller without a credential is always sent to sign in: there is nothing to explain.
    const wanted =
      answer.type === "deny" ||
      question.wantsTrace === true ||
      traced.has(routeId) ||
      (answer.type === "signin" && session !== null);
    return wanted ? traceDecision(policies.get(routeId), question, answer, { positionOf, session, node }) : null;
  }

  function shadowOf(policy: RoutePolicy, question: AnnotationQuery, answer: DecisionSummary): ShadowAnswer | null {
    const shadow = evaluateShadow(policy, question);
    const direction = directionOf(answer, shadow);
    onShadow(question.routeId, direction);
    return direction === "same" ? null : shadow;
  }

  const allowRules = new Map([...policies].map(([routeId, policy]) => [routeId, allowRulesOf(policy)]));

  /** Names the rule of a permit. The object is shared, because nearly every request gets one. */
  function permittedBy({ routeId, request, principal, now }: AnnotationQuery): DecisionAnnotations {
    const rules = allowRules.get(routeId);
    if (rules === undefined) return noAnnotations;
    if (rules.length === 1) return rules[0]?.annotations ?? noAnnotations;
    return rules.find(({ test }) => test(request, principal, now).met)?.annotations ?? noAnnotations;
  }

  return (question, answer) => {
    const trace = traceOf(question, answer);
    const policy = shadows.get(question.routeId);
    const named = trace === null && answer.type === "permit" ? permittedBy(question) : noAnnotations;
    if (trace === null && policy === undefined) return named;
    const shadow = policy === undefined ? null : shadowOf(policy, question, answer);
    const rule = trace === null ? named.rule : (trace.rule ?? undefined);
    return {
      ...(trace === null ? {} : { trace }),
      ...(shadow === null ? {} : { shadow }),
      ...(rule === undefined ? {} : { rule }),
    };
  };
}

type AllowRule = Pick<RoutePolicy["conditionals"][number], "test"> & Readonly<{ annotations: DecisionAnnotations }>;

/** @returns empty: there are too many */
function allowRulesOf({ conditionals }: RoutePolicy): readonly AllowRule[] {
  const allows = conditionals.filter(({ action }) => action === "allow");
  return allows.length > allowRulesMax ? [] : allows.map(({ rule, test }) => ({ test, annotations: { rule } }));
}

function evaluateShadow(policy: RoutePolicy, question: AnnotationQuery): ShadowAnswer {
  try {
    const answer = evaluatePolicy(policy, question);
    return { result: answer.type, status: answer.status, reasons: answer.reasons };
  } catch {
    return { result: "error", status: 500, reasons: [] };
  }
}

function directionOf(live: DecisionSummary, shadow: ShadowAnswer): ShadowDirection {
  if (shadow.result === "error") return "error";
  if (live.type === shadow.result) return live.type === "deny" && live.status !== shadow.status ? "otherwise" : "same";
  if (shadow.result === "permit") return "gains";
  return live.type === "permit" ? "loses" : "otherwise";
}

/** The position in the log of each fact that this node holds. */
export function factPositionOf(
  replica: Readonly<{
    places: Pick<FactPositions, "ofStream" | "ofSession" | "ofSweptSession" | "ofMembership">;
    projection: Pick<Projection, "session" | "membership">;
  }>,
): FactPositionOf {
  return (fact) => {
    const { places, projection } = replica;
    switch (fact.type) {
      case "stream":
        return places.ofStream(fact.stream);
      case "membership": {
        const place = places.ofMembership(fact.userId, fact.groupId);
        const grant = timeBoxOf(projection.membership(fact.userId, fact.groupId));
        return grant === undefined ? place : { ...place, grant };
      }
      case "session": {
        const session = projection.session(fact.sessionId);
        return session === undefined ? places.ofSweptSession(fact.sessionId) : places.ofSession(session);
      }
      default:
        return unreachable(fact);
    }
  };
}
