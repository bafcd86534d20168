/**
 * Orderly closes, although the kernel discards what a closed connection holds: a caller that reads slowly receives
 * every response in full, also from a draining node, and a caller that reads nothing does not keep a node from
 * stopping.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { publicAccess as publicly, type Rig, routeTo, startRig, startUpstream } from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import { endHeaders, endStream, headers, initialWindow, RawHttp2, windowUpdate } from "../support/http2-frames.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

/** Small enough for the kernel to accept a whole response while another one is unsent. */
const body = Buffer.alloc(8_001, 98);
/** Time after which a node that is not draining drops a caller that reads nothing. */
const stuckMsMax = 30_000;
const transports = ["plain", "tls"] as const;
type Transport = (typeof transports)[number];

async function rigFor(t: TestContext, transport: Transport, drainTimeoutMs: number): Promise<Rig> {
  const upstream = await startUpstream((_req, res) => void res.end(body));
  t.after(() => upstream.close());
  const certificates = [selfSigned("DNS:app.localhost")];
  const config = transport === "tls" ? { insecureServer: false, certificates } : {};
  const rig = await startRig([routeTo(upstream.port, { ...publicly, timeoutMs: 0 })], {
    config: { ...config, drainTimeoutMs },
  });
  t.after(() => rig.close());
  return rig;
}

async function caller(t: TestContext, rig: Rig, transport: Transport, alpn: string): Promise<Socket> {
  const at = { port: rig.port, host: "127.0.0.1", allowHalfOpen: true };
  const socket =
    transport === "plain" ? connect(at) : connectTls({ ...at, rejectUnauthorized: false, ALPNProtocols: [alpn] });
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  await once(socket, transport === "plain" ? "connect" : "secureConnect");
  socket.pause();
  return socket;
}

const get = (more = ""): string => `GET / HTTP/1.1\r\nHost: app.localhost\r\n${more}\r\n`;
const line = [":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/"];
const heldBytesFor = (socket: Socket, rig: Rig): number => queuesAt(rig.port, socket.localPort ?? 0).unacked ?? 0;

/**
 * Sends requests until the kernels are full and the proxy has written its last response in full. @returns how many were
 * sent
 */
async function requestUntilHeld(socket: Socket, rig: Rig, requestOnce: () => void): Promise<number> {
  let requestCount = 0;
  let last = 0;
  let same = 0;
  await waitFor(
    "the proxy's kernel to hold the end of a response",
    () => {
      if (rig.proxy.stats().inFlight.http > 0) return false;
      const heldBytes = heldBytesFor(socket, rig);
      same = heldBytes > 1_000 && heldBytes === last ? same + 1 : 0;
      last = heldBytes;
      if (heldBytes === 0) {
        requestCount++;
        requestOnce();
      }
      return same > 10;
    },
    { everyMs: 5, withinMs: 50_000 },
  );
  return requestCount;
}

async function metric(rig: Rig, name: string): Promise<number> {
  return Number(new RegExp(`^${name}(?:{.*})? (\\S+)$`, "m").exec(await rig.metrics())?.[1]);
}

for (const transport of transports)
  describe(`${transport}: a draining node`, { skip }, () => {
    test("delivers the responses of a kept-alive connection to a caller that reads late", async (t) => {
      const rig = await rigFor(t, transport, 60_000);
      const socket = await caller(t, rig, transport, "http/1.1");
      const requestCount = await requestUntilHeld(socket, rig, () => void socket.write(get()));
      const draining = rig.proxy.drain();
      await waitFor("the proxy to drain", () => rig.proxy.stats().draining);
      let bodies = 0;
      socket.on("data", (chunk: Buffer) => {
        bodies += chunk.filter((byte) => byte === 98).length;
      });
      socket.resume();
      await once(socket, "end");
      socket.end();
      assert.ok(bodies >= requestCount * body.length, `${bodies} bytes of ${requestCount} responses`);
      await draining;
    });

    test("HTTP/2: delivers complete responses to a caller that reads late", async (t) => {
      const rig = await rigFor(t, transport, 60_000);
      const socket = await caller(t, rig, transport, "h2");
      const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
      client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
      let stream = -1;
      const requestCount = await requestUntilHeld(socket, rig, () => {
        stream += 2;
        client.send(headers(stream, endHeaders | endStream, ...line));
      });
      const draining = rig.proxy.drain();
      await waitFor("the proxy to drain", () => rig.proxy.stats().draining);
      socket.resume();
      await waitFor("every response", () => client.stream(stream).bytes >= body.length, { withinMs: 30_000 });
      for (let one = 1; one <= stream; one += 2) assert.equal(client.stream(one).bytes, body.length, `stream ${one}`);
      assert.ok(requestCount > 0);
      socket.end();
      await draining;
    });

    for (const alpn of ["http/1.1", "h2"])
      test(`${alpn}: stops without waiting for a caller that reads nothing`, async (t) => {
        const rig = await rigFor(t, transport, 100);
        const socket = await caller(t, rig, transport, alpn);
        if (alpn === "http/1.1") await requestUntilHeld(socket, rig, () => void socket.write(get()));
        else {
          const client = new RawHttp2(socket, [initialWindow(2 ** 31 - 1)]);
          client.send(windowUpdate(0, 2 ** 31 - 1 - 65_535));
          let stream = -1;
          await requestUntilHeld(socket, rig, () => {
            stream += 2;
            client.send(headers(stream, endHeaders | endStream, ...line));
          });
        }
        let isStuck = false;
        const stuck = setTimeout(() => {
          isStuck = true;
        }, stuckMsMax);
        await rig.proxy.drain();
        clearTimeout(stuck);
        assert.ok(!isStuck, "the drain waited until the caller was dropped");
        assert.equal(queuesAt(rig.port, socket.localPort ?? 0).unacked ?? 0, 0, "the kernel holds nothing");
      });

    test("counts responses that a caller has not received", async (t) => {
      const rig = await rigFor(t, transport, 100);
      const socket = await caller(t, rig, transport, "http/1.1");
      await requestUntilHeld(socket, rig, () => void socket.write(get()));
      assert.ok((await metric(rig, "cardea_proxy_undelivered_responses")) > 0);
      socket.resume();
      await waitFor(
        "every response to be delivered",
        async () => (await metric(rig, "cardea_proxy_undelivered_responses")) === 0,
      );
    });
  });
