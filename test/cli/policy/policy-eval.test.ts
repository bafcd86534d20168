/** `cardea policy eval` for scripts: output format, statuses, exit codes, and no dependency but a file. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { run } from "../support.ts";

const folder = new TemporaryFolder("policy-eval");
after(() => folder[Symbol.dispose]());
let files = 0;
function write(content: string | object, name = `file-${files++}`): string {
  const path = join(folder.path, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o600 });
  return path;
}

type Answer = Readonly<{
  id: unknown;
  result: string;
  status: number;
  reasons: readonly string[];
  rule: string | null;
  trace: readonly unknown[];
  read: readonly string[];
}>;
const alice = {
  session: { id: "s1", user_id: "alice-1", claims: { dept: ["eng"], realm: { roles: ["admin"] } } },
  user: { id: "alice-1", email: "alice@example.com", name: "Alice" },
};
const anonymous = { session: null };
const page = { method: "GET", url: "https://app.example.com/wiki", headers: {}, ip: "192.0.2.1" };

async function evaluate(policy: object, one: object, ...args: string[]): Promise<Answer> {
  const { code, out, err } = await run([
    ...["policy", "eval", "--policy", write(policy), "--input", write({ request: page, ...one })],
    ...args,
  ]);
  assert.equal(code, 0, err);
  return JSON.parse(out) as Answer;
}
const brief = async (policy: object, one: object, ...args: string[]): Promise<string> => {
  const { result, status, reasons } = await evaluate(policy, one, ...args);
  return [result, status, ...reasons].join(" ");
};
const allow = (...criteria: object[]) => ({ allow: { and: criteria } });
const signedIn = { authenticated_user: true };

test("a result has the id of its case, the rule it follows from, and every fact it read", async () => {
  const policy = {
    allow: { or: [{ groups: "eng" }, { "claim/dept": "eng" }] },
    deny: { or: [{ groups: "contractors" }] },
  };
  const answer = await evaluate(policy, {
    ...alice,
    id: { any: ["thing"] },
    groups: ["all"],
    now: "2026-11-26T12:00:00Z",
  });
  assert.deepEqual(Object.keys(answer), ["id", "result", "status", "reasons", "rule", "trace", "read"]);
  assert.deepEqual(
    { ...answer, trace: [], read: [] },
    {
      id: { any: ["thing"] },
      result: "permit",
      status: 200,
      reasons: ["claim-ok"],
      rule: "allow.or",
      trace: [],
      read: [],
    },
  );
  assert.deepEqual(answer.read.slice(0, 4), ["session:s1", "user:alice-1", "group:contractors", "group:eng"]);
  assert.match(answer.read[4] ?? "", /^configuration:[0-9a-f]{64}$/);
  assert.equal(answer.trace.length, 2);
});

const html = { ...page, headers: { Accept: "text/html,*/*;q=0.8" } };
const json = { ...page, headers: { accept: "application/json" } };
const cases: readonly (readonly [name: string, policy: object, one: object, expect: string])[] = [
  [
    "an anonymous browser is redirected to sign-in",
    allow(signedIn),
    { ...anonymous, request: html },
    "signin 302 user-unauthenticated",
  ],
  [
    "an anonymous caller without Accept counts as a browser",
    allow(signedIn),
    anonymous,
    "signin 302 user-unauthenticated",
  ],
  [
    "an anonymous caller that accepts JSON gets 401",
    allow(signedIn),
    { ...anonymous, request: json },
    "signin 401 user-unauthenticated",
  ],
  [
    "gRPC is never redirected",
    allow(signedIn),
    { ...anonymous, request: { ...html, headers: { "content-type": "application/grpc" } } },
    "signin 401 user-unauthenticated",
  ],
  [
    "a caller with a credential in a header is never redirected",
    allow(signedIn),
    { ...anonymous, request: { ...html, headers: { authorization: "Bearer Pomerium-x" } } },
    "signin 401 user-unauthenticated",
  ],
  [
    "a caller with a credential in the query is never redirected",
    allow(signedIn),
    { ...anonymous, request: { ...page, url: `${page.url}?pomerium_session=x` } },
    "signin 401 user-unauthenticated",
  ],
  [
    "a session with an empty id does not count",
    allow(signedIn),
    { session: { id: "", user_id: "x", claims: {} } },
    "signin 302 user-unauthenticated",
  ],
  [
    "a session with an empty user id counts as a session",
    allow(signedIn),
    { session: { id: "s", user_id: "" } },
    "deny 403 user-unauthorized",
  ],
  [
    "an expired session does not count",
    allow(signedIn),
    { ...alice, session: { ...alice.session, expires_at: "2026-01-01T00:00:00Z" }, now: "2026-01-01T00:00:00Z" },
    "signin 302 user-unauthenticated",
  ],
  ["no rule allows", { deny: { or: [{ reject: 1 }] } }, alice, "deny 403"],
  ["an empty policy permits nothing", {}, alice, "deny 403"],
  ["a refusal states its reason", allow({ email: "bob@example.com" }), alice, "deny 403 email-unauthorized"],
  [
    "a deny by e-mail sends an anonymous caller to sign-in",
    { ...allow({ accept: 1 }), deny: { or: [{ email: "mallory@example.com" }] } },
    anonymous,
    "signin 302 accept user-unauthenticated",
  ],
  [
    "deny: not by domain refuses another domain",
    { ...allow({ accept: 1 }), deny: { not: [{ domain: "example.org" }] } },
    alice,
    "deny 403 domain-unauthorized",
  ],
  [
    "deny: not by domain sends an anonymous caller to sign-in",
    { ...allow({ accept: 1 }), deny: { not: [{ domain: "example.org" }] } },
    anonymous,
    "signin 302 accept user-unauthenticated",
  ],
  [
    "a negative matcher does not permit an anonymous caller",
    allow({ email: { not_in: ["x"] } }),
    anonymous,
    "signin 302 user-unauthenticated",
  ],
  [
    "without a user record the e-mail address is empty",
    allow({ email: { not: "x@y" } }),
    { session: alice.session },
    "permit 200 email-ok",
  ],
  [
    "without a user record no domain matches",
    allow({ domain: { not: "x" } }),
    { session: alice.session },
    "deny 403 domain-unauthorized",
  ],
  [
    "the user record of another user does not count",
    allow({ email: "alice@example.com" }),
    { ...alice, user: { ...alice.user, id: "bob" } },
    "deny 403 email-unauthorized",
  ],
  ["claims are found by path", allow({ "claim/realm/roles": "admin" }), alice, "permit 200 claim-ok"],
  ["claims are found with dots in the name", allow({ "claim/realm.roles": "admin" }), alice, "permit 200 claim-ok"],
  [
    "a single value is a list of one",
    allow({ "claim/a": { is: 1 } }),
    { session: { id: "s", user_id: "u", claims: { a: 1 } } },
    "permit 200 claim-ok",
  ],
  [
    "null claims are an empty set",
    allow({ "claim/a": { exclude: "x" } }),
    { session: { id: "s", user_id: "u", claims: null } },
    "permit 200 claim-ok",
  ],
  [
    "claims of the user override those of the session",
    allow({ "claim/dept": "ops" }),
    { ...alice, user: { ...alice.user, claims: { dept: ["ops"] } } },
    "permit 200 claim-ok",
  ],
  [
    "nested claims of the user are merged into those of the session",
    allow({ "claim/realm/roles": "admin" }, { "claim/realm/site": "x" }),
    { ...alice, user: { ...alice.user, claims: { realm: { site: "x" } } } },
    "permit 200 claim-ok",
  ],
  [
    "a required device is requested from a browser",
    allow({ device: { type: "any" } }),
    alice,
    "device 302 device-unauthenticated",
  ],
  [
    "a required device is a 401 for a script",
    allow({ device: { type: "any" } }),
    { ...alice, request: json },
    "device 401 device-unauthenticated",
  ],
  [
    "an unapproved device",
    allow({ device: { approved: true } }),
    { ...alice, session: { ...alice.session, device_credentials: [{ id: "d", type_id: "any" }] } },
    "deny 450 device-unauthorized",
  ],
  [
    "an approved device",
    allow({ device: { approved: true } }),
    { ...alice, session: { ...alice.session, device_credentials: [{ id: "d", type_id: "any", approved_by: "root" }] } },
    "permit 200 device-ok",
  ],
  [
    "a date criterion uses the time of the case",
    allow({ date: { after: "2026-01-01" } }),
    { ...anonymous, now: "2025-12-31T23:00:00-02:00" },
    "permit 200 date-ok",
  ],
  [
    "a preflight",
    allow({ cors_preflight: 1 }),
    {
      ...anonymous,
      request: {
        ...page,
        method: "OPTIONS",
        headers: { Origin: "https://a.example", "Access-Control-Request-Method": "PUT" },
      },
    },
    "permit 200 cors-request",
  ],
  [
    "a path is decoded and has no query",
    allow({ http_path: "/a b" }),
    { ...anonymous, request: { ...page, url: "https://x.example/a%20b?c=d#e" } },
    "permit 200 http-path-ok",
  ],
  [
    "é is encoded as a browser would",
    allow({ http_path: "/é" }),
    { ...anonymous, request: { ...page, url: "https://x.example/é" } },
    "permit 200 http-path-ok",
  ],
  [
    "a path that the proxy refuses",
    allow({ accept: 1 }),
    { ...anonymous, request: { ...page, url: "https://x.example/a/../b" } },
    "deny 400 dot-segment",
  ],
  [
    "robots.txt is answered by the proxy",
    allow({ http_method: "PUT" }),
    { ...anonymous, request: { ...page, url: "https://x.example/robots.txt" } },
    "deny 200 http-method-unauthorized",
  ],
  [
    "an SSH login",
    allow({ ssh_username: "root" }),
    { ...anonymous, ssh: { username: "root" } },
    "permit 200 ssh-username-ok",
  ],
  [
    "a tool that the policy does not permit",
    allow({ mcp_tool: "query" }),
    { ...alice, mcp: { method: "tools/call", tool_call: { name: "drop", arguments: {} } } },
    "deny 200 mcp-tool-no-match",
  ],
  [
    "a record that the case supplies",
    allow({ record: { type: "hr", field: "team", is: "blue" } }),
    { ...alice, records: { hr: { team: "blue" } } },
    "permit 200 record-ok",
  ],
  [
    "a record that is known to be missing",
    allow({ record: { type: "hr", exists: false } }),
    { ...alice, records: { hr: null } },
    "permit 200 record-ok",
  ],
  [
    "a record of an unknown data set",
    allow({ record: { type: "hr", exists: false } }),
    alice,
    "deny 503 record-unavailable",
  ],
];
for (const [name, policy, one, expect] of cases) {
  test(`${name}: ${expect}`, async () => assert.equal(await brief(policy, one), expect));
}

