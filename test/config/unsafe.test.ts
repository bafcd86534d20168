/** Unsafe combinations: each is refused, or a warning where it can be right. The safe variant is beside each. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { exampleSecret, windowLimits } from "../../src/config/index.ts";
import { Authority } from "../support/pki.ts";
import {
  base,
  certificate,
  config,
  cookieSecret,
  errors,
  type Given,
  goodRoute,
  problems,
  sharedSecret,
  warnings,
} from "./support.ts";

/** `base` with some keys replaced. Added lines start at line 11. */
function withKeys(keys: Readonly<Record<string, string | null>>, more = goodRoute): string {
  let text = base;
  let added = "";
  for (const [key, value] of Object.entries(keys)) {
    const line = new RegExp(`^${key}:.*$`, "m");
    if (line.test(text)) text = text.replace(line, value === null ? "#" : `${key}: ${value}`);
    else if (value !== null) added += `${key}: ${value}\n`;
  }
  return text + added + more;
}
const route = (lines: string, from = "https://app.example.com"): string =>
  `routes:\n  - from: ${from}\n    to: http://127.0.0.1:8091\n${lines.replaceAll(/^/gm, "    ")}\n`;
const dayIn = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);
const open = "allow_any_authenticated_user: true";

type Row = readonly [name: string, text: string, expected: readonly string[], given?: Given];
function eachIs(find: typeof errors, rows: readonly Row[]): void {
  for (const [name, text, expected, given] of rows) test(name, () => assert.deepEqual(find(text, given), expected));
}

suite("the authenticate service and the identity provider", () => {
  eachIs(errors, [
    [
      "no authenticate URL",
      withKeys({ authenticate_service_url: null }),
      [
        "c.yaml:2:1: authenticate_service_url: is missing, and there is no hosted sign-in service; write the https URL of a host that reaches this authenticate service, such as https://authenticate.example.com",
      ],
    ],
    [
      "an authenticate URL in plain HTTP",
      withKeys({ authenticate_service_url: "http://authenticate.example.com" }),
      [
        "c.yaml:1:27: authenticate_service_url: is plain HTTP, which is allowed only for loopback and *.localhost; use https",
      ],
    ],
    [
      "an authenticate URL in plain HTTP on *.localhost is accepted",
      withKeys({ authenticate_service_url: "http://authenticate.localhost:8080" }),
      [],
    ],
    [
      "an authenticate URL in plain HTTP on loopback is accepted",
      withKeys({ authenticate_service_url: "http://127.0.0.1:8080" }),
      [],
    ],
    [
      "an authenticate URL with a path",
      withKeys({ authenticate_service_url: "https://a.example.com/x" }),
      ['c.yaml:1:27: authenticate_service_url: "https://a.example.com/x" has a path; write only https://a.example.com'],
    ],
    [
      "an identity provider in plain HTTP",
      withKeys({ idp_provider_url: "http://idp.example.com" }),
      ["c.yaml:7:19: idp_provider_url: is plain HTTP, which is allowed only for loopback and *.localhost; use https"],
    ],
    [
      "no identity provider",
      withKeys({ idp_provider: null }),
      [
        "c.yaml:1:1: idp_provider: is missing, so no one could sign in; write oidc with idp_provider_url, idp_client_id and idp_client_secret",
      ],
    ],
    [
      "the hosted identity provider",
      withKeys({ idp_provider: "hosted" }),
      [
        "c.yaml:6:15: idp_provider: hosted is not supported by this build yet; name your own OpenID Connect provider; there is no hosted one",
      ],
    ],
    [
      "an identity provider without a URL",
      withKeys({ idp_provider_url: null }),
      ["c.yaml:1:1: idp_provider_url: is missing and oidc has no default; write the issuer URL of your provider"],
    ],
    [
      "an Azure URL for every tenant",
      withKeys({ idp_provider: "azure", idp_provider_url: "https://login.microsoftonline.com/common/v2.0" }),
      [
        "c.yaml:7:19: idp_provider_url: accepts people of every tenant, so the issuer cannot be verified; write https://login.microsoftonline.com/<tenant id>/v2.0",
      ],
    ],
    [
      "scopes without openid",
      withKeys({ idp_scopes: "[email]" }),
      ["c.yaml:11:13: idp_scopes: does not include openid; add openid"],
    ],
    [
      "no client id and no client secret",
      withKeys({ idp_client_id: null, idp_client_secret: null }),
      [
        "c.yaml:1:1: idp_client_id: is missing; write the value that the identity provider issued for this client",
        "c.yaml:1:1: idp_client_secret: is missing; write the value that the identity provider issued for this client",
      ],
    ],
  ]);
  test("Google has its own URL, scopes and parameters", () => {
    const { idp } = config(
      withKeys({ idp_provider: "google", idp_provider_url: null, idp_request_params: "{prompt: login}" }),
    );
    assert.equal(idp?.url.href, "https://accounts.google.com/");
    assert.deepEqual(idp?.scopes, ["openid", "profile", "email"]);
    assert.deepEqual(idp?.requestParams, { prompt: "login", access_type: "offline" });
  });
});

