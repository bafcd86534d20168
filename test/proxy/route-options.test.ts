/**
 * Route options as operators write them in the file, through a real proxy to real servers: Node, and nginx if it is
 * installed.
 */
import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import { base, config as parsed } from "../config/support.ts";
import { findNginx, startNginx } from "../support/nginx.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Rig, signedIn, startRig, startUpstream, type Upstream, valuesOf } from "./support.ts";

const cleanUps: (() => Promise<unknown> | unknown)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const publicRoute = "allow_public_unauthenticated_access: true";

/** Each text is a route without its leading dash. A route without access rules is public. */
async function start(...routes: readonly string[]): Promise<Rig> {
  const routeTexts = routes.map((route) => `  - {from: "http://app.localhost", ${route}}\n`).join("");
  const rig = await startRig(parsed(`${base}routes:\n${routeTexts}`).routes);
  cleanUps.push(() => rig.close());
  await rig.apply(signedIn(1));
  return rig;
}

async function upstreams(count: number, handler?: Parameters<typeof startUpstream>[0]): Promise<Upstream[]> {
  const all = await Promise.all(Array.from({ length: count }, () => startUpstream(handler)));
  cleanUps.push(() => Promise.all(all.map((singleRoute) => singleRoute.close())));
  return all;
}

describe("redirects", () => {
  const rows: readonly (readonly [redirect: string, status: number, location: string])[] = [
    ["{https_redirect: true}", 301, "https://app.localhost/a/b?c=d"],
    ["{scheme_redirect: https, response_code: 308}", 308, "https://app.localhost/a/b?c=d"],
    ["{host_redirect: other.localhost, response_code: 302}", 302, "http://other.localhost/a/b?c=d"],
    ["{port_redirect: 8443, response_code: 307}", 307, "http://app.localhost:8443/a/b?c=d"],
    ["{path_redirect: /new, response_code: 303}", 303, "http://app.localhost/new?c=d"],
    ["{path_redirect: /new, strip_query: true}", 301, "http://app.localhost/new"],
    ["{prefix_rewrite: /x}", 301, "http://app.localhost/x/b?c=d"],
  ];
  for (const [redirect, status, location] of rows)
    test(redirect, async () => {
      const rig = await start(`prefix: /a, redirect: ${redirect}, ${publicRoute}`);
      const answer = await rig.request({ path: "/a/b?c=d" });
      assert.deepEqual([answer.status, answer.headers.location], [status, location]);
    });
});

test("a path that a rewrite would turn into a dot segment is 400, and reaches no upstream", async () => {
  const [server] = (await upstreams(1)) as [Upstream];
  const rig = await start(
    `prefix: /foo, prefix_rewrite: /, to: "http://127.0.0.1:${server.port}", allow_public_unauthenticated_access: true`,
  );
  for (const path of ["/foo../x", "/foo.", "/foo./x", "/foo;/x"]) {
    const answer = await rig.request({ path });
    assert.equal(answer.status, 400, path);
  }
  assert.equal(server.seen.length, 0);
  assert.match(await rig.metrics(), /cardea_proxy_refused_requests_total\{reason="rewrite"\} 4/);
});

test("a fixed response has its status and body", async () => {
  const rig = await start(`response: {status: 418, body: tea}, ${publicRoute}`);
  const answer = await rig.request({});
  assert.deepEqual([answer.status, answer.body, answer.headers["content-length"]], [418, "tea", "3"]);
});

