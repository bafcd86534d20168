/** Socket queues: the bytes in the kernel's queues of a TCP connection, found by the ports of its two ends (Linux). */
import { existsSync, readFileSync } from "node:fs";

/** The reason to skip a test that needs the queues; false: they can be read. */
export const cannotReadQueues = existsSync("/proc/net/tcp") ? false : "only Linux tells what its buffers hold";

export type Queues = Readonly<{
  /** Bytes not yet acknowledged, sent or unsent. Null: the kernel has no such socket. */
  unacked: number | null;
  /** Bytes received and not yet read. */
  received: number;
}>;

const established = "01";
const table = (): string[] =>
  ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) =>
    existsSync(path) ? readFileSync(path, "utf8").split("\n") : [],
  );

/** The queues at the end of the connection that has the local port `from`. */
export function queuesAt(from: number, to: number): Queues {
  let found: Queues = { unacked: null, received: 0 };
  for (const line of table()) {
    const [, local = "", remote = "", state = "", queues = ""] = line.trim().split(/\s+/);
    if (portOf(local) !== from || portOf(remote) !== to) continue;
    const [tx = 0, rx = 0] = queues.split(":").map((queue) => Number.parseInt(queue, 16));
    found = { unacked: tx, received: rx };
    if (state === established) break;
  }
  return found;
}

function portOf(address: string): number {
  return Number.parseInt(address.split(":")[1] ?? "", 16);
}
