/** Value type of external data sets: the source of each, how often it is read, and its bounds. Pure. */
import { checkUrl, formatDuration, isLoopback, parseDuration } from "./network-values.ts";
import { unknownKeyRemedy } from "./suggest.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringMap,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** An external data set for the criterion `record`. */
export type DataSource = Readonly<{
  /** The record type that policies name. */
  type: string;
  from: Readonly<{ type: "file"; path: string } | { type: "url"; url: URL }>;
  /** The property of a caller that selects a record. */
  key: "user.id" | "user.email" | "request.ip" | "request.client_certificate.fingerprint";
  /** Null: taken from the file name or the response. */
  format: "json" | "csv" | null;
  everyMs: number;
  timeoutMs: number;
  /** The maximum age of content that is still used; 0: unlimited. */
  maxAgeMs: number;
  bytesMax: number;
  recordsMax: number;
  /** Sent with each request; secret. */
  headers: Readonly<Record<string, string>>;
}>;

const keys = [
  "type",
  "url",
  "file",
  "foreign_key",
  "format",
  "refresh_interval",
  "timeout",
  "max_age",
  "max_bytes",
  "max_records",
  "headers",
];
const foreignKeys = ["user.id", "user.email", "request.ip", "request.client_certificate.fingerprint"] as const;
const formats = ["json", "csv"] as const;

export const dataSources = (): ValueType<readonly DataSource[]> =>
  valueType(
    { label: "list of data sources", json: { type: ["array", "string"], items: { type: "object" } } },
    (value, refuse) => {
      const list = typeof value === "string" ? parseJson(value) : value;
      if (!Array.isArray(list))
        return refuse("is not a list of data sources", "write - type: name, with url: or file:");
      const found: DataSource[] = [];
      let refused: RefusedValue | undefined;
      list.forEach((item: unknown, i) => {
        const source = readSource(item, (problem, remedy, path = []) => refuse(problem, remedy, [i, ...path]));
        if (isRefused(source)) refused = source;
        else if (found.some(({ type }) => type === source.type))
          refused = refuse(
            `${formatValue(source.type)} is already the type of another source`,
            "give each source its own type",
            [i, "type"],
          );
        else found.push(source);
      });
      return refused ?? found;
    },
  );

function readSource(item: unknown, refuse: Refuse): DataSource | RefusedValue {
  if (!isPlainObject(item))
    return refuse(`${formatValue(item)} is not a data source`, "write type: name, with url: or file:");
  const strange = Object.keys(item).find((key) => !keys.includes(key));
  if (strange !== undefined) {
    const otherwise = `use ${keys.join(", ")}`;
    return refuse("is not a known key", unknownKeyRemedy(strange, { known: keys, written: item, otherwise }), [
      strange,
    ]);
  }
  const { type, url, file, headers = {} } = item;
  if (typeof type !== "string" || !/^\S{1,200}$/.test(type))
    return refuse("needs a type", "write type: example.com/hr, the name that `record` uses");
  const from = readOrigin(url, file, refuse);
  if (isRefused(from)) return from;
  const foreignKey = parseEnum(item["foreign_key"], foreignKeys, "user.id");
  if (foreignKey === undefined)
    return refuse(`${formatValue(item["foreign_key"])} is not known here`, `write one of ${foreignKeys.join(", ")}`, [
      "foreign_key",
    ]);
  const format = parseEnum(item["format"], formats, null);
  if (format === undefined)
    return refuse(`${formatValue(item["format"])} is not known here`, `write one of ${formats.join(", ")}`, ["format"]);
  const everyMs = parseBoundedDuration(
    item["refresh_interval"],
    { otherwise: "5m", min: "1s", max: "168h" },
    (...said) => refuse(said[0], said[1], ["refresh_interval"]),
  );
  if (isRefused(everyMs)) return everyMs;
  const timeoutMs = parseBoundedDuration(item["timeout"], { otherwise: "30s", min: "100ms", max: "10m" }, (...said) =>
    refuse(said[0], said[1], ["timeout"]),
  );
  if (isRefused(timeoutMs)) return timeoutMs;
  const maxAgeMs = parseBoundedDuration(item["max_age"], { otherwise: "0s", min: "0s", max: "8760h" }, (...said) =>
    refuse(said[0], said[1], ["max_age"]),
  );
  if (isRefused(maxAgeMs)) return maxAgeMs;
  if (maxAgeMs > 0 && maxAgeMs <= everyMs)
    return refuse(
      `${formatDuration(maxAgeMs)} is not longer than the refresh_interval of ${formatDuration(everyMs)}`,
      "make it longer, so that there is time for a second attempt",
      ["max_age"],
    );
  const bytesMax = parseInteger(
    item["max_bytes"],
    { otherwise: 64 * 1024 * 1024, max: 1024 * 1024 * 1024 },
    (...said) => refuse(said[0], said[1], ["max_bytes"]),
  );
  if (isRefused(bytesMax)) return bytesMax;
  const recordsMax = parseInteger(item["max_records"], { otherwise: 1_000_000, max: 10_000_000 }, (...said) =>
    refuse(said[0], said[1], ["max_records"]),
  );
  if (isRefused(recordsMax)) return recordsMax;
  const sent = parseStringMap(headers, { separator: /:/, refuse: (...said) => refuse(said[0], said[1], ["headers"]) });
  if (isRefused(sent)) return sent;
  return { type, from, key: foreignKey, format, everyMs, timeoutMs, maxAgeMs, bytesMax, recordsMax, headers: sent };
}

