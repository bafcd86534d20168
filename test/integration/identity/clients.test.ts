// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Routes with a sign-in of their own, hosts that depend on each other, the provider's tokens upstream, and one trace for a sign-in. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { decodeJwt } from "jose";
import type { Answer, Visitor } from "../../support/visitor.ts";
import { echoOf, type Installation, startInstallation } from "./installation.ts";
import { revokeSession } from "./operator.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const second = { idp_client_id: "second", idp_client_secret: "the secret of second and nobody else" };
const tokens = {
  set_request_headers: { Authorization: "Bearer ${pomerium.access_token}", "X-Id": "${pomerium.id_token}" },
};

/** Every redirect on the way, and where it ends. */
async function follow(visitor: Visitor, target: string): Promise<Readonly<{ hops: readonly URL[]; end: Answer }>> {
  const hops = [new URL(target)];
  for (let next: URL | null = new URL(target); ; ) {
    const answer: Answer = await visitor.ask(next);
    next = answer.location;
    if (next === null) return { hops, end: answer };
    hops.push(next);
    assert.ok(hops.length < 30, hops.map(({ host, pathname }) => host + pathname).join("\n"));
  }
}

const start = (t: TestContext): Promise<Installation> =>
  startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, ...everyone, ...tokens },
      { from: url("own"), to: upstream, ...everyone, ...tokens, ...second },
      {
        from: url("front"),
        to: upstream,
        ...everyone,
        depends_on: [url("api"), `own.localhost:${new URL(url("x")).port}`],
      },
      { from: url("api"), to: upstream, ...everyone },
      { from: url("public"), to: upstream, allow_public_unauthenticated_access: true, ...tokens },
    ],
  }));

test("a route with a client of its own signs people in with that client", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { hops, end } = await follow(visitor, at.url("own"));
  const asked = hops.find(({ hostname, pathname }) => hostname === "idp.localhost" && pathname === "/auth");
  assert.equal(asked?.searchParams.get("client_id"), "second");
  assert.equal(decodeJwt(String(echoOf(end).headers["x-id"])).aud, "second");
});

test("a session of one client is nobody's on a route of another, whichever way its cookie is brought", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app"))).end);
  echoOf((await follow(visitor, at.url("own"))).end);
  const cookieOf = (host: string): string =>
    /_pomerium=([^;]+)/.exec(visitor.cookieHeader(new URL(at.url(host))))?.[1] ?? "";
  for (const [from, to] of [
    ["app", "own"],
    ["own", "app"],
  ] as const) {
    const stranger = at.visitor();
    const authorization = `Pomerium ${cookieOf(from)}`;
    const answer = await stranger.ask(at.url(to), { headers: { authorization } });
    assert.equal(answer.status, 401, `${from} at ${to}`);
  }
  // Signed in with one, the person is led to the provider for the other: what authenticate holds does not do.
  const other = at.visitor();
  echoOf((await follow(other, at.url("app"))).end);
  const { hops } = await follow(other, at.url("own"));
  assert.ok(hops.some(({ hostname }) => hostname === "idp.localhost"));
});

test("on one host the cookie of one client opens no route of another, and the other's takes its place", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, prefix: "/own", ...everyone, ...second },
      { from: url("app"), to: upstream, ...everyone },
    ],
  }));
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app", "/plain"))).end);
  echoOf(await visitor.ask(at.url("app", "/plain")));
  const refused = await visitor.ask(at.url("app", "/own"));
  assert.equal(refused.status, 302);
  echoOf((await follow(visitor, at.url("app", "/own"))).end);
  assert.equal((await visitor.ask(at.url("app", "/plain"))).status, 302);
});

test("signing out of a route with a client of its own ends the session at that client", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("own"))).end);
  const { hops } = await follow(visitor, at.url("own", "/.pomerium/sign_out"));
  const left = hops.find(
    ({ hostname, pathname }) => hostname === "idp.localhost" && pathname.startsWith("/session/end"),
  );
  assert.equal(left?.searchParams.get("client_id"), "second");
  assert.equal((await visitor.ask(at.url("own"))).status, 302);
});

