/**
 * Laws that hold for every policy over every criterion, including those on time, devices and external data.
 *
 * policy.property.test.ts compares the compiler with a reference implementation. A failure prints its seed and path.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/authorize/compile.ts";
import { type Decision, decide } from "../../../src/auth/authorize/decide.ts";
import type { DecisionRequest } from "../../../src/auth/authorize/decision.ts";
import { explain } from "../../../src/auth/authorize/explain.ts";
import { type DataRecord, type RecordKey, RecordSet } from "../../../src/auth/authorize/records/records.ts";
import type { UnixMs } from "../../../src/events/index.ts";
import { fc } from "../../support/property.ts";
import { anonymous, type Person, principal, request, route, source, summaryOf, type Who } from "./support.ts";

/** `SEED=…` explores other inputs; a failure prints the seed and path to replay it. */

type Conditionals = Readonly<Record<string, readonly object[]>>;
type Policy = readonly Readonly<Record<string, Conditionals>>[];

const word = fc.constantFrom("a", "b", "c");
const zone = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe");
const clock = fc
  .tuple(fc.integer({ min: 0, max: 23 }), fc.constantFrom("00", "30", "59"))
  .map(([hour, minute]) => `${hour}:${minute}`);
const year = [Date.UTC(2026, 0, 1), Date.UTC(2027, 0, 1)] as const;
const moment = fc.oneof(
  fc.integer({ min: year[0], max: year[1] }),
  // Around the changes of daylight saving time.
  fc.integer({ min: Date.UTC(2026, 2, 28), max: Date.UTC(2026, 2, 30) }),
  fc.integer({ min: Date.UTC(2026, 9, 24), max: Date.UTC(2026, 9, 26) }),
);
const iso = moment.map((at) => new Date(at).toISOString());
const text = fc.oneof(
  word,
  fc.record({ not: word }),
  fc.record({ in: fc.array(word, { maxLength: 2 }) }),
  fc.record({ not_in: fc.array(word, { maxLength: 2 }) }),
  fc.record({ starts_with: word }),
);
const list = fc.oneof(word, fc.record({ exclude: word }), fc.record({ is: word }));
const recordTypes = ["by-user", "by-address"] as const;
const recordTest = fc.oneof(
  fc.record({ exists: fc.boolean() }),
  fc.record({ field: fc.constant("x"), is: word }),
  fc.record({ field: fc.constant("x"), not: word }),
  fc.record({ field: fc.constant("x"), exclude: word }),
  fc.record({ field: fc.constant("n"), "<": fc.integer({ min: 0, max: 3 }) }),
);
const named = (name: string, data: fc.Arbitrary<unknown>): fc.Arbitrary<object> =>
  data.map((value) => ({ [name]: value }));
const timed = fc.oneof(
  named("date", fc.oneof(fc.record({ after: iso }), fc.record({ before: iso }))),
  named("day_of_week", fc.constantFrom("mon-fri", "sat,sun", "fri-mon", "wed")),
  named("day_of_week", fc.record({ days: fc.constant("sun-tue"), timezone: zone })),
  named("time_of_day", fc.record({ timezone: zone, after: clock })),
  named("time_of_day", fc.record({ timezone: zone, before: clock })),
  named("time_of_day", fc.record({ timezone: zone, after: clock, before: clock })),
);
const recorded = named(
  "record",
  fc.tuple(fc.constantFrom(...recordTypes), recordTest).map(([type, input]) => ({ type, ...input })),
);
const anyCriterion = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.constantFrom<object>(
      { accept: 1 },
      { reject: 1 },
      { authenticated_user: 1 },
      { invalid_client_certificate: 1 },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.oneof(
      ...["email", "user", "domain", "http_method", "http_path", "ssh_username", "mcp_tool"].map((name) =>
        named(name, text),
      ),
    ),
  },
  { weight: 2, arbitrary: fc.oneof(...["groups", "claim/x"].map((name) => named(name, list))) },
  {
    weight: 1,
    arbitrary: named(
      "device",
      fc.record({ type: fc.constantFrom("any", "key"), approved: fc.boolean() }, { requiredKeys: [] }),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<object>(
      { ssh_username_matches_email: 1 },
      { ssh_username_matches_claim: "x" },
      { source_ip: "10.0.0.0/8" },
    ),
  },
  { weight: 2, arbitrary: timed },
  { weight: 3, arbitrary: recorded },
);
const conditionals = (input: fc.Arbitrary<object>): fc.Arbitrary<Conditionals> =>
  fc.dictionary(fc.constantFrom("and", "or", "not", "nor"), fc.array(input, { maxLength: 4 }), { maxKeys: 3 });
