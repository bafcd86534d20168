/**
 * Combinators: `and`, `or`, `not` and `nor` over compiled criteria. Reasons merge as in Pomerium
 * (docs/pomerium-behaviour.md §6.2).
 *
 *   and  met if all are met, with all reasons; else unmet, with the reasons of the unmet criteria
 *   or   met if any is met, with the reasons of the met criteria; else unmet, with all reasons
 *   not  met if none is met (`or` inverted); nor: met unless all are met (`and` inverted). Inverting keeps the reasons.
 *
 * So an outcome that rests on a missing session always carries `user-unauthenticated`, even if `not` or `nor` made it
 * met: an anonymous caller never counts as a person who is not on a list.
 */
import type { ClaimValue } from "../../events/index.ts";
import type { CompiledCriterion, MembershipTest, PolicyTest } from "./criteria/criterion-parts.ts";
import type { PolicyOperator } from "./ppl-parser.ts";
import type { ReasonTable } from "./reasons.ts";

export function combineCriteria(
  operator: PolicyOperator,
  criteria: readonly CompiledCriterion[],
  reasons: ReasonTable,
): PolicyTest {
  if (criteria.length === 0) return () => reasons.none.unmet; // an empty list grants nothing, even under `not`
  switch (operator) {
    case "and":
      return allOf(
        criteria.map(({ test }) => test),
        reasons,
      );
    case "or":
      return anyOf(foldMembership(criteria), reasons);
    case "not":
      return inverse(anyOf(foldMembership(criteria), reasons));
    case "nor":
      return inverse(
        allOf(
          criteria.map(({ test }) => test),
          reasons,
        ),
      );
  }
}

/** Met if any test is met. It evaluates every test, because each met test adds its reason. */
export function anyOf(tests: readonly PolicyTest[], reasons: ReasonTable): PolicyTest {
  const [only, other] = tests;
  if (only === undefined) return reasons.neverMet;
  if (other === undefined) return only;
  if (tests.length === 2) return anyOfTwo(only, other, reasons);
  return (request, principal, now) => {
    let isMet = false;
    let met = reasons.none;
    let unmet = reasons.none;
    for (const test of tests) {
      const outcome = test(request, principal, now);
      if (outcome.met) {
        isMet = true;
        met = reasons.union(met, outcome.reasons);
      } else unmet = reasons.union(unmet, outcome.reasons);
    }
    return isMet ? met.met : unmet.unmet;
  };
}

/** Without a list to fetch: with thousands of routes that is a good part of what a decision waits for. */
function anyOfTwo(first: PolicyTest, second: PolicyTest, reasons: ReasonTable): PolicyTest {
  return (request, principal, now) => {
    const one = first(request, principal, now);
    const other = second(request, principal, now);
    if (one.met !== other.met) return one.met ? one : other;
    const both = reasons.union(one.reasons, other.reasons);
    return one.met ? both.met : both.unmet;
  };
}

function allOf(tests: readonly PolicyTest[], reasons: ReasonTable): PolicyTest {
  const [only] = tests;
  if (tests.length === 1 && only !== undefined) return only;
  return (request, principal, now) => {
    let isUnmet = false;
    let met = reasons.none;
    let unmet = reasons.none;
    for (const test of tests) {
      const outcome = test(request, principal, now);
      if (outcome.met) met = reasons.union(met, outcome.reasons);
      else {
        isUnmet = true;
        unmet = reasons.union(unmet, outcome.reasons);
      }
    }
    return isUnmet ? unmet.unmet : met.met;
  };
}

function inverse(test: PolicyTest): PolicyTest {
  return (request, principal, now) => {
    const { met, reasons } = test(request, principal, now);
    return met ? reasons.unmet : reasons.met;
  };
}

/**
 * Criteria that ask whether one thing is one of some values become one look-up: a thousand users cost as much as one.
 */
function foldMembership(criteria: readonly CompiledCriterion[]): PolicyTest[] {
  const bySubject = Map.groupBy(
    criteria.filter((c) => c.anyOf !== null),
    (c) => c.anyOf?.subject,
  );
  const folded = [...bySubject.values()].map((group) => {
    const [first] = group;
    if (group.length === 1 && first !== undefined) return first.test;
    const same: readonly MembershipTest[] = group.flatMap((c) => c.anyOf ?? []);
    const values = new Set<ClaimValue>(same.flatMap((each) => each.values));
    return same[0]?.build(values);
  });
  const others = criteria.filter((c) => c.anyOf === null).map(({ test }) => test);
  return [...others, ...folded.filter((test) => test !== undefined)];
}
