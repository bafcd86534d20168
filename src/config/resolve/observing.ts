/**
 * Observability settings: the access log, the protection of the metrics endpoint, and the destination of traces.
 *
 * Pure. Refuses a client authority without TLS, and a malformed password.
 */
import type { Config, TracingConfig } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import {
  type AccessLogField,
  type AuthorizeLogField,
  isHiddenAccessLogField,
  isHiddenLogField,
} from "../values/log-fields.ts";
import { isLoopback } from "../values/network-values.ts";
import type { KeyMaterial } from "./key-material.ts";

type Given = Readonly<{ report: ProblemReporter; material: KeyMaterial; failed: ReadonlySet<string> }>;

export function resolveObserving(
  globals: Globals,
  given: Given,
): Pick<Config, "accessLogFields" | "authorizeLogFields" | "metrics" | "tracing"> {
  const metrics = resolveMetrics(globals, given);
  const { metrics_address: address } = globals;
  if (address !== null && metrics.basicAuth !== null && metrics.tls === null && !isLoopback(address.host)) {
    given.report.warn(
      ["metrics_basic_auth"],
      "the password crosses the network in plain HTTP",
      "set metrics_certificate",
      "key",
    );
  }
  const open = metrics.basicAuth === null && metrics.clientCa === null;
  if (address !== null && open && !isLoopback(address.host)) {
    given.report.warn(
      ["metrics_address"],
      "metrics can be read from other machines without a password",
      "set metrics_basic_auth or metrics_client_ca, or bind it to loopback or to a private network",
    );
  }
  return {
    accessLogFields: resolveAccessLog(globals, given),
    authorizeLogFields: resolveAuthorizeLog(globals, given),
    metrics,
    tracing: resolveTracing(globals, given),
  };
}

function resolveAccessLog({ access_log_fields: fields }: Globals, { report }: Given): Config["accessLogFields"] {
  for (const [i, name] of fields.entries())
    if (isHiddenAccessLogField(name))
      report.warn(
        ["access_log_fields", i],
        `${name} is a field of Envoy's that this build does not write`,
        "leave it out",
      );
  return fields.filter((name): name is AccessLogField => !isHiddenAccessLogField(name));
}

function resolveAuthorizeLog(
  { authorize_log_fields: fields }: Globals,
  { report }: Given,
): Config["authorizeLogFields"] {
  for (const [i, name] of (fields ?? []).entries()) {
    if (isHiddenLogField(name))
      report.warn(
        ["authorize_log_fields", i],
        `${name} is never logged`,
        name === "id-token" ? "use id-token-claims, or leave it out" : "leave it out",
      );
  }
  return fields?.filter((name): name is AuthorizeLogField => !isHiddenLogField(name)) ?? null;
}

function resolveMetrics(globals: Globals, { report, material }: Given): Config["metrics"] {
  const tls = material.pair(
    material.textOrFile(globals, { key: "metrics_certificate", secrecy: "public" }),
    material.textOrFile(globals, { key: "metrics_certificate_key", secrecy: "secret" }),
    ["metrics_certificate"],
  );
  const clientCa = material.authorities(material.textOrFile(globals, { key: "metrics_client_ca", secrecy: "public" }));
  if (clientCa !== null && tls === null)
    report.error(
      ["metrics_client_ca"],
      "requests client certificates, and the metrics are served without TLS",
      "set metrics_certificate and metrics_certificate_key",
      "key",
    );
  return { basicAuth: resolveBasicAuth(globals, report), tls, clientCa };
}

function resolveBasicAuth({ metrics_basic_auth: written }: Globals, report: ProblemReporter): string | null {
  if (written === undefined) return null;
  const text = Buffer.from(written.trim(), "base64").toString("utf8");
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(written.trim()) || !/^[^:]+:./s.test(text)) {
    report.error(
      ["metrics_basic_auth"],
      "is not base64 of user:password",
      "make it with: printf %s user:password | base64",
    );
    return null;
  }
  return text;
}

function resolveTracing(globals: Globals, { report }: Given): TracingConfig | null {
  const own = globals.otel_exporter_otlp_traces_endpoint;
  const common = globals.otel_exporter_otlp_endpoint;
  if (globals.otel_traces_exporter === "none") {
    if (own !== undefined || common !== undefined)
      report.warn(
        [own === undefined ? "otel_exporter_otlp_endpoint" : "otel_exporter_otlp_traces_endpoint"],
        "has no effect: no traces are exported",
        "set otel_traces_exporter: otlp",
        "key",
      );
    return null;
  }
  const protocol =
    globals.otel_exporter_otlp_traces_protocol ??
    globals.otel_exporter_otlp_protocol ??
    guessedProtocol(own ?? common, own !== undefined);
  const headers =
    Object.keys(globals.otel_exporter_otlp_traces_headers).length > 0
      ? globals.otel_exporter_otlp_traces_headers
      : globals.otel_exporter_otlp_headers;
  const endpoint = own ?? endpointFor(protocol, common);
  if (Object.keys(headers).length > 0 && endpoint.protocol === "http:" && !isLoopback(endpoint.hostname))
    report.warn(
      [own === undefined ? "otel_exporter_otlp_endpoint" : "otel_exporter_otlp_traces_endpoint"],
      "is plain HTTP, so anyone on the network path can read the headers sent with the traces",
      "use https",
    );
  return {
    endpoint,
    protocol,
    headers,
    timeoutMs: globals.otel_exporter_otlp_traces_timeout ?? globals.otel_exporter_otlp_timeout,
    share: globals.otel_traces_sampler_arg,
    resource: globals.otel_resource_attributes,
    batch: {
      delayMs: globals.otel_bsp_schedule_delay,
      timeoutMs: globals.otel_bsp_export_timeout,
      spansMax: globals.otel_bsp_max_export_batch_size,
    },
    valueLengthMax: globals.otel_attribute_value_length_limit ?? null,
    logLevel: globals.otel_log_level,
  };
}

/**
 * Guesses the OTLP protocol as Pomerium does: port 4318 is HTTP and 4317 is gRPC. Otherwise the path decides: a traces
 * endpoint (`isOwn`) with a path is HTTP, and a common endpoint with a path is gRPC.
 */
function guessedProtocol(endpoint: URL | undefined, isOwn: boolean): TracingConfig["protocol"] {
  if (endpoint === undefined || endpoint.port === "4318") return "http/protobuf";
  if (endpoint.port === "4317") return "grpc";
  const hasPath = endpoint.pathname.replaceAll("/", "") !== "";
  return hasPath === isOwn ? "http/protobuf" : "grpc";
}

function endpointFor(protocol: TracingConfig["protocol"], base: URL | undefined): URL {
  if (protocol === "grpc") return base ?? new URL("http://localhost:4317");
  const url = new URL(base ?? "http://localhost:4318");
  url.pathname = `${url.pathname.replace(/\/+$/, "")}/v1/traces`;
  return url;
}
