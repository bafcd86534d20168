/** Compilation of a generation of routes: shorthands, positions of every problem, all-or-nothing, descriptions. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicies, requirementsOf } from "../../../src/auth/authorize/compile.ts";
import type { Policies } from "../../../src/auth/index.ts";
import { type RouteConfig, readYaml } from "../../../src/config/index.ts";
import { describeRoute } from "../../../src/console/index.ts";
import { compiled, decideOn, problemsOf, route, source, summaryOf, type Who } from "./support.ts";

// --- shorthands (docs/pomerium-behaviour.md §6.5)

const preflight = { method: "OPTIONS", headers: { origin: "https://a", "access-control-request-method": "PUT" } };
const shorthands: readonly (readonly [Partial<RouteConfig>, Who, string])[] = [
  [{ allowPublicUnauthenticatedAccess: true }, null, "permit accept"],
  [{ allowAnyAuthenticatedUser: true }, {}, "permit user-ok"],
  [{ allowAnyAuthenticatedUser: true }, null, "signin user-unauthenticated"],
  [{ allowedDomains: ["a.example", "example.com"] }, {}, "permit domain-ok"],
  [{ allowedDomains: ["a.example"] }, {}, "deny 403 domain-unauthorized"],
  [{ allowedUsers: ["bob", "alice@example.com"] }, {}, "permit email-ok"],
  [{ allowedUsers: ["alice-1"] }, {}, "permit user-ok"],
  [{ allowedUsers: ["alice-1", "alice@example.com"] }, {}, "permit email-ok user-ok"],
  [{ allowedUsers: ["bob"] }, {}, "deny 403 email-unauthorized user-unauthorized"],
  [{ allowedIdpClaims: { dept: ["eng", "ops"] } }, { claims: { dept: ["ops"] } }, "permit claim-ok"],
  [{ allowedIdpClaims: { dept: ["eng"] } }, { claims: { dept: ["ops"] } }, "deny 403 claim-unauthorized"],
  [{ allowedIdpClaims: { "org/level": [3] } }, { claims: { "org.level": [3] } }, "permit claim-ok"],
  [{ allowedIdpClaims: { vip: [true] } }, { claims: { vip: ["true"] } }, "deny 403 claim-unauthorized"],
  [{ allowedIdpClaims: { dept: ["eng"] } }, null, "signin user-unauthenticated"],
];
for (const [on, who, expect] of shorthands) {
  test(`${JSON.stringify(on)} for ${JSON.stringify(who)} gives ${expect}`, () => {
    assert.equal(summaryOf(decideOn(on, who)), expect);
  });
}

test("cors_allow_preflight permits a preflight and nothing else", () => {
  const on = { corsAllowPreflight: true, allowAnyAuthenticatedUser: true };
  assert.equal(summaryOf(decideOn(on, null, preflight)), "permit cors-request");
  assert.equal(summaryOf(decideOn(on, null)), "signin non-cors-request user-unauthenticated");
});

test("a request is permitted by shorthands or by the policy's own rules; the policy's deny applies to both", () => {
  const policy = source({ allow: { or: [{ groups: "eng" }] }, deny: { or: [{ http_method: "DELETE" }] } });
  const on = { allowedUsers: ["alice-1"], policy };
  assert.equal(summaryOf(decideOn(on, {})), "permit user-ok");
  assert.equal(summaryOf(decideOn(on, { subject: "bob", groups: ["eng"] })), "permit groups-ok");
  assert.equal(summaryOf(decideOn(on, { groups: ["eng"] })), "permit groups-ok user-ok");
  assert.equal(summaryOf(decideOn(on, {}, { method: "DELETE" })), "deny 403 http-method-ok");
  assert.equal(
    summaryOf(decideOn(on, { subject: "bob" })),
    "deny 403 email-unauthorized groups-unauthorized user-unauthorized",
  );
});

// --- problems

test("each problem has its line and key, and all are reported at once", () => {
  const problems = problemsOf([
    {
      // lines: 1 list, 2 rules, 3 allow, 4 and, 5 criterion, 6 key …
      allow: {
        and: [{ emial: "a@b" }, { email: { starts: "a" } }, { email: { in: ["x", 7] } }],
      },
    },
    { deny: { or: [{ time_of_day: {} }, { source_ip: ["10.0.0.0/8", "10.0.0.0/33"] }] } },
  ]);
  assert.deepEqual(
    problems.map(({ line, key, problem }) => `${line} ${key}: ${problem}`),
    [
      "6 routes[0].policy[0].allow.and[0].emial: unknown criterion `emial`",
      "9 routes[0].policy[0].allow.and[1].email.starts: unknown operator `starts`",
      "14 routes[0].policy[0].allow.and[2].email.in[1]: a number can never equal text",
      "19 routes[0].policy[1].deny.or[0].time_of_day: `time_of_day` needs a time zone",
      "19 routes[0].policy[1].deny.or[0].time_of_day: `time_of_day` without `after` and `before` would always be met",
      "23 routes[0].policy[1].deny.or[1].source_ip[1]: `10.0.0.0/33` is not an IP address or CIDR block",
    ],
  );
});

const refused: readonly (readonly [object, RegExp])[] = [
  [{ emial: "a" }, /unknown criterion `emial`; did you mean `email`\?/],
  [{ zzzzzzzzzz: "a" }, /unknown criterion `zzzzzzzzzz`; use `accept`/],
  [{ toString: "a" }, /unknown criterion `toString`/],
  [{ pomerium_routes: { enable: true } }, /remove it: paths below \/\.pomerium/],
  [{ "email/x": "a" }, /`email` takes nothing after a slash/],
  [{ claim: "a" }, /`claim` needs the name of a claim/],
  [{ "claim/": "a" }, /`claim` needs the name of a claim/],
  [{ email: ["a", "b"] }, /a list can never equal text; use `in:`/],
  [{ email: { is: ["a"] } }, /a list can never equal text; use `in:`/],
  [{ email: { in: "a" } }, /expected a list of text values, found text/],
  [{ email: {} }, /an empty matcher would match everything/],
  [{ user: 12 }, /a number can never equal text; quote it: "12"/],
  [{ user: { not: null } }, /nothing can never equal text/],
  [{ http_method: true }, /`true` can never equal text; quote it: "true"/],
  [{ groups: ["a", "b"] }, /a list can never equal text; write one criterion for each value, under `or`/],
  [{ groups: { in: ["a"] } }, /unknown operator `in`; use `has`, `is` or `exclude`/],
  [{ groups: 7 }, /a number can never equal text; quote it: "7"/],
  [{ "claim/x": null }, /nothing can never equal the value of a claim/],
  [{ "claim/x": { has: ["a"] } }, /a list can never equal the value of a claim; write one criterion for each value/],
  [{ "claim/x": {} }, /an empty matcher would match everything/],
  [{ source_ip: "10.0.0.0/ 8" }, /is not an IP address or CIDR block/],
  [{ source_ip: "010.0.0.1" }, /is not an IP address or CIDR block/],
  [{ source_ip: "::ffff:10.0.0.0/95" }, /is not an IP address or CIDR block/],
  [{ source_ip: "fe80::1%eth0" }, /is not an IP address or CIDR block/],
  [{ source_ip: 5 }, /a number is not an IP address or CIDR block/],
  [{ record: "x" }, /`record` needs the type of its data source/],
  [{ record: { type: "a" } }, /there is no data source of the type `a`|without an operator/],
  [{ record: { type: "a", is: 1 } }, /`record` needs a field to compare/],
  [{ record: { type: "a", exists: "yes" } }, /text is neither true nor false/],
  [{ record: { type: "a", field: "f", ">=": "5" } }, /text cannot be compared with `>=`/],
  [{ record: { type: "a", field: "f", stars_with: "5" } }, /did you mean `starts_with`\?/],
  [{ device: "x" }, /expected device conditions, found text/],
  [{ device: { aproved: true } }, /did you mean `approved`\?/],
  [{ device: { aproved: true, approved: true } }, /remove it: `approved` is already set here/],
  [{ "claim/Department": "eng" }, /Pomerium reads it as `claim\/department`/],
  [{ device: { type: 5 } }, /write a device type/],
  [{ date: "2026-01-01" }, /expected conditions for `date`, found text/],
  [{ date: {} }, /would always be met/],
  [{ date: { after: "yesterday" } }, /`yesterday` cannot be read as a date of ISO 8601/],
  [{ date: { after: "2026-02-30" } }, /cannot be read as a date/],
  [{ date: { befor: "2026-02-03" } }, /did you mean `before`\?/],
  [{ day_of_week: "mon-" }, /is not a day of the week/],
  [{ day_of_week: "mnoday" }, /did you mean `monday`\?/],
  [{ day_of_week: "" }, /text is not a list of days/],
  [{ time_of_day: { after: "9:00" } }, /needs a time zone/],
  [{ time_of_day: { timezone: "Europe/Belrin", after: "9:00" } }, /did you mean `Europe\/Berlin`\?/],
  [{ time_of_day: { timezone: "UTC", after: "25:00" } }, /`25:00` cannot be read as a time of day/],
  [{ time_of_day: { timezone: "UTC", after: "13 PM" } }, /cannot be read as a time of day/],
  [{ time_of_day: { timezone: "+02:00", after: "13:00" } }, /is not a time zone/],
  [{ ssh_publickey: "x" }, /text is not an SSH public key/],
  [{ ssh_ca: [7] }, /a number is not an SSH public key/],
  [{ ssh_username_matches_claim: 1 }, /is not the name of a claim/],
  [{ mcp_tool: ["a"] }, /use `in:`/],
];
for (const [criterion, message] of refused) {
  test(`${JSON.stringify(criterion)} is refused`, () => {
    for (const action of ["allow", "deny"]) {
      const [problem, ...more] = problemsOf({ [action]: { or: [criterion] }, ...(action === "deny" ? {} : {}) });
      assert.equal(more.length, 0);
      assert.equal(problem?.severity, "error");
      assert.match(`${problem.problem}; ${problem.remedy}`, message);
    }
  });
}

const warned: readonly (readonly [object, RegExp])[] = [
  [{ accept: false }, /`accept` is met whatever its value is/],
  [{ authenticated_user: false }, /`authenticated_user` is met whatever its value/],
  [{ email: { ends_with: "" } }, /`ends_with` with an empty text matches everything/],
  [{ email: { in: [] } }, /an empty list matches nothing/],
  [{ source_ip: [] }, /an empty list matches no address/],
  [{ device: { approved: true } }, /no request can meet `device` yet: this build cannot enrol devices/],
  [{ ssh_username: "root" }, /no request can meet `ssh_username` yet: this build has no SSH listener/],
  [
    { mcp_tool: "query" },
    /no request can meet `mcp_tool` yet: this build does not read Model Context Protocol messages/,
  ],
  [{ time_of_day: { timezone: "UTC", after: "22:00", before: "6:00" } }, /is never met/],
  [{ date: { after: "2026-01-02", before: "2026-01-02" } }, /is never met/],
];
for (const [criterion, message] of warned) {
  test(`${JSON.stringify(criterion)} is accepted with a warning`, () => {
    const [problem, ...more] = problemsOf({ allow: { or: [criterion] } });
    assert.equal(more.length, 0);
    assert.equal(problem?.severity, "warning");
    assert.match(problem.problem, message);
  });
}

test("a policy that permits no request causes a warning", () => {
  const [problem, ...more] = problemsOf({ deny: { or: [{ reject: true }] } });
  assert.equal(more.length, 0);
  assert.equal(problem?.severity, "warning");
  assert.match(problem.problem, /lets no one in/);
  assert.equal(problem.key, "routes[0].policy");
});

test("one invalid policy refuses the whole generation", () => {
  const good = route({ id: "good", allowPublicUnauthenticatedAccess: true });
  const bad = route({ id: "bad", policy: source({ allow: { or: [{ nope: 1 }] } }) });
  const result = compilePolicies([good, bad]);
  assert.equal(result.ok, false);
  assert.equal("policies" in result, false);
});

test("two routes with one id are refused: one policy would answer for both", () => {
  const result = compilePolicies([
    route({ allowPublicUnauthenticatedAccess: true }),
    route({ allowAnyAuthenticatedUser: true }),
  ]);
  assert(!result.ok);
  assert.match(result.problems[0]?.problem ?? "", /another route has the same id `r`/);
});

// --- descriptions

/** As a refused person reads them. */
function sentencesOf(policies: Policies): readonly string[] {
  const requirements = requirementsOf(policies, "r");
  assert.ok(requirements !== null);
  return describeRoute(requirements);
}

