/**
 * From the allow and deny side of a route to one decision: order, statuses, facts read, and who counts as anonymous.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, evaluatePolicy } from "../../../src/auth/authorize/decide.ts";
import { traceDecision } from "../../../src/auth/authorize/explain.ts";
import { type Reason, ReasonTable } from "../../../src/auth/authorize/reasons.ts";
import type { NodeId } from "../../../src/events/index.ts";
import {
  anonymous,
  compiled,
  decideOn,
  now,
  outcomeOf,
  principal,
  request,
  route,
  source,
  summaryOf,
} from "./support.ts";

const preflight = {
  method: "OPTIONS",
  headers: { origin: "https://a.example", "access-control-request-method": "PUT" },
};

// --- sign-in is considered on both sides, with odd consequences (docs/pomerium-behaviour.md §6.6)

test("a deny by e-mail sends an anonymous visitor of an open route to sign-in", () => {
  const policy = { allow: { or: [{ accept: true }] }, deny: { or: [{ email: "mallory@example.com" }] } };
  assert.equal(outcomeOf(policy, null), "signin accept user-unauthenticated");
  assert.equal(outcomeOf(policy, {}), "permit accept");
  assert.equal(outcomeOf(policy, { email: "mallory@example.com" }), "deny 403 email-ok");
});

test("a deny for all but one domain sends an anonymous visitor to sign-in instead of 403", () => {
  const policy = { allow: { or: [{ accept: true }] }, deny: { not: [{ domain: "example.com" }] } };
  assert.equal(outcomeOf(policy, null), "signin accept user-unauthenticated");
  assert.equal(outcomeOf(policy, {}), "permit accept");
  assert.equal(outcomeOf(policy, { email: "x@other.example" }), "deny 403 domain-unauthorized");
});

test("a public route never requires sign-in, and recognises a signed-in visitor", () => {
  const on = { allowPublicUnauthenticatedAccess: true };
  const open = decideOn(on, null);
  assert.equal(summaryOf(open), "permit accept");
  assert(open.type === "permit" && open.permit.principal === null);
  const known = decideOn(on, { subject: "alice-1" });
  assert(known.type === "permit" && known.permit.principal?.profile?.subject === "alice-1");
});

test("a preflight on a route that does not permit preflights is sent to sign-in", () => {
  assert.equal(
    summaryOf(decideOn({ allowAnyAuthenticatedUser: true }, null, preflight)),
    "signin user-unauthenticated",
  );
});

test("authenticated_user or cors_preflight permits preflights and sends plain OPTIONS to sign-in", () => {
  const policy = { allow: { or: [{ authenticated_user: true }, { cors_preflight: true }] } };
  assert.equal(outcomeOf(policy, null, preflight), "permit cors-request");
  assert.equal(outcomeOf(policy, null, { method: "OPTIONS" }), "signin non-cors-request user-unauthenticated");
  assert.equal(outcomeOf(policy, null), "signin non-cors-request user-unauthenticated");
});

// --- order and statuses

test("a missing required certificate takes precedence over sign-in", () => {
  const policy = {
    allow: { or: [{ authenticated_user: true }] },
    deny: { or: [{ invalid_client_certificate: true }] },
  };
  assert.equal(outcomeOf(policy, null), "deny 495 client-certificate-required");
});

test("deny overrides allow, and the decision has the reasons of the deny", () => {
  const policy = { allow: { or: [{ groups: "eng" }] }, deny: { or: [{ http_method: "DELETE" }] } };
  assert.equal(outcomeOf(policy, { groups: ["eng"] }, { method: "DELETE" }), "deny 403 http-method-ok");
  assert.equal(outcomeOf(policy, { groups: ["eng"] }), "permit groups-ok");
  assert.equal(outcomeOf(policy, {}), "deny 403 groups-unauthorized");
});

test("without an allow rule no request is permitted, and no reason is given", () => {
  assert.equal(summaryOf(decideOn({}, {})), "deny 403");
  assert.equal(outcomeOf({ deny: { or: [{ reject: true }] } }, {}), "deny 403");
  assert.equal(outcomeOf([], null), "deny 403");
});

const outcomes: readonly Readonly<{
  allow: readonly [boolean, ...Reason[]];
  deny: readonly [boolean, ...Reason[]];
  expect: string;
}>[] = [
  { allow: [true, "accept"], deny: [false], expect: "permit 200 accept" },
  { allow: [false, "reject"], deny: [false], expect: "deny 403 reject" },
  { allow: [true, "accept"], deny: [true, "email-ok"], expect: "deny 403 email-ok" },
  {
    allow: [true, "accept"],
    deny: [true, "client-certificate-required"],
    expect: "deny 495 client-certificate-required",
  },
  {
    allow: [true, "accept"],
    deny: [false, "invalid-client-certificate"],
    expect: "deny 495 invalid-client-certificate",
  },
  { allow: [false, "invalid-client-certificate"], deny: [false], expect: "deny 495 invalid-client-certificate" },
  { allow: [true, "user-unauthenticated"], deny: [false], expect: "signin 401 user-unauthenticated" },
  { allow: [true, "accept"], deny: [true, "user-unauthenticated"], expect: "signin 401 accept user-unauthenticated" },
  { allow: [true, "device-unauthenticated"], deny: [false], expect: "deny 401 device-unauthenticated" },
  { allow: [true, "accept"], deny: [true, "device-unauthenticated"], expect: "deny 401 accept device-unauthenticated" },
  { allow: [false, "device-unauthorized"], deny: [false], expect: "deny 450 device-unauthorized" },
  { allow: [true, "accept"], deny: [true, "device-unauthorized"], expect: "deny 450 device-unauthorized" },
  { allow: [false, "route-not-found"], deny: [false], expect: "deny 404 route-not-found" },
];
for (const { allow, deny, expect } of outcomes) {
  test(`allow ${allow.join(" ")} and deny ${deny.join(" ")} give ${expect}`, () => {
    const table = new ReasonTable();
    const outcome = ([met, ...words]: readonly [boolean, ...Reason[]]) =>
      met ? table.of(...words).met : table.of(...words).unmet;
    const policy = { allow: () => outcome(allow), deny: () => outcome(deny) };
    const { type, status, reasons } = evaluatePolicy(policy, { request: request(), principal: null, now });
    assert.equal([type, status, ...reasons].join(" "), expect);
  });
}

test("path parameters that some servers drop are refused with 400 if they would change the decision", () => {
  const denied = { deny: { or: [{ http_path: { starts_with: "/admin/" } }] } };
  const allowed = { allow: { and: [{ http_path: { is: "/open" } }] } };
  const decideFor = (rules: object, rawPath: string): string => {
    const policies = compiled(route({ policy: source(rules) }));
    const path = decodeURIComponent(rawPath);
    return summaryOf(decide({ policies, routeId: "r", caller: anonymous, request: request({ rawPath, path }), now }));
  };
  const openButAdmin = { allow: { or: [{ accept: true }] }, ...denied };
  for (const path of ["/admin;x/y", "/admin;x=1;z/y", "/admin%3Bx/y", "/admin;a%3bb/y", "/%61dmin;/y"])
    assert.equal(decideFor(openButAdmin, path), "deny 400 path-parameters", path);
  assert.equal(decideFor(openButAdmin, "/admin/y;x"), "deny 403 http-path-ok", "denied however it is read");
  assert.equal(decideFor(openButAdmin, "/other;x/y"), "permit accept", "permitted however it is read");
  assert.equal(decideFor(allowed, "/open"), "permit http-path-ok");
  assert.equal(decideFor(allowed, "/open;x"), "deny 400 path-parameters");
  assert.equal(
    decideFor(allowed, "/open;x/secret"),
    "deny 400 path-parameters",
    "some servers cut at the first semicolon",
  );
});

test("an unknown route is 404 route-not-found, also for a signed-in user", () => {
  const policies = compiled(route({ allowPublicUnauthenticatedAccess: true }));
  for (const caller of [anonymous, { type: "principal", principal: principal() }] as const) {
    const decision = decide({ policies, routeId: "other", caller, request: request(), now });
    assert.equal(summaryOf(decision), "deny 404 route-not-found");
  }
});

// --- facts and time

test("every decision about a principal reads its session and user, whatever the policy", () => {
  const reads = ["session:session-of-alice-1", "user:user-of-alice-1"];
  for (const policy of [{ allow: { or: [{ accept: 1 }] } }, { allow: { or: [{ reject: 1 }] } }]) {
    const decision = decideOn({ policy: source(policy) }, {});
    assert.deepEqual(decision.reads, reads);
    assert.equal(decision.until, 2_000_000);
  }
  assert.deepEqual(decideOn({}, null).reads, []);
  assert.equal(decideOn({}, null).until, null);
});

test("a session is valid until just before its expiry", () => {
  const on = { allowAnyAuthenticatedUser: true };
  assert.equal(summaryOf(decideOn(on, { expiresAt: now + 1 })), "permit user-ok");
  assert.equal(summaryOf(decideOn(on, { expiresAt: now })), "signin user-unauthenticated");
});

test("an expired session on a public route is permitted as anonymous", () => {
  const decision = decideOn({ allowPublicUnauthenticatedAccess: true }, { expiresAt: now });
  assert(decision.type === "permit" && decision.permit.principal === null);
  assert.equal(decision.until, null);
});

test("a permit names its route and cannot be constructed by hand", () => {
  const decision = decideOn({ id: "r", allowAnyAuthenticatedUser: true }, {});
  assert(decision.type === "permit");
  assert.equal(decision.permit.routeId, "r");
  // @ts-expect-error a permit without the mark of decide() is no Permit
  const forged: typeof decision.permit = { routeId: "r", principal: null };
  assert.equal(Object.getOwnPropertySymbols(forged).length, 0);
  assert.equal(Object.getOwnPropertySymbols(decision.permit).length, 1);
});

test("the trace of a refusal is bounded: twenty rules, and each criterion name once", () => {
  const rules = Array.from({ length: 25 }, () => ({
    allow: { or: [{ email: "a@x.example" }, { email: "b@x.example" }] },
  }));
  const policy = compiled(route({ policy: source(rules) })).get("r");
  const decideFor = { request: request(), principal: principal(), now };
  const trace = traceDecision(
    policy,
    decideFor,
    { type: "deny", status: 403, deviceType: null },
    { positionOf: () => null, session: null, node: "n" as NodeId },
  );
  assert.deepEqual([trace?.rule, trace?.rules.length, trace?.more], [null, 20, 5]);
  assert.deepEqual(trace?.rules[0]?.criteriaUnmet, ["email"]);
  assert.doesNotMatch(JSON.stringify(trace), /example/);
});
