/**
 * Recipes: the configurations that the documentation gives for other proxies, run by the real proxies as they are on
 * the page. Only addresses, ports and certificates are replaced. A caller that names two hosts, two paths or two values
 * of a header reaches nothing that the route of the served host does not permit.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as createPlainServer } from "node:http";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { Registry } from "prom-client";
import { parse as parseYaml } from "yaml";
import { type DecisionServer, startDecisionServer } from "../../../src/proxy/index.ts";
import { findCaddy } from "../../support/caddy.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts, onFreePort } from "../../support/free-port.ts";
import { findHaproxy, startHaproxy } from "../../support/haproxy.ts";
import { findNginx } from "../../support/nginx.ts";
import { Authority } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  cookieOf,
  decisionApiConfig,
  engOnly,
  groupChanged,
  publicAccess,
  type ReceivedResponse,
  type RequestOptions,
  type Rig,
  routeTo,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
  valuesOf,
} from "../support.ts";

const root = new URL("../../../", import.meta.url).pathname;
const host = "app.example.com";
const laxHost = "open.example.com";
const nearOnly = {
  ppl: { allow: { and: [{ source_ip: "203.0.113.0/24" }] } },
  location: { file: "cardea.yaml", line: 1, column: 1 },
};

let rig: Rig;
let app: Upstream;
let signInTarget: DecisionServer;
let folder: TemporaryFolder;
/** The target of `/.pomerium/` in a recipe. It answers with the host of the request. */
let cardea: ReturnType<typeof createServer>;
let cardeaPort: number;

before(async () => {
  folder = new TemporaryFolder("recipes");
  const authority = await Authority.root();
  const { cert, key } = await authority.issue({ hosts: [host, laxHost] });
  const write = (name: string, text: string): void => writeFileSync(join(folder.path, name), text, { mode: 0o600 });
  write("ca.pem", authority.pem);
  write("cert.pem", cert);
  write("key.pem", key);
  write("both.pem", cert + key);
  cardea = createServer({ cert, key }, (req, res) =>
    res.end(JSON.stringify({ host: req.headers.host, raw: req.rawHeaders })),
  );
  await new Promise<void>((resolve) => cardea.listen(0, "127.0.0.1", resolve));
  cardeaPort = (cardea.address() as AddressInfo).port;
  app = await startUpstream();
  const from = new URL(`https://${host}`);
  const route = (value: string, parts: Parameters<typeof routeTo>[1] = {}) =>
    routeTo(app.port, { host, from, id: value, match: { kind: "prefix", value }, ...parts });
  rig = await startRig(
    [
      route("/public", { ...publicAccess, passIdentityHeaders: true }),
      route("/eng", { ...engOnly, staleGraceMs: 0 }),
      route("/near", { allowAnyAuthenticatedUser: false, policy: nearOnly }),
      route("/", { passIdentityHeaders: true }),
      routeTo(app.port, { ...publicAccess, host: laxHost, from: new URL(`https://${laxHost}`) }),
    ],
    { config: { jwtClaimsHeaders: { "x-pomerium-claim-email": "email" } } },
  );
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  signInTarget = await startDecisionServer({
    listen: decisionApiConfig({ address: { host: "127.0.0.1", port: 0 }, trustedProxies: ["127.0.0.1"] }),
    deps: () => rig.deps,
    registry: new Registry(),
    requestId: randomUUID,
  });
});
after(async () => {
  await signInTarget.close();
  await rig.close();
  await app.close();
  cardea.closeAllConnections();
  cardea.close();
  folder.remove();
});

/** The first code block of a section. */
function recipe(heading: string, language: string): string {
  const [, section = ""] = readFileSync(join(root, "docs/decisions.md"), "utf8").split(`\n## ${heading}\n`);
  const text = section.split(`\`\`\`${language}\n`, 2)[1]?.split("\n```")[0];
  return text ?? assert.fail(`docs/decisions.md has no recipe for ${heading}`);
}

/** Replaces the values that a test chooses. The recipe must contain each of them. */
function fill(text: string, replacements: Readonly<Record<string, string>>): string {
  let filled = text;
  for (const [before, after] of Object.entries(replacements)) {
    assert.ok(filled.includes(before), `the recipe has ${before}`);
    filled = filled.replaceAll(before, after);
  }
  return filled;
}

