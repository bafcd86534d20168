/**
 * Sub-policies that a console attached to a route: any of them permits, any of them denies, and mistakes are reported
 * with their position.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/authorize/compile.ts";
import type { SubPolicyConfig } from "../../../src/config/index.ts";
import { decideOn, route, source, summaryOf } from "./support.ts";

const attached = (ppl: unknown): SubPolicyConfig => ({
  ...{ id: "p", name: "Attached", explanation: "", remediation: "" },
  ...{ allowedUsers: [], allowedDomains: [], allowedIdpClaims: {} },
  policy: source(ppl),
});

const eng = { allow: { or: [{ groups: "eng" }] } };
const staff = { allow: { or: [{ domain: "example.com" }] } };
const noDelete = { deny: { or: [{ http_method: "DELETE" }] } };

test("a request is permitted if any sub-policy permits it, and refused if none does", () => {
  const on = { subPolicies: [attached(eng), attached(staff)] };
  assert.equal(summaryOf(decideOn(on, { groups: ["eng"] })), "permit domain-ok groups-ok");
  assert.equal(summaryOf(decideOn(on, {})), "permit domain-ok");
  assert.match(summaryOf(decideOn({ subPolicies: [attached(eng)] }, {})), /^deny 403 groups-unauthorized/);
  assert.match(summaryOf(decideOn(on, null)), /^signin/);
});

test("a request that any sub-policy denies is refused, whatever the others and the route's own policy say", () => {
  const on = { policy: source(staff), subPolicies: [attached(eng), attached(noDelete)] };
  assert.equal(summaryOf(decideOn(on, { groups: ["eng"] }, { method: "GET" })), "permit domain-ok groups-ok");
  assert.equal(summaryOf(decideOn(on, { groups: ["eng"] }, { method: "DELETE" })), "deny 403 http-method-ok");
});

test("a mistake in a sub-policy refuses the whole generation and is reported with its position", () => {
  const subPolicies = [attached(eng), attached({ allow: { or: [{ emial: "a" }] } })];
  const refused = compilePolicies([route({ subPolicies })]);
  assert.equal(refused.ok, false);
  const [problem] = refused.ok ? [] : refused.problems;
  assert.match(problem?.key ?? "", /^routes\[0\]\.sub_policies\[1\]\.allow\.or\[0\]/);
});