suite("secrets", () => {
  const remedy = "make one with: openssl rand -base64 32";
  eachIs(errors, [
    ["a missing secret", withKeys({ shared_secret: null }), [`c.yaml:1:1: shared_secret: is missing; ${remedy}`]],
    [
      "a short secret",
      withKeys({ shared_secret: "c2hvcnQ=" }),
      [`c.yaml:4:16: shared_secret: is 5 bytes long, not 32; ${remedy}`],
    ],
    [
      "a secret that is not base64",
      withKeys({ cookie_secret: "CHANGE ME!" }),
      [`c.yaml:5:16: cookie_secret: is not base64; ${remedy}`],
    ],
    [
      "a secret of zero bytes",
      withKeys({ shared_secret: Buffer.alloc(32).toString("base64") }),
      [`c.yaml:4:16: shared_secret: repeats a few bytes and is not a strong secret; ${remedy}`],
    ],
    [
      "the example secret of the documentation",
      withKeys({ shared_secret: exampleSecret }),
      [`c.yaml:4:16: shared_secret: is the example from the documentation; ${remedy}`],
    ],
    [
      "an invalid signing key",
      withKeys({ signing_key: "x" }),
      [
        "c.yaml:11:14: signing_key: is not a private key in PEM, or base64 of it; make one with: openssl ecparam -genkey -name prime256v1 -noout",
      ],
    ],
  ]);
  eachIs(warnings, [
    [
      "equal shared and cookie secrets",
      withKeys({ cookie_secret: sharedSecret }),
      [`c.yaml:5:16: cookie_secret: is the same as shared_secret, so one leak exposes both; ${remedy}`],
    ],
    [
      "a previous secret equal to the current one",
      withKeys({ shared_secret_previous: sharedSecret }),
      ["c.yaml:11:1: shared_secret_previous: is the same as shared_secret; remove it once the rotation is complete"],
    ],
    [
      "a secret file that every user can read",
      withKeys({ shared_secret: null, shared_secret_file: "s" }),
      ["c.yaml:11:21: shared_secret_file: every user of this machine can read s; chmod 600 s"],
      { files: { s: { ok: true, text: `${sharedSecret}\n`, mode: 0o644 } } },
    ],
    [
      "a file that only the process's user may read",
      withKeys({ shared_secret: null, shared_secret_file: "s" }),
      [],
      { files: { s: sharedSecret } },
    ],
    [
      "a secret set both inline and as a file, where the file wins",
      withKeys({ shared_secret_file: "s" }),
      ["c.yaml:4:1: shared_secret: has no effect with shared_secret_file; keep one of them"],
      { files: { s: Buffer.from(sharedSecret, "base64").reverse().toString("base64") } },
    ],
    [
      "a configuration file with secrets that every user can read",
      withKeys({}),
      [
        "c.yaml:4:1: shared_secret: every user of this machine can read c.yaml, and this secret in it; chmod 600 c.yaml, or use shared_secret_file",
      ],
      { mode: 0o644 },
    ],
    [
      "a configuration file that every user can read, with a secret that has no _file key",
      withKeys({
        ...{ shared_secret: null, shared_secret_file: "s", cookie_secret: null, cookie_secret_file: "k" },
        ...{ idp_client_secret: null, idp_client_secret_file: "i" },
        decision_api: "{address: 127.0.0.1:9180, keys: {wiki: k3y-of-a-service-0123456789-abcdefgh}}",
      }),
      [
        "c.yaml:14:41: decision_api.keys: every user of this machine can read c.yaml, and this secret in it; chmod 600 c.yaml",
      ],
      {
        mode: 0o644,
        files: {
          s: sharedSecret,
          k: Buffer.from(sharedSecret, "base64").reverse().toString("base64"),
          i: "a client secret",
        },
      },
    ],
  ]);
  test("an unreadable secret file is an error", () => {
    assert.deepEqual(errors(withKeys({ shared_secret: null, shared_secret_file: "gone" })), [
      "c.yaml:11:21: shared_secret_file: the file gone cannot be read: it does not exist; correct the path or the permissions",
    ]);
  });
  test("the signing key of Pomerium's examples is refused in base64 and in PEM", async () => {
    const published =
      "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCk1IY0NBUUVFSURRemVZWDZyT2tuemFnTjRJVTYxaEtRc3pzY1EvRllmbzZPcXhWd2YvdGZvQW9HQ0NxR1NNNDkKQXdFSG9VUURRZ0FFc1V0V2psYXZ3eHprSU9DVUNDeFVnTDJza2NjL3QxSTFmQXlxUDgrMWw5YU1CWDlzdm1pYgpRajJxcWFUbUJZZWhuQzhmak5LODZmVXhpc3d1SXN5bnp3PT0KLS0tLS1FTkQgRUMgUFJJVkFURSBLRVktLS0tLQo=";
    const expected = /is published as an example, so anyone can sign with it/;
    assert.match(errors(withKeys({ signing_key: published })).join(), expected);
    const files = { key: Buffer.from(published, "base64").toString() };
    assert.match(errors(withKeys({ signing_key_file: "key" }), { files }).join(), expected);
  });
  test("with several processes every secret must be configured", () => {
    const text = withKeys({ shared_secret: null, services: "proxy", broker: '{urls: ["https://b.example.com"]}' });
    const generate = () => ({ ok: true as const, secrets: { shared_secret: sharedSecret } });
    assert.deepEqual(errors(text, { generate }), [
      `c.yaml:1:1: shared_secret: is missing, and every process needs the same one; ${remedy}`,
    ]);
  });
  test("a single process may generate missing secrets", () => {
    const dataDirs: string[] = [];
    const generate = (dataDir: string) => {
      dataDirs.push(dataDir);
      return { ok: true as const, secrets: { shared_secret: sharedSecret, cookie_secret: cookieSecret } };
    };
    const read = config(withKeys({ shared_secret: null, data_dir: "/var/lib/cardea" }), { generate });
    assert.equal(Buffer.from(read.sharedSecret).toString("base64"), sharedSecret);
    assert.deepEqual(dataDirs, ["/var/lib/cardea"]);
  });
});

