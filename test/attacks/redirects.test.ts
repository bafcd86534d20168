/**
 * Servers that redirect to an internal address. The proxy follows no redirect of its own requests; it accepts a
 * response only from the server that it called. Redirects of upstreams go to the caller, which may follow them itself.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { generateKeyPair, SignJWT } from "jose";
import { createTokenIssuers } from "../../src/auth/authenticate/credentials/issuers.ts";
import { readRecordsOnce } from "../../src/auth/authorize/records/record-loader.ts";
import { recordSetsOf } from "../../src/auth/authorize/records/records.ts";
import { createLocalFetch } from "../../src/auth/index.ts";
import type { DataSource, HealthCheckConfig } from "../../src/config/index.ts";
import { startAutocert } from "../../src/proxy/autocert/autocert-timer.ts";
import { finish, startOddProvider } from "../auth/authenticate/odd-provider.ts";
import { publicAccess, routeTo, signedIn, startRig, startUpstream } from "../proxy/support.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";

const codes = [301, 302, 303, 307, 308] as const;
const patience = { withinMs: 30_000 };

/** An internal server, such as a metadata service, that no request of the proxy may ever reach. */
async function startInternal(t: TestContext): Promise<Readonly<{ url: string; visits: string[] }>> {
  const visits: string[] = [];
  const server = createServer((req, res) => {
    visits.push(`${req.method} ${req.url}`);
    res.writeHead(200, { "content-type": "application/json" }).end('{"keys":[]}');
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/latest/meta-data/`, visits };
}

async function startServer(
  t: TestContext,
  answer: (req: IncomingMessage, res: ServerResponse) => void,
): Promise<number> {
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

test("an upstream's redirect is forwarded to the caller and not followed, with rewrites or without", async (t) => {
  const internal = await startInternal(t);
  let code: number = codes[0];
  const upstream = await startUpstream(
    (_req, res) => void res.writeHead(code, { location: internal.url }).end("elsewhere"),
  );
  t.after(() => upstream.close());
  const variants = {
    "app.localhost": {},
    "path.localhost": { prefixRewrite: "/latest/meta-data/" },
    "regex.localhost": { regexRewrite: { pattern: "^/(.*)$", substitution: "/x/\\1" } },
    "host.localhost": { hostRewrite: "169.254.169.254" },
    "header.localhost": { hostRewriteHeader: "x-host" },
    "answer.localhost": {
      rewriteResponseHeaders: [{ header: "location", prefix: "http://127.0.0.1", value: "https://answer.localhost" }],
    },
  };
  const routes = Object.entries(variants).map(([host, parts]) =>
    routeTo(upstream.port, { ...publicAccess, host, ...parts }),
  );
  const rig = await startRig(routes);
  t.after(() => rig.close());
  for (code of codes)
    for (const host of Object.keys(variants))
      for (const method of ["GET", "POST"]) {
        const headers = { "x-host": "169.254.169.254" };
        const answer = await rig.request({
          host,
          method,
          path: "/x",
          headers,
          ...(method === "POST" ? { body: "b" } : {}),
        });
        assert.equal(answer.status, code, host);
        const expected = host.startsWith("answer")
          ? internal.url.replace("http://127.0.0.1", "https://answer.localhost")
          : internal.url;
        assert.equal(answer.headers.location, expected, host);
        assert.equal(answer.body, "elsewhere");
      }
  assert.deepEqual(internal.visits, []);
});

test("redirects of an HTTP/2 upstream and of a WebSocket handshake are not followed", async (t) => {
  const internal = await startInternal(t);
  const sessions = new Set<ServerHttp2Session>();
  const server = createHttp2Server();
  server.on("session", (session) => sessions.add(session));
  server.on("request", (_req, res) => void res.writeHead(307, { location: internal.url }).end());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const plain = await startServer(t, (_req, res) => void res.writeHead(302, { location: internal.url }).end());
  const to = [{ url: new URL(`h2c://127.0.0.1:${(server.address() as AddressInfo).port}`), weight: null }];
  const rig = await startRig([
    routeTo(plain, { ...publicAccess, allowWebsockets: true }),
    { ...routeTo(plain, { ...publicAccess, host: "two.localhost" }), to },
  ]);
  t.after(() => rig.close());
  const answer = await rig.request({ host: "two.localhost" });
  assert.deepEqual([answer.status, answer.headers.location], [307, internal.url]);
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  socket.write(
    "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  assert.match(String((await once(socket, "data"))[0]), /^HTTP\/1\.1 302 /);
  assert.deepEqual(internal.visits, []);
});

test("a redirected health check fails and is not followed", async (t) => {
  const internal = await startInternal(t);
  let requested = 0;
  const port = await startServer(t, (_req, res) => {
    requested++;
    res.writeHead(codes[requested % codes.length] ?? 302, { location: internal.url }).end();
  });
  const check: HealthCheckConfig = {
    ...{ timeoutMs: 5_000, intervalMs: 20, initialJitterMs: 0, intervalJitterMs: 0, intervalJitterPercent: 0 },
    ...{ noTrafficIntervalMs: 20, noTrafficHealthyIntervalMs: null, unhealthyIntervalMs: null },
    ...{ unhealthyEdgeIntervalMs: null, healthyEdgeIntervalMs: null, unhealthyThreshold: 1, healthyThreshold: 1 },
    reuseConnection: true,
    probe: {
      ...{ type: "http", host: null, path: "/healthz", method: "GET", http2: false, retriable: [], receive: [] },
      ...{ expected: [{ from: 200, to: 201 }], bodyBytesMax: 100, addHeaders: [], removeHeaders: [] },
    },
  };
  const route = routeTo(port, { ...publicAccess, healthChecks: [check] });
  const rig = await startRig([{ ...route, balancing: { ...route.balancing, panicThreshold: 0 } }]);
  t.after(() => rig.close());
  await rig.apply(signedIn(1));
  await waitFor("some health checks", () => requested > 10, patience);
  await waitFor("the upstream to be unhealthy", async () => (await rig.request({})).status === 503, patience);
  assert.deepEqual(internal.visits, []);
});

test("a redirected data set is not read, and its headers are not sent to the new address", async (t) => {
  const internal = await startInternal(t);
  let code: number = codes[0];
  const port = await startServer(t, (_req, res) => void res.writeHead(code, { location: internal.url }).end("[]"));
  const local = createLocalFetch({ timeoutMs: 10_000 });
  t.after(() => local.close());
  const source: DataSource = {
    ...{ type: "hr", key: "user.id", format: "json", everyMs: 20, timeoutMs: 10_000, maxAgeMs: 0 },
    ...{ bytesMax: 10_000, recordsMax: 100, headers: { authorization: "Bearer secret" } },
    from: { type: "url", url: new URL(`http://127.0.0.1:${port}/people.json`) },
  };
  for (code of codes) {
    const sets = recordSetsOf([source]);
    const fetch = (url: string, init: Parameters<typeof local.fetch>[1]) => local.fetch(url, init);
    const problems = await readRecordsOnce({ sources: [source], sets, fetch }, AbortSignal.timeout(20_000));
    assert.match(problems.get("hr") ?? "", new RegExp(`answered ${code}`));
  }
  assert.deepEqual(internal.visits, []);
});

test("redirects of an identity provider are not followed, so no code, secret or token leaves for another address", async (t) => {
  const internal = await startInternal(t);
  for (const path of ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"])
    for (const code of codes) {
      const provider = await startOddProvider(t);
      provider.instead = (at) =>
        at === path ? { status: code, headers: { location: internal.url }, body: {} } : undefined;
      await assert.rejects(finish(provider), { name: "ProviderError" }, `${path} ${code}`);
      assert.ok(provider.count(path) > 0, path);
    }
  assert.deepEqual(internal.visits, []);
});

test("a token issuer whose discovery document or keys redirect is not accepted", async (t) => {
  const internal = await startInternal(t);
  for (const path of ["/.well-known/openid-configuration", "/jwks"]) {
    let issuer = "";
    const requested: string[] = [];
    const port = await startServer(t, (req, res) => {
      requested.push(req.url ?? "");
      if (req.url === path) return void res.writeHead(302, { location: internal.url }).end();
      res.setHeader("content-type", "application/json");
      res.end(JSON.stringify(req.url === "/jwks" ? { keys: [] } : { issuer, jwks_uri: `${issuer}/jwks` }));
    });
    issuer = `http://127.0.0.1:${port}`;
    const local = createLocalFetch({ timeoutMs: 5_000 });
    t.after(() => local.close());
    const { privateKey } = await generateKeyPair("RS256");
    const token = await new SignJWT({ sub: "s" })
      .setProtectedHeader({ alg: "RS256", kid: "k1" })
      .setIssuer(issuer)
      .setAudience("a")
      .setExpirationTime("5m")
      .sign(privateKey);
    const settings = { name: "ci", issuer, jwksUrl: null, algorithms: ["RS256"], audiences: ["a"] };
    const issuers = createTokenIssuers([settings], { local, nowMs: Date.now, monotonic: () => performance.now() });
    assert.equal(issuers.nameOf(token), "ci");
    await assert.rejects(issuers.verify(token, "ci"), { name: "ProviderError" });
    assert.ok(requested.includes(path));
  }
  assert.deepEqual(internal.visits, []);
});

test("a redirect of an ACME authority is not followed", async (t) => {
  const internal = await startInternal(t);
  using folder = new TemporaryFolder("acme-redirect");
  const requested: string[] = [];
  const port = await startServer(t, (req, res) => {
    requested.push(req.url ?? "");
    res.writeHead(302, { location: internal.url }).end();
  });
  const logged: string[] = [];
  const log = (facts: object): void => void logged.push(JSON.stringify(facts));
  const autocert = startAutocert({
    config: {
      ...{ directory: new URL(`http://127.0.0.1:${port}/dir`), email: null, eab: null, trustedCa: null },
      ...{ folder: join(folder.path, "a"), hosts: ["a.example"], challenges: ["http-01"] },
    },
    logger: { debug() {}, info() {}, warn: log, error: log },
    events: { onOrdered: () => {} },
    ...{ wall: Date.now, random: () => 0, lookEveryMs: 3_600_000, retryMs: 3_600_000 },
  });
  t.after(() => autocert.close());
  await autocert.look();
  assert.ok(requested.length > 0);
  assert.equal(logged.length, 1, logged.join("\n"));
  assert.deepEqual(internal.visits, []);
});
