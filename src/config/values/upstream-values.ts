/**
 * Value types of the upstream settings that Pomerium takes from Envoy: lists of sections, health checks, payloads,
 * percentages.
 *
 * Pure. Names are Envoy's, in snake_case.
 */
import * as z from "zod";
import type { Path } from "../source/source-locations.ts";
import { duration } from "./network-values.ts";
import { unknownKeyRemedy } from "./suggest.ts";
import {
  booleanValue,
  enumValue,
  formatValue,
  integer,
  isPlainObject,
  isRefused,
  parseJson,
  type Refuse,
  type RefusedValue,
  type Shape,
  scalarText,
  sectionShape,
  stringMatching,
  stringValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** A list of sections with the same keys. `resolve` turns the values of each section into the result. */
export const sectionList = <T>(
  label: string,
  shape: Shape,
  resolve: (values: Readonly<Record<string, unknown>>, refuse: Refuse) => T | RefusedValue,
): ValueType<readonly T[]> =>
  valueType({ label, json: { type: ["array", "string"], items: { type: "object" } } }, (value, refuse) => {
    const list = typeof value === "string" ? parseJson(value) : value;
    if (!Array.isArray(list)) return refuse("is not a list", "write one section after each dash");
    const found: T[] = [];
    let refused: RefusedValue | undefined;
    list.forEach((item: unknown, i) => {
      const within: Refuse = (problem, remedy, path = []) => refuse(problem, remedy, [i, ...path]);
      const values = readShape(shape, item, within);
      const resolved = isRefused(values) ? values : resolve(values, within);
      if (isRefused(resolved)) refused = resolved;
      else found.push(resolved);
    });
    return refused ?? found;
  });

function readShape(shape: Shape, item: unknown, refuse: Refuse): Readonly<Record<string, unknown>> | RefusedValue {
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a mapping`, "write key: value, one per line");
  let refused: RefusedValue | undefined;
  for (const key of Object.keys(item)) {
    if (Object.hasOwn(shape, key)) continue;
    const remedy = unknownKeyRemedy(key, { known: Object.keys(shape), written: item, otherwise: "remove it" });
    refused = refuse(`${key} is not a known key here`, remedy, [key]);
  }
  const values: Record<string, unknown> = {};
  for (const [key, schema] of Object.entries(shape)) {
    const written = item[key] ?? undefined;
    const inner = sectionShape(schema instanceof z.ZodOptional ? (schema.unwrap() as z.ZodType) : schema);
    if (inner !== undefined) {
      const section =
        written === undefined
          ? undefined
          : readShape(inner, written, (p, r, path = []) => refuse(p, r, [key, ...path]));
      if (isRefused(section)) refused = section;
      else values[key] = section;
      continue;
    }
    const parsed = schema.safeParse(written);
    if (parsed.success) values[key] = parsed.data;
    else
      for (const issue of parsed.error.issues) {
        const remedy = "params" in issue ? String(issue.params?.["remedy"] ?? "") : "";
        refused = refuse(issue.message, remedy, [key, ...(issue.path as Path)]);
      }
  }
  return refused ?? values;
}

/** A percentage from 0 to 100, also as Envoy writes it: `{value: 50}`. */
export const percent = (): ValueType<number> =>
  valueType({ label: "percentage", json: { type: ["number", "object", "string"] } }, (value, refuse) => {
    const inner = isPlainObject(value) ? value["value"] : value;
    const word = scalarText(inner)?.replace(/\s*%$/, "") ?? "";
    const number = /^\d{1,3}(?:\.\d{1,6})?$/.test(word) ? Number(word) : Number.NaN;
    return number <= 100 ? number : refuse(`${formatValue(value)} is not a percentage`, "write a number from 0 to 100");
  });

/** One of Envoy's payloads as hexadecimal bytes: `{text: 0a0b}` or `{binary: base64}`. */
function payloadOf(value: unknown): string | undefined {
  if (!isPlainObject(value) || Object.keys(value).length !== 1) return undefined;
  const hex = scalarText(value["text"]);
  if (hex !== undefined) return /^(?:[0-9a-f]{2}){1,4096}$/i.test(hex) ? hex.toLowerCase() : undefined;
  const binary = value["binary"];
  if (typeof binary !== "string" || !/^[A-Za-z0-9+/]{2,8192}={0,2}$/.test(binary)) return undefined;
  return Buffer.from(binary, "base64").toString("hex");
}

const payloadRemedy = "write {text: …} with its bytes in hexadecimal, or {binary: …} in base64";

const payload = (): ValueType<string> =>
  valueType(
    { label: "payload", json: { type: "object" } },
    (value, refuse) => payloadOf(value) ?? refuse("is not a payload", payloadRemedy),
  );

const payloads = (): ValueType<readonly string[]> =>
  valueType({ label: "list of payloads", json: { type: "array", items: { type: "object" } } }, (value, refuse) => {
    if (!Array.isArray(value)) return refuse("is not a list of payloads", payloadRemedy);
    const found = value.map(payloadOf);
    const bad = found.indexOf(undefined);
    return bad < 0 ? (found as string[]) : refuse("is not a payload", payloadRemedy, [bad]);
  });

export type WrittenRange = Readonly<{ from: number; to: number }>;

/** Envoy's: `start` inclusive, `end` exclusive. */
const statusRanges = (): ValueType<readonly WrittenRange[]> =>
  valueType({ label: "list of {start, end}", json: { type: "array", items: { type: "object" } } }, (value, refuse) => {
    const remedy = "write - {start: 200, end: 300}; the end is exclusive";
    if (!Array.isArray(value)) return refuse("is not a list of statuses", remedy);
    const found: WrittenRange[] = [];
    let refused: RefusedValue | undefined;
    value.forEach((item: unknown, i) => {
      const [from, to] = isPlainObject(item) ? [Number(item["start"]), Number(item["end"])] : [Number.NaN, Number.NaN];
      if (Number.isInteger(from) && Number.isInteger(to) && from >= 100 && from < to && to <= 600)
        found.push({ from, to });
      else refused = refuse(`${formatValue(item)} is not a range of statuses`, remedy, [i]);
    });
    return refused ?? found;
  });

type NamedValues = readonly (readonly [name: string, value: string])[];

/** Envoy's `{header: {key, value}, append_action}`, or a plain mapping of header to value. */
const addedHeaders = (): ValueType<NamedValues> =>
  valueType({ label: "list of {header: {key, value}}", json: { type: ["array", "object"] } }, (value, refuse) => {
    const pairs: (readonly unknown[])[] = isPlainObject(value)
      ? Object.entries(value)
      : Array.isArray(value)
        ? value.map((item: unknown) => {
            const header = isPlainObject(item) ? item["header"] : undefined;
            return isPlainObject(header) ? [header["key"], header["value"]] : [];
          })
        : [[]];
    const bad = pairs.findIndex(
      ([name, text]) =>
        typeof name !== "string" ||
        !/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}$/.test(name) ||
        !/^[\t -~]*$/.test(scalarText(text) ?? "\n"),
    );
    if (bad >= 0) return refuse("is not a header", "write - header: {key: X-Check, value: cardea}", [bad]);
    return pairs.map(([name, text]) => [String(name), scalarText(text) ?? ""] as const);
  });

const httpCheck = {
  host: stringValue().optional(),
  path: stringMatching({
    label: "path",
    json: { type: "string" },
    pattern: /^\/[!-~]*$/,
    what: "a path",
    example: "/healthz",
  }).optional(),
  method: enumValue(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]).prefault("GET"),
  codec_client_type: enumValue(["HTTP1", "HTTP2"]).prefault("HTTP1"),
  expected_statuses: statusRanges().prefault([{ start: 200, end: 201 }]),
  retriable_statuses: statusRanges().prefault([]),
  receive: payloads().prefault([]),
  response_buffer_size: integer({ min: 1, max: 65_536 }).prefault(1_024),
  request_headers_to_add: addedHeaders().prefault([]),
  request_headers_to_remove: valueType<readonly string[]>(
    { label: "list of header names", json: { type: "array" } },
    (value, refuse) =>
      Array.isArray(value) && value.every((name) => typeof name === "string")
        ? value.map((name: string) => name.toLowerCase())
        : refuse("is not a list of header names", "write [x-one, x-two]"),
  ).prefault([]),
};
const tcpCheck = { send: payload().optional(), receive: payloads().prefault([]) };
const grpcCheck = { service_name: stringValue().prefault(""), authority: stringValue().optional() };

const anything = z.unknown().optional();
const threshold = (): ValueType<number> => integer({ min: 1, max: 1_000 });

/** The keys of Envoy's HealthCheck that mean something here, and those that only say where it logs. */
export const healthCheckShape = {
  timeout: duration({ min: "1ms", max: "1h" }).optional(),
  interval: duration({ min: "1ms", max: "24h" }).optional(),
  initial_jitter: duration({ max: "1h" }).prefault("0s"),
  interval_jitter: duration({ max: "1h" }).prefault("0s"),
  interval_jitter_percent: integer({ min: 0, max: 1_000 }).prefault(0),
  unhealthy_threshold: threshold().optional(),
  healthy_threshold: threshold().optional(),
  reuse_connection: booleanValue().prefault(true),
  no_traffic_interval: duration({ min: "1ms", max: "24h" }).prefault("60s"),
  no_traffic_healthy_interval: duration({ min: "1ms", max: "24h" }).optional(),
  unhealthy_interval: duration({ min: "1ms", max: "24h" }).optional(),
  unhealthy_edge_interval: duration({ min: "1ms", max: "24h" }).optional(),
  healthy_edge_interval: duration({ min: "1ms", max: "24h" }).optional(),
  http_health_check: z.strictObject(httpCheck).optional(),
  tcp_health_check: z.strictObject(tcpCheck).optional(),
  grpc_health_check: z.strictObject(grpcCheck).optional(),
  event_log_path: anything,
  event_logger: anything,
  always_log_health_check_failures: anything,
  always_log_health_check_success: anything,
};
