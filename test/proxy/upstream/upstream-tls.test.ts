/**
 * TLS of upstreams: renegotiation, with OpenSSL's own server as the upstream, and client certificates.
 * certificate.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { Server as HttpServer } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import type { Server as SecureServer, TLSSocket } from "node:tls";
import { WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../../src/config/index.ts";
import { freePort } from "../../support/free-port.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess as openRoute, type ReceivedResponse, type Rig, routeTo, startRig } from "../support.ts";

const folder = mkdtempSync(join(tmpdir(), "cardea-upstream-tls-"));
const cleanUps: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
execFileSync(
  "openssl",
  ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"].concat([
    ...["-subj", "/CN=upstream.localhost", "-addext", "subjectAltName=DNS:upstream.localhost"],
    ...["-keyout", key, "-out", cert],
  ]),
  { stdio: "ignore" },
);

type OpensslServer = Readonly<{ port: number; process: ChildProcess; output: () => string }>;

/** Sends what is written to its input. a line `r` requests a renegotiation. */
async function startOpenssl(): Promise<OpensslServer> {
  const port = await freePort();
  const flags = ["-accept", `127.0.0.1:${port}`, "-cert", cert, "-key", key, "-tls1_2", "-crlf", "-naccept", "1"];
  const process = spawn("openssl", ["s_server", ...flags], { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  for (const stream of [process.stdout, process.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString("latin1");
    });
  process.stdin.on("error", () => {});
  cleanUps.push(() => void process.kill());
  await waitFor("OpenSSL to listen", () => output.includes("ACCEPT"));
  return { port, process, output: () => output };
}

async function startProxyTo(port: number, allowRenegotiation: boolean): Promise<Rig> {
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null };
  const to = [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];
  const customCa = readFileSync(cert, "utf8");
  const rig = await startRig([routeTo(0, { ...openRoute, to, tls: { ...tls, customCa, allowRenegotiation } })]);
  cleanUps.push(() => rig.close());
  return rig;
}

describe("an upstream that requests a renegotiation", () => {
  async function renegotiate(allowed: boolean): Promise<ReceivedResponse> {
    const server = await startOpenssl();
    const rig = await startProxyTo(server.port, allowed);
    const response = rig.request({});
    await waitFor("the request to arrive", () => server.output().includes("GET / HTTP/1.1"));
    server.process.stdin?.write("r\n");
    await waitFor("the renegotiation to end", () => /SSL_do_handshake -> |no renegotiation/.test(server.output()));
    server.process.stdin?.write("HTTP/1.1 200 OK\nContent-Length: 2\n\nok");
    server.process.stdin?.end();
    return response;
  }
  test("is refused: 503", async () => assert.equal((await renegotiate(false)).status, 503));
  test("succeeds if the route allows it", async () => {
    const answer = await renegotiate(true);
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  });
});

describe("an upstream that requires a client certificate", () => {
  /** Supports both protocols, and refuses callers without a certificate of the authority. */
  async function startAsking(clients: Authority, server: Issued): Promise<Readonly<{ port: number; met: string[] }>> {
    const met: string[] = [];
    const options = { ...server, ca: clients.pem, requestCert: true, rejectUnauthorized: true, allowHTTP1: true };
    const asking = createSecureServer(options, (req, res) => {
      const socket = req.stream?.session?.socket ?? req.socket;
      met.push(`${(socket as TLSSocket).getPeerCertificate().subject.CN} over ${req.httpVersion}`);
      res.end("hello");
    });
    new WebSocketServer({ server: asking as unknown as HttpServer }).on("connection", (socket, { socket: raw }) => {
      met.push(`${(raw as TLSSocket).getPeerCertificate().subject.CN} over WebSocket`);
      socket.send("hello");
    });
    asking.listen(0, "127.0.0.1");
    await once(asking, "listening");
    cleanUps.push(() => void asking.close());
    return { port: (asking.address() as AddressInfo).port, met };
  }

  test("gets the route's certificate for requests, gRPC and WebSockets; without one, or with a wrong one, the caller gets 503", async () => {
    const [clients, strangers, servers] = [await Authority.root(), await Authority.root(), await Authority.root()];
    const [ours, wrong] = [clients, strangers].map((authority) => authority.issue({ name: "proxy", usage: "client" }));
    const upstream = await startAsking(clients, await servers.issue({ hosts: ["upstream.localhost"] }));
    const to = [{ url: new URL(`https://upstream.localhost:${upstream.port}`), weight: null }];
    const common = { skipVerify: false, serverName: null, customCa: servers.pem, allowRenegotiation: false };
    const routeWith = (host: string, shown: Issued | undefined): RouteConfig => {
      const tls = { ...common, clientCert: shown?.cert ?? null, clientKey: shown?.key ?? null };
      return routeTo(0, { ...openRoute, host, to, tls, allowWebsockets: true });
    };
    const routes = [
      routeWith("ours.localhost", await ours),
      routeWith("wrong.localhost", await wrong),
      routeWith("none.localhost", undefined),
    ];
    const rig = await startRig(routes);
    cleanUps.push(() => rig.close());
    const call = { method: "POST", headers: { "content-type": "application/grpc", te: "trailers" } };
    const webSocket = async (host: string): Promise<string> => {
      const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host } });
      socket.on("error", () => {});
      const [first] = await Promise.race([
        once(socket, "message"),
        once(socket, "unexpected-response").then(() => [""]),
      ]);
      socket.terminate();
      return String(first);
    };
    assert.equal((await rig.request({ host: "ours.localhost" })).body, "hello");
    assert.equal((await rig.request({ host: "ours.localhost", ...call })).body, "hello");
    assert.equal(await webSocket("ours.localhost"), "hello");
    assert.deepEqual(upstream.met, ["proxy over 2.0", "proxy over 2.0", "proxy over WebSocket"]);
    for (const host of ["wrong.localhost", "none.localhost"]) {
      assert.equal((await rig.request({ host })).status, 503, host);
      assert.notEqual((await rig.request({ host, ...call })).status, 200, host);
      assert.equal(await webSocket(host), "", host);
    }
    assert.equal(upstream.met.length, 3);
  });
});

