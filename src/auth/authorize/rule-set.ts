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
import type { AnyOf, CompiledCriterion, Held, Test } from "./criteria/criterion-parts.ts";
import type { Operator } from "./ppl-parser.ts";
import type { Outcome, Reasons, ReasonTable } from "./reasons.ts";

export type Conditional = Readonly<{ operator: Operator; test: Test; criteria: readonly CompiledCriterion[] }>;
type Indexed = Readonly<{ criterion: CompiledCriterion; by: AnyOf; rest: readonly CompiledCriterion[]; test: Test }>;

/** Fewer rules than this are asked in turn. */
const indexedMin = 4;

export function sideOf(conditionals: readonly Conditional[], reasons: ReasonTable): Test {
  const flat: CompiledCriterion[] = [];
  const ands: Conditional[] = [];
  const others: Test[] = [];
  for (const conditional of conditionals) {
    const { operator, criteria, test } = conditional;
    if (criteria.length > 0 && (operator === "or" || (operator === "and" && criteria.length === 1)))
      flat.push(...criteria);
    else if (operator === "and" && criteria.length > 1) ands.push(conditional);
    else others.push(test);
  }
  const { buckets, left } = bucketsOf(ands);
  return anyOf(
    [
      ...(flat.length === 0 ? [] : [combine("or", flat, reasons)]),
      ...buckets.map((rules) => oneOf(rules, reasons)),
      ...left.map(({ test }) => test),
      ...others,
    ],
    reasons,
  );
}

/** Rules by what they are found by: of several such criteria of a rule, the one whose subject most rules have. */
function bucketsOf(ands: readonly Conditional[]) {
  const counts = new Map<string, number>();
  for (const { criteria } of ands)
    for (const subject of new Set(criteria.flatMap(({ anyOf: by }) => (by?.held ? [by.subject] : []))))
      counts.set(subject, (counts.get(subject) ?? 0) + 1);
  const bySubject = new Map<string, Indexed[]>();
  const left: Conditional[] = [];
  for (const conditional of ands) {
    const { criteria, test } = conditional;
    let chosen: CompiledCriterion | undefined;
    for (const criterion of criteria)
      if (criterion.anyOf?.held && countOf(criterion) > countOf(chosen)) chosen = criterion;
    const by = chosen?.anyOf;
    if (chosen === undefined || by === null || by === undefined || countOf(chosen) < indexedMin) left.push(conditional);
    else {
      const rules = bySubject.get(by.subject) ?? [];
      bySubject.set(by.subject, rules);
      rules.push({ criterion: chosen, by, rest: criteria.filter((one) => one !== chosen), test });
    }
  }
  return { buckets: [...bySubject.values()], left };

  function countOf(criterion: CompiledCriterion | undefined): number {
    return counts.get(criterion?.anyOf?.subject ?? "") ?? 0;
  }
}

/** What `anyOf` over `and` rules says that are all found by one subject. */
function oneOf(rules: readonly Indexed[], reasons: ReasonTable): Test {
  const index = new RuleIndex(rules, reasons);
  return (request, principal, now) => index.ask(request, principal, now);
}

class RuleIndex {
  readonly #rules: readonly Indexed[];
  readonly #reasons: ReasonTable;
  readonly #held: Held;
  readonly #byValue = new Map<ClaimValue, number[]>();
  readonly #alike: ReturnType<typeof groupsAlike>;
  /** The look in which a rule was found last: one that somebody has two values of is asked once. */
  readonly #foundIn: Float64Array;
  #look = 0;
  #isMet = false;
  #met: Reasons;
  #unmet: Reasons;

  constructor(rules: readonly Indexed[], reasons: ReasonTable) {
    this.#rules = rules;
    this.#reasons = reasons;
    this.#held = rules[0]?.by.held ?? (() => undefined);
    for (const [number, { by }] of rules.entries())
      for (const value of new Set(by.values)) {
        const known = this.#byValue.get(value);
        if (known === undefined) this.#byValue.set(value, [number]);
        else known.push(number);
      }
    this.#alike = groupsAlike(rules);
    this.#foundIn = new Float64Array(rules.length);
    this.#met = reasons.none;
    this.#unmet = reasons.none;
  }

  ask(...asked: Parameters<Test>): Outcome {
    const [, principal] = asked;
    this.#look += 1;
    this.#isMet = false;
    this.#met = this.#reasons.none;
    this.#unmet = this.#reasons.none;
    const has = principal === null ? undefined : this.#held(principal);
    if (typeof has === "string") this.#askThose(this.#byValue.get(has), asked);
    else if (has !== undefined && has.size <= this.#byValue.size) {
      for (const value of has) this.#askThose(this.#byValue.get(value), asked);
    } else if (has !== undefined) {
      for (const [value, numbers] of this.#byValue) if (has.has(value)) this.#askThose(numbers, asked);
    }
    return this.#isMet ? this.#met.met : this.#allUnmet(asked);
  }

  #askThose(numbers: readonly number[] | undefined, asked: Parameters<Test>): void {
    for (const number of numbers ?? none) {
      if (this.#foundIn[number] === this.#look) continue;
      this.#foundIn[number] = this.#look;
      const outcome = this.#rules[number]?.test(...asked);
      if (outcome === undefined) continue;
      if (outcome.met) {
        this.#isMet = true;
        this.#met = this.#reasons.union(this.#met, outcome.reasons);
      } else this.#unmet = this.#reasons.union(this.#unmet, outcome.reasons);
    }
  }

  /** The rules that were not found are unmet for what they are found by, and for what else of them is unmet. */
  #allUnmet(asked: Parameters<Test>): Outcome {
    let unmet = this.#unmet;
    for (const { members, rest } of this.#alike) {
      const missed = members.find((number) => this.#foundIn[number] !== this.#look);
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

const none: readonly number[] = [];

/** Rules that ask the same beside the value that they are found by. */
function groupsAlike(rules: readonly Indexed[]) {
  const ids = new Map<Test, number>();
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
