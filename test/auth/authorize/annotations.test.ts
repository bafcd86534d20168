/** Annotations of a decision, such as shadow policies, can never change the decision. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createDecisionAnnotator } from "../../../src/auth/authorize/annotations.ts";
import { compilePolicies, type Policies } from "../../../src/auth/authorize/compile.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { compiled, now, principal, request, route, source } from "./support.ts";

function createAnnotator(shadows: Policies, seen: string[]) {
  return createDecisionAnnotator({
    ...{ policies: new Map(), shadows, traced: new Set<string>(), positionOf: () => null, node: "n" as NodeId },
    onShadow: (_route, direction) => void seen.push(direction),
  });
}
const decisionInput = { routeId: "r", principal: principal(), session: null, request: request(), now };

test("a shadow policy that throws is recorded as an error, and nothing is thrown", () => {
  const seen: string[] = [];
  const whole = compiled(route({ policy: source({ allow: { or: [{ accept: true }] } }) })).get("r");
  assert.ok(whole);
  const allow = (): never => {
    throw new Error("broken");
  };
  const describe = createAnnotator(new Map([["r", { ...whole, allow }]]), seen);
  assert.deepEqual(describe(decisionInput, { type: "permit" }), {
    shadow: { result: "error", status: 500, reasons: [] },
  });
  assert.deepEqual(seen, ["error"]);
});

test("each way in which a shadow policy may differ has a name; no difference is not recorded", () => {
  const cases = [
    [{ allow: { or: [{ accept: true }] } }, { type: "deny", status: 403, deviceType: null }, "gains"],
    [{ allow: { or: [{ reject: true }] } }, { type: "permit" }, "loses"],
    [{ allow: { or: [{ reject: true }] } }, { type: "deny", status: 450, deviceType: null }, "otherwise"],
    [{ allow: { or: [{ reject: true }] } }, { type: "signin" }, "otherwise"],
    [{ allow: { or: [{ accept: true }] } }, { type: "permit" }, "same"],
  ] as const;
  for (const [ppl, live, direction] of cases) {
    const seen: string[] = [];
    const compilation = compilePolicies([route({ shadowPolicy: source(ppl) })]);
    assert.ok(compilation.ok);
    const annotations = createAnnotator(compilation.shadows, seen)(decisionInput, live);
    assert.deepEqual(seen, [direction]);
    assert.equal("shadow" in annotations, direction !== "same");
  }
});

test("a shadow policy replaces only the policy; the other access settings of the route apply to both", () => {
  const compilation = compilePolicies([
    route({
      allowedUsers: ["alice@example.com"],
      policy: source({ allow: { or: [{ groups: "eng" }] } }),
      shadowPolicy: source({ allow: { or: [{ groups: "sales" }] } }),
    }),
  ]);
  assert.ok(compilation.ok);
  const rulesOf = (policies: Policies) => policies.get("r")?.conditionals.map(({ rule }) => rule);
  assert.deepEqual(rulesOf(compilation.policies), ["shorthands", "policy.allow.or"]);
  assert.deepEqual(rulesOf(compilation.shadows), ["shorthands", "shadow_policy.allow.or"]);
  assert.deepEqual(
    compilation.policies.get("r")?.reads.groups,
    ["eng"],
    "facts of a shadow policy are not facts of the decision",
  );
});

test("a mistake in a shadow policy refuses the configuration and is reported with its position", () => {
  const compilation = compilePolicies([route({ shadowPolicy: source({ allow: { or: [{ emial: "a@b.example" }] } }) })]);
  assert.ok(!compilation.ok);
  const wrong = compilation.problems.find(({ severity }) => severity === "error");
  assert.match(wrong?.key ?? "", /shadow_policy/);
  assert.match(wrong?.remedy ?? "", /email/);
});
