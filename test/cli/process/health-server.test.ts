/** The metrics listener: access control of the metrics, and health checks that need none. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request as plainRequest } from "node:http";
import { type RequestOptions, request as tlsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { text as textOf } from "node:stream/consumers";
import { test } from "node:test";
import { type ConnectionOptions, connect } from "node:tls";
import { Registry } from "prom-client";
import { startHealthServer } from "../../../src/cli/process/health-server.ts";
import type { ProcessReadiness } from "../../../src/cli/process/readiness.ts";
import type { Config } from "../../../src/config/index.ts";
import { certificate } from "../../config/support.ts";
import { run } from "../support.ts";

const open: Config["metrics"] = { basicAuth: null, tls: null, clientCa: null };

async function serve(
  access: Partial<Config["metrics"]>,
  pieces: readonly string[] = [],
  readiness: ProcessReadiness = { ready: true, reasons: [] },
) {
  const app = await startHealthServer({
    listen: { host: "127.0.0.1", port: 0 },
    registry: new Registry(),
    readiness: () => readiness,
    collect() {},
    moreMetrics: () => pieces,
    access: { ...open, ...access },
  });
  const { port } = app.server.address() as AddressInfo;
  return { port, [Symbol.asyncDispose]: () => app.close() };
}

function get(port: number, path: string, options: RequestOptions & { secure?: boolean } = {}) {
  return new Promise<Readonly<{ status: number; text: string }>>((resolve, reject) => {
    const { secure, ...rest } = options;
    const all = { host: "127.0.0.1", port, path, agent: false, ...rest };
    const req = secure === true ? tlsRequest(all) : plainRequest(all);
    req.on("error", reject);
    req.on("response", (res) => {
      let text = "";
      res.setEncoding("utf8");
      res.on("data", (chunk: string) => {
        text += chunk;
      });
      res.on("end", () => resolve({ status: res.statusCode ?? 0, text }));
    });
    req.end();
  });
}

const basic = (text: string) => ({ headers: { authorization: `Basic ${Buffer.from(text).toString("base64")}` } });

test("metrics include what is computed while they are read", async () => {
  await using server = await serve({}, ["one 1\n", "two 2\n"]);
  const { status, text } = await get(server.port, "/metrics");
  assert.equal(status, 200);
  assert.ok(text.endsWith("one 1\ntwo 2\n"));
});

test("/readyz reports the share of served routes; with ?routes=all it is 503 while one is not served", async () => {
  const readiness = { ready: true, reasons: [], routes: { total: 4, served: 3, share: 0.75 } };
  await using server = await serve({}, [], readiness);
  const plain = await get(server.port, "/readyz");
  assert.deepEqual([plain.status, JSON.parse(plain.text)], [200, readiness]);
  const all = await get(server.port, "/readyz?routes=all");
  assert.deepEqual([all.status, JSON.parse(all.text).routes], [503, readiness.routes]);
  assert.match(JSON.parse(all.text).reasons.join(), /1 of 4 routes/);
  assert.equal((await get(server.port, "/readyz?routes=deny")).status, 400);
  const address = ["--address", `127.0.0.1:${server.port}`];
  assert.equal((await run(["health", ...address])).code, 0);
  assert.equal((await run(["health", ...address, "--all-routes"])).code, 1);
});

test("metrics require the password, and health checks do not", async () => {
  await using server = await serve({ basicAuth: "prometheus:let me in" }, ["one 1\n"]);
  assert.equal((await get(server.port, "/metrics")).status, 401);
  assert.equal((await get(server.port, "/metrics", basic("prometheus:guess"))).status, 401);
  assert.equal((await get(server.port, "/metrics", { headers: { authorization: "Bearer x" } })).status, 401);
  assert.match((await get(server.port, "/metrics", basic("prometheus:let me in"))).text, /one 1/);
  assert.equal((await get(server.port, "/readyz")).status, 200);
  assert.equal((await get(server.port, "/healthz")).status, 200);
});

test("with a client authority, metrics require a certificate of it, and health checks only TLS", async () => {
  const tls = certificate(["localhost"]);
  const [scraper, stranger] = [certificate(["prometheus"]), certificate(["prometheus"])];
  await using server = await serve({ tls, clientCa: scraper.cert }, ["one 1\n"]);
  const common = { secure: true, ca: tls.cert, servername: "localhost" };
  assert.equal((await get(server.port, "/metrics", common)).status, 403);
  assert.equal((await get(server.port, "/metrics", { ...common, ...stranger })).status, 403);
  assert.match((await get(server.port, "/metrics", { ...common, ...scraper })).text, /one 1/);
  assert.equal((await get(server.port, "/readyz", common)).status, 200);
  await assert.rejects(get(server.port, "/metrics"), "plain HTTP");
  const address = ["--address", `127.0.0.1:${server.port}`];
  assert.equal((await run(["health", ...address, "--tls"])).code, 0);
  assert.equal((await run(["health", ...address])).code, 1);
});

test("TLS sessions are never resumed if certificates are requested, so each handshake is verified", async () => {
  const tls = certificate(["localhost"]);
  const scraper = certificate(["prometheus"]);
  await using server = await serve({ tls, clientCa: scraper.cert }, ["one 1\n"]);
  const common = { host: "127.0.0.1", port: server.port, ca: tls.cert, servername: "localhost" };
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    for (const shown of [{}, scraper]) {
      const first = await requestOverTls({ ...common, ...shown, maxVersion }, "/healthz");
      assert.match(first.text, / 200 /);
      for (const session of first.sessions) {
        const again = await requestOverTls({ ...common, maxVersion, session }, "/metrics");
        assert.match(again.text, / 403 /);
        assert.equal(again.resumed, false);
      }
    }
  }
});

async function requestOverTls(options: ConnectionOptions, path: string) {
  const socket = connect(options);
  const sessions: Buffer[] = [];
  socket.on("session", (session: Buffer) => sessions.push(session));
  await once(socket, "secureConnect");
  const resumed = socket.isSessionReused();
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
  return { text: await textOf(socket), sessions, resumed };
}