test("every request to an h2:// upstream uses HTTP/2 over TLS; an upstream without it is 503", async () => {
  const authority = await Authority.root();
  const issued = await authority.issue({ hosts: ["upstream.localhost"] });
  const start = async (server: SecureServer): Promise<number> => {
    server.on("tlsClientError", () => {}).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanUps.push(() => void server.close());
    return (server.address() as AddressInfo).port;
  };
  const tls = { skipVerify: false, serverName: null, customCa: authority.pem, clientCert: null, clientKey: null };
  const routeAs = (host: string, port: number): RouteConfig =>
    routeTo(0, {
      ...openRoute,
      host,
      to: [{ url: new URL(`h2://upstream.localhost:${port}`), weight: null }],
      tls: { ...tls, allowRenegotiation: false },
    });
  const both = await start(
    createSecureServer({ ...issued, allowHTTP1: true }, async (req, res) => {
      let body = "";
      for await (const chunk of req) body += String(chunk);
      res.end(`${req.method} ${req.url} ${body} by ${req.httpVersion} to ${req.headers[":authority"]}`);
    }),
  );
  const old = await start(createHttpsServer(issued, (_req, res) => void res.end("hello")));
  const rig = await startRig([routeAs("both.localhost", both), routeAs("old.localhost", old)]);
  cleanUps.push(() => rig.close());
  const seen = await rig.request({ host: "both.localhost", path: "/a?b=c" });
  assert.deepEqual([seen.status, seen.body], [200, `GET /a?b=c  by 2.0 to upstream.localhost:${both}`]);
  const sent = await rig.request({ host: "both.localhost", method: "POST", path: "/a", body: "hello" });
  assert.equal(sent.body, `POST /a hello by 2.0 to upstream.localhost:${both}`);
  assert.equal((await rig.request({ host: "old.localhost" })).status, 503);
});

test("the certificate must be for the upstream's own name or the route's, which may be an address, whatever Host is sent", async () => {
  const authority = await Authority.root();
  const start = async (issued: Issued): Promise<number> => {
    const server = createSecureServer({ ...issued, allowHTTP1: true }, (_req, res) => void res.end("hello"));
    new WebSocketServer({ server: server as unknown as HttpServer }).on("connection", (socket) => socket.send("hello"));
    server.on("tlsClientError", () => {}).listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanUps.push(() => void server.close());
    return (server.address() as AddressInfo).port;
  };
  const ofAddress = await start(await authority.issue({ addresses: ["127.0.0.1"] }));
  const ofName = await start(await authority.issue({ hosts: ["inner.example"] }));
  const common = { skipVerify: false, customCa: authority.pem, clientCert: null, clientKey: null };
  let routes = 0;
  const routeAs = (host: string, port: number, serverName: string | null): RouteConfig => {
    const to = [{ url: new URL(`https://${host}:${port}`), weight: null }];
    const tls = { ...common, serverName, allowRenegotiation: false };
    const named = { host: `r${routes++}.localhost`, preserveHostHeader: true, allowWebsockets: true };
    return routeTo(0, { ...openRoute, ...named, to, tls });
  };
  const rows: readonly (readonly [RouteConfig, "hello" | 503])[] = [
    [routeAs("127.0.0.1", ofAddress, null), "hello"],
    [routeAs("any.localhost", ofAddress, "127.0.0.1"), "hello"],
    [routeAs("any.localhost", ofName, "inner.example"), "hello"],
    [routeAs("127.0.0.1", ofName, "inner.example"), "hello"],
    [routeAs("127.0.0.1", ofName, null), 503],
    [routeAs("any.localhost", ofAddress, null), 503],
    [routeAs("127.0.0.1", ofAddress, "inner.example"), 503],
    [routeAs("any.localhost", ofName, "127.0.0.1"), 503],
  ];
  const rig = await startRig(rows.map(([route]) => route));
  cleanUps.push(() => rig.close());
  for (const [i, [{ host }, expected]] of rows.entries()) {
    const { status, body } = await rig.request({ host });
    assert.equal(status === 200 ? body : status, expected, `${i}`);
    const call = { method: "POST", headers: { "content-type": "application/grpc", te: "trailers" } };
    assert.equal((await rig.request({ host, ...call })).body === "hello", expected === "hello", `gRPC ${i}`);
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host } });
    socket.on("error", () => {});
    const [output] = await Promise.race([
      once(socket, "message"),
      once(socket, "unexpected-response").then(([, answer]) => [answer.statusCode]),
    ]);
    socket.terminate();
    assert.equal(output === 503 ? output : String(output), expected, `WebSocket ${i}`);
  }
});
