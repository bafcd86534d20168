/**
 * Redaction: no secret of a configuration is in its body. Every key of the schema is checked, so that a new one cannot
 * be forgotten.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { suite, test } from "node:test";
import type { z } from "zod";
import { canonicalConfig } from "../../src/config/index.ts";
import { keyMeta, valueTypeLabel } from "../../src/config/schema/keys.ts";
import { globalKeys, routeKeys } from "../../src/config/schema/schema.ts";
import { sectionShape } from "../../src/config/values/value-type.ts";
import { base, certificate, config, cookieSecret, goodRoute, parse, sharedSecret } from "./support.ts";

type Shape = Readonly<Record<string, z.ZodType>>;
type Key = Readonly<{ path: string; schema: z.ZodType }>;

function keysOf(shape: Shape, prefix = ""): readonly Key[] {
  return Object.entries(shape).flatMap(([key, schema]) => {
    const inner = sectionShape(schema);
    return inner === undefined ? [{ path: prefix + key, schema }] : keysOf(inner, `${prefix}${key}.`);
  });
}

const globals = keysOf(globalKeys);
const routeKeyList = keysOf(routeKeys);
const isMarked = ({ schema }: Key): boolean => keyMeta(schema).secretAt.length > 0;
const pathsOf = (keys: readonly Key[]): readonly string[] => keys.map(({ path }) => path).sort();

const pair = certificate(["app.example.com", "authenticate.example.com"]);
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const signingPem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
const bytes = (n: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * n + n) % 251)).toString("base64");
/** The distinctive part of a PEM: the lines between its first and last. */
const bodyLinesOf = (pem: string): readonly string[] => pem.trim().split("\n").slice(1, -1);

/**
 * A key with a secret: its value as in the environment (for a route as in the file), and the text that must not appear.
 */
type Plant = Readonly<{
  value: string;
  secrets: readonly string[];
  env?: Readonly<Record<string, string>>;
  files?: Readonly<Record<string, string>>;
}>;

const tls = { cert: pair.cert, key: pair.key };
const files = { "/k.pem": tls.key, "/c.pem": tls.cert };
const nats = { NATS_SERVERS: "tls://n:4222", NATS_USER: "cardea" };
const tracing = { OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_ENDPOINT: "https://otel.example.com" };
const decisions = { DECISION_API_ADDRESS: "127.0.0.1:9443" };