test("whoever signs in to a route is led through the hosts that it depends on, and is known there", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { hops, end } = await follow(visitor, at.url("front", "/page?a=1"));
  assert.equal(echoOf(end).url, "/page?a=1");
  const callbacks = hops.filter(({ pathname }) => pathname === "/.pomerium/callback/").map(({ hostname }) => hostname);
  assert.deepEqual(callbacks, ["front.localhost", "api.localhost", "own.localhost"]);
  for (const host of ["front", "api", "own"]) echoOf(await visitor.ask(at.url(host)));
  // Each host has a handle of its own: what one lets slip opens no other.
  const cookie = visitor.cookieHeader(new URL(at.url("front")));
  assert.equal((await at.visitor().ask(at.url("api"), { headers: { cookie } })).status, 302);
  // Another host, that nobody depends on, knows nobody yet.
  assert.equal((await visitor.ask(at.url("app"))).status, 302);
});

test("nobody is led through hosts by a link that this installation has not signed, nor to a host of no route", async (t) => {
  const at = await start(t);
  const to = encodeURIComponent(at.url("front"));
  const hosts = encodeURIComponent(new URL(at.url("api")).host);
  const link = at.url("api", `/.pomerium/sign_in?pomerium_redirect_uri=${to}&pomerium_additional_hosts=${hosts}`);
  assert.equal((await at.visitor().ask(link)).status, 400);

  const visitor = at.visitor();
  const { hops } = await follow(visitor, at.url("front"));
  const through = hops.find(
    ({ hostname, pathname }) => hostname === "api.localhost" && pathname === "/.pomerium/sign_in",
  );
  assert.ok(through !== undefined);
  const elsewhere = new URL(through);
  elsewhere.searchParams.set("pomerium_redirect_uri", "https://evil.example.com/");
  assert.equal((await visitor.ask(elsewhere)).status, 400);
  // A callback that was made for one browser signs in no other.
  const callback = hops.find(
    ({ hostname, pathname }) => hostname === "api.localhost" && pathname === "/.pomerium/callback/",
  );
  assert.ok(callback !== undefined);
  const other = at.visitor();
  assert.equal((await other.ask(callback)).status, 400);
  assert.equal((await other.ask(at.url("api"))).status, 302);
});

test("the provider's tokens reach the upstream of routes that forward them, and nobody can bring their own", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { headers } = echoOf((await follow(visitor, at.url("app"))).end);
  assert.match(String(headers.authorization), /^Bearer .{20,}/);
  assert.equal(decodeJwt(String(headers["x-id"])).sub, "alice");
  const forged = await visitor.ask(at.url("app"), { headers: { authorization: "Bearer mine", "x-id": "mine" } });
  assert.deepEqual(
    [echoOf(forged).headers.authorization, echoOf(forged).headers["x-id"]],
    [headers.authorization, headers["x-id"]],
  );
  const anonymous = echoOf(await at.visitor().ask(at.url("public"), { headers: { "x-id": "mine" } })).headers;
  assert.deepEqual([anonymous.authorization?.trim(), anonymous["x-id"]], ["Bearer", ""]);
});

test("a session's tokens go with the session", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const { headers } = echoOf((await follow(visitor, at.url("app"))).end);
  const sid = String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]);
  await revokeSession(at, sid);
  const cookie = visitor.cookieHeader(new URL(at.url("app")));
  assert.equal((await at.visitor().ask(at.url("app"), { headers: { cookie } })).status, 302);
});

test("a sign-in is one trace, from the first redirect to the last", async (t) => {
  const at = await start(t);
  const visitor = at.visitor();
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const first = await visitor.ask(at.url("front"), { headers: { traceparent, tracestate: "vendor=1" } });
  assert.equal(first.location?.searchParams.get("pomerium_traceparent"), traceparent);
  assert.equal(first.location?.searchParams.get("pomerium_tracestate"), "vendor=1");
  const { hops } = await follow(visitor, String(first.location));
  const atProvider = hops.find(({ hostname, pathname }) => hostname === "idp.localhost" && pathname === "/auth");
  assert.ok(atProvider?.searchParams.get("state")?.endsWith(`~${traceparent}`));
  const ours = hops.filter(({ pathname }) => /^\/\.pomerium\/(?:sign_in|callback\/)$/.test(pathname));
  assert.ok(ours.length >= 7);
  for (const { searchParams, href } of ours) assert.equal(searchParams.get("pomerium_traceparent"), traceparent, href);
  // Nothing that only looks like one is carried on.
  const odd = await at.visitor().ask(at.url("front"), { headers: { traceparent: "00-nonsense" } });
  assert.equal(odd.location?.searchParams.has("pomerium_traceparent"), false);
});