/** Requires TLS outside loopback: an attacker who can change the data in transit can admit anyone. */
function readOrigin(url: unknown, file: unknown, refuse: Refuse): DataSource["from"] | RefusedValue {
  if ((url === undefined) === (file === undefined)) return refuse("needs either url or file", "write one of them");
  if (file !== undefined) {
    return typeof file === "string" && file !== ""
      ? { type: "file", path: file }
      : refuse(`${formatValue(file)} is not a file name`, "write the path of a file", ["file"]);
  }
  const parsed = checkUrl(url, {
    schemes: ["https", "http"],
    refuse: (problem, remedy) => refuse(problem, remedy, ["url"]),
  });
  if (isRefused(parsed)) return parsed;
  if (parsed.protocol === "http:" && !isLoopback(parsed.hostname))
    return refuse("is plain HTTP, so anyone on the network path can change who gets in", "use https, or a file", [
      "url",
    ]);
  return { type: "url", url: parsed };
}

function parseEnum<Word extends string, Otherwise>(
  value: unknown,
  words: readonly Word[],
  otherwise: Otherwise,
): Word | Otherwise | undefined {
  return value === undefined || value === null ? otherwise : words.find((word) => word === value);
}

function parseBoundedDuration(
  value: unknown,
  bounds: Readonly<{ otherwise: string; min: string; max: string }>,
  refuse: Refuse,
): number | RefusedValue {
  const typed = value === undefined || value === null ? bounds.otherwise : value;
  const ms = typeof typed === "string" ? parseDuration(typed.trim()) : undefined;
  if (ms === undefined)
    return refuse(`${formatValue(typed)} is not a duration`, "write one such as 250ms, 30s or 1h30m");
  if (ms < (parseDuration(bounds.min) ?? 0))
    return refuse(`${formatDuration(ms)} is too short`, `write ${bounds.min} or more`);
  return ms > (parseDuration(bounds.max) ?? 0)
    ? refuse(`${formatDuration(ms)} is too long`, `write ${bounds.max} or less`)
    : ms;
}

function parseInteger(
  value: unknown,
  { otherwise, max }: Readonly<{ otherwise: number; max: number }>,
  refuse: Refuse,
): number | RefusedValue {
  if (value === undefined || value === null) return otherwise;
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 1 && value <= max
    ? value
    : refuse(`${formatValue(value)} is not a whole number from 1 to ${max}`, "correct the number");
}
