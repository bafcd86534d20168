/** `audit.sinks` that send over HTTP: what they accept and refuse, where secrets come from, and where they never go. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { canonicalConfig, parseConfig } from "../../src/config/index.ts";
import { Authority } from "../support/pki.ts";

const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");
const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const url = "https://siem.example.com/cardea";

function parse(sinks: unknown, files: Readonly<Record<string, string>> = {}) {
  const config = {
    ...{ authenticate_service_url: "https://authenticate.example.com", shared_secret: secret(3) },
    ...{ cookie_secret: secret(5), idp_provider: "oidc", idp_provider_url: "https://login.example.com" },
    ...{ idp_client_id: "cardea", idp_client_secret: "secret", insecure_server: true, routes: [] },
    audit: { sinks },
  };
  return parseConfig(JSON.stringify(config), "cardea.yaml", {
    env: {},
    readFile: (path) =>
      files[path] === undefined ? { ok: false, reason: "no such file" } : { ok: true, text: files[path], mode: 0o600 },
  });
}

function problemsOf(sinks: unknown, files: Readonly<Record<string, string>> = {}): string {
  const parsed = parse(sinks, files);
  return (parsed.ok ? parsed.warnings : parsed.problems)
    .filter(({ key }) => key.startsWith("audit"))
    .map(({ key, problem, remedy }) => `${key} ${problem}; ${remedy}`)
    .join("\n");
}

function accepted(sinks: unknown, files: Readonly<Record<string, string>> = {}) {
  const parsed = parse(sinks, files);
  assert.ok(parsed.ok, parsed.ok ? "" : JSON.stringify(parsed.problems));
  return parsed.config.audit;
}

describe("a webhook", () => {
  test("needs an address and a secret, and has defaults for the rest", () => {
    const [hook] = accepted([{ webhook: url, secrets: [whsec] }]).webhooks;
    assert.equal(hook?.name, "webhook siem.example.com");
    assert.deepEqual(hook?.secrets, [new Uint8Array(Buffer.from(whsec.slice(6), "base64"))]);
    assert.deepEqual(hook?.batch, { bytesMax: 262_144, recordsMax: 1_000, lingerMs: 1_000 });
    assert.deepEqual([hook?.format, hook?.body, hook?.endpoint.timeoutMs], ["json", "lines", 10_000]);
  });

  test("takes secrets from files, also several, for their change", async () => {
    const authority = await Authority.root();
    const { cert, key } = await authority.issue({ name: "cardea", usage: "client" });
    const files = {
      ...{ "/new": `${whsec}\n`, "/old": secret(7), "/token": "token-1\n", "/api-key": "key-1\n" },
      ...{ "/ca": authority.pem, "/cert": cert, "/key": key },
    };
    const written = {
      ...{ webhook: url, name: "siem", secret_files: ["/new", "/old"], bearer_token_file: "/token" },
      ...{ header_files: { "DD-API-KEY": "/api-key" }, headers: { "x-source": "cardea" } },
      ...{ tls_ca_file: "/ca", tls_cert_file: "/cert", tls_key_file: "/key", timeout: "3s" },
      ...{ batch_bytes: 1_000_000, batch_records: 50, batch_wait: "5s", format: "cloudevents" },
    };
    const [hook] = accepted([written], files).webhooks;
    assert.equal(hook?.name, "webhook siem");
    assert.equal(hook?.secrets.length, 2);
    assert.equal(hook?.body, "array");
    assert.deepEqual(hook?.batch, { bytesMax: 1_000_000, recordsMax: 50, lingerMs: 5_000 });
    assert.deepEqual(hook?.endpoint.headers, {
      ...{ "x-source": "cardea", "DD-API-KEY": "key-1", authorization: "Bearer token-1" },
    });
    assert.deepEqual(hook?.endpoint.tls, { cert, key });
    assert.equal(hook?.endpoint.ca?.trim(), authority.pem.trim());
  });

  test("is refused with the key and the remedy", () => {
    const table: readonly (readonly [object, RegExp])[] = [
      [{ webhook: "siem" }, /sinks\[0\]\.webhook "siem" is not a URL/],
      [{ webhook: url }, /sinks\[0\]\.webhook has no secret, so its receiver cannot tell.*; write secret_files/],
      [{ webhook: url, secrets: ["short"] }, /secrets\[0\] is not a secret of a webhook; write whsec_ and base64/],
      [{ webhook: url, secrets: new Array(6).fill(whsec) }, /secrets has 6 secrets; keep 5 at most/],
      [{ webhook: url, secret_files: ["/none"] }, /secret_files\[0\] the file \/none cannot be read: no such file/],
      [{ webhook: url, secret_files: ["/bad"] }, /secret_files\[0\] the file \/bad has no secret of a webhook/],
      [
        { webhook: url, bearer_token: "a", bearer_token_file: "/b" },
        /bearer_token has no effect with bearer_token_file/,
      ],
      [{ webhook: url, bearer_token_file: "/lines" }, /bearer_token_file is not one line of ASCII, so no header can/],
      [{ webhook: url, bearer_token: "a\nb" }, /bearer_token is not one line of ASCII/],
      [{ webhook: url, headers: { "x-key": "schlüssel" } }, /headers\.x-key is not one line of ASCII/],
      [
        { webhook: url, bearer_token: "a", headers: { Authorization: "b" } },
        /the header authorization is written twice/,
      ],
      [
        { webhook: url, secrets: [whsec], headers: { "Webhook-Id": "b" } },
        /headers\.Webhook-Id is a header that the sink/,
      ],
      [{ webhook: "http://siem/", bearer_token: "a" }, /its credentials would cross the network in clear; use https/],
      [{ webhook: "http://127.0.0.1/", secrets: [whsec], tls_ca_file: "/ca" }, /the keys of TLS have no effect/],
      [{ webhook: url, secrets: [whsec], tls_cert_file: "/ca" }, /tls_cert_file.* is set without a key/],
      [{ webhook: url, secrets: [whsec], tls_ca: "x" }, /tls_ca contains no readable certificate/],
      [{ webhook: url, secrets: [whsec], batch_wait: "2h" }, /batch_wait 2h is too long; write 1h or less/],
      [
        { webhook: url, secrets: [whsec], format: "cloudevents", body: "lines" },
        /body is not how a batch of CloudEvents/,
      ],
      [{ webhook: url, secrets: [whsec], name: "My SIEM" }, /name "My SIEM" is not a name of up to 40/],
      [{ webhook: url, secret: "x" }, /secret is not a known key; did you mean secrets\?/],
      [{ webhook: url, secrets: [whsec], file: "a" }, /a mapping is not a sink/],
    ];
    const files = { "/bad": "x", "/lines": "a\nb", "/ca": "x" };
    for (const [item, expected] of table) assert.match(problemsOf([item], files), expected, JSON.stringify(item));
  });

  test("in plain HTTP to another machine is a warning: records cross the network in clear", () => {
    assert.match(
      problemsOf([{ webhook: "http://siem/", secrets: [whsec] }]),
      /sinks\[0\] is reached without TLS; use https/,
    );
    assert.equal(problemsOf([{ webhook: "http://127.0.0.1:8080/", secrets: [whsec] }]), "");
  });
});

describe("OpenTelemetry", () => {
  test("needs an address, and adds the path of the protocol", () => {
    const [first, second] = accepted([
      { otlp: "https://otel.example.com" },
      { otlp: "http://127.0.0.1:4318/custom", name: "local", encoding: "json", compression: "none" },
    ]).otlp;
    assert.equal(first?.endpoint.url.href, "https://otel.example.com/v1/logs");
    assert.deepEqual([first?.name, first?.encoding, first?.compression], ["otlp otel.example.com", "protobuf", "gzip"]);
    assert.equal(second?.endpoint.url.href, "http://127.0.0.1:4318/custom");
    assert.deepEqual([second?.name, second?.encoding, second?.compression], ["otlp local", "json", "none"]);
  });

  test("takes credentials from files, and is refused with the key and the remedy", () => {
    const [one] = accepted([{ otlp: "https://otel/", header_files: { "api-key": "/key" } }], {
      "/key": "key-1\n",
    }).otlp;
    assert.deepEqual(one?.endpoint.headers, { "api-key": "key-1" });
    assert.match(problemsOf([{ otlp: "otel:4317" }]), /sinks\[0\]\.otlp the scheme otel cannot be used here/);
    assert.match(
      problemsOf([{ otlp: "https://otel/", encoding: "grpc" }]),
      /encoding "grpc" is not known here; write one of/,
    );
    assert.match(problemsOf([{ otlp: "http://otel/", bearer_token: "a" }]), /its credentials would cross the network/);
  });
});

describe("object storage", () => {
  test("needs a bucket, and finds credentials by itself", () => {
    const [bucket] = accepted([{ s3: "audit-records" }]).s3;
    assert.deepEqual(
      { ...bucket, batch: undefined },
      {
        ...{ name: "s3 audit-records", format: "json", bucket: "audit-records", prefix: "", region: "us-east-1" },
        ...{ endpoint: null, pathStyle: false, compression: "gzip", encryption: null, encryptionKeyId: null },
        ...{ timeoutMs: 60_000, credentials: null, ca: null, batch: undefined },
      },
    );
    assert.deepEqual(bucket?.batch, { bytesMax: 8_388_608, recordsMax: 1_000_000, lingerMs: 60_000 });
  });

  test("takes credentials from a file, and the place of another store", async () => {
    const { pem } = await Authority.root();
    const written = {
      ...{ s3: "records", prefix: "cardea/audit/", endpoint: "https://minio.internal:9000", region: "eu-1" },
      ...{ access_key_id: "key-1", secret_access_key_file: "/secret", tls_ca_file: "/ca", compression: "zstd" },
      ...{ encryption: "aws:kms", encryption_key_id: "key-2", timeout: "5s", batch_wait: "5m" },
    };
    const [bucket] = accepted([written], { "/secret": "secret-1\n", "/ca": pem }).s3;
    assert.equal(bucket?.prefix, "cardea/audit");
    assert.equal(bucket?.pathStyle, true);
    assert.deepEqual(bucket?.credentials, { accessKeyId: "key-1", secretAccessKey: "secret-1" });
    assert.equal(bucket?.batch.lingerMs, 300_000);
  });

  test("is refused with the key and the remedy", () => {
    const table: readonly (readonly [object, RegExp])[] = [
      [{ s3: true }, /sinks\[0\]\.s3 true is not a bucket; write its name, such as - s3: audit-records/],
      [{ s3: "A_B" }, /s3 "A_B" is not a bucket/],
      [{ s3: "abc", endpoint: "http://minio:9000" }, /endpoint is plain HTTP, so anyone on the network path can read/],
      [{ s3: "abc", endpoint: "https://minio/path" }, /endpoint "https:\/\/minio\/path" has a path/],
      [
        { s3: "abc", access_key_id: "a" },
        /access_key_id has only one half of the credentials; write access_key_id with/,
      ],
      [{ s3: "abc", secret_access_key: "a" }, /secret_access_key has only one half/],
      [{ s3: "abc", encryption_key_id: "a" }, /encryption_key_id has no effect without encryption: aws:kms/],
      [{ s3: "abc", compression: "lz4" }, /compression "lz4" is not known here; write one of gzip, zstd, none/],
      [{ s3: "abc", prefix: "/a" }, /prefix "\/a" is not a prefix of keys/],
      [{ s3: "abc", batch_bytes: 1e9 }, /batch_bytes 1000000000 is not a whole number from 1024 to 67108864/],
    ];
    for (const [item, expected] of table) assert.match(problemsOf([item]), expected, JSON.stringify(item));
  });
});

test("two sinks of one name are refused, because a cursor is kept under it", () => {
  const [one, other] = [
    { webhook: url, secrets: [whsec] },
    { webhook: `${url}/2`, secrets: [whsec] },
  ];
  assert.match(
    problemsOf([one, other]),
    /sinks\[1\] has the name of another sink, webhook siem\.example\.com; write a name/,
  );
  assert.equal(problemsOf([one, { ...other, name: "second" }]), "");
});

test("no secret is in the stored configuration or in a message", () => {
  const [token, apiKey, query] = ["token-with-letters", "key-with-letters", "query-with-letters"];
  const sinks = [
    { webhook: `${url}?token=${query}`, secrets: [whsec], bearer_token: token, headers: { "x-api-key": apiKey } },
  ];
  const parsed = parse(sinks);
  assert.ok(parsed.ok);
  const shown = canonicalConfig(parsed.config);
  for (const each of [token, apiKey, query, whsec.slice(6)]) assert.ok(!shown.includes(each), each);
  assert.match(shown, /"secrets":\["hmac-sha256:/);
  for (const wrong of [
    { name: "A b" },
    { headers: { "x-api-key": apiKey, "X-Api-Key": apiKey } },
    { secrets: [`${whsec}!`] },
  ])
    assert.doesNotMatch(problemsOf([{ ...sinks[0], ...wrong }]), /with-letters|MfKQ/);
});

test("a configuration without new kinds of sinks keeps its hash", () => {
  const body = (sinks: unknown): string => {
    const parsed = parse(sinks);
    assert.ok(parsed.ok);
    return canonicalConfig(parsed.config);
  };
  assert.match(body([{ file: "a.jsonl" }]), /"files":\[\{"format":"json","path":"a\.jsonl"\}\]/);
  assert.doesNotMatch(body([{ file: "a.jsonl" }]), /rotation|webhooks/);
  assert.match(body([{ file: "a.jsonl", rotate: {} }]), /"rotation":\{/);
});
