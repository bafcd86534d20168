/** The demo identity provider as a real process, called as Cardea calls it (openid-client). */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as openid from "openid-client";
import { createLocalFetch } from "../../src/auth/index.ts";
import { type DemoProvider, type DemoProviderOptions, startDemoProvider } from "../../src/dev/index.ts";
import { freePort } from "../support/free-port.ts";
import { createWalker, type Stop, type Walker } from "./walker.ts";

const callback = "http://authenticate.localhost:8080/oauth2/callback";
const afterSignOut = "http://authenticate.localhost:8080/.pomerium/signed_out";
const scope = "openid profile email offline_access";

type World = Readonly<{
  options: DemoProviderOptions;
  provider: DemoProvider;
  client: openid.Configuration;
  walker: Walker;
}>;

async function options(more: Partial<DemoProviderOptions> = {}): Promise<DemoProviderOptions> {
  const port = await freePort();
  return {
    issuer: new URL(`http://idp.localhost:${port}`),
    listen: { host: "127.0.0.1", port },
    clientId: "cardea",
    clientSecret: "a secret of the test",
    redirectUris: [callback],
    postLogoutRedirectUris: [afterSignOut],
    onError: (error) => assert.fail(error as Error),
    ...more,
  };
}

async function discover(t: TestContext, issuer: URL): Promise<openid.Configuration> {
  const local = createLocalFetch({ timeoutMs: 5_000 });
  t.after(() => local.close());
  return openid.discovery(issuer, "cardea", "a secret of the test", undefined, {
    [openid.customFetch]: local.fetch as unknown as openid.CustomFetch,
    execute: [openid.allowInsecureRequests],
  });
}

async function start(t: TestContext, more: Partial<DemoProviderOptions> = {}): Promise<World> {
  const opts = await options(more);
  const provider = await startDemoProvider(opts);
  t.after(() => provider.close());
  const walker = createWalker();
  t.after(() => walker.close());
  return { options: opts, provider, client: await discover(t, opts.issuer), walker };
}

type Attempt = Readonly<{ page: Stop; verifier: string; state: string; nonce: string }>;
async function begin(world: World, more: Record<string, string> = {}): Promise<Attempt> {
  const verifier = openid.randomPKCECodeVerifier();
  const state = openid.randomState();
  const nonce = openid.randomNonce();
  const url = openid.buildAuthorizationUrl(world.client, {
    redirect_uri: callback,
    scope,
    state,
    nonce,
    code_challenge: await openid.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...more,
  });
  return { page: await world.walker.go(url, { until: callback }), verifier, state, nonce };
}

async function finish(world: World, attempt: Attempt, form: Record<string, string>) {
  const end = await world.walker.go(attempt.page.url, { form, until: callback });
  return openid.authorizationCodeGrant(world.client, end.url, {
    expectedState: attempt.state,
    expectedNonce: attempt.nonce,
    pkceCodeVerifier: attempt.verifier,
    idTokenExpected: true,
  });
}

const signIn = async (world: World, user: string) =>
  finish(world, await begin(world), { user, password: "whatever it may be" });

test("alice signs in with any password: code, PKCE, ID token, userinfo, refresh and sign-out work", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  assert.equal(attempt.page.status, 200);
  assert.match(attempt.page.body, /data-page="demo-sign-in"/);
  const tokens = await finish(world, attempt, { user: "alice", password: "x" });

  const claims = tokens.claims();
  assert.equal(claims?.sub, "alice");
  assert.equal(claims?.["email"], "alice@example.com");
  assert.equal(claims?.["email_verified"], true);
  assert.equal(claims?.["name"], "Alice Archer");
  assert.deepEqual(claims?.["groups"], ["eng", "admins"]);

  const info = await openid.fetchUserInfo(world.client, tokens.access_token, "alice");
  assert.deepEqual(info["groups"], ["eng", "admins"]);
  assert.equal(info.email, "alice@example.com");

  const refreshed = await openid.refreshTokenGrant(world.client, tokens.refresh_token ?? "");
  assert.equal(refreshed.claims()?.sub, "alice");

  const url = openid.buildEndSessionUrl(world.client, {
    id_token_hint: refreshed.id_token ?? "",
    post_logout_redirect_uri: afterSignOut,
    state: "s1",
  });
  const end = await world.walker.go(url, { until: afterSignOut });
  assert.equal(end.url.href, `${afterSignOut}?state=s1`);
  assert.equal(end.status, 303);
  await assert.rejects(openid.refreshTokenGrant(world.client, refreshed.refresh_token ?? ""), {
    error: "invalid_grant",
  });
});

test("bob is in sales, carol in sales and eng", async (t) => {
  const world = await start(t);
  assert.deepEqual((await signIn(world, "bob")).claims()?.["groups"], ["sales"]);
  assert.deepEqual((await signIn(world, "carol")).claims()?.["groups"], ["sales", "eng"]);
});

