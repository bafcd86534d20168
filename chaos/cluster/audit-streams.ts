/**
 * Audit streams: reads what JetStream has of the decision records, in each region: at the end, and before a fault
 * deletes the stream.
 */
import { DeliverPolicy, JetStreamApiError, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { auditStreamName } from "../../src/audit/index.ts";
import { type AuditLine, auditLineOf } from "../judge/audit-line.ts";
import { cluster } from "../world.ts";

export type StreamCopy = Readonly<{ lines: readonly AuditLine[]; malformed: number }>;

export type AuditStreams = Readonly<{
  /** Keeps what the servers have now. @throws if they do not answer */
  keep(servers: readonly string[]): Promise<void>;
  /** Everything that was kept. */
  kept(): StreamCopy;
}>;

const apiMsMax = 5_000;
const silentMsMax = 5_000;
const pullMessagesMax = 200;
const streamNotFound = 10_059;

export function createAuditStreams(): AuditStreams {
  const lines: AuditLine[] = [];
  let malformed = 0;
  return {
    async keep(servers) {
      for await (const { data, storedMs } of messagesOf(servers))
        for (const text of data.split("\n")) {
          const line = auditLineOf(text, storedMs);
          if (line !== undefined) lines.push(line);
          else if (text !== "") malformed += 1;
        }
    },
    kept: () => ({ lines, malformed }),
  };
}

async function* messagesOf(servers: readonly string[]): AsyncGenerator<Readonly<{ data: string; storedMs: number }>> {
  const connection = await connect({ servers: [...servers], timeout: apiMsMax, maxReconnectAttempts: 1 });
  try {
    const name = auditStreamName(cluster);
    const manager = await jetstreamManager(connection, { timeout: apiMsMax });
    const info = await manager.streams.info(name).catch((error: unknown) => {
      if (error instanceof JetStreamApiError && error.code === streamNotFound) return null;
      throw error;
    });
    if (info === null || info.state.messages === 0) return;
    const consumer = await jetstream(connection, { timeout: apiMsMax }).consumers.get(name, {
      deliver_policy: DeliverPolicy.All,
    });
    for (let seen = 1; seen > 0; ) {
      seen = 0;
      const batch = await consumer.fetch({ max_messages: pullMessagesMax, expires: silentMsMax });
      for await (const message of batch) {
        seen += 1;
        yield { data: message.string(), storedMs: message.info.timestampNanos / 1e6 };
        if (message.seq >= info.state.last_seq || message.info.pending === 0) return;
      }
    }
    throw new Error(`the audit stream of ${servers.join(", ")} stopped before its end`);
  } finally {
    await connection.close();
  }
}