function send(
  port: number,
  { path = "/", method = "GET", headers = {}, session }: RequestOptions,
): Promise<ReceivedResponse> {
  const cookie = session === undefined ? {} : { cookie: cookieOf(session) };
  return new Promise((resolve, reject) => {
    const target = { port, host: "127.0.0.1", servername: host, rejectUnauthorized: false, agent: false };
    const req = request({ ...target, path, method, headers: { host, ...cookie, ...headers } }, (res) => {
      let body = "";
      res.on("data", (chunk: Buffer) => {
        body += chunk.toString("latin1");
      });
      res.on("end", () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body, raw: res.rawHeaders }));
    });
    req.on("error", reject).end();
  });
}

/** Sends a head unchanged, over TLS. @returns the status; 0: the connection ended without one */
function askByHand(port: number, lines: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connectTls({ port, host: "127.0.0.1", servername: host, rejectUnauthorized: false }, () =>
      socket.write([...lines, "Connection: close", "", ""].join("\r\n")),
    );
    socket.on("data", (chunk: Buffer) => {
      answer += chunk.toString("latin1");
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(Number(/^HTTP\/1\.\d (\d{3})/.exec(answer)?.[1] ?? 0)));
  });
}

/**
 * Permits and denials for a caller that sends the headers of the proxy in front. The app must receive only the proxy's
 * own.
 */
async function checkRecipe(port: number): Promise<void> {
  const spoofed = { "x-pomerium-claim-email": "mallory@example.com", "x-pomerium-jwt-assertion": "forged" };
  const claimedAddress = {
    ...spoofed,
    "x-forwarded-uri": "/public",
    "x-original-url": "https://app.example.com/public",
    "x-forwarded-for": "203.0.113.9",
  };
  const through = (options: RequestOptions) =>
    send(port, { ...options, headers: { ...claimedAddress, ...options.headers } });
  const seen = app.seen.length;
  const permitted = await through({ path: "/eng/x?y", session: 1 });
  assert.equal(permitted.status, 200, permitted.body);
  const atApp = app.seen.at(-1) ?? assert.fail("the app was not reached");
  assert.equal(atApp.url, "/eng/x?y");
  assert.deepEqual(
    valuesOf(atApp.rawHeaders, "x-pomerium-claim-email").filter((value) => value !== ""),
    [],
  );
  await through({ path: "/", session: 1 });
  const identified = app.seen.at(-1) ?? assert.fail("the app was not reached");
  assert.deepEqual(valuesOf(identified.rawHeaders, "x-pomerium-claim-email"), ["user1@example.com"]);
  assert.equal(
    valuesOf(identified.rawHeaders, "x-pomerium-jwt-assertion").filter((value) => value.startsWith("ey")).length,
    1,
  );
  await through({ path: "/public" });
  const anonymousRequest = app.seen.at(-1) ?? assert.fail("the app was not reached");
  assert.deepEqual(
    valuesOf(anonymousRequest.rawHeaders, "x-pomerium-claim-email").filter((value) => value !== ""),
    [],
  );
  assert.equal(app.seen.length, seen + 3);

  assert.equal((await through({ path: "/eng", session: 2 })).status, 403);
  assert.equal((await through({ path: "/", headers: { "sec-fetch-mode": "cors" } })).status, 401);
  assert.equal((await through({ path: "/near" })).status, 403, "the caller's claim about its address is ignored");
  assert.equal((await through({ path: "//public" })).status, 403);
  const visit = await through({ path: "/a", headers: { "sec-fetch-mode": "navigate" } });
  assert.equal(visit.status, 302);
  assert.match(
    String(visit.headers.location),
    /^https:\/\/app\.example\.com\/\.pomerium\/sign_in\?pomerium_redirect_uri=https/,
  );
  for (const length of [3_000, 5_000]) {
    const path = `/a?q=${"ab%20".repeat(length / 5)}`;
    const long = await through({ path, headers: { "sec-fetch-mode": "navigate" } });
    assert.equal(long.status, 302, `an address of ${length} characters leads to sign-in`);
    const address = new URL(String(long.headers.location)).searchParams.get("pomerium_redirect_uri");
    assert.equal(address, `https://${host}${path}`);
  }
  assert.equal(app.seen.length, seen + 3, "no other request reached the app");
}

/**
 * Requests that the decision and the app could read differently. None of them may reach the app. (Caddy answers 200
 * with no body for a host without a site.)
 */
