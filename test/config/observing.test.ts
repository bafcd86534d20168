/** The keys of access log, metrics and traces: their effect, and the refused values. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { base, certificate, config, errors, goodRoute, parse, warnings } from "./support.ts";

const file = (lines: string): string => `${base}${lines}\n${goodRoute}`;

suite("the access log", () => {
  test("has Pomerium's fields by default", () => {
    assert.deepEqual(config(file("")).accessLogFields, [
      ...["upstream-cluster", "method", "authority", "path", "user-agent", "referer", "forwarded-for", "request-id"],
      ...["duration", "size", "response-code", "response-code-details"],
    ]);
  });
  test("has the named fields, also from the environment; an empty list means none", () => {
    const named = config(file("access_log_fields: [path, headers.X-Own, trace-id, path]"));
    assert.deepEqual(named.accessLogFields, ["path", "headers.X-Own", "trace-id"]);
    assert.deepEqual(config(file(""), { env: { ACCESS_LOG_FIELDS: "path,ip" } }).accessLogFields, ["path", "ip"]);
    assert.deepEqual(config(file("access_log_fields: []")).accessLogFields, []);
  });
  test("refuses unknown fields", () => {
    assert.deepEqual(errors(file("access_log_fields: [path, methd]")), [
      'c.yaml:11:27: access_log_fields[1]: "methd" is not a field of the access log; did you mean method?',
    ]);
  });
});

suite("metrics", () => {
  const pair = certificate(["localhost"]);
  const files = { "cert.pem": pair.cert, "key.pem": pair.key, "ca.pem": pair.cert };
  const secured = "metrics_certificate_file: cert.pem\nmetrics_certificate_key_file: key.pem";

  test("have no password and no TLS by default", () => {
    assert.deepEqual(config(file("")).metrics, { basicAuth: null, tls: null, clientCa: null });
  });
  test("may have a password, a certificate, and a certificate authority for callers", () => {
    const written = `metrics_basic_auth: cHJvbTpzZWNyZXQ=\n${secured}\nmetrics_client_ca_file: ca.pem\nmetrics_address: :9902`;
    const { metrics } = config(file(written), { files });
    assert.equal(metrics.basicAuth, "prom:secret");
    assert.equal(metrics.tls?.cert.trim(), pair.cert.trim());
    assert.equal(metrics.clientCa?.trim(), pair.cert.trim());
    assert.deepEqual(
      warnings(file(written), { files }).filter((line) => line.includes("metrics")),
      [],
    );
  });
  test("require a valid password, TLS for client certificates, and a key for the certificate", () => {
    assert.match(
      errors(file("metrics_basic_auth: prom:secret"))[0] ?? "",
      /metrics_basic_auth: is not base64 of user:password/,
    );
    assert.match(
      errors(file("metrics_client_ca_file: ca.pem"), { files })[0] ?? "",
      /metrics_client_ca: requests client cert/,
    );
    assert.match(errors(file("metrics_certificate_file: cert.pem"), { files })[0] ?? "", /is set without a key/);
  });
  test("warn of a password that travels in clear", () => {
    const [line = ""] = warnings(file("metrics_address: :9902\nmetrics_basic_auth: cHJvbTpzZWNyZXQ=")).filter((each) =>
      each.includes("metrics"),
    );
    assert.match(line, /metrics_basic_auth: the password crosses the network in plain HTTP; set metrics_certificate/);
  });
  test("change the hash of the configuration with another password", () => {
    const one = parse(file("metrics_basic_auth: cHJvbTpzZWNyZXQ="));
    const other = parse(file("metrics_basic_auth: cHJvbTpvdGhlcg=="));
    assert.ok(one.ok && other.ok);
    assert.notEqual(one.config.hash, other.config.hash);
  });
});

suite("traces", () => {
  const otlp = "otel_traces_exporter: otlp\n";

  test("are off by default", () => {
    assert.equal(config(file("")).tracing, null);
    assert.equal(config(file("otel_traces_exporter: none")).tracing, null);
    assert.match(
      warnings(file("otel_exporter_otlp_endpoint: http://127.0.0.1:4318")).join(),
      /has no effect: no traces are exported; set otel_traces_exporter: otlp/,
    );
  });
  test("go to the standard endpoint, with all requests sampled", () => {
    const { tracing } = config(file(otlp));
    assert.equal(tracing?.endpoint.href, "http://localhost:4318/v1/traces");
    const { protocol, timeoutMs, share, batch } = tracing ?? {};
    assert.deepEqual([protocol, timeoutMs, share], ["http/protobuf", 10_000, 1]);
    assert.deepEqual(batch, { delayMs: 5_000, timeoutMs: 30_000, spansMax: 512 });
  });
  test("take every setting from the file or the standard variables", () => {
    const written = `${otlp}otel_exporter_otlp_headers: [Authorization=Bearer x=y]
otel_exporter_otlp_timeout: 2000
otel_traces_sampler_arg: 0.25
otel_resource_attributes: {service.name: edge}
otel_attribute_value_length_limit: 100
otel_log_level: debug`;
    const { tracing } = config(file(written), { env: { OTEL_EXPORTER_OTLP_ENDPOINT: "https://collector:4318/base/" } });
    assert.equal(tracing?.endpoint.href, "https://collector:4318/base/v1/traces");
    const { headers, timeoutMs, share, resource, valueLengthMax, logLevel } = tracing ?? {};
    assert.deepEqual(headers, { Authorization: "Bearer x=y" });
    assert.deepEqual([timeoutMs, share, valueLengthMax, logLevel], [2_000, 0.25, 100, "debug"]);
    assert.deepEqual(resource, { "service.name": "edge" });
  });

  const guesses = [
    ["otel_exporter_otlp_endpoint: http://127.0.0.1:4317", "grpc", "http://127.0.0.1:4317/"],
    ["otel_exporter_otlp_endpoint: http://127.0.0.1:4318", "http/protobuf", "http://127.0.0.1:4318/v1/traces"],
    ["otel_exporter_otlp_endpoint: http://127.0.0.1:80", "http/protobuf", "http://127.0.0.1/v1/traces"],
    ["otel_exporter_otlp_endpoint: http://127.0.0.1:80/otlp", "grpc", "http://127.0.0.1/otlp"],
    ["otel_exporter_otlp_traces_endpoint: http://127.0.0.1:80", "grpc", "http://127.0.0.1/"],
    ["otel_exporter_otlp_traces_endpoint: http://127.0.0.1:80/in", "http/protobuf", "http://127.0.0.1/in"],
    ["otel_exporter_otlp_protocol: grpc", "grpc", "http://localhost:4317/"],
    ["otel_exporter_otlp_protocol: http/json", "http/json", "http://localhost:4318/v1/traces"],
  ] as const;
  for (const [line, protocol, endpoint] of guesses) {
    test(`${line} selects ${protocol} to ${endpoint}`, () => {
      const { tracing } = config(file(otlp + line));
      assert.deepEqual([tracing?.protocol, tracing?.endpoint.href], [protocol, endpoint]);
    });
  }

  test("warn of a token over plain HTTP, and refuse invalid settings", () => {
    const written = `${otlp}otel_exporter_otlp_endpoint: http://collector:4318\notel_exporter_otlp_headers: a=b`;
    assert.match(
      warnings(file(written)).join(),
      /otel_exporter_otlp_endpoint: is plain HTTP, so anyone on the network path/,
    );
    assert.match(
      errors(file("otel_traces_exporter: zipkin")).join(),
      /"zipkin" is not known here; write one of none, otlp/,
    );
    assert.match(errors(file("otel_traces_sampler_arg: 2")).join(), /is not a share from 0 to 1/);
    assert.match(errors(file("otel_exporter_otlp_headers: [x]")).join(), /an item is not key=value; write name=value/);
    assert.match(errors(file("tracing_provider: zipkin")).join(), /use otel_traces_exporter/);
  });
});
