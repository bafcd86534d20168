// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Routes with their own OAuth client, and the provider's tokens sent to the upstream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { echoOf, follow, shared, startInstallation } from "./installation.ts";
import { revokeSession } from "./operator.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const second = { idp_client_id: "second", idp_client_secret: "the client secret of second" };
const tokens = {
  set_request_headers: { Authorization: "Bearer ${pomerium.access_token}", "X-Id": "${pomerium.id_token}" },
};

const installation = shared((t) =>
  startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, ...everyone, ...tokens },
      { from: url("own"), to: upstream, ...everyone, ...tokens, ...second },
      { from: url("public"), to: upstream, allow_public_unauthenticated_access: true, ...tokens },
    ],
  })),
);

test("a route with its own client signs people in with that client", async () => {
  const at = installation();
  const visitor = at.visitor();
  const { hops, end } = await follow(visitor, at.url("own"));
  const signIn = hops.find(({ hostname, pathname }) => hostname === "idp.localhost" && pathname === "/auth");
  assert.equal(signIn?.searchParams.get("client_id"), "second");
  assert.equal(decodeJwt(String(echoOf(end).headers["x-id"])).aud, "second");
});

test("a session of one client is not valid on a route of another, however its handle is sent", async () => {
  const at = installation();
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app"))).end);
  echoOf((await follow(visitor, at.url("own"))).end);
  const cookieOf = (host: string): string =>
    /_pomerium=([^;]+)/.exec(visitor.cookieHeader(new URL(at.url(host))))?.[1] ?? "";
  for (const [from, to] of [
    ["app", "own"],
    ["own", "app"],
  ] as const) {
    const otherBrowser = at.visitor();
    const authorization = `Pomerium ${cookieOf(from)}`;
    const answer = await otherBrowser.request(at.url(to), { headers: { authorization } });
    assert.equal(answer.status, 401, `${from} at ${to}`);
  }
  // A sign-in with one client does not count for the other: the person is sent to the provider again.
  const other = at.visitor();
  echoOf((await follow(other, at.url("app"))).end);
  const { hops } = await follow(other, at.url("own"));
  assert.ok(hops.some(({ hostname }) => hostname === "idp.localhost"));
});

test("on one host the cookie of one client is refused on a route of another, and is replaced at sign-in", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, prefix: "/own", ...everyone, ...second },
      { from: url("app"), to: upstream, ...everyone },
    ],
  }));
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app", "/plain"))).end);
  echoOf(await visitor.request(at.url("app", "/plain")));
  const refused = await visitor.request(at.url("app", "/own"));
  assert.equal(refused.status, 302);
  echoOf((await follow(visitor, at.url("app", "/own"))).end);
  assert.equal((await visitor.request(at.url("app", "/plain"))).status, 302);
});

test("a terminal signs in with the route's client, and its handle is refused on other routes", async () => {
  const at = installation();
  const to = encodeURIComponent("http://localhost:1/done");
  const login = await at.visitor().request(at.url("own", `/.pomerium/api/v1/login?pomerium_redirect_uri=${to}`));
  assert.equal(login.status, 200);
  const done = await at.visitor().navigate(login.body, { until: "http://localhost:1/" });
  const handle = done.location?.searchParams.get("pomerium_jwt") ?? "";
  const headers = { authorization: `Bearer Pomerium-${handle}` };
  assert.equal(
    decodeJwt(String(echoOf(await at.visitor().request(at.url("own"), { headers })).headers["x-id"])).aud,
    "second",
  );
  assert.equal((await at.visitor().request(at.url("app"), { headers })).status, 401);
});

test("signing out of a route with its own client ends the session at that client", async () => {
  const at = installation();
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("own"))).end);
  const { hops } = await follow(visitor, at.url("own", "/.pomerium/sign_out"));
  const endSession = hops.find(
    ({ hostname, pathname }) => hostname === "idp.localhost" && pathname.startsWith("/session/end"),
  );
  assert.equal(endSession?.searchParams.get("client_id"), "second");
  assert.equal((await visitor.request(at.url("own"))).status, 302);
});

test("the provider's tokens reach the upstream of routes that forward them, and callers cannot replace them", async () => {
  const at = installation();
  const visitor = at.visitor();
  const { headers } = echoOf((await follow(visitor, at.url("app"))).end);
  assert.match(String(headers.authorization), /^Bearer .{20,}/);
  assert.equal(decodeJwt(String(headers["x-id"])).sub, "alice");
  const forged = await visitor.request(at.url("app"), { headers: { authorization: "Bearer mine", "x-id": "mine" } });
  assert.deepEqual(
    [echoOf(forged).headers.authorization, echoOf(forged).headers["x-id"]],
    [headers.authorization, headers["x-id"]],
  );
  const anonymous = echoOf(await at.visitor().request(at.url("public"), { headers: { "x-id": "mine" } })).headers;
  assert.deepEqual([anonymous.authorization?.trim(), anonymous["x-id"]], ["Bearer", ""]);
});

test("after a session is revoked, its cookie no longer forwards the provider's tokens", async () => {
  const at = installation();
  const visitor = at.visitor();
  const { headers } = echoOf((await follow(visitor, at.url("app"))).end);
  const sid = String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]);
  await revokeSession(at, sid);
  const cookie = visitor.cookieHeader(new URL(at.url("app")));
  assert.equal((await at.visitor().request(at.url("app"), { headers: { cookie } })).status, 302);
});
