/**
 * Orphaned connections: those that were passed to a worker which ended before it accepted them.
 *
 * node:cluster waits for a worker's acknowledgement of each connection for ever, so such a connection would neither be
 * served nor closed. This file reads the acknowledgements on their way, and when a worker has ended, answers the
 * missing ones in its place. A worker acknowledges before it reads, and its channel delivers every acknowledgement
 * before it ends: so no byte of a reassigned connection has been read. With an unknown message format of a later Node
 * it does nothing.
 */
import type { Worker } from "node:cluster";

/** The message type of node:cluster, in both directions. */
const command = "NODE_CLUSTER";
type ClusterMessage = Readonly<{ cmd?: unknown; act?: unknown; seq?: unknown; ack?: unknown }>;

/** How often to check whether all messages of an ended worker have been read. */
const pollMs = 10;

/** @param others whether another worker listens, which then gets the connections */
export function reassignOrphanedConnections(worker: Worker, others: () => boolean): void {
  const child = worker.process;
  const unacknowledged = new Set<unknown>();
  const send = child.send.bind(child) as (...said: unknown[]) => boolean;
  child.send = (...said: unknown[]): boolean => {
    const { cmd, act, seq } = said[0] as ClusterMessage;
    if (cmd === command && act === "newconn") unacknowledged.add(seq);
    return send(...said);
  };
  child.on("internalMessage", ({ cmd, ack }: ClusterMessage) => {
    if (cmd === command) unacknowledged.delete(ack);
  });
  let ended = false;
  child.once("disconnect", () => {
    ended = true;
    const accepted = !others(); // accepted without a worker: node:cluster closes it
    for (const ack of unacknowledged) child.emit("internalMessage", { cmd: command, ack, accepted });
  });
  // With a pending acknowledgement the channel ends without `disconnect`, and node:cluster may still count the worker.
  const waitForChannel = (): void => {
    if (child.connected) setTimeout(waitForChannel, pollMs);
    else setImmediate(() => ended || child.emit("disconnect"));
  };
  child.once("exit", waitForChannel);
}
