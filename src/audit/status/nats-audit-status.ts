/** NATS audit status: reports of a node's audit status over NATS core, on `audit-status.<cluster>`; none is stored. */
import type { NatsConnection } from "@nats-io/transport-node";
import { natsTransport } from "../../replication/fanout/index.ts";
import { proofTagHeader } from "../record-proof.ts";
import { type SignedStatus, type StatusBoard, statusBytesMax } from "./audit-status.ts";

export const statusEveryMs = 10_000;

export function statusSubject(cluster: string): string {
  return `audit-status.${cluster.replace(/[^\w-]/g, "_")}`;
}

/** Publishes what `report` makes, now and periodically, until the signal aborts. A lost report is followed by one. */
export async function publishAuditStatus(options: {
  connection: () => Promise<NatsConnection>;
  cluster: string;
  report: () => SignedStatus;
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  signal: AbortSignal;
}): Promise<void> {
  const { signal } = options;
  while (!signal.aborted) {
    try {
      const connection = await options.connection();
      const { envelope, tag } = options.report();
      const headers = natsTransport().headers();
      headers.set(proofTagHeader, tag);
      connection.publish(statusSubject(options.cluster), envelope, { headers });
    } catch {
      // The connection is away. A status that is not heard is shown as old.
    }
    await options.sleep(statusEveryMs, signal).catch(() => undefined);
  }
}

/** Subscribes with a connection, for as long as that is open. */
export function receiveAuditStatus(connection: NatsConnection, cluster: string, board: StatusBoard): void {
  connection.subscribe(statusSubject(cluster), {
    callback: (error, message) => {
      if (error !== null || message.data.length > statusBytesMax) return;
      // A report that is refused counts as not sent.
      board.accept({ envelope: message.data, tag: message.headers?.get(proofTagHeader) });
    },
  });
}
