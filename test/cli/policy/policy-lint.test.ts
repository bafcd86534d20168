/** `cardea policy lint` and `cardea policy test`. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { run } from "../support.ts";

const folder = new TemporaryFolder("policy-lint");
after(() => folder[Symbol.dispose]());
let files = 0;
function write(content: string | object, name = `file-${files++}.yaml`): string {
  const path = join(folder.path, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 });
  return path;
}

type Finding = Readonly<{ kind: string; severity: string; rule: string | null; route: string | null; at: string }>;
async function lint(...args: string[]): Promise<Readonly<{ code: number; found: readonly string[] }>> {
  const { code, out, err } = await run(["policy", "lint", "--json", ...args]);
  assert.notEqual(out, "", err);
  const findings = JSON.parse(out) as readonly Finding[];
  return {
    code,
    found: findings.map(({ kind, rule, route }) => [kind, route, rule].filter((part) => part !== null).join(" ")),
  };
}

const some = { groups: "eng" };
const policies: readonly (readonly [policy: object, found: readonly string[]])[] = [
  [{ allow: { and: [some] } }, []],
  [{ allow: { and: [some, { http_method: "GET" }] }, deny: { or: [{ email: "m@x" }] } }, []],
  [{ allow: { or: [{ accept: true }] } }, ["public allow.or"]],
  [{ allow: { or: [{ accept: true }] }, deny: { or: [some] } }, ["public allow.or"]],
  [{ allow: { not: [{ reject: true }] } }, ["public allow.not"]],
  [{ allow: { and: [{ source_ip: "10.0.0.0/8" }] } }, ["without-session allow.and"]],
  [{ allow: { or: [some, { http_path: "/x" }] } }, ["without-session allow.or"]],
  [{ allow: { or: [some, { cors_preflight: true }] } }, []],
  [{ allow: { and: [{ email: "a@x" }, { email: "b@x" }] } }, ["never-met allow.and", "nobody"]],
  [{ allow: { and: [{ email: { in: ["a@x", "b@x"] } }, { email: "b@x" }] } }, []],
  [{ allow: { and: [{ groups: "a" }, { groups: "b" }] } }, []],
  [{ allow: { and: [{ email: { is: "a@x", not: "a@x" } }, some] } }, ["never-met allow.and", "nobody"]],
  [{ allow: { and: [{ groups: { has: "a", exclude: "a" } }] } }, ["never-met allow.and", "nobody"]],
  [
    { allow: { and: [some] }, deny: { nor: [{ http_method: "GET" }, { http_method: "PUT" }] } },
    [["nobody", "deny.nor"].join(" ")],
  ],
  [{ allow: { and: [some] }, deny: { or: [{ accept: true }] } }, [["nobody", "deny.or"].join(" ")]],
  [{ allow: { and: [some, { accept: true }] } }, ["no-effect allow.and"]],
  [{ allow: { or: [some, { reject: true }] } }, ["no-effect allow.or"]],
  [{ allow: { or: [some, { groups: "eng" }] } }, ["no-effect allow.or"]],
  [{ allow: { and: [some, { date: { before: "2020-01-01" } }] } }, ["never-met allow.and", "nobody"]],
  [{ allow: { and: [some, { date: { after: "2020-01-01" } }] } }, ["no-effect allow.and"]],
  [{ allow: { and: [some, { date: { after: "2999-01-01" } }] } }, []],
  [
    { allow: { and: [some, { time_of_day: { timezone: "UTC", after: "22:00", before: "6:00" } }] } },
    ["never-met allow.and", "nobody"],
  ],
];
for (const [policy, found] of policies) {
  test(`lint finds ${found.length === 0 ? "nothing" : found.join(", ")} in ${JSON.stringify(policy)}`, async () => {
    const notes = found.every((one) => /^(public|without-session)/.test(one));
    const file = write(policy);
    assert.deepEqual(await lint("--policy", file), { code: notes ? 0 : 1, found });
    assert.equal((await run(["policy", "lint", "--policy", file, "--strict"])).code, found.length === 0 ? 0 : 1);
  });
}

const secret = Buffer.from("a secret of exactly 32 bytes, ok").toString("base64");
const configuration = (routes: string): string =>
  write(`authenticate_service_url: https://authenticate.example.com
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
idp_client_secret: x
shared_secret: ${secret}
address: 127.0.0.1:8000
insecure_server: true
routes:
${routes}`);
const route = (id: string, from: string, more = ""): string =>
  `  - {id: ${id}, from: "${from}", to: "http://127.0.0.1:9000", allow_any_authenticated_user: true${more}}\n`;

test("lint names the routes that are shadowed by an earlier one", async () => {
  const config = configuration(
    [
      route("all", "https://a.example"),
      route("hidden", "https://a.example", ", prefix: /x"),
      route("by-regex", "https://a.example", ', regex: "/y.*"'),
      route("with-port", "https://a.example:8443"),
      route("b-x", "https://b.example", ", prefix: /x"),
      route("b-xy", "https://b.example", ", path: /xy"),
      route("b", "https://b.example"),
      route("wild", "https://*.example"),
      route("wild-below", "https://*.c.example"),
      route("exact", "https://d.example"),
    ].join(""),
  );
  const { code, found } = await lint("-c", config);
  assert.equal(code, 1);
  assert.deepEqual(found, ["shadowed hidden", "shadowed by-regex", "shadowed b-xy", "shadowed wild-below"]);
});

test("lint reports position, problem and remedy, and reports an invalid policy before linting", async () => {
  const file = write("allow:\n  and:\n    - email: a@x\n    - email: b@x\n");
  const { out } = await run(["policy", "lint", "--policy", file]);
  assert.match(
    out,
    /^\S+:2:3: allow\.and: this allow rule can never be met; no value is both at once: check \S+:3:7 and \S+:4:7/,
  );
  assert.equal((await run(["policy", "lint", "--policy", write(policies[0]?.[0] ?? {})])).out, "nothing found\n");
  const invalid = await run(["policy", "lint", "--policy", write("allow: {and: [{emial: x}]}")]);
  assert.deepEqual([invalid.code, invalid.out], [1, ""]);
  assert.match(invalid.err, /did you mean `email`/);
  assert.equal((await run(["policy", "lint"])).code, 2);
});

// --- table tests

write(
  `- allow:
    or: [{groups: eng}, {email: boss@example.com}]
- allow:
    and: [{groups: sales}, {http_method: GET}]
- deny:
    or: [{http_path: {starts_with: /admin}}]
`,
  "policy.yaml",
);
const people = `people:
  ann: {session: {id: s1, user_id: ann}, user: {email: ann@example.com}, groups: [eng]}
  sam: {session: {id: s2, user_id: sam}, groups: [sales]}
`;
const cases = `defaults: {request: {headers: {accept: text/html}}}
cases:
  - {name: engineers write, as: ann, url: "https://a.example/", method: POST, expect: permit}
  - {name: strangers sign in, as: "nobody", url: "https://a.example/", expect: {result: signin, status: 302}}
  - name: not in the cellar
    as: ann
    request: {url: "https://a.example/admin/x"}
    expect: {result: deny, status: 403, reasons: [http-path-ok], rule: "[2].deny.or"}
`;

test("a table whose cases all pass exits 0, and rules that no case meets are named", async () => {
  const table = write(`policy: policy.yaml\n${people}${cases}`);
  const { code, out, err } = await run(["policy", "test", table]);
  assert.deepEqual([code, err], [0, ""]);
  assert.match(
    out,
    /^no case meets \[1\]\.allow\.and {2}\(\S+policy\.yaml:4:5\)\n3 of 3 as expected; 2 of 3 rules met \(66 %\)\n$/,
  );
  assert.equal((await run(["policy", "test", table, "--coverage", "66"])).code, 0);
  assert.equal((await run(["policy", "test", table, "--coverage", "67"])).code, 1);
});

test("a failed case is shown with the outcome of every rule", async () => {
  const table = write(`policy: policy.yaml
${people}cases:
  - {name: sales write, as: sam, url: "https://a.example/", method: POST, expect: {result: permit, reasons: [groups-ok, http-method-ok]}}
  - {as: sam, url: "https://a.example/", expect: permit}
`);
  const { code, out } = await run(["policy", "test", table]);
  assert.equal(code, 1);
  const [policy] = [join(folder.path, "policy.yaml")];
  assert.equal(
    out.split("no case meets")[0]?.replaceAll(table, "table").replaceAll(policy, "policy"),
    `✖ sales write  (table:6:5)
    result   expected permit, was deny
    reasons  - groups-ok
             - http-method-ok
             + email-unauthorized
             + groups-unauthorized
             + http-method-unauthorized
    not met  [0].allow.or  -groups -email  (policy:2:5)
    not met  [1].allow.and  +groups -http_method  (policy:4:5)
    not met  [2].deny.or  -http_path  (policy:6:5)
`,
  );
  assert.match(out, /1 of 2 as expected; 1 of 3 rules met \(33 %\)\n$/);
});

test("--json contains every case with its result and differences", async () => {
  const table = write(`policy: policy.yaml\n${people}${cases}`);
  const { out } = await run(["policy", "test", table, "--json"]);
  const report = JSON.parse(out) as Readonly<{
    passed: number;
    failed: number;
    cases: readonly object[];
    coverage: object;
  }>;
  assert.deepEqual([report.passed, report.failed, report.cases.length], [3, 0, 3]);
  assert.deepEqual(report.coverage, {
    rules: 3,
    met: 2,
    percent: 66,
    unmet: [{ route: null, rule: "[1].allow.and", at: `${join(folder.path, "policy.yaml")}:4:5` }],
  });
});

test("a table may test a whole configuration, by URL or by route, and options cannot contradict the table", async () => {
  const config = configuration(
    `${route("app", "https://app.example")}${route("api", "https://api.example", ", prefix: /v1")}`,
  );
  const table = write(`config: ${config}
${people}cases:
  - {as: ann, url: "https://app.example/", expect: {result: permit, rule: shorthands}}
  - {as: ann, url: "https://api.example/v2", expect: not_found}
  - {as: ann, url: /v2, route: api, expect: permit}
`);
  const { code, out } = await run(["policy", "test", table]);
  assert.deepEqual([code, out], [0, "3 of 3 as expected; 2 of 2 rules met (100 %)\n"]);
  assert.equal((await run(["policy", "test", table, "--policy", write({ allow: { or: [{ reject: 1 }] } })])).code, 2);
});

test("lint and table tests name a route by its name if it has no id", async () => {
  const open = ', to: "http://127.0.0.1:9000", allow_public_unauthenticated_access: true}\n';
  const config = configuration(
    `  - {name: Wiki, from: "https://wiki.example"${open}  - {id: shop, name: Shop, from: "https://shop.example"${open}`,
  );
  const { out } = await run(["policy", "lint", "-c", config]);
  const calls = out.split("\n").flatMap((line) => /note: (\S+): shorthands: everyone gets in/.exec(line)?.[1] ?? []);
  assert.deepEqual(calls.sort(), ["Wiki", "shop"]);
  const cases = "cases: [{url: 'https://other.example/', session: null, expect: not_found}]\n";
  const table = await run(["policy", "test", write(`config: ${config}\n${cases}`)]);
  assert.match(table.out, /^no case meets Wiki: shorthands {2}\(.*\nno case meets shop: shorthands/, table.err);
});

test("an invalid table exits 2 and names the key at fault; an invalid policy exits 1", async () => {
  const bad = async (content: string, message: RegExp): Promise<void> => {
    const { code, err } = await run(["policy", "test", write(content)]);
    assert.equal(code, 2, content);
    assert.match(err, message);
  };
  await bad("cases: []", /cases: is not a list of cases/);
  await bad("caes: []", /caes: is not a known key/);
  await bad(
    "policy: policy.yaml\ncases: [{as: bob, url: /, expect: permit}]",
    /cases\[0\]\.as: people has no entry "bob"/,
  );
  await bad(
    "policy: policy.yaml\ncases: [{url: /, expect: yes-please}]",
    /cases\[0\]\.expect\.result: "yes-please" is not one of permit/,
  );
  await bad("policy: policy.yaml\ncases: [{url: /, exepct: permit}]", /cases\[0\]\.exepct: is not a known key/);
  await bad("policy: policy.yaml\ncases: [{url: /}]", /cases\[0\]\.expect: is missing/);
  await bad(
    "policy: policy.yaml\ncases: [{url: /, now: soon, expect: permit}]",
    /:2:9: now: "soon" is not an RFC 3339 time/,
  );
  await bad("cases: [{url: /, expect: permit}]", /names neither a policy nor a config/);
  await bad("policy: policy.yaml\ncases: [{url: /, route: x, expect: permit}]", /there is no route "x"/);
  await bad("a: [", /:1:\d/);
  assert.equal((await run(["policy", "test", join(folder.path, "nowhere")])).code, 2);
  assert.equal(
    (await run(["policy", "test", write("policy: nowhere.yaml\ncases: [{url: /, expect: permit}]")])).code,
    1,
  );
});