suite("the listener", () => {
  test("a certificate that demands an OCSP response is served, with a warning", async () => {
    const hosts = ["app.example.com", "authenticate.example.com"];
    const authority = await Authority.root();
    const keys = { insecure_server: null, certificate_file: "cert", certificate_key_file: "key" };
    const found = async (mustStaple: boolean) => {
      const { cert, key } = await authority.issue({ hosts, mustStaple });
      return problems(withKeys(keys), { files: { cert, key } });
    };
    assert.deepEqual(await found(true), [
      "warning c.yaml:11:19: certificate_file: demands an OCSP response in each handshake, which this server does not send, so some clients refuse it; request a certificate without that demand (must-staple)",
    ]);
    assert.deepEqual(await found(false), []);
  });

  const pair = certificate(["app.example.com", "authenticate.example.com"]);
  const other = certificate(["app.example.com"]);
  const files = { cert: pair.cert, key: pair.key, other: other.key };
  const tls = { insecure_server: null, certificate_file: "cert", certificate_key_file: "key" };
  eachIs(problems, [
    ["TLS with a certificate", withKeys(tls), [], { files }],
    [
      "TLS without a certificate",
      withKeys({ insecure_server: null }),
      [
        "warning c.yaml:1:1: certificates: is missing, so TLS is served with a self-signed certificate, which no browser trusts; name a certificate and key, set autocert: true, or set insecure_server: true behind a load balancer that ends TLS",
      ],
    ],
    [
      "a certificate without its key",
      withKeys({ ...tls, certificate_key_file: null }),
      ["error c.yaml:11:19: certificate_file: is set without a key; set the key too"],
      { files },
    ],
    [
      "the key of another certificate",
      withKeys({ ...tls, certificate_key_file: "other" }),
      [
        "error c.yaml:12:23: certificate_key_file: is not the key of this certificate; use the key that was created with it",
      ],
      { files },
    ],
    [
      "a certificate that has expired",
      withKeys(tls),
      ["warning c.yaml:11:19: certificate_file: expired on DAY, so browsers refuse it; renew it"].map((line) =>
        line.replace("DAY", dayIn(2)),
      ),
      { files, now: Date.now() + 3 * 86_400_000 },
    ],
    [
      "a certificate that is not valid yet",
      withKeys(tls),
      [
        `warning c.yaml:11:19: certificate_file: is not valid before ${dayIn(0)}; correct the clock, or use the previous certificate`,
      ],
      { files, now: Date.now() - 86_400_000 },
    ],
    [
      "a host that no certificate covers",
      withKeys(tls, route(open, "https://wiki.example.com")),
      [
        "warning c.yaml:14:11: routes[0].from: no certificate covers wiki.example.com; add one that does, or browsers will refuse the connection",
      ],
      { files },
    ],
    [
      "plain HTTP that other machines can reach",
      withKeys({ address: ":8000" }),
      [
        "warning c.yaml:3:1: insecure_server: plain HTTP is served on 0.0.0.0:8000; let only a load balancer that ends TLS reach it, or bind address to loopback",
      ],
    ],
    [
      "metrics that other machines can reach",
      withKeys({ metrics_address: ":9902" }),
      [
        "warning c.yaml:11:18: metrics_address: metrics can be read from other machines without a password; set metrics_basic_auth or metrics_client_ca, or bind it to loopback or to a private network",
      ],
    ],
    [
      "a route in plain HTTP",
      withKeys({}, route(open, "http://app.example.com")),
      [
        "error c.yaml:12:11: routes[0].from: is plain HTTP, which is allowed only for loopback and *.localhost; use https",
      ],
    ],
    ["a route in plain HTTP on *.localhost is accepted", withKeys({}, route(open, "http://app.localhost:8080")), []],
    [
      "a route in plain HTTP on a TLS listener",
      withKeys(tls, route(open, "http://app.localhost")),
      [
        "warning c.yaml:14:11: routes[0].from: is plain HTTP, and the listener speaks only TLS; use https, or set insecure_server: true",
      ],
      { files },
    ],
  ]);
  test("a certificate may be inline, as PEM or as PEM in base64", () => {
    const base64 = {
      certificate: Buffer.from(pair.cert).toString("base64"),
      certificate_key: Buffer.from(pair.key).toString("base64"),
    };
    const [first] = config(withKeys({ insecure_server: null, ...base64 })).certificates;
    assert.deepEqual(first, { cert: pair.cert, key: pair.key });
  });
  test("only a configured certificate enables a permanent HSTS header", () => {
    const hsts = "Strict-Transport-Security";
    assert.equal(hsts in config(withKeys(tls), { files }).setResponseHeaders, true);
    assert.equal(hsts in config(withKeys({})).setResponseHeaders, false);
  });
});