test("the sign-in page appears again for a signed-in person, and another person may sign in instead", async (t) => {
  const world = await start(t);
  await signIn(world, "bob");
  const again = await begin(world);
  assert.match(again.page.body, /signed in here now/);
  assert.equal((await finish(world, again, { user: "alice" })).claims()?.sub, "alice");
  assert.equal((await signIn(world, "alice")).claims()?.sub, "alice");
});

test("prompt=none answers from the session and shows no page", async (t) => {
  const world = await start(t);
  assert.equal((await begin(world, { prompt: "none" })).page.url.searchParams.get("error"), "login_required");
  await signIn(world, "bob");
  assert.notEqual((await begin(world, { prompt: "none" })).page.url.searchParams.get("code"), null);
});

test("ending one session keeps the refresh token of the person's other session", async (t) => {
  const world = await start(t);
  const first = await signIn(world, "alice");
  const second = await signIn(world, "alice");
  await openid.tokenRevocation(world.client, first.refresh_token ?? "");
  await assert.rejects(openid.refreshTokenGrant(world.client, first.refresh_token ?? ""), { error: "invalid_grant" });
  assert.equal((await openid.refreshTokenGrant(world.client, second.refresh_token ?? "")).claims()?.sub, "alice");
});

test("an unknown name gets an error and may try again; the input is shown as text", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  const page = await world.walker.go(attempt.page.url, { form: { user: "<b>mallory" } });
  assert.equal(page.status, 422);
  assert.match(page.body, /role="alert"/);
  assert.ok(page.body.includes("&lt;b&gt;mallory") && !page.body.includes("<b>mallory"));
  assert.equal((await finish(world, attempt, { user: " Alice " })).claims()?.sub, "alice");
});

test("cancelling returns to the application with access_denied", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  const end = await world.walker.go(attempt.page.url, { form: { cancel: "yes" }, until: callback });
  assert.equal(end.url.searchParams.get("error"), "access_denied");
  assert.equal(end.url.searchParams.get("state"), attempt.state);
});

test("a sign-in that another browser began cannot be completed", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  const stranger = createWalker();
  t.after(() => stranger.close());
  assert.equal((await stranger.go(attempt.page.url)).status, 400);
  assert.equal((await stranger.go(attempt.page.url, { form: { user: "alice" } })).status, 400);
});

test("a form that is too long is refused", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  const end = await world.walker.go(attempt.page.url, { form: { user: "a".repeat(9_000) } });
  assert.equal(end.status, 413);
});

test("a code without its PKCE verifier is refused, and a request without PKCE gets no code", async (t) => {
  const world = await start(t);
  const attempt = await begin(world);
  await assert.rejects(finish(world, { ...attempt, verifier: openid.randomPKCECodeVerifier() }, { user: "alice" }), {
    error: "invalid_grant",
  });
  const url = openid.buildAuthorizationUrl(world.client, { redirect_uri: callback, scope, state: "s" });
  const bare = await world.walker.go(url, { until: callback });
  assert.equal(bare.url.searchParams.get("error"), "invalid_request");
});

test("an unregistered redirect is refused on the provider's own page and not followed", async (t) => {
  const world = await start(t);
  const { page } = await begin(world, { redirect_uri: "http://evil.localhost:8080/" });
  assert.equal(page.status, 400);
  assert.match(page.body, /data-page="demo-note"/);
  const bye = await world.walker.go(
    openid.buildEndSessionUrl(world.client, { post_logout_redirect_uri: "http://evil.localhost:8080/" }),
  );
  assert.equal(bye.status, 400);
});

test("sign-out without an ID token asks for confirmation on one page, without a script", async (t) => {
  const world = await start(t);
  await signIn(world, "alice");
  const url = openid.buildEndSessionUrl(world.client, { post_logout_redirect_uri: afterSignOut });
  const page = await world.walker.go(url);
  assert.match(page.body, /data-page="demo-sign-out"/);
  assert.ok(!page.body.includes("<script"));
  const action = /action="([^"]+)"/.exec(page.body)?.[1] ?? "";
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.body)?.[1] ?? "";
  const end = await world.walker.go(action, { form: { xsrf, logout: "yes" }, until: afterSignOut });
  assert.equal(end.url.href, afterSignOut);
  assert.equal((await begin(world, { prompt: "none" })).page.url.searchParams.get("error"), "login_required");
});

test("another person's ID token signs no one out without confirmation", async (t) => {
  const world = await start(t);
  const bob = await signIn(world, "bob");
  await signIn(world, "alice");
  const url = openid.buildEndSessionUrl(world.client, { id_token_hint: bob.id_token ?? "" });
  assert.match((await world.walker.go(url)).body, /data-page="demo-sign-out"/);
});

