/** Types of configuration values: durations, addresses, lists, mappings, suggestions and the fields of a route. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { formatDuration, isLoopback, parseDuration, parseHostPort, suggest } from "../../../src/config/index.ts";
import { fc } from "../../support/property.ts";
import { base, config, errors, goodRoute } from "../support.ts";

suite("durations have Go's syntax", () => {
  const table: readonly (readonly [string, number | undefined])[] = [
    ["0", 0],
    ["0s", 0],
    ["1s", 1000],
    ["250ms", 250],
    ["1h30m", 5_400_000],
    ["1.5h", 5_400_000],
    [".5s", 500],
    ["1m1m", 120_000],
    ["+3s", 3000],
    ["1us", 1],
    ["100ns", 1],
    ["30", undefined],
    ["1d", undefined],
    ["1 s", undefined],
    ["-1s", undefined],
    ["s", undefined],
    ["", undefined],
    ["1h30", undefined],
    ["1e3s", undefined],
  ];
  for (const [written, expected] of table)
    test(JSON.stringify(written), () => assert.equal(parseDuration(written), expected));
  test("a formatted duration parses to the same value", () => {
    fc.assert(fc.property(fc.nat({ max: 1_000_000_000 }), (ms) => parseDuration(formatDuration(ms)) === ms));
  });
});

suite("addresses", () => {
  const table = [
    [":443", { host: "0.0.0.0", port: 443 }],
    ["127.0.0.1:80", { host: "127.0.0.1", port: 80 }],
    ["[::1]:80", { host: "::1", port: 80 }],
    ["[::]:443", { host: "::", port: 443 }],
    ["Proxy-1.internal:8443", { host: "proxy-1.internal", port: 8443 }],
    ["443", undefined],
    ["host", undefined],
    ["host:", undefined],
    ["::1:80", undefined],
    ["host:65536", undefined],
    ["http://host:80", undefined],
  ] as const;
  for (const [written, expected] of table) test(written, () => assert.deepEqual(parseHostPort(written), expected));
});

test("loopback means this machine and *.localhost, and no lookalike", () => {
  for (const host of ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
    assert.equal(isLoopback(host), true, host);
  for (const host of ["localhost.example.com", "notlocalhost", "127.0.0.1.nip.io", "10.0.0.1", "0.0.0.0", "::"])
    assert.equal(isLoopback(host), false, host);
});

suite("host aliases", () => {
  const aliases = (written: string) => errors(`${base}host_aliases: ${written}\n${goodRoute}`);
  test("map a host to a name or an address, in lowercase", () => {
    const found = config(`${base}host_aliases: {IDP.localhost: Load-Balancer, a.localhost: "192.0.2.1"}\n${goodRoute}`);
    assert.deepEqual(found.hostAliases, { "idp.localhost": "load-balancer", "a.localhost": "192.0.2.1" });
  });
  test("are written as name=host in the environment", () => {
    const found = config(base + goodRoute, { env: { HOST_ALIASES: "idp.localhost=load-balancer" } });
    assert.deepEqual(found.hostAliases, { "idp.localhost": "load-balancer" });
  });
  test("are empty by default", () => assert.deepEqual(config(base + goodRoute).hostAliases, {}));
  const wrong: readonly (readonly [string, string])[] = [
    ["{http://idp.localhost: lb}", '"http://idp.localhost" is not a host name; write a name without scheme and port'],
    ["{192.0.2.1: lb}", '"192.0.2.1" is not a host name; write a name without scheme and port'],
    ["{idp.localhost: lb:80}", '"lb:80" is neither a host name nor an address; write it without scheme and port'],
    ["{a.localhost: b, A.localhost: c}", "the host a.localhost is written twice; keep one of them"],
  ];
  for (const [written, problem] of wrong)
    test(`${written} is refused`, () => {
      const [line = "", ...others] = aliases(written);
      assert.deepEqual([line.replace(/^c\.yaml:11:\d+: host_aliases\.\S+: /, ""), others], [problem, []]);
    });
});

suite("a mistyped word gets a suggestion; an unrelated one gets none", () => {
  const known = ["address", "authenticate_service_url", "routes", "to"];
  const table = [
    ["adress", "address"],
    ["authenticate-service-url", "authenticate_service_url"],
    ["autenticate_servcie_url", "authenticate_service_url"],
    ["route", "routes"],
    ["zzz", undefined],
    ["x", undefined],
  ] as const;
  for (const [typed, expected] of table) test(typed, () => assert.equal(suggest(typed, known), expected));
});

test("a list may be comma-separated; jwt_claims_headers may be a list, a text or a mapping", () => {
  const read = (line: string) => config(`${base}${line}\n${goodRoute}`);
  const typed = ["group:admins", "email:a@example.com", "sub:s1"];
  assert.deepEqual(read(`administrators: ${typed.join(", ")}`).administrators, typed);
  const expected = { "x-pomerium-claim-email": "email", "x-pomerium-claim-groups": "groups" };
  assert.deepEqual(read("jwt_claims_headers: [email, groups]").jwtClaimsHeaders, expected);
  assert.deepEqual(read("jwt_claims_headers: email,groups").jwtClaimsHeaders, expected);
  assert.deepEqual(read("jwt_claims_headers: {X-Email: email}").jwtClaimsHeaders, { "x-email": "email" });
});

test("scopes may be separated by spaces, as in OAuth", () => {
  const { idp } = config(`${base}idp_scopes: openid profile\n${goodRoute}`);
  assert.deepEqual(idp?.scopes, ["openid", "profile"]);
});

test("the path of the file store is a folder, or a file with the suffix .db", () => {
  const path = (line: string) => config(`${base}${line}\n${goodRoute}`).store;
  const key = "databroker_storage_connection_string";
  assert.deepEqual(path("data_dir: /var/lib/cardea/"), { type: "file", path: "/var/lib/cardea/cardea.db" });
  assert.deepEqual(path(`${key}: file:///var/lib/pomerium`), { type: "file", path: "/var/lib/pomerium/cardea.db" });
  assert.deepEqual(path(`${key}: file:own/log.db`), { type: "file", path: "own/log.db" });
});

suite("a parsed route", () => {
  const route = (lines: string) => {
    const [first] = config(
      `${base}routes:\n  - from: https://App.example.com\n    allow_any_authenticated_user: true\n${lines}`,
    ).routes;
    assert.ok(first !== undefined);
    return first;
  };
  test("a host is lowercase; without a port any port matches", () => {
    const { host, port, match } = route("    to: http://a\n");
    assert.deepEqual([host, port, match], ["app.example.com", null, { kind: "prefix", value: "/" }]);
  });
  test("the path of the first upstream is the prefix rewrite; / alone rewrites only a matched prefix", () => {
    const rewrite = (lines: string) => route(lines).prefixRewrite;
    assert.equal(rewrite("    to: http://a\n"), null);
    assert.equal(rewrite("    to: http://a/\n"), null);
    assert.equal(rewrite("    to: http://a/base\n"), "/base");
    assert.equal(rewrite("    to: http://a/\n    prefix: /api/\n"), "/");
    assert.equal(rewrite("    to: http://a/x\n    prefix_rewrite: /y\n"), "/y");
    assert.equal(route("    to: http://a/base\n").to[0]?.url.href, "http://a/");
  });
  test("weights follow the upstream URLs", () => {
    const weights = (to: string) => route(`    to: ${to}\n`).to.map(({ url, weight }) => [url.href, weight]);
    assert.deepEqual(weights("['http://a,9', 'http://b,1']"), [
      ["http://a/", 9],
      ["http://b/", 1],
    ]);
    assert.deepEqual(weights("'http://a,http://b'"), [
      ["http://a/", null],
      ["http://b/", null],
    ]);
  });
  test("websockets have no time-outs unless the route sets them", () => {
    const times = (lines: string) => {
      const { timeoutMs, idleTimeoutMs, allowWebsockets } = route(`    to: http://a\n${lines}`);
      return [timeoutMs, idleTimeoutMs, allowWebsockets];
    };
    assert.deepEqual(times(""), [30_000, 300_000, false]);
    assert.deepEqual(times("    allow_websockets: true\n"), [0, 0, true]);
    assert.deepEqual(times("    allow_upgrades: [websocket]\n    timeout: 5s\n"), [5000, 0, true]);
  });
  test("a Host in the request headers is a host rewrite", () => {
    const { hostRewrite, setRequestHeaders } = route(
      "    to: http://a\n    set_request_headers: {Host: x.internal, X-A: b}\n",
    );
    assert.deepEqual([hostRewrite, setRequestHeaders], ["x.internal", { "X-A": "b" }]);
  });
  test("of several ways to set Host only one takes effect", () => {
    const byPath =
      "    to: http://a\n    host_path_regex_rewrite_pattern: '^/(.+)/'\n    host_path_regex_rewrite_substitution: '\\1'\n";
    const { hostPathRegexRewrite, preserveHostHeader } = route(`${byPath}    preserve_host_header: true\n`);
    assert.deepEqual([hostPathRegexRewrite, preserveHostHeader], [{ pattern: "^/(.+)/", substitution: "\\1" }, false]);
    assert.equal(route(`${byPath}    host_rewrite: b.example\n`).hostPathRegexRewrite, null);
    const wrong = `${base}${goodRoute}    host_path_regex_rewrite_pattern: a\n    host_path_regex_rewrite_substitution: '\\2'\n`;
    assert.deepEqual(errors(wrong), [
      "c.yaml:18:43: routes[0].host_path_regex_rewrite_substitution: refers to group 2, and the pattern has 0; correct the number",
    ]);
  });
  test("rewrites of response headers have header, prefix and value, and nothing else", () => {
    const written = "[{header: Location, prefix: http://in/, value: https://out/}]";
    const rewrite = { header: "location", prefix: "http://in/", value: "https://out/" };
    assert.deepEqual(route(`    to: http://a\n    rewrite_response_headers: ${written}\n`).rewriteResponseHeaders, [
      rewrite,
    ]);
    const remedy = "write - header: Location, prefix: http://inside/, value: https://app.example.com/";
    const problem = (value: string) => errors(`${base}${goodRoute}    rewrite_response_headers: ${value}\n`);
    assert.deepEqual(problem("[{header: Location, value: x}]"), [
      `c.yaml:17:32: routes[0].rewrite_response_headers[0]: names no prefix or no value; ${remedy}`,
    ]);
    assert.deepEqual(problem("[{header: A, prefix: b, value: c, suffix: d}]"), [
      `c.yaml:17:73: routes[0].rewrite_response_headers[0].suffix: suffix is not known here; ${remedy}`,
    ]);
    assert.deepEqual(problem("[{header: Connection, prefix: b, value: c}]"), [
      "c.yaml:17:32: routes[0].rewrite_response_headers[0]: connection is a header that the proxy itself must set; remove it",
    ]);
  });
  test("a Host in set_request_headers must be a literal host", () => {
    const from = `\${pomerium.request.headers['X-Host']}`;
    assert.deepEqual(errors(`${base}${goodRoute}    set_request_headers: {host: "${from}"}\n`), [
      "c.yaml:17:33: routes[0].set_request_headers.host: is not a host; write one such as app.internal, or use host_rewrite_header",
    ]);
  });
  test("response headers may be set, except framing headers and the request id", () => {
    for (const name of ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
      assert.deepEqual(
        errors(`${base}${goodRoute}    set_response_headers: {${name}: x}\n`),
        [`c.yaml:17:28: routes[0].set_response_headers.${name}: is a header that the proxy itself must set; remove it`],
        name,
      );
    const responseHeaders = route(
      "    to: http://a\n    set_response_headers: {X-Request-Id: x, X-A: b}\n",
    ).setResponseHeaders;
    assert.ok(!("X-Request-Id" in responseHeaders) && responseHeaders["X-A"] === "b");
  });
  test("a route may set an issuer format and a group filter, which adds to the global one", () => {
    const fieldsOf = (global: string, own: string) => {
      const found = config(`${base}${global}${goodRoute}${own}`).routes[0];
      return [found?.jwtIssuerFormat, found?.jwtGroupsFilter];
    };
    assert.deepEqual(fieldsOf("", ""), ["hostOnly", []]);
    assert.deepEqual(fieldsOf("jwt_issuer_format: uri\njwt_groups_filter: [a]\n", ""), ["uri", ["a"]]);
    assert.deepEqual(
      fieldsOf(
        "jwt_issuer_format: uri\njwt_groups_filter: [a]\n",
        "    jwt_issuer_format: HOSTONLY\n    jwt_groups_filter: [b, a]\n",
      ),
      ["hostOnly", ["a", "b"]],
    );
  });
  test("allowed_idp_claims are flattened to lists", () => {
    const [first] = config(
      `${base}routes:\n  - from: https://a.example.com\n    to: http://a\n    allowed_idp_claims: {team: a, org: {unit: [1, 2]}}\n`,
    ).routes;
    assert.deepEqual(first?.allowedIdpClaims, { team: ["a"], "org.unit": [1, 2] });
  });
  test("response headers merge defaults, global and route settings; disable removes all", () => {
    const headers = (global: string, own: string) => {
      const text = `${base}${global}routes:\n  - from: https://a.example.com\n    to: http://a\n    allow_any_authenticated_user: true\n${own}`;
      return config(text).routes[0]?.setResponseHeaders;
    };
    const defaults = { "X-Frame-Options": "SAMEORIGIN", "X-XSS-Protection": "1; mode=block" };
    assert.deepEqual(headers("", ""), defaults);
    assert.deepEqual(headers("", "    set_response_headers: {x-frame-options: DENY}\n"), {
      "X-XSS-Protection": "1; mode=block",
      "x-frame-options": "DENY",
    });
    assert.deepEqual(headers("set_response_headers: {X-A: b}\n", ""), { "X-A": "b" });
    assert.deepEqual(headers("set_response_headers: {disable: true}\n", "    set_response_headers: {X-A: b}\n"), {
      "X-A": "b",
    });
    assert.deepEqual(headers("", "    set_response_headers: {disable: true, X-A: b}\n"), {});
  });
  test("match_any_incoming_port: false gives a from without a port the port of its scheme", () => {
    const text = `${base}runtime_flags: {match_any_incoming_port: false}\n${goodRoute}`;
    assert.equal(config(text).routes[0]?.port, 443);
  });
  test("a route's id stays when policy or headers change, and changes with its match", () => {
    const id = (lines: string) => route(lines).id;
    assert.equal(id("    to: http://a\n"), id("    to: http://a\n    show_error_details: true\n    timeout: 3s\n"));
    assert.notEqual(id("    to: http://a\n"), id("    to: http://a\n    prefix: /x\n"));
    assert.notEqual(id("    to: http://a\n"), id("    to: http://b\n"));
    assert.match(id("    to: http://a\n"), /^[0-9a-f]{32}$/);
  });
});

test("the routes of policy precede those of routes", () => {
  const one = (name: string) =>
    `  - {from: "https://${name}.example.com", to: "http://${name}", allow_any_authenticated_user: true}\n`;
  const read = config(`${base}routes:\n${one("b")}policy:\n${one("a")}`);
  assert.deepEqual(
    read.routes.map(({ host }) => host),
    ["a.example.com", "b.example.com"],
  );
});