test("a claim cannot be sent in a header that the proxy itself must set", () => {
  for (const name of ["Host", "Content-Length", "Cookie", "X-Pomerium-Jwt-Assertion"]) {
    assert.deepEqual(errors(withKeys({ jwt_claims_headers: `{${name}: email}` })), [
      `c.yaml:11:21: jwt_claims_headers: ${name.toLowerCase()} is a header that the proxy itself must set; use another header`,
    ]);
  }
});

suite("the session cookie", () => {
  eachIs(problems, [
    ["a domain that covers every host", withKeys({ cookie_domain: "example.com" }), []],
    [
      "a domain that does not cover a route",
      withKeys({ cookie_domain: "example.com" }, route(open, "https://app.other.com")),
      [
        "error c.yaml:13:11: routes[0].from: the cookie of example.com (cookie_domain) would never reach app.other.com, so sign-in would loop; use a host below cookie_domain, or remove cookie_domain",
      ],
    ],
    [
      "a domain that does not cover the authenticate host",
      withKeys({ cookie_domain: "app.example.com" }),
      [
        "error c.yaml:1:27: authenticate_service_url: the cookie of app.example.com (cookie_domain) would never reach authenticate.example.com, so sign-in would loop; use a host below cookie_domain, or remove cookie_domain",
      ],
    ],
    [
      "a host that only shares a suffix with the domain",
      withKeys({ cookie_domain: "example.com" }, route(open, "https://badexample.com")),
      [
        "error c.yaml:13:11: routes[0].from: the cookie of example.com (cookie_domain) would never reach badexample.com, so sign-in would loop; use a host below cookie_domain, or remove cookie_domain",
      ],
    ],
    [
      "a top-level domain",
      withKeys({ cookie_domain: "com" }),
      [
        "error c.yaml:11:16: cookie_domain: is not a domain that browsers accept; write one such as example.com, or remove it",
      ],
    ],
    [
      "a __Host- cookie name with a domain",
      withKeys({ cookie_domain: "example.com", cookie_name: "__Host-cardea" }),
      [
        "error c.yaml:12:14: cookie_name: begins with __Host-, which browsers refuse with cookie_domain; use another name, or remove cookie_domain",
      ],
    ],
    [
      "SameSite=None",
      withKeys({ cookie_same_site: "none" }),
      [
        "warning c.yaml:11:19: cookie_same_site: lets every site make requests with the visitor's session; write lax, unless upstreams must work inside pages of other sites",
      ],
    ],
    [
      "a cookie that scripts can read",
      withKeys({ cookie_http_only: "false" }),
      ["warning c.yaml:11:19: cookie_http_only: lets any script on a page read the session; remove it"],
    ],
  ]);
});

