/**
 * Listener and connections of the proxy: TLS on both sides, draining, the gateway to a remote authenticate service, and
 * strict audit.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, type createServer, type IncomingMessage, request } from "node:http";
import { createServer as createTlsServer, request as tlsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect as tlsConnect } from "node:tls";
import { WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../src/config/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { publicAccess, routeTo, sessionRevoked, signedIn, startRig, startUpstream, valuesOf } from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "cardea-proxy-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

type Pair = Readonly<{ cert: string; key: string }>;
function certificate(name: string, subjectAltName: string): Pair {
  const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"].concat([
      "-subj",
      `/CN=${name}`,
      "-addext",
      `subjectAltName=${subjectAltName}`,
      "-keyout",
      key,
      "-out",
      cert,
    ]),
    { stdio: "ignore" },
  );
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}

async function startTlsUpstream(pair: Pair): Promise<{ port: number; names: string[] }> {
  const names: string[] = [];
  const server = createTlsServer(pair, (req, res) => {
    names.push(String((req.socket as unknown as { servername: string | false }).servername));
    res.end(`hello ${req.headers.host}`);
  });
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket) => socket.send("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, names };
}

const connectTls = {
  skipVerify: false,
  serverName: null,
  customCa: null,
  clientCert: null,
  clientKey: null,
  allowRenegotiation: false,
};

describe("an upstream with TLS", () => {
  const to = (port: number) => [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];

  test("is verified: a certificate from an unknown authority is 503, for requests and WebSockets", async () => {
    const { port, names } = await startTlsUpstream(certificate("self", "DNS:upstream.localhost"));
    const rig = await startRig([routeTo(0, { ...publicAccess, to: to(port), allowWebsockets: true })]);
    cleanUps.push(() => rig.close());
    assert.equal((await rig.request({})).status, 503);
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    socket.on("error", () => {});
    const [, res] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
    assert.equal(res.statusCode, 503);
    assert.deepEqual(names, []);
  });

  test("is trusted with the authority of its route, and is verified by its own name, whatever the Host header is", async () => {
    const pair = certificate("own", "DNS:upstream.localhost");
    const { port, names } = await startTlsUpstream(pair);
    const rig = await startRig([
      routeTo(0, {
        ...publicAccess,
        to: to(port),
        tls: { ...connectTls, customCa: pair.cert },
        preserveHostHeader: true,
        allowWebsockets: true,
      }),
    ]);
    cleanUps.push(() => rig.close());
    assert.equal((await rig.request({})).body, "hello app.localhost");
    assert.equal((await rig.request({})).body, "hello app.localhost");
    assert.deepEqual(names, ["upstream.localhost", "upstream.localhost"]);
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    await once(socket, "message");
    socket.terminate();
  });

  test("with another name in its certificate is 503, unless the route names it", async () => {
    const pair = certificate("other", "DNS:other.example");
    const { port } = await startTlsUpstream(pair);
    const tls = { ...connectTls, customCa: pair.cert };
    const rig = await startRig([
      routeTo(0, { ...publicAccess, to: to(port), tls }),
      routeTo(0, {
        ...publicAccess,
        host: "named.localhost",
        to: to(port),
        tls: { ...tls, serverName: "other.example" },
      }),
      routeTo(0, { ...publicAccess, host: "skip.localhost", to: to(port), tls: { ...connectTls, skipVerify: true } }),
    ]);
    cleanUps.push(() => rig.close());
    assert.equal((await rig.request({})).status, 503);
    assert.equal((await rig.request({ host: "named.localhost" })).status, 200);
    assert.equal((await rig.request({ host: "skip.localhost" })).status, 200);
  });
});

test("the listener presents the certificate for the requested name, and the first one for an unknown name", async () => {
  const pairs = [certificate("first", "DNS:first.localhost"), certificate("second", "DNS:*.second.localhost")];
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, host: "a.second.localhost" })], {
    config: { certificates: pairs, insecureServer: false },
  });
  cleanUps.push(() => rig.close(), upstream.close);
  const subjectOf = async (servername: string): Promise<string> => {
    const socket = tlsConnect({ port: rig.port, host: "127.0.0.1", servername, rejectUnauthorized: false });
    await once(socket, "secureConnect");
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  };
  assert.deepEqual(
    [await subjectOf("first.localhost"), await subjectOf("a.second.localhost"), await subjectOf("x")],
    ["first", "second", "first"],
  );
  const answer = await new Promise<IncomingMessage>((resolve) => {
    tlsRequest(
      { port: rig.port, host: "127.0.0.1", rejectUnauthorized: false, headers: { host: "a.second.localhost" } },
      resolve,
    ).end();
  });
  answer.resume();
  assert.equal(answer.statusCode, 200);
});

describe("draining", () => {
  test("finishes requests in progress, refuses new connections, and closes live streams with 1001 at the drain timeout", async () => {
    let finish = (): void => {};
    const upstream = await startUpstream((_req, res) => {
      finish = () => res.end("done");
    });
    new WebSocketServer({ server: upstream.server }).on("connection", (socket) => socket.send("hello"));
    const rig = await startRig([routeTo(upstream.port, { ...publicAccess, allowWebsockets: true })], {
      config: { drainTimeoutMs: 3_000 },
    });
    cleanUps.push(upstream.close);
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    await once(socket, "message");
    const slow = rig.request({ headers: { connection: "keep-alive" } });
    await waitFor("the request to arrive", () => upstream.seen.length === 1);
    const closed = once(socket, "close");
    let drained = false;
    const draining = rig.proxy.drain().then(() => {
      drained = true;
    });
    assert.equal(rig.proxy.stats().draining, true);
    await assert.rejects(rig.request({}), /ECONNREFUSED/);
    assert.equal(drained, false);
    assert.equal(socket.readyState, socket.OPEN);
    finish();
    const answer = await slow;
    assert.deepEqual([answer.body, answer.headers.connection], ["done", "close"]);
    assert.equal((await closed)[0], 1_001);
    await draining;
    await waitFor("the last WebSocket to close", () => rig.proxy.stats().exchanges.websocket === 0);
    await rig.close();
  });

  test("ends when the last stream has ended by itself", async () => {
    const upstream = await startUpstream();
    new WebSocketServer({ server: upstream.server }).on("connection", (socket) => socket.send("hello"));
    const rig = await startRig([routeTo(upstream.port, { ...publicAccess, allowWebsockets: true })], {
      config: { drainTimeoutMs: 600_000 },
    });
    cleanUps.push(upstream.close);
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host: "app.localhost" } });
    await once(socket, "message");
    const closed = rig.close();
    socket.close();
    await closed;
  });

  test("still accepts connections during the drain delay, and closes each after its response", async () => {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, publicAccess)], { config: { drainDelayMs: 3_000 } });
    cleanUps.push(upstream.close);
    const agent = new Agent({ keepAlive: true });
    const connectionHeader = async (): Promise<string | undefined> => {
      const headers = { host: "app.localhost" };
      const req = request({ port: rig.port, host: "127.0.0.1", agent, headers }).end();
      const [res] = (await once(req, "response")) as [IncomingMessage];
      await once(res.resume(), "end");
      return res.headers.connection;
    };
    assert.equal(await connectionHeader(), undefined);
    const closed = rig.close();
    assert.equal(await connectionHeader(), "close"); // on the existing connection
    assert.equal(await connectionHeader(), "close"); // on a new connection
    await closed;
    await assert.rejects(rig.request({}), /ECONNREFUSED/);
    agent.destroy();
  });

  test("ends at the drain timeout", async () => {
    const upstream = await startUpstream(() => {});
    const rig = await startRig([routeTo(upstream.port, { ...publicAccess, timeoutMs: 0 })], {
      config: { drainTimeoutMs: 100 },
    });
    cleanUps.push(upstream.close);
    const never = rig.request({ headers: { accept: "application/json" } });
    await waitFor("the request to arrive", () => upstream.seen.length === 1);
    const started = performance.now();
    const answer = never.then(
      ({ status }) => status,
      () => 0,
    );
    await rig.close();
    assert.ok(performance.now() - started < 20_000);
    assert.ok([0, 503].includes(await answer));
  });

  test("does not wait for an idle connection", async () => {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, publicAccess)], { config: { drainTimeoutMs: 30_000 } });
    cleanUps.push(upstream.close);
    const agent = new Agent({ keepAlive: true });
    await new Promise<void>((resolve) => {
      request({ port: rig.port, host: "127.0.0.1", agent, headers: { host: "app.localhost" } }, (res) => {
        res.resume().on("end", resolve);
      }).end();
    });
    const started = performance.now();
    await rig.close();
    assert.ok(performance.now() - started < 20_000, "draining did not wait for its timeout");
    agent.destroy();
  });
});

test("a route on the sign-in host gets every path except those that sign-in handles", async () => {
  const upstream = await startUpstream();
  const host = "authenticate.localhost";
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, host, allowEncodedSlashes: true })]);
  cleanUps.push(() => rig.close(), upstream.close);
  for (const path of ["/", "/robots.txt", "/oauth2/callback?code=x", "/.pomerium/", "/.pomerium/sign_in"])
    assert.equal((await rig.request({ host, path })).body, `authenticate ${path}`, path);
  for (const path of [
    "/.pomerium/callback/?x=1",
    "/.pomerium/api/v1/routes",
    "/.pomerium/return",
    "/.pomerium/routes",
    "/.pomerium/address.js",
  ])
    assert.match((await rig.request({ host, path })).body, /"reserved"/, path);
  const before = upstream.seen.length;
  for (const path of ["/app", "/oauth2/other"]) assert.equal((await rig.request({ host, path })).status, 200, path);
  assert.equal(upstream.seen.length - before, 2);
  for (const path of ["/oauth2%2Fcallback", "/.pomerium%2Fsign_in", "/.pomerium/a%2Fb"])
    assert.equal((await rig.request({ host, path })).status, 400, path);
  assert.equal((await rig.request({ host, path: "/oauth2%2Fother" })).status, 200);
});

describe("the gateway to a remote authenticate service", () => {
  async function startGateway(handler?: Parameters<typeof createServer>[1]) {
    const service = await startUpstream(handler);
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, publicAccess)], {
      config: { authenticateInternalServiceUrl: new URL(`http://127.0.0.1:${service.port}`) },
      deps: { authenticateHost: null },
    });
    cleanUps.push(() => rig.close(), service.close, upstream.close);
    return { rig, service, upstream };
  }
  const host = "authenticate.localhost";

  test("forwards requests with their Host, and sets the headers that identify the caller itself", async () => {
    const { rig, service } = await startGateway();
    const answer = await rig.request({
      host,
      method: "POST",
      path: "/.pomerium/sign_in?a=1&b=%20",
      body: "x=1",
      headers: {
        "content-type": "application/x-www-form-urlencoded",
        cookie: "_pomerium_authenticate=t",
        authorization: "Bearer operator-token",
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-proto": "gopher",
        forwarded: "for=6.6.6.6",
        connection: "x-request-id",
      },
    });
    const seen = JSON.parse(answer.body);
    assert.deepEqual([seen.method, seen.url, seen.body], ["POST", "/.pomerium/sign_in?a=1&b=%20", "x=1"]);
    const sent = (name: string) => valuesOf(seen.rawHeaders, name);
    assert.deepEqual(sent("host"), [host]);
    assert.deepEqual(sent("x-forwarded-for"), ["127.0.0.1"]);
    assert.deepEqual(sent("x-forwarded-proto"), ["http"]);
    assert.deepEqual(sent("forwarded"), []);
    assert.deepEqual(
      [sent("cookie"), sent("authorization")],
      [["_pomerium_authenticate=t"], ["Bearer operator-token"]],
    );
    assert.deepEqual(sent("x-request-id"), [answer.headers["x-request-id"]]);
    assert.equal(service.seen.length, 1);
  });

  test("forwards redirects and cookies unchanged", async () => {
    const { rig } = await startGateway((_req, res) => {
      res.writeHead(302, { location: "https://idp.example/?state=x", "set-cookie": ["a=1", "_pomerium_csrf=2"] }).end();
    });
    const answer = await rig.request({ host });
    assert.deepEqual([answer.status, answer.headers.location], [302, "https://idp.example/?state=x"]);
    assert.deepEqual(answer.headers["set-cookie"], ["a=1", "_pomerium_csrf=2"]);
  });

  test("never forwards to the databroker API", async () => {
    const { rig, service } = await startGateway();
    for (const path of ["/v1/commands", "/v1", "/v1/events?after=0", "//v1/status", "/%761/status"]) {
      assert.equal((await rig.request({ host, path })).status, 404, path);
    }
    assert.equal(service.seen.length, 0);
  });

  test("serves only the authenticate host, and answers /healthz for this node", async () => {
    const { rig, service, upstream } = await startGateway();
    await rig.request({});
    await rig.request({ host, path: "/healthz" });
    assert.deepEqual([service.seen.length, upstream.seen.length], [0, 1]);
  });

  test("does not retry: a 503 stays a 503, and an unreachable service is 503", async () => {
    const { rig, service } = await startGateway((_req, res) => res.writeHead(503, { "retry-after": "0" }).end("busy"));
    assert.equal((await rig.request({ host })).status, 503);
    assert.equal(service.seen.length, 1);
    await service.close();
    const unreachable = await rig.request({ host, headers: { accept: "text/html" } });
    assert.equal(unreachable.status, 503);
    assert.match(unreachable.body, /<html>/);
    assert.ok(!unreachable.body.includes(String(service.port)));
  });

  test("a service that stops answering on open connections: waiting requests end, others fail at once, until it answers", {
    timeout: 60_000,
  }, async () => {
    let silent = false;
    const arrived: string[] = [];
    const { rig } = await startGateway((req, res) => {
      arrived.push(req.url ?? "");
      if (!silent) res.end("here");
    });
    const command = { host, path: "/.pomerium/admin/api/v1/sessions" }; // which may wait 150 s for a receipt
    assert.equal((await rig.request(command)).status, 200);
    silent = true;
    const waiting = await Promise.all([rig.request(command), rig.request({ host })]);
    assert.deepEqual(
      waiting.map(({ status }) => status),
      [504, 504],
    );
    const sent = arrived.filter((path) => path !== "/ping").length;
    assert.equal((await rig.request(command)).status, 503);
    assert.equal(arrived.filter((path) => path !== "/ping").length, sent, "no request is sent in vain");
    silent = false;
    await waitFor("the service", async () => (await rig.request(command)).status === 200);
  });

  test("a service that answers others lets a request wait for a receipt", { timeout: 60_000 }, async () => {
    let release = (): void => {};
    let pings = 0;
    const { rig } = await startGateway((req, res) => {
      if (req.url === "/ping") {
        pings += 1;
        res.end();
        if (pings === 2) release();
      } else release = () => res.end("complete");
    });
    const answer = await rig.request({ host, path: "/.pomerium/admin/api/v1/receipts/1?wait=30s" });
    assert.deepEqual([answer.status, answer.body], [200, "complete"]);
  });
});

describe("strict audit", () => {
  async function strict(recordDurably: () => Promise<void>, parts: Partial<RouteConfig> = {}) {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, { audit: "strict", ...parts })], { recordDurably });
    cleanUps.push(() => rig.close(), upstream.close);
    await rig.apply(signedIn(1));
    return { rig, upstream };
  }
  test("delays a request until its record is durable", async () => {
    let written = (): void => {};
    const { rig, upstream } = await strict(
      () =>
        new Promise((resolve) => {
          written = resolve;
        }),
    );
    const answer = rig.request({ session: 1 });
    await waitFor("the permit", () => rig.proxy.stats().exchanges.http === 1);
    assert.equal(upstream.seen.length, 0);
    written();
    assert.equal((await answer).status, 200);
  });
  for (const [kind, parts] of [
    ["a route with an upstream", {}],
    ["a route with a fixed response", { response: { status: 200, body: "for members" } }],
  ] as const) {
    test(`a session revoked while its record is being written gets nothing: ${kind}`, async () => {
      const written = Promise.withResolvers<void>();
      const { rig, upstream } = await strict(() => written.promise, parts);
      const answer = rig.request({ session: 1 });
      await waitFor("the permit", () => rig.proxy.stats().exchanges.http === 1);
      await rig.apply(sessionRevoked(1));
      written.resolve();
      const { status, body } = await answer;
      assert.ok(status === 302 || status === 401, String(status));
      assert.ok(!body.includes("for members"));
      assert.equal(upstream.seen.length, 0);
    });
  }
  test("answers 503 when the record cannot be written", async () => {
    const { rig, upstream } = await strict(() => Promise.reject(new Error("disk full")));
    assert.equal((await rig.request({ session: 1 })).status, 503);
    assert.equal(upstream.seen.length, 0);
  });
});
