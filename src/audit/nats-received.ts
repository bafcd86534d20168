/** Received records: what the verifier asks of a JetStream message. */
import type { JsMsg } from "@nats-io/jetstream";
import { overheadBytesOf } from "../replication/fanout/index.ts";
import type { ReceivedRecords } from "./record-proof.ts";

export function receivedRecordsOf(message: JsMsg): ReceivedRecords {
  return {
    subject: message.subject,
    bytes: message.data,
    overheadBytes: overheadBytesOf(message),
    header: (name) => message.headers?.get(name),
    storedAtMs: message.info.timestampNanos / 1e6,
  };
}
