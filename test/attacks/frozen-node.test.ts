/**
 * A node that is frozen sends no more than what its kernel held, and a node that is killed sends nothing: what docs/receipts.md says of
 * a fenced node.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

/** As stated in docs/receipts.md. */
const heldBytesMax = 81_920;

type Held = Readonly<{
  socket: Socket;
  signal: (name: "SIGSTOP" | "SIGKILL") => Promise<unknown>;
  received: () => number;
}>;

/** A caller that does not read, when the kernels of both sides are full. */
async function startHeld(t: TestContext): Promise<Held> {
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
    "the kernels to take no more",
    () => {
      const held = queuesAt(port, socket.localPort ?? 0).unacked ?? 0;
      same = held > 0 && held === last ? same + 1 : 0;
      last = held;
      return same > 10;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
  const received = (): number => socket.bytesRead + queuesAt(socket.localPort ?? 0, port).received;
  /** Settles when the process runs no more. */
  const signal: Held["signal"] = (name) => {
    const exited = once(child, "exit");
    child.kill(name);
    if (name === "SIGKILL") return exited;
    const isStopped = (): boolean => readFileSync(`/proc/${child.pid}/stat`, "latin1").includes(") T ");
    return waitFor("the process to stop", isStopped);
  };
  return { socket, signal, received };
}

/** Reads until nothing comes any more. */
async function readAll(socket: Socket): Promise<number> {
  let last = -1;
  let same = 0;
  socket.resume();
  await waitFor(
    "nothing to come any more",
    () => {
      same = socket.bytesRead === last ? same + 1 : 0;
      last = socket.bytesRead;
      return same > 25;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
  return last;
}

test("the kernel of a frozen node sends what it held, and no more than is stated", { skip }, async (t) => {
  const { socket, signal, received } = await startHeld(t);
  await signal("SIGSTOP");
  const before = received();
  const late = (await readAll(socket)) - before;
  assert.ok(late > 0 && late <= heldBytesMax, `${late} bytes came from a frozen node`);
});

test("the kernel of a killed node sends nothing", { skip }, async (t) => {
  const { socket, signal, received } = await startHeld(t);
  const before = received();
  await signal("SIGKILL");
  const late = (await readAll(socket)) - before;
  assert.ok(late <= 0, `${late} bytes came from a killed node`);
});
