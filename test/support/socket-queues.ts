/** Socket queues: what the kernel of this machine holds of a TCP connection, by the ports of its two ends (Linux). */
import { existsSync, readFileSync } from "node:fs";

/** The reason to skip a test that needs this; false: none. */
export const cannotReadQueues = existsSync("/proc/net/tcp") ? false : "only Linux tells what its buffers hold";

export type Queues = Readonly<{
  /** Sent or unsent, and not acknowledged. Null: the kernel knows no such socket any more. */
  unacked: number | null;
  /** Received, and not read yet. */
  received: number;
}>;

const established = "01";
const table = (): string[] =>
  ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) =>
    existsSync(path) ? readFileSync(path, "utf8").split("\n") : [],
  );

/** The end of a connection that has the local port `from`. */
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
