/**
 * Rule set: all allow rules of a route, or all its deny rules, as one test. It equals `anyOf` over the rules and costs
 * less.
 *
 *   `or` rules, and `and` rules of one criterion   become one `or` over all their criteria. Criteria that check one
 *                                                  subject against several values then become one look-up.
 *   `and` rules that require one of some values    are looked up by the values that the principal has. All others are
 *                                                  unmet, whatever else they require.
 *   all other rules                                are evaluated in turn.
 *
 * If no rule is met, every rule contributes the reasons of its unmet criteria. Rules that differ only in the value that
 * they are looked up by are evaluated for these reasons once.
 * test/auth/authorize/rule-set.property.test.ts compares this with the plain `anyOf`.
 */
import type { ClaimValue } from "../../events/index.ts";
import { anyOf, combineCriteria } from "./combine.ts";
import type { CompiledCriterion, MembershipTest, PolicyTest, ValuesOf } from "./criteria/criterion-parts.ts";
import type { PolicyOperator } from "./ppl-parser.ts";
import type { PolicyOutcome, Reasons, ReasonTable } from "./reasons.ts";

export type RuleSetConditional = Readonly<{
  operator: PolicyOperator;
  test: PolicyTest;
  criteria: readonly CompiledCriterion[];
}>;
type IndexedRule = Readonly<{
  criterion: CompiledCriterion;
  membership: MembershipTest;
  rest: readonly CompiledCriterion[];
  test: PolicyTest;
}>;

/** With fewer rules than this, an index costs more than it saves. */
const indexedRulesMin = 4;

export function compileRuleSet(conditionals: readonly RuleSetConditional[], reasons: ReasonTable): PolicyTest {
  const flat: CompiledCriterion[] = [];
  const ands: RuleSetConditional[] = [];
  const others: PolicyTest[] = [];
  for (const conditional of conditionals) {
    const { operator, criteria, test } = conditional;
    if (criteria.length > 0 && (operator === "or" || (operator === "and" && criteria.length === 1)))
      flat.push(...criteria);
    else if (operator === "and" && criteria.length > 1) ands.push(conditional);
    else others.push(test);
  }
  const { buckets, left } = groupBySubject(ands);
  return anyOf(
    [
      ...(flat.length === 0 ? [] : [combineCriteria("or", flat, reasons)]),
      ...buckets.map((rules) => anyIndexed(rules, reasons)),
      ...left.map(({ test }) => test),
      ...others,
    ],
    reasons,
  );
}

/** Groups rules by the subject of one of their criteria: the subject that most rules share. */
function groupBySubject(ands: readonly RuleSetConditional[]) {
  const counts = new Map<string, number>();
  for (const { criteria } of ands)
    for (const subject of new Set(criteria.flatMap(({ anyOf: by }) => (by?.valuesOf ? [by.subject] : []))))
      counts.set(subject, (counts.get(subject) ?? 0) + 1);
  const bySubject = new Map<string, IndexedRule[]>();
  const left: RuleSetConditional[] = [];
  for (const conditional of ands) {
    const { criteria, test } = conditional;
    let chosen: CompiledCriterion | undefined;
    for (const criterion of criteria)
      if (criterion.anyOf?.valuesOf && countOf(criterion) > countOf(chosen)) chosen = criterion;
    const membership = chosen?.anyOf;
    if (chosen === undefined || membership === null || membership === undefined || countOf(chosen) < indexedRulesMin)
      left.push(conditional);
    else {
      const rules = bySubject.get(membership.subject) ?? [];
      bySubject.set(membership.subject, rules);
      rules.push({ criterion: chosen, membership, rest: criteria.filter((one) => one !== chosen), test });
    }
  }
  return { buckets: [...bySubject.values()], left };

  function countOf(criterion: CompiledCriterion | undefined): number {
    return counts.get(criterion?.anyOf?.subject ?? "") ?? 0;
  }
}

/** Equals `anyOf` over `and` rules that are all indexed by one subject. */
function anyIndexed(rules: readonly IndexedRule[], reasons: ReasonTable): PolicyTest {
  const index = new RuleIndex(rules, reasons);
  return (request, principal, now) => index.evaluate(request, principal, now);
}