const plants: Readonly<Record<string, Plant>> = {
  certificate_key: { value: tls.key, secrets: bodyLinesOf(tls.key), env: { CERTIFICATE: tls.cert } },
  certificates: { value: '[{"cert":"/c.pem","key":"/k.pem"}]', secrets: bodyLinesOf(tls.key), files },
  shared_secret: { value: bytes(3), secrets: [bytes(3)] },
  shared_secret_previous: { value: bytes(5), secrets: [bytes(5)] },
  cookie_secret: { value: bytes(7), secrets: [bytes(7)] },
  cookie_secret_previous: { value: bytes(11), secrets: [bytes(11)] },
  signing_key: { value: signingPem, secrets: bodyLinesOf(signingPem) },
  signing_key_previous: { value: signingPem, secrets: bodyLinesOf(signingPem) },
  idp_client_secret: { value: "planted-idp", secrets: ["planted-idp"] },
  idp_request_params: { value: "hint=planted-param", secrets: ["planted-param"] },
  sign_in_providers: {
    value: JSON.stringify({
      one: {
        ...{ provider: "oidc", provider_url: "https://one.example.com", client_id: "c", client_secret: "planted-one" },
        request_params: { hint: "planted-hint" },
      },
      two: { provider: "oidc", provider_url: "https://two.example.com", client_id: "c", private_key: signingPem },
    }),
    secrets: ["planted-one", "planted-hint", ...bodyLinesOf(signingPem)],
  },
  directories: {
    value: JSON.stringify({
      one: { provider: "file", url: "https://one.example.com/x?key=planted-key", bearer_token: "planted-token" },
      two: { provider: "file", path: "/p.json", credentials: { secret: "planted-inner" } },
    }),
    secrets: ["planted-key", "planted-token", "planted-inner"],
  },
  databroker_storage_connection_string: {
    value: "postgres://cardea:planted-pg@db:5432/cardea",
    secrets: ["planted-pg"],
    env: { DATABROKER_STORAGE_TYPE: "postgres" },
  },
  "broker.tls_key_file": {
    value: "/k.pem",
    secrets: bodyLinesOf(tls.key),
    env: { BROKER_LISTEN: "127.0.0.1:5443", BROKER_TLS_CERT_FILE: "/c.pem" },
    files,
  },
  "nats.password": { value: "planted-nats", secrets: ["planted-nats"], env: nats },
  autocert_eab_mac_key: {
    value: Buffer.from("planted-mac-key-of-an-account").toString("base64url"),
    secrets: ["planted-mac-key-of-an-account"],
    env: { AUTOCERT: "true", AUTOCERT_EAB_KEY_ID: "kid", INSECURE_SERVER: "false" },
  },
  metrics_basic_auth: {
    value: Buffer.from("scraper:planted-metrics").toString("base64"),
    secrets: ["planted-metrics", "scraper:planted-metrics"],
  },
  metrics_certificate_key: { value: tls.key, secrets: bodyLinesOf(tls.key), env: { METRICS_CERTIFICATE: tls.cert } },
  otel_exporter_otlp_headers: { value: "authorization=planted-otel", secrets: ["planted-otel"], env: tracing },
  otel_exporter_otlp_traces_headers: { value: "authorization=planted-otel2", secrets: ["planted-otel2"], env: tracing },
  "decision_api.certificate_key": {
    value: tls.key,
    secrets: bodyLinesOf(tls.key),
    env: { ...decisions, DECISION_API_CERTIFICATE: tls.cert },
  },
  "decision_api.keys": {
    value: "todo=planted-key-planted-key-planted-key",
    secrets: ["planted-key"],
    env: decisions,
  },
  "audit.sinks": {
    value: JSON.stringify([
      { postgres: true, url: "host=db user=audit password=planted-audit dbname=audit" },
      { otlp: "https://otel.example.com", bearer_token: "planted-otlp-token", header_files: {} },
      { s3: "records", access_key_id: "key-1", secret_access_key: "planted-s3-secret" },
      {
        ...{ webhook: "https://siem.example.com/?key=planted-hook-query", secrets: [bytes(13)] },
        ...{ bearer_token: "planted-hook-token", headers: { "x-api-key": "planted-hook-header" } },
        ...{ tls_cert_file: "/c.pem", tls_key_file: "/k.pem" },
      },
    ]),
    secrets: [
      ...[
        "planted-audit",
        "planted-s3-secret",
        "planted-hook-query",
        "planted-hook-token",
        "planted-hook-header",
        bytes(13),
      ],
      ...bodyLinesOf(tls.key),
    ],
    files,
  },
  signal_transmitters: {
    value: JSON.stringify({
      okta: {
        ...{ issuer: "https://idp.example.com", audience: "https://us.example.com" },
        push_token: "planted-push-token-of-okta",
      },
      tool: {
        ...{ issuer: "https://tool.example.com", audience: "https://us.example.com", delivery: "poll" },
        access_token: "planted-access-token-of-tool",
      },
      other: {
        ...{ issuer: "https://other.example.com", audience: "https://us.example.com", client_id: "us" },
        ...{ client_secret: "planted client secret", token_url: "https://other.example.com/token" },
      },
    }),
    secrets: ["planted-push-token-of-okta", "planted-access-token-of-tool", "planted client secret"],
  },
  signal_receivers: {
    value: JSON.stringify({
      payroll: { audience: "https://payroll.example.com", token_sha256: "a1".repeat(32) },
      siem: { audience: "https://siem.example.com", client_id: "siem", client_secret_sha256: "b2".repeat(32) },
    }),
    secrets: ["a1".repeat(32), "b2".repeat(32)],
  },
  data_sources: {
    value:
      '[{"type":"hr","url":"https://hr.example.com/all?api_key=planted-query","headers":{"Authorization":"planted-header"}}]',
    secrets: ["planted-query", "planted-header"],
  },
};

const routePlants: Readonly<Record<string, Plant>> = {
  idp_client_secret: { value: '"planted-client"\n    idp_client_id: own', secrets: ["planted-client"] },
  set_request_headers: { value: '{Authorization: "Basic planted-basic"}', secrets: ["planted-basic"] },
  kubernetes_service_account_token: { value: '"planted-kubernetes"', secrets: ["planted-kubernetes"] },
  tls_client_key: {
    value: `${JSON.stringify(tls.key)}\n    tls_client_cert: ${JSON.stringify(tls.cert)}`,
    secrets: bodyLinesOf(tls.key),
  },
  regex_rewrite_substitution: {
    value: '"/api?key=planted-substitution"\n    regex_rewrite_pattern: "^/api"',
    secrets: ["planted-substitution"],
  },
  health_checks: {
    value: JSON.stringify([
      {
        ...{ timeout: "1s", interval: "5s", unhealthy_threshold: 2, healthy_threshold: 2 },
        http_health_check: {
          path: "/healthz?token=planted-path",
          request_headers_to_add: [{ header: { key: "X-Key", value: "planted-check" } }],
        },
      },
      {
        ...{ timeout: "1s", interval: "5s", unhealthy_threshold: 2, healthy_threshold: 2 },
        tcp_health_check: { send: { text: Buffer.from("AUTH planted-tcp").toString("hex") } },
      },
    ]),
    secrets: ["planted-path", "planted-check", "AUTH planted-tcp"],
  },
};