test("text outside ASCII is sent as UTF-8: unchanged in headers, percent-encoded in paths", async () => {
  const [server] = (await upstreams(1)) as [Upstream];
  const to = `to: "http://127.0.0.1:${server.port}", set_response_headers: {X-Says: "10 €"}`;
  const rig = await start(
    `prefix: /fixed, response: {status: 200}, set_response_headers: {X-Says: "10 €"}, ${publicRoute}`,
    `prefix: /moved, redirect: {path_redirect: "/café"}, ${publicRoute}`,
    `prefix: /parts, redirect: {prefix_rewrite: "/café"}, ${publicRoute}`,
    `prefix: /inside, prefix_rewrite: "/café", ${to}, ${publicRoute}`,
    `prefix: /denied, ${to}, policy: {deny: {and: [{accept: true}]}}`,
  );
  const linesAt = async (path: string): Promise<unknown[]> => {
    const { status, headers } = await rig.request({ path, headers: { accept: "application/json" } });
    const { location, "x-says": says } = headers;
    return [status, location ?? (typeof says === "string" ? Buffer.from(says, "latin1").toString() : says)];
  };
  assert.deepEqual(await linesAt("/fixed"), [200, "10 €"]);
  assert.deepEqual(await linesAt("/moved"), [301, "http://app.localhost/caf%C3%A9"]);
  assert.deepEqual(await linesAt("/parts/x"), [301, "http://app.localhost/caf%C3%A9/x"]);
  assert.deepEqual(await linesAt("/denied"), [403, "10 €"]);
  assert.deepEqual(await linesAt("/inside/x"), [200, "10 €"]);
  assert.equal(server.seen.at(-1)?.url, "/caf%C3%A9/x");
});

test("regex_rewrite_substitution may add a query, and the request's own query is appended to it", async () => {
  const [server] = (await upstreams(1)) as [Upstream];
  const rig = await start(
    `prefix: /find/, to: "http://127.0.0.1:${server.port}", regex_rewrite_pattern: "^/find/(.*)$", regex_rewrite_substitution: "/search?q=\\\\1",` +
      ` policy: {allow: {and: [{http_path: {starts_with: /find/}}]}}`,
  );
  assert.equal((await rig.request({ path: "/find/f%61r?page=2" })).status, 200);
  assert.equal((await rig.request({ path: "/find/far" })).status, 200);
  assert.equal((await rig.request({ path: "/find/far?a=1&pomerium_session=s1" })).status, 200);
  assert.deepEqual(
    server.seen.map(({ url }) => url),
    ["/search?q=far&page=2", "/search?q=far", "/search?q=far&a=1"],
  );
});

test("cors_allow_preflight permits a preflight without a session, and nothing else", async () => {
  const [server] = (await upstreams(1)) as [Upstream];
  const rig = await start(
    `prefix: /open, to: "http://127.0.0.1:${server.port}", allow_any_authenticated_user: true, cors_allow_preflight: true`,
    `to: "http://127.0.0.1:${server.port}", allow_any_authenticated_user: true`,
  );
  const preflight = { origin: "https://other.example", "access-control-request-method": "PUT" };
  assert.equal((await rig.request({ path: "/open", method: "OPTIONS", headers: preflight })).status, 200);
  assert.equal(server.seen.at(-1)?.method, "OPTIONS");
  const refused = [
    await rig.request({ path: "/", method: "OPTIONS", headers: preflight }),
    await rig.request({ path: "/open", method: "OPTIONS" }),
    await rig.request({ path: "/open", method: "PUT", headers: preflight }),
  ];
  assert.deepEqual(
    refused.map(({ status }) => status),
    [401, 401, 401],
    "without a session, and not redirected to sign-in",
  );
  assert.equal(server.seen.length, 1);
});

test("weights in `to` are the upstreams' shares of the requests", async () => {
  const [a, b] = (await upstreams(2)) as [Upstream, Upstream];
  const rig = await start(`to: ["http://127.0.0.1:${a.port},3", "http://127.0.0.1:${b.port},1"], ${publicRoute}`);
  for (let i = 0; i < 8; i++) await rig.request({});
  assert.deepEqual([a.seen.length, b.seen.length], [6, 2]);
});

