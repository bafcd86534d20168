/**
 * NATS audit reader: reads the audit stream of all nodes from a point in time to its current end, for commands about
 * the past. Refuses records that no node of the cluster signed, and repeated ones (record-proof.ts).
 */
import type { NatsConnection } from "@nats-io/transport-node";
import { natsJetstream } from "../replication/fanout/index.ts";
import type { AuditRecord } from "./audit-record.ts";
import { auditStreamName } from "./nats-audit-sink.ts";
import { receivedRecordsOf } from "./nats-received.ts";
import { createRecordVerifier, type RecordRefusal, type VerifierOptions } from "./record-proof.ts";

const apiMsMax = 5_000;
/** Silence while more records are pending: the stream was truncated or deleted. */
const silentMsMax = 10_000;
/** Each may be a megabyte. */
const pullMessagesMax = 16;

/** A record, or why a whole message of the stream is refused. */
export type StreamedRecord = Readonly<{ record: AuditRecord } | { refused: RecordRefusal }>;

/** Yields signed records, oldest first. @throws if the stream cannot be read to its end */
export async function* readAuditStream(
  connection: NatsConnection,
  { cluster, secrets, fromMs }: VerifierOptions,
): AsyncGenerator<StreamedRecord> {
  const verifier = createRecordVerifier({ cluster, secrets, fromMs });
  const name = auditStreamName(cluster);
  const manager = await natsJetstream().jetstreamManager(connection, { timeout: apiMsMax, checkAPI: false });
  const { state } = await manager.streams.info(name);
  const last = state.last_seq;
  if (state.messages === 0) return;
  const consumer = await natsJetstream()
    .jetstream(connection, { timeout: apiMsMax })
    .consumers.get(name, {
      deliver_policy: natsJetstream().DeliverPolicy.StartTime,
      opt_start_time: new Date(fromMs).toISOString(),
    });
  if ((await consumer.info()).num_pending === 0) return;
  for (;;) {
    const batch = await consumer.fetch({ max_messages: pullMessagesMax, expires: silentMsMax });
    let seen = 0;
    for await (const message of batch) {
      seen += 1;
      const opened = verifier.open(receivedRecordsOf(message));
      if ("refused" in opened) yield opened;
      else for (const { record } of opened.records) yield { record };
      if (message.seq >= last) return;
      if (message.info.pending === 0) return;
    }
    if (seen === 0) throw new Error(`the audit stream ${name} stopped before its end`);
  }
}