const descriptions: readonly (readonly [Partial<RouteConfig>, readonly string[]])[] = [
  [{}, ["No one has access."]],
  [{ allowAnyAuthenticatedUser: true }, ["Access needs a sign-in."]],
  [{ policy: source({ allow: { or: [{ groups: "eng" }] } }) }, ["Only members of eng have access."]],
  [
    { policy: source({ allow: { or: [{ groups: "eng" }, { groups: "ops" }, { domain: "example.com" }] } }) },
    ["Access needs one of these: group eng; group ops; an email address at example.com."],
  ],
  [{ allowedUsers: ["a@x", "b@x", "c@x"] }, ["Only 3 named people have access."]],
  [
    {
      policy: source({
        allow: { and: [{ "claim/dept": "eng" }, { http_path: { starts_with: "/api" } }] },
        deny: { not: [{ source_ip: "10.0.0.0/8" }] },
      }),
      allowedUsers: ["a@x"],
    },
    [
      "Only one named person has access.",
      "Or all of these: claim dept: eng; a path starting with /api.",
      "Blocked without any of these: an allowed network.",
    ],
  ],
];
for (const [on, expect] of descriptions) {
  test(`the description for a refused user is: ${expect.join(" ")}`, () => {
    assert.deepEqual(sentencesOf(compiled(route(on))), expect);
  });
}

