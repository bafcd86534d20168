/**
 * A cut discards what waits for a caller that does not read, in this process and in its kernel. What the caller's own
 * kernel has received before is all that the caller can still read. The kernel itself says how much that is.
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

/** Bytes in the queues of both ends of a connection on this machine. */
function queuesOf(socket: Socket, port: number): Readonly<{ unacked: number; received: number }> {
  const { localPort = 0 } = socket;
  return { unacked: queuesAt(port, localPort).unacked ?? 0, received: queuesAt(localPort, port).received };
}

/** Waits until nothing moves any more. */
async function settled(what: string, measure: () => number): Promise<number> {
  let before = -1;
  let same = 0;
  return waitFor(
    what,
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
  describe(`${transport}: behind a caller that does not read`, { skip }, () => {
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
      await waitFor("every exchange to be over", () => rig.proxy.stats().exchanges.http === 0);
      await rig.close();
      await upstream.close();
    });

    /** What was read before and not yet decrypted counts when its TLS record is complete. */
    const slack = transport === "tls" ? 70_000 : 0;
    async function stalled(alpn: string, ask: (socket: Socket) => void): Promise<Socket> {
      const { port } = rig;
      const host = "127.0.0.1";
      const socket =
        transport === "plain"
          ? connect({ port, host })
          : connectTls({ port, host, rejectUnauthorized: false, ALPNProtocols: [alpn] });
      socket.on("error", () => {});
      await new Promise((resolve) => socket.once(transport === "plain" ? "connect" : "secureConnect", resolve));
      ask(socket);
      socket.pause();
      await settled("the system to take no more", () => {
        const { unacked, received } = queuesOf(socket, port);
        return unacked + received;
      });
      return socket;
    }

    /**
     * Cuts, then reads all there is. @returns how much more came than the caller's kernel had received before the cut
     */
    async function cutAndRead(socket: Socket, session: number): Promise<number> {
      const { unacked, received } = queuesOf(socket, rig.port);
      assert.ok(unacked > 0, "the kernel of the proxy holds something");
      const before = socket.bytesRead;
      await rig.apply(sessionRevoked(session));
      assert.equal(queuesOf(socket, rig.port).unacked, 0, "and nothing any more when the cut is reported");
      socket.resume();
      await settled("everything to be read", () => socket.bytesRead);
      const came = socket.bytesRead - before;
      socket.destroy();
      return came - received;
    }

    const head = (n: number, path: string): string =>
      `GET ${path} HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(n)}\r\n\r\n`;
    for (const [n, path] of [
      [1, "/pour"],
      [2, "/whole"],
    ] as const)
      test(`HTTP/1, ${path}`, async () => {
        await rig.apply(signedIn(n));
        const socket = await stalled("http/1.1", (each) => each.write(head(n, path)));
        const beyond = await cutAndRead(socket, n);
        assert.ok(beyond <= slack, `${beyond} bytes left this machine after the cut`);
      });

    for (const [n, path, streams] of [
      [3, "/pour", 1],
      [4, "/pour", 20],
      [5, "/whole", 1],
    ] as const)
      test(`HTTP/2, ${path}, ${streams} streams`, async () => {
        await rig.apply(signedIn(n));
        const socket = await stalled("h2", (each) => {
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

test("HTTP/2: a caller that reads keeps its connection, and what else it has there", { skip }, async (t) => {
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
  await waitFor("both to stream", () => client.stream(1).bytes > 0 && client.stream(3).bytes > 0);

  await rig.apply(sessionRevoked(1));

  await waitFor("the stream to be reset", () => client.stream(1).reset === 8);
  const before = client.stream(3).bytes;
  await waitFor("the other one to go on", () => client.stream(3).bytes > before + 100);
  assert.equal(client.closed, false);
  socket.destroy();
});
