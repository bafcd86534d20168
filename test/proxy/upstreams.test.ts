/**
 * Routes with several upstreams, all of them real servers: balancing, health checks, outlier detection, circuit
 * breakers, and their metrics.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import type { HealthCheckConfig, RouteConfig } from "../../src/config/index.ts";
import { base, goodRoute, config as parsed } from "../config/support.ts";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  publicAccess,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "./support.ts";

const cleanUps: (() => Promise<unknown> | unknown)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const urlOf = (port: number) => ({ url: new URL(`http://127.0.0.1:${port}`), weight: null });

/** The configuration that these lines of a route produce. */
function lines(yaml: string): Partial<RouteConfig> {
  const route = parsed(`${base}${goodRoute}${yaml}`).routes[0];
  assert.ok(route);
  const { balancing, healthChecks, outlierDetection, circuitBreakers } = route;
  return { balancing, healthChecks, outlierDetection, circuitBreakers };
}

async function startServers(count: number, handler?: Parameters<typeof startUpstream>[0]): Promise<Upstream[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => startUpstream(handler)));
  cleanUps.push(() => Promise.all(servers.map((server) => server.close())));
  return servers;
}

async function startTo(ports: readonly number[], yaml: string, parts: Partial<RouteConfig> = {}): Promise<Rig> {
  const rig = await startRig([
    routeTo(0, { ...publicAccess, id: "r", to: ports.map(urlOf), ...lines(yaml), ...parts }),
  ]);
  cleanUps.push(() => rig.close());
  await rig.apply(signedIn(1), signedIn(2));
  return rig;
}

async function metric(rig: Rig, name: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const metrics = await rig.registry.getSingleMetric(name)?.get();
  const sample = metrics?.values.find((one) =>
    Object.entries(labels).every(([label, value]) => (one.labels as Record<string, unknown>)[label] === value),
  );
  return sample?.value ?? 0;
}
const upstreamOf = (port: number) => ({ route: "r", upstream: `http://127.0.0.1:${port}` });

describe("session affinity", () => {
  for (const policy of ["RING_HASH", "MAGLEV"]) {
    test(policy, async () => {
      const servers = await startServers(3);
      const rig = await startTo(
        servers.map(({ port }) => port),
        `    load_balancing_policy: ${policy}\n`,
        { allowPublicUnauthenticatedAccess: false, allowAnyAuthenticatedUser: true },
      );
      for (let i = 0; i < 5; i++)
        assert.equal((await rig.request({ session: 1, headers: { "x-pomerium-routing-key": "mine" } })).status, 200);
      const busy = servers.filter(({ seen }) => seen.length > 0);
      assert.deepEqual(
        busy.map(({ seen }) => seen.length),
        [5],
      );
      const key = createHash("sha256").update("session-1").digest("hex");
      assert.deepEqual(valuesOf(busy[0]?.seen[0]?.rawHeaders ?? [], "x-pomerium-routing-key"), [key]);
    });
  }
  test("a caller without a session is identified by address", async () => {
    const servers = await startServers(3);
    const rig = await startTo(
      servers.map(({ port }) => port),
      "    load_balancing_policy: MAGLEV\n",
    );
    for (let i = 0; i < 4; i++) await rig.request({});
    assert.deepEqual(servers.map(({ seen }) => seen.length).sort(), [0, 0, 4]);
  });
});

