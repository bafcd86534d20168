/**
 * Value type of `audit.sinks`: the destinations of audit records. Pure.
 *
 * - Each entry begins with its kind: `{file: path}`, `{nats: true}`. The other keys of the entry are settings of that
 *   kind.
 * - A kind is one entry of `kinds`: what its first key may hold, and the keys beside it.
 */
import { refuseInside } from "../named-mapping.ts";
import { duration } from "../network-values.ts";
import { readPostgresSink, type WrittenPostgresSink } from "../postgres-sink.ts";
import { readSettings } from "../settings-values.ts";
import {
  booleanValue,
  formatValue,
  integer,
  isPlainObject,
  isRefused,
  parseJson,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "../value-type.ts";
import { type OtlpSinkWritten, readOtlpSink } from "./otlp-sink-values.ts";
import { readS3Sink, type S3SinkWritten } from "./s3-sink-values.ts";
import { formatShape, type SinkFormat } from "./sink-format.ts";
import { readWebhookSink, type WebhookSinkWritten } from "./webhook-sink-values.ts";

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
  | WrittenPostgresSink
  | WebhookSinkWritten
  | OtlpSinkWritten
  | S3SinkWritten;

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
  webhook: { example: "webhook: URL", read: readWebhookSink },
  otlp: { example: "otlp: URL", read: readOtlpSink },
  s3: { example: "s3: bucket", read: readS3Sink },
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
