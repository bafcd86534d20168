/** Value type of the sink `webhook`: batches of records, posted and signed. Pure. */
import { refuseInside } from "../named-mapping.ts";
import { readSettings } from "../settings-values.ts";
import {
  enumValue,
  filePath,
  formatValue,
  isRefused,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "../value-type.ts";
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

/** How records are written in a request: one in each line, or as a JSON array. */
export type WebhookBody = "lines" | "array";

type WebhookShared = Readonly<{
  format: SinkFormat;
  body: WebhookBody;
  batch: SinkBatchConfig;
}>;

export type WebhookSinkConfig = WebhookShared &
  Readonly<{
    /** Unique: the kind and a name. */
    name: string;
    endpoint: SinkEndpointConfig;
    /** Each signs every request, so that the receiver can change from one to the next. Empty: not signed. */
    secrets: readonly Uint8Array[];
  }>;

export type WebhookSinkWritten = WebhookShared &
  Readonly<{
    kind: "webhook";
    /** Null: named by its host. */
    name: string | null;
    endpoint: WrittenEndpoint;
    secrets: readonly string[];
    secretFiles: readonly string[];
  }>;

const secretsMax = 5;

const secretList = (): ValueType<readonly string[]> =>
  valueType(
    { label: "list of secret", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list: readonly unknown[] = Array.isArray(value) ? value : [value];
      const strange = list.findIndex((item) => typeof item !== "string");
      return strange < 0
        ? (list as readonly string[])
        : refuse("is not text", "write the secret as quoted text", [strange]);
    },
  );

const filePaths = (): ValueType<readonly string[]> =>
  valueType(
    { label: "list of file", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list: readonly unknown[] = Array.isArray(value) ? value : [value];
      const strange = list.findIndex((item) => !filePath().safeParse(item).success);
      if (strange >= 0)
        return refuse(`${formatValue(list[strange])} is not a file name`, "write the path of a file", [strange]);
      return list as readonly string[];
    },
  );

const shape = {
  ...formatShape,
  ...endpointShape,
  ...batchShape({ bytes: 262_144, bytesMax: 8_388_608, wait: 1_000 }),
  name: sinkName().optional(),
  body: enumValue(["lines", "array"]).optional(),
  secrets: secretList().prefault([]),
  secret_files: filePaths().prefault([]),
};

export function readWebhookSink(
  target: unknown,
  settings: Record<string, unknown>,
  refuse: Refuse,
): WebhookSinkWritten | RefusedValue {
  const read = readSettings(shape, settings, { refuse });
  if (isRefused(read)) return read;
  const endpoint = readEndpoint(target, read, { kind: "webhook", refuse });
  if (isRefused(endpoint)) return endpoint;
  const count = read.secrets.length + read.secret_files.length;
  if (count > secretsMax) return refuse(`has ${count} secrets`, `keep ${secretsMax} at most`, ["secrets"]);
  const strange = read.secrets.findIndex((secret) => webhookSecretOf(secret) === null);
  if (strange >= 0)
    return refuseInside(refuse, "secrets")("is not a secret of a webhook", webhookSecretRemedy, [strange]);
  const hasCredential =
    Object.keys(endpoint.headers).length + Object.keys(endpoint.headerFiles).length > 0 ||
    [endpoint.bearerToken, endpoint.bearerTokenFile, endpoint.certFile].some((each) => each !== null);
  if (count === 0 && !hasCredential)
    return refuse(
      "has no secret, so its receiver cannot tell who sent a batch",
      "write secret_files, or a credential such as bearer_token_file",
      ["webhook"],
    );
  if (read.format === "cloudevents" && read.body === "lines")
    return refuse("is not how a batch of CloudEvents is written", "remove it", ["body"]);
  return {
    kind: "webhook",
    name: read.name ?? null,
    format: read.format,
    body: read.format === "cloudevents" ? "array" : (read.body ?? "lines"),
    batch: batchIn(read, 1_000),
    endpoint,
    secrets: read.secrets,
    secretFiles: read.secret_files,
  };
}

export const webhookSecretRemedy = "write whsec_ and base64 of 24 to 64 random bytes: openssl rand -base64 32";

/** The key of a secret of Standard Webhooks; null: it is none. */
export function webhookSecretOf(text: string): Uint8Array | null {
  const encoded = text.trim().replace(/^whsec_/, "");
  if (!/^[A-Za-z0-9+/]{32,}={0,2}$/.test(encoded)) return null;
  const bytes = Buffer.from(encoded, "base64");
  return bytes.length >= 24 && bytes.length <= 64 ? new Uint8Array(bytes) : null;
}
