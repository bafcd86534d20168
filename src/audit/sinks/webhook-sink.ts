/**
 * Webhook sink: posts batches of records, signed as Standard Webhooks defines it.
 *
 * - `webhook-id` names the batch by its records. A batch that is sent again has the same id, also after a restart, so
 *   the receiver can drop repetitions.
 * - `webhook-signature` has one signature for each secret: `v1,` and base64 of HMAC-SHA-256 over id, time and body. The
 *   time is that of the attempt.
 * - The body has one record in each line, or a JSON array; a record in `json` format is the exact line of the spool.
 */
import { createHmac } from "node:crypto";
import type { SinkFormat, WebhookBody, WebhookSinkConfig } from "../../config/index.ts";
import type { AuditSink } from "../audit-sink.ts";
import type { AuditBatch } from "../spool/index.ts";
import { createSinkClient } from "./sink-client.ts";

export function createWebhookSink(
  config: WebhookSinkConfig,
  { authority, nowMs }: Readonly<{ authority: string | null; nowMs: () => number }>,
): AuditSink {
  const { name, endpoint, secrets, body, format, batch: batching } = config;
  const client = createSinkClient({ name, endpoint, authority });
  return {
    name,
    batching,
    async write(batch) {
      const content = body === "array" ? arrayOf(batch.bytes) : Buffer.from(batch.bytes);
      const id = webhookIdOf(batch);
      const timestamp = String(Math.floor(nowMs() / 1_000));
      await client.post(content, {
        "content-type": contentTypeOf(format, body),
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        ...(secrets.length === 0 ? {} : { "webhook-signature": signaturesOf({ id, timestamp, content, secrets }) }),
      });
    },
    close: () => client.close(),
  };
}

/** Without a full stop, which separates the parts of what is signed. */
function webhookIdOf({ boot, first, last, isGap }: AuditBatch): string {
  return `${encodeURIComponent(boot).replaceAll(".", "%2E")}_${first}_${last}${isGap === true ? "_gap" : ""}`;
}

function signaturesOf(
  of: Readonly<{ id: string; timestamp: string; content: Buffer; secrets: readonly Uint8Array[] }>,
): string {
  const sign = (secret: Uint8Array): string =>
    createHmac("sha256", secret).update(`${of.id}.${of.timestamp}.`).update(of.content).digest("base64");
  return of.secrets.map((secret) => `v1,${sign(secret)}`).join(" ");
}

function contentTypeOf(format: SinkFormat, body: WebhookBody): string {
  if (body === "lines") return "application/x-ndjson";
  return format === "cloudevents" ? "application/cloudevents-batch+json" : "application/json";
}

/** `[line,line]`: each record stays byte for byte as its line. */
function arrayOf(lines: Buffer): Buffer {
  const array = Buffer.allocUnsafe(lines.length + 1);
  array[0] = 0x5b;
  lines.copy(array, 1);
  for (let at = array.indexOf(0x0a, 1); at >= 0; at = array.indexOf(0x0a, at + 1)) array[at] = 0x2c;
  array[array.length - 1] = 0x5d; // the last line end
  return array;
}