async function assertNoneReaches(port: number): Promise<void> {
  const seen = app.seen.length;
  const heads: Readonly<Record<string, readonly string[]>> = {
    "absolute form names the served host, Host another one": [`GET https://${host}/eng HTTP/1.1`, `Host: ${laxHost}`],
    "absolute form names another host": [`GET https://${laxHost}/eng HTTP/1.1`, `Host: ${host}`],
    "absolute form by another scheme": [`GET http://${host}/eng HTTP/1.1`, `Host: ${laxHost}`],
    "another host alone": ["GET /eng HTTP/1.1", `Host: ${laxHost}`],
    "another host with a port": ["GET /eng HTTP/1.1", `Host: ${laxHost}:443`],
    "two hosts": ["GET /eng HTTP/1.1", `Host: ${host}`, `Host: ${laxHost}`],
    "another host forwarded": ["GET /eng HTTP/1.1", `Host: ${host}`, `X-Forwarded-Host: ${laxHost}`],
    "two forwarded hosts": [
      ...["GET /eng HTTP/1.1", `Host: ${host}`],
      ...[`X-Forwarded-Host: ${laxHost}`, `X-Forwarded-Host: ${laxHost}`],
    ],
    "another path forwarded": ["GET /eng HTTP/1.1", `Host: ${host}`, "X-Forwarded-Uri: /public"],
    "another address in nginx's headers": [
      ...["GET /eng HTTP/1.1", `Host: ${host}`],
      ...[`X-Original-URL: https://${laxHost}/`, "X-Original-URI: /public", "X-Original-Method: GET"],
    ],
    "identity headers named by Connection": [
      ...["GET /eng HTTP/1.1", `Host: ${host}`],
      "Connection: X-Forwarded-Host, X-Forwarded-Uri, X-Original-URL, X-Original-Method, X-Forwarded-For",
    ],
    "dot segments out of the public path": ["GET /public/../eng HTTP/1.1", `Host: ${host}`],
    "encoded dot segments out of the public path": ["GET /public/%2e%2e/eng HTTP/1.1", `Host: ${host}`],
    "dot segments into the path without a decision": ["GET /.pomerium/../eng HTTP/1.1", `Host: ${host}`],
  };
  for (const [what, lines] of Object.entries(heads)) {
    const status = await askByHand(port, lines);
    assert.equal(app.seen.length, seen, `${what} reached the app (${status})`);
  }
  const cookie = `Cookie: ${cookieOf(1)}`;
  const same = await askByHand(port, [`GET https://${host}/eng HTTP/1.1`, `Host: ${host}`, cookie]);
  assert.equal(same, 200, "absolute form with the same host is served");
  const odd = [
    "X-Original-URL: /eng",
    "X-Rewrite-URL: /eng",
    "X-Forwarded-Host: evil.example",
    "X-Pomerium-Jwt-Assertion-For: x",
  ];
  assert.equal(await askByHand(port, ["GET /public HTTP/1.1", `Host: ${host}`, ...odd]), 200);
  const { rawHeaders = [] } = app.seen.at(-1) ?? {};
  for (const name of ["x-original-url", "x-rewrite-url", "x-pomerium-jwt-assertion-for", "forwarded"])
    assert.deepEqual(valuesOf(rawHeaders, name), [], name);
  assert.deepEqual(valuesOf(rawHeaders, "x-forwarded-host"), [host]);
  const signIn = await send(port, { path: "/.pomerium/sign_in" });
  assert.equal(JSON.parse(signIn.body).host, host, signIn.body);
}

const nginxCommand = findNginx();
test("nginx with the documented recipe", {
  skip: nginxCommand === undefined && "nginx is not installed",
}, async (t) => {
  const file = (name: string): string => join(folder.path, name);
  const port = await onFreePort(async (free) => {
    const text = fill(recipe("nginx", "nginx"), {
      "server app.internal:8080;": `server 127.0.0.1:${app.port};`,
      "server cardea.internal:443;": `server 127.0.0.1:${cardeaPort};`,
      "listen 443 ssl;": `listen 127.0.0.1:${free} ssl; ssl_certificate ${file("cert.pem")}; ssl_certificate_key ${file("key.pem")};`,
      "127.0.0.1:9180": `127.0.0.1:${signInTarget.address?.port ?? 0}`,
    });
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    writeFileSync(
      file("nginx.conf"),
      `daemon off; master_process off; pid ${file("nginx.pid")}; events { worker_connections 256; }
      http { ${temporary.map((name) => `${name}_temp_path ${file(name)};`).join(" ")} access_log off; ${text} }`,
    );
    const args = ["-e", file("error.log"), "-c", file("nginx.conf")];
    return await start(t, free, { command: nginxCommand ?? "", args, logFile: file("nginx.log") });
  });
  await checkRecipe(port);
  await assertNoneReaches(port);
  rig.lease.overdueMs = 10;
  assert.equal((await send(port, { path: "/eng", session: 1 })).status, 500, "neither a permit nor a denial");
  rig.lease.overdueMs = -1_000;
});

