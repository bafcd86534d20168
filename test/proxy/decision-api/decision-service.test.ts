/**
 * Decisions for other proxies: the responses to forward-auth, to Envoy's HTTP form and to Traefik, by their contracts.
 * recipes.test.ts runs real nginx and real Caddy with the recipes of docs/decisions.md.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { Registry } from "prom-client";
import { signInChallenge } from "../../../src/auth/index.ts";
import { type DecisionServer, startDecisionServer } from "../../../src/proxy/index.ts";
import { sessionId } from "../../events/support.ts";
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
  sendRequest,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "../support.ts";

const key = "a-key-of-at-least-32-characters-0123456789";
const forwarded = (path: string, parts: Readonly<Record<string, string>> = {}) => ({
  "x-forwarded-method": "GET",
  "x-forwarded-proto": "http",
  "x-forwarded-host": "app.localhost",
  "x-forwarded-uri": path,
  "x-forwarded-for": "203.0.113.9",
  ...parts,
});

let rig: Rig;
let upstream: Upstream;
let server: DecisionServer;
let strangers: DecisionServer;

before(async () => {
  upstream = await startUpstream();
  rig = await startRig([
    routeTo(upstream.port, { ...publicAccess, match: { kind: "prefix", value: "/public" }, passIdentityHeaders: true }),
    routeTo(upstream.port, { ...engOnly, match: { kind: "prefix", value: "/eng" }, staleGraceMs: 0 }),
    routeTo(upstream.port, {
      allowAnyAuthenticatedUser: false,
      match: { kind: "prefix", value: "/near" },
      policy: {
        ppl: { allow: { and: [{ source_ip: "203.0.113.0/24" }] } },
        location: { file: "cardea.yaml", line: 1, column: 1 },
      },
    }),
    routeTo(upstream.port, { passIdentityHeaders: true }),
    routeTo(upstream.port, { host: "other.localhost", id: "other", allowAnyAuthenticatedUser: false }),
  ]);
  await rig.apply(signedIn(1), signedIn(2), signedIn(3), groupChanged({ added: [1] }));
  const start = (trustedProxies: readonly string[]) =>
    startDecisionServer({
      listen: decisionApiConfig({ address: { host: "127.0.0.1", port: 0 }, trustedProxies, keys: { wiki: key } }),
      deps: () => rig.deps,
      registry: new Registry(),
      requestId: randomUUID,
    });
  server = await start(["127.0.0.1", "10.9.0.0/16"]);
  strangers = await start([]);
});
after(async () => {
  await Promise.all([server.close(), strangers.close()]);
  await rig.close();
  await upstream.close();
});

const send = (options: RequestOptions): Promise<ReceivedResponse> => sendRequest(server.address?.port ?? 0, options);
const forwardAuth = (path: string, options: RequestOptions = {}, parts: Readonly<Record<string, string>> = {}) =>
  send({ path: "/forward-auth", ...options, headers: { ...forwarded(path, parts), ...options.headers } });

test("forward-auth: 200 with the identity, 401 with the sign-in address, 403, and 503 without a fresh lease", async () => {
  const permitted = await forwardAuth("/", { session: 1, headers: { "x-request-id": "given-by-traefik" } });
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-pomerium-claim-email"], "user1@example.com");
  assert.match(String(permitted.headers["x-pomerium-jwt-assertion"]), /^ey/);
  const {
    requestId,
    result,
    ip,
    sessionId: recordedSession,
  } = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.deepEqual(
    [requestId, result, ip, recordedSession],
    ["given-by-traefik", "permit", "203.0.113.9", sessionId(1)],
  );

  const browser = { "sec-fetch-mode": "navigate", accept: "text/html" };
  const anonymous = await forwardAuth("/a?b=c", { headers: browser });
  assert.equal(anonymous.status, 401);
  assert.equal(anonymous.headers["www-authenticate"], signInChallenge);
  const signIn = `http://app.localhost/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent("http://app.localhost/a?b=c")}`;
  assert.equal(anonymous.headers["x-cardea-sign-in"], signIn);
  const sent = await forwardAuth("/a?b=c", { path: "/forward-auth?sign_in=redirect", headers: browser });
  assert.deepEqual([sent.status, sent.headers.location], [302, signIn]);
  const script = await forwardAuth("/", {
    path: "/forward-auth?sign_in=redirect",
    headers: { "sec-fetch-mode": "cors" },
  });
  assert.deepEqual([script.status, script.headers["x-cardea-sign-in"]], [401, undefined]);

  assert.equal((await forwardAuth("/eng", { session: 1 })).status, 200);
  assert.equal((await forwardAuth("/eng", { session: 2 })).status, 403);
  const { result: refused, trace } = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.equal(refused, "deny");
  assert.ok(trace, "the trace of a denial is recorded, as for a forwarded request");
  assert.equal((await forwardAuth("/robots.txt")).status, 401, "a path that the proxy handles itself is not permitted");
  rig.lease.overdueMs = 10;
  const stale = await forwardAuth("/eng", { session: 1 });
  assert.deepEqual([stale.status, stale.headers["retry-after"]], [503, "1"]);
  assert.equal((await forwardAuth("/", { session: 1 })).status, 200, "within the grace of its route");
  rig.lease.overdueMs = -1_000;
  rig.catchUp.answer = "reached";
  await rig.apply(sessionRevoked(3));
  assert.equal((await forwardAuth("/", { session: 3 })).status, 401);
});

test("a caller that is not a trusted proxy is refused, whatever it sends; a header that a trusted proxy omits has no default", async () => {
  for (const path of ["/forward-auth", "/auth-request", "/ext-authz/public"]) {
    const headers = {
      ...forwarded("/public"),
      "x-original-method": "GET",
      "x-original-url": "http://app.localhost/public",
    };
    assert.equal(
      (await sendRequest(strangers.address?.port ?? 0, { path, headers, session: 1 })).status,
      path === "/ext-authz/public" ? 400 : 403,
    );
  }
  for (const missing of Object.keys(forwarded("/"))) {
    const headers: Record<string, string> = forwarded("/public");
    delete headers[missing];
    assert.equal((await send({ path: "/forward-auth", headers, session: 1 })).status, 403, missing);
    assert.deepEqual(rig.records.at(-1)?.reasons, [missing], "the denial is recorded");
  }
  const twice = { ...forwarded("/public"), "x-forwarded-uri": ["/public", "/"] };
  assert.equal((await send({ path: "/forward-auth", headers: twice })).status, 403);
  const odd = [
    "//public",
    "/public/../eng",
    "/public/%2e%2e/eng",
    "/%70ublic",
    "/public\\x",
    "/.pomerium/user",
    "public",
    "/public#x",
  ];
  for (const path of odd) assert.equal((await forwardAuth(path, { session: 1 })).status, 403, path);
  assert.equal((await forwardAuth("/public", {}, { "x-forwarded-host": "other.localhost" })).status, 403);
  assert.equal((await forwardAuth("/public", {}, { "x-forwarded-proto": "https" })).status, 403);
  assert.equal((await forwardAuth("/public", {}, { "x-forwarded-proto": "ws" })).status, 200);
});

test("a request with the Host of another route than the one it describes is refused", async () => {
  const statusFrom = async (host: string, describedHost: string) =>
    (await forwardAuth("/public", { host }, { "x-forwarded-host": describedHost })).status;
  const servicePort = server.address?.port ?? 0;
  assert.equal(await statusFrom("app.localhost", "app.localhost"), 200);
  assert.equal(await statusFrom("app.localhost:80", "APP.localhost"), 200);
  assert.equal(
    await statusFrom("cardea.internal", "app.localhost"),
    200,
    "not a route's host, so an address of the decision service",
  );
  assert.equal(
    await statusFrom(`other.localhost:${servicePort}`, "app.localhost"),
    200,
    "the decision service's address, by its port",
  );
  assert.equal(await statusFrom("other.localhost", "app.localhost"), 403);
  assert.equal(await statusFrom("app.localhost:8443", "app.localhost:80"), 403);
  const headers = { "x-original-method": "GET", "x-forwarded-for": "203.0.113.9" };
  const url = { ...headers, "x-original-url": "http://app.localhost/public" };
  assert.equal((await send({ path: "/auth-request", host: "app.localhost", headers: url })).status, 200);
  assert.equal((await send({ path: "/auth-request", host: "other.localhost", headers: url })).status, 403);
});

test("a request with long headers is decided", async () => {
  const headers = { cookie: `${cookieOf(1)}; other=${"x".repeat(40_000)}` };
  assert.equal((await forwardAuth("/", { headers })).status, 200);
});

test("the caller is the last address that is not a trusted proxy's", async () => {
  const near = async (addresses: string) => (await forwardAuth("/near", {}, { "x-forwarded-for": addresses })).status;
  assert.equal(await near("203.0.113.7"), 200);
  assert.equal(await near("198.51.100.1, 203.0.113.7, 10.9.1.1"), 200);
  assert.equal(await near("203.0.113.7, 198.51.100.1"), 403);
  assert.equal(await near("203.0.113.7, nonsense"), 403);
});

test("Envoy's HTTP form: the request itself is checked, and only 200 permits", async () => {
  const headers = { "x-forwarded-proto": "http", "x-forwarded-for": "203.0.113.9" };
  const envoy = (path: string, options: RequestOptions = {}) =>
    send({ ...options, path: `/ext-authz${path}`, headers: { ...headers, ...options.headers } });
  const permitted = await envoy("/a?b", { session: 1, method: "DELETE" });
  assert.equal(permitted.status, 200);
  assert.equal(permitted.headers["x-pomerium-claim-email"], "user1@example.com");
  assert.equal(permitted.headers["x-envoy-auth-headers-to-remove"], "x-nick,x-pomerium-jwt-assertion-for,cookie");
  const { method, host, path } = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.deepEqual([method, host, path], ["DELETE", "app.localhost", "/a"]);
  const unnamed = await envoy("/eng", { session: 1 });
  assert.equal(
    unnamed.headers["x-envoy-auth-headers-to-remove"],
    "x-pomerium-jwt-assertion,x-pomerium-claim-email,x-pomerium-claim-groups,x-nick,x-pomerium-jwt-assertion-for,cookie",
  );
  assert.equal((await envoy("/", { headers: { "sec-fetch-mode": "navigate" } })).status, 302);
  assert.equal((await envoy("/eng", { session: 2 })).status, 403);
  assert.equal((await envoy("//public")).status, 400);
});

/**
 * A stand-in for Traefik, because no Debian package and no registry has it. It follows the documentation of
 * `forwardAuth`: it sends a GET with the caller's headers, without the hop-by-hop ones, and with its own
 * `X-Forwarded-*` in place of the caller's. A 2xx permits the request, with `authResponseHeaders` in place of the
 * caller's; any other response goes to the caller unchanged.
 */
