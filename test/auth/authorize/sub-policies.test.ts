/**
 * Policies that a console attached to a route: any of them allows, any of them denies, and what is wrong in one is said
 * with its place.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../src/auth/authorize/compile.ts";
import type { SubPolicyConfig } from "../../../src/config/index.ts";
import { ask, brief, route, source } from "./support.ts";

const attached = (ppl: unknown): SubPolicyConfig => ({
  ...{ id: "p", name: "Attached", explanation: "", remediation: "" },
  ...{ allowedUsers: [], allowedDomains: [], allowedIdpClaims: {} },
  policy: source(ppl),
});

const eng = { allow: { or: [{ groups: "eng" }] } };
const staff = { allow: { or: [{ domain: "example.com" }] } };
const noDelete = { deny: { or: [{ http_method: "DELETE" }] } };

test("whoever one of them allows may, and whom none allows may not", () => {
  const on = { subPolicies: [attached(eng), attached(staff)] };
  assert.equal(brief(ask(on, { groups: ["eng"] })), "permit domain-ok groups-ok");
  assert.equal(brief(ask(on, {})), "permit domain-ok");
  assert.match(brief(ask({ subPolicies: [attached(eng)] }, {})), /^deny 403 groups-unauthorized/);
  assert.match(brief(ask(on, null)), /^signin/);
});

test("whom one of them denies may not, whatever the others and the route's own policy say", () => {
  const on = { policy: source(staff), subPolicies: [attached(eng), attached(noDelete)] };
  assert.equal(brief(ask(on, { groups: ["eng"] }, { method: "GET" })), "permit domain-ok groups-ok");
  assert.equal(brief(ask(on, { groups: ["eng"] }, { method: "DELETE" })), "deny 403 http-method-ok");
});

test("a mistake in one of them refuses the whole generation, and says where it is", () => {
  const subPolicies = [attached(eng), attached({ allow: { or: [{ emial: "a" }] } })];
  const refused = compilePolicies([route({ subPolicies })]);
  assert.equal(refused.ok, false);
  const [problem] = refused.ok ? [] : refused.problems;
  assert.match(problem?.key ?? "", /^routes\[0\]\.sub_policies\[1\]\.allow\.or\[0\]/);
});
