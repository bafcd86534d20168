/**
 * NATS audit sink: publishes audit records to JetStream, as batches of JSON lines on `audit.<cluster>.<region>.<node>`
 * in the stream `AUDIT_<CLUSTER>`.
 *
 * - A message is written once the stream has acknowledged it.
 * - The stream drops a repeated message id within ten minutes. Readers drop later repetitions, because numbers only
 *   grow.
 * - Each message carries its node's signature (record-proof.ts).
 * - The sink has its own connection, so that bulk data never delays leases and event batches.
 */

import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { CodedError } from "../events/index.ts";
import { natsJetstream, natsTransport } from "../replication/fanout/index.ts";
import { AuditRejectedError, type AuditSink } from "./audit-sink.ts";
import { auditSubject, auditSubjects } from "./audit-subject.ts";
import { proveRecords, type RecordSigner, recordMessageId } from "./record-proof.ts";
import type { AuditBatch } from "./spool/index.ts";

export function auditStreamName(cluster: string): string {
  return `AUDIT_${cluster.toUpperCase().replace(/[^A-Z0-9_-]/g, "_")}`;
}

const retentionMs = 30 * 24 * 3_600_000;
const duplicatesMs = 10 * 60_000;
const publishTimeoutMs = 5_000;
/** JetStream's default limit on a message is 1 MB; batches are split well below it, and below the server's own. */
const messageBytesMax = 512 * 1_024;
/** Room for the proof, which the server counts too. */
const headerBytes = 8_192;
/** The server's code for "no such stream". */
const streamNotFound = 10_059;
/** The server's codes for too little storage: of no server in a cluster, in total, for an account, for a tier. */
const noRoom: ReadonlySet<number> = new Set([10_005, 10_023, 10_028, 10_047, 10_120]);
const streamBytesLeast = 16 * 1_048_576;

export class AuditSinkDisconnectedError extends CodedError<"ERR_AUDIT_SINK_DISCONNECTED"> {
  override readonly code = "ERR_AUDIT_SINK_DISCONNECTED";
  constructor() {
    super("the connection to NATS is lost; the batch waits until it is back");
  }
}

export function createNatsAuditSink(options: {
  connection: NatsConnection;
  cluster: string;
  region: string;
  node: string;
  /** The present boot. It also publishes what earlier boots of its node left. */
  boot: string;
  signer: RecordSigner;
  replicas: number;
  streamBytesMax: number;
}): AuditSink {
  const subject = auditSubject(options);
  const client = natsJetstream().jetstream(options.connection, { timeout: publishTimeoutMs });
  let streamSeen = false;
  let isConnected = true;

  async function watchConnection(): Promise<void> {
    for await (const { type } of options.connection.status()) {
      if (type === "disconnect") isConnected = false;
      else if (type === "reconnect") isConnected = true;
    }
  }
  void watchConnection(); // ends with the connection

  async function ensureStream(): Promise<void> {
    if (streamSeen) return;
    await ensureAuditStream(options.connection, options);
    streamSeen = true;
  }

  return {
    name: "nats",
    /** @throws AuditSinkDisconnectedError, because a disconnected client would queue every attempt without a bound */
    async write(batch) {
      if (!isConnected) throw new AuditSinkDisconnectedError();
      await ensureStream();
      const { boot } = batch;
      const serverBytesMax = options.connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
      const bytesMax = Math.min(messageBytesMax, serverBytesMax - headerBytes);
      for (const { first, last, bytes } of split(batch, bytesMax)) {
        if (bytes.length + headerBytes > serverBytesMax)
          throw new AuditRejectedError("nats", `it has ${bytes.length} bytes; the server takes ${serverBytesMax}`);
        try {
          const headers = natsTransport().headers();
          const message = { subject, first, last, bytes };
          const of = boot === options.boot ? message : { ...message, boot };
          const proof = proveRecords(of, options.signer, Date.now());
          for (const [name, value] of Object.entries(proof)) headers.set(name, value);
          await client.publish(subject, bytes, {
            msgID: recordMessageId(message, boot, options.signer.secret),
            headers,
          });
        } catch (error) {
          streamSeen = false; // it may have been deleted: check again before the next attempt
          throw error;
        }
      }
    },
    close: () => options.connection.drain(),
  };
}