/** A secret as text, and in the encodings in which bytes may be written. */
function spellings(secret: string): readonly string[] {
  const all = [Buffer.from(secret), Buffer.from(secret, "base64")].flatMap((raw) =>
    (["base64", "base64url", "hex"] as const).map((form) => raw.toString(form)),
  );
  return [secret, encodeURIComponent(secret), ...all.filter((text) => text.length >= 8)];
}

function assertHidden(body: string, secrets: readonly string[]): void {
  for (const secret of secrets)
    for (const text of spellings(secret))
      assert.equal(body.includes(text), false, `the canonical configuration contains ${text}`);
}

const variable = (path: string): string => path.replaceAll(".", "_").toUpperCase();
/** What is shown of a configuration: its body, and its settings. */
const bodyOf = (plant: Plant, env: Readonly<Record<string, string>>, text = base + goodRoute): string => {
  const read = config(text, { env: { ...plant.env, ...env }, files: plant.files ?? {} });
  return canonicalConfig(read) + JSON.stringify(read.settings);
};

suite("no secret appears in the canonical configuration", () => {
  test("every key that the schema marks is tested here", () => {
    assert.deepEqual(Object.keys(plants).sort(), pathsOf(globals.filter(isMarked)));
    assert.deepEqual(Object.keys(routePlants).sort(), pathsOf(routeKeyList.filter(isMarked)));
  });

  for (const [path, plant] of Object.entries(plants)) {
    test(path, () => {
      const body = bodyOf(plant, { [variable(path)]: plant.value });
      assertHidden(body, plant.secrets);
      assert.match(body, /hmac-sha256:/);
    });
    if (globals.some((key) => key.path === `${path}_file`))
      test(`${path}_file`, () => {
        const planted = { ...plant, files: { ...plant.files, "/planted": plant.value } };
        const own = base.replace(new RegExp(`^${path}: .*\n`, "m"), "");
        assertHidden(bodyOf(planted, { [`${variable(path)}_FILE`]: "/planted" }, own + goodRoute), plant.secrets);
      });
  }

  for (const [key, plant] of Object.entries(routePlants))
    test(`${key} of a route`, () => {
      const body = bodyOf(plant, {}, `${base}${goodRoute}    ${key}: ${plant.value}\n`);
      assertHidden(body, plant.secrets);
      assert.match(body, /hmac-sha256:/);
    });

  test("a private key in the same file as its certificate", () => {
    const both = { ...files, "/c.pem": `${tls.cert}${tls.key}` };
    const body = bodyOf({ value: "", secrets: [], files: both }, { CERTIFICATES: plants["certificates"]?.value ?? "" });
    assertHidden(body, bodyLinesOf(tls.key));
    assert.ok(body.includes(bodyLinesOf(tls.cert)[3] ?? "?"), "the certificate itself is visible");
  });

  test("credentials in a URL", () => {
    const text = `${base}signout_redirect_url: https://www.example.com/bye?t=planted-signout#planted-hash\n${goodRoute}    logo_url: https://blob.example.com/wiki.svg?sig=planted-signature\n`;
    const body = bodyOf({ value: "", secrets: [] }, {}, text);
    assertHidden(body, ["planted-signout", "planted-hash", "planted-signature"]);
    assert.match(body, /https:\/\/blob\.example\.com\/wiki\.svg\?hmac-sha256:/);
  });
});

suite("secrets are compared by their digest", () => {
  const digests = (text: string): readonly string[] =>
    canonicalConfig(config(text)).match(/hmac-sha256:[\w-]{43}/g) ?? [];
  const headers = (shared: string, one: string, two: string): readonly string[] =>
    digests(`${base.replace(sharedSecret, shared)}${goodRoute}    set_request_headers: {A: ${one}, B: ${two}}\n`);

  test("equal secrets have one digest, different ones different digests", () => {
    const same = headers(sharedSecret, "planted", "planted");
    const other = headers(sharedSecret, "planted", "different");
    assert.equal(new Set(same).size, same.length - 1);
    assert.equal(new Set(other).size, other.length);
  });
  test("without shared_secret a digest cannot be matched to its secret", () =>
    assert.equal(
      headers(sharedSecret, "planted", "planted").some((digest) => headers(bytes(13), "planted", "x").includes(digest)),
      false,
    ));
  test("the key of the digests appears as a digest itself", () =>
    assertHidden(canonicalConfig(config(base + goodRoute)), [sharedSecret, cookieSecret]));
});

