/** Audit sinks: made as a configuration describes them. The audit stream of NATS is made in audit-parts.ts. */
import {
  type AuditSink,
  connectS3,
  createFileSink,
  createOtlpSink,
  createPostgresAuditSink,
  createRecordFormatter,
  createS3Sink,
  createWebhookSink,
  withFormat,
} from "../../../audit/index.ts";
import type { Config, SinkFormat } from "../../../config/index.ts";
import type { NodeId } from "../../../events/index.ts";
import type { Logger } from "../../../replication/index.ts";
import type { Output } from "../../terminal/output.ts";
import { version } from "../../terminal/version.ts";

type SinkContext = Readonly<{ node: NodeId; output: Pick<Output, "writeAll">; logger: Logger }>;

export async function createSinks(
  config: Pick<Config, "audit" | "broker" | "certificateAuthority">,
  context: SinkContext,
): Promise<AuditSink[]> {
  const { files, stdout, webhooks, otlp, s3 } = config.audit;
  const cluster = config.broker.clusterName;
  const common = { authority: config.certificateAuthority, nowMs: () => Date.now() };
  const formatted = (sink: AuditSink, format: SinkFormat): AuditSink => withFormat(sink, { format, cluster });
  const sinks = files.map((file) => formatted(fileSink(file, context), file.format));
  if (stdout !== null) {
    const write: AuditSink["write"] = ({ bytes }) => context.output.writeAll(bytes);
    sinks.push(formatted({ name: "stdout", write, close: async () => undefined }, stdout));
  }
  if (config.audit.postgres !== null) sinks.push(postgresSink(config.audit.postgres, config, context));
  sinks.push(...webhooks.map((webhook) => formatted(createWebhookSink(webhook, common), webhook.format)));
  for (const collector of otlp) {
    const library = await import("@opentelemetry/otlp-transformer");
    const formatRecords = createRecordFormatter({ format: collector.format, cluster });
    const { node } = context;
    sinks.push(createOtlpSink(collector, { ...common, library, node, cluster, version, formatRecords }));
  }
  for (const bucket of s3) {
    const connection = await connectS3(bucket, common.authority); // before requests, because it loads a large library
    const formatRecords = createRecordFormatter({ format: bucket.format, cluster });
    sinks.push(createS3Sink(bucket, { connection, node: context.node, formatRecords, nowMs: common.nowMs }));
  }
  return sinks;
}

function postgresSink(
  options: NonNullable<Config["audit"]["postgres"]>,
  { broker }: Pick<Config, "broker">,
  { node, logger }: SinkContext,
): AuditSink {
  return createPostgresAuditSink({
    ...options,
    cluster: broker.clusterName,
    node,
    onTrouble: (problem, error) =>
      logger.warn(error === null ? {} : { error: messageOf(error) }, `the audit database ${problem}`),
  });
}

function fileSink({ path, rotation }: Config["audit"]["files"][number], { logger }: SinkContext): AuditSink {
  if (rotation === null) return createFileSink(path);
  return createFileSink(path, {
    rotation,
    nowMs: () => Date.now(),
    onFailure: (error) =>
      logger.warn(
        { path, error: messageOf(error) },
        "a rotated audit file could not be compressed or deleted; trying again at the next rotation",
      ),
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