class RuleIndex {
  readonly #rules: readonly IndexedRule[];
  readonly #reasons: ReasonTable;
  readonly #valuesOf: ValuesOf;
  readonly #byValue = new Map<ClaimValue, number[]>();
  readonly #groups: ReturnType<typeof groupByRest>;
  /** By rule: the number of its last evaluation. A rule that two values of the principal lead to is evaluated once. */
  readonly #evaluatedIn: Float64Array;
  #evaluation = 0;
  #isMet = false;
  #met: Reasons;
  #unmet: Reasons;

  constructor(rules: readonly IndexedRule[], reasons: ReasonTable) {
    this.#rules = rules;
    this.#reasons = reasons;
    this.#valuesOf = rules[0]?.membership.valuesOf ?? (() => undefined);
    for (const [number, { membership }] of rules.entries())
      for (const value of new Set(membership.values)) {
        const known = this.#byValue.get(value);
        if (known === undefined) this.#byValue.set(value, [number]);
        else known.push(number);
      }
    this.#groups = groupByRest(rules);
    this.#evaluatedIn = new Float64Array(rules.length);
    this.#met = reasons.none;
    this.#unmet = reasons.none;
  }

  evaluate(...asked: Parameters<PolicyTest>): PolicyOutcome {
    const [, principal] = asked;
    this.#evaluation += 1;
    this.#isMet = false;
    this.#met = this.#reasons.none;
    this.#unmet = this.#reasons.none;
    const has = principal === null ? undefined : this.#valuesOf(principal);
    if (typeof has === "string") this.#evaluateRules(this.#byValue.get(has), asked);
    else if (has !== undefined && has.size <= this.#byValue.size) {
      for (const value of has) this.#evaluateRules(this.#byValue.get(value), asked);
    } else if (has !== undefined) {
      for (const [value, numbers] of this.#byValue) if (has.has(value)) this.#evaluateRules(numbers, asked);
    }
    return this.#isMet ? this.#met.met : this.#allUnmet(asked);
  }

  #evaluateRules(numbers: readonly number[] | undefined, asked: Parameters<PolicyTest>): void {
    for (const number of numbers ?? noRules) {
      if (this.#evaluatedIn[number] === this.#evaluation) continue;
      this.#evaluatedIn[number] = this.#evaluation;
      const outcome = this.#rules[number]?.test(...asked);
      if (outcome === undefined) continue;
      if (outcome.met) {
        this.#isMet = true;
        this.#met = this.#reasons.union(this.#met, outcome.reasons);
      } else this.#unmet = this.#reasons.union(this.#unmet, outcome.reasons);
    }
  }

  /** A rule that was not looked up is unmet for its indexed criterion, and for its other unmet criteria. */
  #allUnmet(asked: Parameters<PolicyTest>): PolicyOutcome {
    let unmet = this.#unmet;
    for (const { members, rest } of this.#groups) {
      const missed = members.find((number) => this.#evaluatedIn[number] !== this.#evaluation);
      const rule = missed === undefined ? undefined : this.#rules[missed];
      if (rule === undefined) continue;
      unmet = this.#reasons.union(unmet, rule.criterion.test(...asked).reasons);
      for (const { test } of rest) {
        const outcome = test(...asked);
        if (!outcome.met) unmet = this.#reasons.union(unmet, outcome.reasons);
      }
    }
    return unmet.unmet;
  }
}

const noRules: readonly number[] = [];

/** Groups rules that differ only in the value that they are indexed by. */
function groupByRest(rules: readonly IndexedRule[]) {
  const ids = new Map<PolicyTest, number>();
  const idOf = ({ test }: CompiledCriterion): number => {
    const known = ids.get(test) ?? ids.size;
    ids.set(test, known);
    return known;
  };
  const groups = new Map<string, { members: number[]; rest: readonly CompiledCriterion[] }>();
  for (const [number, { rest }] of rules.entries()) {
    const key = [...new Set(rest.map(idOf))].sort((a, b) => a - b).join();
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { members: [number], rest });
    else known.members.push(number);
  }
  return [...groups.values()];
}
