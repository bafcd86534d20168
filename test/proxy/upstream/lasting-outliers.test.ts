/** Outlier detection for WebSockets and tunnels: whether they can be established is what counts. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../../src/config/index.ts";
import { base, goodRoute, config as parsed } from "../../config/support.ts";
import { freePort } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig } from "../support.ts";

const outlierDetection =
  parsed(`${base}${goodRoute}    outlier_detection: {consecutive_5xx: 2}\n`).routes[0]?.outlierDetection ??
  assert.fail();

async function startRoute(t: TestContext, urls: readonly string[], parts: Partial<RouteConfig>): Promise<Rig> {
  const to = urls.map((url) => ({ url: new URL(url), weight: null }));
  const rig = await startRig([routeTo(0, { ...publicAccess, id: "r", outlierDetection, to, ...parts })]);
  t.after(() => rig.close());
  return rig;
}

async function listen(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => {})));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function isEjected(rig: Rig, upstream: string): Promise<boolean> {
  const metric = await rig.registry.getSingleMetric("cardea_proxy_upstream_ejected")?.get();
  return metric?.values.some(({ labels, value }) => labels["upstream"] === upstream && value === 1) === true;
}

/** @returns the status that the caller receives */
async function webSocket({ port }: Rig): Promise<number> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { host: "app.localhost" } });
  socket.on("error", () => {});
  const refused = once(socket, "unexpected-response").then(([, res]) => (res as { statusCode: number }).statusCode);
  const status = await Promise.race([once(socket, "open").then(() => 101), refused]);
  socket.terminate();
  return status;
}

async function tunnel({ port }: Rig): Promise<number> {
  const socket = connect(port, "127.0.0.1");
  let received = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    received += chunk;
  });
  socket.write("CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\n\r\n");
  await waitFor("a response", () => received.includes("\r\n\r\n"));
  socket.destroy();
  return Number(received.slice(9, 12));
}

async function statusesOf(times: number, send: () => Promise<number>): Promise<readonly number[]> {
  const statuses: number[] = [];
  for (let i = 0; i < times; i++) statuses.push(await send());
  return statuses.sort();
}

suite("an upstream is ejected and receives no requests", () => {
  test("when WebSockets cannot reach it", async (t) => {
    const good = createHttpServer();
    new WebSocketServer({ server: good });
    const gone = `http://127.0.0.1:${await freePort()}`;
    const rig = await startRoute(t, [`http://127.0.0.1:${await listen(t, good)}`, gone], { allowWebsockets: true });
    assert.deepEqual(await statusesOf(4, () => webSocket(rig)), [101, 101, 503, 503]);
    assert.equal(await isEjected(rig, gone), true);
    assert.deepEqual(await statusesOf(4, () => webSocket(rig)), [101, 101, 101, 101]);
  });

  test("when it responds to WebSockets with errors; a refusal with a 4xx is not an error", async (t) => {
    const answers = async (status: number): Promise<string> => {
      const server = createHttpServer().on("upgrade", (_req, socket) => {
        socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`);
      });
      return `http://127.0.0.1:${await listen(t, server)}`;
    };
    const [bad, strict] = [await answers(500), await answers(403)];
    const rig = await startRoute(t, [strict, bad], { allowWebsockets: true });
    assert.deepEqual(await statusesOf(4, () => webSocket(rig)), [403, 403, 500, 500]);
    assert.deepEqual([await isEjected(rig, bad), await isEjected(rig, strict)], [true, false]);
  });

  for (const [what, scheme, refusal] of [
    ["tunnels", "tcp", 503],
    ["tunnels by way of another proxy", "http", 503],
  ] as const)
    test(`when ${what} cannot reach it`, async (t) => {
      const server: Server =
        scheme === "tcp"
          ? createServer()
          : createHttpServer().on("connect", (_req, socket) => void socket.write("HTTP/1.1 200 Yes\r\n\r\n"));
      const gone = `${scheme}://127.0.0.1:${await freePort()}`;
      const rig = await startRoute(t, [`${scheme}://127.0.0.1:${await listen(t, server)}`, gone], {
        host: "db.localhost",
        tunnel: { kind: "tcp", targets: [{ host: "db.localhost", port: 5_432 }], behindProxy: false },
      });
      assert.deepEqual(await statusesOf(4, () => tunnel(rig)), [200, 200, refusal, refusal]);
      assert.equal(await isEjected(rig, gone), true);
      assert.deepEqual(await statusesOf(4, () => tunnel(rig)), [200, 200, 200, 200]);
    });
});
