/**
 * A node whose Node.js has no `node:ffi` warns at start-up. Its cuts reset HTTP/1 connections, which discards what the
 * kernel holds. For an HTTP/2 stream the kernel still sends what it held, as docs/receipts.md states for such a node.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface, type Interface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { cookieOf } from "../proxy/support.ts";
import { endHeaders, endStream, headers, initialWindow, RawHttp2, windowUpdate } from "../support/http2-frames.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

for (const transport of ["plain", "tls"] as const)
  describe(`without node:ffi, ${transport}`, { skip }, () => {
    let child: ChildProcess;
    let lines: Interface;
    let started: { port: number; warnings: string[]; unsentMax: string };
    before(async () => {
      const program = new URL("frozen-proxy-process.ts", import.meta.url).pathname;
      child = spawn(process.execPath, ["--no-experimental-ffi", program, transport], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      lines = createInterface(child.stdout as NodeJS.ReadableStream);
      const [line] = await once(lines, "line");
      started = JSON.parse(String(line));
    });
    after(() => child.kill("SIGKILL"));

    async function revoke(session: number): Promise<void> {
      child.stdin?.write(`revoke ${session}\n`);
      await once(lines, "line");
    }

    async function caller(alpn: string): Promise<Socket> {
      const at = { port: started.port, host: "127.0.0.1" };
      const socket =
        transport === "plain" ? connect(at) : connectTls({ ...at, rejectUnauthorized: false, ALPNProtocols: [alpn] });
      socket.on("error", () => {});
      await once(socket, transport === "plain" ? "connect" : "secureConnect");
      return socket;
    }

    const heldBytes = (socket: Socket): number | null => queuesAt(started.port, socket.localPort ?? 0).unacked;
    async function waitUntilFull(socket: Socket): Promise<void> {
      let last = -1;
      let same = 0;
      await waitFor(
        "the kernels to be full",
        () => {
          const now = heldBytes(socket) ?? 0;
          same = now > 0 && now === last ? same + 1 : 0;
          last = now;
          return same > 10;
        },
        { everyMs: 20, withinMs: 60_000 },
      );
    }

    test("the node warns at start-up", () => {
      const text = "this node cannot read or bound what the kernel holds of its connections; receipts do not cover it";
      assert.deepEqual([started.warnings, started.unsentMax], [[text], "+Inf"]);
    });

    test("a cut resets an HTTP/1.1 connection, and the kernel discards what it holds", async () => {
      const socket = await caller("http/1.1");
      socket.pause();
      socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(1)}\r\n\r\n`);
      await waitUntilFull(socket);
      await revoke(1);
      assert.equal(heldBytes(socket), null);
      socket.destroy();
    });

    test("a cut resets only the HTTP/2 stream, after what the kernel holds", async () => {
      const socket = await caller("h2");
      const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
      client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
      const line = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/"];
      client.send(headers(1, endHeaders | endStream, ...line, "cookie", cookieOf(2)));
      socket.pause();
      await waitUntilFull(socket);
      await revoke(2);
      assert.notEqual(heldBytes(socket), null, "the connection stays open");
      socket.resume();
      await waitFor("the stream to be reset", () => client.isOver(1), { withinMs: 60_000 });
      assert.equal(client.closed, false);
      socket.destroy();
    });
  });

test("a node whose sandbox forbids reading the queues detects that it cannot read them", { skip }, async () => {
  const program = new URL("sandboxed-process.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, ["--no-warnings", program], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface(child.stdout), "line");
  assert.deepEqual(JSON.parse(String(line)), { isSandboxed: true, heldBytesMax: "Infinity" });
});