async function throughTraefik(
  path: string,
  { session, headers = {}, method = "GET" }: RequestOptions = {},
): Promise<Readonly<{ answer: ReceivedResponse; upstream: Readonly<Record<string, unknown>> | null }>> {
  const ofConnection = new Set(["connection", "upgrade", "te", "keep-alive", "transfer-encoding"]);
  const sent: Record<string, string | string[]> = {
    ...(session === undefined ? {} : { cookie: cookieOf(session) }),
    ...headers,
  };
  const forwardable = Object.fromEntries(Object.entries(sent).filter(([name]) => !ofConnection.has(name)));
  const own = { ...forwarded(path, { "x-forwarded-method": method }), "x-forwarded-port": "80" };
  const answer = await send({ path: "/forward-auth?sign_in=redirect", headers: { ...forwardable, ...own } });
  if (answer.status < 200 || answer.status > 299) return { answer, upstream: null };
  const passed: Record<string, unknown> = { ...sent };
  for (const name of claims.map((claim) => claim.toLowerCase())) {
    delete passed[name];
    if (answer.headers[name] !== undefined) passed[name] = answer.headers[name];
  }
  return { answer, upstream: passed };
}

test("Traefik: it forwards what policy permits, and returns any other response to the caller", async () => {
  const spoofed = {
    "x-pomerium-claim-email": "mallory@example.com",
    "x-nick": "mallory",
    "x-forwarded-uri": "/public",
  };
  const permitted = await throughTraefik("/a?b=c", { session: 1, headers: spoofed, method: "DELETE" });
  assert.equal(permitted.upstream?.["x-pomerium-claim-email"], "user1@example.com");
  assert.equal(
    permitted.upstream?.["x-nick"],
    "",
    "an omitted claim is sent empty, so that the caller's value cannot remain",
  );
  const { method, path } = rig.records.at(-1) ?? assert.fail("there is no decision record");
  assert.deepEqual([method, path], ["DELETE", "/a"]);
  const withoutIdentity = await throughTraefik("/eng", { session: 1, headers: spoofed });
  assert.equal(withoutIdentity.upstream?.["x-pomerium-claim-email"], "");

  const socket = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==" };
  const upgrade = await throughTraefik("/", { headers: socket });
  assert.deepEqual(
    [upgrade.answer.status, upgrade.answer.headers.location],
    [401, undefined],
    "a WebSocket is not redirected",
  );
  assert.notEqual((await throughTraefik("/", { session: 1, headers: socket })).upstream, null);

  const visit = await throughTraefik("/a?b=c", { headers: { "sec-fetch-mode": "navigate", accept: "text/html" } });
  assert.equal(visit.answer.status, 302);
  const back = encodeURIComponent("http://app.localhost/a?b=c");
  assert.equal(visit.answer.headers.location, `http://app.localhost/.pomerium/sign_in?pomerium_redirect_uri=${back}`);
  assert.equal(visit.answer.headers["cache-control"], "no-store");
  const script = await throughTraefik("/", { headers: { "sec-fetch-mode": "cors" } });
  assert.deepEqual([script.answer.status, script.answer.headers["www-authenticate"]], [401, signInChallenge]);
  const refused = await throughTraefik("/eng", { session: 2, headers: { accept: "text/html" } });
  assert.deepEqual([refused.answer.status, refused.upstream], [403, null]);
  assert.match(refused.answer.body, /^<html>/, "a page with the reason");
  rig.lease.overdueMs = 10;
  assert.equal((await throughTraefik("/eng", { session: 1 })).answer.status, 503);
  rig.lease.overdueMs = -1_000;
});

const claims = ["X-Pomerium-Jwt-Assertion", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Groups", "X-Nick"];
