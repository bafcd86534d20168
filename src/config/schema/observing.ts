/** Schema of observability: access log, metrics and traces. In the order of the documentation. */

import {
  type AccessLogField,
  type AuthorizeLogField,
  defaultAccessLogFields,
  defaultAuthorizeLogFields,
  type HiddenAccessLogField,
  type HiddenLogField,
  isAccessLogField,
  isAuthorizeLogField,
  isHiddenAccessLogField,
  isHiddenLogField,
  otherAuthorizeLogFields,
  ownAccessLogFields,
  pomeriumAccessLogFields,
} from "../values/log-fields.ts";
import { url } from "../values/network-values.ts";
import { suggest } from "../values/suggest.ts";
import {
  enumValue,
  filePath,
  formatValue,
  fraction,
  integer,
  isPlainObject,
  isRefused,
  parseStringList,
  parseStringMap,
  secretString,
  stringValue,
  type ValueType,
  valueType,
} from "../values/value-type.ts";
import { pomerium } from "./keys.ts";

const http = { schemes: ["https", "http"] } as const;

/** A list of names, each known to be a field. */
const fields = <Field extends string>(
  ofLog: string,
  known: readonly string[],
  isField: (name: string) => name is Field,
): ValueType<readonly Field[]> =>
  valueType(
    { label: "list of field", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list = parseStringList(value, refuse);
      if (isRefused(list)) return list;
      const found: Field[] = [];
      for (const [i, name] of list.entries()) {
        if (isField(name)) {
          found.push(name);
          continue;
        }
        const near = suggest(name, known);
        return refuse(
          `${formatValue(name)} is not a field of the ${ofLog}`,
          near === undefined ? "see docs/configuration.md for the names" : `did you mean ${near}?`,
          [i],
        );
      }
      return [...new Set(found)];
    },
  );

const accessLogFields = (): ValueType<readonly (AccessLogField | HiddenAccessLogField)[]> =>
  fields(
    "access log",
    [...pomeriumAccessLogFields, ...ownAccessLogFields],
    (name): name is AccessLogField | HiddenAccessLogField => isAccessLogField(name) || isHiddenAccessLogField(name),
  );

const authorizeLogFields = (): ValueType<readonly (AuthorizeLogField | HiddenLogField)[]> =>
  fields(
    "log of decisions",
    [...defaultAuthorizeLogFields, ...otherAuthorizeLogFields],
    (name): name is AuthorizeLogField | HiddenLogField => isAuthorizeLogField(name) || isHiddenLogField(name),
  );

/** `key=value`, as a list, a text with commas, or a mapping. */
const pairs = (what: string): ValueType<Readonly<Record<string, string>>> =>
  valueType({ label: `list of ${what}`, json: { type: ["array", "object", "string"] } }, (value, refuse) => {
    if (isPlainObject(value)) return parseStringMap(value, { separator: /=/, refuse });
    const list = parseStringList(value, refuse);
    if (isRefused(list)) return list;
    const map: Record<string, string> = {};
    for (const [i, pair] of list.entries()) {
      const equals = pair.indexOf("=");
      const key = pair.slice(0, Math.max(0, equals)).trim();
      if (key === "" || key === "__proto__") return refuse("an item is not key=value", `write ${what}`, [i]);
      map[key] = pair.slice(equals + 1).trim();
    }
    return map;
  });

const milliseconds = (): ValueType<number> => integer({ min: 0, max: 3_600_000 });
const protocols = ["grpc", "http/protobuf", "http/json"] as const;