const policyOf = (input: fc.Arbitrary<object>): fc.Arbitrary<Policy> =>
  fc.array(fc.dictionary(fc.constantFrom("allow", "deny"), conditionals(input), { maxKeys: 2 }), { maxLength: 3 });
const anyPolicy = policyOf(anyCriterion);

const device = fc.record({ id: word, typeId: fc.constantFrom("any", "key"), approvedBy: fc.option(word) });
const person: fc.Arbitrary<Person> = fc.record({
  subject: word,
  email: fc.tuple(word, word).map(([local, domain]) => `${local}@${domain}`),
  groups: fc.uniqueArray(word),
  claims: fc.record({ x: fc.array(word, { maxLength: 2 }) }),
  devices: fc.array(device, { maxLength: 2 }),
  expiresAt: fc.constant(year[1] + 1),
});
const anyone: fc.Arbitrary<Who> = fc.option(person, { freq: 4 });
const anything: fc.Arbitrary<DecisionRequest> = fc
  .record({
    method: word,
    path: word,
    ip: fc.constantFrom("10.0.0.1", "192.0.2.1"),
    ssh: fc.option(fc.record({ username: word, publicKey: fc.constant(null) })),
    mcp: fc.option(fc.record({ method: fc.constantFrom("tools/call", "tools/list"), tool: fc.option(word) })),
  })
  .map(request);
const content = fc.array(
  fc.record({
    id: fc.constantFrom("a", "b", "10.0.0.1"),
    x: fc.oneof(word, fc.array(word)),
    n: fc.integer({ min: 0, max: 3 }),
  }),
  {
    maxLength: 3,
  },
);

/** Undefined: the data set was never read. */
type Contents = readonly (readonly DataRecord[] | undefined)[];
const unread: Contents = [undefined, undefined];
const contents = fc.tuple(content, content);

type Situation = Readonly<{ who: Who; what: DecisionRequest; at: number; data: Contents }>;
const situation: fc.Arbitrary<Situation> = fc.record({ who: anyone, what: anything, at: moment, data: contents });

function ask(policy: unknown, { who, what, at, data }: Situation): Decision {
  const keys: readonly RecordKey[] = ["user.id", "request.ip"];
  const records = new Map(
    recordTypes.map((type, index) => {
      const set = new RecordSet(type, keys[index] ?? "user.id");
      const known = data[index];
      if (known !== undefined) set.replace(known);
      return [type, set];
    }),
  );
  const compiled = compilePolicies([route({ policy: source(policy) })], { records, facts: "any" });
  assert(compiled.ok, compiled.ok ? "" : JSON.stringify(compiled.problems));
  const caller = who === null ? anonymous : ({ type: "principal", principal: principal(who) } as const);
  const now = at as UnixMs;
  const decision = decide({ policies: compiled.policies, routeId: "r", caller, request: what, now });
  const [compiledPolicy] = compiled.policies.values();
  assert(compiledPolicy);
  const { rule, trace } = explain(
    compiledPolicy,
    { request: what, principal: who === null ? null : principal(who), now },
    decision,
  );
  // The explanation agrees with the decision.
  const met = (action: string): boolean => trace.some((one) => one.action === action && one.met);
  if (decision.type === "permit") assert(rule !== null && met("allow") && !met("deny"));
  if (decision.type === "signin" || (decision.type === "deny" && decision.deviceType !== null))
    assert.notEqual(rule, null);
  return decision;
}
const permits = (policy: unknown, input: Situation): boolean => ask(policy, input).type === "permit";
const runs = { numRuns: 600 };

test("adding a deny rule never permits more, and a met deny permits nothing", () => {
  fc.assert(
    fc.property(anyPolicy, conditionals(anyCriterion), situation, (policy, deny, input) => {
      if (permits([...policy, { deny }], input)) assert(permits(policy, input));
      assert(!permits([...policy, { deny: { or: [{ accept: 1 }] } }], input));
    }),
    runs,
  );
});

