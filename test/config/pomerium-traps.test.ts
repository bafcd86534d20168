/** Pomerium settings with surprising effects: silent traps are errors, harmless ones are accepted with a warning. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { compilePolicies } from "../../src/auth/index.ts";
import { formatProblem, parseConfig } from "../../src/config/index.ts";
import { base, config, cookieSecret, errors, goodRoute, parse, sharedSecret, warnings } from "./support.ts";

const withoutSignIn = `address: 127.0.0.1:8443
insecure_server: true
shared_secret: ${sharedSecret}
cookie_secret: ${cookieSecret}
`;
const route = (more: string, from = "https://app.example.com"): string =>
  `routes:\n  - from: ${from}\n    to: http://127.0.0.1:8091\n${more}`;
const publicRoute = route("    allow_public_unauthenticated_access: true\n");

function policyProblems(policy: string): readonly string[] {
  const compiled = compilePolicies(config(base + route(`    policy: ${policy}\n`)).routes);
  return (compiled.ok ? compiled.warnings : compiled.problems).map(
    (one) => `${one.severity} ${formatProblem(one).replace(`: ${one.severity}: `, ": ")}`,
  );
}

suite("a deny that can never fire is an error", () => {
  for (const criterion of ["mcp_tool: {is: delete}", "ssh_username: {is: root}"]) {
    for (const operator of ["and", "or"])
      test(`${operator}: ${criterion}`, () => {
        const [found = ""] = policyProblems(
          `{allow: {and: [authenticated_user: true]}, deny: {${operator}: [${criterion}]}}`,
        );
        assert.match(found, /^error .*this `deny` can never fire: .*; remove it from the rule/);
      });
  }
  for (const never of [
    "{or: [reject: true]}",
    "{and: [{email: {is: a@b.c}}, {reject: true}]}",
    "{not: [{accept: true}, {email: {is: a@b.c}}]}",
    "{nor: [accept: true]}",
  ])
    test(`deny: ${never}`, () => {
      const found = policyProblems(`{allow: {and: [authenticated_user: true]}, deny: ${never}}`);
      assert.match(found[0] ?? "", /^error .*this `deny` can never fire: .*; write `accept: true` below `or`/);
    });
  test("but not one that a request can meet, nor one without an allow rule", () => {
    const allow = "allow: {and: [authenticated_user: true]}";
    for (const deny of [
      "{or: [{reject: true}, {email: {is: a@b.c}}]}",
      "{not: [reject: true]}",
      "{nor: [{accept: 1}, {groups: {has: a}}]}",
    ])
      assert.deepEqual(
        policyProblems(`{${allow}, deny: ${deny}}`).filter((line) => line.startsWith("error")),
        [],
      );
    assert.match(policyProblems("{deny: {or: [reject: true]}}").join(), /^warning .*lets no one in/);
  });
  test("but an allow rule or a deny by `not` that no request can meet is a warning: it admits no caller", () => {
    for (const policy of ["{allow: {and: [mcp_tool: x]}}", "{allow: {and: [accept: 1]}, deny: {not: [mcp_tool: x]}}"])
      assert.match(policyProblems(policy)[0] ?? "", /^warning .*no request can meet `mcp_tool` yet/);
  });
});

test("a claim name with capitals is an error, in a policy and in allowed_idp_claims", () => {
  for (const policy of ["{allow: {and: [claim/Department: eng]}}", "{deny: {or: [claim/Realm/Roles: eng]}}"])
    assert.match(policyProblems(policy)[0] ?? "", /^error .*has capitals, and Pomerium reads it as `claim\/[a-z/]+`/);
  const compiled = compilePolicies(config(base + route("    allowed_idp_claims: {Team: [a]}\n")).routes);
  assert.ok(!compiled.ok);
  assert.match(compiled.problems.map(formatProblem).join(), /`claim\/team`/);
});

suite("the sign-in host", () => {
  const signInRoute = route("    allow_any_authenticated_user: true\n", "https://authenticate.example.com");
  test("with a route is a warning that names the reserved paths", () => {
    assert.match(warnings(base + signInRoute).join("\n"), /from: is the sign-in host, which reserves \/, /);
    assert.equal(errors(base + signInRoute).length, 0);
  });
  test("with a route is an error if administrators are configured", () => {
    assert.match(errors(`${base}administrators: [group:ops]\n${signInRoute}`).join(), /could use the operator API/);
  });
});

suite("hosted sign-in is one error that says which client to create, with its callback URL", () => {
  const callback = /create an OpenID Connect client .* https:\/\/authenticate\.example\.com\/oauth2\/callback/;
  for (const [name, text] of [
    ["its URL", "authenticate_service_url: https://authenticate.pomerium.app\n"],
    ["its URL for staging", "authenticate_service_url: https://authenticate.staging.pomerium.app\n"],
    ["its provider", "idp_provider: hosted\n"],
    ["no sign-in settings", ""],
  ] as const)
    test(name, () => {
      const found = errors(withoutSignIn + text + goodRoute);
      assert.equal(found.length, 1, found.join("\n"));
      assert.match(found[0] ?? "", callback);
    });
});

suite("an identity provider is optional", () => {
  for (const [name, routes] of [
    ["where every route is public", publicRoute],
    [
      "where routes require only a client certificate",
      route("    policy: {allow: {and: [client_certificate: {san_dns: {is: a}}]}}\n"),
    ],
    [
      "where policies depend only on the request",
      route("    policy: [{allow: {or: [http_path: {is: /x}, source_ip: 10.0.0.1]}}]\n"),
    ],
  ] as const)
    test(name, () => {
      assert.deepEqual(errors(withoutSignIn + routes), []);
      assert.equal(config(withoutSignIn + routes).idp, null);
    });
  test("and ACME then orders no certificate for a sign-in host", () => {
    const text = withoutSignIn.replace("insecure_server: true\n", "autocert: true\n");
    for (const url of ["", "authenticate_service_url: https://authenticate.pomerium.app\n"])
      assert.deepEqual(config(text + url + publicRoute).autocert?.hosts, ["app.example.com"]);
  });
  test("for a databroker alone, with a warning that it refreshes no session", () => {
    const text = `services: databroker\nshared_secret: ${sharedSecret}\nbroker: {listen: "127.0.0.1:5443"}\n`;
    assert.deepEqual(errors(text), []);
    assert.match(warnings(text).join("\n"), /idp_provider: is missing, so sessions are not refreshed/);
  });
  for (const more of [
    "    policy: {deny: {or: [email: a@b.c]}, allow: {or: [accept: true]}}\n",
    "    allowed_domains: [a.com]\n",
  ])
    test(`but where a route requires an identity: ${more.trim()}`, () => {
      assert.equal(errors(withoutSignIn + route(more)).length, 1);
    });
});

suite("accepted with a warning", () => {
  for (const [line, words] of [
    ["forward_auth_url: https://fwd.example.com", /forward_auth_url: has no effect/],
    ["cookie_secure: false", /cookie_secure: has no effect: .*session cookies are always Secure/],
    ["databroker_storage_tls_skip_verify: true", /databroker_storage_tls_skip_verify: has no effect/],
    ["audit_key: x", /audit_key: has no effect/],
    ["refresh_cooldown: 5m", /refresh_cooldown: has no effect/],
    ["grpc_server_max_connection_age: 5m", /grpc_server_max_connection_age: has no effect/],
    ["cache_service_url: https://cache.example.com", /cache_service_url: has no effect/],
    [
      "access_log_fields: [method, tls-version, sni=.common_properties.tls_properties]",
      /access_log_fields\[1\]: tls-version is a field of Envoy's/,
    ],
    ["log_level: trace", /log_level: trace is not a level here, and is read as debug/],
    ["log_level: disabled", /log_level: disabled is not a level here, and is read as error/],
  ] as const)
    test(line, () => {
      assert.deepEqual(errors(`${base}${line}\n${goodRoute}`), []);
      assert.match(warnings(`${base}${line}\n${goodRoute}`).join("\n"), words);
    });
  for (const [line, words] of [
    ["depends_on: [api.example.org]", /depends_on\[0\]: api\.example\.org is not the host of any route here/],
    ["lb_policy: RING_HASH", /lb_policy: is Envoy's name for load_balancing_policy/],
    ["connect_timeout: 5s", /connect_timeout: has no effect/],
    [
      `set_request_headers: {X-A: "a\${pomerium.password}"}`,
      /set_request_headers\.X-A: \$\{pomerium\.password\} is not a known reference and renders as nothing/,
    ],
  ] as const)
    test(line, () => {
      assert.deepEqual(errors(`${base}${goodRoute}    ${line}\n`), []);
      assert.match(warnings(`${base}${goodRoute}    ${line}\n`).join("\n"), words);
    });
  test("no certificate", () => {
    const text = `${base}${goodRoute}`.replace("insecure_server: true\n", "");
    assert.deepEqual(errors(text), []);
    assert.match(
      warnings(text).join("\n"),
      /certificates: is missing, so TLS is served with a self-signed certificate/,
    );
  });
});

suite("accepted with its intended meaning", () => {
  const routeWith = (more: string) => config(`${base}${goodRoute}${more}`).routes[0];
  test("lb_policy sets load_balancing_policy", () => {
    assert.equal(routeWith("    lb_policy: RING_HASH\n")?.balancing.policy, "ring_hash");
  });
  test("the assertion set as a header is sent once", () => {
    const line = `    set_request_headers: {x-pomerium-jwt-assertion: '\${pomerium.jwt}'}\n`;
    assert.deepEqual(Object.keys(routeWith(line)?.setRequestHeaders ?? {}), ["x-pomerium-jwt-assertion"]);
    assert.deepEqual(routeWith(`${line}    pass_identity_headers: true\n`)?.setRequestHeaders, {});
    assert.equal(errors(`${base}${goodRoute}    set_request_headers: {x-pomerium-jwt-assertion: forged}\n`).length, 1);
  });
  test("a route with mcp has no time-outs", () => {
    const found = routeWith("    mcp: {server: {}}\n");
    assert.deepEqual([found?.timeoutMs, found?.idleTimeoutMs], [0, 0]);
  });
  test("always_eject_one_host, quoted numbers and the maximum of max_verify_depth are valid", () => {
    const outliers = "    outlier_detection: {max_ejection_percent: '0', always_eject_one_host: 'true'}\n";
    const percent = routeWith(outliers)?.outlierDetection?.maxEjectionPercent ?? 0;
    assert.ok(percent > 0 && percent < 1);
    assert.deepEqual(
      errors(`${base}downstream_mtls: {max_verify_depth: 4294967295}\n${goodRoute}`).filter((line) =>
        line.includes("depth"),
      ),
      [],
    );
    assert.deepEqual(
      errors(
        `${base}${goodRoute}    load_balancing_policy: least_request\n    least_request_lb_config: {active_request_bias: "1.5"}\n`,
      ),
      [],
    );
  });
  test("a key with an empty string is unset", () => {
    const empty = [
      "address",
      "signing_key_file",
      "idp_scopes",
      "certificate_file",
      "cookie_expire",
      "downstream_mtls",
      "nats",
    ];
    const text = base.replace("address: 127.0.0.1:8443\n", "") + empty.map((key) => `${key}: ""\n`).join("");
    assert.deepEqual(errors(text + goodRoute), []);
    assert.equal(config(text + goodRoute).address.port, 80);
    assert.deepEqual(errors(`${base}${goodRoute}    prefix: ""\n    timeout: ""\n    redirect: ""\n`), []);
    assert.match(errors(`${base}routes:\n  - from: https://a.example.com\n    to: ""\n`).join(), /to: is missing/);
  });
});

test("a provider over plain HTTP is refused unless it is allowed explicitly", () => {
  const text = `${base}${goodRoute}`.replace("https://idp.example.com", "http://idp.internal:8080");
  assert.match(errors(text).join(), /idp_provider_url: is plain HTTP, which is allowed only for loopback/);
  assert.deepEqual(errors(`idp_allow_plain_http: true\n${text}`), []);
  assert.match(warnings(`idp_allow_plain_http: true\n${text}`).join("\n"), /idp_provider_url: is plain HTTP: anyone/);
  const http = "authenticate_service_url: http://authenticate.example.com";
  const other = base.replace("authenticate_service_url: https://authenticate.example.com", http);
  assert.match(
    errors(`idp_allow_plain_http: true\n${other}${goodRoute}`).join(),
    /authenticate_service_url: is plain HTTP/,
  );
});

suite("errors that name the replacement", () => {
  test("allowed_groups names groups_from_claim and claim/groups", () => {
    assert.match(errors(`${base}${goodRoute}    allowed_groups: [a]\n`).join(), /groups_from_claim .* claim\/groups/);
  });
  test("client_crl names downstream_mtls.crl", () => {
    assert.match(errors(`${base}client_crl: x\n${goodRoute}`).join(), /client_crl: .*use downstream_mtls\.crl/);
  });
});

test("every key may be set in the environment", () => {
  const env = {
    SHARED_SECRET: sharedSecret,
    COOKIE_SECRET: cookieSecret,
    INSECURE_SERVER: "true",
    ADDRESS: "127.0.0.1:8443",
    ROUTES: Buffer.from(
      "- {from: https://a.example.com, to: http://b, allow_public_unauthenticated_access: true}",
    ).toString("base64"),
  };
  const result = parseConfig("", "environment", { env, readFile: () => ({ ok: false, reason: "no file" }) });
  assert.ok(result.ok, result.ok ? "" : result.problems.map(formatProblem).join("\n"));
  assert.equal(parse("", { env }).ok, true);
});