suite("services in several processes", () => {
  const nats = { nats: '{servers: ["tls://nats-1:4222"]}' };
  const brokers = { broker: '{urls: ["https://b1.example.com", "https://b2.example.com"]}' };
  eachIs(problems, [
    ["a proxy with broker URLs", withKeys({ services: "proxy", ...brokers, ...nats }), []],
    [
      "a proxy without broker URLs",
      withKeys({ services: "proxy", ...nats }),
      [
        "error c.yaml:1:1: broker.urls: is missing, and this process runs no databroker; write the URLs of the brokers, or add databroker to services",
      ],
    ],
    [
      "a proxy with broker URLs in Pomerium's key",
      withKeys({ services: "proxy", databroker_service_url: "https://b1.example.com", ...nats }),
      [],
    ],
    [
      "a proxy without the client secret",
      withKeys({ services: "proxy", idp_client_secret: null, ...brokers, ...nats }),
      [],
    ],
    [
      "a proxy without an identity provider",
      withKeys({ services: "proxy", idp_provider: null, ...brokers, ...nats }),
      [
        "error c.yaml:1:1: idp_provider: is missing, so no session would be accepted here and sign-in would loop; write the same idp_provider, idp_provider_url and idp_client_id as for the authenticate service",
      ],
    ],
    [
      "a databroker without the client secret that refreshes need",
      withKeys({
        services: "databroker",
        idp_client_secret: null,
        address: "127.0.0.1:8443",
        broker: '{listen: "127.0.0.1:5443"}',
        ...nats,
      }),
      [
        "error c.yaml:1:1: idp_client_secret: is missing; write the value that the identity provider issued for this client",
      ],
    ],
    [
      "a proxy without NATS",
      withKeys({ services: "proxy", ...brokers }),
      [
        "warning c.yaml:1:1: nats: is missing, so other processes learn of events by polling, up to a second late; write nats.servers",
      ],
    ],
    [
      "a databroker without a listen address",
      withKeys({ services: "databroker", ...nats }),
      [
        "error c.yaml:1:1: broker.listen: is missing, so the processes with the other services could not reach this databroker; write an address such as 127.0.0.1:5443",
      ],
    ],
    [
      "brokers in plain HTTP between machines",
      withKeys({ services: "proxy", broker: '{urls: ["http://b1.example.com:5443"]}', ...nats }),
      [
        "error c.yaml:12:17: broker.urls[0]: is plain HTTP between machines, and keys and tokens cross it; use https, or grpc_insecure: true where something else encrypts the network",
      ],
    ],
    [
      "plain HTTP on a network that something else encrypts",
      withKeys({ services: "proxy", grpc_insecure: "true", broker: '{urls: ["http://b1.example.com:5443"]}', ...nats }),
      [
        "warning c.yaml:13:17: broker.urls[0]: is plain HTTP between machines; make sure that something else encrypts this network",
      ],
    ],
    [
      "a databroker open to other machines without a certificate",
      withKeys({ services: "databroker", broker: '{listen: ":5443"}', ...nats }),
      [
        "error c.yaml:12:18: broker.listen: is open to other machines and has no certificate; write broker.tls_cert_file and broker.tls_key_file, or bind it to loopback",
      ],
    ],
    [
      "two brokers with the file store",
      withKeys({ broker: '{listen: "127.0.0.1:5443", urls: ["https://b1.example.com", "https://b2.example.com"]}' }),
      ["error c.yaml:1:1: databroker_storage_type: file serves one broker, and broker.urls names 2; use postgres"],
    ],
    [
      "two brokers with the memory store",
      withKeys({
        databroker_storage_type: "memory",
        broker: '{listen: "127.0.0.1:5443", urls: ["https://b1.example.com", "https://b2.example.com"]}',
      }),
      ["error c.yaml:11:26: databroker_storage_type: memory serves one broker, and broker.urls names 2; use postgres"],
    ],
    [
      "Postgres without a connection string",
      withKeys({ databroker_storage_type: "postgres" }),
      [
        "error c.yaml:1:1: databroker_storage_connection_string: is missing for the postgres store; write postgres://user@host:5432/cardea, or keep it in a file and use databroker_storage_connection_string_file",
      ],
    ],
    [
      "Postgres with TLS off",
      withKeys({
        databroker_storage_type: "postgres",
        databroker_storage_connection_string: "postgres://u:p@db.example.com/c?sslmode=disable",
      }),
      [
        "warning c.yaml:12:39: databroker_storage_connection_string: turns TLS to Postgres off; use sslmode=verify-full where the network is not your own",
      ],
    ],
    [
      "a store that is no longer supported",
      withKeys({ databroker_storage_type: "redis" }),
      ["error c.yaml:11:26: databroker_storage_type: redis is no longer supported; use postgres or file"],
    ],
    [
      "keys of Pomerium's broker cluster",
      withKeys({ databroker_cluster_node_id: "a" }),
      [
        "error c.yaml:11:1: databroker_cluster_node_id: brokers do not copy each other's storage here; use databroker_storage_type: postgres and broker.urls",
      ],
    ],
    [
      "NATS without TLS",
      withKeys({ nats: "{servers: [nats-1:4222]}" }),
      [
        "warning c.yaml:11:18: nats.servers[0]: is reached without TLS; use tls:// and nats.tls_ca, unless the network is your own: what crosses it is signed, personal data is sealed",
      ],
    ],
    [
      "NATS settings without servers",
      withKeys({ nats: "{user: cardea, password: x}" }),
      ["error c.yaml:11:7: nats.servers: is missing; write the NATS servers, such as tls://nats-1:4222"],
    ],
    [
      "a NATS user without a password",
      withKeys({ nats: '{servers: ["tls://n:4222"], user: cardea}' }),
      ["error c.yaml:11:35: nats.user: has no password; write nats.password or nats.password_file"],
    ],
    [
      "an audit sink on NATS without NATS",
      withKeys({ audit: "{sinks: [{file: a}, {nats: true}]}" }),
      [
        "error c.yaml:11:28: audit.sinks[1]: names NATS, and nats.servers is missing; write nats.servers, or remove this sink",
      ],
    ],
    [
      "sign-in in plain HTTP between machines",
      withKeys({ services: "proxy", authenticate_internal_service_url: "http://auth.internal", ...brokers, ...nats }),
      [
        "error c.yaml:12:36: authenticate_internal_service_url: is plain HTTP between machines, and sign-in crosses it; use https, or grpc_insecure: true where something else encrypts the network",
      ],
    ],
  ]);
  test("lease settings that leave too little time to renew are errors", () => {
    assert.deepEqual(errors(withKeys({ broker: "{lease: 2s, renew: 900ms, beat: 950ms, takeover: 1s}" })), [
      "c.yaml:11:28: broker.renew: is more than a third of broker.lease, so one lost message would stop a node; renew more often, or lengthen broker.lease",
      "c.yaml:11:41: broker.beat: is longer than broker.renew, so grants would arrive late; beat more often",
      "c.yaml:11:58: broker.takeover: is less than three times broker.beat, so a slow commit would cost the leader its leadership; beat more often, or lengthen broker.takeover",
    ]);
  });
  test("a max_window shorter than the lease is an error", () => {
    assert.deepEqual(errors(withKeys({ broker: "{lease: 5s, max_window: {broker: 4s}}" })), [
      "c.yaml:11:42: broker.max_window.broker: is shorter than broker.lease, so no node of this role could use its lease to the end; lengthen it, or shorten broker.lease",
    ]);
  });
  test("a window limit below the routes' grace is a warning; without one, the limit follows from the routes", () => {
    const patient = route(`${open}\nstale_grace: 5m`);
    assert.deepEqual(warnings(withKeys({ broker: "{lease: 5s, max_window: {proxy: 65s}}" }, patient)), [
      "c.yaml:11:41: broker.max_window.proxy: is shorter than broker.lease plus the largest stale_grace of the routes here, so proxies deny before that grace is over; lengthen it, or shorten stale_grace",
    ]);
    assert.deepEqual(windowLimits(config(withKeys({ broker: "{lease: 5s, max_window: {authorize: 30s}}" }, patient))), {
      proxy: 305_000,
      authorize: 30_000,
      broker: 305_000,
    });
    assert.equal(windowLimits(config(withKeys({}))).proxy, 65_000);
  });
  test("a databroker serves its own certificate, or else the first configured one", () => {
    const pair = certificate(["b1.example.com"]);
    const files = { cert: pair.cert, key: pair.key };
    const keys = {
      services: "databroker",
      ...nats,
      broker: '{listen: ":5443", tls_cert_file: cert, tls_key_file: key}',
    };
    assert.deepEqual(config(withKeys(keys), { files }).broker.tls, pair);
    const shared = { ...keys, broker: '{listen: ":5443"}', certificate_file: "cert", certificate_key_file: "key" };
    assert.deepEqual(config(withKeys(shared), { files }).broker.tls, pair);
    assert.equal(config(withKeys({ ...keys, broker: '{listen: "127.0.0.1:5443"}' })).broker.tls, null);
  });
});

