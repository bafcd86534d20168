/** Sinks that send over HTTP: their names, and the files of their secrets. Pure. */
import type { Config } from "../../config.ts";
import type { ProblemReporter } from "../../source/source-locations.ts";
import { isLoopback } from "../../values/network-values.ts";
import type { OtlpSinkConfig } from "../../values/sinks/otlp-sink-values.ts";
import type { S3SinkConfig, S3SinkWritten } from "../../values/sinks/s3-sink-values.ts";
import type { SinkEndpointConfig, WrittenEndpoint } from "../../values/sinks/sink-endpoint-values.ts";
import type { Sink } from "../../values/sinks/sink-values.ts";
import {
  type WebhookSinkConfig,
  type WebhookSinkWritten,
  webhookSecretOf,
  webhookSecretRemedy,
} from "../../values/sinks/webhook-sink-values.ts";
import type { KeyMaterial } from "../key-material.ts";

type From = Readonly<{ report: ProblemReporter; material: KeyMaterial }>;

/** Names must differ, because the cursor of a sink is kept under its name. */
export function resolveRemoteSinks(
  sinks: readonly Sink[],
  { report, material }: From,
): Pick<Config["audit"], "webhooks" | "otlp" | "s3"> {
  const webhooks: WebhookSinkConfig[] = [];
  const otlp: OtlpSinkConfig[] = [];
  const s3: S3SinkConfig[] = [];
  const names = new Set<string>();
  for (const [i, sink] of sinks.entries()) {
    if (sink.kind !== "webhook" && sink.kind !== "otlp" && sink.kind !== "s3") continue;
    const name = `${sink.kind} ${sink.name ?? (sink.kind === "s3" ? sink.bucket : sink.endpoint.url.host)}`;
    if (names.has(name))
      report.error(["audit", "sinks", i], `has the name of another sink, ${name}`, "write a name for each of them");
    names.add(name);
    const inside: From = { report: report.under("audit", "sinks", i), material: material.under("audit", "sinks", i) };
    if (sink.kind === "webhook") webhooks.push({ ...resolveWebhook(sink, inside), name });
    else if (sink.kind === "otlp") {
      const { kind: _, endpoint, ...rest } = sink;
      otlp.push({ ...rest, name, endpoint: resolveEndpoint(endpoint, inside) });
    } else s3.push({ ...resolveS3(sink, inside), name });
  }
  return { webhooks, otlp, s3 };
}

function resolveWebhook(sink: WebhookSinkWritten, from: From): Omit<WebhookSinkConfig, "name"> {
  const { format, body, batch } = sink;
  const written = sink.secrets.map((secret) => webhookSecretOf(secret));
  const inFiles = sink.secretFiles.map((file, i) => {
    const at = ["secret_files", i];
    const text = from.material.fileText(file, { at, secrecy: "secret" })?.text;
    const secret = text === undefined ? null : webhookSecretOf(text);
    if (text !== undefined && secret === null)
      from.report.error(at, `the file ${file} has no secret of a webhook`, webhookSecretRemedy);
    return secret;
  });
  const secrets = [...written, ...inFiles].filter((secret) => secret !== null);
  return { format, body, batch, secrets, endpoint: resolveEndpoint(sink.endpoint, from) };
}

function resolveEndpoint(written: WrittenEndpoint, from: From): SinkEndpointConfig {
  const { report, material } = from;
  const { url, timeoutMs, certFile, keyFile } = written;
  if (url.protocol === "http:" && !isLoopback(url.hostname))
    report.warn(
      [],
      "is reached without TLS",
      "use https, unless the network is your own: records name people by ids and addresses",
    );
  const cert = certFile === null ? null : material.fileText(certFile, { at: ["tls_cert_file"], secrecy: "public" });
  const key = keyFile === null ? null : material.fileText(keyFile, { at: ["tls_key_file"], secrecy: "secret" });
  return {
    url,
    timeoutMs,
    headers: resolveHeaders(written, from),
    ca: material.authorities(material.textOrFile(written.ca, { key: "tls_ca", secrecy: "public" })),
    tls: material.pair(cert, key, ["tls_cert_file"]),
  };
}

/** A value that no header may have would fail each request, so it is refused here. */
function resolveHeaders(
  { headers, headerFiles, bearerToken, bearerTokenFile }: WrittenEndpoint,
  { report, material }: From,
): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  const add = (name: string, value: string, at: readonly string[]): void => {
    if (/^[\x20-\x7e]*$/.test(value)) found[name] = value;
    else report.error(at, "is not one line of ASCII, so no header can have it", "write the value alone, on one line");
  };
  const secretIn = (file: string, at: readonly string[]): string =>
    material.fileText(file, { at, secrecy: "secret" })?.text.trim() ?? "";
  for (const [name, value] of Object.entries(headers)) add(name, value, ["headers", name]);
  for (const [name, file] of Object.entries(headerFiles)) {
    const at = ["header_files", name];
    add(name, secretIn(file, at), at);
  }
  if (bearerToken !== null) add("authorization", `Bearer ${bearerToken}`, ["bearer_token"]);
  if (bearerTokenFile !== null)
    add("authorization", `Bearer ${secretIn(bearerTokenFile, ["bearer_token_file"])}`, ["bearer_token_file"]);
  return found;
}

function resolveS3(sink: S3SinkWritten, { material }: From): Omit<S3SinkConfig, "name"> {
  const { kind: _, accessKeyId, secret: written, ca, ...rest } = sink;
  const secret = material.textOrFile(written, { key: "secret_access_key", secrecy: "secret" })?.text.trim() ?? null;
  return {
    ...rest,
    credentials: accessKeyId === null || secret === null ? null : { accessKeyId, secretAccessKey: secret },
    ca: material.authorities(material.textOrFile(ca, { key: "tls_ca", secrecy: "public" })),
  };
}