export const observingKeys = {
  access_log_fields: pomerium(
    accessLogFields().prefault([...defaultAccessLogFields]),
    `The fields of the access log, one line per request (message \`http-request\`); an empty list disables it. Pomerium's names: ${pomeriumAccessLogFields.join(", ")}, and \`headers.<Name>\`; credentials in headers are never shown. Cardea's own: ${ownAccessLogFields.join(", ")}. Lines are of level \`info\`, those of \`/ping\` and \`/healthz\` of \`debug\`.`,
    { reload: "restart" },
  ),
  authorize_log_fields: pomerium(
    authorizeLogFields().optional(),
    `The fields of the decision log, one line per decision (message \`authorize check\`), in addition to the answer and its reasons. Absent: no such log; the decision records contain the same (\`audit\`). Pomerium's names: ${[...defaultAuthorizeLogFields, ...otherAuthorizeLogFields].join(", ")}, and \`headers.<Name>\`; credentials are never shown. An empty list: the answer and its reasons alone.`,
    { reload: "restart" },
  ),
  metrics_basic_auth: pomerium(
    secretString().optional(),
    "The password of `/metrics`: base64 of `user:password`. `/healthz` and `/readyz` need none.",
    { secret: "metrics.basicAuth", reload: "restart", configPaths: ["metrics.basicAuth"] },
  ),
  metrics_certificate: pomerium(
    stringValue().optional(),
    "The certificate of `metrics_address` for TLS: PEM, or base64 of it.",
    { reload: "restart", configPaths: ["metrics.tls"] },
  ),
  metrics_certificate_file: pomerium(filePath().optional(), "The same, from a file."),
  metrics_certificate_key: pomerium(secretString().optional(), "The key of `metrics_certificate`.", {
    secret: "metrics.tls.key",
    reload: "restart",
    configPaths: ["metrics.tls"],
  }),
  metrics_certificate_key_file: pomerium(filePath().optional(), "The same, from a file."),
  metrics_client_ca: pomerium(
    stringValue().optional(),
    "Certificates (PEM, or base64 of it): only callers with a certificate issued by them can read `/metrics`. Needs `metrics_certificate`.",
    { reload: "restart", configPaths: ["metrics.clientCa"] },
  ),
  metrics_client_ca_file: pomerium(filePath().optional(), "The same, from a file."),
  otel_traces_exporter: pomerium(
    enumValue(["none", "otlp"], { "": "none", noop: "none" }).prefault("none"),
    "`otlp`: traces are exported by the OpenTelemetry Protocol. `none`: a caller's `traceparent` passes through untouched.",
    { reload: "restart", configPaths: ["tracing"] },
  ),
  otel_exporter_otlp_endpoint: pomerium(
    url(http).optional(),
    "Where traces go; over HTTP, `/v1/traces` is appended. Absent: `http://localhost:4318`, or `:4317` for gRPC.",
    { reload: "restart", configPaths: ["tracing.endpoint"] },
  ),
  otel_exporter_otlp_traces_endpoint: pomerium(url(http).optional(), "The same, used as it is; takes precedence.", {
    reload: "restart",
    configPaths: ["tracing.endpoint"],
  }),
  otel_exporter_otlp_protocol: pomerium(
    enumValue(protocols).optional(),
    "How they are sent. Absent: by the endpoint's port (4317 `grpc`, 4318 `http/protobuf`) and path, as Pomerium guesses. `http/json` is Cardea's own.",
    { reload: "restart", configPaths: ["tracing.protocol"] },
  ),
  otel_exporter_otlp_traces_protocol: pomerium(enumValue(protocols).optional(), "The same; takes precedence.", {
    reload: "restart",
    configPaths: ["tracing.protocol"],
  }),
  otel_exporter_otlp_headers: pomerium(pairs("name=value").prefault([]), "Headers sent with them, such as a token.", {
    secretParts: ["tracing.headers.*"],
    reload: "restart",
    configPaths: ["tracing.headers"],
  }),
  otel_exporter_otlp_traces_headers: pomerium(pairs("name=value").prefault([]), "The same; takes precedence.", {
    secretParts: ["tracing.headers.*"],
    reload: "restart",
    configPaths: ["tracing.headers"],
  }),
  otel_exporter_otlp_timeout: pomerium(
    milliseconds().prefault(10_000),
    "How long one export may take, in milliseconds.",
    { reload: "restart", configPaths: ["tracing.timeoutMs"] },
  ),
  otel_exporter_otlp_traces_timeout: pomerium(milliseconds().optional(), "The same; takes precedence.", {
    reload: "restart",
    configPaths: ["tracing.timeoutMs"],
  }),
  otel_traces_sampler_arg: pomerium(
    fraction({ max: 1 }).prefault(1),
    "The fraction of the traces starting here that is recorded; for a request with a `traceparent`, its caller has decided.",
    { reload: "restart", configPaths: ["tracing.share"] },
  ),
  otel_resource_attributes: pomerium(
    pairs("key=value").prefault([]),
    "Attributes of this process in every trace. `service.name` is `cardea` unless it is set here.",
    { reload: "restart", configPaths: ["tracing.resource"] },
  ),
  otel_bsp_schedule_delay: pomerium(
    milliseconds().prefault(5_000),
    "How long spans are collected before they are sent.",
    { reload: "restart", configPaths: ["tracing.batch.delayMs"] },
  ),
  otel_bsp_export_timeout: pomerium(milliseconds().prefault(30_000), "How long sending a batch may take in total.", {
    reload: "restart",
    configPaths: ["tracing.batch.timeoutMs"],
  }),
  otel_bsp_max_export_batch_size: pomerium(
    integer({ min: 1, max: 2_048 }).prefault(512),
    "How many spans are sent at once. 2,048 wait at most; what is more is dropped.",
    { reload: "restart", configPaths: ["tracing.batch.spansMax"] },
  ),
  otel_attribute_value_length_limit: pomerium(
    integer({ min: 0, max: 1_000_000 }).optional(),
    "How long an attribute's value may be; longer ones are cut.",
    { reload: "restart", configPaths: ["tracing.valueLengthMax"] },
  ),
  otel_log_level: pomerium(
    enumValue(["none", "error", "warn", "info", "debug", "verbose"], { all: "verbose" }).prefault("error"),
    "Which of the exporter's own problems are logged.",
    { reload: "restart", configPaths: ["tracing.logLevel"] },
  ),
};