describe("health checks", () => {
  const check = (how: string, more = "") =>
    `    health_checks: [{timeout: 2s, interval: 20ms, no_traffic_interval: 20ms, unhealthy_threshold: 1, healthy_threshold: 1, ${how}${more}}]\n`;

  test("over HTTP: an upstream that answers with another status is left out until it recovers, as its metric shows", async () => {
    const healthyPorts = new Map<number, boolean>();
    const servers = await startServers(2, (req, res) => {
      const port = req.socket.localPort ?? 0;
      if (req.url !== "/healthz?deep=1") res.end(String(port));
      else res.writeHead(healthyPorts.get(port) === false ? 500 : 204).end();
    });
    const [a, b] = servers.map(({ port }) => port) as [number, number];
    const http =
      "http_health_check: {path: /healthz?deep=1, host: check.example, expected_statuses: [{start: 204, end: 205}], request_headers_to_add: [{header: {key: x-check, value: '1'}}]}";
    const rig = await startTo([a, b], check(http));
    const upstreamsInUse = async (): Promise<string[]> => {
      const used = new Set<string>();
      for (let i = 0; i < 4; i++) used.add((await rig.request({})).body);
      return [...used].sort();
    };
    await waitFor("both upstreams to be checked", () => servers.every(({ seen }) => seen.length > 1));
    assert.deepEqual(await upstreamsInUse(), [String(a), String(b)].sort());
    const checkHeaders = servers[0]?.seen[0]?.rawHeaders ?? [];
    assert.deepEqual([valuesOf(checkHeaders, "host"), valuesOf(checkHeaders, "x-check")], [["check.example"], ["1"]]);

    healthyPorts.set(a, false);
    await waitFor(
      "the upstream to be left out",
      async () => (await metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(a))) === 0,
    );
    assert.deepEqual(await upstreamsInUse(), [String(b)]);
    assert.equal(await metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(b)), 1);
    assert.ok(
      (await metric(rig, "cardea_proxy_upstream_health_checks_total", { ...upstreamOf(a), result: "fail" })) > 0,
    );

    healthyPorts.set(a, true);
    await waitFor(
      "the upstream to be used again",
      async () => (await metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(a))) === 1,
    );
    assert.deepEqual(await upstreamsInUse(), [String(a), String(b)].sort());
  });

  test("over TCP: a connection is enough, or the expected bytes must arrive", async () => {
    const talkingServer = await startTalking((socket) => {
      socket.on("data", (bytes) => socket.write(bytes.toString("latin1") === "PING\r\n" ? "+PONG\r\n" : "-ERR\r\n"));
    });
    const silent = await startTalking(() => {});
    const closedPort = await freePort();
    const states = async (rig: Rig, ports: readonly number[]) =>
      Promise.all(ports.map((port) => metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(port))));
    const settled = (rig: Rig, ports: readonly number[], expected: readonly number[]) =>
      waitFor(`health to be ${expected}`, async () => String(await states(rig, ports)) === String(expected));

    const connecting = await startTo([silent, closedPort], check("tcp_health_check: {}"));
    await settled(connecting, [silent, closedPort], [1, 0]);
    const ping = Buffer.from("PING\r\n").toString("hex");
    const pong = Buffer.from("PONG").toString("hex");
    const speaking = await startTo(
      [talkingServer, silent],
      check(`tcp_health_check: {send: {text: '${ping}'}, receive: [{text: '${pong}'}]}`).replace("2s", "100ms"),
    );
    await settled(speaking, [talkingServer, silent], [1, 0]);
  });

  test("over gRPC: an upstream is healthy while its service is SERVING", async () => {
    let serving = 1;
    const calls: string[] = [];
    const server = createHttp2Server();
    server.on("stream", (stream: ServerHttp2Stream, headers) => {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        calls.push(`${headers[":path"]} ${Buffer.concat(chunks).toString("hex")}`);
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(Buffer.from([0, 0, 0, 0, 2, 8, serving]));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const sessions = new Set<{ destroy(): void }>();
    server.on("session", (session) => sessions.add(session));
    cleanUps.push(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const rig = await startTo([port], check("grpc_health_check: {service_name: app}", ", reuse_connection: false"), {
      to: [{ url: new URL(`h2c://127.0.0.1:${port}`), weight: null }],
    });
    const labels = { route: "r", upstream: `h2c://127.0.0.1:${port}` };
    const healthy = () => metric(rig, "cardea_proxy_upstream_healthy", labels);
    await waitFor("the health service to be called", () => calls.length > 1);
    assert.equal(calls[0], "/grpc.health.v1.Health/Check 00000000050a03617070");
    assert.equal(await healthy(), 1);
    serving = 2;
    await waitFor("the upstream to be unhealthy", async () => (await healthy()) === 0);
  });

  test("no healthy upstream and no panic threshold: 503 with the reason", async () => {
    const closedPort = await freePort();
    const rig = await startTo([closedPort], `${check("tcp_health_check: {}")}    healthy_panic_threshold: 0\n`);
    await waitFor(
      "the upstream to be left out",
      async () => (await metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(closedPort))) === 0,
    );
    const answer = await rig.request({ headers: { accept: "application/json" } });
    assert.deepEqual([answer.status, JSON.parse(answer.body).statusText], [503, "No healthy upstream"]);
  });

  test("end with the route: no further checks, and no metrics", async () => {
    const [server] = (await startServers(1)) as [Upstream];
    const rig = await startTo([server.port], check("http_health_check: {path: /healthz}"));
    await waitFor("the upstream to be checked", () => server.seen.length > 1);
    await rig.close();
    const connections = () => new Promise<number>((resolve) => server.server.getConnections((_e, n) => resolve(n)));
    await waitFor("the upstream's connections to close", async () => (await connections()) === 0);
    const checksBefore = server.seen.length;
    assert.equal(await metric(rig, "cardea_proxy_upstream_healthy", upstreamOf(server.port)), 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(server.seen.length, checksBefore);
  });
});

async function startTalking(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

describe("outlier detection", () => {
  test("an upstream that answers with errors is ejected, and its metric shows it", async () => {
    const [good] = await startServers(1, (_req, res) => res.end("good"));
    const [bad] = await startServers(1, (_req, res) => res.writeHead(500).end("bad"));
    assert.ok(good && bad);
    const rig = await startTo([good.port, bad.port], "    outlier_detection: {consecutive_5xx: 3}\n");
    for (let i = 0; i < 6; i++) await rig.request({});
    assert.equal(bad.seen.length, 3);
    for (let i = 0; i < 6; i++) assert.equal((await rig.request({})).body, "good");
    assert.deepEqual(
      [
        await metric(rig, "cardea_proxy_upstream_ejected", upstreamOf(bad.port)),
        await metric(rig, "cardea_proxy_upstream_ejected", upstreamOf(good.port)),
        await metric(rig, "cardea_proxy_upstream_ejections_total", {
          ...upstreamOf(bad.port),
          cause: "consecutive_5xx",
        }),
      ],
      [1, 0, 1],
    );
  });
  test("an upstream that is unreachable or too slow is ejected too", async () => {
    const [good] = await startServers(1, (_req, res) => res.end("good"));
    const [slow] = await startServers(1, () => {});
    assert.ok(good && slow);
    const rig = await startTo([good.port, slow.port], "    outlier_detection: {consecutive_5xx: 1}\n", {
      timeoutMs: 300,
    });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) statuses.push((await rig.request({})).status);
    assert.deepEqual(statuses.sort(), [200, 200, 200, 504]);
  });
});

describe("an upstream that cannot be reached", () => {
  test("is replaced by another one, once, whatever the method, because nothing was sent", async () => {
    const [server] = (await startServers(1)) as [Upstream];
    const closedPort = [await freePort(), await freePort()];
    const rig = await startTo([closedPort[0] as number, server.port], "");
    for (const method of ["GET", "POST", "GET", "POST"]) {
      const answer = await rig.request({ method, body: method === "POST" ? "hello" : "" });
      assert.equal(answer.status, 200);
      assert.equal(JSON.parse(answer.body).body, method === "POST" ? "hello" : "");
      assert.deepEqual(valuesOf(JSON.parse(answer.body).rawHeaders, "host"), [`127.0.0.1:${server.port}`]);
    }
    assert.equal(server.seen.length, 4);
    const lost = await startTo([...closedPort, server.port], "");
    const statuses: number[] = [];
    for (let i = 0; i < 3; i++) statuses.push((await lost.request({})).status);
    assert.ok(statuses.includes(503) || statuses.includes(200));
    const alone = await startTo([closedPort[0] as number], "");
    assert.equal((await alone.request({})).status, 503);
  });
  test("is not replaced with max_retries 0", async () => {
    const [server] = (await startServers(1)) as [Upstream];
    const rig = await startTo([await freePort(), server.port], "    circuit_breaker_thresholds: {max_retries: 0}\n");
    assert.deepEqual([(await rig.request({})).status, (await rig.request({})).status].sort(), [200, 503]);
    assert.equal(await metric(rig, "cardea_proxy_upstream_overflows_total", { route: "r", bound: "retries" }), 1);
  });
});

describe("circuit breakers", () => {
  /** Answers each request when the test releases it. */
  async function startHolding(): Promise<{ server: Upstream; release: () => void }> {
    const held: (() => void)[] = [];
    const [server] = await startServers(1, (_req, res) => void held.push(() => res.end("ok")));
    assert.ok(server);
    return {
      server,
      release: () => {
        for (const answer of held.splice(0)) answer();
      },
    };
  }
  const overflow = (rig: Rig, bound: string) =>
    metric(rig, "cardea_proxy_upstream_overflows_total", { route: "r", bound });

  test("more requests than max_requests: 503 with the reason, until one of them ends", async () => {
    const { server, release } = await startHolding();
    const rig = await startTo([server.port], "    circuit_breaker_thresholds: {max_requests: 2}\n");
    const under = [rig.request({}), rig.request({})];
    await waitFor("two requests to arrive", () => server.seen.length === 2);
    const refused = await rig.request({ headers: { accept: "application/json" } });
    assert.deepEqual([refused.status, refused.headers["retry-after"]], [503, "1"]);
    assert.equal(JSON.parse(refused.body).statusText, "Too many requests to this service");
    assert.equal(await overflow(rig, "requests"), 1);
    release();
    assert.deepEqual(
      (await Promise.all(under)).map(({ status }) => status),
      [200, 200],
    );
    const next = rig.request({});
    await waitFor("the next request to arrive", () => server.seen.length === 3);
    release();
    assert.equal((await next).status, 200);
  });

  test("with max_connections 1, requests wait for the connection, at most max_pending_requests of them", async () => {
    const { server, release } = await startHolding();
    const rig = await startTo(
      [server.port],
      "    circuit_breaker_thresholds: {max_connections: 1, max_pending_requests: 1}\n",
    );
    const first = rig.request({ path: "/1" });
    await waitFor("the first request to arrive", () => server.seen.length === 1);
    const second = rig.request({ path: "/2" });
    await waitFor("the second request to wait", () => rig.proxy.stats().exchanges.http === 2);
    assert.equal((await rig.request({ path: "/3" })).status, 503);
    assert.equal(await overflow(rig, "pending_requests"), 1);
    assert.equal(server.seen.length, 1);
    release();
    assert.equal((await first).status, 200);
    await waitFor("the second request to arrive", () => server.seen.length === 2);
    release();
    assert.equal((await second).status, 200);
    assert.deepEqual(
      server.seen.map(({ url }) => url),
      ["/1", "/2"],
    );
  });

  test("a caller that disconnects while waiting frees its slot", async () => {
    const { server, release } = await startHolding();
    const rig = await startTo(
      [server.port],
      "    circuit_breaker_thresholds: {max_connections: 1, max_pending_requests: 1}\n",
      { timeoutMs: 0 },
    );
    const first = rig.request({});
    await waitFor("the first request to arrive", () => server.seen.length === 1);
    for (let i = 0; i < 3; i++) {
      await rig.sendRaw("GET /x HTTP/1.1\r\nHost: app.localhost\r\n\r\n", 50); // and disconnects
      await waitFor("the waiting request to end", () => rig.proxy.stats().exchanges.http === 1);
    }
    release();
    assert.equal((await first).status, 200);
    assert.equal(await overflow(rig, "pending_requests"), 0);
  });

  test("long-lived connections are limited only where max_requests is written", async () => {
    const [server] = await startServers(1);
    assert.ok(server);
    new WebSocketServer({ server: server.server });
    const rig = await startTo([server.port], "    circuit_breaker_thresholds: {max_requests: 1}\n", {
      allowWebsockets: true,
    });
    const connect = () => new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    const socket = connect();
    await once(socket, "open");
    const more = connect();
    more.on("error", () => {});
    const [, refused] = (await once(more, "unexpected-response")) as [unknown, { statusCode: number }];
    assert.equal(refused.statusCode, 503);
    assert.equal((await rig.request({})).status, 503);
    socket.terminate();
    await waitFor("a free slot", async () => (await rig.request({})).status === 200);
  });
});

describe("an upstream at a Unix domain socket", () => {
  test("gets requests and WebSockets, and its health checks", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cardea-unix-"));
    const path = join(folder, "app.sock");
    const server = createHttpServer((req, res) => res.end(`${req.headers.host} ${req.url}`));
    const sockets = new WebSocketServer({ server });
    sockets.on("connection", (socket) => socket.send("hello"));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    cleanUps.push(() => {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true, force: true });
    });
    const to = parsed(`${base}${goodRoute.replace("http://127.0.0.1:8091", `unix://${path}`)}`).routes[0]?.to ?? [];
    const checks =
      "    health_checks: [{timeout: 2s, interval: 20ms, no_traffic_interval: 20ms, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}]\n";
    const rig = await startTo([], checks, { to, allowWebsockets: true });
    assert.equal((await rig.request({ path: "/a?b" })).body, "localhost /a?b");
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    const [message] = (await once(socket, "message")) as [Buffer];
    assert.equal(message.toString(), "hello");
    socket.terminate();
    const labels = { route: "r", upstream: `unix://${path}` };
    await waitFor("the upstream to be checked", async () =>
      Boolean(await metric(rig, "cardea_proxy_upstream_health_checks_total", { ...labels, result: "pass" })),
    );
    assert.equal(await metric(rig, "cardea_proxy_upstream_healthy", labels), 1);
  });
});

test("the options of health checks mean the same as in Envoy", () => {
  const of = (yaml: string): HealthCheckConfig | undefined => lines(`    health_checks: [${yaml}]\n`).healthChecks?.[0];
  const usual = "timeout: 1s, interval: 5s, unhealthy_threshold: 3, healthy_threshold: 1";
  assert.deepEqual(of(`{${usual}, http_health_check: {path: /}}`), {
    ...{ timeoutMs: 1_000, intervalMs: 5_000, unhealthyThreshold: 3, healthyThreshold: 1 },
    ...{ initialJitterMs: 0, intervalJitterMs: 0, intervalJitterPercent: 0, reuseConnection: true },
    ...{ noTrafficIntervalMs: 60_000, noTrafficHealthyIntervalMs: null, unhealthyIntervalMs: null },
    ...{ unhealthyEdgeIntervalMs: null, healthyEdgeIntervalMs: null },
    probe: {
      ...{ type: "http", host: null, path: "/", method: "GET", http2: false },
      ...{ expected: [{ from: 200, to: 201 }], retriable: [], receive: [], bodyBytesMax: 1_024 },
      ...{ addHeaders: [], removeHeaders: [] },
    },
  });
});
