/** Value type of the sink `otlp`: records as log records of OpenTelemetry, over HTTP. Pure. */
import { readSettings } from "../settings-values.ts";
import { enumValue, isRefused, type Refuse, type RefusedValue } from "../value-type.ts";
import {
  batchIn,
  batchShape,
  endpointShape,
  readEndpoint,
  type SinkBatchConfig,
  type SinkEndpointConfig,
  sinkName,
  type WrittenEndpoint,
} from "./sink-endpoint-values.ts";
import { formatShape, type SinkFormat } from "./sink-format.ts";

type OtlpShared = Readonly<{
  format: SinkFormat;
  encoding: "protobuf" | "json";
  compression: "gzip" | "none";
  batch: SinkBatchConfig;
}>;
/** `name`: unique, the kind and a name. */
export type OtlpSinkConfig = OtlpShared & Readonly<{ name: string; endpoint: SinkEndpointConfig }>;
export type OtlpSinkWritten = OtlpShared &
  Readonly<{ kind: "otlp" /** Null: named by its host. */; name: string | null; endpoint: WrittenEndpoint }>;

const shape = {
  ...formatShape,
  ...endpointShape,
  ...batchShape({ bytes: 262_144, bytesMax: 1_048_576, wait: 1_000 }),
  name: sinkName().optional(),
  encoding: enumValue(["protobuf", "json"]).prefault("protobuf"),
  compression: enumValue(["gzip", "none"]).prefault("gzip"),
};

/** An address without a path gets the one of the protocol. */
export function readOtlpSink(
  target: unknown,
  settings: Record<string, unknown>,
  refuse: Refuse,
): OtlpSinkWritten | RefusedValue {
  const read = readSettings(shape, settings, { refuse });
  if (isRefused(read)) return read;
  const endpoint = readEndpoint(target, read, { kind: "otlp", refuse });
  if (isRefused(endpoint)) return endpoint;
  const { url } = endpoint;
  const { name = null, format, encoding, compression } = read;
  return {
    kind: "otlp",
    name,
    format,
    encoding,
    compression,
    batch: batchIn(read, 2_000),
    endpoint: { ...endpoint, url: url.pathname === "/" ? new URL(`/v1/logs${url.search}`, url) : url },
  };
}