test("neither the order of rules and criteria nor duplicates change the decision or its reasons", () => {
  fc.assert(
    fc.property(anyPolicy, situation, (policy, input) => {
      const turned = policy
        .map((rules) =>
          Object.fromEntries(
            Object.entries(rules)
              .reverse()
              .map(([action, body]) => [
                action,
                Object.fromEntries(
                  Object.entries(body)
                    .reverse()
                    .map(([operator, input]) => [operator, [...input, ...input].reverse()]),
                ),
              ]),
          ),
        )
        .reverse();
      assert.equal(summaryOf(ask(turned, input)), summaryOf(ask(policy, input)));
    }),
    runs,
  );
});

test("a request that is permitted without a data set is permitted with any content of it", () => {
  fc.assert(
    fc.property(policyOf(fc.oneof(recorded, anyCriterion)), situation, contents, (policy, input, data) => {
      if (!permits(policy, { ...input, data: unread })) return;
      assert(permits(policy, { ...input, data }));
      assert(permits(policy, { ...input, data: [data[0], undefined] }));
    }),
    { numRuns: 1_500 },
  );
});

test("a request that is permitted to an anonymous caller is permitted to every user", () => {
  fc.assert(
    fc.property(anyPolicy, situation, person, (policy, input, who) => {
      if (permits(policy, { ...input, who: null })) assert(permits(policy, { ...input, who }));
    }),
    { numRuns: 1_500 },
  );
});

test("a decision is valid until exactly the time that it states", () => {
  fc.assert(
    fc.property(
      policyOf(fc.oneof(timed, anyCriterion)),
      situation,
      fc.double({ min: 0, max: 1, noNaN: true }),
      (policy, input, part) => {
        const now = ask(policy, input);
        const until = now.until ?? year[1];
        assert(until > input.at || now.until === null);
        const last = Math.max(input.at, until - 1);
        for (const at of [last, input.at + Math.floor((last - input.at) * part)])
          assert.equal(summaryOf(ask(policy, { ...input, at })), summaryOf(now), `at ${at}`);
      },
    ),
    { numRuns: 1_000 },
  );
});

test("no document makes the compiler throw, and every accepted policy decides every request", () => {
  const names = [
    "allow",
    "deny",
    "and",
    "or",
    "not",
    "nor",
    "device",
    "is",
    "approved",
    "type",
    "date",
    "after",
    "before",
    "timezone",
    "day_of_week",
    "days",
    "time_of_day",
    "record",
    "field",
    "exists",
    ">=",
    "has",
    "mcp_tool",
    "ssh_username",
    "ssh_publickey",
    "ssh_ca",
    "ssh_username_matches_claim",
    "claim/x",
    "__proto__",
    "constructor",
  ];
  const leaf = fc.oneof(
    fc.constantFrom<unknown>(null, true, 0, "", "UTC", "mon-fri", "9:00", "2026-01-01", "by-user", "ssh-ed25519 AAAA"),
    fc.string({ maxLength: 12 }),
    word,
  );
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 6, withCrossShrink: true },
      leaf,
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...names), tie("value"), { maxKeys: 3 }),
    ),
  })).value;
  const near = fc.tuple(fc.constantFrom(...names), json).map(([name, data]) => ({ allow: { or: [{ [name]: data }] } }));
  fc.assert(
    fc.property(fc.oneof(json, near), situation, (ppl, { who, what, at }) => {
      const records = new Map([["by-user", new RecordSet("by-user", "user.id")]]);
      const compiled = compilePolicies([route({ policy: source(ppl) })], { records });
      const problems = compiled.ok ? compiled.warnings : compiled.problems;
      for (const { line, key, problem, remedy } of problems)
        assert(line > 0 && key !== "" && problem !== "" && remedy !== "");
      if (!compiled.ok) return;
      const caller = who === null ? anonymous : ({ type: "principal", principal: principal(who) } as const);
      decide({ policies: compiled.policies, routeId: "r", caller, request: what, now: at as UnixMs });
    }),
    { numRuns: 3_000 },
  );
});