const caddyCommand = findCaddy();
test("Caddy with the documented recipe, also behind a proxy that it trusts", {
  skip: caddyCommand === undefined && "Caddy is not installed",
}, async (t) => {
  const file = (name: string): string => join(folder.path, name);
  const [trusting = 0] = await freePorts(1);
  const port = await onFreePort(async (free) => {
    const addresses = {
      "https://cardea.internal:443": `https://127.0.0.1:${cardeaPort}`,
      "app.internal:8080": `127.0.0.1:${app.port}`,
    };
    const asks = `forward_auth 127.0.0.1:${signInTarget.address?.port ?? 0} {`;
    const site = ` {\n bind 127.0.0.1\n tls ${file("cert.pem")} ${file("key.pem")}`;
    const plain = { "forward_auth 127.0.0.1:9180 {": asks, "app.example.com {": `app.example.com${site}` };
    // Here every caller is a proxy that Caddy trusts, so Caddy repeats the host that the caller forwards unless the
    // recipe says otherwise.
    const behind = {
      "forward_auth 127.0.0.1:9180 {": `${asks}\n trusted_proxies 127.0.0.1`,
      "app.example.com {": `app.example.com:${trusting}${site}`,
    };
    const sites = [plain, behind].map((more) => fill(recipe("Caddy", "caddyfile"), { ...addresses, ...more }));
    const global = `{\n admin off\n auto_https disable_redirects\n https_port ${free}\n }\n`;
    writeFileSync(file("Caddyfile"), global + sites.join("\n"));
    const args = ["run", "--config", file("Caddyfile"), "--adapter", "caddyfile"];
    const home = { HOME: folder.path, XDG_DATA_HOME: folder.path, XDG_CONFIG_HOME: folder.path };
    const env = { ...home, SSL_CERT_FILE: file("ca.pem") };
    return await start(t, free, { command: caddyCommand ?? "", args, env, logFile: file("caddy.log") });
  });
  await checkRecipe(port);
  await assertNoneReaches(port);
  await assertNoneReaches(trusting);
});

async function start(t: TestContext, port: number, spec: Parameters<typeof Child.start>[0]): Promise<number> {
  const child = await Child.start(spec);
  await waitFor(`${spec.command} to listen`, async () => {
    if (!child.running) throw new Error(child.log());
    return (await send(port, { path: "/.pomerium/ready" }).catch(() => undefined))?.status === 200;
  });
  t.after(() => child.end("SIGTERM"));
  return port;
}

test("HAProxy with deploy/load-balancer/ends-tls.cfg: a caller adds nothing to the headers of the one trusted hop", {
  skip: findHaproxy() === undefined && "HAProxy is not installed",
}, async (t) => {
  const ready = createPlainServer((_, res) => res.end());
  await new Promise<void>((resolve) => ready.listen(0, "127.0.0.1", resolve));
  t.after(() => ready.close());
  const readyPort = String((ready.address() as AddressInfo).port);
  const port = await onFreePort(async (free) => {
    const file = (name: string): string => join(folder.path, name);
    const proxy = `127.0.0.1:${cardeaPort}`;
    const env = {
      ...{ CERTIFICATE: file("both.pem"), PROXY_CA: file("ca.pem"), PROXY_NAME: host },
      ...{ PROXY_1: proxy, PROXY_2: proxy, READY_1: readyPort, READY_2: readyPort },
    };
    const config = join(root, "deploy/load-balancer/ends-tls.cfg");
    const child = await startHaproxy(config, { port: free, env, logFile: file("haproxy.log") });
    t.after(() => child.end("SIGTERM"));
    return free;
  });
  const claims = {
    "x-forwarded-for": "203.0.113.9",
    ...{ forwarded: "for=203.0.113.9", "x-request-id": "chosen-by-a-caller" },
    "x-pomerium-jwt-assertion-for": "forged",
  };
  const answer = await send(port, { path: "/", headers: claims });
  const { host: asked, raw } = JSON.parse(answer.body) as { host: string; raw: readonly string[] };
  assert.equal(asked, host);
  assert.deepEqual(valuesOf(raw, "x-forwarded-for"), ["127.0.0.1"]);
  for (const name of ["forwarded", "x-request-id", "x-pomerium-jwt-assertion-for"])
    assert.deepEqual(valuesOf(raw, name), [], name);
  const two = await askByHand(port, [`GET https://${host}/ HTTP/1.1`, `Host: ${laxHost}`]);
  assert.notEqual(two, 200, "two hosts");
});

