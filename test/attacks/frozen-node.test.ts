/**
 * What a node can still send once receipts count it as fenced, as docs/receipts.md states. A frozen node sends no more
 * than its kernel held. A node that wakes after its lease sends no more than its process had queued. A killed node
 * sends nothing.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import {
  endHeaders,
  endStream,
  headers,
  initialWindow,
  RawHttp2,
  requestLines,
  windowUpdate,
} from "../support/http2-frames.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

/** The bound in docs/receipts.md. */
const heldBytesMax = 81_920;

type StalledCaller = Readonly<{
  socket: Socket;
  signal: (name: "SIGSTOP" | "SIGKILL") => Promise<unknown>;
  received: () => number;
}>;

/** Starts a caller that does not read and waits until the kernels of both sides are full. */
async function startStalledCaller(t: TestContext): Promise<StalledCaller> {
  const child = spawn(process.execPath, [new URL("frozen-proxy-process.ts", import.meta.url).pathname], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  const [line] = await once(createInterface(child.stdout), "line");
  const { port, cookie } = JSON.parse(String(line)) as { port: number; cookie: string };
  const socket = connect(port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookie}\r\n\r\n`);
  socket.pause();
  let last = -1;
  let same = 0;
  await waitFor(
    "the kernels to be full",
    () => {
      const heldBytes = queuesAt(port, socket.localPort ?? 0).unacked ?? 0;
      same = heldBytes > 0 && heldBytes === last ? same + 1 : 0;
      last = heldBytes;
      return same > 10;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
  const received = (): number => socket.bytesRead + queuesAt(socket.localPort ?? 0, port).received;
  /** Settles once the process has stopped or exited. */
  const signal: StalledCaller["signal"] = (name) => {
    const exited = once(child, "exit");
    child.kill(name);
    if (name === "SIGKILL") return exited;
    const isStopped = (): boolean => readFileSync(`/proc/${child.pid}/stat`, "latin1").includes(") T ");
    return waitFor("the process to stop", isStopped);
  };
  return { socket, signal, received };
}

/** Reads until no more bytes arrive. */
async function readAll(socket: Socket): Promise<number> {
  let last = -1;
  let same = 0;
  socket.resume();
  await waitFor(
    "the stream of bytes to dry up",
    () => {
      same = socket.bytesRead === last ? same + 1 : 0;
      last = socket.bytesRead;
      return same > 25;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
  return last;
}

test("the kernel of a frozen node sends what it held, at most the stated bound", { skip }, async (t) => {
  const { socket, signal, received } = await startStalledCaller(t);
  await signal("SIGSTOP");
  const before = received();
  const late = (await readAll(socket)) - before;
  assert.ok(late > 0 && late <= heldBytesMax, `${late} bytes arrived from a frozen node`);
});

test("the kernel of a killed node sends nothing", { skip }, async (t) => {
  const { socket, signal, received } = await startStalledCaller(t);
  const before = received();
  await signal("SIGKILL");
  const late = (await readAll(socket)) - before;
  assert.ok(late <= 0, `${late} bytes arrived from a killed node`);
});

/**
 * Bytes that a process may have queued for an HTTP/1.1 connection, and for each stream of an HTTP/2 connection, as
 * stated in docs/receipts.md.
 */
const queuedBytesMax = 131_072;
/** Overhead of TLS, HTTP/2 and chunked coding, as a factor. */
const framingShare = 1.05;

for (const transport of ["plain", "tls"] as const)
  test(`${transport}: a node that wakes after its lease sends at most what it had queued`, {
    skip,
  }, async (t) => {
    const program = new URL("frozen-proxy-process.ts", import.meta.url).pathname;
    const child = spawn(process.execPath, [program, transport], { stdio: ["pipe", "pipe", "inherit"] });
    t.after(() => child.kill("SIGKILL"));
    const lines = createInterface(child.stdout);
    const { port, cookie } = JSON.parse(String((await once(lines, "line"))[0])) as { port: number; cookie: string };

    /** @param streams number of HTTP/2 streams; 0 means HTTP/1.1 */
    async function caller(streams: number): Promise<Socket> {
      const at = { port, host: "127.0.0.1" };
      const ALPNProtocols = [streams === 0 ? "http/1.1" : "h2"];
      const socket =
        transport === "plain" ? connect(at) : connectTls({ ...at, rejectUnauthorized: false, ALPNProtocols });
      t.after(() => socket.destroy());
      socket.on("error", () => {});
      await once(socket, transport === "plain" ? "connect" : "secureConnect");
      if (streams === 0) socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookie}\r\n\r\n`);
      else {
        const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
        client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
        const lines = requestLines(cookie);
        for (let n = 0; n < streams; n++) client.send(headers(1 + 2 * n, endHeaders | endStream, ...lines));
      }
      socket.pause();
      return socket;
    }

    const kinds = [0, 1, 8];
    const sockets = await Promise.all(kinds.map(caller));
    const heldBytes = (socket: Socket): number => queuesAt(port, socket.localPort ?? 0).unacked ?? 0;
    await waitUntilStable(
      "the kernels to be full",
      () => sockets.map(heldBytes),
      () => sockets.every((socket) => heldBytes(socket) > 0),
    );
    child.stdin.write("expire\n");
    await once(lines, "line");
    const expiresBy = performance.now() + 500;
    child.kill("SIGSTOP");
    const inCallers = sockets.map((socket) => socket.bytesRead + queuesAt(socket.localPort ?? 0, port).received);
    await waitFor("the lease to expire", () => performance.now() > expiresBy);
    for (const socket of sockets) socket.resume();
    const read = (): number[] => sockets.map(({ bytesRead }) => bytesRead);
    await waitUntilStable("everything that the kernels held to arrive", read, () => true);
    const frozen = read();
    for (const [i, kind] of kinds.entries()) {
      const late = (frozen[i] ?? 0) - (inCallers[i] ?? 0);
      assert.ok(late <= heldBytesMax, `${late} bytes arrived from a frozen node, ${kind} streams`);
    }
    child.kill("SIGCONT");
    await waitFor("the cut", () => sockets[0]?.destroyed === true, { withinMs: 30_000 });
    await waitUntilStable("everything that the process had queued to arrive", read, () => true);
    for (const [i, kind] of kinds.entries()) {
      const late = (read()[i] ?? 0) - (frozen[i] ?? 0);
      const bound = queuedBytesMax * Math.max(1, kind) * framingShare;
      assert.ok(late <= bound, `${late} bytes arrived from a node that woke, ${kind} streams`);
    }
  });

/** Settles once the numbers have stopped changing. */
async function waitUntilStable(
  description: string,
  numbers: () => readonly number[],
  isEnough: () => boolean,
): Promise<void> {
  let last = "";
  let same = 0;
  await waitFor(
    description,
    () => {
      const now = numbers().join(" ");
      same = now === last && isEnough() ? same + 1 : 0;
      last = now;
      return same > 10;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
}