export type AuditStreamOptions = Readonly<{ cluster: string; replicas: number; streamBytesMax: number }>;

/** Creates the audit stream if it does not exist, and limits one that has no limit. An existing limit stays. */
export async function ensureAuditStream(
  connection: NatsConnection,
  { cluster, replicas, streamBytesMax }: AuditStreamOptions,
): Promise<StreamInfo> {
  const manager = await natsJetstream().jetstreamManager(connection, { timeout: publishTimeoutMs, checkAPI: false });
  const name = auditStreamName(cluster);
  try {
    const info = await manager.streams.info(name);
    return info.config.max_bytes > 0 ? info : await limit(manager, info, streamBytesMax);
  } catch (error) {
    if (!(error instanceof natsJetstream().JetStreamApiError) || error.code !== streamNotFound) throw error;
  }
  const settings = {
    name,
    subjects: [auditSubjects(cluster)],
    retention: natsJetstream().RetentionPolicy.Limits,
    storage: natsJetstream().StorageType.File,
    discard: natsJetstream().DiscardPolicy.Old,
    max_age: natsTransport().nanos(retentionMs),
    duplicate_window: natsTransport().nanos(duplicatesMs),
  };
  const sized = { ...settings, max_bytes: streamBytesMax };
  if (replicas === 1) return addLargest(manager, { ...sized, num_replicas: 1 });
  try {
    return await addLargest(manager, { ...sized, num_replicas: replicas });
  } catch (error) {
    if (!(error instanceof natsJetstream().JetStreamApiError)) throw error;
    return addLargest(manager, { ...sized, num_replicas: 1 }); // too few servers: one copy is better than none
  }
}

/** JetStream reserves the limit in advance. With less room, a smaller stream is better than none. */
async function addLargest(
  manager: JetStreamManager,
  config: Parameters<JetStreamManager["streams"]["add"]>[0] & Readonly<{ max_bytes: number }>,
): Promise<StreamInfo> {
  for (let bytesMax = config.max_bytes; ; bytesMax = Math.floor(bytesMax / 4)) {
    try {
      return await manager.streams.add({ ...config, max_bytes: bytesMax });
    } catch (error) {
      if (!(error instanceof natsJetstream().JetStreamApiError) || !noRoom.has(error.code)) throw error;
      if (bytesMax / 4 < streamBytesLeast) throw error;
    }
  }
}

/** If the server refuses (no room, no permission), the stream stays as it is: records matter more than the limit. */
async function limit(manager: JetStreamManager, info: StreamInfo, bytesMax: number): Promise<StreamInfo> {
  const { name } = info.config;
  try {
    return await manager.streams.update(name, { max_bytes: bytesMax, discard: natsJetstream().DiscardPolicy.Old });
  } catch {
    return info;
  }
}

/** Splits a batch between lines. A batch of several records has dense numbers. */
function split(batch: AuditBatch, bytesMax: number): AuditBatch[] {
  const parts: AuditBatch[] = [];
  const { bytes } = batch;
  let { first } = batch;
  for (let from = 0; from < bytes.length; ) {
    let to = bytes.length;
    let { last } = batch;
    if (to - from > bytesMax) {
      to = bytes.indexOf(0x0a, from) + 1;
      for (last = first; ; last++) {
        const end = bytes.indexOf(0x0a, to) + 1;
        if (end === 0 || end - from > bytesMax) break;
        to = end;
      }
    }
    parts.push({ boot: batch.boot, first, last, bytes: bytes.subarray(from, to) });
    from = to;
    first = last + 1;
  }
  return parts;
}
