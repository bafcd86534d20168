/** Overrides of the file: the environment, then the command line. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { base, config, errors, goodRoute, warnings } from "../support.ts";

suite("an environment variable overrides the file", () => {
  const read = (env: Readonly<Record<string, string>>, more = "") => config(`${base}${more}${goodRoute}`, { env });
  test("a variable's name is the key in capitals", () => {
    assert.deepEqual(read({ ADDRESS: "127.0.0.1:9000" }).address, { host: "127.0.0.1", port: 9000 });
    assert.equal(read({ MAX_SESSIONS_PER_USER: "3" }).maxSessionsPerUser, 3);
    assert.equal(read({ COOKIE_HTTP_ONLY: "true" }).cookie.httpOnly, true);
  });
  test("the parts of a nested key are joined with _", () => {
    const { broker, nats, audit } = read(
      { BROKER_LEASE: "6s", NATS_SERVERS: "tls://a:4222,tls://b:4222", AUDIT_SINKS: '[{"stdout":true}]' },
      "broker: {lease: 10s, beat: 100ms}\n",
    );
    assert.deepEqual([broker.leaseMs, broker.beatMs], [6000, 100]);
    assert.deepEqual(nats?.servers, ["tls://a:4222", "tls://b:4222"]);
    assert.equal(audit.stdout, "json");
  });
  test("lists are comma-separated; mappings are JSON or k=v", () => {
    assert.deepEqual(read({ ADMINISTRATORS: "email:a@example.com,group:admins" }).administrators, [
      "email:a@example.com",
      "group:admins",
    ]);
    assert.deepEqual(read({ IDP_REQUEST_PARAMS: "prompt=login,hd=example.com" }).idp?.requestParams, {
      prompt: "login",
      hd: "example.com",
    });
    assert.deepEqual(read({ IDP_REQUEST_PARAMS: '{"prompt":"login"}' }).idp?.requestParams, { prompt: "login" });
    assert.deepEqual(read({ JWT_CLAIMS_HEADERS: "email groups" }).jwtClaimsHeaders, {
      "x-pomerium-claim-email": "email",
      "x-pomerium-claim-groups": "groups",
    });
  });
  test("HEADERS sets response headers", () => {
    assert.deepEqual(read({ HEADERS: "X-A:b=c,X-D:e" }).setResponseHeaders, { "X-A": "b=c", "X-D": "e" });
    assert.deepEqual(read({ HEADERS: '{"X-A":"b"}' }).setResponseHeaders, { "X-A": "b" });
  });
  test("an empty variable counts as unset", () => {
    assert.deepEqual(read({ ADDRESS: "", ROUTES: "" }).address, { host: "127.0.0.1", port: 8443 });
  });
  test("a variable that is not a key is ignored", () => {
    assert.deepEqual(warnings(base + goodRoute, { env: { PATH: "/bin", HOME: "/root", FOO_BAR: "1" } }), []);
  });
});

suite("an error in a variable names the variable", () => {
  test("a wrong value", () => {
    assert.deepEqual(errors(base + goodRoute, { env: { TIMEOUT_READ: "30", BROKER_BEAT: "fast" } }), [
      'env TIMEOUT_READ: timeout_read: "30" is not a duration; write one such as 250ms, 30s or 1h30m',
      'env BROKER_BEAT: broker.beat: "fast" is not a duration; write one such as 250ms, 30s or 1h30m',
    ]);
  });
  test("a missing file, and an unsupported key", () => {
    assert.deepEqual(
      errors(base + goodRoute, { env: { DOWNSTREAM_MTLS_CA_FILE: "ca.pem", TLS_DERIVE: "a.example" } }).map((line) =>
        line.split(": ").slice(0, 2),
      ),
      [
        ["env TLS_DERIVE", "tls_derive"],
        ["env DOWNSTREAM_MTLS_CA_FILE", "downstream_mtls.ca_file"],
      ],
    );
  });
  test("an error of the file in the same section names the file", () => {
    assert.deepEqual(errors(`${base}nats: true\n${goodRoute}`, { env: { NATS_USER: "x" } }), [
      "c.yaml:11:7: nats: true is not a mapping; write key: value, one per line",
    ]);
  });
});

suite("routes from the environment", () => {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const routes =
    "- from: https://env.example.com\n  to: http://127.0.0.1:1\n  allowed_users: [a@example.com]\n  policy:\n    allow: {or: [{email: b@example.com}]}\n";
  test("ROUTES replaces the routes of the file, and those of POLICY precede them", () => {
    const read = config(base + goodRoute, { env: { POLICY: base64(routes) } });
    assert.deepEqual(
      read.routes.map(({ host }) => host),
      ["env.example.com", "app.example.com"],
    );
    assert.deepEqual(
      config(base + goodRoute, { env: { ROUTES: base64(routes) } }).routes.map(({ host }) => host),
      ["env.example.com"],
    );
  });
  test("locations refer to the decoded text", () => {
    const [first] = config(base, { env: { ROUTES: base64(routes) } }).routes;
    assert.deepEqual(first?.policy?.location, { file: "env ROUTES", line: 5, column: 5 });
    assert.deepEqual(errors(base, { env: { ROUTES: base64(routes.replace("to:", "too:")) } }), [
      "env ROUTES:1:3: routes[0].to: is missing, and so are redirect and response; write the URL of the upstream service",
      "env ROUTES:2:3: routes[0].too: is not a known key; did you mean to?",
    ]);
  });
  test("invalid base64 or YAML is reported", () => {
    assert.deepEqual(errors(base, { env: { ROUTES: "- from: x" } }), [
      "env ROUTES: routes: is not base64; encode the YAML list of routes with base64",
    ]);
    assert.match(errors(base, { env: { ROUTES: base64("[") } }).join(), /^env ROUTES:1:2: \(document\): is not YAML/);
  });
});

suite("the command line overrides the environment", () => {
  test("with values by dotted key", () => {
    const read = config(base + goodRoute, {
      env: { DATA_DIR: "/env" },
      overrides: { values: { data_dir: "/cli", databroker_storage_type: "memory", "broker.lease": "7s" } },
    });
    assert.deepEqual([read.dataDir, read.store.type, read.broker.leaseMs], ["/cli", "memory", 7000]);
  });
  test("and an error there names the command line", () => {
    assert.deepEqual(errors(base + goodRoute, { overrides: { values: { address: "x" } } }), [
      'command line: address: "x" is not an address; write host:port, such as 127.0.0.1:8443, or :443 for every address',
    ]);
  });
  test("and changes ports in every address and URL of this machine, but nowhere else", () => {
    const text = `${base.replace(/^address:.*$/m, "address: 127.0.0.1:8080").replace("https://authenticate.example.com", "http://authenticate.localhost:8080")}routes:
  - from: http://app.localhost:8080
    to: ["http://127.0.0.1:8091", "http://10.0.0.1:8091"]
    set_request_headers: {X-Origin: "http://app.localhost:80801"}
    policy: {allow: {or: [{http_path: "//localhost:8080"}]}}
  - from: https://far.example.com:8080
    to: http://[::1]:8091
    allow_any_authenticated_user: true
`;
    const read = config(text, { overrides: { ports: { 8080: 9000, 8091: 9011 } } });
    assert.equal(read.address.port, 9000);
    assert.equal(read.authenticateServiceUrl.href, "http://authenticate.localhost:9000/");
    const [first, second] = read.routes;
    assert.deepEqual(
      first?.to.map(({ url }) => url.href),
      ["http://127.0.0.1:9011/", "http://10.0.0.1:8091/"],
    );
    assert.equal(first?.port, 9000);
    assert.equal(first?.setRequestHeaders["X-Origin"], "http://app.localhost:80801");
    assert.deepEqual(first?.policy?.ppl, { allow: { or: [{ http_path: "//localhost:8080" }] } });
    assert.deepEqual([second?.port, second?.to[0]?.url.href], [8080, "http://[::1]:9011/"]);
  });
});
