/**
 * Value type of `audit.sinks`: the destinations of audit records. Pure.
 *
 * - Each entry begins with its kind: `{file: path}`, `{nats: true}`. The other keys of the entry are settings of that
 *   kind.
 * - A kind is one entry of `kinds`: what its first key may hold, and the keys beside it.
 */
import type { z } from "zod";
import { refuseInside, refuseUnknownKey } from "./named-mapping.ts";
import { duration } from "./network-values.ts";
import { readPostgresSink, type WrittenPostgresSink } from "./postgres-sink.ts";
import {
  booleanValue,
  formatValue,
  integer,
  isPlainObject,
  isRefused,
  parseJson,
  type Refuse,
  type RefusedValue,
  type Shape,
  type ValueType,
  valueType,
} from "./value-type.ts";

export const sinkFormats = ["json", "cloudevents", "ocsf"] as const;
export type SinkFormat = (typeof sinkFormats)[number];

/** When a file of audit records is renamed, and which of the renamed ones stay. */
export type FileRotation = Readonly<{
  /** Size at which the file is renamed, in bytes. */
  fileBytesMax: number;
  /** Also at the end of each such period, counted from midnight UTC; null: by size alone. */
  everyMs: number | null;
  /** Renamed files that stay, by count and by size together; the oldest are deleted first. */
  keepFiles: number;
  keepBytes: number;
  compress: boolean;
}>;

export type Sink =
  | Readonly<{ kind: "file"; path: string; format: SinkFormat; rotation: FileRotation | null }>
  | Readonly<{ kind: "nats" }>
  | Readonly<{ kind: "stdout"; format: SinkFormat }>
  | WrittenPostgresSink;

type Kind = Readonly<{
  /** How the entry begins, for messages. */
  example: string;
  /** @param target the value of the key that names the kind */
  read: (target: unknown, settings: Record<string, unknown>, refuse: Refuse) => Sink | RefusedValue;
}>;

const kinds: Readonly<Record<string, Kind>> = {
  file: { example: "file: path", read: readFileSink },
  nats: { example: "nats: true", read: readNatsSink },
  stdout: { example: "stdout: true", read: readStdoutSink },
  postgres: { example: "postgres: true", read: readPostgresSink },
};

const examples = Object.values(kinds).map(({ example }) => example);
const remedy = `write ${examples
  .slice(0, -1)
  .map((example) => `- ${example}`)
  .join(", ")} or - ${examples.at(-1)}`;

export const sinks = (): ValueType<readonly Sink[]> =>
  valueType(
    { label: `list of ${examples.map((each) => `{${each}}`).join(", ")}`, json: { type: ["array", "string"] } },
    (value, refuse) => {
      const list = typeof value === "string" ? parseJson(value) : value;
      if (!Array.isArray(list)) return refuse("is not a list of sinks", remedy);
      const found: Sink[] = [];
      let refused: RefusedValue | undefined;
      list.forEach((item: unknown, i) => {
        const sink = readSink(item, refuseInside(refuse, i));
        if (isRefused(sink)) refused = sink;
        else found.push(sink);
      });
      return refused ?? found;
    },
  );

function readSink(item: unknown, refuse: Refuse): Sink | RefusedValue {
  const named = isPlainObject(item) ? Object.keys(kinds).filter((kind) => Object.hasOwn(item, kind)) : [];
  const [name = ""] = named;
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (!isPlainObject(item) || kind === undefined || named.length > 1)
    return refuse(`${formatValue(item)} is not a sink`, remedy);
  const { [name]: target, ...settings } = item;
  return kind.read(target, settings, refuse);
}

const format = (): ValueType<SinkFormat> =>
  valueType({ label: sinkFormats.join(", "), json: { enum: [...sinkFormats] } }, (value, refuse) => {
    const known = sinkFormats.find((one) => one === value);
    return known ?? refuse(`${formatValue(value)} is not a format`, `write ${sinkFormats.join(", ")}`);
  });