suite("routes", () => {
  const pub = "allow_public_unauthenticated_access: true";
  const noPolicy = "is missing, so no one may use this route; write a policy, or one of the allow keys";
  eachIs(problems, [
    [
      "a public route with allowed_users",
      withKeys({}, route(`${pub}\nallowed_users: [a@example.com]`)),
      [
        "error c.yaml:15:5: routes[0].allowed_users: has no effect with allow_public_unauthenticated_access, which lets everyone through; keep one of them",
      ],
    ],
    [
      "a public route with allowed_domains",
      withKeys({}, route(`${pub}\nallowed_domains: [example.com]`)),
      [
        "error c.yaml:15:5: routes[0].allowed_domains: has no effect with allow_public_unauthenticated_access, which lets everyone through; keep one of them",
      ],
    ],
    [
      "a route for every signed-in user with allowed_idp_claims",
      withKeys({}, route(`${open}\nallowed_idp_claims: {team: [a]}`)),
      [
        "error c.yaml:15:5: routes[0].allowed_idp_claims: has no effect with allow_any_authenticated_user, which lets everyone who is signed in through; keep one of them",
      ],
    ],
    ["a public route with an empty list of users", withKeys({}, route(`${pub}\nallowed_users: []`)), []],
    [
      "a route both public and for every signed-in user",
      withKeys({}, route(`${pub}\n${open}`)),
      [
        "error c.yaml:15:5: routes[0].allow_any_authenticated_user: has no effect with allow_public_unauthenticated_access; keep one of them",
      ],
    ],
    [
      "a public route with a policy that can still deny",
      withKeys({}, route(`${pub}\npolicy: {deny: {or: [{source_ip: 10.0.0.1}]}}`)),
      [],
    ],
    ["without a policy", withKeys({}, route("name: x")), [`warning c.yaml:12:5: routes[0].policy: ${noPolicy}`]],
    [
      "a route without an action",
      withKeys({}, `routes:\n  - from: https://app.example.com\n    ${open}\n`),
      [
        "error c.yaml:12:5: routes[0].to: is missing, and so are redirect and response; write the URL of the upstream service",
      ],
    ],
    [
      "a stale_grace on a route that denies at once",
      withKeys({}, route(`${open}\non_stale: deny\nstale_grace: 10s`)),
      ["error c.yaml:16:5: routes[0].stale_grace: contradicts on_stale: deny, which denies at once; keep one of them"],
    ],
    ["a route that denies at once", withKeys({}, route(`${open}\non_stale: deny`)), []],
    [
      "unverified upstream certificates",
      withKeys({}, route(`${open}\ntls_skip_verify: true`).replace("http://127.0.0.1:8091", "https://10.0.0.1")),
      [
        "warning c.yaml:15:5: routes[0].tls_skip_verify: lets anyone between the proxy and the upstream read and change everything; name the upstream's authority with tls_custom_ca_file instead",
      ],
    ],
    [
      "a route to the databroker",
      withKeys({ broker: '{listen: "127.0.0.1:5443"}' }, route(open).replace("127.0.0.1:8091", "localhost:5443")),
      [
        "error c.yaml:14:9: routes[0].to: localhost:5443 is the databroker, which must never be reachable through a route; point the route at the intended service",
      ],
    ],
    [
      "a route to another broker",
      withKeys(
        { broker: '{urls: ["https://b1.example.com"]}' },
        route(open).replace("http://127.0.0.1:8091", "https://b1.example.com"),
      ),
      [
        "error c.yaml:14:9: routes[0].to: b1.example.com is the databroker, which must never be reachable through a route; point the route at the intended service",
      ],
    ],
    [
      "a route to a databroker that listens on every address",
      withKeys(
        { grpc_insecure: "true", broker: '{listen: ":5443"}' },
        route(open).replace("127.0.0.1:8091", "127.0.0.1:5443"),
      ),
      [
        "error c.yaml:15:9: routes[0].to: 127.0.0.1:5443 is the databroker, which must never be reachable through a route; point the route at the intended service",
      ],
    ],
    [
      "a route to the proxy itself",
      withKeys({}, route(open).replace("127.0.0.1:8091", "127.0.0.1:8443")),
      [
        "warning c.yaml:13:9: routes[0].to: 127.0.0.1:8443 is this proxy itself, so requests would loop; point the route at the upstream service",
      ],
    ],
    [
      "two matchers",
      withKeys({}, route(`${open}\nprefix: /a\npath: /b`)),
      ["warning c.yaml:15:5: routes[0].prefix: has no effect with path; keep one of them"],
    ],
    [
      "two ways to set Host",
      withKeys({}, route(`${open}\nhost_rewrite: a.b\npreserve_host_header: true`)),
      ["warning c.yaml:16:5: routes[0].preserve_host_header: has no effect with host_rewrite; keep one of them"],
    ],
  ]);
  const two = (first: string, second: string): string =>
    `${base}routes:\n  - from: https://app.example.com\n    to: http://a\n    ${open}\n${first.replaceAll(/^(?=.)/gm, "    ")}  - from: https://app.example.com\n    to: http://b\n    ${open}\n${second.replaceAll(/^(?=.)/gm, "    ")}`;
  eachIs(problems, [
    [
      "two routes with one id",
      two("id: wiki\npath: /a\n", "id: wiki\npath: /b\n"),
      ["error c.yaml:20:9: routes[1].id: wiki is also the id of the route on line 12; give each route its own id"],
    ],
    [
      "a second route that is never reached",
      two("", "prefix: /b\n"),
      [
        "warning c.yaml:15:5: routes[1]: is never reached: the route on line 12 matches every such request first; move it up, or remove it",
      ],
    ],
    ["a second route that is reached", two("prefix: /b\n", ""), []],
    [
      "a regex after a route for every path",
      two("", "regex: /b.*\n"),
      [
        "warning c.yaml:15:5: routes[1]: is never reached: the route on line 12 matches every such request first; move it up, or remove it",
      ],
    ],
    [
      "a longer prefix after a shorter one",
      two("prefix: /b\n", "prefix: /bc\n"),
      [
        "warning c.yaml:16:5: routes[1]: is never reached: the route on line 12 matches every such request first; move it up, or remove it",
      ],
    ],
    [
      "a path after the same path",
      two("path: /b\n", "path: /b\n"),
      [
        "warning c.yaml:16:5: routes[1]: is never reached: the route on line 12 matches every such request first; move it up, or remove it",
      ],
    ],
    ["a regex after a prefix that may not cover it", two("prefix: /b\n", "regex: /b.*\n"), []],
  ]);
  test("a repeated route is served once", () => {
    const text = `${base}${goodRoute}${goodRoute.replace("routes:\n", "")}`;
    assert.equal(config(text).routes.length, 1);
  });
  test("a route to the databroker is refused in any order of keys", () => {
    const text = `${route(open).replace("127.0.0.1:8091", "127.0.0.1:5443")}${base}broker: {listen: "127.0.0.1:5443"}\n`;
    assert.match(errors(text).join(), /is the databroker/);
  });
});