test("paths, hosts and headers are rewritten in requests and back in responses", async () => {
  const [server] = (await upstreams(1, (_req, res) => {
    res.writeHead(302, { location: "http://inside:8000/login?x=1", server: "secret/1.0" }).end();
  })) as [Upstream];
  const rig = await start(
    `prefix: /team, to: "http://127.0.0.1:${server.port}", ${publicRoute}, prefix_rewrite: /,` +
      `host_path_regex_rewrite_pattern: "^/team/([a-z]+)/.*$", host_path_regex_rewrite_substitution: "\\\\1.inside",` +
      `set_request_headers: {X-Set: "from \${pomerium.request.headers[\\"X-Mine\\"]}"}, remove_request_headers: [X-Gone],` +
      `set_response_headers: {X-Answer: "yes"},` +
      `rewrite_response_headers: [{header: Location, prefix: "http://inside:8000/", value: "http://app.localhost/team/"}]`,
  );
  const answer = await rig.request({ path: "/team/wiki/page?q=1", headers: { "x-mine": "me", "x-gone": "1" } });
  assert.equal(answer.headers.location, "http://app.localhost/team/login?x=1");
  assert.equal(answer.headers["x-answer"], "yes");
  const seen = server.seen[0];
  assert.equal(seen?.url, "/wiki/page?q=1");
  const sent = (name: string) => valuesOf(seen?.rawHeaders ?? [], name);
  assert.deepEqual([sent("host"), sent("x-set"), sent("x-gone")], [["wiki.inside"], ["from me"], []]);
});

test("a wildcard in `from` matches any name below it; an exact host takes precedence", async () => {
  const [server] = (await upstreams(1)) as [Upstream];
  const routes = parsed(
    `${base}routes:\n  - {from: "http://*.apps.localhost", to: "http://127.0.0.1:${server.port}", ${publicRoute}}\n` +
      `  - {from: "http://one.apps.localhost", response: {body: exact}, ${publicRoute}}\n`,
  ).routes;
  const rig = await startRig(routes);
  cleanUps.push(() => rig.close());
  assert.equal((await rig.request({ host: "a.b.apps.localhost" })).status, 200);
  assert.equal((await rig.request({ host: "one.apps.localhost" })).body, "exact");
  assert.equal((await rig.request({ host: "apps.localhost" })).status, 404);
});

test("the proxy closes an idle connection before the upstream would close it", async () => {
  const sockets = new Map<number, Socket>();
  const ended = new Set<number>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const seconds = Number(/^GET \/(\d+) /.exec(bytes.toString("latin1"))?.[1]);
      sockets.set(seconds, socket);
      socket.on("end", () => ended.add(seconds));
      socket.write(`HTTP/1.1 200 OK\r\nKeep-Alive: timeout=${seconds}\r\nContent-Length: 2\r\n\r\nok`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    for (const socket of sockets.values()) socket.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const rig = await start(`to: "http://127.0.0.1:${port}", ${publicRoute}`);
  await Promise.all([rig.request({ path: "/2" }), rig.request({ path: "/30" })]);
  await waitFor("the proxy to close the short-lived connection", () => ended.has(2));
  assert.deepEqual([...ended], [2]);
});

test("nginx behind the proxy: health checks, balancing and connection reuse", {
  skip: findNginx() === undefined,
}, async () => {
  const servers = [await startNginx(), await startNginx()];
  cleanUps.push(() => Promise.all(servers.map((server) => server.stop())));
  const to = servers.map(({ port }) => `"http://127.0.0.1:${port}"`).join(", ");
  const rig = await start(
    `id: r, to: [${to}], ${publicRoute}, health_checks: [{timeout: 2s, interval: 50ms, no_traffic_interval: 50ms,` +
      "unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /health, expected_statuses: [{start: 200, end: 400}]}}]",
  );
  const own = (at: number) => servers[at]?.requests().filter(({ uri }) => uri === "/page").length ?? 0;
  for (let i = 0; i < 4; i++) assert.equal((await rig.request({ path: "/page" })).status, 200);
  await waitFor("each server to have two checks", () => own(0) === 2 && own(1) === 2);
  assert.ok(servers[0]?.requests().some(({ uri }) => uri === "/health"));
  await servers[0]?.stop();
  await waitFor("the stopped server to leave the rotation", async () => {
    const values = (await rig.registry.getSingleMetric("cardea_proxy_upstream_healthy")?.get())?.values ?? [];
    return values.some(({ value }) => value === 0);
  });
  for (let i = 0; i < 4; i++)
    assert.equal((await rig.request({ method: "POST", path: "/page", body: "x" })).status, 200);
});
