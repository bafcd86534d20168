/**
 * Slow reader: a caller that reads a download at a fixed rate, so that the proxy's kernel fills up, and that counts the
 * bytes that have reached its own machine, read or not.
 *
 * `reached()` adds the bytes that this process has read to those unread in its kernel, which Linux lists in
 * /proc/net/tcp. A socket that is no longer listed has been reset: no more bytes can reach it, though buffered ones can
 * still be read.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";

export type SlowReader = Readonly<{
  /** Bytes that have reached this machine; null: the connection was reset, so no more can. */
  reached(): number | null;
  /**
   * Reads at full speed from now on. Resolves with the final count when the connection has ended, or after `timeoutMs`.
   */
  drain(timeoutMs: number): Promise<number>;
  /** Whether the response head has arrived and the connection is open. */
  isOpen(): boolean;
  close(): void;
}>;

export type SlowReaderOptions = Readonly<{
  port: number;
  head: string;
  bytesPerSecond: number;
  /** The response head. */
  onHead: (head: string) => void;
  onEnd: (error: Error | null) => void;
}>;

const turnMs = 100;

export function openSlowReader({ port, head, bytesPerSecond, onHead, onEnd }: SlowReaderOptions): SlowReader {
  const socket = connect({ port, host: "127.0.0.1" });
  const perTurn = Math.max(1, Math.round((bytesPerSecond * turnMs) / 1_000));
  let text = "";
  let headRead = false;
  let problem: Error | null = null;
  let mode: "slow" | "fast" = "slow";
  const whenEnded = Promise.withResolvers<void>();

  const turn = setInterval(() => {
    if (mode === "slow") take(socket.read(Math.min(perTurn, socket.readableLength)));
  }, turnMs);

  function take(bytes: Buffer | null): void {
    if (headRead || bytes === null) return;
    text += bytes.toString("latin1");
    const end = text.indexOf("\r\n\r\n");
    if (end === -1) return;
    headRead = true;
    onHead(text.slice(0, end));
    text = "";
  }

  socket.on("connect", () => socket.write(head));
  socket.on("readable", () => {
    // An empty read makes the stream read from the kernel once its buffer is empty.
    if (mode === "fast") for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) take(bytes);
    else if (!headRead) take(socket.read());
  });
  socket.on("error", (error) => {
    problem = error;
  });
  socket.on("close", () => {
    clearInterval(turn);
    whenEnded.resolve();
    onEnd(problem);
  });

  return {
    reached() {
      const unread = unreadBytes(socket);
      return unread === null ? null : socket.bytesRead + unread;
    },
    async drain(timeoutMs) {
      mode = "fast";
      for (let bytes = socket.read(); bytes !== null; bytes = socket.read()) take(bytes);
      socket.read(0);
      const timer = setTimeout(whenEnded.resolve, timeoutMs);
      await whenEnded.promise;
      clearTimeout(timer);
      const count = socket.bytesRead + (unreadBytes(socket) ?? 0);
      socket.destroy();
      return count;
    },
    isOpen: () => headRead && !socket.closed,
    close: () => socket.destroy(),
  };
}

/** Unread bytes that the kernel holds for this socket; null: the kernel no longer lists the connection. */
function unreadBytes(socket: Socket): number | null {
  const { localPort, remotePort } = socket;
  if (localPort === undefined || remotePort === undefined) return null;
  return unreadIn(readTable(), { localPort, remotePort });
}

function readTable(): string {
  try {
    return readFileSync("/proc/net/tcp", "latin1");
  } catch {
    return ""; // not Linux
  }
}

/**
 * @param table the text of /proc/net/tcp: `sl local_address rem_address st tx_queue:rx_queue …`, numbers in hexadecimal
 */
export function unreadIn(table: string, at: Readonly<{ localPort: number; remotePort: number }>): number | null {
  for (const line of table.split("\n").slice(1)) {
    const [, local, remote, , queues] = line.trim().split(/\s+/);
    if (portIn(local) !== at.localPort || portIn(remote) !== at.remotePort) continue;
    return Number.parseInt(queues?.split(":")[1] ?? "0", 16);
  }
  return null;
}

function portIn(address: string | undefined): number {
  return Number.parseInt(address?.split(":")[1] ?? "", 16);
}
