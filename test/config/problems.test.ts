/** Configuration problems: each has its location, key and remedy, and none hides another. Lines 1 to 10 are `base`. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { sessionMsMax } from "../../src/events/index.ts";
import { base, config, errors, goodRoute, parse, problems, warnings } from "./support.ts";

test("a small configuration is read without a warning", () => {
  assert.deepEqual(problems(base + goodRoute), []);
});

test("all problems of a file are reported at once, in line order", () => {
  const text = `${base}timeout_read: 30
adress: :443
routes:
  - from: https://app.example.com
    to: ftp://127.0.0.1
    allowed_users: [a@example.com, {}]
    polcy: {}
`;
  assert.deepEqual(errors(text), [
    "c.yaml:11:15: timeout_read: 30 is not a duration; write one such as 250ms, 30s or 1h30m",
    "c.yaml:12:1: adress: is not a known key; remove it: address is already set here",
    "c.yaml:15:9: routes[0].to: the scheme ftp cannot be used here; use http or https",
    "c.yaml:16:36: routes[0].allowed_users[1]: a mapping is not text; write one word or quoted text",
    "c.yaml:17:5: routes[0].polcy: is not a known key; did you mean policy?",
  ]);
});

test("no session may last longer than the log remembers a session that a failover lost", () => {
  const errorsFor = (ms: number) => errors(`${base}cookie_expire: ${ms}ms\n${goodRoute}`);
  const day = 24 * 3_600_000;
  assert.deepEqual(errorsFor(sessionMsMax - day), []);
  assert.match(errorsFor(sessionMsMax - day + 1).join(), /too long/);
});

test("a file with only warnings is accepted", () => {
  const result = parse(`${base}dns_use_tcp: true\n${goodRoute}`);
  assert.equal(result.ok, true);
  assert.deepEqual(result.ok ? result.warnings.map(({ line, severity }) => [line, severity]) : [], [[11, "warning"]]);
});

test("an administrator without a kind (group, email or sub) is an error", () => {
  const text = `${base}administrators: [group:ops, alice, email:a@example.com, sub:s1, "group", b@example.com]\n${goodRoute}`;
  const found = errors(text);
  assert.equal(found.length, 2, found.join("\n"));
  assert.match(
    found[0] ?? "",
    /administrators\[1\]: does not state whether .*; write group:alice, email:alice or sub:alice/,
  );
  assert.match(found[1] ?? "", /administrators\[4\]: /);
  const old = errors(`${base}administrators: [a@example.com, b@example.com]\n${goodRoute}`);
  assert.equal(old.length, 2, "the key as written for Pomerium before v0.12");
  assert.match(old[0] ?? "", /in Pomerium before v0\.12 this key named .*; write group:a@/);
});

test("a bare e-mail address beside typed administrators is accepted as an e-mail, with a warning", () => {
  const text = `${base}administrators: [group:ops, b@example.com]\n${goodRoute}`;
  assert.deepEqual(config(text).administrators, ["group:ops", "email:b@example.com"]);
  assert.match(warnings(text).join(), /administrators\[1\]: does not state its kind, .*; write email:b@example\.com/);
});

suite("an invalid global setting is reported at its location", () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    [
      "address: localhost",
      [
        'c.yaml:11:10: address: "localhost" is not an address; write host:port, such as 127.0.0.1:8443, or :443 for every address',
      ],
    ],
    ["log_level: loud", ['c.yaml:11:12: log_level: "loud" is not known here; write one of debug, info, warn, error']],
    [
      "services: [proxi]",
      [
        'c.yaml:11:11: services: "proxi" is not a service; write all, or some of authenticate, authorize, databroker, proxy',
      ],
    ],
    [
      "insecure_server: maybe",
      ['c.yaml:11:18: insecure_server: "maybe" is neither true nor false; write true or false'],
    ],
    [
      "max_sessions_per_user: 0",
      ["c.yaml:11:24: max_sessions_per_user: 0 is not a whole number from 1 to 10000; correct the number"],
    ],
    ["cookie_expire: 500ms", ["c.yaml:11:16: cookie_expire: 500ms is too short; write 1s or more"]],
    ["cookie_name: a b", ['c.yaml:11:14: cookie_name: "a b" is not a cookie name; write one such as _pomerium']],
    [
      "signout_redirect_url: nowhere",
      ['c.yaml:11:23: signout_redirect_url: "nowhere" is not a URL; write one such as https://app.example.com'],
    ],
    [
      "broker:\n  lease: 10",
      ["c.yaml:12:10: broker.lease: 10 is not a duration; write one such as 250ms, 30s or 1h30m"],
    ],
    ["broker: 5s", ['c.yaml:11:9: broker: "5s" is not a mapping; write key: value, one per line']],
    [
      "broker:\n  clock_drift: 20%",
      ['c.yaml:12:16: broker.clock_drift: "20%" is not a share from 0.01 to 0.1; write one such as 0.01 or 1%'],
    ],
    [
      "broker:\n  clock_drift: 0.2%",
      ['c.yaml:12:16: broker.clock_drift: "0.2%" is not a share from 0.01 to 0.1; write one such as 0.01 or 1%'],
    ],
    [
      "audit:\n  sinks:\n    - file: a.jsonl\n    - kafka: true",
      [
        "c.yaml:14:7: audit.sinks[1]: a mapping is not a sink; write - file: path, - nats: true, - stdout: true, - postgres: true, - webhook: URL, - otlp: URL or - s3: bucket",
      ],
    ],
    [
      "audit:\n  sinks:\n    - file: a.jsonl\n      rotate: {max_size: 5MB}\n    - file: b.jsonl\n      rotate: {max_bytes: 5MB}",
      [
        "c.yaml:14:26: audit.sinks[0].rotate.max_size: is not a known key; use max_bytes, every, keep_files, keep_bytes, compress",
        'c.yaml:16:27: audit.sinks[1].rotate.max_bytes: "5MB" is not a whole number from 1048576 to 1000000000000; correct the number',
      ],
    ],
    [
      "audit:\n  sinks:\n    - file: a.jsonl\n      rotate: {max_bytes: 200000000, keep_bytes: 100000000}\n    - file: b.jsonl\n      rotat: {}",
      [
        "c.yaml:14:50: audit.sinks[0].rotate.keep_bytes: is less than max_bytes, so a full file would be deleted at once; write max_bytes or more",
        "c.yaml:16:14: audit.sinks[1].rotat: is not a known key; did you mean rotate?",
      ],
    ],
    [
      "audit:\n  redact_path: [/a/*, /b*]",
      [
        'c.yaml:12:23: audit.redact_path[1]: "/b*" is not a path pattern; write one such as /reset/*/confirm or /files/**',
      ],
    ],
    [
      "audit:\n  redact_path: [/a]",
      [
        'c.yaml:12:17: audit.redact_path[0]: "/a" is not a path pattern; write one such as /reset/*/confirm or /files/**',
      ],
    ],
    ["audit:\n  mode: exact", ['c.yaml:12:9: audit.mode: "exact" is not known here; write best_effort or strict']],
    [
      "audit:\n  mode: strict\n  sinks: []",
      [
        "c.yaml:13:10: audit.sinks: is empty, and a route has strict audit: its records would fill the spool; name a sink, or write best_effort",
      ],
    ],
    ["audit:\n  modes: strict", ["c.yaml:12:3: audit.modes: is not a known key; did you mean mode?"]],
    [
      "certificates:\n  - cert: a.pem",
      ["c.yaml:12:5: certificates[0]: a mapping is not {cert, key}; write - cert: file and key: file"],
    ],
    ["runtime_flags:\n  mpc: true", ["c.yaml:12:3: runtime_flags.mpc: is not a known flag; did you mean mcp?"]],
    ["runtime_flags:\n  mcp: 3", ["c.yaml:12:8: runtime_flags.mcp: 3 is neither true nor false; write true or false"]],
    [
      "jwt_claims_headers:\n  X User: email",
      ['c.yaml:12:11: jwt_claims_headers.X User: "X User" is not a header name; use letters, digits and -'],
    ],
    [
      "set_response_headers:\n  X-A: 1\n  x-a: 2",
      ["c.yaml:13:8: set_response_headers.x-a: the header x-a is written twice; keep one of them"],
    ],
    ['region: " "', ['c.yaml:11:9: region: " " is not a name; write one such as eu-west-1']],
    ["lease: 5s", ["c.yaml:11:1: lease: is not a known key; it belongs inside broker"]],
    [
      "broker: {lease: 5s}\nlease: 5s",
      ["c.yaml:12:1: lease: is not a known key; remove it: broker.lease is already set"],
    ],
    [
      "audit: {mode: best_effort, mdoe: strict}",
      ["c.yaml:11:28: audit.mdoe: is not a known key; remove it: mode is already set here"],
    ],
    [
      "runtime_flags: {mcp: false, mpc: true}",
      ["c.yaml:11:29: runtime_flags.mpc: is not a known flag; remove it: mcp is already set here"],
    ],
    ["allowed_users: [a]", ["c.yaml:11:1: allowed_users: is not a known key; it belongs inside a route, under routes"]],
    [
      "something_else_entirely: 1",
      ["c.yaml:11:1: something_else_entirely: is not a known key; remove it, or see docs/configuration.md"],
    ],
    [
      "routes: everything",
      [
        'c.yaml:11:9: routes: "everything" is not a list of routes; write - from: URL and so on, one route after each dash',
      ],
    ],
    ["routes: [7]", ["c.yaml:11:10: routes[0]: 7 is not a route; write from, to and policy"]],
  ];
  for (const [written, expected] of table) {
    test(written.replaceAll("\n", " "), () => {
      // A key of `base` is removed where the test sets it.
      const [key = ""] = written.split(":");
      const rest = base.replace(new RegExp(`^${key}:.*$`, "m"), "#");
      assert.deepEqual(errors(`${rest}${written}\n`), expected);
    });
  }
});

suite("an invalid route setting is reported at its location", () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    ["to: http://a,5", []],
    ["to: udp://a", ['c.yaml:14:9: routes[0].to: "udp://a" is not an address; write udp://host:port']],
    [
      "to: [http://a, 'tcp://b:1']",
      ["c.yaml:14:20: routes[0].to[1]: tcp cannot be reached by an HTTP route; write from: tcp+https://…"],
    ],
    [
      "to: ['http://a,1', 'http://b']",
      ["c.yaml:14:9: routes[0].to: some upstreams have a weight and some have none; give every one a weight, or none"],
    ],
    [
      "to: ['http://a,0']",
      ["c.yaml:14:10: routes[0].to[0]: a weight of 0; give a weight of 1 or more, or leave the URL out"],
    ],
    [
      "to: http://me:secret@a",
      ["c.yaml:14:9: routes[0].to: a URL contains a user name or password; remove it from the URL"],
    ],
    ["to: http://a/?x=1", ["c.yaml:14:9: routes[0].to: an upstream has a query; write only scheme, host and path"]],
    ["to: []", ["c.yaml:14:9: routes[0].to: names no upstream; write a URL such as http://127.0.0.1:8080"]],
    [
      "to: http://a\n    prefix: api",
      ['c.yaml:15:13: routes[0].prefix: "api" is not a path prefix; write one such as /api/'],
    ],
    [
      "to: http://a\n    regex: (?=x)",
      [
        "c.yaml:15:12: routes[0].regex: is not a regular expression that RE2 can run: error parsing regexp: invalid or unsupported Perl syntax: `(?=`; correct it; RE2 has no look-around and no back references",
      ],
    ],
    [
      "to: http://a\n    regex_rewrite_pattern: ^/(.*)$\n    regex_rewrite_substitution: /\\2",
      [
        "c.yaml:16:33: routes[0].regex_rewrite_substitution: refers to group 2, and the pattern has 1; correct the number",
      ],
    ],
    ["to: http://a\n    regex_rewrite_pattern: ^/(.*)$\n    regex_rewrite_substitution: /s?q=\\1", []],
    [
      "to: http://a\n    regex_rewrite_pattern: ^/(.*)$\n    regex_rewrite_substitution: /s?q=\\1?x",
      [
        "c.yaml:16:33: routes[0].regex_rewrite_substitution: contains more than one ?, and a path has one query; write %3F for every ? that does not begin it",
      ],
    ],
    [
      "to: http://a\n    regex_rewrite_pattern: ^/(.*)$\n    regex_rewrite_substitution: /\\1#x",
      [
        "c.yaml:16:33: routes[0].regex_rewrite_substitution: contains a #, and no request carries a fragment; remove it, or write %23",
      ],
    ],
    [
      "to: http://a\n    regex_rewrite_substitution: /x",
      [
        "c.yaml:15:5: routes[0].regex_rewrite_substitution: is set without regex_rewrite_pattern; write the pattern too",
      ],
    ],
    [
      "to: http://a\n    prefix_rewrite: /\n    regex_rewrite_pattern: x",
      ["c.yaml:16:5: routes[0].regex_rewrite_pattern: cannot be combined with prefix_rewrite; keep one of them"],
    ],
    [
      "to: http://a\n    policy: alice",
      ['c.yaml:15:13: routes[0].policy: "alice" is not a policy; write allow: and/or/not/nor with a list of criteria'],
    ],
    [
      "to: http://a\n    allowed_domains: [a@example.com]",
      [
        "c.yaml:15:23: routes[0].allowed_domains[0]: contains an @ and would match no one; write the domain alone, or use allowed_users",
      ],
    ],
    [
      "to: http://a\n    allow_upgrades: [h2c]",
      [
        "c.yaml:15:22: routes[0].allow_upgrades[0]: h2c would carry requests without a decision; remove it; a route of tcp+https or udp+https carries other traffic",
      ],
    ],
    ["to: http://a\n    stale_grace: 16m", ["c.yaml:15:18: routes[0].stale_grace: 16m is too long; write 15m or less"]],
    [
      "to: http://a\n    set_request_headers: {Transfer-Encoding: chunked}",
      [
        "c.yaml:15:27: routes[0].set_request_headers.Transfer-Encoding: is a header that the proxy itself must set; remove it",
      ],
    ],
    [
      "to: http://a\n    set_request_headers: {x-pomerium-jwt-assertion: me}",
      [
        "c.yaml:15:27: routes[0].set_request_headers.x-pomerium-jwt-assertion: states who the visitor is, and only the proxy may do that; use pass_identity_headers",
      ],
    ],
    [
      "to: http://a\n    workers: 2",
      ["c.yaml:15:5: routes[0].workers: is not a known key; it belongs at the top level of the file"],
    ],
    [
      "to: http://a\n    address: ':1'",
      ["c.yaml:15:5: routes[0].address: is not a known key; remove it: address is already set at the top level"],
    ],
    [
      "redirect: {}",
      [
        "c.yaml:14:5: routes[0].redirect: changes nothing, so it would redirect to itself; write host_redirect, path_redirect or another",
      ],
    ],
    [
      "redirect: {https_redirect: true, scheme_redirect: https}",
      ["c.yaml:14:38: routes[0].redirect.scheme_redirect: cannot be combined with https_redirect; keep one of them"],
    ],
    [
      "redirect: {host_redirect: 'a:1', port_redirect: 2}",
      ["c.yaml:14:38: routes[0].redirect.port_redirect: is a second port, after the one in host_redirect; keep one"],
    ],
    [
      "redirect: {path_redirect: /a, response_code: 304}",
      ["c.yaml:14:50: routes[0].redirect.response_code: 304 does not redirect; write 301, 302, 303, 307 or 308"],
    ],
    [
      "redirect: {path_redirect: /a}\n    response: {status: 200}",
      ["c.yaml:15:5: routes[0].response: cannot be combined with redirect; keep one of them"],
    ],
    [
      "response: {status: 99}",
      ["c.yaml:14:24: routes[0].response.status: 99 is not a whole number from 200 to 599; correct the number"],
    ],
  ];
  for (const [written, expected] of table) {
    test(written.replaceAll(/\s+/g, " "), () => {
      const open = written.includes("allowed_domains") ? "name: x" : "allow_any_authenticated_user: true";
      const text = `${base}routes:\n  - from: https://app.example.com\n    ${open}\n    ${written}\n`;
      assert.deepEqual(errors(text), expected);
    });
  }
});

suite("from is the URL that people use", () => {
  const table: readonly (readonly [string, readonly string[]])[] = [
    ["https://app.example.com", []],
    ["https://*.example.com:8443", []],
    [
      "app.example.com",
      ['c.yaml:12:11: routes[0].from: "app.example.com" is not a URL; write one such as https://app.example.com'],
    ],
    ["tcp+https://db.example.com:5432", []],
    [
      "udp+https://db.example.com:53",
      ["c.yaml:13:9: routes[0].to: a udp route does not lead to http; write udp://host:port"],
    ],
    [
      "tcp+https://db.example.com",
      [
        'c.yaml:12:11: routes[0].from: "tcp+https://db.example.com" names no port; write one such as tcp+https://db.example.com:5432',
      ],
    ],
    [
      "tcp+https://proxy.example.com/db",
      ['c.yaml:12:11: routes[0].from: "db" is not host:port; write one such as tcp+https://db.example.com:5432'],
    ],
    [
      "tcp+https://me@db.example.com:1",
      [
        'c.yaml:12:11: routes[0].from: "tcp+https://***@db.example.com:1" is not a tunnel address; write one such as tcp+https://db.example.com:5432',
      ],
    ],
    ["ssh://box", ["c.yaml:12:11: routes[0].from: ssh routes are not supported by this build yet; remove the route"]],
    [
      "https://app.example.com/wiki",
      [
        "c.yaml:12:11: routes[0].from: has the path /wiki; write https://app.example.com, and the path under prefix or path",
      ],
    ],
    [
      "https://app.example.com/?a",
      ["c.yaml:12:11: routes[0].from: has more than scheme, host and port; write https://app.example.com"],
    ],
  ];
  for (const [from, expected] of table) {
    test(from, () => {
      const text = `${base}routes:\n  - from: "${from}"\n    to: http://a\n    allow_any_authenticated_user: true\n`;
      assert.deepEqual(errors(text), expected);
    });
  }
  test("from is required", () => {
    assert.deepEqual(errors(`${base}routes:\n  - to: http://a\n    allow_any_authenticated_user: true\n`), [
      "c.yaml:12:5: routes[0].from: is missing; write the URL that people use, such as https://app.example.com",
    ]);
  });
});

suite("the document itself", () => {
  test("with an unfinished list is refused", () => {
    assert.deepEqual(errors("a: [1\nb: 2\n"), [
      "c.yaml:2:1: (document): is not YAML: Flow sequence in block collection must be sufficiently indented and end with a ]; correct it; quote text that has special characters",
    ]);
  });
  test("must be one YAML document", () => {
    assert.deepEqual(errors("a: 1\n---\nb: 2\n"), [
      "c.yaml:2:1: (document): contains several documents; keep one, without ---",
    ]);
  });
  test("must be a mapping", () => {
    assert.deepEqual(errors("- a\n"), [
      "c.yaml:1:1: (document): a list is not a configuration; write key: value, one per line",
    ]);
  });
  test("with a repeated key still reports its other problems", () => {
    assert.deepEqual(errors(`${base}region: a\nregion: b\ntimeout_idle: soon\n`), [
      "c.yaml:12:1: (document): region is written twice (first on line 11); keep one of them",
      'c.yaml:13:15: timeout_idle: "soon" is not a duration; write one such as 250ms, 30s or 1h30m',
    ]);
  });
  test("that is empty lacks only the keys without a default", () => {
    const keys = errors("").map((line) => line.split(": ")[1]);
    assert.deepEqual(keys.toSorted(), ["authenticate_service_url", "cookie_secret", "shared_secret"]);
  });
});

test("an empty value counts as absent", () => {
  const read = config(`${base}region:\nnats:\nadministrators:\nroutes:\n`);
  assert.equal(read.region, "default");
  assert.equal(read.nats, null);
});

test("anchors, aliases and merge keys share settings between routes", () => {
  const read = config(`${base}routes:
  - &common
    from: https://a.example.com
    to: http://127.0.0.1:1
    timeout: 5s
    allow_any_authenticated_user: true
  - <<: *common
    from: https://b.example.com
`);
  assert.deepEqual(
    read.routes.map(({ host, timeoutMs }) => [host, timeoutMs]),
    [
      ["a.example.com", 5000],
      ["b.example.com", 5000],
    ],
  );
});

test("a mistake inside merged content points at its original location", () => {
  const text = `${base}routes:
  - &common
    from: https://a.example.com
    to: http://127.0.0.1:1
    timeout: soon
    allow_any_authenticated_user: true
  - <<: *common
    from: https://b.example.com
`;
  assert.deepEqual(
    errors(text).map((line) => line.slice(0, "c.yaml:15:14: routes[0]".length)),
    ["c.yaml:15:14: routes[0]", "c.yaml:15:14: routes[1]"],
  );
});

test("no problem contains a secret", () => {
  const secret = "hunter2-hunter2";
  const text = `${base.replace(/^(shared_secret|cookie_secret|idp_client_secret):.*$/gm, `$1: ${secret}`)}signing_key: ${secret}
databroker_storage_type: postgres
databroker_storage_connection_string: mysql://u:${secret}@h
signout_redirect_url: https://u:${secret}@h
nats: {servers: ["nats://u:${secret}@h"], password: [${secret}]}
routes:
  - from: htps://u:${secret}@h
    to: http://u:${secret}@h
    set_request_headers: {X-A: "${secret}\${pomerium.nope}"}
`;
  const found = problems(text);
  assert.ok(found.length > 8);
  assert.deepEqual(
    found.filter((line) => line.includes("hunter2")),
    [],
  );
});

test("a setting without effect is a warning with a remedy", () => {
  assert.deepEqual(
    warnings(`${base}proxy_log_level: debug\nhealth_check_addr: ":1"\nautocert_email: a@b\n${goodRoute}`),
    [
      "c.yaml:11:1: proxy_log_level: has no effect: there is one log level; use log_level",
      "c.yaml:12:1: health_check_addr: has no effect: there is no extra listener for health; use /healthz and /readyz at metrics_address",
      "c.yaml:13:1: autocert_email: has no effect without autocert; remove it",
    ],
  );
});

test("an entry of administrators, operators or viewers may be limited to groups of routes", () => {
  const route = goodRoute.replace(/^( *)- /m, "$1- route_groups: [hr, payroll]\n$1  ");
  const entries = "[group:ops, {who: 'group:hr-leads', route_groups: [payroll, hr]}]";
  const read = config(`${base}operators: ${entries}\nviewers: email:a@example.com\n${route}`);
  assert.deepEqual(read.operators, ["group:ops", { who: "group:hr-leads", routeGroups: ["hr", "payroll"] }]);
  assert.deepEqual(read.viewers, ["email:a@example.com"]);
  assert.deepEqual(read.routes[0]?.routeGroups, ["hr", "payroll"]);
  const found = (list: string): string => errors(`${base}viewers: ${list}\n${route}`).join("\n");
  assert.match(found("[{who: alice, route_groups: [hr]}]"), /viewers\[0\]: does not state whether it is a group/);
  assert.match(found("[{who: 'group:a', route_groups: []}]"), /viewers\[0\]\.route_groups: names no group of routes/);
  assert.match(found("[{who: 'group:a'}]"), /viewers\[0\]\.route_groups: names no group of routes/);
  assert.match(found("[{who: 'group:a', route_groups: [Hr]}]"), /route_groups\[0\]: .*is not the name of a group/);
  assert.match(found("[{who: 'group:a', route_group: [hr]}]"), /viewers\[0\]\.route_group: is not a known key/);
  assert.match(found("[{route_groups: [hr]}]"), /viewers\[0\]\.who: is missing/);
  assert.match(found("[[a]]"), /viewers\[0\]: a list is not text/);
  const unknown = warnings(`${base}viewers: [{who: 'group:a', route_groups: [hr, hrm]}]\n${route}`).join();
  assert.match(unknown, /viewers\[0\]\.route_groups: names hrm, and no route here belongs to such a group/);
});

test("request_access names a group, approvers with their kind, and durations within bounds", () => {
  const route = (access: string) => `${base}routes:
  - from: https://app.example.com
    to: http://127.0.0.1:1
    allow_any_authenticated_user: true
    request_access: ${access}
`;
  const problemsOf = (access: string) => errors(route(access)).map((text) => text.replace(/^c\.yaml:\d+:\d+: /, ""));
  const parsed = config(route("{group: hr, approvers: [group:leads, group:leads, sub:s1], durations: [8h, 1h]}"));
  assert.deepEqual(parsed.routes[0]?.requestAccess, {
    ...{ group: "hr", approvers: ["group:leads", "sub:s1"], durations: [3_600_000, 28_800_000], reason: "required" },
  });
  const plain = config(route("{group: hr, approvers: group:leads, reason: optional}")).routes[0]?.requestAccess;
  assert.deepEqual([plain?.durations.length, plain?.reason], [3, "optional"]);
  const at = "routes[0].request_access";
  for (const [access, expected] of [
    ["hr", `${at}: "hr" is not a mapping; write group: and approvers:`],
    [
      "{approvers: [group:a]}",
      `${at}.group: is missing or is not text; write the id of the group that the policy of this route asks for, such as hr`,
    ],
    ["{group: group:hr, approvers: [group:a]}", `${at}.group: names a group with a prefix; write hr`],
    [
      "{group: hr}",
      `${at}.approvers: is missing: no one could approve a request; write group:NAME, email:ADDRESS or sub:SUBJECT`,
    ],
    [
      "{group: hr, approvers: []}",
      `${at}.approvers: is empty: no one could approve a request; write group:NAME, email:ADDRESS or sub:SUBJECT`,
    ],
    [
      "{group: hr, approvers: [dana]}",
      `${at}.approvers[0]: "dana" does not state whether it is a group, an e-mail address or a subject; write group:NAME, email:ADDRESS or sub:SUBJECT`,
    ],
    [
      "{group: hr, approvers: [group:a], durations: [1s]}",
      `${at}.durations[0]: 1s is outside of what is possible; write a duration from 1m to 2160h (90 days)`,
    ],
    [
      "{group: hr, approvers: [group:a], durations: []}",
      `${at}.durations: has 0 durations; write one to 8, such as [1h, 4h, 8h]`,
    ],
    [
      "{group: hr, approvers: [group:a], reason: never}",
      `${at}.reason: "never" is not a rule for reasons; write required or optional`,
    ],
  ] as const)
    assert.deepEqual(problemsOf(access), [expected], access);
  assert.match(
    problemsOf("{group: hr, approver: [group:a], approvers: [group:a]}").join(),
    /request_access\.approver: is not a known key/,
  );
});
