/** From the two sides of a route to one answer: order, statuses, facts read, and who counts as nobody. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide, evaluatePolicy } from "../../../src/auth/authorize/decide.ts";
import { traceDecision } from "../../../src/auth/authorize/explain.ts";
import { type Reason, ReasonTable } from "../../../src/auth/authorize/reasons.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { answer, ask, brief, compiled, nobody, now, principal, request, route, source } from "./support.ts";

const preflight = {
  method: "OPTIONS",
  headers: { origin: "https://a.example", "access-control-request-method": "PUT" },
};

// --- the odd consequences of looking for sign-in on both sides (docs/pomerium-behaviour.md §6.6)

test("a deny by e-mail sends an anonymous visitor of an open route to sign-in", () => {
  const policy = { allow: { or: [{ accept: true }] }, deny: { or: [{ email: "mallory@example.com" }] } };
  assert.equal(answer(policy, null), "signin accept user-unauthenticated");
  assert.equal(answer(policy, {}), "permit accept");
  assert.equal(answer(policy, { email: "mallory@example.com" }), "deny 403 email-ok");
});

test("deny unless of a domain sends an anonymous visitor to sign-in instead of 403", () => {
  const policy = { allow: { or: [{ accept: true }] }, deny: { not: [{ domain: "example.com" }] } };
  assert.equal(answer(policy, null), "signin accept user-unauthenticated");
  assert.equal(answer(policy, {}), "permit accept");
  assert.equal(answer(policy, { email: "x@other.example" }), "deny 403 domain-unauthorized");
});

test("a public route never asks for sign-in, and knows a visitor who is signed in", () => {
  const on = { allowPublicUnauthenticatedAccess: true };
  const open = ask(on, null);
  assert.equal(brief(open), "permit accept");
  assert(open.type === "permit" && open.permit.principal === null);
  const known = ask(on, { subject: "alice-1" });
  assert(known.type === "permit" && known.permit.principal?.profile?.subject === "alice-1");
});

test("a preflight on a route that does not let preflights through is asked to sign in", () => {
  assert.equal(brief(ask({ allowAnyAuthenticatedUser: true }, null, preflight)), "signin user-unauthenticated");
});

test("authenticated_user or cors_preflight lets preflights through and sends plain OPTIONS to sign-in", () => {
  const policy = { allow: { or: [{ authenticated_user: true }, { cors_preflight: true }] } };
  assert.equal(answer(policy, null, preflight), "permit cors-request");
  assert.equal(answer(policy, null, { method: "OPTIONS" }), "signin non-cors-request user-unauthenticated");
  assert.equal(answer(policy, null), "signin non-cors-request user-unauthenticated");
});

// --- order and statuses

test("a certificate that is wanted comes before sign-in", () => {
  const policy = {
    allow: { or: [{ authenticated_user: true }] },
    deny: { or: [{ invalid_client_certificate: true }] },
  };
  assert.equal(answer(policy, null), "deny 495 client-certificate-required");
});

test("deny beats allow, and answers with the reasons of the deny", () => {
  const policy = { allow: { or: [{ groups: "eng" }] }, deny: { or: [{ http_method: "DELETE" }] } };
  assert.equal(answer(policy, { groups: ["eng"] }, { method: "DELETE" }), "deny 403 http-method-ok");
  assert.equal(answer(policy, { groups: ["eng"] }), "permit groups-ok");
  assert.equal(answer(policy, {}), "deny 403 groups-unauthorized");
});

test("without an allow rule nobody gets in, and no reason is given", () => {
  assert.equal(brief(ask({}, {})), "deny 403");
  assert.equal(answer({ deny: { or: [{ reject: true }] } }, {}), "deny 403");
  assert.equal(answer([], null), "deny 403");
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
  test(`allow ${allow.join(" ")} and deny ${deny.join(" ")} answer ${expect}`, () => {
    const table = new ReasonTable();
    const outcome = ([met, ...words]: readonly [boolean, ...Reason[]]) =>
      met ? table.of(...words).met : table.of(...words).unmet;
    const policy = { allow: () => outcome(allow), deny: () => outcome(deny) };
    const { type, status, reasons } = evaluatePolicy(policy, { request: request(), principal: null, now });
    assert.equal([type, status, ...reasons].join(" "), expect);
  });
}

test("path parameters that a server drops never change what a path criterion says: 400 where they would", () => {
  const denied = { deny: { or: [{ http_path: { starts_with: "/admin/" } }] } };
  const allowed = { allow: { and: [{ http_path: { is: "/open" } }] } };
  const asked = (rules: object, rawPath: string): string => {
    const policies = compiled(route({ policy: source(rules) }));
    const path = decodeURIComponent(rawPath);
    return brief(decide({ policies, routeId: "r", caller: nobody, request: request({ rawPath, path }), now }));
  };
  const openButAdmin = { allow: { or: [{ accept: true }] }, ...denied };
  for (const path of ["/admin;x/y", "/admin;x=1;z/y", "/admin%3Bx/y", "/admin;a%3bb/y", "/%61dmin;/y"])
    assert.equal(asked(openButAdmin, path), "deny 400 path-parameters", path);
  assert.equal(asked(openButAdmin, "/admin/y;x"), "deny 403 http-path-ok", "denied in every reading");
  assert.equal(asked(openButAdmin, "/other;x/y"), "permit accept", "permitted in every reading");
  assert.equal(asked(allowed, "/open"), "permit http-path-ok");
  assert.equal(asked(allowed, "/open;x"), "deny 400 path-parameters");
  assert.equal(asked(allowed, "/open;x/secret"), "deny 400 path-parameters", "some servers cut at the first semicolon");
});

test("an unknown route is 404 route-not-found, also for somebody signed in", () => {
  const policies = compiled(route({ allowPublicUnauthenticatedAccess: true }));
  for (const caller of [nobody, { type: "principal", principal: principal() }] as const) {
    const decision = decide({ policies, routeId: "other", caller, request: request(), now });
    assert.equal(brief(decision), "deny 404 route-not-found");
  }
});

// --- facts and time

test("every decision about a principal reads their session and user, whatever the policy says", () => {
  const reads = ["session:session-of-alice-1", "user:user-of-alice-1"];
  for (const policy of [{ allow: { or: [{ accept: 1 }] } }, { allow: { or: [{ reject: 1 }] } }]) {
    const decision = ask({ policy: source(policy) }, {});
    assert.deepEqual(decision.reads, reads);
    assert.equal(decision.until, 2_000_000);
  }
  assert.deepEqual(ask({}, null).reads, []);
  assert.equal(ask({}, null).until, null);
});

test("a session counts until its expiry and not at it", () => {
  const on = { allowAnyAuthenticatedUser: true };
  assert.equal(brief(ask(on, { expiresAt: now + 1 })), "permit user-ok");
  assert.equal(brief(ask(on, { expiresAt: now })), "signin user-unauthenticated");
});

test("an expired session on a public route is permitted as nobody", () => {
  const decision = ask({ allowPublicUnauthenticatedAccess: true }, { expiresAt: now });
  assert(decision.type === "permit" && decision.permit.principal === null);
  assert.equal(decision.until, null);
});

test("a permit names the route it is for and cannot be written by hand", () => {
  const decision = ask({ id: "r", allowAnyAuthenticatedUser: true }, {});
  assert(decision.type === "permit");
  assert.equal(decision.permit.routeId, "r");
  // @ts-expect-error a permit without the mark of decide() is no Permit
  const forged: typeof decision.permit = { routeId: "r", principal: null };
  assert.equal(Object.getOwnPropertySymbols(forged).length, 0);
  assert.equal(Object.getOwnPropertySymbols(decision.permit).length, 1);
});

test("what is kept of a refusal is bounded: twenty rules, and each criterion by its name once", () => {
  const rules = Array.from({ length: 25 }, () => ({
    allow: { or: [{ email: "a@x.example" }, { email: "b@x.example" }] },
  }));
  const policy = compiled(route({ policy: source(rules) })).get("r");
  const asked = { request: request(), principal: principal(), now };
  const trace = traceDecision(
    policy,
    asked,
    { type: "deny", status: 403, deviceType: null },
    { positionOf: () => null, session: null, node: "n" as NodeId },
  );
  assert.deepEqual([trace?.rule, trace?.rules.length, trace?.more], [null, 20, 5]);
  assert.deepEqual(trace?.rules[0]?.criteriaUnmet, ["email"]);
  assert.doesNotMatch(JSON.stringify(trace), /example/);
});