const formatShape = { format: format().prefault("json") };

const rotationShape = {
  max_bytes: integer({ min: 1_048_576, max: 1_000_000_000_000 }).prefault(104_857_600),
  every: duration({ min: "1m", max: "8784h" }).optional(),
  keep_files: integer({ min: 1, max: 100_000 }).prefault(100),
  keep_bytes: integer({ min: 1_048_576, max: 1_000_000_000_000_000 }).prefault(10_737_418_240),
  compress: booleanValue().prefault(true),
};

function readFileSink(path: unknown, settings: Record<string, unknown>, refuse: Refuse): Sink | RefusedValue {
  if (typeof path !== "string" || path === "")
    return refuse(`${formatValue(path)} is not a file`, "write - file: path");
  const { rotate, ...others } = settings;
  const read = readSettings(formatShape, others, { refuse, known: ["rotate"] });
  if (isRefused(read)) return read;
  if (rotate === undefined) return { kind: "file", path, format: read.format, rotation: null };
  const inside = refuseInside(refuse, "rotate");
  if (!isPlainObject(rotate))
    return inside(`${formatValue(rotate)} is not a mapping`, `write some of ${Object.keys(rotationShape).join(", ")}`);
  const rotation = readSettings(rotationShape, rotate, { refuse: inside });
  if (isRefused(rotation)) return rotation;
  const { max_bytes: fileBytesMax, every, keep_files: keepFiles, keep_bytes: keepBytes, compress } = rotation;
  if (keepBytes < fileBytesMax)
    return inside("is less than max_bytes, so a full file would be deleted at once", "write max_bytes or more", [
      "keep_bytes",
    ]);
  return {
    kind: "file",
    path,
    format: read.format,
    rotation: { fileBytesMax, everyMs: every ?? null, keepFiles, keepBytes, compress },
  };
}

function readNatsSink(isOn: unknown, settings: Record<string, unknown>, refuse: Refuse): Sink | RefusedValue {
  if (isOn !== true) return refuse(`${formatValue(isOn)} cannot be used here`, "write - nats: true", ["nats"]);
  const read = readSettings(formatShape, settings, { refuse });
  if (isRefused(read)) return read;
  if (read.format === "json") return { kind: "nats" };
  return refuse(
    `${formatValue(read.format)} is not a format of the audit stream, which Cardea itself reads`,
    "remove the format, or add a sink of another kind",
  );
}

function readStdoutSink(isOn: unknown, settings: Record<string, unknown>, refuse: Refuse): Sink | RefusedValue {
  if (isOn !== true) return refuse(`${formatValue(isOn)} cannot be used here`, "write - stdout: true", ["stdout"]);
  const read = readSettings(formatShape, settings, { refuse });
  return isRefused(read) ? read : { kind: "stdout", format: read.format };
}

type SettingsOf<S extends Shape> = { readonly [Key in keyof S]: z.output<S[Key]> };

/** @param how.known further keys of the entry, which the caller reads */
function readSettings<S extends Shape>(
  shape: S,
  written: Record<string, unknown>,
  how: Readonly<{ refuse: Refuse; known?: readonly string[] }>,
): SettingsOf<S> | RefusedValue {
  const { refuse, known = [] } = how;
  const strange = refuseUnknownKey(written, [...Object.keys(shape), ...known], refuse);
  if (strange !== undefined) return strange;
  const values: Record<string, unknown> = {};
  let refused: RefusedValue | undefined;
  for (const [key, schema] of Object.entries(shape)) {
    const parsed = schema.safeParse(written[key]);
    if (parsed.success) values[key] = parsed.data;
    for (const issue of parsed.error?.issues ?? []) {
      const said = "params" in issue ? (issue.params as Readonly<{ remedy?: string }> | undefined)?.remedy : undefined;
      refused = refuse(issue.message, said ?? "correct it", [key, ...(issue.path as (string | number)[])]);
    }
  }
  return refused ?? (values as SettingsOf<S>); // key for key, as the shape says
}