suite("client certificates", () => {
  const pair = certificate(["app.example.com", "authenticate.example.com"]);
  const files = {
    cert: pair.cert,
    key: pair.key,
    ca: pair.cert,
    junk: "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----",
  };
  const tls = { insecure_server: null, certificate_file: "cert", certificate_key_file: "key" };
  const mtls = (lines: string): string => withKeys({ ...tls, downstream_mtls: `{${lines}}` });
  eachIs(errors, [
    [
      "settings without a certificate authority",
      mtls("enforcement: reject_connection"),
      [
        "c.yaml:13:1: downstream_mtls: names no authority, so no certificate would be requested; write ca or ca_file, or remove it",
      ],
      { files },
    ],
    [
      "a certificate authority on a plain HTTP listener",
      withKeys({ downstream_mtls: "{ca_file: ca}" }),
      [
        "c.yaml:11:1: downstream_mtls: needs TLS, and this listener serves plain HTTP, so no caller could present a certificate; remove insecure_server and name certificates, or remove this",
      ],
      { files },
    ],
    [
      "a certificate authority both inline and as a file",
      mtls(`ca: ${Buffer.from(pair.cert).toString("base64")}, ca_file: ca`),
      [
        `c.yaml:13:${25 + Buffer.from(pair.cert).toString("base64").length}: downstream_mtls.ca_file: cannot be combined with ca; keep one of them`,
      ],
      { files },
    ],
    [
      "an invalid certificate authority",
      mtls("ca_file: junk"),
      ["c.yaml:13:28: downstream_mtls.ca_file: contains no readable certificate; write PEM, or base64 of it"],
      { files },
    ],
    [
      "an invalid revocation list",
      mtls("ca_file: ca, crl_file: junk"),
      ["c.yaml:13:42: downstream_mtls.crl_file: contains no readable revocation list; write PEM, or base64 of it"],
      { files },
    ],
    [
      "an unknown enforcement mode",
      mtls("ca_file: ca, enforcement: maybe"),
      [
        'c.yaml:13:45: downstream_mtls.enforcement: "maybe" is not known here; write one of policy_with_default_deny, policy, reject_connection',
      ],
      { files },
    ],
    [
      "an unknown type of subject alternative name",
      mtls("ca_file: ca, match_subject_alt_names: [{dirname: x}]"),
      [
        "c.yaml:13:58: downstream_mtls.match_subject_alt_names[0]: a mapping is not {type: expression}; write one of dns, email, ip_address, uri, user_principal_name with an expression",
      ],
      { files },
    ],
    [
      "an invalid regular expression",
      mtls('ca_file: ca, match_subject_alt_names: [{dns: "("}]'),
      [
        'c.yaml:13:58: downstream_mtls.match_subject_alt_names[0]: "(" is not a regular expression: error parsing regexp: missing closing ): `(`; write it in RE2\'s syntax',
      ],
      { files },
    ],
    [
      "a route's certificate authority on a plain HTTP listener",
      withKeys({}, route(`${open}\ntls_downstream_client_ca_file: ca`)),
      [
        "c.yaml:15:36: routes[0].tls_downstream_client_ca_file: needs TLS, and this listener serves plain HTTP, so no caller could present a certificate; remove insecure_server and name certificates, or remove this",
      ],
      { files },
    ],
  ]);
  test("by default every route requires a client certificate, with a chain depth of at most one", () => {
    const { downstreamMtls, routes } = config(mtls("ca_file: ca"), { files });
    assert.deepEqual(
      { ...downstreamMtls, ca: null },
      { ca: null, crl: null, enforcement: "policy_with_default_deny", matchSubjectAltNames: [], maxVerifyDepth: 1 },
    );
    assert.deepEqual(
      routes.map((one) => one.requiresClientCertificate),
      [true],
    );
    assert.deepEqual(
      config(mtls("ca_file: ca, enforcement: policy"), { files }).routes.map((one) => one.requiresClientCertificate),
      [false],
    );
  });
  test("a route may have its own certificate authority; then only that route requests certificates", () => {
    const own = route(`${open}\ntls_downstream_client_ca_file: ca`);
    const both = `${own}${route(open, "https://authenticate.example.com").replace("routes:\n", "")}`;
    const { routes } = config(withKeys(tls, both), { files });
    assert.deepEqual(
      routes.map((one) => one.requiresClientCertificate),
      [true, false],
    );
  });
});

