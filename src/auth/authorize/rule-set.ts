/**
 * Side: all allow rules of a route, or all its deny rules, as one test that says what `anyOf` over them says, and costs less.
 *
 *   `or` rules, and `and` rules of one criterion   are one `or` over all their criteria: what one of them is met by meets the side, with the same
 *                                                  reasons. Criteria that ask whether one thing is one of some values are then one look-up.
 *   `and` rules that ask for one of some values    are found by the values that the person has: the others are unmet, whatever else they ask.
 *   all else                                       is asked in turn.
 *
 * Where no rule is met, every rule gives the reasons of its unmet criteria. Rules that ask the same beside the value are asked for them once.
 * test/auth/authorize/rule-set.property.test.ts holds it against the plain `anyOf`.
 */
import type { ClaimValue } from "../../events/index.ts";
import { anyOf, combine } from "./combine.ts";
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

/** Fewer rules than this are asked in turn. */
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
      ...(flat.length === 0 ? [] : [combine("or", flat, reasons)]),
      ...buckets.map((rules) => anyIndexed(rules, reasons)),
      ...left.map(({ test }) => test),
      ...others,
    ],
    reasons,
  );
}

/** Rules by what they are found by: of several such criteria of a rule, the one whose subject most rules have. */
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

/** What `anyOf` over `and` rules says that are all found by one subject. */
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
  /** The look in which a rule was found last: one that somebody has two values of is asked once. */
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

  /** The rules that were not found are unmet for what they are found by, and for what else of them is unmet. */
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

/** Rules that ask the same beside the value that they are found by. */
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