test("sign-out without a session continues at once", async (t) => {
  const world = await start(t);
  const url = openid.buildEndSessionUrl(world.client, { post_logout_redirect_uri: afterSignOut });
  assert.equal((await world.walker.go(url, { until: afterSignOut })).url.href, afterSignOut);
  const bare = await world.walker.go(openid.buildEndSessionUrl(world.client, {}));
  assert.match(bare.body, /You&#39;re signed out/);
});

test("changed groups show at the next refresh, through the control listener too", async (t) => {
  const world = await start(t, { control: { host: "127.0.0.1", port: 0 } });
  const tokens = await signIn(world, "alice");
  world.provider.setGroups("alice", ["sales"]);
  const refreshed = await openid.refreshTokenGrant(world.client, tokens.refresh_token ?? "");
  assert.deepEqual(refreshed.claims()?.["groups"], ["sales"]);

  const control = world.provider.controlUrl ?? assert.fail("no control listener");
  const put = (user: string, body: string, headers: Record<string, string> = {}) =>
    fetch(new URL(`/demo/users/${user}/groups`, control), { method: "PUT", body, headers });
  assert.equal((await put("alice", '["eng"]')).status, 200);
  assert.equal((await put("alice", '{"a":1}')).status, 400);
  assert.equal((await put("alice", '["\\u0000"]')).status, 400);
  assert.equal((await put("alice", "no json")).status, 400);
  assert.equal((await put("mallory", '["eng"]')).status, 404);
  assert.equal((await put("alice", '["eng"]', { origin: "http://evil.example" })).status, 403);
  assert.equal(await statusWithHost(control, "evil.example"), 403);
  const users = (await (await fetch(new URL("/demo/users", control))).json()) as { user: string; groups: string[] }[];
  assert.deepEqual(users.find((user) => user.user === "alice")?.groups, ["eng"]);
  const again = await openid.refreshTokenGrant(world.client, refreshed.refresh_token ?? "");
  assert.deepEqual(again.claims()?.["groups"], ["eng"]);
  assert.throws(() => world.provider.setGroups("mallory", []), { code: "ERR_DEV_UNKNOWN_USER" });
});

test("there is no control listener unless configured, and never beyond loopback", async (t) => {
  const world = await start(t);
  assert.equal(world.provider.controlUrl, null);
  const answer = await fetch(new URL("/demo/users/alice/groups", world.provider.url), { method: "PUT", body: "[]" });
  assert.equal(answer.status, 404);
  await assert.rejects(startDemoProvider(await options({ control: { host: "0.0.0.0", port: 0 } })), TypeError);
});

test("a restart keeps refresh tokens, keys and sessions; its files are private", async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), "cardea-demo-"));
  t.after(() => rm(dataDir, { recursive: true }));
  const opts = await options({ dataDir });
  const before = await startDemoProvider(opts);
  const walker = createWalker();
  t.after(() => walker.close());
  const client = await discover(t, opts.issuer);
  const tokens = await signIn({ options: opts, provider: before, client, walker }, "alice");
  await before.close();

  const after = await startDemoProvider(opts);
  t.after(() => after.close());
  const refreshed = await openid.refreshTokenGrant(client, tokens.refresh_token ?? "");
  assert.equal(refreshed.claims()?.sub, "alice");
  const url = openid.buildEndSessionUrl(client, {
    id_token_hint: tokens.id_token ?? "",
    post_logout_redirect_uri: afterSignOut,
  });
  assert.equal((await walker.go(url, { until: afterSignOut })).url.href, afterSignOut);
  for (const file of await readdir(dataDir)) {
    assert.equal((await stat(join(dataDir, file))).mode & 0o077, 0, `${file} is readable by others`);
  }
});

test("an invalid key file is named, without its content", async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), "cardea-demo-"));
  t.after(() => rm(dataDir, { recursive: true }));
  await writeFile(join(dataDir, "demo-provider-keys.json"), '{"secret": "hush"}');
  await assert.rejects(startDemoProvider(await options({ dataDir })), (error: Error & { code?: string }) => {
    assert.equal(error.code, "ERR_DEV_KEYS_UNREADABLE");
    assert.ok(error.message.includes("demo-provider-keys.json") && !error.message.includes("hush"));
    return true;
  });
});

test("its URLs are the issuer's, whatever the Host or forwarded header", async (t) => {
  const opts = await options({ issuer: new URL("http://idp.localhost:8080") });
  const provider = await startDemoProvider(opts);
  t.after(() => provider.close());
  const answer = await fetch(new URL("/.well-known/openid-configuration", provider.url), {
    headers: { "x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9" },
  });
  const metadata = (await answer.json()) as Record<string, unknown>;
  for (const [name, value] of Object.entries(metadata)) {
    if (name.endsWith("_endpoint") || name === "jwks_uri") {
      assert.ok(String(value).startsWith("http://idp.localhost:8080/"), `${name}: ${value}`);
    }
  }
  assert.equal(metadata["issuer"], "http://idp.localhost:8080");
});

test("its pages run no scripts and load nothing from elsewhere", async (t) => {
  const world = await start(t);
  const { page } = await begin(world);
  assert.match(page.headers.get("content-security-policy") ?? "", /^default-src 'none'/);
  assert.ok(!/<script|https?:\/\/(?!idp\.localhost)/.test(page.body));
});

/** `fetch` cannot send a chosen Host. */
function statusWithHost(url: URL, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    httpRequest(new URL("/demo/users", url), { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on("error", reject)
      .end();
  });
}