const secret = Buffer.from("a secret of exactly 32 bytes, ok").toString("base64");

// --- client certificates

const openssl = (...args: string[]): void => void execFileSync("openssl", args, { cwd: folder.path, stdio: "pipe" });
const read = (name: string): string => readFileSync(join(folder.path, name), "utf8");
function authority(name: string, issuer: string | null): void {
  const subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${name}`];
  const signer = issuer === null ? [] : ["-CA", `${issuer}.pem`, "-CAkey", `${issuer}.key`];
  openssl(
    "req",
    "-x509",
    ...subject,
    ...signer,
    "-days",
    "3650",
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign",
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.pem`,
  );
}
function leaf(name: string, issuer: string, usage = "clientAuth"): void {
  const subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", `/CN=${name}`];
  openssl(
    "req",
    "-x509",
    ...subject,
    "-CA",
    `${issuer}.pem`,
    "-CAkey",
    `${issuer}.key`,
    "-days",
    "3650",
    "-addext",
    "basicConstraints=critical,CA:FALSE",
    "-addext",
    `extendedKeyUsage=${usage}`,
    "-addext",
    `subjectAltName=email:${name}@example.com`,
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.pem`,
  );
}
authority("root", null);
authority("middle", "root");
authority("stranger", null);
leaf("alice", "root");
leaf("below", "middle");
leaf("mallory", "stranger");
leaf("server", "root", "serverAuth");
// Signed by a leaf certificate, which is not an authority.
leaf("forged", "alice");

test("a certificate is valid if its chain leads to the given authority", async () => {
  const policy = { allow: { or: [{ accept: 1 }] }, deny: { or: [{ invalid_client_certificate: true }] } };
  const shown = (name: string, intermediates = "", presented = true) => ({
    request: { ...page, client_certificate: { presented, leaf: presented ? read(`${name}.pem`) : "", intermediates } },
    session: null,
  });
  const ca = ["--client-ca", join(folder.path, "root.pem")];
  const invalid = "deny 495 invalid-client-certificate";
  assert.equal(await brief(policy, shown("alice"), ...ca), "permit 200 accept");
  assert.equal(await brief(policy, shown("below", read("middle.pem")), ...ca), "permit 200 accept");
  assert.equal(await brief(policy, shown("below"), ...ca), invalid);
  assert.equal(await brief(policy, shown("mallory", read("stranger.pem")), ...ca), invalid);
  assert.equal(await brief(policy, shown("server"), ...ca), invalid);
  assert.equal(await brief(policy, shown("forged", read("alice.pem")), ...ca), invalid);
  assert.equal(await brief(policy, { ...shown("alice"), now: "2099-01-01T00:00:00Z" }, ...ca), invalid);
  assert.equal(await brief(policy, shown("alice", "", false), ...ca), "deny 495 client-certificate-required");
  assert.equal(await brief(policy, { session: null }, ...ca), "deny 495 client-certificate-required");
  assert.equal(
    await brief(
      policy,
      { session: null, request: { ...page, client_certificate: { presented: true, leaf: "x" } } },
      ...ca,
    ),
    invalid,
  );
});

test("without an authority every readable certificate is valid", async () => {
  const policy = allow({ client_certificate: { san_email: "alice@example.com" } });
  const certificate = { presented: true, leaf: read("alice.pem"), intermediates: "" };
  assert.equal(
    await brief(policy, { session: null, request: { ...page, client_certificate: certificate } }),
    "permit 200 client-certificate-ok",
  );
  assert.equal(
    await brief(policy, {
      session: null,
      request: { ...page, client_certificate: { ...certificate, presented: false } },
    }),
    "deny 403 client-certificate-unauthorized",
  );
});

test("certificates are checked with the route's authority and every setting of downstream_mtls", async () => {
  leaf("site", "root", "clientAuth,serverAuth");
  const mtls = (settings: string, policy: string): string =>
    write(`authenticate_service_url: https://authenticate.example.com
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
idp_client_secret: x
shared_secret: ${secret}
address: 127.0.0.1:8000
certificate_file: ${join(folder.path, "site.pem")}
certificate_key_file: ${join(folder.path, "site.key")}
downstream_mtls: { ca_file: ${join(folder.path, "root.pem")}${settings} }
routes:
  - { id: app, from: "https://app.example.com", to: "http://127.0.0.1:9000", ${policy} }
`);
  const shows = async (file: string, name: string | null, intermediates = ""): Promise<string> => {
    const certificate = { presented: name !== null, leaf: name === null ? "" : read(`${name}.pem`), intermediates };
    const input = write({ request: { ...page, client_certificate: certificate }, session: null });
    const { code, out, err } = await run(["policy", "eval", "-c", file, "--input", input]);
    assert.equal(code, 0, err);
    const { result, status, reasons } = JSON.parse(out) as Answer;
    return [result, status, ...reasons].join(" ");
  };
  const open = mtls("", "allow_public_unauthenticated_access: true");
  assert.equal(await shows(open, "alice"), "permit 200 accept");
  assert.equal(await shows(open, null), "deny 495 client-certificate-required");
  assert.equal(await shows(open, "mallory"), "deny 495 invalid-client-certificate");
  assert.equal(await shows(open, "below", read("middle.pem")), "deny 495 invalid-client-certificate");
  const deep = mtls(", max_verify_depth: 2", "allow_public_unauthenticated_access: true");
  assert.equal(await shows(deep, "below", read("middle.pem")), "permit 200 accept");
  const named = mtls(
    ", match_subject_alt_names: [{ email: bob@example.com }]",
    "allow_public_unauthenticated_access: true",
  );
  assert.equal(await shows(named, "alice"), "deny 495 invalid-client-certificate");
  const byPolicy = mtls(
    ", enforcement: policy",
    "policy: { allow: { or: [{ client_certificate: { san_email: alice@example.com } }] } }",
  );
  assert.equal(await shows(byPolicy, "alice"), "permit 200 client-certificate-ok");
  assert.equal(await shows(byPolicy, "mallory"), "deny 403 client-certificate-unauthorized");
});

// --- configurations

const config = write(
  `authenticate_service_url: https://authenticate.example.com
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
idp_client_secret: x
shared_secret: ${secret}
address: 127.0.0.1:8000
insecure_server: true
routes:
  - id: api
    name: The API
    from: https://app.example.com
    prefix: /api
    to: http://127.0.0.1:9000
    policy: { allow: { or: [{ groups: api }] } }
  - id: files
    from: https://app.example.com
    prefix: /files/
    to: http://127.0.0.1:9000
    allow_any_authenticated_user: true
    allow_encoded_slashes: true
  - id: wiki
    from: https://app.example.com
    to: http://127.0.0.1:9000
    allow_any_authenticated_user: true
  - id: public
    from: https://public.example.com
    to: http://127.0.0.1:9000
    allow_public_unauthenticated_access: true
  - id: db
    from: tcp+https://db.example.com:5432
    to: tcp://127.0.0.1:5432
    allowed_domains: [example.com]
`,
  "cardea.yaml",
);
const on = async (url: string, one: object, ...args: string[]): Promise<string> => {
  const input = write({ request: { ...page, url }, ...one });
  const { code, out, err } = await run(["policy", "eval", "-c", config, "--input", input, ...args]);
  assert.equal(code, 0, err);
  const { result, status, reasons, rule } = JSON.parse(out) as Answer;
  return [result, status, ...reasons, rule].join(" ");
};

test("the route is the one that matches the URL, or the named one", async () => {
  assert.equal(await on("https://app.example.com/api/x", alice), "deny 403 groups-unauthorized ");
  assert.equal(
    await on("https://app.example.com/api/x", { ...alice, groups: ["api"] }),
    "permit 200 groups-ok policy.allow.or",
  );
  assert.equal(await on("https://app.example.com/x", alice), "permit 200 user-ok shorthands");
  assert.equal(await on("https://public.example.com/", anonymous), "permit 200 accept shorthands");
  for (const name of ["api", "The API"])
    assert.equal(await on("https://elsewhere.example/", alice, "--route", name), "deny 403 groups-unauthorized ");
  assert.equal(await on("/only/a/path", alice, "--route", "wiki"), "permit 200 user-ok shorthands");
  assert.equal(await on("tcp+https://db.example.com:5432", alice), "permit 200 domain-ok shorthands");
  assert.equal(await on("tcp+https://db.example.com:5433", alice), "not_found 404 route-not-found ");
});

test("a URL without a route and an unknown route name are not found", async () => {
  assert.equal(await on("https://elsewhere.example/", alice), "not_found 404 route-not-found ");
  assert.equal(await on("https://app.example.com/", alice, "--route", "wikki"), "not_found 404 route-not-found ");
  const { err } = await run([
    "policy",
    "eval",
    "-c",
    config,
    "--route",
    "wikki",
    "--input",
    write({ request: page, session: null }),
  ]);
  assert.match(err, /no route is called "wikki"; did you mean "wiki"\?/);
});

test("an encoded slash is refused as in the proxy, unless the route allows it", async () => {
  const refused = "deny 400 encoded-separator ";
  assert.equal(await on("https://app.example.com/files/a%2Fb", alice), "permit 200 user-ok shorthands");
  assert.equal(await on("https://app.example.com/files%2Fb", alice), refused);
  assert.equal(await on("https://app.example.com/x%2Fb", alice), refused);
  assert.equal(await on("https://app.example.com/x%2Fb", alice, "--route", "wiki"), refused);
  assert.equal(
    await brief(allow(signedIn), { ...alice, request: { ...page, url: `${page.url}%2Fb` } }),
    refused.trim(),
  );
});

test("reserved paths are answered before any policy", async () => {
  assert.equal(await on("https://app.example.com/.pomerium/sign_out", anonymous), "permit 200 pomerium-route ");
  assert.equal(await on("https://app.example.com/.pomerium/user", anonymous), "signin 302 user-unauthenticated ");
  assert.equal(await on("https://app.example.com/.pomerium/user", alice), "permit 200 pomerium-route ");
});

test("data sources of a configuration are read; an unreadable one is named and leads to 503", async () => {
  const people = write("id,team\nalice@example.com,blue\n", "people.csv");
  const written = (source: string): string =>
    write(
      `${readFileSync(config, "utf8").replace(
        "policy: { allow: { or: [{ groups: api }] } }",
        "policy: { allow: { or: [{ record: { type: hr, field: team, is: blue } }] } }",
      )}data_sources: [{ type: hr, file: ${source}, foreign_key: user.email }]\n`,
    );
  const evaluateWith = async (source: string, one: object) => {
    const input = write({ request: { ...page, url: "https://app.example.com/api" }, ...one });
    const { code, out, err } = await run(["policy", "eval", "-c", written(source), "--input", input]);
    assert.equal(code, 0, err);
    const { result, status, reasons, read } = JSON.parse(out) as Answer;
    return { brief: [result, status, ...reasons].join(" "), err, read };
  };
  const matched = await evaluateWith(people, alice);
  assert.deepEqual([matched.brief, matched.err], ["permit 200 record-ok", ""]);
  assert(matched.read.includes("record:hr"));
  assert.equal((await evaluateWith(people, anonymous)).brief, "signin 302 user-unauthenticated");
  const missing = await evaluateWith(join(folder.path, "nowhere.csv"), alice);
  assert.deepEqual([missing.brief, missing.err], ["deny 503 record-unavailable", "data source hr: does not exist\n"]);
  const unnamed = write(readFileSync(written(people), "utf8").replace("type: hr, file", "type: hrr, file"));
  const { code, err } = await run([
    "policy",
    "eval",
    "-c",
    unnamed,
    "--input",
    write({ request: page, session: null }),
  ]);
  assert.equal(code, 1);
  assert.match(err, /there is no data source of the type `hr`; did you mean `hrr`\?/);
});

// --- use

test("an invalid policy or configuration prints its problems and no result, and exits 1", async () => {
  const input = write({ request: page, session: null });
  const bad = write("- allow:\n    and:\n      - emial: a@b\n      - email: {stars_with: a}\n");
  const { code, out, err } = await run(["policy", "eval", "--policy", bad, "--input", input]);
  assert.deepEqual([code, out], [1, ""]);
  assert.equal(
    err.replaceAll(bad, "bad"),
    "bad:3:9: error: [0].allow.and[0].emial: unknown criterion `emial`; did you mean `email`?\n" +
      "bad:4:17: error: [0].allow.and[1].email.stars_with: unknown operator `stars_with`; did you mean `starts_with`?\n",
  );
  for (const content of ["", "a: [", "just text", "allow: {xor: []}", "allow: []\ndeny: 5"]) {
    const output = await run(["policy", "eval", "--policy", write(content), "--input", input]);
    assert.deepEqual([output.code, output.out], [1, ""], content);
    assert.match(output.err, /^\S+: .+\n/);
  }
  const empty = write("");
  const nothing = await run(["policy", "eval", "--policy", empty, "--input", input]);
  assert.match(
    nothing.err.replaceAll(empty, "empty"),
    /^empty:1:1: error: \(document\): nothing is not a policy; write an object/,
  );
  const wrong = write(readFileSync(config, "utf8").replace("groups: api", "gruops: api"));
  const output = await run(["policy", "eval", "-c", wrong, "--input", input]);
  assert.deepEqual([output.code, output.out], [1, ""]);
  assert.match(output.err, /unknown criterion `gruops`; did you mean `groups`\?/);
  assert.equal((await run(["policy", "eval", "--policy", join(folder.path, "nowhere"), "--input", input])).code, 1);
});

test("wrong usage and an invalid case exit 2", async () => {
  const policy = write(allow(signedIn));
  const bad = async (...args: string[]): Promise<void> => {
    const { code, out, err } = await run(["policy", "eval", ...args]);
    assert.deepEqual([code, out], [2, ""], args.join(" "));
    assert.notEqual(err, "");
  };
  await bad();
  await bad("--policy", policy, "-c", config);
  await bad("--policy", policy, "--route", "wiki");
  await bad("--policy", policy, "--input", join(folder.path, "nowhere"));
  await bad("--policy", policy, "--nonsense");
  for (const content of [
    "nonsense",
    "5",
    {},
    { request: {} },
    { request: { url: "nonsense" } },
    { request: { url: "https://a@b/" } },
    { request: page, session: 5 },
    { request: page, session: { id: "s" } },
    { request: page, session: null, groups: "eng" },
    { request: page, session: null, now: "yesterday" },
    { request: { ...page, method: "G T" }, session: null },
    { request: { ...page, headers: { a: 5 } }, session: null },
  ])
    await bad("--policy", policy, "--input", write(content));
});

test("cases from standard input are evaluated one by one; an invalid one is reported and skipped", () => {
  const policy = write(allow(signedIn));
  const lines = [
    JSON.stringify({ id: 1, request: page, ...alice }),
    "",
    "{nonsense",
    JSON.stringify({ id: 2, request: page, session: null, grups: [] }),
  ];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["src/main.ts", "policy", "eval", "--policy", policy, "--input", "-"],
    { input: lines.join("\n"), encoding: "utf8", cwd: join(import.meta.dirname, "../../..") },
  );
  assert.equal(status, 2);
  assert.deepEqual(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Answer)
      .map(({ id, result }) => [id, result]),
    [
      [1, "permit"],
      [2, "signin"],
    ],
  );
  assert.equal(
    stderr,
    "standard input:3: (case): is not JSON\nstandard input:4: grups is not a known key and is ignored\n",
  );
});

test("a byte order mark before the first case is ignored", async () => {
  const line = JSON.stringify({ id: 1, request: page, session: null });
  const input = write(`\ufeff${line}\r\n${line}\r\n`);
  const { code, out, err } = await run(["policy", "eval", "--policy", write(allow(signedIn)), "--input", input]);
  assert.deepEqual([code, err, out.match(/"result":"signin"/g)?.length], [0, "", 2]);
});

test("a case that is nested too deeply is refused, the others are evaluated, and key names such as __proto__ have no side effect", async () => {
  const deep = `{"id":1,"request":{"url":"/"},"session":{"id":"s","user_id":"u","claims":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}}`;
  const odd = `{"id":2,"request":{"url":"/"},"session":{"id":"s","user_id":"u","claims":{"__proto__":{"admin":"yes"},"constructor":{"prototype":{"admin":"yes"}}}}}`;
  const policy = write({ allow: { or: [{ "claim/admin": "yes" }] } });
  const { code, out, err } = await run(["policy", "eval", "--policy", policy, "--input", write(`${deep}\n${odd}\n`)]);
  assert.equal(code, 2);
  assert.match(err, /:1: \(case\): is nested more than 200 levels deep/);
  const answer = JSON.parse(out) as Answer;
  assert.deepEqual([answer.id, answer.result], [2, "deny"]);
  assert.equal(Reflect.get({}, "admin"), undefined);
});

test("a path whose parameters hide another route or rule is refused, as in the proxy", async () => {
  const file = write({
    authenticate_service_url: "https://auth.example.com",
    routes: [
      {
        ...{ from: "https://app.example.com", to: "http://127.0.0.1:9000", prefix: "/area/admin" },
        policy: { allow: { and: [{ groups: { has: "eng" } }] } },
      },
      {
        ...{ from: "https://app.example.com", to: "http://127.0.0.1:9000" },
        policy: { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: { starts_with: "/private/" } }] } },
      },
    ],
  });
  const answerTo = async (path: string): Promise<string> => {
    const input = write({ request: { ...page, url: `https://app.example.com${path}` }, ...anonymous });
    const { code, out, err } = await run(["policy", "eval", "-c", file, "--input", input]);
    assert.equal(code, 0, err);
    const { result, status, reasons } = JSON.parse(out) as Answer;
    return [result, status, ...reasons].join(" ");
  };
  for (const path of ["/area;a=b/admin/x", "/area;/admin", "/area%3Ba/admin", "/private;x/y"])
    assert.equal(await answerTo(path), "deny 400 path-parameters", path);
  for (const path of ["/cars;color=red/tires;v=2", "/x;jsessionid=1"])
    assert.equal(await answerTo(path), "permit 200 accept", path);
});
