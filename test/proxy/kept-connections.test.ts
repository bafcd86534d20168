/**
 * Idle connections that the upstream closes just as a request is sent: repeatable requests are sent again on a fresh
 * connection. Real Apache is one of the upstreams.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { promisify } from "node:util";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig } from "./support.ts";

const cleanUps: (() => Promise<void> | void)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

/**
 * Answers the first request on each connection, and resets the connection on the second. @returns request lines, in
 * order
 */
async function startResettingUpstream(): Promise<
  Readonly<{ port: number; seen: string[]; hold(): void; release(): void }>
> {
  const seen: string[] = [];
  const sockets = new Set<Socket>();
  let heldResponses: (() => void)[] | undefined;
  const server = createServer((socket) => {
    sockets.add(socket);
    let requests = 0;
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      seen.push(bytes.toString("latin1").split(" HTTP/1.1", 1)[0] ?? "");
      const answer = (): void => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      if (++requests > 1) socket.resetAndDestroy();
      else if (heldResponses === undefined) answer();
      else heldResponses.push(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    hold() {
      heldResponses = [];
    },
    release() {
      for (const answer of heldResponses ?? []) answer();
      heldResponses = undefined;
    },
  };
}

const counterOf = async (rig: Rig, name: string): Promise<number> =>
  Number(new RegExp(`^cardea_proxy_upstream_${name}_total (\\d+)$`, "m").exec(await rig.metrics())?.[1]);

const requestCount = 12;

/** Opens that many idle connections. The upstream resets each of them on its next request. */
async function startWithIdleConnections(connections: number) {
  const upstream = await startResettingUpstream();
  const circuitBreakers = { connections, pending: 1_024, requests: 1_024, retries: 3, streams: 65_536 };
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, circuitBreakers })]);
  cleanUps.push(() => rig.close());
  upstream.hold();
  const first = Array.from({ length: connections }, (_, i) => rig.request({ path: `/first/${i}` }));
  await waitFor("all requests to arrive", () => upstream.seen.length === connections);
  upstream.release();
  for (const { status } of await Promise.all(first)) assert.equal(status, 200);
  return { upstream, rig };
}

describe("idle connections that all close as the next requests are sent", () => {
  test("more GETs than max_retries are sent again on fresh connections, and none counts as a retry", async () => {
    const { upstream, rig } = await startWithIdleConnections(requestCount);
    const answers = await Promise.all(
      Array.from({ length: requestCount }, (_, i) => rig.request({ path: `/second/${i}` })),
    );
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
    const arrivals = answers.map((_, i) => upstream.seen.filter((line) => line === `GET /second/${i}`).length);
    assert.ok(Math.max(...arrivals) === 2, `${arrivals}`);
    const twice = arrivals.filter((times) => times === 2).length;
    assert.ok(twice > 3, `${arrivals}`);
    assert.equal(await counterOf(rig, "resends"), twice);
    assert.equal(await counterOf(rig, "retries"), 0);
  });

  test("with a limit of one connection, a fresh one replaces the connection that closed", async () => {
    const { upstream, rig } = await startWithIdleConnections(1);
    assert.equal((await rig.request({ path: "/second" })).status, 200);
    assert.deepEqual(upstream.seen, ["GET /first/0", "GET /second", "GET /second"]);
  });

  test("with all connections of the limit in use, a fresh one replaces the connection that closed", async () => {
    const { rig } = await startWithIdleConnections(4);
    assert.equal((await rig.request({ path: "/second" })).status, 200);
    assert.equal(await counterOf(rig, "resends"), 1);
  });

  test("a POST, a PATCH and a PUT with a body are not sent again: 502", async () => {
    const { upstream, rig } = await startWithIdleConnections(3);
    for (const [method, body] of [
      ["POST", ""],
      ["PATCH", ""],
      ["PUT", "x"],
    ] as const) {
      const headers = { "content-length": String(body.length) };
      assert.equal((await rig.request({ path: "/second", method, body, headers })).status, 502, method);
      assert.equal(upstream.seen.filter((line) => line === `${method} /second`).length, 1, method);
    }
    assert.equal(await counterOf(rig, "resends"), 0);
  });
});

const isInstalled = (program: string, flag: string): boolean => spawnSync(program, [flag]).error === undefined;
const skip = isInstalled("apache2", "-v") && isInstalled("h2load", "--version") ? false : "needs apache2 and h2load";

/** With the settings of its Debian package: at most 100 requests on a connection, and 5 s idle. */
async function startApache(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "cardea-apache-"));
  chmodSync(folder, 0o755);
  const port = await freePort();
  writeFileSync(join(folder, "index.html"), "hello from Apache\n");
  const modules = ["mpm_event", "authz_core", "dir", "mime", "reqtimeout"];
  writeFileSync(
    join(folder, "apache.conf"),
    [
      ...modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`),
      ...[`ServerRoot ${folder}`, `PidFile ${folder}/pid`, `Listen 127.0.0.1:${port}`, "ServerName 127.0.0.1"],
      ...[
        `ErrorLog ${folder}/error.log`,
        `DocumentRoot ${folder}`,
        "DirectoryIndex index.html",
        "TypesConfig /dev/null",
      ],
      ...(process.getuid?.() === 0 ? ["User www-data", "Group www-data"] : []),
      ...[
        "KeepAlive On",
        "MaxKeepAliveRequests 100",
        "KeepAliveTimeout 5",
        "RequestReadTimeout header=20-40,minrate=500",
      ],
      ...["StartServers 2", "MinSpareThreads 25", "MaxSpareThreads 75", "ThreadsPerChild 25", "MaxRequestWorkers 150"],
      "",
    ].join("\n"),
  );
  const apache: ChildProcess = spawn("apache2", ["-DFOREGROUND", "-f", join(folder, "apache.conf")], {
    stdio: "ignore",
  });
  const ended = new Promise<void>((resolve) => apache.once("exit", () => resolve()));
  cleanUps.push(async () => {
    apache.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });
  await waitFor("Apache to answer", async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
    return answer?.status === 200;
  });
  return port;
}

test("stock Apache under h2load, with 8 connections of 10 concurrent requests: every response is 200", {
  skip,
}, async () => {
  const rig = await startRig([routeTo(await startApache(), publicAccess)]);
  cleanUps.push(() => rig.close());
  const { stdout } = await promisify(execFile)("h2load", [
    ...["-n", "2000", "-c", "8", "-m", "10", "-H", ":authority: app.localhost"],
    `http://127.0.0.1:${rig.port}/`,
  ]);
  assert.match(stdout, /status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx/, stdout);
  assert.equal(await counterOf(rig, "retries"), 0);
});