test("a description names no person, address or certificate", () => {
  const hidden = ["secret-person", "203.0.113.9", "0".repeat(64)];
  const [person, ip, fingerprint] = hidden;
  const criteria = [
    { user: person },
    { email: { not: `${person}@example.com` } },
    { email: { starts_with: person } },
    { "claim/sub": person },
    { "claim/mail": person },
    { "claim/manager": `${person}@example.com` },
    { source_ip: ip },
    { client_certificate: { fingerprint } },
  ];
  for (const operator of ["and", "or", "not", "nor"]) {
    const policy = source({ allow: { [operator]: criteria }, deny: { [operator]: criteria } });
    const text = sentencesOf(compiled(route({ policy }))).join(" ");
    for (const secret of hidden) assert(!text.includes(secret), text);
  }
});

test("an unknown route has no requirements", () => assert.equal(requirementsOf(new Map(), "x"), null));

test("in a real file the position of each problem is that of the mistaken word", () => {
  const text = [
    "- allow:",
    "    or:",
    "      - groups: eng",
    "      - emial: alice@example.com",
    "      - email:",
    "          in: [alice@example.com, 7]",
    "  deny:",
    "    nt: []",
    "",
  ].join("\n");
  const { value, locations: places } = readYaml(text, "cardea.yaml");
  const result = compilePolicies([route({ policy: { ppl: value, location: places.value, locations: places } })]);
  assert(!result.ok);
  assert.deepEqual(
    result.problems.map(({ file, line, column }) => `${file}:${line}:${column}`),
    ["cardea.yaml:4:9", "cardea.yaml:6:35", "cardea.yaml:8:5"],
  );
});
