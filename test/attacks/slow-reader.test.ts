/**
 * A cut discards what waits for a caller that does not read, in this process and in its kernel. The caller can read
 * only what its own kernel had received before the cut; the kernel reports how much that is.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import {
  cookieOf,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import {
  endHeaders,
  endStream,
  headers,
  initialWindow,
  RawHttp2,
  requestLines,
  windowUpdate,
} from "../support/http2-frames.ts";
import { cannotReadQueues, queuesAt } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

const skip = cannotReadQueues;
const hugeWindow = 2 ** 31 - 1;

/** Bytes in the kernel queues of both ends of a local connection. */
function queuesOf(socket: Socket, port: number): Readonly<{ unacked: number; received: number }> {
  const { localPort = 0 } = socket;
  return { unacked: queuesAt(port, localPort).unacked ?? 0, received: queuesAt(localPort, port).received };
}

/** Waits until the measured number has stopped changing. */
async function untilStable(description: string, measure: () => number): Promise<number> {
  let before = -1;
  let same = 0;
  return waitFor(
    description,
    () => {
      const now = measure();
      same = now === before ? same + 1 : 0;
      before = now;
      return same >= 4 && now;
    },
    { everyMs: 20, withinMs: 60_000 },
  );
}

for (const transport of ["plain", "tls"] as const) {
  describe(`${transport}: a caller that does not read`, { skip }, () => {
    let upstream: Upstream;
    let rig: Rig;
    before(async () => {
      const chunk = Buffer.alloc(65_536, 97);
      upstream = await startUpstream((req, res) => {
        if (req.url === "/whole") {
          res.end(Buffer.alloc(30_000_000, 97));
          return;
        }
        const pour = (): void => {
          while (res.write(chunk));
        };
        res.on("drain", pour);
        pour();
      });
      const certificates = [selfSigned("DNS:app.localhost")];
      const config = transport === "tls" ? { insecureServer: false, certificates } : {};
      rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })], { config });
    });
    after(async () => {
      await waitFor("every exchange to end", () => rig.proxy.stats().exchanges.http === 0);
      await rig.close();
      await upstream.close();
    });

    /** Bytes that were received but not yet decrypted count only once their TLS record is complete. */
    const slack = transport === "tls" ? 70_000 : 0;
    async function openStalled(alpn: string, sendRequest: (socket: Socket) => void): Promise<Socket> {
      const { port } = rig;
      const host = "127.0.0.1";
      const socket =
        transport === "plain"
          ? connect({ port, host })
          : connectTls({ port, host, rejectUnauthorized: false, ALPNProtocols: [alpn] });
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once(transport === "plain" ? "connect" : "secureConnect", resolve));
      sendRequest(socket);
      socket.pause();
      await untilStable("the kernels to be full", () => {
        const { unacked, received } = queuesOf(socket, port);
        return unacked + received;
      });
      return socket;
    }

    /**
     * Cuts the session and reads all there is. @returns bytes received beyond what the caller's kernel held before the
     * cut
     */
    async function cutAndRead(socket: Socket, session: number): Promise<number> {
      const { unacked, received } = queuesOf(socket, rig.port);
      assert.ok(unacked > 0, "the proxy's kernel holds bytes");
      const before = socket.bytesRead;
      await rig.apply(sessionRevoked(session));
      assert.equal(queuesOf(socket, rig.port).unacked, 0, "and holds none when the cut is reported");
      socket.resume();
      await untilStable("everything to be read", () => socket.bytesRead);
      const receivedAfter = socket.bytesRead - before;
      socket.destroy();
      return receivedAfter - received;
    }

    const head = (n: number, path: string): string =>
      `GET ${path} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(n)}\r\n\r\n`;
    for (const [n, path] of [
      [1, "/pour"],
      [2, "/whole"],
    ] as const)
      test(`HTTP/1, ${path}: receives nothing after the cut`, async () => {
        await rig.apply(signedIn(n));
        const socket = await openStalled("http/1.1", (each) => each.write(head(n, path)));
        const beyond = await cutAndRead(socket, n);
        assert.ok(beyond <= slack, `${beyond} bytes left this machine after the cut`);
      });

    for (const [n, path, streams] of [
      [3, "/pour", 1],
      [4, "/pour", 20],
      [5, "/whole", 1],
    ] as const)
      test(`HTTP/2, ${path}, ${streams} streams: receives nothing after the cut`, async () => {
        await rig.apply(signedIn(n));
        const socket = await openStalled("h2", (each) => {
          const client = new RawHttp2(each, [initialWindow(hugeWindow)]);
          client.send(windowUpdate(0, hugeWindow - 65_535));
          for (let i = 0; i < streams; i++)
            client.send(
              headers(
                1 + 2 * i,
                endHeaders | endStream,
                ...[":method", "GET", ":scheme", "http", ":authority", "app.localhost"],
                ":path",
                path,
                "cookie",
                cookieOf(n),
              ),
            );
        });
        const beyond = await cutAndRead(socket, n);
        assert.ok(beyond <= slack, `${beyond} bytes left this machine after the cut`);
      });
  });
}

test("HTTP/2: a caller that reads keeps its connection and its other streams", { skip }, async (t) => {
  const upstream = await startUpstream((_req, res) => {
    const timer = setInterval(() => res.write("tick"), 5);
    res.on("close", () => clearInterval(timer));
  });
  const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0 })]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.apply(signedIn(1), signedIn(2));
  const socket = connect(rig.port, "127.0.0.1");
  const client = new RawHttp2(socket);
  const streams = new Map([
    [1, 1],
    [3, 2],
  ]);
  for (const [stream, n] of streams) client.send(headers(stream, endHeaders | endStream, ...requestLines(cookieOf(n))));
  await waitFor("both streams to carry data", () => client.stream(1).bytes > 0 && client.stream(3).bytes > 0);

  await rig.apply(sessionRevoked(1));

  await waitFor("the stream to be reset", () => client.stream(1).reset === 8);
  const before = client.stream(3).bytes;
  await waitFor("the other stream to continue", () => client.stream(3).bytes > before + 100);
  assert.equal(client.closed, false);
  socket.destroy();
});
