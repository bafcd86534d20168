/** The meaning of each criterion and operator: every permit with its deny beside it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies } from "../../../../src/auth/authorize/compile.ts";
import type { DecisionRequest } from "../../../../src/auth/authorize/decision.ts";
import { outcomeOf, type Person, route, type Who } from "../support.ts";

type Case = Readonly<{ criterion: object; who?: Who; what?: Partial<DecisionRequest>; expect: string }>;

function table(name: string, cases: readonly Case[]): void {
  for (const { criterion, who, what, expect } of cases) {
    const caller = who === null ? "an anonymous caller" : JSON.stringify(who ?? what ?? {});
    test(`${name}: ${JSON.stringify(criterion)} for ${caller} gives ${expect}`, () => {
      assert.equal(outcomeOf({ allow: { and: [criterion] } }, who === undefined ? {} : who, what), expect);
    });
  }
}

const signIn = "signin user-unauthenticated";

table("constants", [
  { criterion: { accept: null }, who: null, expect: "permit accept" },
  { criterion: { accept: false }, who: null, expect: "permit accept" },
  { criterion: { reject: true }, who: {}, expect: "deny 403 reject" },
  { criterion: { authenticated_user: true }, who: {}, expect: "permit user-ok" },
  { criterion: { authenticated_user: true }, who: null, expect: signIn },
]);

const alice: Person = { subject: "alice-1", email: "alice@example.com" };
table("user is the identity provider's subject", [
  { criterion: { user: "alice-1" }, who: alice, expect: "permit user-ok" },
  { criterion: { user: "user-of-alice-1" }, who: alice, expect: "deny 403 user-unauthorized" },
  { criterion: { user: "alice@example.com" }, who: alice, expect: "deny 403 user-unauthorized" },
  { criterion: { user: "alice-1" }, who: null, expect: signIn },
]);

table("e-mail, with every text operator", [
  { criterion: { email: "alice@example.com" }, who: alice, expect: "permit email-ok" },
  { criterion: { email: "Alice@example.com" }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { is: "alice@example.com" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { is: "bob@example.com" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { not: "bob@example.com" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { not: "alice@example.com" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { contains: "ice@ex" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { contains: "bob" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { starts_with: "alice@" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { starts_with: "lice@" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { ends_with: "@example.com" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { ends_with: "@example" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { in: ["b@x", "alice@example.com"] } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { in: ["b@x", "c@x"] } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { in: [] } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { not_in: ["b@x"] } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { not_in: ["b@x", "alice@example.com"] } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { starts_with: "al", ends_with: "com" } }, who: alice, expect: "permit email-ok" },
  { criterion: { email: { starts_with: "al", ends_with: "org" } }, who: alice, expect: "deny 403 email-unauthorized" },
  { criterion: { email: { not: "bob@example.com" } }, who: null, expect: signIn },
  { criterion: { email: { not_in: ["b@x"] } }, who: null, expect: signIn },
]);

table("the domain is the part between the first @ and the next", [
  { criterion: { domain: "example.com" }, who: alice, expect: "permit domain-ok" },
  {
    criterion: { domain: { is: "example.com" } },
    who: { email: "alice@example.org" },
    expect: "deny 403 domain-unauthorized",
  },
  {
    criterion: { domain: "corp.example" },
    who: { email: '"x@corp.example"@evil.example' },
    expect: "deny 403 domain-unauthorized",
  },
  {
    criterion: { domain: "corp.example" },
    who: { email: '"x@corp.example@"@evil.example' },
    expect: "deny 403 domain-unauthorized",
  },
  { criterion: { domain: "b" }, who: { email: "a@b@c" }, expect: "permit domain-ok" },
  { criterion: { domain: "c" }, who: { email: "a@b@c" }, expect: "deny 403 domain-unauthorized" },
  { criterion: { domain: "" }, who: { email: "no-at-sign" }, expect: "deny 403 domain-unauthorized" },
  {
    criterion: { domain: { not: "evil.example" } },
    who: { email: "no-at-sign" },
    expect: "deny 403 domain-unauthorized",
  },
  { criterion: { domain: { not_in: ["evil.example"] } }, who: null, expect: signIn },
]);

const eng: Person = { groups: ["eng", "all"] };
table("groups, with every list operator", [
  { criterion: { groups: "eng" }, who: eng, expect: "permit groups-ok" },
  { criterion: { groups: "sales" }, who: eng, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: { has: "eng" } }, who: eng, expect: "permit groups-ok" },
  { criterion: { groups: { has: "en" } }, who: eng, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: { is: "eng" } }, who: { groups: ["eng"] }, expect: "permit groups-ok" },
  { criterion: { groups: { is: "eng" } }, who: eng, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: { exclude: "sales" } }, who: eng, expect: "permit groups-ok" },
  { criterion: { groups: { exclude: "eng" } }, who: eng, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: { exclude: "eng" } }, who: {}, expect: "permit groups-ok" },
  { criterion: { groups: { has: "eng", exclude: "sales" } }, who: eng, expect: "permit groups-ok" },
  { criterion: { groups: { has: "eng", exclude: "all" } }, who: eng, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: "eng" }, who: { claims: { groups: ["eng"] } }, expect: "deny 403 groups-unauthorized" },
  { criterion: { groups: { exclude: "eng" } }, who: null, expect: signIn },
]);

const claims: Person = {
  claims: {
    dept: ["eng"],
    teams: ["a", "b"],
    "realm.roles": ["admin"],
    "a.b.c.d.e": ["deep"],
    "a.b.c.d.e.f": ["deeper"],
    level: [3],
    ok: [true],
    "x.example/k": ["v"],
    none: [],
  },
};
table("claims are compared with their type, by exact name first, then as a path", [
  { criterion: { "claim/dept": "eng" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/dept": "sales" }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/teams": "b" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/teams": { is: "b" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/dept": { is: "eng" } }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/teams": { exclude: "c" } }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/teams": { exclude: "a" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/absent": { exclude: "a" } }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/absent": { has: "a" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/none": { is: "a" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/realm.roles": "admin" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/realm/roles": "admin" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/dept": "eng" }, who: { claims: { Dept: ["eng"] } }, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/a/b/c/d/e": "deep" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/a/b/c/d/e/f": "deeper" }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/a.b.c.d.e.f": "deeper" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/realm": "admin" }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/x.example/k": "v" }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/level": 3 }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/level": "3" }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/ok": true }, who: claims, expect: "permit claim-ok" },
  { criterion: { "claim/ok": "true" }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/constructor": { has: "x" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/__proto__": { has: "x" } }, who: claims, expect: "deny 403 claim-unauthorized" },
  { criterion: { "claim/dept": { exclude: "eng" } }, who: null, expect: signIn },
]);

const preflight = {
  method: "OPTIONS",
  headers: { origin: "https://a.example", "access-control-request-method": "PUT" },
};
table("requests", [
  { criterion: { cors_preflight: true }, who: null, what: preflight, expect: "permit cors-request" },
  {
    criterion: { cors_preflight: true },
    who: null,
    what: { ...preflight, method: "GET" },
    expect: "deny 403 non-cors-request",
  },
  {
    criterion: { cors_preflight: true },
    who: null,
    what: { ...preflight, headers: { origin: "https://a.example" } },
    expect: "deny 403 non-cors-request",
  },
  {
    criterion: { cors_preflight: true },
    who: null,
    what: { ...preflight, headers: { ...preflight.headers, origin: "" } },
    expect: "deny 403 non-cors-request",
  },
  { criterion: { http_method: "GET" }, who: null, what: { method: "GET" }, expect: "permit http-method-ok" },
  {
    criterion: { http_method: "GET" },
    who: null,
    what: { method: "POST" },
    expect: "deny 403 http-method-unauthorized",
  },
  {
    criterion: { http_method: { in: ["GET", "HEAD"] } },
    who: null,
    what: { method: "HEAD" },
    expect: "permit http-method-ok",
  },
  {
    criterion: { http_method: { not_in: ["GET", "HEAD"] } },
    who: null,
    what: { method: "HEAD" },
    expect: "deny 403 http-method-unauthorized",
  },
  {
    criterion: { http_path: { starts_with: "/api/" } },
    who: null,
    what: { path: "/api/a b", rawPath: "/api/a%20b" },
    expect: "permit http-path-ok",
  },
  {
    criterion: { http_path: "/api/a b" },
    who: null,
    what: { path: "/api/a b", rawPath: "/api/a%20b" },
    expect: "permit http-path-ok",
  },
  {
    criterion: { http_path: { starts_with: "/api/" } },
    who: null,
    what: { path: "/admin" },
    expect: "deny 403 http-path-unauthorized",
  },
]);

const from = (ip: string) => ({ ip });
const ipOk = "permit source-ip-ok";
const ipNo = "deny 403 source-ip-unauthorized";
table("source addresses", [
  { criterion: { source_ip: "192.0.2.7" }, who: null, what: from("192.0.2.7"), expect: ipOk },
  { criterion: { source_ip: "192.0.2.7" }, who: null, what: from("192.0.2.8"), expect: ipNo },
  { criterion: { source_ip: "10.0.0.0/8" }, who: null, what: from("10.255.1.2"), expect: ipOk },
  { criterion: { source_ip: "10.1.2.3/8" }, who: null, what: from("10.255.1.2"), expect: ipOk },
  { criterion: { source_ip: "10.0.0.0/8" }, who: null, what: from("11.0.0.1"), expect: ipNo },
  { criterion: { source_ip: ["10.0.0.0/8", "2001:db8::/32"] }, who: null, what: from("2001:db8::5"), expect: ipOk },
  { criterion: { source_ip: ["10.0.0.0/8", "2001:db8::/32"] }, who: null, what: from("2001:db9::5"), expect: ipNo },
  { criterion: { source_ip: "10.0.0.0/8" }, who: null, what: from("::ffff:10.1.1.1"), expect: ipOk },
  { criterion: { source_ip: "10.0.0.0/8" }, who: null, what: from("::ffff:a01:101"), expect: ipOk },
  { criterion: { source_ip: "10.0.0.0/8" }, who: null, what: from("::ffff:11.1.1.1"), expect: ipNo },
  { criterion: { source_ip: "::ffff:10.0.0.0/104" }, who: null, what: from("10.1.1.1"), expect: ipOk },
  { criterion: { source_ip: "::ffff:10.0.0.0/104" }, who: null, what: from("11.1.1.1"), expect: ipNo },
  { criterion: { source_ip: "::/0" }, who: null, what: from("2001:db8::5"), expect: ipOk },
  { criterion: { source_ip: "::/0" }, who: null, what: from("10.1.1.1"), expect: ipNo },
  { criterion: { source_ip: "::/0" }, who: null, what: from("::ffff:10.1.1.1"), expect: ipNo },
  { criterion: { source_ip: "0.0.0.0/0" }, who: null, what: from("10.1.1.1"), expect: ipOk },
  { criterion: { source_ip: "0.0.0.0/0" }, who: null, what: from("::1"), expect: ipNo },
  { criterion: { source_ip: "fe80::/10" }, who: null, what: from("fe80::1%eth0"), expect: ipOk },
  { criterion: { source_ip: "0.0.0.0/0" }, who: null, what: from(""), expect: ipNo },
  { criterion: { source_ip: "0.0.0.0/0" }, who: null, what: from("unix:"), expect: ipNo },
  { criterion: { source_ip: [] }, who: null, what: from("10.1.1.1"), expect: ipNo },
]);

const certificate = (presented: boolean, valid: boolean) => ({
  clientCertificate: { presented, valid, leafPem: "" },
});
for (const [name, what, expect] of [
  ["a valid certificate passes", certificate(true, true), "permit accept"],
  ["an invalid certificate is refused with 495", certificate(true, false), "deny 495 invalid-client-certificate"],
  ["no certificate is refused with 495", certificate(false, false), "deny 495 client-certificate-required"],
  ["a listener that requests no certificate is refused with 495", {}, "deny 495 client-certificate-required"],
] as const) {
  test(`deny invalid_client_certificate: ${name}`, () => {
    const policy = { allow: { or: [{ accept: true }] }, deny: { or: [{ invalid_client_certificate: true }] } };
    assert.equal(outcomeOf(policy, null, what), expect);
  });
}

test("a principal whose personal data cannot be decrypted must sign in, whatever the criterion", () => {
  const criteria = [
    { authenticated_user: true },
    { user: { not: "x" } },
    { email: { not_in: ["x"] } },
    { domain: "example.com" },
    { groups: "eng" },
    { "claim/a": { exclude: "b" } },
  ];
  for (const criterion of criteria) {
    assert.equal(outcomeOf({ allow: { and: [criterion] } }, { opens: false, groups: ["eng"] }), signIn);
    assert.equal(outcomeOf({ allow: { not: [criterion] } }, { opens: false, groups: ["eng"] }), signIn);
  }
});

test("a rule about certificates on a listener that requests none causes a warning", () => {
  const ppl = { allow: { or: [{ accept: true }] }, deny: { or: [{ invalid_client_certificate: true }] } };
  const place = { file: "cardea.yaml", line: 1, column: 1 };
  const warned = (clientCa: string | null): number => {
    const compiled = compilePolicies([route({ clientCa, policy: { ppl, location: place } })]);
    assert.ok(compiled.ok);
    return compiled.warnings.filter(({ problem }) => problem.includes("denies every request")).length;
  };
  assert.deepEqual([warned(null), warned("an authority")], [1, 0]);
});