test("HAProxy with deploy/load-balancer/haproxy.cfg: a caller's claims are dropped, and proxies that are not ready answer themselves", {
  skip: findHaproxy() === undefined && "HAProxy is not installed",
}, async (t) => {
  const state = { ready: true };
  const checks = createPlainServer((req, res) => {
    res.writeHead(req.url === "/readyz" && !state.ready ? 503 : 200).end();
  });
  await new Promise<void>((resolve) => checks.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    checks.closeAllConnections();
    checks.close();
  });
  const [health = 0] = await freePorts(1);
  const port = await onFreePort(async (free) => {
    const proxy = `127.0.0.1:${app.port}`;
    const config = fill(readFileSync(join(root, "deploy/load-balancer/haproxy.cfg"), "utf8"), {
      ...{ "bind :8080": `bind 127.0.0.1:${free}`, "bind 127.0.0.1:8404": `bind 127.0.0.1:${health}` },
      ...{ "check port 9902": `check port ${(checks.address() as AddressInfo).port}` },
      ...{ " proxy-1:8080": ` ${proxy}`, " proxy-2:8080": ` ${proxy}` },
    });
    const file = join(folder.path, "haproxy.cfg");
    writeFileSync(file, config);
    const child = await startHaproxy(file, { port: free, env: {}, logFile: join(folder.path, "plain-haproxy.log") });
    t.after(() => child.end("SIGTERM"));
    return free;
  });
  const healthy = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${health}/healthz`)).ok;
  await waitFor("a proxy to be ready", healthy);
  const claims = {
    ...{ "x-forwarded-for": "203.0.113.9", forwarded: "for=203.0.113.9", "x-request-id": "chosen-by-a-caller" },
    "x-pomerium-jwt-assertion-for": "forged",
  };
  const claimed = await fetch(`http://127.0.0.1:${port}/`, { headers: claims });
  const { rawHeaders } = (await claimed.json()) as { rawHeaders: readonly string[] };
  assert.deepEqual(valuesOf(rawHeaders, "x-forwarded-for"), ["127.0.0.1"]);
  for (const name of ["forwarded", "x-request-id", "x-pomerium-jwt-assertion-for"])
    assert.deepEqual(valuesOf(rawHeaders, name), [], name);
  state.ready = false;
  await waitFor("no proxy to be ready", async () => !(await healthy()));
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200, "the proxies send their own response");
});

test("the recipes for Traefik and Envoy parse, and name the host that they serve", () => {
  const traefik = parseYaml(recipe("Traefik", "yaml"));
  for (const { rule } of Object.values<{ rule: string }>(traefik.http.routers))
    assert.match(rule, /^Host\(`app\.example\.com`\)/);
  const { forwardAuth } = traefik.http.middlewares.cardea;
  assert.equal(forwardAuth.trustForwardHeader, false);
  assert.match(forwardAuth.address, /\/forward-auth\?sign_in=redirect$/);
  const [filter] = parseYaml(recipe("Envoy", "yaml"));
  assert.equal(filter.typed_config.failure_mode_allow ?? false, false);
  const [listener] = parseYaml(readFileSync(join(root, "deploy/examples/envoy.yaml"), "utf8")).static_resources
    .listeners;
  const manager = listener.filter_chains[0].filters[0].typed_config;
  assert.deepEqual(
    manager.route_config.virtual_hosts.flatMap(({ domains }: { domains: string[] }) => domains),
    [host],
  );
  assert.equal(manager.use_remote_address, true);
  assert.equal(manager.path_with_escaped_slashes_action, "REJECT_REQUEST");
});
