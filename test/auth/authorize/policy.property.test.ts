/**
 * Laws of policy, over thousands of random policies, users and requests.
 *
 * The reference below implements docs/pomerium-behaviour.md §6.1 and §6.2 slowly and literally. The compiler must agree
 * with it on every input, however it folds and shares.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/authorize/compile.ts";
import { decide } from "../../../src/auth/authorize/decide.ts";
import type { DecisionRequest, Principal } from "../../../src/auth/authorize/decision.ts";
import { fc } from "../../support/property.ts";
import {
  anonymous,
  compiled,
  now,
  outcomeOf,
  type Person,
  principal,
  problemsOf,
  request,
  route,
  source,
  summaryOf,
  type Who,
} from "./support.ts";

type Outcome = Readonly<{ met: boolean; reasons: ReadonlySet<string> }>;
type Criteria = readonly Readonly<Record<string, unknown>>[];
type Policy = readonly Readonly<Record<string, Readonly<Record<string, Criteria>>>>[];

function criterion(item: Readonly<Record<string, unknown>>, who: Principal | null, what: DecisionRequest): Outcome {
  const [name = "", data] = Object.entries(item)[0] ?? [];
  const outcome = (met: boolean, ok: string, fail: string): Outcome => ({ met, reasons: new Set([met ? ok : fail]) });
  const value = typeof data === "object" && data !== null ? Object.entries(data) : [["is", data]];
  const text = (left: string): boolean =>
    value.every(([operator, operand]) =>
      operator === "is"
        ? left === operand
        : operator === "not"
          ? left !== operand
          : operator === "in"
            ? (operand as string[]).includes(left)
            : operator === "not_in"
              ? !(operand as string[]).includes(left)
              : left.startsWith(operand as string),
    );
  const list = (left: readonly unknown[]): boolean =>
    (typeof data === "object" && data !== null ? Object.entries(data) : [["has", data]]).every(([operator, operand]) =>
      operator === "has"
        ? left.includes(operand)
        : operator === "exclude"
          ? !left.includes(operand)
          : left.length === 1 && left[0] === operand,
    );
  switch (name) {
    case "accept":
      return outcome(true, "accept", "");
    case "reject":
      return outcome(false, "", "reject");
    case "http_method":
      return outcome(text(what.method), "http-method-ok", "http-method-unauthorized");
  }
  if (who?.profile === undefined) return outcome(false, "", "user-unauthenticated");
  switch (name) {
    case "authenticated_user":
      return outcome(true, "user-ok", "");
    case "user":
      return outcome(text(who.profile.subject), "user-ok", "user-unauthorized");
    case "email":
      return outcome(text(who.profile.email), "email-ok", "email-unauthorized");
    case "domain":
      return outcome(
        who.profile.email.includes("@") && text(who.profile.email.split("@")[1] ?? ""),
        "domain-ok",
        "domain-unauthorized",
      );
    case "groups":
      return outcome(list([...who.groups]), "groups-ok", "groups-unauthorized");
    default:
      return outcome(list(who.claims[name.slice("claim/".length)] ?? []), "claim-ok", "claim-unauthorized");
  }
}

const union = (outcomes: readonly Outcome[]): ReadonlySet<string> => new Set(outcomes.flatMap((o) => [...o.reasons]));
const invert = ({ met, reasons }: Outcome): Outcome => ({ met: !met, reasons });
function and(all: readonly Outcome[]): Outcome {
  const unmet = all.filter((o) => !o.met);
  return unmet.length === 0 ? { met: true, reasons: union(all) } : { met: false, reasons: union(unmet) };
}
function or(all: readonly Outcome[]): Outcome {
  const met = all.filter((o) => o.met);
  return met.length > 0 ? { met: true, reasons: union(met) } : { met: false, reasons: union(all) };
}
function side(policy: Policy, action: string, who: Principal | null, what: DecisionRequest): Outcome {
  const outcomes: Outcome[] = [];
  for (const rules of policy) {
    for (const [operator, items] of Object.entries(rules[action] ?? {})) {
      if (items.length === 0) continue;
      const each = items.map((item) => criterion(item, who, what));
      if (operator === "and") outcomes.push(and(each));
      if (operator === "or") outcomes.push(or(each));
      if (operator === "not") outcomes.push(and(each.map(invert)));
      if (operator === "nor") outcomes.push(or(each.map(invert)));
    }
  }
  return outcomes.length === 0 ? { met: false, reasons: new Set() } : or(outcomes);
}
function reference(policy: Policy, who: Principal | null, what: DecisionRequest): string {
  const allow = side(policy, "allow", who, what);
  const deny = side(policy, "deny", who, what);
  const say = (outcomeOf: string, ...from: readonly Outcome[]) => [outcomeOf, ...[...union(from)].sort()].join(" ");
  if (union([allow, deny]).has("user-unauthenticated")) return say("signin", allow, deny);
  if (deny.met) return say("deny 403", deny);
  return allow.met ? say("permit", allow) : say("deny 403", allow);
}

// --- random policies over a small world, so that matches are as common as misses

const word = fc.constantFrom("a", "b", "c");
const words = fc.array(word, { maxLength: 3 });
const textMatcher = fc.oneof(
  word,
  fc.record({ is: word }),
  fc.record({ not: word }),
  fc.record({ in: words }),
  fc.record({ not_in: words }),
  fc.record({ starts_with: word, not: word }),
);
const listMatcher = fc.oneof(
  word,
  fc.record({ has: word }),
  fc.record({ is: word }),
  fc.record({ exclude: word }),
  fc.record({ has: word, exclude: word }),
);
const sessionCriterion = fc.oneof(
  fc.constant({ authenticated_user: true }),
  ...["user", "email", "domain"].map((name) => textMatcher.map((data) => ({ [name]: data }))),
  ...["groups", "claim/x", "claim/y"].map((name) => listMatcher.map((data) => ({ [name]: data }))),
);
const anyCriterion = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom({ accept: true }, { reject: true }) },
  { weight: 1, arbitrary: textMatcher.map((data) => ({ http_method: data })) },
  { weight: 6, arbitrary: sessionCriterion },
);
const conditionals = (element: fc.Arbitrary<Record<string, unknown>>) =>
  fc.dictionary(fc.constantFrom("and", "or", "not", "nor"), fc.array(element, { maxLength: 5 }), { maxKeys: 3 });
const policyOf = (element: fc.Arbitrary<Record<string, unknown>>): fc.Arbitrary<Policy> =>
  fc.array(fc.dictionary(fc.constantFrom("allow", "deny"), conditionals(element), { maxKeys: 2 }), { maxLength: 3 });
const anyPolicy = policyOf(anyCriterion);
const person: fc.Arbitrary<Person> = fc.record({
  subject: word,
  email: fc.oneof(
    word,
    fc.tuple(word, word).map(([local, domain]) => `${local}@${domain}`),
  ),
  groups: fc.uniqueArray(word),
  claims: fc.record({ x: words }),
  opens: fc.boolean(),
});
const anyone: fc.Arbitrary<Who> = fc.option(person, { freq: 4 });
const method = word;
const runs = { numRuns: 2_000 };

test("the compiler agrees with the reference implementation on every outcome and reason", () => {
  fc.assert(
    fc.property(anyPolicy, anyone, method, (policy, who, requestMethod) => {
      const expected = reference(policy, who === null ? null : principal(who), request({ method: requestMethod }));
      assert.equal(outcomeOf(policy, who, { method: requestMethod }), expected);
    }),
    { numRuns: 10_000 },
  );
});

test("deny overrides allow: adding a deny rule never turns a refusal into a permit", () => {
  fc.assert(
    fc.property(anyPolicy, conditionals(anyCriterion), anyone, (policy, deny, who) => {
      if (outcomeOf([...policy, { deny }], who).startsWith("permit")) assert.match(outcomeOf(policy, who), /^permit/);
    }),
    runs,
  );
});

test("a met deny refuses, whatever the allow rules", () => {
  fc.assert(
    fc.property(anyPolicy, anyone, (policy, who) => {
      assert.doesNotMatch(outcomeOf([...policy, { deny: { or: [{ accept: true }] } }], who), /^permit/);
    }),
    runs,
  );
});

test("without a session no criterion on the session ever permits, in any form", () => {
  fc.assert(
    fc.property(policyOf(sessionCriterion), method, (policy, requestMethod) => {
      assert.doesNotMatch(outcomeOf(policy, null, { method: requestMethod }), /^permit/);
      assert.doesNotMatch(outcomeOf(policy, { opens: false }, { method: requestMethod }), /^permit/);
      assert.doesNotMatch(outcomeOf(policy, { expiresAt: now }, { method: requestMethod }), /^permit/);
    }),
    runs,
  );
});

test("an anonymous caller is permitted only if the policy without its session criteria permits it", () => {
  const withoutSessions = (policy: Policy): Policy =>
    JSON.parse(JSON.stringify(policy), (_key, value: unknown) =>
      Array.isArray(value) && value.every((item) => typeof item === "object")
        ? value.filter((item) => !/^\{"(authenticated_user|user|email|domain|groups|claim)/.test(JSON.stringify(item)))
        : value,
    );
  fc.assert(
    fc.property(anyPolicy, method, (policy, requestMethod) => {
      if (!outcomeOf(policy, null, { method: requestMethod }).startsWith("permit")) return;
      assert.match(outcomeOf(withoutSessions(policy), null, { method: requestMethod }), /^permit/);
    }),
    { numRuns: 5_000 },
  );
});

const criteria = fc.array(anyCriterion, { minLength: 1, maxLength: 4 });
const met = (conditional: object, who: Who): boolean => {
  const [policy] = [...compiled(route({ policy: source({ allow: conditional }) })).values()];
  assert(policy);
  return policy.allow(request(), who === null ? null : principal(who), now).met;
};

test("`not` means none of the criteria, and `nor` means not all of them", () => {
  fc.assert(
    fc.property(criteria, anyone, (list, who) => {
      assert.equal(met({ not: list }, who), !met({ or: list }, who));
      assert.equal(met({ nor: list }, who), !met({ and: list }, who));
    }),
    runs,
  );
});

test("neither the order of criteria nor duplicates change anything", () => {
  fc.assert(
    fc.property(anyPolicy, anyone, (policy, who) => {
      const turned = policy.map((rules) =>
        Object.fromEntries(
          Object.entries(rules).map(([action, body]) => [
            action,
            Object.fromEntries(
              Object.entries(body).map(([operator, list]) => [operator, [...list, ...list].reverse()]),
            ),
          ]),
        ),
      );
      assert.equal(outcomeOf(turned, who), outcomeOf(policy, who));
    }),
    runs,
  );
});

// --- totality

test("the compiler never throws on any JSON, and what it accepts can be decided", () => {
  const names = [
    "allow",
    "deny",
    "and",
    "or",
    "not",
    "nor",
    "action",
    "email",
    "groups",
    "claim/x",
    "source_ip",
    "client_certificate",
    "is",
    "in",
    "has",
    "fingerprint",
    "device",
    "__proto__",
  ];
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 6, withCrossShrink: true },
      fc.constantFrom(null, true, false, 0, 1.5, "", "a", "10.0.0.0/8", "allow"),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...names), tie("value"), { maxKeys: 3 }),
    ),
  })).value;
  fc.assert(
    fc.property(fc.oneof(json, fc.jsonValue()), (ppl) => {
      const result = compilePolicies([route({ policy: source(ppl) })]);
      const problems = result.ok ? result.warnings : result.problems;
      for (const { line, key, problem, remedy } of problems)
        assert(line > 0 && key !== "" && problem !== "" && remedy !== "");
      if (result.ok) decide({ policies: result.policies, routeId: "r", caller: anonymous, request: request(), now });
    }),
    { numRuns: 5_000 },
  );
});

test("a well-formed policy has only warnings, except for a deny that can never fire", () => {
  fc.assert(
    fc.property(anyPolicy, (policy) => {
      const errors = problemsOf(policy).filter(({ severity }) => severity === "error");
      assert(errors.every(({ problem }) => problem.includes("`deny` can never fire")));
    }),
    runs,
  );
});

test("no text, address, path or header makes a decision throw", () => {
  const policies = compiled(
    route({
      policy: source({
        allow: {
          or: [
            { domain: "a" },
            { "claim/a": "b" },
            { source_ip: ["10.0.0.0/8", "::1"] },
            { http_path: "/a" },
            { cors_preflight: 1 },
            { client_certificate: { san_dns: "a" } },
          ],
        },
      }),
    }),
  );
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.dictionary(fc.string(), fc.string()), person, (ip, path, headers, who) => {
      const what = request({
        ip,
        path,
        headers,
        method: "OPTIONS",
        clientCertificate: { presented: true, valid: true, leafPem: path },
      });
      const caller = { type: "principal", principal: principal({ ...who, email: ip }) } as const;
      assert.match(summaryOf(decide({ policies, routeId: "r", caller, request: what, now })), /^(permit|deny|signin)/);
    }),
    runs,
  );
});
