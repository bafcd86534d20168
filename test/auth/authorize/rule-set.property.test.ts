/**
 * An indexed side of many rules gives the same outcome and reasons as evaluating its rules one by one.
 *
 * The plain evaluator below knows no indexes: it evaluates every criterion of every rule and merges the outcomes
 * (docs/pomerium-behaviour.md §6.2).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CompiledConditional, compilePolicies, type RoutePolicy } from "../../../src/auth/authorize/compile.ts";
import type { DecisionRequest, Principal } from "../../../src/auth/authorize/decision.ts";
import { explain } from "../../../src/auth/authorize/explain.ts";
import { noRecords } from "../../../src/auth/authorize/records/records.ts";
import { fc } from "../../support/property.ts";
import { now, type Person, principal, request, route, source, type Who } from "./support.ts";

type RuleOutcome = Readonly<{ met: boolean; words: readonly string[] }>;
const merged = (all: readonly RuleOutcome[]): readonly string[] =>
  [...new Set(all.flatMap(({ words }) => words))].sort();

function plain({ operator, criteria }: CompiledConditional, who: Principal | null, what: DecisionRequest): RuleOutcome {
  const each = criteria.map((criterion): RuleOutcome => {
    const { met, reasons } = criterion.test(what, who, now);
    return { met, words: reasons.words };
  });
  const turned = operator === "not" || operator === "nor" ? each.map(({ met, words }) => ({ met: !met, words })) : each;
  const wanted = turned.filter(({ met }) => met === (operator === "or" || operator === "nor"));
  const any = operator === "or" || operator === "nor";
  if (each.length === 0) return { met: false, words: [] };
  if (any) return wanted.length > 0 ? { met: true, words: merged(wanted) } : { met: false, words: merged(turned) };
  return wanted.length > 0 ? { met: false, words: merged(wanted) } : { met: true, words: merged(turned) };
}

function side(
  policy: RoutePolicy,
  action: "allow" | "deny",
  who: Principal | null,
  what: DecisionRequest,
): RuleOutcome {
  const rules = policy.conditionals.filter((one) => one.action === action).map((one) => plain(one, who, what));
  const met = rules.filter((rule) => rule.met);
  return met.length > 0 ? { met: true, words: merged(met) } : { met: false, words: merged(rules) };
}

const word = fc.constantFrom("a", "b", "c", "d", "e");
const texts = fc.oneof(
  { weight: 3, arbitrary: word },
  fc.record({ in: fc.array(word, { maxLength: 3 }) }),
  fc.record({ not: word }),
);
const lists = fc.oneof({ weight: 3, arbitrary: word }, fc.record({ exclude: word }), fc.record({ is: word }));
const criterion = fc.oneof(
  { weight: 4, arbitrary: lists.map((data) => ({ groups: data })) },
  { weight: 2, arbitrary: lists.map((data) => ({ "claim/x": data })) },
  { weight: 2, arbitrary: texts.map((data) => ({ email: data })) },
  { weight: 1, arbitrary: texts.map((data) => ({ user: data })) },
  { weight: 1, arbitrary: word.map((data) => ({ domain: data })) },
  { weight: 2, arbitrary: texts.map((data) => ({ http_method: data })) },
  { weight: 1, arbitrary: fc.constantFrom({ accept: true }, { reject: true }, { authenticated_user: true }) },
);
const operator = fc.oneof(
  { weight: 6, arbitrary: fc.constant("and") },
  { weight: 3, arbitrary: fc.constant("or") },
  fc.constantFrom("not", "nor"),
);
const action = fc.oneof({ weight: 3, arbitrary: fc.constant("allow") }, fc.constant("deny"));
const rule = fc
  .tuple(action, operator, fc.array(criterion, { maxLength: 3 }))
  .map(([kind, how, criteria]) => ({ [kind]: { [how]: criteria } }));
const policies = fc.array(rule, { maxLength: 30 });
const person: fc.Arbitrary<Person> = fc.record({
  subject: word,
  email: fc.oneof(
    word,
    fc.tuple(word, word).map((parts) => parts.join("@")),
  ),
  groups: fc.uniqueArray(word),
  opens: fc.constantFrom(true, true, true, false),
  claims: fc.record({ x: fc.oneof(fc.array(word, { maxLength: 3 }), fc.constant([..."abcdefghijkl"])) }),
});
const anyone: fc.Arbitrary<Who> = fc.option(person, { freq: 5 });
const requests = word.map((method) => request({ method }));

function bothAgree(policy: RoutePolicy, who: Principal | null, what: DecisionRequest): void {
  for (const kind of ["allow", "deny"] as const) {
    const { met, reasons } = policy[kind](what, who, now);
    assert.deepEqual({ met, words: reasons.words }, side(policy, kind, who, what), kind);
  }
}

test("indexed, folded and shared rules agree with the plain evaluator, and so does the trace", () => {
  fc.assert(
    fc.property(policies, policies, anyone, requests, (one, other, who, what) => {
      const compiled = compilePolicies(
        [
          route({ id: "one", policy: source(one) }),
          route({ id: "other", policy: source(other) }),
          route({ id: "again", policy: source(one) }),
        ],
        { records: noRecords, facts: "any" },
      );
      assert.ok(compiled.ok);
      const caller = who === null ? null : principal(who);
      for (const policy of compiled.policies.values()) {
        bothAgree(policy, caller, what);
        const input = { request: what, principal: caller, now };
        for (const traced of explain(policy, input, { type: "permit" }).trace) {
          const written = policy.conditionals.find((each) => each.rule === traced.rule);
          assert.ok(written);
          assert.deepEqual({ met: traced.met, words: traced.reasons }, plain(written, input.principal, what));
        }
      }
    }),
    { numRuns: 600 },
  );
});

test("if one value matches many rules, each of them is evaluated", () => {
  const few = fc.constantFrom("a", "b", "c");
  const found = fc
    .tuple(
      few,
      fc.oneof(
        few.map((data) => ({ http_method: data })),
        few.map((data) => ({ "claim/x": data })),
      ),
    )
    .map(([group, rest]) => ({ allow: { and: [{ groups: group }, rest] } }));
  const one = fc.record({
    groups: fc.uniqueArray(few, { minLength: 1, maxLength: 2 }),
    claims: fc.record({ x: fc.array(few, { maxLength: 1 }) }),
  });
  fc.assert(
    fc.property(
      fc.array(found, { minLength: 4, maxLength: 8 }),
      fc.option(one, { freq: 8 }),
      few,
      (rules, who, method) => {
        const compiled = compilePolicies([route({ policy: source(rules) })]);
        assert.ok(compiled.ok);
        const policy = compiled.policies.get("r");
        assert.ok(policy);
        bothAgree(policy, who === null ? null : principal(who), request({ method }));
      },
    ),
    { numRuns: 500 },
  );
});

test("matching works with thousands of groups or claim values as it does with few", () => {
  const rules = Array.from({ length: 200 }, (_, n) => ({
    allow: { and: [{ groups: `g${n}` }, { "claim/x": `v${n}` }, { http_method: "GET" }] },
  }));
  const compiled = compilePolicies([route({ policy: source(rules) })]);
  assert.ok(compiled.ok);
  const policy = compiled.policies.get("r");
  assert.ok(policy);
  const many = (letter: string) => Array.from({ length: 5_000 }, (_, n) => `${letter}${n}`);
  const cases = [
    [many("g"), many("v"), true],
    [["g7"], ["v7"], true],
    [["g7"], ["v8"], false],
    [many("h"), many("v"), false],
    [["g7", "g8"], ["v8"], true],
    [[], [], false],
  ] as const;
  for (const [groups, x, permitted] of cases) {
    const who = principal({ groups, claims: { x } });
    bothAgree(policy, who, request());
    assert.equal(policy.allow(request(), who, now).met, permitted);
    bothAgree(policy, who, request({ method: "POST" }));
    assert.equal(policy.allow(request({ method: "POST" }), who, now).met, false);
  }
  bothAgree(policy, null, request());
});
