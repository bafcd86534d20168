/**
 * Partial evaluation: the answer of a policy where some criteria are unknown. Pure.
 *
 * An unknown criterion is neither met nor unmet, and an answer counts only if it is the same either way.
 */
import type { UnixMs } from "../../events/index.ts";
import type { CompiledConditional, RoutePolicy } from "./compile.ts";
import { criterionDescriptor } from "./criteria/criteria.ts";
import type { DecisionRequest, Principal } from "./decision.ts";
import type { PolicyOperator } from "./ppl-parser.ts";
import type { ConditionalRequirement } from "./requirements.ts";

export type PartialQuestion = Readonly<{
  request: DecisionRequest;
  principal: Principal | null;
  now: UnixMs;
  /** Whether the criterion of this name can be evaluated. */
  isKnown: (name: string, needsSession: boolean) => boolean;
}>;

/** An undecided part of the policy: the rule as it is written, and what it requires. It names no person. */
export type PartialCondition = Readonly<{ rule: string; requirement: ConditionalRequirement }>;

export type PartialAnswer = Readonly<{
  result: "permit" | "deny" | "conditional";
  /** Why it is conditional. */
  conditions: readonly PartialCondition[];
  /** The rule that decided, as it is written; null: none did. */
  rule: string | null;
}>;

/** Null: depends on unknown criteria. */
type Outcomes = Readonly<{ allow: boolean | null; deny: boolean | null }>;

/** What the allow rules and the deny rules say. */
export function evaluateOutcomes(policy: RoutePolicy, question: PartialQuestion): Outcomes {
  const of = (action: CompiledConditional["action"]): boolean | null =>
    anyOf(
      policy.conditionals
        .filter((conditional) => conditional.action === action)
        .map((conditional) => outcomeOf(conditional, question)),
    );
  return { allow: of("allow"), deny: of("deny") };
}

/** The request of a question about a person alone: a criterion that would read it must not be known. */
export const noRequest: DecisionRequest = {
  method: "",
  scheme: "https",
  host: "",
  rawPath: "/",
  path: "/",
  query: "",
  headers: {},
  ip: "",
  clientCertificate: null,
};

export function evaluatePartially(policy: RoutePolicy, question: PartialQuestion): PartialAnswer {
  const { allow, deny } = evaluateOutcomes(policy, question);
  const ruleWhere = (action: CompiledConditional["action"]): string | null =>
    policy.conditionals.find((each) => each.action === action && outcomeOf(each, question) === true)?.rule ?? null;
  if (deny === true) return { result: "deny", conditions: [], rule: ruleWhere("deny") };
  if (allow === false) return { result: "deny", conditions: [], rule: null };
  const undecided = policy.conditionals.filter((each) => {
    const isOpen = outcomeOf(each, question) === null;
    if (each.action === "deny") return isOpen;
    // Where a rule allows already, the others matter only if they require something first, such as a device.
    return (isOpen && allow === null) || each.criteria.some((one) => requiresMore(one, question));
  });
  if (undecided.length === 0) return { result: "permit", conditions: [], rule: ruleWhere("allow") };
  const conditions = undecided.map(({ rule, requirement }) => ({ rule, requirement }));
  return { result: "conditional", conditions, rule: null };
}

function requiresMore(
  { name, needsSession }: CompiledConditional["criteria"][number],
  { isKnown }: PartialQuestion,
): boolean {
  return !isKnown(name, needsSession) && criterionDescriptor(name)?.mayRequireMore === true;
}

function outcomeOf(
  { operator, criteria }: CompiledConditional,
  { request, principal, now, isKnown }: PartialQuestion,
): boolean | null {
  return combined(
    operator,
    criteria.map(({ name, needsSession, test }) =>
      isKnown(name, needsSession) ? test(request, principal, now).met : null,
    ),
  );
}

function combined(operator: PolicyOperator, values: readonly (boolean | null)[]): boolean | null {
  if (values.length === 0) return false;
  switch (operator) {
    case "and":
      return allOf(values);
    case "or":
      return anyOf(values);
    case "not":
      return negated(anyOf(values));
    case "nor":
      return negated(allOf(values));
  }
}

function anyOf(values: readonly (boolean | null)[]): boolean | null {
  return values.includes(true) ? true : values.includes(null) ? null : false;
}
function allOf(values: readonly (boolean | null)[]): boolean | null {
  return values.includes(false) ? false : values.includes(null) ? null : true;
}
function negated(value: boolean | null): boolean | null {
  return value === null ? null : !value;
}
