/** What is said beside a decision can never change one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createDecisionAnnotator } from "../../../src/auth/authorize/annotations.ts";
import { compilePolicies, type Policies } from "../../../src/auth/authorize/compile.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { compiled, now, principal, request, route, source } from "./support.ts";

function describer(shadows: Policies, seen: string[]) {
  return createDecisionAnnotator({
    ...{ policies: new Map(), shadows, traced: new Set<string>(), positionOf: () => null, node: "n" as NodeId },
    onShadow: (_route, direction) => void seen.push(direction),
  });
}
const asked = { routeId: "r", principal: principal(), session: null, request: request(), now };

test("a shadow policy that fails is recorded as that, and nothing is thrown", () => {
  const seen: string[] = [];
  const whole = compiled(route({ policy: source({ allow: { or: [{ accept: true }] } }) })).get("r");
  assert.ok(whole);
  const allow = (): never => {
    throw new Error("broken");
  };
  const describe = describer(new Map([["r", { ...whole, allow }]]), seen);
  assert.deepEqual(describe(asked, { type: "permit" }), { shadow: { result: "error", status: 500, reasons: [] } });
  assert.deepEqual(seen, ["error"]);
});

test("every way in which a shadow policy may differ has a name, and where it does not differ nothing is recorded", () => {
  const cases = [
    [{ allow: { or: [{ accept: true }] } }, { type: "deny", status: 403, deviceType: null }, "gains"],
    [{ allow: { or: [{ reject: true }] } }, { type: "permit" }, "loses"],
    [{ allow: { or: [{ reject: true }] } }, { type: "deny", status: 450, deviceType: null }, "otherwise"],
    [{ allow: { or: [{ reject: true }] } }, { type: "signin" }, "otherwise"],
    [{ allow: { or: [{ accept: true }] } }, { type: "permit" }, "same"],
  ] as const;
  for (const [ppl, live, direction] of cases) {
    const seen: string[] = [];
    const made = compilePolicies([route({ shadowPolicy: source(ppl) })]);
    assert.ok(made.ok);
    const said = describer(made.shadows, seen)(asked, live);
    assert.deepEqual(seen, [direction]);
    assert.equal("shadow" in said, direction !== "same");
  }
});

test("a shadow policy stands in the place of the policy alone: what else the route says of access holds for both", () => {
  const made = compilePolicies([
    route({
      allowedUsers: ["alice@example.com"],
      policy: source({ allow: { or: [{ groups: "eng" }] } }),
      shadowPolicy: source({ allow: { or: [{ groups: "sales" }] } }),
    }),
  ]);
  assert.ok(made.ok);
  const rulesOf = (policies: Policies) => policies.get("r")?.conditionals.map(({ rule }) => rule);
  assert.deepEqual(rulesOf(made.policies), ["shorthands", "policy.allow.or"]);
  assert.deepEqual(rulesOf(made.shadows), ["shorthands", "shadow_policy.allow.or"]);
  assert.deepEqual(made.policies.get("r")?.reads.groups, ["eng"], "a shadow's facts are not the decision's");
});

test("what is wrong in a shadow policy refuses the configuration, like anything else, with its place", () => {
  const made = compilePolicies([route({ shadowPolicy: source({ allow: { or: [{ emial: "a@b.example" }] } }) })]);
  assert.ok(!made.ok);
  const wrong = made.problems.find(({ severity }) => severity === "error");
  assert.match(wrong?.key ?? "", /shadow_policy/);
  assert.match(wrong?.remedy ?? "", /email/);
});