/** Keys with free text that every reader of the configuration may see. */
const visible: ReadonlySet<string> = new Set([
  ...["certificate", "certificate_authority", "idp_client_id", "idp_scopes", "groups_from_claim", "administrators"],
  ...["operators", "viewers"],
  "default_sign_in_providers",
  ...["organization_name", "error_message_first_paragraph", "support.label"],
  ...["audit.query", "audit.headers", "audit.redact_path"],
  ...["programmatic_redirect_domain_whitelist", "cookie_domain", "allow_upgrades", "broker.tls_ca", "nats.servers"],
  "broker.homes",
  ...["nats.user", "nats.placement_cluster", "nats.tls_ca", "jwt_claims_headers", "jwt_groups_filter"],
  ...["set_response_headers", "idp_access_token_allowed_audiences", "metrics_certificate", "metrics_client_ca"],
  ...["otel_resource_attributes", "autocert_email", "autocert_eab_key_id", "autocert_trusted_ca"],
  ...[
    "decision_api.certificate",
    "decision_api.client_ca",
    "decision_api.trusted_proxies",
    "decision_api.lists_people",
  ],
  ...["decision_api.subject_issuer", "downstream_mtls.ca", "downstream_mtls.crl", "host_aliases"],
  ...["decision_api.resources", "downstream_mtls.match_subject_alt_names", "identity_providers", "scim_clients"],
]);
const visibleRouteKeys: ReadonlySet<string> = new Set([
  ...[
    "from",
    "name",
    "description",
    "owner",
    "route_groups",
    "request_access",
    "response.body",
    "host_rewrite_header",
    "host_path_regex_rewrite_substitution",
  ],
  ...["policy", "shadow_policy", "sub_policies", "allowed_users", "allowed_domains", "allowed_idp_claims"],
  ...["idp_client_id", "idp_access_token_allowed_audiences", "identity_providers", "jwt_groups_filter"],
  ...["set_response_headers", "rewrite_response_headers", "remove_request_headers", "allow_upgrades", "tls_custom_ca"],
  ...["tls_client_cert", "tls_downstream_client_ca", "depends_on", "to", "sign_in_providers"],
  ...["audit_query", "audit_headers", "audit_redact_path"],
]);

/**
 * Kinds of free text, and lists and mappings of it. The other kinds have a fixed form.
 */
const freeText = /^(?:secret text|text$|mapping of|list of)/;
const fixedForm = /^(?:list of (?:URL|services|field|\{file)|mapping of flag)/;

suite("every key with free text is secret or listed as visible", () => {
  for (const [keys, visibleKeys] of [
    [globals, visible],
    [routeKeyList, visibleRouteKeys],
  ] as const) {
    for (const key of keys) {
      const label = valueTypeLabel(key.schema);
      const lastPart = key.path.split(".").at(-1) ?? "";
      const secretFile = key.path.endsWith("_file") ? keys.find(({ path }) => `${path}_file` === key.path) : undefined;
      if (label === "file") {
        if (/key|secret|token|password|connection/.test(lastPart))
          test(`${key.path}: the file's content is known to be secret`, () =>
            assert.ok(
              isMarked(key) || (secretFile !== undefined && isMarked(secretFile)) || visibleKeys.has(key.path),
            ));
        continue;
      }
      if (!freeText.test(label) || fixedForm.test(label)) continue;
      test(`${key.path}: ${isMarked(key) ? "is secret" : "may be shown"}`, () => {
        const remedy = "mark it with secret or secretParts in the schema, or name it here as one that may be shown";
        assert.ok(
          isMarked(key) !== visibleKeys.has(key.path),
          `it is not stated whether ${key.path} is secret: ${remedy}`,
        );
        if (label === "secret text")
          assert.ok(isMarked(key), `${key.path} is secret text, and the schema does not mark it`);
      });
    }
  }

  test("every name listed here is a key", () => {
    for (const [keys, visibleKeys] of [
      [globals, visible],
      [routeKeyList, visibleRouteKeys],
    ] as const)
      assert.deepEqual(
        [...visibleKeys].filter((name) => !keys.some(({ path }) => path === name)),
        [],
      );
  });
  test("a URL with a user name and a password is refused", () => {
    assert.equal(parse(`${base}idp_provider_url: https://u:planted@idp.example.com\n${goodRoute}`).ok, false);
    assert.equal(parse(base + goodRoute.replace("http://127", "http://u:planted@127")).ok, false);
  });
});
