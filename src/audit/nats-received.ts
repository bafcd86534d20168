/** Received records: what the verifier asks of a JetStream message, and the sequence that its number belongs to. */
import type { JsMsg, StreamInfo } from "@nats-io/jetstream";
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

/** Tells a stream from one that was created again under its name. */
export function sequenceOf({ created }: Pick<StreamInfo, "created">): string {
  return Date.parse(created).toString(36);
}