suite("certificates by ACME", () => {
  const pair = certificate(["app.example.com"]);
  const files = { cert: pair.cert, key: pair.key };
  const acme = (keys: Readonly<Record<string, string | null>> = {}, more = goodRoute): string =>
    withKeys({ insecure_server: null, autocert: "true", ...keys }, more);
  eachIs(errors, [
    [
      "autocert on a plain HTTP listener",
      withKeys({ autocert: "true" }),
      [
        "c.yaml:11:11: autocert: gets certificates for TLS, and this listener serves plain HTTP; remove insecure_server, or write false",
      ],
    ],
    [
      "certificates that need an OCSP response",
      acme({ autocert_must_staple: "true" }),
      [
        "c.yaml:12:23: autocert_must_staple: requests certificates that browsers accept only with an OCSP response, which this server does not send; Let's Encrypt no longer issues them; write false or remove it",
      ],
    ],
    [
      "certificates stored in a bucket",
      acme({ autocert_dir: "s3://bucket" }),
      [
        "c.yaml:12:15: autocert_dir: is not a folder; buckets are not supported by this build; write the path of a folder",
      ],
    ],
    [
      "an ACME account with a key id and no MAC key",
      acme({ autocert_eab_key_id: "k" }),
      [
        "c.yaml:12:1: autocert_eab_key_id: is set without autocert_eab_mac_key; write both, as the authority issued them",
      ],
    ],
    [
      "an ACME server in plain HTTP",
      acme({ autocert_ca: "http://ca.example" }),
      ["c.yaml:12:14: autocert_ca: the scheme http cannot be used here; use https"],
    ],
  ]);
  test("ACME orders certificates for the hosts of routes and sign-in, except wildcards, addresses and hosts that have one", () => {
    const routes = `${route(open)}${[
      "https://*.wild.example",
      "https://10.0.0.1",
      "tcp+https://db.example:5432",
      "https://b.example",
    ]
      .map((from) => route(open, from).replace("routes:\n", ""))
      .join("")}`.replace(
      "from: tcp+https://db.example:5432\n    to: http://",
      "from: tcp+https://db.example:5432\n    to: tcp://",
    );
    const hosts = (keys: Readonly<Record<string, string>> = {}) =>
      config(acme(keys, routes), { files }).autocert?.hosts;
    assert.deepEqual(hosts(), ["app.example.com", "authenticate.example.com", "b.example", "db.example"]);
    const own = { certificate_file: "cert", certificate_key_file: "key" };
    assert.deepEqual(hosts(own), ["authenticate.example.com", "b.example", "db.example"]);
  });
  test("Let's Encrypt is used unless another authority is named; the data folder stores its certificates", () => {
    const autocertOf = (keys: Readonly<Record<string, string>>) => config(acme(keys)).autocert;
    assert.equal(autocertOf({})?.directory.href, "https://acme-v02.api.letsencrypt.org/directory");
    assert.match(autocertOf({ autocert_use_staging: "true" })?.directory.href ?? "", /staging/);
    const other = autocertOf({ autocert_use_staging: "true", autocert_ca: "https://ca.example/dir" });
    assert.equal(other?.directory.href, "https://ca.example/dir");
    assert.deepEqual([autocertOf({})?.folder, autocertOf({})?.challenges], ["data/autocert", ["tls-alpn-01"]]);
    assert.deepEqual(autocertOf({ http_redirect_addr: '":80"' })?.challenges, ["http-01", "tls-alpn-01"]);
    assert.equal(config(base + goodRoute).autocert, null);
  });
});
