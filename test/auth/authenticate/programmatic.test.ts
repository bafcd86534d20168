/** Programmatic sign-in: how a command-line client gets its own handle (docs/pomerium-behaviour.md §4.1). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signInChallenge, tunnelAudience } from "../../../src/auth/index.ts";
import { signIn, startWorld } from "./support.ts";

const login = (redirect: string): string =>
  `/.pomerium/api/v1/login?pomerium_redirect_uri=${encodeURIComponent(redirect)}`;
const redirect = "http://127.0.0.1:4711/done?x=1";

test("a command-line client gets a handle through a browser and presents it in each accepted header or parameter", async (t) => {
  const world = await startWorld(t);
  const cli = world.visitor();
  const loginResponse = await cli.request(world.url("app", login(redirect)));
  assert.equal(loginResponse.status, 200);
  assert.equal(loginResponse.headers["content-type"], "text/plain; charset=utf-8");
  assert.equal(loginResponse.headers["cache-control"], "no-store");
  const url = new URL(loginResponse.body);
  assert.equal(url.searchParams.get("pomerium_callback_uri"), world.url("app", "/.pomerium/callback/"));
  assert.equal(url.searchParams.get("pomerium_programmatic"), "true");

  const browser = world.visitor();
  const form = await browser.navigate(url);
  const back = await browser.navigate(form.url, {
    form: { user: "alice", password: "x" },
    until: "http://127.0.0.1:4711",
  });
  const done = back.location ?? assert.fail(back.body);
  assert.equal(done.origin + done.pathname, "http://127.0.0.1:4711/done");
  assert.equal(done.searchParams.get("x"), "1");
  const jwt = done.searchParams.get("pomerium_jwt") ?? assert.fail();
  assert.equal(back.headers["referrer-policy"], "no-referrer");
  assert.deepEqual(browser.cookieNames("app.localhost"), [], "the browser itself is not signed in on the route");

  for (const headers of [
    { authorization: `Pomerium ${jwt}` },
    { authorization: `Bearer Pomerium-${jwt}` },
    { "x-pomerium-authorization": jwt },
  ] as const) {
    const answer = await cli.request(world.url("app"), { headers });
    assert.equal(answer.body, "hello alice of admins,eng at app.localhost/");
    const me = await cli.request(world.url("app", "/.pomerium/user"), { headers });
    assert.equal(JSON.parse(me.body).sub, "alice");
  }
  const inQuery = await cli.request(world.url("app", `/?pomerium_session=${jwt}`));
  assert.equal(inQuery.status, 200);

  const elsewhere = { authorization: `Pomerium ${jwt}` };
  assert.equal((await cli.request(world.url("wiki"), { headers: elsewhere })).status, 401, "no other route accepts it");
  const user = await cli.request(world.url("wiki", "/.pomerium/user"), { headers: elsewhere });
  assert.equal(user.status, 401);
  assert.equal(user.location, null, "a credential in a header is never answered with a redirect");
});

test("a user who is already signed in in the browser sees no form again", async (t) => {
  const world = await startWorld(t);
  const browser = world.visitor();
  await signIn(world, browser, "alice");
  const loginResponse = await browser.request(world.url("app", login(redirect)));
  const back = await browser.navigate(loginResponse.body, { until: "http://127.0.0.1:4711" });
  assert.ok(back.location?.searchParams.get("pomerium_jwt"));
});

test("the handle of a revoked session is refused with 401", async (t) => {
  const world = await startWorld(t);
  const browser = world.visitor();
  await signIn(world, browser, "alice");
  const loginResponse = await browser.request(world.url("app", login(redirect)));
  const back = await browser.navigate(loginResponse.body, { until: "http://127.0.0.1:4711" });
  const headers = { authorization: `Pomerium ${back.location?.searchParams.get("pomerium_jwt")}` };
  assert.equal((await browser.request(world.url("app"), { headers: { ...headers, cookie: "" } })).status, 200);
  const [session] = [...world.replica.projection.sessions()];
  await world.submit({ type: "revokeSession", sessionId: session?.sessionId ?? assert.fail(), reason: "operator" });
  const cli = world.visitor();
  assert.equal((await cli.request(world.url("app"), { headers })).status, 401);
  assert.equal((await cli.request(world.url("app", "/.pomerium/user"), { headers })).status, 401);
});

test("a login redirect that is missing, unlisted or unencrypted is refused", async (t) => {
  const world = await startWorld(t, { settings: { programmaticRedirectHosts: ["localhost", "cli.example.com"] } });
  const visitor = world.visitor();
  const status = async (path: string, method = "GET"): Promise<number> =>
    (await visitor.request(world.url("app", path), { method })).status;
  assert.equal(await status("/.pomerium/api/v1/login"), 404);
  assert.equal(await status(login("https://cli.example.com/")), 200);
  for (const refused of [
    "https://evil.example/",
    "https://x.cli.example.com/",
    "http://cli.example.com/",
    "http://user:pass@localhost/",
    "http://localhost@evil.example/",
    "javascript:alert(1)",
    "ftp://localhost/",
    "//localhost/",
    "nonsense",
    "",
  ])
    assert.equal(await status(login(refused)), 400, refused);
  for (const method of ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
    assert.equal(await status(login(redirect), method), 405, method);
  assert.equal(await status("/.pomerium/api/v2/login"), 404);
  assert.equal(await status("/.pomerium/api"), 404);
});

test("a programmatic callback that another user started sets no cookie", async (t) => {
  const world = await startWorld(t);
  const attacker = world.visitor();
  await signIn(world, attacker, "bob");
  const loginResponse = await attacker.request(world.url("app", login(redirect)));
  const handover = (await attacker.request(loginResponse.body)).location ?? assert.fail();
  assert.equal(handover.pathname, "/.pomerium/callback/");
  const victim = world.visitor();
  const answer = await victim.request(handover);
  assert.equal(answer.status, 302);
  assert.deepEqual(answer.setCookies, []);
  assert.deepEqual(victim.cookieNames("app.localhost"), []);
});

test("a redirect that is no longer listed is refused at the callback", async (t) => {
  const hosts = ["localhost"];
  const world = await startWorld(t, { settings: { programmaticRedirectHosts: hosts } });
  const browser = world.visitor();
  await signIn(world, browser, "alice");
  const loginResponse = await browser.request(world.url("app", login(redirect)));
  hosts.pop();
  const answer = await browser.navigate(loginResponse.body);
  assert.equal(answer.status, 400);
  assert.ok(!answer.body.includes("pomerium_jwt"));
});

test("a command-line client may sign in at the authenticate host, and its handle is valid only there and for tunnels", async (t) => {
  const world = await startWorld(t);
  const browser = world.visitor();
  await signIn(world, browser, "alice");
  const loginResponse = await browser.request(world.url("authenticate", login(redirect)));
  assert.equal(loginResponse.status, 200, loginResponse.body);
  const back = await browser.navigate(loginResponse.body, { until: "http://127.0.0.1:4711" });
  const jwt = back.location?.searchParams.get("pomerium_jwt") ?? assert.fail(back.body);
  const handle = await world.deps.handles.verify(jwt);
  assert.ok(handle !== "invalid");
  assert.deepEqual(handle.audience, ["authenticate.localhost", tunnelAudience]);
  const headers = { authorization: `Pomerium ${jwt}` };
  const cli = world.visitor();
  const user = await cli.request(world.url("authenticate", "/.pomerium/user"), { headers });
  assert.equal(JSON.parse(user.body).sub, "alice");
  const stranger = await cli.request(world.url("authenticate", "/.pomerium/user"));
  assert.deepEqual([stranger.status, stranger.headers["www-authenticate"]], [401, signInChallenge]);
  assert.equal((await cli.request(world.url("app"), { headers })).status, 401, "no HTTP route accepts it");
  const seized = new URL(world.url("authenticate", "/.pomerium/callback/"));
  assert.equal((await browser.request(seized)).status, 400, "an unsigned callback");
});

test("only a handle that was sent to the user's own machine is valid for tunnels, not a cookie and not that of a listed site", async (t) => {
  const world = await startWorld(t, { settings: { programmaticRedirectHosts: ["localhost", "cli.example.com"] } });
  const browser = world.visitor();
  await signIn(world, browser, "alice");
  const audienceOf = async (token: string): Promise<readonly string[]> => {
    const handle = await world.deps.handles.verify(token);
    return handle === "invalid" ? assert.fail() : handle.audience;
  };
  const cookie = /_pomerium=([^;]+)/.exec(browser.cookieHeader(new URL(world.url("app"))))?.[1] ?? assert.fail();
  assert.deepEqual(await audienceOf(cookie), ["app.localhost"]);
  for (const [to, audience] of [
    ["https://cli.example.com", ["app.localhost"]],
    ["http://127.0.0.1:4711", ["app.localhost", tunnelAudience]],
  ] as const) {
    const loginResponse = await browser.request(world.url("app", login(to)));
    const back = await browser.navigate(loginResponse.body, { until: to });
    const jwt = back.location?.searchParams.get("pomerium_jwt") ?? assert.fail(back.body);
    assert.deepEqual(await audienceOf(jwt), audience);
  }
});
