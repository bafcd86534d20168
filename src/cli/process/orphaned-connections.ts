/**
 * Handed connections: those that were handed to a worker which ended before it took them.
 *
 * node:cluster waits for the worker's word on each, for ever: nobody would serve such a connection, and nobody would close it. Its
 * words are read on their way, and what has none when the worker is gone is answered in its place. The worker says its word before it
 * reads, and all of them are read before its channel ends: so nobody has seen a byte of what is given to another one. Where a later
 * version of Node has other words, nothing is done here.
 */
import type { Worker } from "node:cluster";

/** Of node:cluster, in both directions. */
const command = "NODE_CLUSTER";
type ClusterMessage = Readonly<{ cmd?: unknown; act?: unknown; seq?: unknown; ack?: unknown }>;

/** How often it is looked whether all that a worker said before it ended has been read. */
const pollMs = 10;

/** @param others whether another worker listens: then the connections are theirs */
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
    const accepted = !others(); // it is closed then
    for (const ack of unacknowledged) child.emit("internalMessage", { cmd: command, ack, accepted });
  });
  // A channel on which the worker owes a word ends without a `disconnect`, and node:cluster may go on counting the worker in.
  const waitForChannel = (): void => {
    if (child.connected) setTimeout(waitForChannel, pollMs);
    else setImmediate(() => ended || child.emit("disconnect"));
  };
  child.once("exit", waitForChannel);
}
