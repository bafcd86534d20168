/**
 * Explain: which rule an answer came from, and what every criterion said of the request.
 *
 * Pure, and made on demand: it asks each criterion once more, so it costs more than deciding and says the same. Nothing in it repeats
 * what a criterion compares with: a trace may be shown to people who must not learn other people's names.
 */
import type { UnixMs } from "../../events/index.ts";
import type { CompiledConditional, RoutePolicy } from "./compile.ts";
import type { Decision, DecisionRequest, Principal } from "./decision.ts";
import type { Action, Operator } from "./ppl-parser.ts";
import type { Outcome } from "./reasons.ts";

export type RuleTrace = Readonly<{
  /** As it is written: `policy[0].allow.or`. */
  rule: string;
  /** `file:line:column` */
  at: string;
  action: Action;
  operator: Operator;
  met: boolean;
  reasons: readonly string[];
  criteria: readonly Readonly<{ criterion: string; at: string; met: boolean; reasons: readonly string[] }>[];
}>;
export type Explanation = Readonly<{
  /** The rule that the answer came from; null: no rule did, as where nothing allowed it. */
  rule: string | null;
  trace: readonly RuleTrace[];
}>;

/** As much of a decision as tells which rule it came from. */
type Answer =
  | Pick<Extract<Decision, { type: "permit" | "signin" }>, "type">
  | Pick<Extract<Decision, { type: "deny" }>, "type" | "status" | "deviceType">;

/** What is kept of a refusal: the rules with the names of their criteria, each once for met and once for unmet. Bounded. */
export type RefusalTrace = Readonly<{
  /** The rule that refused; null: none did, and none allowed. */
  rule: string | null;
  rules: readonly Readonly<{
    rule: string;
    met: boolean;
    criteriaMet: readonly string[];
    criteriaUnmet: readonly string[];
    /** How many criteria were not asked once more. */
    criteriaMore: number;
  }>[];
  /** How many rules more there are than are listed here. */
  more: number;
}>;
const rulesKept = 20;
/** Of each rule: a list of thousands of people is not gone through once more for everybody who is not on it. */
const criteriaAsked = 20;

export function traceRefusal(
  policy: RoutePolicy | undefined,
  asked: Readonly<{ request: DecisionRequest; principal: Principal | null; now: UnixMs }>,
  answer: Answer,
): RefusalTrace | null {
  if (policy === undefined) return null;
  const { request, principal, now } = asked;
  const looked = policy.conditionals.map((conditional) => ({
    conditional,
    outcome: conditional.test(request, principal, now),
  }));
  const deciding = looked.find(({ conditional, outcome }) => decides(conditional, outcome, answer));
  const rules = looked.slice(0, rulesKept).map(({ conditional: { rule, criteria }, outcome: { met } }) => {
    const [criteriaMet, criteriaUnmet] = [new Set<string>(), new Set<string>()];
    for (const { name, test } of criteria.slice(0, criteriaAsked))
      (test(request, principal, now).met ? criteriaMet : criteriaUnmet).add(name);
    const criteriaMore = Math.max(0, criteria.length - criteriaAsked);
    return { rule, met, criteriaMet: [...criteriaMet], criteriaUnmet: [...criteriaUnmet], criteriaMore };
  });
  return { rule: deciding?.conditional.rule ?? null, rules, more: looked.length - rules.length };
}

export function explain(
  policy: RoutePolicy,
  asked: Readonly<{ request: DecisionRequest; principal: Principal | null; now: UnixMs }>,
  answer: Answer,
): Explanation {
  const { request, principal, now } = asked;
  const looked = policy.conditionals.map((conditional) => ({
    conditional,
    outcome: conditional.test(request, principal, now),
  }));
  const deciding = looked.find(({ conditional, outcome }) => decides(conditional, outcome, answer));
  const trace = looked.map(({ conditional, outcome }): RuleTrace => {
    const { rule, action, operator, place, criteria } = conditional;
    return {
      rule,
      at: `${place.file}:${place.line}:${place.column}`,
      action,
      operator,
      met: outcome.met,
      reasons: outcome.reasons.words,
      criteria: criteria.map((criterion) => {
        const { met, reasons } = criterion.test(request, principal, now);
        const at = `${criterion.place.file}:${criterion.place.line}:${criterion.place.column}`;
        return { criterion: criterion.name, at, met, reasons: reasons.words };
      }),
    };
  });
  return { rule: deciding?.conditional.rule ?? null, trace };
}

function decides({ action }: CompiledConditional, { met, reasons }: Outcome, answer: Answer): boolean {
  switch (answer.type) {
    case "permit":
      return action === "allow" && met;
    case "signin":
      return reasons.wantSignIn;
    case "deny":
      if (answer.deviceType !== null) return reasons.wantDevice;
      if (answer.status === 503) return reasons.wantRecords;
      return action === "deny" && (met || reasons.wantCertificate);
  }
}
